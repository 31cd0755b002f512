"""What the report on the reviews says, as numbers: by week, by reader, and what to read next."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, chi2, chi2_contingency, ks_2samp

from medtl.evaluation.intervals import Estimate
from medtl.review.agreement import cohen_kappa, fleiss_kappa
from medtl.review.records import StoredVerdict

Floats = npt.NDArray[np.float64]
REFERENCE_SCANS = 50
"""Scans that a week needs to be compared with, or to be compared: fewer make a distribution of chance."""
PSI_BINS = 5
COMMONEST = 3
"""Values of a respect that are told and compared; the others count as one."""
DOUBT = "doubt: "


@dataclass(frozen=True, kw_only=True)
class Week:
    """Agreement with the detector in one week: of `n` sure verdicts, those that confirm its decision."""

    begin: date
    n: int
    agreement: Estimate


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The scores of one week against those of the reference week.

    Args:
        quartiles: 25, 50 and 75 % of the probabilities.
        psi: population stability index; nan where not compared.
        psi_by_chance: what it stays below in 95 of 100 weeks without drift.
        p: of the two-sample Kolmogorov-Smirnov test, for one week by itself; nan where not compared.
        reference: whether this is the reference week.
    """

    begin: date
    n: int
    quartiles: tuple[float, float, float]
    psi: float
    psi_by_chance: float
    p: float
    reference: bool


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the scans of one week are, in one respect, against those of the reference week.

    Args:
        told: the commonest values with their shares, or median and quartiles.
        p: of a chi-squared test, for numbers of a Kolmogorov-Smirnov test, for one week by itself; nan where not
            compared.
        reference: whether this is the reference week.
    """

    begin: date
    n: int
    told: str
    p: float
    reference: bool


@dataclass(frozen=True, kw_only=True)
class Kappa:
    """Agreement between readers on one finding; `n` scans that all of them read and were sure about."""

    readers: str
    finding: str
    n: int
    kappa: float


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds a case of one reader: 25, 50 and 75 %."""

    reader: str
    n: int
    quartiles: tuple[float, float, float]


def week_of(moment: str) -> date:
    """The Monday before a moment of the store."""
    day = date.fromisoformat(moment[:10])
    return day - timedelta(days=day.weekday())


def agreement_by_week(verdicts: Iterable[StoredVerdict]) -> list[Week]:
    """How often readers confirmed what the detector said, with Wilson intervals (Wilson 1927).

    Verdicts of several readers on one scan, and on several findings of it, are counted each; the intervals take them as
    independent and are therefore somewhat too narrow where cases are read twice.
    """
    weeks: dict[date, list[bool]] = {}
    for verdict in verdicts:
        decided = {"positive": 1, "negative": 0}.get(verdict.decision)
        if verdict.label is not None and decided is not None and not verdict.adjudicates:
            weeks.setdefault(week_of(verdict.created_at), []).append(verdict.label == decided)
    found = []
    for begin, agreed in sorted(weeks.items()):
        interval = binomtest(sum(agreed), len(agreed)).proportion_ci(method="wilson")
        share = Estimate(sum(agreed) / len(agreed), float(interval.low), float(interval.high))
        found.append(Week(begin=begin, n=len(agreed), agreement=share))
    return found


def drift_by_week(scores: Iterable[tuple[str, float]]) -> list[Drift]:
    """How the detector's scores move.

    They are compared with those of the first week that has enough scans, not with the bundle's training scans: on scans
    that it learned from, a network is surer than on any others, and every hospital would seem to drift.

    Args:
        scores: (moment the scan was received, probability), of one bundle and finding.
    """
    weeks = _weeks(scores)
    first = _reference(weeks)
    found = []
    for begin, values in weeks.items():
        compared = first is not None and begin > first and len(values) >= REFERENCE_SCANS
        reference = np.array(weeks[first] if first is not None else [])
        found.append(
            Drift(
                begin=begin,
                n=len(values),
                quartiles=_quartiles(values),
                psi=stability(reference, np.array(values)) if compared else math.nan,
                psi_by_chance=stability_by_chance(len(reference), len(values)) if compared else math.nan,
                p=float(ks_2samp(reference, values).pvalue) if compared else math.nan,
                reference=begin == first,
            )
        )
    return found


def inputs_by_week(cases: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, list[Inputs]]:
    """How the scans that come in change, in each respect that is known of some.

    Args:
        cases: (moment the scan was received, its facts); `doubts` are codes with semicolons between, empty
            where there was none; without it that is not known.

    Returns:
        Weeks by respect: the facts' names, and `doubt: CODE` for each reason to doubt that some scan gave.
    """
    given = list(cases)
    codes = sorted({code for _, facts in given for code in _codes(facts)})
    pairs = [(received_at, _respects(facts, codes)) for received_at, facts in given]
    found = {}
    for name in sorted({name for _, facts in pairs for name in facts}, key=lambda name: (name.startswith(DOUBT), name)):
        known = [(at, facts[name]) for at, facts in pairs if name in facts]
        numbers = all(isinstance(value, int | float) for _, value in known)
        found[name] = _inputs(_weeks(known), _numbers_told if numbers else _shares, _ks if numbers else _chi_squared)
    return found


def _codes(facts: Mapping[str, Any]) -> set[str]:
    return {code for code in str(facts.get("doubts", "")).split("; ") if code}


