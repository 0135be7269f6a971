"""May it be published? Bounds on scores, and a verdict that says why.

PASS: every gate is within its bound. FAIL: a figure is past its bound. NO-VERDICT: it cannot be told (too few subjects,
fewer attacks than asked for, an attack without power, or a fresh real sample would not do better). Only PASS publishes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import privacy
import validation
from generators.data import DataError, Schema
from validation.score import Score

PASS, FAIL, NO_VERDICT = "PASS", "FAIL", "NO-VERDICT"
METRICS = {**validation.JUDGES, **privacy.JUDGES}
DEFAULTS: dict[str, dict[str, float]] = {
    "fidelity.shape": {"min": 0.85},  # chance alone costs 0.09 where 190 people are compared with 190
    "fidelity.dependence": {"min": 0.85},
    "fidelity.missingness": {"max": 0.05},
    "fidelity.detection": {"min": 0.1},
    "utility.target": {"min": 0.9},
    "privacy.copies": {"max": 0.02},
    "privacy.membership": {"max": 0.1},
    "privacy.attribute": {"max": 0.15},
    "privacy.rare": {"max": 0},
    "privacy.disclosure": {"max": 0},
}


@dataclass(frozen=True)
class Row:
    """One gate: the metric, its bound in words, the figure, and why it passed or not."""

    metric: str
    verdict: str
    bound: str
    value: float | None
    low: float | None
    high: float | None
    yardstick: float | None
    reason: str


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


def gates(schema: Schema, config: Mapping[str, Mapping[str, float] | None] | None = None) -> dict[str, dict[str, float]]:
    """The default gates that suit this schema, overridden and extended by those of the configuration; None lifts one."""
    chosen = {m: dict(b) for m, b in DEFAULTS.items() if m != "utility.target" or schema.target is not None}
    for metric, bound in (config or {}).items():
        if metric not in METRICS:
            raise DataError(f"gates: no metric {metric!r}; the metrics are {', '.join(METRICS)}")
        if metric == "utility.target" and schema.target is None and bound is not None:
            raise DataError("gates: utility.target needs a target column, and the source names none")
        if bound is None:
            chosen.pop(metric, None)
            continue
        if not isinstance(bound, Mapping) or not bound or set(bound) - {"min", "max"}:
            raise DataError(f"gates: {metric}: expected min, max or both, each a number")
        if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in bound.values()):
            raise DataError(f"gates: {metric}: expected finite numbers for {', '.join(bound)}")
        chosen[metric] = dict(bound)
    return chosen


def verdict(scores: list[Score], gates: Mapping[str, Mapping[str, float]]) -> Verdict:
    """One row for each gate, and the worst of them overall: FAIL before NO-VERDICT before PASS."""
    by_name = {s.name: s for s in scores}
    unknown = [m for m in gates if m not in METRICS and m not in by_name]
    if unknown:
        raise DataError(f"gates: no metric {unknown[0]!r}; the metrics are {', '.join(METRICS)}")
    order = [FAIL, NO_VERDICT, PASS]
    rows = sorted((judged(m, bound, by_name.get(m)) for m, bound in gates.items()), key=lambda r: order.index(r.verdict))
    return Verdict(rows[0].verdict if rows else PASS, tuple(rows))


def past(value: float, bound: Mapping[str, float]) -> bool:
    """Whether a figure is outside its bound; a figure that is no number is."""
    return not (bound.get("min", -math.inf) <= value <= bound.get("max", math.inf))


def judged(metric: str, bound: Mapping[str, float], score: Score | None) -> Row:
    """The verdict of one gate. What is past its bound fails, unless real data does no better and chance explains it."""
    words = " and ".join(f"{'at least' if side == 'min' else 'at most'} {limit:g}" for side, limit in bound.items())
    if score is None:
        return Row(metric, NO_VERDICT, words, None, None, None, None, f"{metric} was not measured")
    figures = (score.value, score.low, score.high, score.yardstick)
    said = f"{metric} is {score.value:.3g} [{score.low:.3g}, {score.high:.3g}], {words} is asked for"
    if score.power:
        return Row(metric, NO_VERDICT, words, *figures, f"{metric} cannot be told: {score.power}")
    if not math.isfinite(score.value):
        return Row(metric, NO_VERDICT, words, *figures, f"{metric} could not be computed")
    if not past(score.value, bound):
        return Row(metric, PASS, words, *figures, said)
    if score.low < score.high and score.low <= score.yardstick <= score.high:
        return Row(metric, NO_VERDICT, words, *figures, f"{said}; a fresh real sample gets {score.yardstick:.3g}, so the table is too small to tell")
    return Row(metric, FAIL, words, *figures, f"{said}; a fresh real sample gets {score.yardstick:.3g}")


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
        rows.append(Row(f"contract.{side}", FAIL if broken else PASS, "every expectation", None, None, None, None, reason))
    order = [FAIL, NO_VERDICT, PASS]
    merged = tuple(sorted((*rows, *found.rows), key=lambda r: order.index(r.verdict)))
    return Verdict(merged[0].verdict, merged)
