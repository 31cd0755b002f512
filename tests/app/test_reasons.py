"""The panels beside an answer: what is claimed, what is not, and that no text becomes markup."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from app import panels, reasons
from medtl.evaluation.conformal import Band
from medtl.evaluation.observed import Observed
from medtl.inference.neighbours import SimilarScan
from medtl.inference.prediction import FindingScore
from medtl.inference.trust import Doubt

HOSTILE = "</div><script>alert(1)</script><img src=x onerror=alert(1)>\"'"
BAND = Band(lowest_present=0.31, highest_absent=0.58, error=0.1, n_present=40, n_absent=60)
ALIKE = Observed(lowest=0.08, highest=0.19, positives=12, count=100)


class Reader(HTMLParser):
    """What a browser sees: tags with their attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def score(probability: float, **more: object) -> FindingScore:
    return FindingScore(**{"finding": "nodule", "probability": probability, "threshold": 0.43} | more)


def scan(scan_id: str, label: int | None, *, finding: str = "small_nodule", picture: bool = True) -> SimilarScan:
    thumbnail = np.full((96, 96), 90, np.uint8) if picture else None
    return SimilarScan(scan_id=scan_id, similarity=0.973, labels={finding: label}, thumbnail=thumbnail)


@pytest.mark.parametrize(
    "html",
    [
        reasons.doubts([Doubt(code=HOSTILE, sentence=HOSTILE, finding=HOSTILE)]),
        reasons.similar_cases([scan(HOSTILE, 1, finding=HOSTILE)], HOSTILE, said={HOSTILE: HOSTILE}),
        reasons.similar_cases([scan(HOSTILE, None, finding=HOSTILE, picture=False)], HOSTILE),
    ],
)
def test_no_text_becomes_markup(html: str) -> None:
    seen = Reader(html)
    assert "script" not in {tag for tag, _ in seen.tags}
    assert not any("onerror" in attributes for _, attributes in seen.tags)
    assert all(str(a.get("src", "data:image/png;base64,")).startswith("data:image/png;base64,") for _, a in seen.tags)


def test_a_similar_case_in_colour_is_shown_in_colour() -> None:
    colours = np.zeros((96, 96, 3), np.uint8)
    colours[:48], colours[48:] = (200, 50, 40), (60, 80, 190)
    found = SimilarScan(scan_id="a", similarity=0.9, labels={"nodule": 1}, thumbnail=colours)
    source = re.search(r"data:image/png;base64,([^\"]+)", reasons.similar_cases([found], "nodule"))
    assert source is not None
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1])))), colours)


def test_a_calibrated_probability_is_told_in_scans() -> None:
    said = Reader(reasons.wording(score(0.12, band=BAND, observed=ALIKE))).text
    # Wilson's interval of 12 of 100 is 7.0 to 19.8.
    assert (
        "12.0 %: of 100 such scans (8 to 19 %) about 12 had it in validation; 95 % interval 7 to 20, from 100" in said
    )
    assert (
        "Not uncertain: outside 31 to 58 %, where scans with it and scans without it score alike. So "
        "90 of 100 with it, and 90 of 100 without, are not misjudged." in said
    )


def test_of_several_findings_the_wording_says_which() -> None:
    named = reasons.wording(score(0.12, finding="large_nodule"), named=True)
    assert Reader(named).text.startswith("Large nodule. 12.0 % ranks this scan")
    assert HOSTILE[:8] not in reasons.wording(score(0.12, finding=HOSTILE), named=True)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("seen", "12.0 % is no rate: the detector learned from this very scan, and rates hold for scans that are"),
        ("unlike", "12.0 % ranks this scan, but is no rate: rates hold for scans like those that the detector learned"),
    ],
)
def test_rates_of_validation_are_not_told_of_a_scan_that_is_unlike(code: str, why: str) -> None:
    found = [Doubt(code=code, sentence="it is odd")]
    said = Reader(reasons.wording(score(0.12, band=BAND, observed=ALIKE), found)).text
    assert why in said and "validation" not in said and "of 100" not in said


def test_a_probability_that_is_off_is_not_confirmed() -> None:
    high = Observed(lowest=0.08, highest=0.19, positives=40, count=100)
    assert "in fact 40 had it in validation" in reasons.meaning(score(0.12, observed=high))


def test_without_support_nothing_is_claimed() -> None:
    said = Reader(reasons.wording(score(0.12))).text
    assert "12.0 % ranks this scan, but is no rate: too few labeled scans score alike" in said
    assert "Where it is uncertain cannot be said: too few labeled scans" in said
    assert "validation" not in said and "interval" not in said


@pytest.mark.parametrize("probability", [0.40, 0.50])
def test_an_open_answer_says_between_what(probability: float) -> None:
    found = score(probability, band=BAND)
    assert found.decision == "uncertain"
    assert reasons.answer(found) == "Uncertain: from 31 to 58 %, scans with it and scans without it score alike."


@pytest.mark.parametrize(("probability", "side"), [(0.40, "below"), (0.50, "above")])
def test_the_row_of_an_uncertain_finding_still_says_the_side(probability: float, side: str) -> None:
    html = panels.finding_row("nodule", 0.43, score(probability, band=BAND))
    assert 'class="finding uncertain"' in html
    assert f"uncertain: {side} the operating point (43.0 %)" in Reader(html).text


def test_classes_far_apart_leave_nothing_open() -> None:
    apart = Band(lowest_present=0.8, highest_absent=0.2, error=0.1, n_present=40, n_absent=60)
    assert reasons.answer(score(0.5, band=apart)).startswith("No probability is uncertain")


def test_doubts_are_sentences() -> None:
    found = [
        Doubt(code="unlike", sentence="it is unlike the training scans", number=0.3),
        Doubt(code="near", sentence="the probability is close to the operating point", finding="small_nodule"),
    ]
    said = Reader(reasons.doubts(found)).text
    assert "It is unlike the training scans." in said
    assert "Small nodule: the probability is close to the operating point." in said
    assert "The detector can still be wrong." in reasons.doubts([])


def test_similar_cases_count_what_is_known() -> None:
    found = [scan("a", 1), scan("b", 0), scan("c", None), scan("d", 1, picture=False)]
    seen = Reader(reasons.similar_cases(found, "small_nodule", said={"b": "2 readers agree"}))
    assert "Small nodule: 2 of the 3 nearest labeled scans have it." in seen.text
    assert seen.text.count("has it") == 2 and seen.text.count("free of it") == 1 and "no label" in seen.text
    assert "0.97 alike" in seen.text and "2 readers agree" in seen.text and "no picture kept" in seen.text
    pictures = [attributes for tag, attributes in seen.tags if tag == "img"]
    assert len(pictures) == 3 and pictures[0]["alt"] == "A similar scan: Small nodule has it, 0.97 alike"
    nobody = reasons.similar_cases([], "small_nodule")
    assert "keeps no labeled scans to compare with" in nobody
    assert "none of the nearest scans has a label" in reasons.similar_cases([scan("c", None)], "small_nodule")
