"""Why, why not, and what it resembles: the panels beside an answer.

Every word that comes from a bundle, a file or a reader is escaped here.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from app.panels import inline, layer, percent, words
from app.render import scan_png
from medtl.inference.neighbours import SimilarScan
from medtl.inference.prediction import FindingScore
from medtl.inference.trust import Doubt

LABELS = {1: ("with", "has it"), 0: ("without", "free of it"), None: ("unknown", "no label")}

NO_RATE = {
    "seen": "is no rate: the detector learned from this very scan, and rates hold for scans that are new to it",
    "unlike": "ranks this scan, but is no rate: rates hold for scans like those that the detector learned from",
}
"""Of scans that rates say nothing about: why, by the code of the doubt."""


def wording(score: FindingScore, found: Sequence[Doubt] = (), *, named: bool = False) -> str:
    """What the probability means, as far as scans with known labels say, and which answers stay open.

    Args:
        found: the doubts about the scan; rates of validation hold only for scans like those.
        named: begin with the finding's name, where there are several.
    """
    name = f"<b>{escape(words(score.finding))}.</b> " if named else ""
    said = [meaning(score), answer(score)]
    if why := next((NO_RATE[doubt.code] for doubt in found if doubt.code in NO_RATE), None):
        said = [f"{percent(score.probability)} {why}."]
    first, *rest = (f"{escape(each)}</p>" for each in said)
    return f'<div class="wording"><p>{name}{first}' + "".join(f"<p>{each}" for each in rest) + "</div>"


def meaning(score: FindingScore) -> str:
    """A probability in numbers of scans; where too few are known, that it cannot be taken at its word."""
    shown = percent(score.probability)
    if score.observed is None:
        return f"{shown} ranks this scan, but is no rate: too few labeled scans score alike to say how many have it."
    seen = score.observed
    low, high = (100 * share for share in seen.interval())
    about = "about" if low <= 100 * score.probability <= high else "in fact"
    return (
        f"{shown}: of 100 such scans ({_between(seen.lowest, seen.highest)}) {about} {100 * seen.share:.0f} had it in "
        f"validation; 95 % interval {low:.0f} to {high:.0f}, from {seen.count} scans."
    )


def answer(score: FindingScore) -> str:
    """Whether both answers stay open at this probability, and where they do."""
    if score.band is None:
        return "Where it is uncertain cannot be said: too few labeled scans were there to calibrate with."
    limits = score.band.limits(score.threshold)
    if limits is None:
        return "No probability is uncertain: in validation, scans with it and without it scored apart."
    kept = f"{100 - 100 * score.band.error:.0f} of 100"
    if score.decision == "uncertain":
        return f"Uncertain: from {_between(*limits)}, scans with it and scans without it score alike."
    return (
        f"Not uncertain: outside {_between(*limits)}, where scans with it and scans without it score alike. So "
        f"{kept} with it, and {kept} without, are not misjudged."
    )


def _between(low: float, high: float) -> str:
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def doubts(found: Sequence[Doubt]) -> str:
    """Why the answers may be wrong, or that nothing speaks against them."""
    if not found:
        return (
            '<section class="doubts none" aria-label="Why it may be wrong"><h3>Why it may be wrong</h3>'
            "<p>Nothing unusual about this scan. The detector can still be wrong.</p></section>"
        )
    items = "".join(f"<li>{escape(_sentence(each))}</li>" for each in found)
    return (
        '<section class="doubts" aria-label="Why it may be wrong"><h3>Why it may be wrong</h3>'
        f"<ul>{items}</ul></section>"
    )


def similar_cases(found: Sequence[SimilarScan], finding: str, *, said: Mapping[str, str] | None = None) -> str:
    """The nearest labeled scans, with what is known about one finding of each.

    Args:
        found: the nearest first.
        finding: which label to show.
        said: by scan id, what readers said about it.
    """
    head = '<section class="similar" aria-label="Similar cases"><h3>Similar cases</h3>'
    if not found:
        return f'{head}<p class="quiet">The detector keeps no labeled scans to compare with.</p></section>'
    name = words(finding)
    known = [each.labels[finding] for each in found if each.labels.get(finding) is not None]
    summary = f"{name}: {sum(known)} of the {len(known)} nearest labeled scans have it." if known else (
        f"{name}: none of the nearest scans has a label."
    )  # fmt: skip
    cards = "".join(_card(each, finding, (said or {}).get(each.scan_id, "")) for each in found)
    return (
        f'{head}<p>{escape(summary)}</p><div class="cards" role="list">{cards}</div>'
        '<p class="quiet">Alike to the detector, which need not be alike to you. All were used to train it.</p>'
        "</section>"
    )


def _card(each: SimilarScan, finding: str, said: str) -> str:
    kind, word = LABELS[each.labels.get(finding)]
    alike = f"{each.similarity:.2f} alike"
    if each.thumbnail is None:
        picture = '<span class="nothing">no picture kept</span>'
    else:
        png = scan_png(each.thumbnail.astype(np.float32) / 255)
        picture = layer(inline(png), kind="thumbnail", alt=f"A similar scan: {words(finding)} {word}, {alike}")
    readers = f'<span class="readers">{escape(said)}</span>' if said else ""
    return (
        f'<figure class="card {kind}" role="listitem" title="Scan {escape(each.scan_id)}">{picture}'
        f'<figcaption><b>{word}</b><span class="alike">{alike}</span>{readers}</figcaption></figure>'
    )


def _sentence(doubt: Doubt) -> str:
    said = doubt.sentence if doubt.finding is None else f"{words(doubt.finding)}: {doubt.sentence}"
    return f"{said[:1].upper()}{said[1:]}."
