"""The HTML fragments: what is said, what is never said, and that no text becomes markup."""

from html.parser import HTMLParser

import numpy as np
import pytest

from app import panels
from medtl.data.scan import Header, Scan
from medtl.errors import ScanError
from medtl.inference.prediction import FindingScore

HOSTILE = "</div><script>alert(1)</script><img src=x onerror=alert(1)>\"'"


class Reader(HTMLParser):
    """What a browser sees: tags and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def scan(**header: object) -> Scan:
    return Scan(
        pixels=np.zeros((20, 30), np.float32),
        spacing_mm=(0.139, 0.2),
        header=Header(**header),
        source="a.dcm",
        sha256="0" * 64,
        steps=("rescaled", f"window {HOSTILE}"),
    )


@pytest.mark.parametrize(
    "html",
    [
        panels.finding_row(HOSTILE, 0.5, FindingScore(finding=HOSTILE, probability=0.2, threshold=0.5)),
        panels.nothing_row(HOSTILE),
        panels.hidden_row(HOSTILE),
        panels.without_pixels(HOSTILE, ScanError(HOSTILE, HOSTILE, HOSTILE)),
        panels.banner(HOSTILE),
        panels.header(scan(modality=HOSTILE, view=HOSTILE, manufacturer=HOSTILE, scanner=HOSTILE, sex=HOSTILE)),
        panels.refusal(ScanError(HOSTILE, HOSTILE, HOSTILE)),
        panels.status(HOSTILE, busy=True),
        panels.saved(HOSTILE),
        panels.caption(HOSTILE),
    ],
)
def test_no_text_becomes_markup(html: str) -> None:
    seen = Reader(html)
    assert not seen.tags & {"script", "img"}
    assert "<script>" in seen.text


def test_the_side_of_the_operating_point_is_said_and_drawn() -> None:
    above = panels.finding_row("small_nodule", 0.43, FindingScore(finding="", probability=0.8123, threshold=0.43))
    assert "Small nodule" in above and "81.2 %" in Reader(above).text and "width:81.2%" in above
    assert "positive: above the operating point (43.0 %)" in Reader(above).text and "left:43.0%" in above
    below = panels.finding_row("nodule", 0.43, FindingScore(finding="", probability=0.2, threshold=0.43))
    assert "negative: below the operating point (43.0 %)" in Reader(below).text
    exactly = panels.finding_row("nodule", 0.43, FindingScore(finding="", probability=0.43, threshold=0.43))
    assert "positive: above" in Reader(exactly).text


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.0, "under 0.1 %"), (0.001, "0.1 %"), (0.5, "50.0 %"), (0.999, "99.9 %"), (0.9996, "over 99.9 %")],
)
def test_no_probability_is_shown_as_certain(probability: float, shown: str) -> None:
    assert panels.percent(probability) == shown


def test_the_patient_is_hidden() -> None:
    html = panels.header(
        scan(patient_id="HIDDEN-1", patient_name="SECRET^P", study_id="1.2.3.4", series_id="1.2.3.5", age_years=54.4)
    )
    assert not any(word in html for word in ("HIDDEN", "SECRET", "1.2.3"))
    text = Reader(html).text
    assert "Patientname and ids hidden" in text and "54 years" in text
    assert "30 × 20 px" in text and "0.2 × 0.139 mm" in text
    assert "Modalitynot stated" in text


@pytest.mark.parametrize(("years", "shown"), [(None, None), (0.5, "6 months"), (2.0, "2 years"), (80.2, "80 years")])
def test_age(years: float | None, shown: str | None) -> None:
    assert panels.age(years) == shown


def test_a_layer_is_inline() -> None:
    assert panels.layer(HOSTILE, kind="heat", alt=HOSTILE).count("<") == 1
    assert 'src="data:image/png;base64,iVBORw=="' in panels.layer(panels.inline(b"\x89PNG"), kind="heat", alt="")


def test_a_column_name_is_written_as_people_write_it() -> None:
    words, plain = panels.words, panels.plain
    assert (words("small_hippocampus"), plain("small_hippocampus")) == ("Small hippocampus", "small hippocampus")
    assert (words("COVID_19"), plain("COVID_19"), words("")) == ("COVID 19", "COVID 19", "")
