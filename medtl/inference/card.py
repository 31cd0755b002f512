"""The model card that every bundle carries (Mitchell 2019, arXiv 1810.03993)."""

from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from medtl import __version__
from medtl.evaluation.conformal import LEAST, coverage_range

if TYPE_CHECKING:
    from medtl.inference.bundle import Bundle


def render_card(bundle: "Bundle") -> str:
    """The card as Markdown."""
    environment = Environment(
        loader=PackageLoader("medtl.inference"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=False,
    )  # fmt: skip
    return environment.get_template("card.md").render(
        bundle=bundle,
        version=__version__,
        least=LEAST,
        coverage=lambda n: tuple(100 * share for share in coverage_range(n)),
    )
