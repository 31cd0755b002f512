import numpy as np
import pytest

from medtl.evaluation.report import build_report


def caveats(y, p, patients, *, exclusive=False):
    y, p = np.asarray(y, float), np.asarray(p, float)
    y, p = (y[:, None], p[:, None]) if y.ndim == 1 else (y, p)
    names = [f"finding {i}" for i in range(y.shape[1])]
    return build_report(
        findings=names,
        labels=y,
        probabilities=p,
        patient_ids=patients,
        thresholds=dict.fromkeys(names, 0.5),
        exclusive=exclusive,
        context={},
    ).caveats


def test_a_good_test_set_needs_no_caveat(binormal):
    y, p, patients = binormal(300, 1.5, seed=0, scans_each=2)
    assert caveats(y, p, patients.tolist()) == ()


@pytest.mark.parametrize(
    ("patients", "said"),
    [
        ([""] * 200, "No scan has a patient id, so the intervals are over scans"),
        ([""] * 3 + ["a"] * 50 + [f"P{i}" for i in range(147)], "3 of 200 scans have no patient id"),
        ([f"P{i}" for i in range(200)], "Every scan has a patient id of its own"),
        (["a"] * 200, "All scans are of one patient"),
    ],
)
def test_what_the_patient_ids_say(binormal, patients, said):
    y, p, _ = binormal(200, 1.5, seed=0)
    assert caveats(y, p, patients)[0].startswith(said)


def test_few_positives_and_a_wide_interval(binormal):
    y = np.repeat([1.0, 0.0], [8, 300])
    p = np.random.default_rng(0).random(308) * 0.7 + 0.15 * y
    found = " ".join(caveats(y, p, [f"P{i // 2}" for i in range(308)]))
    assert "finding 0: only 8 scans with the finding. One scan read differently moves the sensitivity by 12" in found
    assert "the AUROC may lie anywhere from" in found
    assert "without the finding. One" not in found


def test_chance_and_reversed_scores(binormal):
    y, p, patients = binormal(200, 0.0, seed=0, scans_each=2)
    assert any("chance level (AUROC 0.5) lies within the interval" in line for line in caveats(y, p, patients.tolist()))
    y, p, patients = binormal(200, 1.5, seed=0, scans_each=2)
    assert any("Are 0 and 1 swapped in the labels?" in line for line in caveats(y, 1 - p, patients.tolist()))


def test_no_error_seen_is_not_certainty():
    y = np.repeat([1.0, 0.0], 50)
    found = " ".join(caveats(y, 0.2 + 0.6 * y, [f"P{i // 2}" for i in range(100)]))
    # 0.05 ** (1 / 50) = 0.942: with a true sensitivity of 94 %, fifty hits in a row still happen once in twenty.
    assert "the sensitivity is 100 % on 50 scans, which leaves the interval no width" in found
    assert found.count("it may truly be as low as 94 %") == 2
    assert "every scan with the finding scores above every scan without it" in found


def test_a_detector_that_misses_everything_may_truly_find_some(binormal):
    y, p, patients = binormal(200, 1.5, seed=0, scans_each=2)
    found = " ".join(caveats(y, p / 3, patients.tolist()))
    assert "the sensitivity is 0 %" in found and "as high as" in found


def test_one_class_and_skipped_resamples():
    found = caveats(np.ones(40), np.linspace(0, 1, 40), [f"P{i // 2}" for i in range(40)])
    assert any(
        "all 40 labeled scans have the finding. AUROC and average precision need scans without it" in line
        for line in found
    )
    y = np.repeat([1.0, 0.0], [2, 60])
    found = caveats(y, np.linspace(0, 1, 62), [f"P{i // 2}" for i in range(62)])
    assert any("of 2,000 bootstrap samples held one class only and were skipped" in line for line in found)


def test_an_absent_class_is_named():
    y = np.eye(3)[np.arange(80) % 2]
    p = np.random.default_rng(0).dirichlet(np.ones(3), 80)
    found = caveats(y, p, [f"P{i // 2}" for i in range(80)], exclusive=True)
    assert any(
        line.startswith("No scan is of the class finding 2; the macro AUROC is over the other") for line in found
    )
