"""Where rows were asked for by a condition: are they distributed as the real ones that meet it?

condition = mean of fidelity.shape over groups: all rows, where values were asked for, or the rows of each class, where classes were
            asked for equally often; each group against the real rows, or subjects, that hold the same values
No unit; 1 is equal. Groups that are smaller than 50 subjects in one of the tables cannot be told from chance and are left out; where
that leaves none, nothing is said. Interval and yardstick are those of the groups, put together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import Table
from validation.features import flat
from validation.marginals import shape
from validation.resampling import LEAST, too_few
from validation.score import Score

FEW = f"fewer than {LEAST} of the real or of the drawn ones hold what was asked for"


def condition(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10, given: Sequence[str] = ()) -> Score:
    """synthetic: all hold what was asked for. given: the columns of which something was asked; of where: all hold one value there."""
    tables = (train, holdout, synthetic)
    rows = pa.table({name: flat(synthetic, name) for name in given}).group_by(list(given)).aggregate([]).to_pylist()
    groups = [[t.take(_holding(t, row)) for t in tables] for row in rows]
    scores = [shape(*group, seed=seed, rare_below=rare_below) for group in groups if not too_few(*group)]
    if not scores:
        return Score("fidelity.condition", 1.0, 0.0, 1.0, 1.0, "high", FEW, {})
    value, yardstick = (float(np.mean([getattr(s, k) for s in scores])) for k in ("value", "yardstick"))
    wide = math.sqrt(sum(((s.high - s.low) / 2) ** 2 for s in scores)) / len(scores)
    details = {"columns": list(given), "groups": len(groups), "judged": len(scores)}
    return Score("fidelity.condition", value, max(value - wide, 0.0), min(value + wide, 1.0), yardstick, "high", None, details)


def said(details: Mapping[str, Any] | None) -> str:
    """Whether rows under a condition were judged, in words, from the details of this figure, None where it was not measured."""
    if not details:
        return f"not judged: {FEW}"
    groups, judged = details.get("groups"), details.get("judged")
    return "judged" if groups == judged else f"judged in {judged} of {groups} classes; in the others {FEW}"


def _holding(table: Table, row: dict) -> np.ndarray:
    """(rows,) bool: which hold these values, null being one."""
    out = np.ones(len(table), bool)
    for name, value in row.items():
        column = flat(table, name)
        same = pc.is_null(column) if value is None else pc.equal(column, pa.scalar(value, column.type)).fill_null(False)
        out &= same.to_numpy(zero_copy_only=False)
    return out
