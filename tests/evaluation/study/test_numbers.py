"""Differences and intervals against a slow loop, savings against a closed form, sentences word by word."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medtl.evaluation.intervals import Estimate, paired_difference
from medtl.evaluation.study.areas import difference, resampled_areas, scores_of
from medtl.evaluation.study.savings import Saving, label_saving
from medtl.evaluation.study.words import SHOWN, UNCLEAR, WORSE, saving_words, sentence, tag, verdict

RESAMPLES = 100


def test_means_and_differences_are_those_of_a_slow_loop(binormal) -> None:
    """Two draws, two findings, the second with unknown labels: every resample by scikit-learn."""
    y, p, patients = binormal(40, 1.2, seed=0, scans_each=2, shared=0.3)
    random = np.random.default_rng(1)
    labels = np.stack([y, np.where(random.random(len(y)) < 0.2, np.nan, 1 - y)], axis=1)
    ours, base = ([p[:, None] + random.normal(size=(len(y), 2)) * noise for _ in range(2)] for noise in (0.2, 0.5))
    areas = resampled_areas(labels, [*ours, *base], patients, resamples=RESAMPLES, seed=3)
    found, mean = difference(areas.of([0, 1]), areas.of([2, 3])), areas.of([0, 1]).mean()

    def area(scores, weights) -> float:
        each = []
        for f in range(2):
            known = ~np.isnan(labels[:, f]) & (weights > 0)
            each.append(roc_auc_score(labels[known, f], scores[known, f], sample_weight=weights[known]))
        return float(np.mean(each))

    names, of = np.unique(patients, return_inverse=True)
    generator, gains, levels = np.random.default_rng(3), [], []
    for drawn in generator.integers(len(names), size=(RESAMPLES, len(names))):
        weights = np.bincount(drawn, minlength=len(names))[of]
        each = [(area(a, weights), area(b, weights)) for a, b in zip(ours, base, strict=True)]
        gains.append(np.mean([a - b for a, b in each]))
        levels.append(np.mean([a for a, _ in each]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(gains, (0.025, 0.975))))
    assert (mean.low, mean.high) == pytest.approx(tuple(np.quantile(levels, (0.025, 0.975))))
    one = np.ones(len(y))
    assert found.value == pytest.approx(np.mean([area(a, one) - area(b, one) for a, b in zip(ours, base, strict=True)]))


def test_one_draw_of_one_finding_is_the_paired_difference(binormal) -> None:
    y, p, patients = binormal(60, 1.0, seed=2)
    other = p + np.random.default_rng(0).normal(size=60)
    areas = resampled_areas(y[:, None], [p[:, None], other[:, None]], patients)
    assert difference(areas.of([0]), areas.of([1])) == paired_difference(y, p, other, patients)


def test_exclusive_findings_are_ranked_by_their_probability() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 3))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(scores_of(logits, exclusive=True)), softmax)
    np.testing.assert_array_equal(scores_of(logits, exclusive=False), logits)


@pytest.mark.parametrize("times", [0.5, 1.0, 2.1, 3.0])
def test_a_curve_that_is_straight_on_log_labels_gives_the_saving_back(times: float) -> None:
    """AUROC = 0.6 + 0.05 log(labels): the other start is as good with 40 labels as this one with `times` as many."""
    labels = [10.0, 20.0, 60.0, 200.0]
    curve = [0.6 + 0.05 * math.log(each) for each in labels]
    found = label_saving(40, 0.6 + 0.05 * math.log(40 * times), base_labels=labels, base=curve)
    assert (found.times, found.beyond) == (pytest.approx(times), "")


def test_savings_are_not_drawn_on_beyond_what_was_measured() -> None:
    assert label_saving(20, 0.95, base_labels=[20, 60], base=[0.8, 0.9]) == Saving(3.0, "more")
    assert label_saving(60, 0.70, base_labels=[20, 60], base=[0.8, 0.9]) == Saving(1 / 3, "less")
    dented = label_saving(20, 0.85, base_labels=[20, 60, 180], base=[0.8, 0.9, 0.8])
    assert dented == Saving(pytest.approx(3.0), ""), "60 and 180 labels are level at 0.85; the fewer count"
    said = [saving_words(each) for each in (Saving(2.14), Saving(3, "more"), Saving(0.3, "less"), None)]
    assert said == ["2.1 times", "> 3.0 times", "< 0.3 times", "not shown"]


def test_a_verdict_names_what_it_is_over() -> None:
    assert [tag(each, "imagenet") for each in (SHOWN, UNCLEAR, WORSE)] == [
        "benefit over ImageNet shown", "no benefit over ImageNet shown", "worse than ImageNet"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "saving", "said", "expected"),
    [
        (
            Estimate(0.04, 0.01, 0.07), Saving(2.1), SHOWN,
            "With 60 labels run is worth +0.04 AUROC over random weights (95 % CI 0.01 to 0.07), about 2.1 times the "
            "labels.",
        ),
        (
            Estimate(0.04, 0.001, 0.07), Saving(3.0, "more"), SHOWN,
            "With 60 labels run is worth +0.040 AUROC over random weights (95 % CI 0.001 to 0.070), more than 3.0 "
            "times the labels.",
        ),
        (
            Estimate(0.04, 0.01, 0.07), Saving(1.0, "more"), SHOWN,
            "With 60 labels run is worth +0.04 AUROC over random weights (95 % CI 0.01 to 0.07), which random weights "
            "did not reach with any number of labels tried.",
        ),
        (
            Estimate(0.04, -0.01, 0.07), None, UNCLEAR,
            "With 60 labels no benefit of run over random weights was shown: +0.04 AUROC (95 % CI −0.01 to 0.07).",
        ),
        (
            Estimate(-0.04, -0.07, -0.01), Saving(0.5), WORSE,
            "With 60 labels run is worse than random weights: −0.04 AUROC (95 % CI −0.07 to −0.01).",
        ),
        (
            Estimate(0.04, math.nan, math.nan), None, UNCLEAR,
            "With 60 labels run and random weights cannot be compared: the test part is too small for an interval.",
        ),
    ],
)  # fmt: skip
def test_a_sentence_claims_no_more_than_its_interval(gain, saving, said, expected) -> None:
    assert verdict(gain) == said
    assert sentence(gain, saving, start="run", against="random", n_labels=60) == expected
