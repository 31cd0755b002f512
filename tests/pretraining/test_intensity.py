"""Each change of intensity against a slow formula, for one scan at a time."""

import colorsys
import math

import numpy as np
import pytest
import torch
from numpy.polynomial import legendre
from scipy import stats
from torch import Tensor

from medtl.pretraining.draws import Draws
from medtl.pretraining.intensity import bias_log, blurred, contrasted, noised, toned, windowed
from medtl.pretraining.views import ViewsConfig, random_views
from tests.pretraining.test_views import STILL


def values(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_another_window_is_the_formula_on_hounsfield_units() -> None:
    """What window jitter makes of displayed values is what a workstation shows through the other window."""
    hu = values(3, 2, 8, 8) * 400 - 160  # within the window 40/400
    shown = (hu - (40 - 200)) / 400
    centre_hu = torch.tensor([[40.0, 80.0], [0.0, 40.0], [100.0, -20.0]])
    width_hu = torch.tensor([[400.0, 400.0], [300.0, 500.0], [320.0, 360.0]])
    views = windowed(shown.clone(), (centre_hu - (40 - 200)) / 400, width_hu / 400)
    for scan in range(3):
        for channel in range(2):
            centre, width = float(centre_hu[scan, channel]), float(width_hu[scan, channel])
            oracle = ((hu[scan, channel] - (centre - width / 2)) / width).clamp(0, 1)
            torch.testing.assert_close(views[scan, channel], oracle, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_bias_field_is_a_sum_of_legendre_polynomials(dims: int) -> None:
    side = 6
    coefficients = values(2, *[3] * dims) - 0.5
    x = (np.arange(side) + 0.5) / side * 2 - 1
    grid = legendre.leggrid2d if dims == 2 else legendre.leggrid3d
    for scan in range(2):
        oracle = grid(*[x] * dims, coefficients[scan].double().numpy())
        np.testing.assert_allclose(bias_log(coefficients, side)[scan].numpy(), oracle, atol=1e-5)


def test_the_bias_field_keeps_its_promise_and_is_smooth() -> None:
    grey = torch.zeros(300, 1, 16, 16)  # 0.5 of 1
    views = random_views(grey, STILL.model_copy(update={"bias_field": 0.3}), Draws("bias", total=300))
    logs = ((views + 1) / 2 / 0.5).log()
    assert 0.15 < logs.abs().amax() <= 0.3 + 1e-4
    # Three coefficients along each axis: the third difference of a polynomial of degree two is nothing.
    assert logs.diff(n=3, dim=-1).abs().amax() < 1e-4 and logs.diff(n=3, dim=-2).abs().amax() < 1e-4
    assert logs.flatten(1).std(dim=1).mean() > 0.02


def test_gamma_with_a_field_is_a_power_times_a_factor() -> None:
    pixels, exponent, bias = values(3, 2, 5, 5) * 0.9 + 0.1, torch.tensor([0.7, 1.0, 1.4]), values(3, 3, 3) * 0.1
    toned_ = toned(pixels.clone(), exponent, bias)
    oracle = pixels ** exponent[:, None, None, None] * bias_log(bias, 5)[:, None].exp()
    torch.testing.assert_close(toned_, oracle, atol=1e-5, rtol=1e-5)


def test_contrast_turns_about_each_channel_s_mean() -> None:
    pixels = values(2, 2, 4, 4)
    done = contrasted(pixels.clone(), torch.tensor([0.8, 1.3]), torch.tensor([0.1, -0.1]))
    for scan, (factor, added) in enumerate([(0.8, 0.1), (1.3, -0.1)]):
        for channel in range(2):
            mean = pixels[scan, channel].mean()
            torch.testing.assert_close(done[scan, channel], (pixels[scan, channel] - mean) * factor + mean + added)


def test_of_colours_contrast_turns_about_the_mean_of_all() -> None:
    pixels = values(2, 3, 4, 4)
    done = contrasted(pixels.clone(), torch.tensor([0.8, 1.3]), torch.tensor([0.1, -0.1]), together=True)
    for scan, (factor, added) in enumerate([(0.8, 0.1), (1.3, -0.1)]):
        mean = pixels[scan].mean()
        torch.testing.assert_close(done[scan], (pixels[scan] - mean) * factor + mean + added)


def hues(views: Tensor) -> np.ndarray:
    """(B, H, W) hue as an angle, by the standard library's formula."""
    rgb = ((views + 1) / 2).movedim(1, -1).reshape(-1, 3).numpy()
    return np.array([colorsys.rgb_to_hsv(*each)[0] for each in rgb.tolist()]).reshape(len(views), *views.shape[2:])


def test_hues_stay_whatever_window_contrast_brightness_and_field_do() -> None:
    """Gamma alone bends them a little; each of the others is one line, or one factor, for all three colours."""
    base = torch.tensor([0.55, 0.45, 0.4]).reshape(1, 3, 1, 1) + 0.1 * values(8, 3, 8, 8)
    images = base * 2 - 1
    changed = STILL.model_copy(update={"window": 0.1, "contrast": 0.2, "brightness": 0.05, "bias_field": 0.2})
    together = random_views(images, changed, Draws("hue", total=8), colour=True)
    assert (together - images).abs().mean() > 0.02, "something changes"
    turned = np.abs(hues(together) - hues(images))
    assert np.minimum(turned, 1 - turned).max() < 1e-3  # float32, divided by small differences
    apart = random_views(images, changed, Draws("hue", total=8))
    turned = np.abs(hues(apart) - hues(images))
    assert np.minimum(turned, 1 - turned).max() > 0.05, "as the windows of a CT may"


def test_gamma_keeps_grey_grey_and_the_order_of_colours() -> None:
    images = torch.cat([values(4, 3, 8, 8), values(4, 1, 8, 8).expand(-1, 3, -1, -1)]) * 2 - 1
    views = random_views(images, STILL.model_copy(update={"gamma": 0.5}), Draws("g", total=8), colour=True)
    assert torch.equal(views.argsort(dim=1)[:4], images.argsort(dim=1)[:4])
    torch.testing.assert_close(views[4:], views[4:, :1].expand(-1, 3, -1, -1))


def test_a_scan_s_blur_does_not_depend_on_its_company() -> None:
    pixels, sigma = values(4, 1, 12, 12), torch.tensor([0.9, -1.0, 0.5, 0.05])
    together = blurred(pixels.clone(), sigma, 2)
    for scan in range(4):
        alone = blurred(pixels[scan : scan + 1].clone(), sigma[scan : scan + 1], 2)
        torch.testing.assert_close(together[scan : scan + 1], alone)
    assert torch.equal(together[[1, 3]], pixels[[1, 3]])


def test_noise_is_normal_white_and_each_scan_s_own() -> None:
    count, side = 40, 64
    draws = Draws("noise", total=count)
    sigma = torch.full((count,), 0.5)
    noise = noised(torch.zeros(count, 1, side, side), sigma, draws.uniform(0, 1)).flatten(1).numpy() / 0.5
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert stats.kstest(noise[:, ::16].ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(noise) - np.eye(count)).max() < 5 / side, "5 standard errors of independent noise"
    for lag in (1, side):
        assert abs(float((noise[:, lag:] * noise[:, :-lag]).mean())) < 0.02


@pytest.mark.parametrize("dims", [2, 3])
def test_processes_that_share_a_batch_make_the_same_views(dims: int) -> None:
    images = values(8, 2, *[16] * dims) * 2 - 1
    config = ViewsConfig(window=0.2, bias_field=0.2, flip=0.5)
    whole = random_views(images, config, Draws("shared", total=8))
    parts = [slice(0, 3), slice(3, 8)]
    shared = [random_views(images[p], config, Draws("shared", total=8, part=p)) for p in parts]
    # To rounding only: products of other sizes may take other kernels.
    torch.testing.assert_close(torch.cat(shared), whole, atol=1e-5, rtol=0)


def test_strengths_of_zero_leave_the_scan() -> None:
    images = values(4, 1, 8, 8) * 2 - 1
    assert math.isclose(STILL.window + STILL.bias_field + STILL.elastic, 0.0)
    torch.testing.assert_close(random_views(images, STILL, Draws("x", total=4)), images, atol=1e-5, rtol=0)
