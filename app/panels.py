"""The page's fragments of HTML. Every word that comes from a file, a bundle or a reader is escaped here."""

import base64
from collections.abc import Sequence
from html import escape

from medtl.data.scan import Scan
from medtl.errors import ScanError
from medtl.inference.bundle import Bundle
from medtl.inference.prediction import FindingScore
from medtl.review.records import Score, StoredVerdict
from medtl.review.users import User


def empty(dims: int) -> str:
    """Before the first scan: what can be opened."""
    kinds = (
        "DICOM, PNG, JPEG, TIFF or a NIfTI slice"
        if dims == 2
        else "A NIfTI volume, or all DICOM files of one series, also zipped"
    )
    return f'<div class="empty"><p>Open a scan to begin.</p><p class="quiet">{kinds}</p></div>'


SLIDER = (
    '<label class="slider" for="opacity">Opacity'
    '<input type="range" id="opacity" min="0" max="100" value="40" aria-label="Heatmap opacity in percent">'
    '<output id="opacity-shown">40 %</output></label>'
)
_KEYS = {
    "1 … 9": "choose a finding",
    "A D U": "agree, disagree, unsure",
    "P X U": "present, absent, unsure, where there is no answer to agree with",
    "B": "bad image",
    "R": "what it is instead",
    "T": "write a note; Esc leaves it",
    "F": "mark the finding to be taught: present, absent, unsure",
    "N": "save and go to the next case",
    "S": "skip this case",
    "Z": "take the last verdict back",
    "H": "heatmap on and off",
    "I": "invert",
    "+ − 0": "zoom in, zoom out, fit",
    "M": "mark a region: drag, or arrow keys and Shift; Enter keeps it, Esc drops it",
    "W": "to the worklist; there ↑ ↓ and Enter open a case",
    "?": "these keys",
}
KEYS = (
    '<dialog id="keys" aria-labelledby="keys-title"><h2 id="keys-title">Keys</h2><dl>'
    + "".join(f"<dt>{keys}</dt><dd>{said}</dd>" for keys, said in _KEYS.items())
    + '</dl><form method="dialog"><button>Close</button></form></dialog>'
)
WIDE = ' class="wide"'


def plain(finding: str) -> str:
    """A column name as a person would write it in a sentence: `small_hippocampus` is "small hippocampus"."""
    return finding.replace("_", " ").strip()


def words(finding: str) -> str:
    """A column name as a person would write it by itself: `small_hippocampus` is "Small hippocampus"."""
    text = plain(finding)
    return text[:1].upper() + text[1:]


def edges(letters: tuple[str, str, str, str]) -> str:
    """Which side of the patient is at the left, right, top and bottom of a slice."""
    places = ("left", "right", "top", "bottom")
    marks = zip(places, letters, strict=True)
    return "".join(f'<span class="edge {place}">{escape(letter)}</span>' for place, letter in marks)


