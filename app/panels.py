"""The page's fragments of HTML. Every word that comes from a file, a bundle or a reader is escaped here."""

import base64
from html import escape

from medtl.data.scan import Scan
from medtl.errors import ScanError
from medtl.inference.bundle import Bundle
from medtl.inference.runtime import FindingScore


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
WIDE = ' class="wide"'


def words(finding: str) -> str:
    """A column name as a person would write it: `small_hippocampus` is "Small hippocampus"."""
    text = finding.replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def edges(letters: tuple[str, str, str, str]) -> str:
    """Which side of the patient is at the left, right, top and bottom of a slice."""
    places = ("left", "right", "top", "bottom")
    marks = zip(places, letters, strict=True)
    return "".join(f'<span class="edge {place}">{escape(letter)}</span>' for place, letter in marks)


def layer(png: bytes, *, kind: str, alt: str) -> str:
    """One layer of the viewer, inline, so that no scan is ever a file that the server hands out."""
    data = base64.b64encode(png).decode("ascii")
    return f'<img class="{escape(kind)}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def finding_row(finding: str, threshold: float, score: FindingScore | None) -> str:
    """One finding: probability as number and bar, operating point as a tick, and which side it lies on."""
    tick = f'<span class="tick" style="left:{100 * threshold:.1f}%"></span>'
    if score is None:
        side, number, fill, said = "none", "–", "", f"operating point {percent(threshold)}"
    else:
        side = score.decision
        number = percent(score.probability)
        fill = f'<span class="fill" style="width:{100 * score.probability:.1f}%"></span>'
        said = f"{side}: {'above' if side == 'positive' else 'below'} the operating point ({percent(threshold)})"
    return (
        f'<div class="finding {escape(side)}"><div class="line"><span class="name">{escape(words(finding))}</span>'
        f'<span class="number">{number}</span></div>'
        f'<div class="bar" role="img" aria-label="{escape(words(finding))}: {number}, {said}">{fill}{tick}</div>'
        f'<div class="said">{said}</div></div>'
    )


def percent(probability: float) -> str:
    """A probability as a person reads it; never "0 %" or "100 %", which no detector can know."""
    if probability < 0.001:
        return "under 0.1 %"
    if probability > 0.999:
        return "over 99.9 %"
    return f"{100 * probability:.1f} %"


def header(scan: Scan | None) -> str:
    """What was read from the file. The patient's name and ids are never rendered."""
    if scan is None:
        return '<div class="header quiet">What the file says about itself appears here.</div>'
    known = scan.header
    maker = " ".join(part for part in (known.manufacturer, known.scanner) if part)
    each_mm = [f"{mm:.3g}" for mm in reversed(scan.spacing_mm or ())]  # as the size: right, front, head
    if len(set(each_mm)) == 1:
        each_mm = each_mm[:1]
    spacing = " × ".join(each_mm) + " mm" if each_mm else None
    rows = {
        "Patient": "name and ids hidden",
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
    """Why a file was not shown."""
    return (
        '<div class="refusal" role="alert"><h2>This file was refused</h2>'
        f'<p class="file">{escape(problem.path)}</p><p>{escape(problem.message)}</p>'
        f'<p class="quiet">Reason: {escape(problem.code)}. Nothing was scored and nothing was kept.</p></div>'
    )


def status(text: str, *, busy: bool = False) -> str:
    """The line beside the upload button."""
    return f'<div class="status{" busy" if busy else ""}" role="status">{escape(text)}</div>'


def saved(text: str, *, good: bool) -> str:
    """What became of the verdicts."""
    return f'<div class="saved {"good" if good else "bad"}" role="status">{escape(text)}</div>'


def caption(text: str) -> str:
    """The line under the scan."""
    return f'<div class="caption">{escape(text)}</div>'


def footer(bundle: Bundle) -> str:
    """Always on the page: what it is not, and which detector speaks."""
    return (
        '<div class="footer"><b>Research use. Not a diagnostic viewer.</b>'
        f"<span>Detector {escape(bundle.name)} · {escape(bundle.bundle_id)}</span></div>"
    )
