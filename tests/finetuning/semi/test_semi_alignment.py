"""Distribution alignment keeps a marginal that is known, and does little where none is."""

import numpy as np
import pytest
import torch

from medtl.data.labels import LabelTable
from medtl.errors import ConfigError
from medtl.finetuning.semi.alignment import MOMENTUM, TO_UNIFORM, Alignment, prior_of

FINDINGS = ("a", "b", "c")


def labels(*rows: list[float]) -> LabelTable:
    return LabelTable(findings=FINDINGS, values=np.array(rows, np.float32))


def test_what_is_said_of_all_scans_becomes_what_is_known() -> None:
    prior = torch.tensor([[0.9, 0.1]])
    align = Alignment(1, 2, prior=prior)
    said = torch.tensor([[[0.4, 0.6]]]).repeat(8, 1, 1)
    for _ in range(300):
        aligned = align(said)
    torch.testing.assert_close(aligned.mean(dim=0), prior, atol=1e-4, rtol=0)


def test_a_marginal_that_is_right_already_is_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    said = torch.rand(4000, 2, 3, generator=generator).softmax(dim=2)
    align = Alignment(2, 3, prior=said.mean(dim=0))
    for _ in range(300):
        aligned = align(said)
    torch.testing.assert_close(aligned, said, atol=1e-4, rtol=0)


def test_the_equation_in_a_loop() -> None:
    prior = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
    said = torch.rand(5, 2, 2, generator=torch.Generator().manual_seed(0)).softmax(dim=2)
    align = Alignment(2, 2, prior=prior)
    aligned = align(said)
    running = MOMENTUM * 0.5 + (1 - MOMENTUM) * said.mean(dim=0)
    for b in range(5):
        for q in range(2):
            raw = [float(said[b, q, k] * prior[q, k] / running[q, k]) for k in range(2)]
            assert aligned[b, q].tolist() == pytest.approx([value / sum(raw) for value in raw], rel=1e-5)


def test_without_a_prior_only_the_fall_into_one_class_is_kept_off() -> None:
    align = Alignment(1, 2, prior=None)
    said = torch.tensor([[[0.98, 0.02]]]).repeat(4, 1, 1)
    for _ in range(300):
        aligned = align(said)
    expected = 0.98 * (1 - TO_UNIFORM) + 0.5 * TO_UNIFORM
    assert aligned[0, 0].tolist() == pytest.approx([expected, 1 - expected], abs=1e-4)


def test_priors() -> None:
    some = labels([1, 0, np.nan], [1, 0, np.nan], [0, 0, 1])
    assert prior_of("running", some, exclusive=False) is None
    found = prior_of("labels", some, exclusive=False)
    assert found is not None  # one more scan of each class: (1 + 1) / (3 + 2) and so on
    torch.testing.assert_close(found, torch.tensor([[2 / 5, 3 / 5], [4 / 5, 1 / 5], [1 / 3, 2 / 3]]))
    given = prior_of({"c": 0.5, "a": 0.1, "b": 0.4}, some, exclusive=True)
    torch.testing.assert_close(given, torch.tensor([[0.1, 0.4, 0.5]]))
    given = prior_of({"c": 0.5, "a": 0.1, "b": 0.2}, some, exclusive=False)
    torch.testing.assert_close(given, torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]]))


@pytest.mark.parametrize(
    ("asked", "exclusive", "message"),
    [
        ({"a": 0.1, "d": 0.2}, False, "prior: names a, d; expected the share of scans with each of a, b, c"),
        ({"a": 0.1, "b": 0.2, "c": 0}, False, "between 0 and 1"),
        ({"a": 0.1, "b": 0.2, "c": 0.1}, True, "add up to 0.4; each scan has one of these findings, so to 1"),
    ],
)
def test_impossible_priors_are_refused(asked: dict[str, float], exclusive: bool, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prior_of(asked, labels([1, 0, 0]), exclusive=exclusive)
