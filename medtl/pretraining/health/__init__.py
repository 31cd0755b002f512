"""Is pretraining working? Figures that need no labels, a probe where some are given, the alarm and the picture.

The loss is never the only signal: it falls as well when a network learns what nobody wants.
"""

from medtl.pretraining.health.figures import rankme, spread

__all__ = ["rankme", "spread"]
