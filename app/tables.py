"""The page's tables, such as the worklist. Every word that comes from outside is escaped here."""

from collections.abc import Callable, Sequence
from html import escape

from app.panels import age, percent, words
from app.priors import Other
from medtl.review.moments import days, now
from medtl.review.records import Case
from medtl.review.users import User

STATUS = {"open": "to read", "claimed": "being read", "done": "read", "adjudicate": "to decide"}

PRIORS = 5


def case_table(cases: Sequence[Case], *, by: User, told: Callable[[Case], bool]) -> str:
    """A page of the worklist.

    Args:
        by: who sees it; a lead also sees where the file lies, which may name the patient.
        told: whether he may see what the detector said of a case.
    """
    if not cases:
        return '<div class="nothing"><p>No case here.</p><p class="quiet">Change the filters, or open a scan.</p></div>'
    heads = ["Case", "Detector", "Patient", "Received", "Status", *(["File"] if by.leads else [])]
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    rows = "".join(_case_row(case, by=by, told=told(case)) for case in cases)
    return f'<table class="cases"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _case_row(case: Case, *, by: User, told: bool) -> str:
    held = case.claimed_by not in (None, by.name)
    cells = [f'<button type="button" data-case="{case.id}">Case {case.id}</button>']
    cells.append(_answer(case) if told else '<span class="quiet">hidden</span>')
    facts = case.facts
    years = facts.get("age_years")
    known = (age(float(years)) if isinstance(years, int | float) else None, facts.get("sex"), facts.get("view"))
    cells.append(escape(", ".join(str(each) for each in known if each)) or '<span class="quiet">not stated</span>')
    cells += [_received(case.received_at), _status(case, by=by)]
    if by.leads:
        cells.append(f'<span class="path" title="{escape(case.path)}"><bdi>{escape(case.path)}</bdi></span>')
    inner = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr class="{"held" if held else ""}" data-row="{case.id}">{inner}</tr>'


def _answer(case: Case) -> str:
    """The findings that are not negative, the most suspicious first; where there are none, the nearest to it."""
    ranked = sorted(case.scores, key=lambda score: -score.suspicion)
    shown = [score for score in ranked if score.decision != "negative"][:3] or ranked[:1]
    return " ".join(
        f'<span class="chip {escape(score.decision)}">{escape(words(score.finding))} '
        f"<b>{percent(score.probability)}</b></span>"
        for score in shown
    )


def _received(moment: str) -> str:
    """The day, and how long ago it was."""
    waited = days(now()) - days(moment)
    ago = "today" if waited < 1 else f"{int(waited)} day{'s' if int(waited) != 1 else ''} ago"
    return f'{escape(moment[:10])} <span class="quiet">{ago}</span>'


def _status(case: Case, *, by: User) -> str:
    if case.claimed_by is not None:
        until = escape(str(case.claimed_until)[11:16])
        who = "you" if case.claimed_by == by.name else escape(case.claimed_by)
        return f'<span class="status-claimed">{who}, until {until} UTC</span>'
    text = "read by you" if case.read and case.status == "done" else STATUS[case.status]
    return f'<span class="status-{escape(case.status)}">{text}</span>'


def prior_list(others: Sequence[Other]) -> str:
    """Other cases of the same patient, each a way to open it."""
    if not others:
        return ""
    items = "".join(
        f'<li><button type="button" data-case="{each.case.id}">Case {each.case.id}</button> {_apart(each)}</li>'
        for each in others[:PRIORS]
    )
    return f'<div class="priors"><h3>Same patient</h3><ul>{items}</ul></div>'


def _apart(other: Other) -> str:
    how = "taken" if other.dated else "received"
    if other.apart == 0:
        return f"{how} on the same day"
    count = abs(other.apart)
    return f"{how} {count} day{'s' if count != 1 else ''} {'earlier' if other.apart > 0 else 'later'}"


def table(heads: Sequence[str], rows: str) -> str:
    """A table of figures; `rows` are HTML."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    return f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
