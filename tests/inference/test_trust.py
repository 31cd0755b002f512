"""Reasons to doubt: distances against a slow definition, and each reason where it applies and nowhere else."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import medtl
from medtl.data.manifest import COLUMNS
from medtl.data.preprocess import PreprocessSpec
from medtl.data.scan import Header, Scan
from medtl.data.sources import read_scan
from medtl.evaluation.conformal import Band
from medtl.inference.bundle import Bundle
from medtl.inference.population import population, strangeness
from medtl.inference.prediction import FindingScore
from medtl.inference.reference import Reference
from medtl.inference.trust import NEIGHBOURS, Familiarity, about_origin, about_scan, about_scores

SPEC = PreprocessSpec(size_px=64, input_px=32)


def crowd(n: int = 300, *, each: int = 1, seed: int = 0) -> Reference:
    """Embeddings around one direction, `each` of a patient that are nearly the same."""
    random = np.random.default_rng(seed)
    own = np.repeat(random.normal(size=(n // each, 8)), each, axis=0)
    embeddings = np.r_[[10.0] * 8] + own + 0.01 * random.normal(size=own.shape)
    return Reference(
        embeddings=embeddings.astype(np.float32),
        labels=np.zeros((n, 1), np.float32),
        scan_ids=tuple(f"s{i}" for i in range(n)),
        patients=np.arange(n) // each,
    )


def slow_distance(reference: Reference, row: int) -> float:
    """1 - cosine to the k-th nearest scan of another patient, one pair after the other."""
    a = reference.embeddings[row].astype(float)
    others = [
        1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for b, whose in zip(reference.embeddings.astype(float), reference.patients, strict=True)
        if whose != reference.patients[row]
    ]
    return sorted(others)[NEIGHBOURS - 1]


def test_usual_distances_leave_out_the_patient() -> None:
    reference = crowd(60, each=3)
    slow = sorted(slow_distance(reference, row) for row in range(60))
    assert Familiarity(reference).usual == pytest.approx(np.array(slow), abs=1e-6)


def test_about_one_in_a_hundred_of_the_same_kind_is_unlike() -> None:
    known, new = Familiarity(crowd(2500)), crowd(4000, seed=1)
    # 1 % of 4,000 is 40, give or take 6; the 99th percentile of 2,000 distances is itself uncertain.
    assert 0.003 < known.unlike(new.embeddings).mean() < 0.02


def test_another_kind_is_unlike_and_its_distance_is_said() -> None:
    reference = crowd()
    strange = np.r_[[10.0] * 4, [-10.0] * 4].astype(np.float32)
    familiarity = Familiarity(reference)
    (doubt,) = about_origin(reference, familiarity, "new", strange)
    assert (doubt.code, doubt.finding) == ("unlike", None)
    assert doubt.number == pytest.approx(float(familiarity.distance(strange[None])[0])) and doubt.number > 0.5
    assert "farther from them than 99 of 100 of them are from each other" in doubt.sentence
    assert about_origin(reference, familiarity, "new", np.full(8, 10, np.float32)) == ()


def test_few_patients_do_not_tell_what_is_usual() -> None:
    few = crowd(57, each=3)
    assert not Familiarity(few).unlike(np.array([[1, -1, 0, 0, 0, 0, 0, 0]], np.float32)).any()
    nobody = replace(few, embeddings=few.embeddings[:0], scan_ids=(), patients=few.patients[:0])
    assert not Familiarity(nobody).unlike(np.ones((1, 8), np.float32)).any()


def test_a_training_scan_is_no_second_opinion() -> None:
    reference = crowd()
    (doubt,) = about_origin(reference, Familiarity(reference), "s4", reference.embeddings[4])
    assert doubt.code == "seen" and "trained on this very scan" in doubt.sentence


BAND = Band(lowest_present=0.3, highest_absent=0.6, error=0.1, n_present=20, n_absent=20)


@pytest.mark.parametrize(
    ("probability", "band", "said"),
    [
        (0.2, BAND, None),
        (0.35, BAND, "below the operating point, but scans with the finding had as little"),
        (0.55, BAND, "reaches the operating point, but scans without the finding had as much"),
        (0.7, BAND, None),
        (0.44, None, None),
        (0.46, None, "close to the operating point"),
        (0.54, None, "close to the operating point"),
        (0.56, None, None),
    ],
)
def test_near_the_operating_point(probability: float, band: Band | None, said: str | None) -> None:
    found = about_scores([FindingScore(finding="nodule", probability=probability, threshold=0.5, band=band)])
    assert len(found) == (said is not None)
    if said:
        assert (found[0].code, found[0].finding, found[0].number) == ("near", "nodule", probability)
        assert said in found[0].sentence


def bundle_of(known: dict[str, dict[str, int]]) -> Bundle:
    return Bundle(
        name="b", findings=("nodule",), exclusive=False, thresholds={"nodule": 0.5}, temperatures={"nodule": 1.0},
        flip_average=False, spec=SPEC, network="resnet18-half", input_px=32, training={}, calibration="none",
        population=known,
    )  # fmt: skip


def scan_of(pixels: np.ndarray, **header: object) -> Scan:
    return Scan(pixels=pixels.astype(np.float32), header=Header(**header), source="a", sha256="0" * 64)


def gradient() -> np.ndarray:
    return np.linspace(0.1, 0.9, 64 * 64).reshape(64, 64)


def overexposed() -> np.ndarray:
    return np.where(np.arange(64) < 30, 1.0, gradient())


def collimated() -> np.ndarray:
    return np.pad(gradient()[16:48, 16:48], 16)


@pytest.mark.parametrize(
    ("pixels", "header", "codes"),
    [
        (gradient(), {}, []),
        (overexposed(), {}, ["quality_clipped"]),
        (collimated(), {}, ["quality_collimated"]),
        (gradient(), {"burned_in": True}, ["quality_burned_in_text"]),
        (np.full((64, 64), 0.5), {}, ["quality_blank"]),
        (gradient(), {"modality": "CT", "view": "PA"}, ["other_modality"]),
        (gradient(), {"body_part": "HAND", "modality": "DX"}, ["other_body_part"]),
        (gradient(), {"view": "LAT"}, ["other_view"]),
        (gradient(), {"manufacturer": "ACME", "scanner": "X2"}, ["other_scanner"]),
        (gradient(), {"manufacturer": "ACME", "scanner": "X1", "age_years": 40.0}, []),
        (gradient(), {"age_years": 17.9}, ["other_age"]),
        (gradient(), {"age_years": 99.0, "sex": "F"}, []),
    ],
)
def test_header_and_pixels(pixels: np.ndarray, header: dict, codes: list[str]) -> None:
    known = {
        "modality": {"DX": 9, "CR": 1}, "body_part": {"CHEST": 10}, "view": {"PA": 10}, "scanner": {"ACME X1": 10},
        "age_years": {"youngest": 18, "oldest": 90},
    }  # fmt: skip
    bundle, scan = bundle_of(known), scan_of(pixels, **header)
    assert [doubt.code for doubt in about_scan(bundle, scan, SPEC.stored(scan))] == codes
    assert not [code for code, _ in strangeness(scan.header, {})], "training scans that say nothing are no reason"


def test_the_sentence_names_both() -> None:
    known = {"modality": {"DX": 9, "CR": 1}, "age_years": {"youngest": 18, "oldest": 90}}
    (_, modality), (_, age) = strangeness(Header(modality="CT", age_years=3.0), known)
    assert modality == "no training scan has the modality CT; most have DX"
    assert age == "the patient is younger than all patients of the training scans (18 to 90 years old)"


def test_population_counts_what_headers_say() -> None:
    rows = [
        {"modality": "DX", "manufacturer": "ACME", "scanner": "X1", "age_years": 40.5},
        {"modality": "DX", "manufacturer": "ACME", "age_years": 61.0},
        {"modality": "CR", "age_years": float("nan")},
    ]
    table = pd.DataFrame([{name: row.get(name) for name in COLUMNS} for row in rows])
    assert population(table) == {
        "modality": {"CR": 1, "DX": 2},
        "scanner": {"ACME": 1, "ACME X1": 1},
        "age_years": {"youngest": 40, "oldest": 61},
    }


def test_a_detector_doubts(bundle, scans) -> None:
    detector = medtl.load(bundle)
    seen = detector.predict(read_scan(scans / "images/p01_0.png"))  # of the train part
    assert next(doubt.code for doubt in detector.doubts(seen)) == "seen"
    new = detector.predict(read_scan(scans / "images/p03_0.png"))  # of the test part
    assert "seen" not in {doubt.code for doubt in detector.doubts(new)}
