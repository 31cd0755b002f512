"""The alarm and early stopping, on curves of real runs and on made-up ones."""

import re

import pytest

from medtl.pretraining.health.plan import plan_checks
from medtl.pretraining.health.rules import (
    advice,
    collapsed,
    flat,
    improvements,
    sentence,
    stalled,
    stands_still,
)
from medtl.pretraining.methods import METHODS

# (RankMe, spread) from the start on, recorded with `medtl pretrain` for a minute each.
HEALTHY = {
    "cxr_nih": [(22.0, 0.134), (32.7, 0.204), (30.2, 0.215), (35.2, 0.275), (39.6, 0.372), (43.1, 0.402)],
    "pneumoniamnist": [(24.4, 0.148), (32.7, 0.300), (38.6, 0.406), (36.9, 0.391), (37.4, 0.398)],
    "hippocampus_mr": [(9.7, 0.066), (10.1, 0.072), (8.7, 0.080), (11.5, 0.115), (15.4, 0.170), (18.2, 0.205)],
}


def checks(curve, **more):
    return [
        {"step": 100 * i, "rankme": r, "spread": s, "uniformity": -s, "alignment": s}
        | {key: values[i] for key, values in more.items()}
        for i, (r, s) in enumerate(curve)
    ]


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_give_no_alarm(name: str) -> None:
    curve = checks(HEALTHY[name])
    for end in range(1, len(curve) + 1):
        assert not collapsed(curve[:end], steps=500, method="simclr")
        assert not any(flat(check, curve[0]) for check in curve)
    assert sentence(curve, steps=500, method="simclr").startswith("Looks healthy: RankMe")


def test_the_dip_of_the_first_steps_is_no_alarm() -> None:
    """A ResNet-10 at 16 px, checked every 10 steps: batch normalisation lags behind the weights, then it recovers."""
    curve = checks([(15.6, 0.109), (8.0, 0.05), (4.9, 0.030), (3.5, 0.026), (8, 0.066), (20, 0.235), (31.5, 0.565)])
    for i, check in enumerate(curve):
        check["step"] = 10 * i
    assert flat(curve[2], curve[0]) and not any(
        collapsed(curve[:end], steps=200, method="simclr") for end in range(1, 8)
    )
    assert sentence(curve[:4], steps=200, method="simclr").startswith(
        "Warming up, nothing to be said yet: RankMe 16 → 4"
    )


@pytest.mark.parametrize("end", [(40.0, 0.01), (1.02, 0.3), (1.0, 0.0)])
def test_two_flat_checks_after_warm_up_are_a_collapse(end: tuple[float, float]) -> None:
    once, twice = checks([(39, 0.13), (35, 0.2), end]), checks([(39, 0.13), (35, 0.2), end, end])
    assert not collapsed(once, steps=1000, method="simclr") and collapsed(twice, steps=1000, method="simclr")
    assert sentence(once, steps=1000, method="simclr").startswith("Look closer, is it collapsing?")
    assert sentence(twice, steps=1000, method="simclr").startswith("Collapsed, scans look alike: RankMe 39")
    assert not collapsed(checks([(39, 0.13), end, (30, 0.2), end]), steps=1000, method="simclr"), "not in a row"
    assert not collapsed(checks([(39, 0.13), end, end]), steps=10_000, method="simclr"), "still warming up"


def test_a_start_that_is_flat_itself_is_no_collapse() -> None:
    """An ImageNet network that was inflated for volumes begins with a spread below the limit."""
    assert not collapsed(checks([(11, 0.043), (12, 0.03), (12, 0.02), (12, 0.02)]), steps=400, method="simclr")
    assert collapsed(checks([(11, 0.043), (12, 0.03), (12, 0.01), (12, 0.01)]), steps=400, method="simclr")


def test_outputs_that_are_all_the_same_are_a_collapse_too() -> None:
    """What SimCLR without negatives did on chest films: its head gave one point, the embeddings went on."""
    curve = checks([(22, 0.134), (24.7, 0.530), (23.9, 0.524), (24.1, 0.523), (23.4, 0.527)])
    for key in ("std", "byol.std"):
        dead = [curve[0], *[check | {key: 0.02} for check in curve[1:]]]
        assert collapsed(dead, steps=1000, method="simclr")
        assert sentence(dead, steps=1000, method="simclr").endswith(
            f"RankMe 22 → 23, {key} of the method's outputs 0.020"
        )
        alive = [curve[0], *[check | {key: 0.9} for check in curve[1:]]]
        assert not collapsed(alive, steps=1000, method="simclr")


