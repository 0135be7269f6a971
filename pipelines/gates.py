"""May it be published? Bounds on scores, and a verdict that says why.

PASS: every gate is within its bound. FAIL: a figure is past its bound. NO-VERDICT: it cannot be told (too few subjects,
fewer attacks than asked for, an attack without power, or a fresh real sample would not do better). Only PASS publishes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

import privacy
import validation
from generators.data import DataError, Schema
from pipelines.words import WORDS, Words
from validation.score import Score

PASS, FAIL, NO_VERDICT = "PASS", "FAIL", "NO-VERDICT"
METRICS = {**validation.JUDGES, **privacy.JUDGES}
WORST = 3  # that are named in a reason; the report has more
ORDER = [FAIL, NO_VERDICT, PASS]  # the worst decides, and comes first
DEFAULTS: dict[str, dict[str, float]] = {
    "fidelity.shape": {"min": 0.85},  # chance alone costs 0.09 where 190 people are compared with 190
    "fidelity.dependence": {"min": 0.85},
    "fidelity.coverage": {"min": 0.7},
    "fidelity.missingness": {"max": 0.05},
    "fidelity.detection": {"min": 0.1},
    "fidelity.course": {"min": 0.8},
    "fidelity.autocorrelation": {"min": 0.85},
    "fidelity.spectrum": {"min": 0.6},
    "fidelity.crosscorrelation": {"min": 0.85},
    "fidelity.transitions": {"min": 0.8},
    "fidelity.timing": {"min": 0.8},  # chance alone costs 0.15 where 160 people are compared with 160
    "fidelity.condition": {"min": 0.8},
    "fidelity.frechet": {"max": 3},
    "fidelity.density": {"min": 0.5},
    "fidelity.agreement": {"min": 0.9},
    "utility.target": {"min": 0.9},
    "privacy.copies": {"max": 0.02},
    "privacy.membership": {"max": 0.1},
    "privacy.attribute": {"max": 0.15},
    "privacy.singling": {"max": 0.1},
    "privacy.linkability": {"max": 0.1},
    "privacy.rare": {"max": 0},
    "privacy.passages": {"max": 0},
    "privacy.disclosure": {"max": 0},
}

NEEDS = {  # kinds of columns that change from step to step, and how many of them
    "fidelity.autocorrelation": (("numeric", "datetime"), 1),
    "fidelity.spectrum": (("numeric", "datetime"), 1),
    "fidelity.crosscorrelation": (("numeric", "datetime"), 2),
    "fidelity.transitions": (("category", "boolean"), 1),
}
COLUMNS = {"privacy.singling": 2, "privacy.linkability": 4}  # learned ones that attacks on rows need


@dataclass(frozen=True)
class Row:
    """One gate: the metric, its bound in words and in numbers, why it passed or not, and the figure."""

    metric: str
    verdict: str
    bound: str
    reason: str
    min: float | None = None
    max: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    yardstick: float | None = None


@dataclass(frozen=True)
class Verdict:
    """The overall verdict and its rows, those that forbid publishing first."""

    verdict: str
    rows: tuple[Row, ...]

    @property
    def reasons(self) -> list[str]:
        """Why it may not be published, in plain words; empty for a PASS."""
        return [r.reason for r in self.rows if r.verdict != PASS]

    def to_json(self) -> dict:
        return asdict(self) | {"reasons": self.reasons}


def lacks(metric: str, schema: Schema, given: Iterable[str] = ()) -> str | None:
    """What data of this schema would need to be judged by it and has not, in words; None where it can be. given: columns under a condition."""
    if metric == "fidelity.condition":
        return None if given else "sample: {where: ...} or {balance: ...}, and the entry has neither"
    if metric == "utility.target":
        return None if schema.target is not None else "a target column, and the source names none"
    if metric in validation.OF_IMAGES:
        if schema.image is None:
            return "images, and the source has none"
        return "a label, and the source names none" if metric == "fidelity.agreement" and schema.target is None else None
    if metric == "fidelity.dependence" and schema.image and len(schema.kinds("numeric", "category", "boolean", "datetime")) < 2:
        return "two columns beside the images, and the source has fewer"
    if metric in COLUMNS and schema.time and "stride" in schema[schema.subject].options:
        return "subjects, and the source is one long series"
    if metric in COLUMNS and not (schema.image or schema.time) and (found := len(schema.kinds("numeric", "category", "boolean", "datetime"))) < COLUMNS[metric]:
        return f"{COLUMNS[metric]} or more columns that are learned, and the source has {found}"
    beside = [n for n in schema.kinds("numeric", "category", "boolean", "datetime") if n != schema.target]
    if metric == "privacy.attribute" and schema.image and not beside:
        return "a column beside the images and their label, and the source has none"
    if metric not in (*validation.OF_SERIES, *privacy.OF_SERIES):
        return None
    if schema.time is None:
        return "series, and the source is none"
    kinds, least = NEEDS.get(metric, ((), 0))
    found = len(schema.changing(*kinds))
    return f"{least} or more columns of kind {' or '.join(kinds)} that change from step to step, and the source has {found}" if found < least else None


def gates(schema: Schema, config: Mapping[str, Mapping[str, float] | None] | None = None, given: Iterable[str] = ()) -> dict[str, dict[str, float]]:
    """The default gates that suit this schema and these columns under a condition, overridden and extended by those of the configuration; None lifts one."""
    chosen = {m: dict(b) for m, b in DEFAULTS.items() if lacks(m, schema, given) is None}
    for metric, bound in (config or {}).items():
        if metric not in METRICS:
            raise DataError(f"gates: no metric {metric!r}; the metrics are {', '.join(METRICS)}")
        if bound is not None and (needed := lacks(metric, schema, given)):
            raise DataError(f"gates: {metric} needs {needed}")
        if bound is None:
            chosen.pop(metric, None)
            continue
        if not isinstance(bound, Mapping) or not bound or set(bound) - {"min", "max"}:
            raise DataError(f"gates: {metric}: expected min, max or both, each a number")
        if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in bound.values()):
            raise DataError(f"gates: {metric}: expected finite numbers for {', '.join(bound)}")
        if not WORDS[metric].count and any(not -1 <= v <= 2 for v in bound.values()):
            raise DataError(f"gates: {metric}: expected limits between -1 and 2, the figure is a share or a ratio")
        chosen[metric] = dict(bound)
    return chosen


def verdict(scores: list[Score], gates: Mapping[str, Mapping[str, float]]) -> Verdict:
    """One row for each gate, and the worst of them overall: FAIL before NO-VERDICT before PASS."""
    by_name = {s.name: s for s in scores}
    unknown = [m for m in gates if m not in METRICS and m not in by_name]
    if unknown:
        raise DataError(f"gates: no metric {unknown[0]!r}; the metrics are {', '.join(METRICS)}")
    return worst_first(judged(m, bound, by_name.get(m)) for m, bound in gates.items())


def worst_first(rows: Iterable[Row]) -> Verdict:
    """The rows in order, and the first one's verdict; PASS without any."""
    ordered = tuple(sorted(rows, key=lambda r: ORDER.index(r.verdict)))
    return Verdict(ordered[0].verdict if ordered else PASS, ordered)


