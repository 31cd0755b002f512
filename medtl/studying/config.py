"""What a study compares."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator

from medtl.config import StrictModel
from medtl.errors import ConfigError
from medtl.studying.draws import Amount

DEFAULT_PER_CLASS = (10, 30)


class StudyConfig(StrictModel):
    """The starts, the numbers of labels, and how many draws of each."""

    labels_per_class: tuple[int, ...] = ()
    """Scans with each finding, and without it."""
    fractions: tuple[float, ...] = ()
    """Shares of the labeled scans of the train part."""
    starts: tuple[str, ...]
    """"random", "imagenet", folders of runs or bundles, files with a ResNet's weights."""
    seeds: int = Field(default=5, ge=1)
    """How many draws of labels."""

    @field_validator("labels_per_class")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(each < 1 for each in value):
            raise ValueError("expected whole numbers from 1 on")
        return value

    @field_validator("fractions")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < each <= 1 for each in value):
            raise ValueError("expected shares above 0 and up to 1, such as 0.1")
        return value

    @property
    def amounts(self) -> list[Amount]:
        """The numbers of labels, each once; 10 and 30 of each class where nobody says."""
        per_class = self.labels_per_class or (() if self.fractions else DEFAULT_PER_CLASS)
        return [Amount(each) for each in sorted(set(per_class))] + [
            Amount(1, each) for each in sorted(set(self.fractions))
        ]

    def named_starts(self) -> dict[str, str]:
        """From each start's name, the last part of a path, to what was asked for.

        Raises:
            ConfigError: none, or two of one name.
        """
        found: dict[str, str] = {}
        for origin in self.starts:
            name = Path(origin).resolve().name if Path(origin).exists() else origin
            if name in found:
                raise ConfigError(
                    f"--starts: two are called '{name}' ({found[name]} and {origin}); name each once, or give one of "
                    "the folders another name"
                )
            found[name] = origin
        if not found:
            raise ConfigError("--starts: names none; choose such as random,imagenet,RUN")
        return found


def listed(starts: str | Sequence[str]) -> tuple[str, ...]:
    """Starts as the command line gives them, with commas between."""
    words = starts.split(",") if isinstance(starts, str) else [str(each) for each in starts]
    return tuple(word.strip() for word in words if word.strip())
