"""How strongly views differ from the scan."""

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from medtl.config import StrictModel
from medtl.errors import ConfigError

SMALLEST_CROP_PX = 8
"""In less no network sees anything."""


class ViewsConfig(StrictModel):
    """How strongly views differ from the scan; every range is drawn uniformly, each scan for itself.

    The defaults are the preset "other": they keep the lesion and never flip.
    """

    preset: str | None = None
    """A name of the table of presets, whose fields count where none is given here; None takes, in pretraining, that of
    the scans' modality, and in fine-tuning "gentle"."""
    crop_area: tuple[float, float] = (0.3, 1.0)
    """Share of the scan's area that a view shows; of a volume, the share of each of its planes."""
    crop_aspect: float = Field(default=1.2, ge=1.0)
    """Width to height of the crop, at most this or its inverse; of a volume, any side to any other."""
    keep_scale: bool = False
    """Volumes: shift the view as far as the crop would lie from the centre, and enlarge nothing. Images have no scale
    to keep."""
    rotation_deg: float = Field(default=15.0, ge=0.0)
    """Rotation by up to this many degrees either way; of a volume, about an axis of any direction."""
    flip: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability of a left-right flip. Zero for chest films: the heart has a side."""
    elastic: float = Field(default=0.02, ge=0.0, le=0.04)
    """Smooth displacement by up to this share of the view's side along each axis. Up to 0.04 nothing can fold over."""
    window: float = Field(default=0.0, ge=0.0, lt=1.0)
    """CT: the display window of each channel moves by up to half this share of its width, and is up to this share wider
    or narrower."""
    gamma: float = Field(default=0.3, ge=0.0)
    """Exponent between exp(-gamma) and exp(gamma)."""
    bias_field: float = Field(default=0.0, ge=0.0)
    """Brightness changes smoothly over the scan by a factor between exp(-bias_field) and exp(bias_field)."""
    contrast: float = Field(default=0.3, ge=0.0, lt=1.0)
    """Contrast about the scan's mean changes by up to this share."""
    brightness: float = Field(default=0.15, ge=0.0)
    """Added value up to this, on a scale where black is 0 and white is 1."""
    blur_px: float = Field(default=0.8, ge=0.0)
    """Standard deviation of a Gaussian blur, up to this many pixels; half the views stay sharp."""
    noise: float = Field(default=0.025, ge=0.0)
    """Standard deviation of added Gaussian noise, up to this; black is 0 and white is 1."""
    local_area: tuple[float, float] = (0.1, 0.3)
    """Share of the scan's area that a small crop shows, for objectives that want such."""
    local_side: float = Field(default=0.5, gt=0.0, le=1.0)
    """Side of a small crop as a share of a whole view's."""

    @field_validator("crop_area", "local_area")
    @classmethod
    def _is_share(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not 0 < low <= high <= 1:
            raise PydanticCustomError("share", "Input should be [low, high] with 0 < low <= high <= 1")
        return value

    def local_px(self, side_px: int) -> int:
        """Side of a small crop where whole views have this side, in pixels."""
        return round(side_px * self.local_side)

    def check_local(self, side_px: int) -> None:
        """Make sure that something can be seen in small crops.

        Args:
            side_px: of whole views, once they have grown.

        Raises:
            ConfigError: it cannot.
        """
        if (small := self.local_px(side_px)) < SMALLEST_CROP_PX:
            raise ConfigError(
                f"views.local_side: {self.local_side:g} of views of {side_px} px makes small crops of {small} px; "
                f"they need {SMALLEST_CROP_PX}: raise local_side, or input_px"
            )

    def local(self) -> "ViewsConfig":
        """The same for small crops."""
        return self.model_copy(update={"crop_area": self.local_area})
