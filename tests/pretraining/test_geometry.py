"""The sampling grid: nothing without strength, smooth, never folded, equal to SciPy's splines and interpolation."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from medtl.data.preprocess import PreprocessSpec
from medtl.pretraining.draws import Draws
from medtl.pretraining.geometry import INTERVALS, KNOTS, affine, elastic, sampling_grid, spline_basis
from medtl.pretraining.views import SHARP_STEP, ViewsConfig, random_views

STILL = ViewsConfig(
    crop_area=(1.0, 1.0), crop_aspect=1.0, rotation_deg=0, elastic=0, brightness=0, contrast=0, gamma=0, blur_px=0,
    noise=0,
)  # fmt: skip


def draws(count: int, seed: int = 0) -> Draws:
    return Draws("geometry", seed, total=count)


@pytest.mark.parametrize("dims", [2, 3])
def test_without_elastic_the_grid_is_the_affine_one(dims: int) -> None:
    maps = affine(ViewsConfig(), draws(6), dims)
    assert elastic(STILL, draws(6), dims) is None
    grid = sampling_grid(maps, None, 20)
    torch.testing.assert_close(grid, F.affine_grid(maps, [6, 1, *[20] * dims], align_corners=False), atol=1e-5, rtol=0)


def test_the_basis_is_scipy_s_cubic_spline() -> None:
    from scipy.interpolate import BSpline

    side = 32
    knots = np.arange(-3, INTERVALS + 4, dtype=float)
    oracle = BSpline.design_matrix((np.arange(side) + 0.5) / side * INTERVALS, knots, 3).toarray()
    assert oracle.shape[1] == KNOTS
    np.testing.assert_allclose(spline_basis(side).numpy(), oracle, atol=1e-12)


@pytest.mark.parametrize("dims", [2, 3])
def test_elastic_moves_by_the_asked_share_smoothly_and_folds_nothing(dims: int) -> None:
    side, reach = 32, 0.04
    config = STILL.model_copy(update={"elastic": reach})
    still = sampling_grid(affine(STILL, draws(10), dims), None, side)
    grid = sampling_grid(affine(STILL, draws(10), dims), elastic(config, draws(10), dims), side)
    moved = (grid - still) / 2  # shares of the side
    assert 0.4 * reach < moved.abs().amax() <= reach and moved.std() > 0.15 * reach
    for axis in range(1, dims + 1):
        # A cubic spline's slope is a mean of differences of its coefficients: at most 2 reach an interval.
        assert moved.diff(dim=axis).abs().amax() * side <= 2 * reach * INTERVALS
        bend = moved.diff(n=2, dim=axis).abs().amax() * side**2
        assert bend <= 4 * reach * INTERVALS**2
        # Each coordinate grows along its own axis: the deformation can be undone.
        assert (grid.diff(dim=axis)[..., dims - axis] > 0).all()
    assert grid.shape == (10, *[side] * dims, dims)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_view_equals_scipy_s_map_coordinates(dims: int) -> None:
    """Crop, rotation, flip and deformation from the definition, one place at a time."""
    side, config = 12, STILL.model_copy(
        update={"crop_area": (0.4, 0.8), "rotation_deg": 20.0, "flip": 1.0, "elastic": 0.04}
    )  # fmt: skip
    image = torch.rand(1, 1, *[side] * dims, generator=torch.Generator().manual_seed(3)) * 2 - 1
    view = random_views(image, config, draws(1, 7))[0, 0].numpy()
    again = draws(1, 7)
    maps, bends = affine(config, again, dims)[0].double().numpy(), elastic(config, again, dims)
    assert bends is not None
    bend = bends[0].double().numpy()
    places = np.zeros((dims, *[side] * dims))
    cubic = [lambda t: (1 - t) ** 3 / 6, lambda t: (3 * t**3 - 6 * t**2 + 4) / 6,
             lambda t: (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, lambda t: t**3 / 6]  # fmt: skip
    for pixel in np.ndindex(*[side] * dims):
        at = [(index + 0.5) / side for index in pixel]
        where = np.array([2 * a - 1 for a in reversed(at)])  # x first
        for taps in itertools.product(range(4), repeat=dims):
            weight = math.prod(cubic[k](a * INTERVALS % 1) for k, a in zip(taps, at, strict=True))
            where = where + weight * bend[tuple(int(a * INTERVALS) + k for k, a in zip(taps, at, strict=True))]
        normal = maps[:, :dims] @ where + maps[:, dims]
        places[(slice(None), *pixel)] = [((c + 1) * side - 1) / 2 for c in reversed(normal)]
    oracle = ndimage.map_coordinates((image[0, 0].numpy() + 1) / 2, places, order=1, mode="grid-constant") * 2 - 1
    np.testing.assert_allclose(view, oracle, atol=2e-5)  # float32 coordinates


def detailed(count: int = 8) -> torch.Tensor:
    """Stored squares with structure at every scale."""
    noise = torch.rand(count, 1, 128, 128, generator=torch.Generator().manual_seed(1)).numpy()
    smooth = sum(4**k * ndimage.gaussian_filter(noise, (0, 0, 1.5**k, 1.5**k)) for k in range(1, 4))
    low, high = smooth.min(), smooth.max()
    return torch.from_numpy(((smooth - low) / (high - low) * 255).astype(np.uint8))


@pytest.mark.parametrize(("size", "side"), [(128, 32), (128, 64), (128, 128), (100, 40), (24, 32)])
def test_a_view_of_the_whole_scan_is_the_network_s_input(size: int, side: int) -> None:
    stored = detailed()[..., :size, :size]
    spec = PreprocessSpec(size_px=size, input_px=side)
    images, detail = spec.with_detail(stored)
    slow = F.interpolate(stored.float() / 127.5 - 1, size=[side, side], mode="area" if size > side else "bilinear")
    torch.testing.assert_close(images, slow, atol=1e-5, rtol=0)
    assert (detail is not None) == (size >= 2 * side)
    torch.testing.assert_close(random_views(images, STILL, draws(8), detail=detail), images, atol=1e-5, rtol=0)


def test_a_view_of_a_whole_volume_is_the_network_s_input() -> None:
    stored = torch.randint(0, 256, (2, 2, 40, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for side in (16, 20, 30):
        images, detail = PreprocessSpec(dims=3, spacing_mm=1.0, size_px=40, input_px=side).with_detail(stored)
        slow = F.interpolate(stored.float() / 127.5 - 1, size=[side] * 3, mode="area")
        torch.testing.assert_close(images, slow, atol=1e-5, rtol=0)
        torch.testing.assert_close(random_views(images, STILL, draws(2), detail=detail), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("area", [0.3, 0.6, 0.85])
def test_detail_makes_crops_truer(area: float) -> None:
    """Against the average of 8 x 8 samples of the stored square in each pixel of the view."""
    stored, side = detailed(), 32
    images, detail = PreprocessSpec(size_px=128, input_px=side).with_detail(stored)
    config = STILL.model_copy(update={"crop_area": (area, area), "rotation_deg": 15.0})
    maps = affine(config, draws(8), 2)
    fine = F.affine_grid(maps, [8, 1, 8 * side, 8 * side], align_corners=False)
    truth = F.avg_pool2d(F.grid_sample(stored / 127.5, fine, align_corners=False), 8) - 1
    inside = slice(6, -6)  # where a view leaves the scan, black begins a pixel earlier or later

    def error(view: torch.Tensor) -> float:
        return float((view - truth)[..., inside, inside].square().mean().sqrt())

    plain, sharp = (error(random_views(images, config, draws(8), detail=d)) for d in (None, detail))
    assert math.sqrt(area) * 2 < SHARP_STEP
    assert sharp < 0.7 * plain
