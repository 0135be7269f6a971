"""A Score is a number that a judge stands behind: never without an interval and a yardstick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Score:
    """What one judge measured.

    name:       group.metric, as it is written under `gates:` (`fidelity.shape`)
    value:      the figure for the synthetic table
    low, high:  its 95 % interval
    yardstick:  what the holdout itself scores in place of the synthetic table: the ceiling set by sampling noise
                (privacy.rare has none, and 0 stands there: real rows are full of rare values, and none may come out)
    better:     "high" or "low": which way is good
    power:      why the figure cannot be trusted (too few rows, a positive control that was missed), or None
    details:    aggregates for the report (by column, by attack); never a value of one record
    """

    name: str
    value: float
    low: float
    high: float
    yardstick: float
    better: str = "high"
    power: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict:
        return asdict(self)
