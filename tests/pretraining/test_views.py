"""Random views: identity where nothing varies, truth on phantoms, the range kept, numbers from the seed alone."""

import math

import pytest
import torch
from scipy import ndimage

from medtl.pretraining.views import GENTLE, ViewsConfig, random_views

STILL = ViewsConfig(
    crop_area=(1.0, 1.0), crop_aspect=1.0, rotation_deg=0, brightness=0, contrast=0, gamma=0, blur_px=0, noise=0
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scans(count: int = 8, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 1, side, side, generator=generator(9)) * 2 - 1


def test_nothing_varies_gives_the_scan() -> None:
    images = scans()
    torch.testing.assert_close(random_views(images, STILL, generator()), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [ViewsConfig(), GENTLE])
def test_range_shape_and_seed(config: ViewsConfig) -> None:
    images = scans()
    before = images.clone()
    views = random_views(images, config, generator())
    assert views.shape == images.shape and views.min() >= -1 and views.max() <= 1
    assert torch.equal(images, before), "the input is left alone"
    assert torch.equal(views, random_views(images, config, generator()))
    assert not torch.equal(views, random_views(images, config, generator(1)))


def test_each_scan_has_its_own_view() -> None:
    views = random_views(scans(1).repeat(4, 1, 1, 1), ViewsConfig(), generator())
    assert all(not torch.equal(views[0], views[i]) for i in (1, 2, 3))


def test_flip_is_a_mirror_and_off_by_default() -> None:
    images = scans()
    config = STILL.model_copy(update={"flip": 1.0})
    torch.testing.assert_close(random_views(images, config, generator()), images.flip(-1), atol=1e-5, rtol=0)
    assert ViewsConfig().flip == 0.0


def test_crop_shows_a_part_of_the_asked_area() -> None:
    side = 64
    ramp = torch.linspace(-1, 1, side).expand(1, 1, side, side)
    images = torch.cat([ramp.repeat(200, 1, 1, 1), ramp.mT.repeat(200, 1, 1, 1)])
    config = STILL.model_copy(update={"crop_area": (0.3, 0.6)})
    views = random_views(images, config, generator())
    # A view of a ramp spans as much of it as the crop is wide; the border columns lie half a pixel inside.
    wide = (views[:200].amax(dim=(1, 2, 3)) - views[:200].amin(dim=(1, 2, 3))) / 2 * side / (side - 1)
    assert wide.min() >= math.sqrt(0.3) - 0.03 and wide.max() <= math.sqrt(0.6) + 0.03
    assert wide.std() > 0.05


def test_rotation_turns_by_the_drawn_angle() -> None:
    side = 65
    images = torch.full((100, 1, side, side), -1.0)
    images[:, :, 5:10, 30:35] = 1.0  # a spot above the centre
    views = random_views(images, STILL.model_copy(update={"rotation_deg": 15.0}), generator())
    angles = []
    for view in (views[:, 0] + 1).numpy():
        row, column = ndimage.center_of_mass(view)
        angles.append(math.degrees(math.atan2(column - 32, 32 - row)))
        assert math.hypot(row - 32, column - 32) == pytest.approx(25, abs=0.7), "the distance to the centre stays"
    assert -15.5 < min(angles) < -10 and 10 < max(angles) < 15.5


def test_blur_equals_a_gaussian_filter() -> None:
    images = scans(1, 48).repeat(64, 1, 1, 1)
    views = random_views(images, STILL.model_copy(update={"blur_px": 2.0}), generator())
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
    views = random_views(ramp, STILL.model_copy(update={"gamma": 0.4, "contrast": 0.3}), generator())
    assert (views.diff(dim=-1) >= -1e-5).all()


def test_black_border_comes_in_where_a_view_leaves_the_scan() -> None:
    views = random_views(torch.ones(20, 1, 32, 32), STILL.model_copy(update={"rotation_deg": 15.0}), generator(3))
    assert float(views[:, :, 0, 0].min()) == -1.0
