"""Does a value that should have been invented belong to a real person?

value = how many distinct values of id, pii and text columns of the synthetic table are in the same column of the real
one (train and holdout). A count, and the only right one is 0. It is a census, so low = value = high.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from generators.data import Table
from validation.features import flat
from validation.score import Score


def shared(name: str, synthetic: Table, *real: Table) -> int:
    """Distinct values of a column of the synthetic table that one of the real tables holds too; nulls apart."""
    ours = pc.unique(flat(synthetic, name)).drop_null()
    theirs = pa.concat_arrays([flat(t, name).cast(ours.type) for t in real])
    return int(pc.sum(pc.is_in(ours, value_set=theirs)).as_py() or 0)


def disclosure(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """How many real identifiers, names or texts came out. Yardstick: what the holdout shares with train."""
    names = train.schema.kinds("id", "pii", "text")
    columns = {n: {"kind": train.schema[n].kind, "real_values": shared(n, synthetic, train, holdout)} for n in names}
    value = float(sum(c["real_values"] for c in columns.values()))
    control = float(sum(shared(n, holdout, train) for n in names))
    return Score("privacy.disclosure", value, value, value, control, "low", None, {"columns": columns})
