"""Does a value that only a few people hold come out?

value = how many distinct values of the synthetic table are held by some, but fewer than `rare_below`, real subjects
(train and holdout): of category and boolean columns, and of numbers that single a person out. A count; it must be 0.
A number singles out where it is written so finely that no match is a chance one: the expected number of chance matches,
rows x real rows x 10^-decimals / interquartile range, is below 1 in 100, and none is seen between train and holdout.
Coarser numbers (an age, a price, days over 365.25) are shared by strangers all the time and say nothing.
The threshold rule for small counts: "Statistical Disclosure Control", Hundepool et al., 2012, https://doi.org/10.1002/9781118348239
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import Schema, Table
from validation.features import flat, holders, labels, numbers
from validation.score import Score

CHANCE, DIGITS, MOST = 0.01, 15, 2_000


def decimals(values: np.ndarray) -> int:
    """How many decimals write all but one in a hundred of these numbers exactly; DIGITS where none do."""
    values = values[:: max(1, len(values) // MOST)]
    whole = [k for k in range(DIGITS) if (np.abs(np.round(values, k) - values) <= 1e-15 * np.abs(values)).mean() >= 0.99]
    return min(whole, default=DIGITS)


def singles_out(real: np.ndarray, rows: int, resolution: float = 0.0) -> bool:
    """Whether chance would give fewer than CHANCE equal numbers among `rows` of the same distribution.

    resolution: of the column's type, relative to its largest number (float32: 1.2e-7)
    """
    real = real[~np.isnan(real)]
    if len(real) < 4:
        return False
    spread = float(np.subtract(*np.quantile(real, [0.75, 0.25])))
    ties = 1 - len(np.unique(real)) / len(real)
    step = max(10.0 ** -decimals(real), float(resolution * np.abs(real).max()))
    return spread > 0 and ties < 0.5 and rows * len(real) * step / spread < CHANCE


def rare_values(name: str, kind: str, real: list[Table], subjects: np.ndarray, synthetic: Table, rare_below: int) -> int:
    """Distinct values of one synthetic column that are held by 1 to rare_below - 1 real subjects."""
    if kind in ("category", "boolean"):
        values, fake = pa.concat_arrays([labels(t, name) for t in real]), labels(synthetic, name)
    else:
        numeric = np.concatenate([numbers(t, name) for t in real])
        kind_of = flat(synthetic, name).type
        resolution = float(np.finfo(kind_of.to_pandas_dtype()).eps) if pa.types.is_floating(kind_of) else 0.0
        if not singles_out(numeric, len(synthetic), resolution):
            return 0
        values, fake = (pa.array(v, from_pandas=True) for v in (numeric, numbers(synthetic, name)))
    distinct, held = holders(values, subjects)
    few = distinct.filter(pa.array(held < rare_below))
    if kind in ("numeric", "datetime") and shared(few, *(numbers(t, name) for t in real)):
        return 0
    return int(pc.sum(pc.is_in(pc.unique(fake).drop_null(), value_set=few)).as_py() or 0)


def shared(few: pa.Array, train: np.ndarray, holdout: np.ndarray) -> bool:
    """Whether one of these few-held numbers is held on both sides: then strangers do share numbers."""
    return bool(np.intersect1d(np.intersect1d(train, holdout), few.to_numpy(zero_copy_only=False)).size)


def rare(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """How many rare values came out. Yardstick: 0, which is what is asked for; how many the holdout holds is in the details.

    Real rows hold rare values by their nature, so what the holdout gives is no ceiling that a synthetic table may reach.
    """
    names = [c for c in train.schema.columns if c.kind in ("category", "boolean", "numeric", "datetime") and c.name != train.schema.subject]
    real = [train, holdout]
    subjects = joint_subjects(train, holdout)
    columns = {c.name: {"kind": c.kind, "rare_values": rare_values(c.name, c.kind, real, subjects, synthetic, rare_below)} for c in names}
    control = sum(rare_values(c.name, c.kind, real, subjects, holdout, rare_below) for c in names)
    value = float(sum(c["rare_values"] for c in columns.values()))
    details = {"rare_below": rare_below, "columns": columns, "holdout": {"rows": len(holdout), "rare_values": control}}
    return Score("privacy.rare", value, value, value, 0.0, "low", None, details)


def joint_subjects(train: Table, holdout: Table) -> np.ndarray:
    """(rows of both,) whose row it is; a person with rows in both tables is counted once."""
    name = train.schema.subject
    if name is None:
        return np.arange(len(train) + len(holdout))
    both = pa.table({name: pa.concat_arrays([flat(train, name), flat(holdout, name)])})
    return Table(both, Schema(both.schema, (train.schema[name],), name)).subjects
