"""What leads see of teaching, as HTML: which findings are marked how often, and what came of it. Escaped here."""

import shlex
from collections.abc import Sequence
from html import escape

from app.panels import words
from app.tables import table
from app.teaching import Lesson
from medtl.review.export import FEWEST
from medtl.review.marks import RECOMMENDED, Candidate

NONE = (
    '<p class="quiet">No finding is marked yet. Open a case, write the finding\'s name under <b>To teach</b>, choose '
    "present or absent, and save. From then on all readers can mark it, on every case.</p>"
)


def candidates(found: Sequence[Candidate]) -> str:
    """How often each finding is marked, and what is missing still."""
    if not found:
        return NONE
    rows = "".join(
        f"<tr><td>{escape(words(each.finding))}</td><td>{each.present}</td><td>{each.absent}</td>"
        f"<td>{each.undecided}</td><td>{_needed(each)}</td></tr>"
        for each in found
    )
    return table(("Finding", "Present", "Absent", "Undecided", "Enough?"), rows)


def _needed(candidate: Candidate) -> str:
    with_it, without = candidate.missing
    needed = [f"{n} {word}" for n, word in ((with_it, "present"), (without, "absent")) if n]
    if needed:
        return f'<span class="needed">{" and ".join(needed)} more needed</span>'
    labeled = candidate.present + candidate.absent
    if labeled < RECOMMENDED[0]:
        return f"can be taught; {RECOMMENDED[0]} to {RECOMMENDED[1]} cases are recommended"
    if labeled > RECOMMENDED[1]:
        return "can be taught; with so many, fine-tuning may do better"
    return "can be taught"


def busy(text: str) -> str:
    """What is going on."""
    return f'<div class="status busy" role="status">{escape(text)}</div>' if text else ""


def lesson(taught: Lesson, *, reviews: str) -> str:
    """What is known of a finding that was taught, and how to use it.

    Args:
        reviews: what keeps the verdicts.
    """
    name, bundle = taught.finding, taught.bundle
    judged = bundle.training[f"taught later: {name}"]
    warned = list(bundle.caveats.get(name, ()))
    if taught.left_out:
        numbers = ", ".join(map(str, taught.left_out))
        warned.append(f"left out, for their scans can no longer be read: case {numbers}")
    caveats = "".join(f"<li>{escape(each[:1].upper() + each[1:])}.</li>" for each in warned)
    command = f"medtl serve {shlex.quote(str(taught.folder))} --reviews {shlex.quote(reviews)}"
    return (
        f'<div class="lesson" role="status"><h3>{escape(words(name))} was taught in {taught.seconds:.1f} s</h3>'
        f"<p>{escape(judged)}; operating point {bundle.thresholds[name]:.3f}. What the detector knew before is "
        f"unchanged to the bit.</p><ul>{caveats}</ul>"
        f"<p>It is in a bundle of its own. To use it, stop this page and start</p><pre>{escape(command)}</pre></div>"
    )


def rule() -> str:
    """What teaching does, and how many cases it takes."""
    return (
        f'<p class="quiet">A finding that the detector does not know gets a linear head on its embeddings, from cases '
        f"that readers marked: {FEWEST} present and {FEWEST} absent at least, {RECOMMENDED[0]} to {RECOMMENDED[1]} in "
        "all recommended.</p>"
    )