def past(value: float, bound: Mapping[str, float]) -> bool:
    """Whether a figure is outside its bound; a figure that is no number is."""
    return not (bound.get("min", -math.inf) <= value <= bound.get("max", math.inf))


def figure(value: float, digits: int = 3) -> str:
    """A number in plain words: so many digits that count, no exponent; a large one as a whole number."""
    return f"{value:,.0f}" if abs(value) >= 10**digits else np.format_float_positional(value + 0.0, digits, fractional=False, trim="-")


def judged(metric: str, bound: Mapping[str, float], score: Score | None) -> Row:
    """The verdict of one gate. What is past its bound fails, unless real data does no better and chance explains it."""
    words = WORDS.get(metric, Words(metric, "Is it within its bound?"))
    asked = " and ".join(f"{'at least' if side == 'min' else 'at most'} {figure(limit, 17)}" for side, limit in bound.items())
    question = f"{metric} ({words.asks[0].lower()}{words.asks[1:]})"
    if score is None:
        return Row(metric, NO_VERDICT, asked, f"{question} was not measured", **bound)
    row = partial(Row, metric, **bound, value=score.value, low=score.low, high=score.high, yardstick=score.yardstick)
    if score.power:
        return row(NO_VERDICT, asked, f"{question} cannot be told: {score.power}")
    if not math.isfinite(score.value):
        return row(NO_VERDICT, asked, f"{question} could not be computed")
    # as many digits as show on which side of the bound it lies
    digits = next((d for d in range(3, 17) if past(float(f"{score.value:.{d}g}"), bound) == past(score.value, bound)), 17)
    span = "" if words.count else f" [{figure(score.low)}, {figure(score.high)}]"
    said = f"{metric} is {figure(score.value, digits)}{span}, {asked} is asked for"
    if not past(score.value, bound):
        return row(PASS, asked, said)
    real = "" if words.count else f"; a fresh real sample gets {figure(score.yardstick)}"
    real_no_better = score.yardstick <= score.high if score.better == "high" else score.yardstick >= score.low
    if score.low < score.high and real_no_better:
        return row(NO_VERDICT, asked, f"{said}{real}, so the table is too small to tell")
    bad = score.value > bound.get("max", math.inf) if score.better == "low" else score.value < bound.get("min", -math.inf)
    most = f" (most of all: {_named(score.details['worst'])})" if score.details.get("worst") else ""
    sure = "" if past(score.low, bound) and past(score.high, bound) else "it may be that "  # part of the interval is within
    return row(FAIL, asked, f"{said}{f': {sure}{words.wrong}{most}' if words.wrong and bad else ''}{real}")


def _named(worst: str | list[dict]) -> str:
    """What is said of the worst: itself, or the columns of the first few."""
    return worst if isinstance(worst, str) else "; ".join(" with ".join(w["columns"]) for w in worst[:WORST])


def known_metrics() -> list[str]:
    """What `gates:` may name."""
    return list(METRICS)


def with_contract(found: Verdict, contract: Mapping[str, Mapping]) -> Verdict:
    """Also what the contract said, of the source and of the synthetic table."""
    rows = []
    for side, result in contract.items():
        broken = [e for e in result["expectations"] if not e["success"]]
        said = "; ".join(f"{e['expectation']} on {e['column'] or 'the table'}{' crashed' if e['crashed'] else ''}" for e in broken[:5])
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        reason = f"the {side} table breaks its contract: {said}{more}" if broken else f"the {side} table keeps all {len(result['expectations'])} expectations"
        rows.append(Row(f"contract.{side}", FAIL if broken else PASS, "every expectation", reason))
    return worst_first((*rows, *found.rows))
