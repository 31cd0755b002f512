"""Cases, readers and verdicts for the tests of the review store."""

import uuid
from typing import Any

from medtl.review import cases, verdicts
from medtl.review.records import NewCase, Score, Verdict
from medtl.review.store import ReviewStore
from medtl.review.users import User

PASSWORD = "correct horse battery"
A, B, C = (User(name=f"Dr {letter}", role="reader") for letter in "ABC")
LEAD = User(name="Prof L", role="lead")


def scan(name: str, probability: float = 0.7, **more: Any) -> NewCase:
    """A case with one finding, pneumonia, whose operating point is 0.5."""
    return NewCase(
        **{
            "scan_id": name,
            "sha256": name * 8,
            "path": f"/scans/{name}.dcm",
            "bundle_id": "b1",
            "scores": (score("pneumonia", probability),),
        }
        | more
    )


def score(finding: str, probability: float, threshold: float = 0.5, **more: Any) -> Score:
    """A score whose decision follows from its probability."""
    decision = "positive" if probability >= threshold else "negative"
    return Score(
        **{"finding": finding, "probability": probability, "threshold": threshold, "decision": decision} | more
    )


def token() -> str:
    """For one act of saving."""
    return uuid.uuid4().hex


def said(case_id: int, verdict: str = "agree", **more: Any) -> Verdict:
    """A verdict on pneumonia, as bundle b1 had scored it."""
    return Verdict(**{"case_id": case_id, "bundle_id": "b1", "finding": "pneumonia", "verdict": verdict} | more)


def read(store: ReviewStore, case_id: int, by: User, verdict: str = "agree", **more: Any) -> list[int]:
    """Claim a case and say something about pneumonia."""
    cases.claim(store, case_id, by=by)
    return verdicts.save(store, [said(case_id, verdict, **more)], by=by, token=token())