def inline(png: bytes) -> str:
    """A data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def layer(source: str, *, kind: str, alt: str) -> str:
    """A picture, such as one layer of the viewer.

    Args:
        source: a data URI or an address.
    """
    return f'<img class="{escape(kind)}" alt="{escape(alt)}" src="{escape(source)}">'


def finding_row(finding: str, threshold: float, score: FindingScore | Score) -> str:
    """One finding: probability as number and bar, operating point as a tick, and which side it lies on."""
    tick = f'<span class="tick" style="left:{100 * threshold:.1f}%"></span>'
    side, number = score.decision, percent(score.probability)
    fill = f'<span class="fill" style="width:{100 * score.probability:.1f}%"></span>'
    where = "above" if score.probability >= threshold else "below"
    said = f"{side}: {where} the operating point ({percent(threshold)})"
    return (
        f'<div class="finding {escape(side)}"><div class="line"><span class="name">{escape(words(finding))}</span>'
        f'<span class="number">{number}</span></div>'
        f'<div class="bar" role="img" aria-label="{escape(words(finding))}: {number}, {said}">{fill}{tick}</div>'
        f'<div class="said">{said}</div></div>'
    )


def nothing_row(finding: str) -> str:
    """A finding while no case is open."""
    return _row_without(finding, "")


def hidden_row(finding: str) -> str:
    """A finding whose answer the reader may not see yet."""
    return _row_without(finding, "hidden until you have spoken")


def _row_without(finding: str, said: str) -> str:
    return (
        f'<div class="finding none"><div class="line"><span class="name">{escape(words(finding))}</span>'
        f'<span class="number">–</span></div><div class="bar" aria-hidden="true"></div>'
        f'<div class="said">{said}</div></div>'
    )


def readers_said(rows: Sequence[StoredVerdict]) -> str:
    """What each reader said about a finding, side by side, for the lead who decides."""
    cells = []
    for row in rows:
        label = "bad image" if row.bad_image else {1: "present", 0: "absent", None: "unsure"}[row.label]
        first = ", before the answer was shown" if row.verdict_first else ""
        note = f"<q>{escape(row.note)}</q>" if row.note else ""
        side = label.replace(" ", "-")
        cells.append(
            f'<div class="reader"><b>{escape(row.reader)}</b> <span class="label {side}">{label}</span>'
            f'<span class="quiet"> {escape(row.verdict)}{first}</span>{note}</div>'
        )
    return f'<div class="readers">{"".join(cells)}</div>'


def percent(probability: float) -> str:
    """A probability as a person reads it; never "0 %" or "100 %", which no detector can know."""
    if probability < 0.001:
        return "under 0.1 %"
    if probability > 0.999:
        return "over 99.9 %"
    return f"{100 * probability:.1f} %"


def header(scan: Scan | None, *, masked: bool = True) -> str:
    """What was read from the file.

    Args:
        masked: the patient's name and id are not rendered.
    """
    if scan is None:
        return '<div class="header quiet">What the file says about itself appears here.</div>'
    known = scan.header
    maker = " ".join(part for part in (known.manufacturer, known.scanner) if part)
    each_mm = [f"{mm:.3g}" for mm in reversed(scan.spacing_mm or ())]  # as the size: right, front, head
    if len(set(each_mm)) == 1:
        each_mm = each_mm[:1]
    spacing = " × ".join(each_mm) + " mm" if each_mm else None
    rows = {
        "Patient": "name and ids hidden"
        if masked
        else ", ".join(part for part in (known.patient_name, known.patient_id) if part),
        "Age, sex": ", ".join(part for part in (age(known.age_years), known.sex) if part),
        "Body part": known.body_part,
        "Modality": known.modality,
        "View": known.view,
        "Size": " × ".join(map(str, scan.pixels.shape[::-1])) + (" px" if scan.dims == 2 else " voxels"),
        "Spacing": spacing,
        "Scanner": maker,
    }
    cells = "".join(
        f"<dt>{escape(name)}</dt><dd{WIDE if name in ('Patient', 'Scanner') else ''}>"
        f"{escape(str(value)) if value else '<i>not stated</i>'}</dd>"
        for name, value in rows.items()
    )
    steps = "; ".join(scan.steps) or "used as they are"
    return f'<div class="header"><dl>{cells}</dl><p><b>Pixels</b> {escape(steps)}</p></div>'


def age(years: float | None) -> str | None:
    """Years, or months for the smallest."""
    if years is None:
        return None
    return f"{years:.0f} years" if years >= 2 else f"{12 * years:.0f} months"


def refusal(problem: ScanError) -> str:
    """Why an upload was not shown."""
    return _box(
        "This file was refused", problem.path, problem.message, f"Reason: {problem.code}. Nothing was scored or kept."
    )


def without_pixels(name: str, problem: ScanError) -> str:
    """Why the scan of a case cannot be shown; the path, which may name the patient, is left to the lead's table."""
    more = f"Reason: {problem.code}. The scores are those of the day it was scored; a verdict needs the scan. Skip it."
    return _box("The scan cannot be shown", name, problem.message, more)


def no_prior(problem: ScanError) -> str:
    """Why the prior cannot be shown, in its place; its path may name the patient."""
    more = f"Reason: {problem.code}. The scan beside it can be read all the same."
    return _box("The prior cannot be shown", "An earlier scan of this patient", problem.message, more)


def _box(title: str, name: str, message: str, more: str) -> str:
    return (
        f'<div class="refusal" role="alert"><h2>{escape(title)}</h2><p class="file">{escape(name)}</p>'
        f'<p>{escape(message)}</p><p class="quiet">{escape(more)}</p></div>'
    )


def status(text: str, *, busy: bool = False) -> str:
    """The line beside the upload button."""
    return f'<div class="status{" busy" if busy else ""}" role="status">{escape(text)}</div>'


def saved(text: str) -> str:
    """What is on disk."""
    return f'<div class="saved" role="status">{escape(text)}</div>'


def banner(text: str, *, good: bool = False) -> str:
    """What went wrong, or is worth saying, over the page until the next thing is done."""
    return f'<div class="banner{" good" if good else ""}" role="alert">{escape(text)}</div>'


def who(user: User) -> str:
    """Who is at the page, and the way out; the address is relative, so that a proxy's prefix stays."""
    name = f'{escape(user.name)} <span class="quiet">{escape(user.role)}</span>'
    return f'<div class="who">{name} <a href="logout">Log out</a></div>'


def caption(text: str) -> str:
    """The line under the scan."""
    return f'<div class="caption">{escape(text)}</div>'


def footer(bundle: Bundle) -> str:
    """Always on the page: what it is not, and which detector speaks."""
    return (
        '<div class="footer"><b>Research use. Not a diagnostic viewer.</b>'
        f"<span>Detector {escape(bundle.name)} · {escape(bundle.bundle_id)}</span></div>"
    )
