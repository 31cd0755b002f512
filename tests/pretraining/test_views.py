"""Random views: identity where nothing varies, truth on phantoms, the range kept, numbers from the seed alone."""

import math

import pytest
import torch
from scipy import ndimage

from medtl.config import load
from medtl.errors import ConfigError
from medtl.pretraining.draws import Draws
from medtl.pretraining.views import GENTLE, ViewsConfig, random_views

STILL = ViewsConfig(
    crop_area=(1.0, 1.0),
    crop_aspect=1.0,
    rotation_deg=0,
    elastic=0,
    brightness=0,
    contrast=0,
    gamma=0,
    blur_px=0,
    noise=0,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def views_of(images: torch.Tensor, config: ViewsConfig, *, seed: int = 0) -> torch.Tensor:
    return random_views(images, config, Draws("test", seed, total=len(images)))


def scans(count: int = 8, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 1, side, side, generator=generator(9)) * 2 - 1


def test_nothing_varies_gives_the_scan() -> None:
    images = scans()
    torch.testing.assert_close(views_of(images, STILL), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [ViewsConfig(), GENTLE])
def test_range_shape_and_seed(config: ViewsConfig) -> None:
    images = scans()
    before = images.clone()
    views = views_of(images, config)
    assert views.shape == images.shape and views.min() >= -1 and views.max() <= 1
    assert torch.equal(images, before), "the input is left alone"
    assert torch.equal(views, views_of(images, config))
    assert not torch.equal(views, views_of(images, config, seed=1))


def test_each_scan_has_its_own_view() -> None:
    views = views_of(scans(1).repeat(4, 1, 1, 1), ViewsConfig())
    assert all(not torch.equal(views[0], views[i]) for i in (1, 2, 3))


def test_flip_is_a_mirror_and_off_by_default() -> None:
    images = scans()
    config = STILL.model_copy(update={"flip": 1.0})
    torch.testing.assert_close(views_of(images, config), images.flip(-1), atol=1e-5, rtol=0)
    assert ViewsConfig().flip == 0.0


def test_crop_shows_a_part_of_the_asked_area() -> None:
    side = 64
    ramp = torch.linspace(-1, 1, side).expand(1, 1, side, side)
    images = torch.cat([ramp.repeat(200, 1, 1, 1), ramp.mT.repeat(200, 1, 1, 1)])
    config = STILL.model_copy(update={"crop_area": (0.3, 0.6)})
    views = views_of(images, config)
    # A view of a ramp spans as much of it as the crop is wide; the border columns lie half a pixel inside.
    wide = (views[:200].amax(dim=(1, 2, 3)) - views[:200].amin(dim=(1, 2, 3))) / 2 * side / (side - 1)
    assert wide.min() >= math.sqrt(0.3) - 0.03 and wide.max() <= math.sqrt(0.6) + 0.03
    assert wide.std() > 0.05


def test_rotation_turns_by_the_drawn_angle() -> None:
    side = 65
    images = torch.full((100, 1, side, side), -1.0)
    images[:, :, 5:10, 30:35] = 1.0  # a spot above the centre
    views = views_of(images, STILL.model_copy(update={"rotation_deg": 15.0}))
    angles = []
    for view in (views[:, 0] + 1).numpy():
        row, column = ndimage.center_of_mass(view)
        angles.append(math.degrees(math.atan2(column - 32, 32 - row)))
        assert math.hypot(row - 32, column - 32) == pytest.approx(25, abs=0.7), "the distance to the centre stays"
    assert -15.5 < min(angles) < -10 and 10 < max(angles) < 15.5


def test_blur_equals_a_gaussian_filter() -> None:
    images = scans(1, 48).repeat(64, 1, 1, 1)
    views = views_of(images, STILL.model_copy(update={"blur_px": 2.0}))
    blurred = [v for v in views[:, 0].numpy() if abs(v - images[0, 0].numpy()).max() > 1e-3]
    assert 15 < len(blurred) < 49, "half the views stay sharp"
    for view in blurred[:10]:
        sharp = (images[0, 0].numpy() + 1) / 2
        errors = [
            abs(ndimage.gaussian_filter(sharp, sigma, mode="nearest", truncate=8) * 2 - 1 - view).max()
            for sigma in torch.linspace(0.1, 2.0, 100).tolist()
        ]
        assert min(errors) < 0.05, (
            "some standard deviation in range explains the view (kernel cut at 2 sigma of the widest)"
        )


def test_gamma_and_contrast_keep_order() -> None:
    ramp = torch.linspace(-0.9, 0.9, 32).expand(16, 1, 32, 32)
    views = views_of(ramp, STILL.model_copy(update={"gamma": 0.4, "contrast": 0.3}))
    assert (views.diff(dim=-1) >= -1e-5).all()


def test_black_border_comes_in_where_a_view_leaves_the_scan() -> None:
    views = views_of(torch.ones(20, 1, 32, 32), STILL.model_copy(update={"rotation_deg": 15.0}), seed=3)
    assert float(views[:, :, 0, 0].min()) == -1.0


def volumes(count: int = 4, side: int = 20) -> torch.Tensor:
    return torch.rand(count, 2, side, side, side, generator=generator(9)) * 2 - 1


def test_nothing_varies_gives_the_volume() -> None:
    images = volumes()
    torch.testing.assert_close(views_of(images, STILL), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [ViewsConfig(), GENTLE])
def test_range_shape_and_seed_of_volumes(config: ViewsConfig) -> None:
    images = volumes()
    views = views_of(images, config)
    assert views.shape == images.shape and views.min() >= -1 and views.max() <= 1
    assert torch.equal(views, views_of(images, config))
    assert not torch.equal(views, views_of(images, config, seed=1))


def test_a_volume_is_mirrored_from_left_to_right() -> None:
    images = volumes()
    views = views_of(images, STILL.model_copy(update={"flip": 1.0}))
    torch.testing.assert_close(views, images.flip(-1), atol=1e-5, rtol=0)


class OneTurn(Draws):
    """Turns about a given axis, and remembers by what angle."""

    def __init__(self, axis: torch.Tensor) -> None:
        super().__init__("turn", total=1)
        self.axis, self.angle_deg = axis, 0.0

    def normal(self, *shape: int) -> torch.Tensor:
        return self.axis

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        drawn = super().uniform(low, high, *shape)
        if high == 90.0:
            self.angle_deg = float(drawn)
        return drawn


@pytest.mark.parametrize("lies_along", [0, 1, 2])
def test_a_turn_equals_scipy_s(lies_along: int) -> None:
    """One turn about one axis of the volume, against `scipy.ndimage.rotate` in the plane across it."""
    side = 24
    draws = OneTurn(torch.eye(3)[[2 - lies_along]])  # the affine's order is right, front, head
    config = STILL.model_copy(update={"rotation_deg": 90.0})
    smooth = ndimage.gaussian_filter(torch.rand(side, side, side, generator=generator(2)).numpy(), 2)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    view = (random_views(torch.from_numpy(smooth)[None, None] * 2 - 1, config, draws)[0, 0].numpy() + 1) / 2
    plane = tuple(axis for axis in range(3) if axis != lies_along)
    inside = slice(6, -6)
    errors = {}
    for sign in (1, -1):
        oracle = ndimage.rotate(smooth, sign * draws.angle_deg, axes=plane, reshape=False, order=1)
        errors[sign] = abs(oracle - view)[inside, inside, inside].max()
    assert abs(draws.angle_deg) > 3
    assert min(errors.values()) < 1e-4 and max(errors.values()) > 0.02, errors


def ball(side: int = 32, radius: float = 7.0) -> torch.Tensor:
    grid = torch.stack(torch.meshgrid(*[torch.arange(side) - (side - 1) / 2] * 3, indexing="ij"))
    return (radius + 0.5 - grid.square().sum(dim=0).sqrt()).clamp(0, 1) * 2 - 1


def test_gentle_views_keep_a_volume_s_scale_and_the_default_does_not() -> None:
    """The label may be about millimetres."""
    images = ball()[None, None].repeat(40, 1, 1, 1, 1)
    still = {"brightness": 0, "contrast": 0, "gamma": 0, "blur_px": 0, "noise": 0}
    size = ((images + 1) / 2).sum(dim=(1, 2, 3, 4))

    def sizes(config: ViewsConfig) -> torch.Tensor:
        views = views_of(images, config.model_copy(update=still))
        return ((views + 1) / 2).sum(dim=(1, 2, 3, 4)) / size

    assert (sizes(GENTLE) - 1).abs().max() < 0.02
    assert sizes(ViewsConfig()).max() > 1.5


def test_gentle_views_move_a_volume() -> None:
    views = views_of(ball()[None, None].repeat(40, 1, 1, 1, 1), GENTLE)
    places = torch.tensor([ndimage.center_of_mass((view > 0).numpy()) for view in views[:, 0]])
    assert (places.std(dim=0) > 0.5).all()
    # A crop of 70 % of the area lies up to (1 - sqrt(0.7)) / 2 of the side away; crop_aspect adds up to 5 %.
    assert (places - 15.5).abs().max() <= 32 * (1 - math.sqrt(0.7) / 1.05) / 2 + 0.5


def test_blur_of_a_volume_equals_a_gaussian_filter() -> None:
    images = volumes(1, 24).repeat(16, 1, 1, 1, 1)
    views = views_of(images, STILL.model_copy(update={"blur_px": 1.0}))
    blurred = [view for view in views[:, 0].numpy() if abs(view - images[0, 0].numpy()).max() > 1e-3]
    assert 3 < len(blurred) < 14
    for view in blurred[:3]:
        sharp = (images[0, 0].numpy() + 1) / 2
        errors = [
            abs(ndimage.gaussian_filter(sharp, sigma, mode="nearest", truncate=8) * 2 - 1 - view).max()
            for sigma in torch.linspace(0.1, 1.0, 60).tolist()
        ]
        assert min(errors) < 0.08, "as in the plane: the kernel is cut at 2 sigma of the widest"


@pytest.mark.parametrize("key", ["crop_area", "local_area"])
@pytest.mark.parametrize("area", ["[-1,1]", "[0,0]", "[0.9,0.2]", "[0.5,2.0]"])
def test_areas_are_shares_of_the_scan(key: str, area: str) -> None:
    with pytest.raises(ConfigError) as problem:
        load(ViewsConfig, file=None, settings=[f"{key}={area}"])
    said = str(problem.value)
    assert (
        said.startswith(f"{key}: Input should be [low, high] with 0 < low <= high <= 1 (found [") and "\n" not in said
    )


def test_small_crops_must_show_something() -> None:
    config = ViewsConfig(local_side=0.2)
    config.check_local(40)
    assert config.local_px(40) == 8
    said = (
        "views.local_side: 0.2 of views of 32 px makes small crops of 6 px; they need 8: raise local_side, or input_px"
    )
    with pytest.raises(ConfigError, match=said):
        config.check_local(32)