def test_early_stopping_with_labels_counts_checks_without_a_better_probe() -> None:
    curve = checks(
        [(9, 0.1)] * 6, knn_auroc=[0.9, 0.7, 0.8, 0.8, 0.7, 0.75], probe_auroc=[0.9, 0.7, 0.8, 0.8, 0.7, 0.7]
    )
    assert improvements(curve) == [100, 200], "the start is the baseline, not a candidate; equal is not better"
    assert not stalled(curve[:-1], patience=3) and stalled(curve, patience=3)
    assert not stalled(curve, patience=4) and not stalled(curve, patience=None)
    assert "less is told apart than at the start" in sentence(curve, steps=500, method="simclr")


def test_early_stopping_without_labels_needs_both_figures_to_stand_still() -> None:
    curve = checks([(10, 0.10), (20, 0.20), (10, 0.30), (30, 0.10), (30.1, 0.305)])
    assert improvements(curve) == [100, 200, 300], "uniformity alone, then RankMe alone; less than 1 % is nothing"
    assert stalled(curve, patience=1) and not stalled(curve, patience=2)
    assert not stalled(curve[:1], patience=1)


def test_advice_names_settings_that_exist() -> None:
    said = advice("moco", lr=1e-3, batch_size=128)
    assert said == (
        "start anew with --set lr=0.0003, --set objective.variance_weight=5, --set batch_size=256, or --method simclr"
    )
    assert "--set objective.byol.momentum=0.996" in advice("simclr+byol", lr=1e-3, batch_size=128)
    for name, row in METHODS.items():
        for key in re.findall(r"objective\.(\w+)=", advice(name, lr=1e-3, batch_size=128)):
            assert key in row.load().Config.model_fields


@pytest.mark.parametrize("steps", [1, 9, 50, 170, 700, 5000, 200_000])
@pytest.mark.parametrize("n_scans", [8, 200, 100_000])
@pytest.mark.parametrize("n_labeled", [0, 512])
def test_checks_stay_within_their_share(steps: int, n_scans: int, n_labeled: int) -> None:
    plan = plan_checks(n_scans=n_scans, n_labeled=n_labeled, steps=steps, images_per_step=256, every=None)
    due = [done for done in range(1, min(steps, 5000) + 1) if plan.due(done, done / steps)]
    assert plan.every % 10 == 0 and 0 < plan.scans <= n_scans
    if steps <= 5000:
        assert due[-1] == steps and len(due) <= 21
        share = (len(due) - 1) * (3 * plan.scans + n_labeled) / (steps * 256 * 3)
        assert len(due) <= 5 or share <= 0.02
    assert plan_checks(n_scans=n_scans, n_labeled=0, steps=steps, images_per_step=64, every=30).every == 30


def test_what_restores_may_begin_flat() -> None:
    """The figures of MAE on chest films; without a rise they are a collapse, and those of another method are."""
    begun = checks([(5.9, 0.234), (1.5, 0.021), (1.5, 0.023), (1.7, 0.032)])
    stuck = checks([(5.9, 0.234), (1.5, 0.021), (1.5, 0.023), (1.5, 0.023)])
    for method in ("mae", "spark", "genesis", "mae+genesis"):
        assert not collapsed(begun, steps=1000, method=method) and collapsed(stuck, steps=1000, method=method)
    assert collapsed(begun, steps=1000, method="simclr") and collapsed(begun, steps=1000, method="simclr+genesis")
    assert sentence(begun, steps=1000, method="mae").startswith("Still flat, and spreading: RankMe 6 → 2")
    assert sentence(stuck, steps=1000, method="mae").startswith("Collapsed, scans look alike")


def test_two_checks_without_a_gradient_are_an_alarm_even_while_warming_up() -> None:
    """SimCLR on 40 scans of one patient: each view is compared with its partner alone, and the loss is 0."""
    curve = checks([(14.1, 0.13), (13.9, 0.128), (13.8, 0.127)], grad_norm=[0.5, 0.0, 0.0])
    del curve[0]["grad_norm"]  # the start has none
    assert not stands_still(curve[:1]) and not stands_still(curve[:2]) and stands_still(curve)
    assert sentence(curve, steps=20_000, method="simclr").startswith("Nothing is learned. The gradient is 0: RankMe 14")
    once = sentence(curve[:2], steps=20_000, method="simclr")
    assert once.startswith("Look closer, is anything learned? The gradient is 0")
    for small in (1e-6, 1e-4):  # of a loss with a small weight, which AdamW makes up for
        alive = [curve[0], *[check | {"grad_norm": small, "rankme": 20.0} for check in curve[1:]]]
        assert not stands_still(alive) and sentence(alive, steps=200, method="simclr").startswith("Looks healthy")
