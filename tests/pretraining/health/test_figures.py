"""Figures of embeddings against slow definitions in float64 and closed forms; none is ever NaN."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln, ive

from medtl.pretraining.health.figures import alignment, rankme, spread, uniformity


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), n=st.integers(2, 9), d=st.integers(1, 7))
def test_equal_the_definitions(seed: int, n: int, d: int) -> None:
    x, y = normal(seed, n, d), normal(seed + 1, n, d)
    a = [row / np.linalg.norm(row) for row in x.double().numpy()]
    b = [row / np.linalg.norm(row) for row in y.double().numpy()]
    # The same sums in float64: only their order differs.
    aligned = sum(((p - q) ** 2).sum() for p, q in zip(a, b, strict=True)) / n
    assert alignment(x, y) == pytest.approx(aligned, rel=1e-9)
    potentials = [math.exp(-2 * ((a[i] - a[j]) ** 2).sum()) for i in range(n) for j in range(i)]
    assert uniformity(x) == pytest.approx(math.log(sum(potentials) / len(potentials)), rel=1e-9, abs=1e-9)
    deviations = [np.std([row[k] for row in a]) for k in range(d)]
    assert spread(x) == pytest.approx(math.sqrt(d) * sum(deviations) / d, rel=1e-9, abs=1e-9)
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(x.double().numpy().T @ x.double().numpy()), 0))
    p = values[values > 0] / values.sum()
    # The published epsilon of 1e-7 in every share, and square roots of eigenvalues near 0.
    assert rankme(x) == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-3)


@pytest.mark.parametrize("d", [3, 16, 128])
def test_uniform_on_the_sphere(d: int) -> None:
    """E exp(-2 |u-v|^2) = exp(-4) Gamma(d/2) (2/4)^(d/2-1) I_{d/2-1}(4), the von Mises-Fisher normaliser."""
    x = normal(d, 1500, d)
    half = d / 2 - 1
    expected = -4 + gammaln(d / 2) + half * math.log(0.5) + math.log(ive(half, 4.0)) + 4
    assert uniformity(x) == pytest.approx(expected, abs=0.03)  # sampling error of a million pairs
    assert spread(x) == pytest.approx(1.0, abs=0.03)
    assert rankme(x) > 0.9 * d
    assert alignment(x, normal(d + 1, 1500, d)) == pytest.approx(2.0, abs=0.1)  # strangers: 2 - 2 E cos
    assert alignment(x, 3 * x) == pytest.approx(0.0, abs=1e-12)
    assert alignment(x, -x) == pytest.approx(4.0)


def test_orthonormal_directions_have_full_rank() -> None:
    # exp of the entropy of 8 equal shares; the paper's epsilon moves it by less than 1e-4.
    assert rankme(torch.eye(8).repeat(3, 1)) == pytest.approx(8.0, rel=1e-4)


@pytest.mark.parametrize("x", [torch.zeros(20, 6), torch.ones(20, 6), torch.full((20, 6), 1e-30)])
def test_collapsed_embeddings_give_numbers(x: torch.Tensor) -> None:
    assert rankme(x) == pytest.approx(1.0, abs=1e-3)
    assert spread(x) == pytest.approx(0.0, abs=1e-9)
    assert uniformity(x) == pytest.approx(0.0, abs=1e-9)
    assert alignment(x, x) == 0.0


def test_dead_dimensions_and_a_dead_scan_give_numbers() -> None:
    x = normal(0, 30, 8)
    x[:, 3:] = 0
    x[0] = 0
    assert all(math.isfinite(figure) for figure in (rankme(x), spread(x), uniformity(x), alignment(x, x)))
    assert rankme(x) < 3.01


def test_do_not_depend_on_length_order_or_rotation() -> None:
    x = normal(0, 40, 6)
    turn, _ = torch.linalg.qr(normal(1, 6, 6))
    assert uniformity(5 * x.flip(0) @ turn) == pytest.approx(uniformity(x), rel=1e-5)  # a rotation in float32
    assert rankme(5 * x.flip(0) @ turn) == pytest.approx(rankme(x), rel=1e-5)
