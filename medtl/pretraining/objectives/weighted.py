"""One objective, or several that teach one encoder at once."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn

from medtl.config import build, closest
from medtl.encoders.table import Encoder
from medtl.errors import ConfigError
from medtl.pretraining.batch import Views
from medtl.pretraining.methods import methods_of
from medtl.pretraining.objectives import Objective


class Weighted(nn.Module):
    """The weighted sum of objectives that share an encoder, in the form that the training loop takes.

    Args:
        objectives: by name; each is a module with the same encoder.
        weights: of each loss.
    """

    def __init__(self, objectives: Mapping[str, Objective], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.objectives = nn.ModuleDict(objectives)  # type: ignore[arg-type]
        self.weights = dict(weights)
        self.n_views = max(objective.n_views for objective in objectives.values())
        self.n_crops = max(objective.n_crops for objective in objectives.values())

    def forward(self, views: Views) -> tuple[Tensor, dict[str, float]]:
        """The sum, and the figures of each; those of several are called `name.figure`."""
        total = views.whole.new_zeros(())
        figures: dict[str, float] = {}
        several = len(self.objectives) > 1
        for name, objective in self._each():
            loss, said = objective(replace(views, draws=views.draws.named(name)) if several else views)
            total = total + self.weights[name] * loss
            if not several:
                return total, said
            figures |= {f"{name}.loss": round(float(loss.detach()), 4)} | {f"{name}.{k}": v for k, v in said.items()}
        return total, figures

    def after_step(self, done: float) -> None:
        """Move what is no parameter."""
        for _, objective in self._each():
            objective.after_step(done)

    def _each(self) -> Iterator[tuple[str, Objective]]:
        for name, objective in self.objectives.items():
            yield name, cast(Objective, objective)


def build_weighted(
    method: str, objective: Mapping[str, Any], weights: Mapping[str, float], encoder: Encoder
) -> tuple[Weighted, dict[str, Any]]:
    """The objective or objectives around an encoder.

    Args:
        method: a name of the table of methods, or several joined by +.
        objective: settings; of several methods, by their names.
        weights: of several methods: what each loss counts, 1 where not said.

    Returns:
        The module, and the complete settings under the keys `objective` and `weights`.

    Raises:
        ConfigError: an unknown method, setting or weight, or a method that is not for these scans.
    """
    methods = methods_of(method)
    several = len(methods) > 1
    for key, values in {"weights": weights, "objective": objective if several else {}}.items():
        if unknown := sorted(set(values) - set(methods)):
            raise ConfigError(
                f"{key}: '{unknown[0]}' is none of the methods of this run, write {key}.METHOD"
                f"{closest(unknown[0], list(methods))}"
            )
    if wrong := [name for name, weight in weights.items() if weight < 0]:
        raise ConfigError(f"weights.{wrong[0]}: is {weights[wrong[0]]:g}; expected 0 or more")
    counted = {name: weights.get(name, 1.0) for name in methods}
    if not any(counted.values()):
        raise ConfigError(f"weights: all are 0, so nothing is learned; give {next(iter(methods))} a weight above 0")
    built: dict[str, Objective] = {}
    settings: dict[str, Any] = {}
    for name, row in methods.items():
        if encoder.dims not in row.dims:
            kind = "volumes" if encoder.dims == 3 else "images"
            raise ConfigError(f"method '{name}' is not for {kind}; medtl methods lists those that are")
        found = row.load()
        source, said = (f"objective.{name}", objective.get(name, {})) if several else ("objective", objective)
        if not isinstance(said, Mapping):
            raise ConfigError(f"{source}: is {said!r}; expected settings, such as {source}.KEY=VALUE")
        config = build(found.Config, said, source=source)
        settings[name] = config.model_dump(mode="json")
        built[name] = found(encoder, config)
    return Weighted(built, counted), {"objective": settings if several else settings[name], "weights": counted}