def _respects(facts: Mapping[str, Any], codes: Sequence[str]) -> dict[str, Any]:
    found = {name: value for name, value in facts.items() if name != "doubts"}
    if "doubts" in facts:  # else nobody asked, as in scores of earlier versions
        found |= {f"{DOUBT}{code}": "yes" if code in _codes(facts) else "no" for code in codes}
    return found


def _inputs(
    weeks: dict[date, list[Any]], told: Callable[[list[Any]], str], p_of: Callable[[list[Any], list[Any]], float]
) -> list[Inputs]:
    first = _reference(weeks)
    return [
        Inputs(
            begin=begin,
            n=len(values),
            told=told(values),
            p=p_of(weeks[first], values) if first and begin > first and len(values) >= REFERENCE_SCANS else math.nan,
            reference=begin == first,
        )
        for begin, values in weeks.items()
    ]


def _shares(values: list[str]) -> str:
    common = Counter(values).most_common(COMMONEST)
    return ", ".join(f"{value} {count / len(values):.0%}".replace("%", " %") for value, count in common)


def _numbers_told(values: list[float]) -> str:
    low, middle, high = _quartiles(values)
    return f"median {middle:.3g} (quartiles {low:.3g} to {high:.3g})"


def _ks(reference: list[float], values: list[float]) -> float:
    return float(ks_2samp(reference, values).pvalue)


def _chi_squared(reference: list[str], values: list[str]) -> float:
    """Of the commonest values and all others together."""
    both = Counter(reference) + Counter(values)
    names = [name for name, _ in both.most_common(COMMONEST)]
    counts = [[sum(value == name for value in part) for name in names] for part in (reference, values)]
    table = np.array([[*row, len(part) - sum(row)] for row, part in zip(counts, (reference, values), strict=True)])
    table = table[:, table.sum(axis=0) > 0]
    return float(chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0


def _weeks(pairs: Iterable[tuple[str, Any]]) -> dict[date, list[Any]]:
    """Values by week, in order, of pairs with the moment first."""
    weeks: dict[date, list[Any]] = {}
    for at, value in pairs:
        weeks.setdefault(week_of(at), []).append(value)
    return dict(sorted(weeks.items()))


def _reference(weeks: Mapping[date, Sequence[Any]]) -> date | None:
    """The first week that has enough scans to compare with."""
    return next((begin for begin in weeks if len(weeks[begin]) >= REFERENCE_SCANS), None)


def stability(reference: Floats, values: Floats) -> float:
    """Population stability index: sum of (a - b) ln(a / b) over bins, which are the quintiles of the reference.

    Half a scan is added to each bin, so that an empty one does not make it infinite.
    """
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, PSI_BINS + 1)[1:-1]))
    shares = []
    for sample in (reference, values):
        counts = np.bincount(np.searchsorted(edges, sample, side="right"), minlength=len(edges) + 1) + 0.5
        shares.append(counts / counts.sum())
    return float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))


def stability_by_chance(n_reference: int, n: int) -> float:
    """The 95 % point of the index where nothing drifts: chi2(bins - 1) times (1 / n + 1 / m).

    Yurdakul 2018, "Statistical properties of population stability index". The customary limit of 0.25 does not ask how
    many scans there were: with ten bins and 50 scans a week chance alone is above it in many weeks.
    """
    return float(chi2.ppf(0.95, PSI_BINS - 1) * (1 / n_reference + 1 / n))


def kappas(verdicts: Sequence[StoredVerdict]) -> list[Kappa]:
    """Cohen's kappa of each two readers, and Fleiss' where three or more read the same scans, by finding.

    Fleiss' kappa needs equally many readers a scan: it takes the scans with the commonest number of at least three.
    """
    said: dict[str, dict[str, dict[str, int]]] = {}
    for verdict in verdicts:
        if verdict.label is not None and not verdict.adjudicates:
            said.setdefault(verdict.finding, {}).setdefault(verdict.scan_id, {})[verdict.reader] = verdict.label
    found = []
    for finding, scans in said.items():
        readers = sorted({reader for labels in scans.values() for reader in labels})
        for a, b in combinations(readers, 2):
            both = [(labels[a], labels[b]) for labels in scans.values() if a in labels and b in labels]
            if both:
                first, second = np.array(both).T
                kappa = cohen_kappa(first, second)
                found.append(Kappa(readers=f"{a} and {b}", finding=finding, n=len(both), kappa=kappa))
        sizes = [len(labels) for labels in scans.values() if len(labels) > 2]
        if sizes:
            size = max(sorted(set(sizes)), key=sizes.count)
            rows = [sum(labels.values()) for labels in scans.values() if len(labels) == size]
            counts = np.array([[size - positive, positive] for positive in rows])
            words = f"any {size} readers (Fleiss)"
            found.append(Kappa(readers=words, finding=finding, n=len(rows), kappa=fleiss_kappa(counts)))
    return found


def paces(verdicts: Iterable[StoredVerdict]) -> list[Pace]:
    """Seconds a case, of each reader; all verdicts of one act of saving are one case."""
    seconds: dict[str, dict[str, float]] = {}
    for verdict in verdicts:
        if verdict.seconds is not None:
            seconds.setdefault(verdict.reader, {})[verdict.token] = verdict.seconds
    return [
        Pace(reader=reader, n=len(saves), quartiles=_quartiles(list(saves.values())))
        for reader, saves in sorted(seconds.items())
    ]


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)
