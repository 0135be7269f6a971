"""Encodings and protected quantiles over whatever hypothesis thinks of."""

import datetime as dt
import decimal

import numpy as np
import pyarrow as pa
import pytest
import torch
from tables import fitted, rng, table

from generators.encoding.quantiles import fit_quantiles

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def column(values, least: int = 1):
    """A pool of a few values, nulls among them, and up to 120 rows drawn from it."""
    return st.lists(st.one_of(st.none(), values), min_size=least, max_size=12).flatmap(lambda pool: st.lists(st.sampled_from(pool), min_size=1, max_size=120))


TYPES = {
    **{f"int{b}": (getattr(pa, f"int{b}")(), st.integers(-(2 ** (b - 1)), 2 ** (b - 1) - 1), "numeric") for b in (8, 16, 32, 64)},
    **{f"uint{b}": (getattr(pa, f"uint{b}")(), st.integers(0, 2**b - 1), "numeric") for b in (8, 16, 32, 64)},
    "float64": (pa.float64(), st.floats(-1e290, 1e290), "numeric"),
    "float32": (pa.float32(), st.floats(-(2.0**90), 2.0**90, width=32), "numeric"),
    "decimal": (pa.decimal128(20, 3), st.decimals(-(10**15), 10**15, places=3), "numeric"),
    "date32": (pa.date32(), st.dates(), "datetime"),
    "timestamp": (pa.timestamp("us", "Asia/Tokyo"), st.datetimes(timezones=st.just(dt.UTC)), "datetime"),
    "string": (pa.string(), st.text(max_size=8), "category"),
    "large_string": (pa.large_string(), st.text(max_size=8), "category"),
    "dictionary": (pa.dictionary(pa.int16(), pa.string()), st.text(max_size=8), "category"),
    "boolean": (pa.bool_(), st.booleans(), "boolean"),
    "decimal category": (pa.decimal128(20, 3), st.decimals(-(10**15), 10**15, places=3), "category"),
    "binary": (pa.binary(), st.binary(max_size=6), "category"),
}


@pytest.mark.parametrize("name", TYPES)
@quick
@given(data=st.data())
def test_round_trip_of_anything(name, data):
    """Type, nulls and range are kept; what ten rows hold comes back; what fewer hold never does where it is a category."""
    kind, strategy, role = TYPES[name]
    rows = data.draw(column(strategy))
    array = pa.array(rows, kind)
    source = table({"x": array}, role)
    encoder = fitted(source)
    x = encoder.encode(source, rng=rng())
    assert torch.isfinite(x).all()
    back = encoder.decode(x, rng=rng(1))
    back.values.validate(full=True)
    assert back.values.schema.equals(source.schema.arrow)
    out = back.column("x").to_pylist()
    present = [v for v in rows if v is not None]
    common = {v for v in present if present.count(v) >= 10}
    if len(present) >= 10 and (role == "numeric" or role == "datetime" or common):
        assert [v is None for v in out] == [v is None for v in rows]
        if role in ("category", "boolean"):
            assert {v for v in out if v is not None} <= common
            assert all(a == b for a, b in zip(rows, out, strict=True) if a in common)
        elif kind not in (pa.int64(), pa.uint64(), pa.decimal128(20, 3), pa.timestamp("us", "Asia/Tokyo")):  # these are exact up to 2^53
            low, high = source.column("x").drop_null().to_pylist(), [v for v in out if v is not None]
            assert min(low) <= min(high)
            assert max(high) <= max(low)
    else:
        assert set(out) == {None}
    wild = encoder.decode((torch.randn(20, x.shape[1], generator=rng(2)).double() * 1e40).clamp(-3e38, 3e38).float(), rng=rng(3))
    wild.values.validate(full=True)
    assert wild.values.schema.equals(source.schema.arrow)


@quick
@given(
    x=st.lists(st.one_of(st.floats(-1e12, 1e12), st.integers(-3, 3).map(float)), min_size=1, max_size=150),
    k=st.integers(2, 12),
    shared=st.integers(1, 6),
)
def test_quantiles_of_anything(x, k, shared):
    x = np.array(x)
    subjects = np.arange(len(x)) // shared
    total = len(np.unique(subjects))
    if total < k:
        return
    q = fit_quantiles(x, subjects, k)
    assert np.isfinite([*q.low, *q.high, *q.edges]).all()
    assert (np.diff(q.edges) > 0).all()
    assert x.min() <= q.low[0]
    assert q.high[-1] <= x.max()
    slack = 1e-9 * (np.abs(x).max() + 1)
    assert (q.low <= q.high).all()
    assert (q.high[:-1] <= q.low[1:] + slack).all()
    enough = k if total >= 2 * k else total // 2
    assert len(np.unique(subjects[x <= q.low[0] + slack])) >= enough
    assert len(np.unique(subjects[x >= q.high[-1] - slack])) >= enough
    u = q.to_unit(x, np.random.default_rng(0))
    assert ((u >= 0) & (u <= 1 + 1e-12)).all()
    exact = {v for v in np.unique(x) if len(np.unique(subjects[x == v])) >= k}
    assert exact <= set(q.low[q.low == q.high])
    back = q.from_unit(u)
    assert all(b == v for v, b in zip(x, back, strict=True) if v in exact)


@quick
@given(cents=st.lists(st.integers(-10_000, 10_000), min_size=60, max_size=150), digits=st.integers(0, 4))
def test_decimals_stay_decimals(cents, digits):
    exact = [decimal.Decimal(c).scaleb(-digits) for c in cents]
    source = table({"float": [float(v) for v in exact], "decimal": pa.array(exact, pa.decimal128(12, 6))}, "numeric")
    encoder = fitted(source)
    x = torch.randn(200, len(encoder.layout), generator=rng())
    back = encoder.decode(x, rng=rng()).values
    assert all(round(v, digits) == v for v in back["float"].to_pylist())
    assert all(v == round(v, digits) for v in back["decimal"].to_pylist())
