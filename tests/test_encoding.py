"""Encodings: every awkward column comes back as its own type, decode is total, and nothing rare is held."""

import decimal
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from tables import ROWS, awkward, decoded, fitted, plain, rng, table, there_and_back, told, valid, values

from generators.data import DataError, Table
from generators.encoding.table import TableEncoder

AWKWARD = awkward()


# Round trips


@pytest.mark.parametrize("name", AWKWARD)
def test_round_trip(name):
    array, kind = AWKWARD[name]
    data = table({"x": array}, kind)
    encoder = fitted(data)
    x = encoder.encode(data, rng=rng())
    assert x.dtype == torch.float32
    assert x.shape == (ROWS, len(encoder.layout))
    assert torch.isfinite(x).all()
    assert (encoder.layout.active(x) | (x == 0)).all()
    for i in encoder.layout.discrete:
        assert set(x[:, i].tolist()) <= set(range(encoder.layout.fields[i].classes))
    back = encoder.decode(x, rng=rng(1))
    assert valid(back, data)
    assert values(back).is_null().equals(values(data).is_null())
    common = {v for v, n in zip(*[c.to_pylist() for c in pc.value_counts(plain(data)).flatten()], strict=True) if n >= 10 and v is not None}
    if kind in ("category", "boolean"):
        assert [v for v in plain(back).to_pylist() if v is not None and v not in common] == []
        assert all(a == b for a, b in zip(plain(data).to_pylist(), plain(back).to_pylist(), strict=True) if a in common)


@pytest.mark.parametrize("name", AWKWARD)
def test_decode_is_total(name):
    array, kind = AWKWARD[name]
    data = table({"x": array}, kind)
    encoder = fitted(data)
    for scale in (0.0, 1.0, 1e3, 1e45):
        assert valid(decoded(encoder, 60, scale), data)


@pytest.mark.parametrize("name", [n for n, (a, _) in AWKWARD.items() if not a.null_count])
def test_what_may_not_be_null_never_is(name):
    array, kind = AWKWARD[name]
    data = table({"x": array}, kind, nullable=False)
    encoder = fitted(data)
    for scale in (0.0, 1.0, 1e45):
        back = decoded(encoder, 60, scale)
        assert not back.schema.arrow.field("x").nullable
        assert valid(back, data)
        assert values(back).null_count == 0


@pytest.mark.parametrize(
    "name",
    [n for n, (_, k) in AWKWARD.items() if k in ("numeric", "datetime") and not n.startswith(("all null", "untyped", "uint64 above", "float16", "spikes"))],
)
def test_numbers_come_back_near_where_they_were(name):
    """Within the range of the source; in the middle of the data to a hundredth of its spread; what many hold exactly."""
    array, kind = AWKWARD[name]
    data = table({"x": array}, kind)
    before, after = numbers(data), numbers(there_and_back(data))
    assert before.min() <= after.min()
    assert after.max() <= before.max()
    each, count = np.unique(before, return_counts=True)
    for value in each[count >= 10][:20]:
        if abs(value) < 2**53:
            assert (after[before == value] == value).all()
    low, high = np.quantile(before / 4, [0.1, 0.9])
    middle = (before / 4 >= low) & (before / 4 <= high)
    assert np.abs(after / 4 - before / 4)[middle].max() <= 0.03 * (high - low)


def numbers(data: Table) -> np.ndarray:
    """Non-null values as float64, times in their own unit."""
    array = plain(data).drop_null()
    if pa.types.is_temporal(array.type):
        array = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    return np.array([float(v) for v in array.to_pylist()])


@pytest.mark.parametrize("name", ["total.cost", "two words", "naïve 患者", "_private", "", 'qu"ote', "a/b", "select"])
def test_column_names(name):
    data = table({name: [1.0, 2.0] * 50, "other": ["a", "b"] * 50}, ["numeric", "category"])
    back = there_and_back(data)
    assert valid(back, data)
    assert back.values.column(name).to_pylist() == [1.0, 2.0] * 50


def test_an_ordered_dictionary_keeps_its_order():
    stages = ["low", "mid", "high", "top", "never"]
    codes = np.random.default_rng(0).choice(4, 400, p=[0.1, 0.2, 0.3, 0.4])
    codes[0] = 4
    data = table({"x": pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), stages, ordered=True)}, "category")
    back = there_and_back(data).column("x").combine_chunks()
    assert back.type.equals(data.schema.arrow.field("x").type)
    assert back.type.ordered
    assert back.dictionary.to_pylist() == ["low", "mid", "high", "top"]  # less the rare one


def test_true_is_not_one():
    data = table({"flag": pa.array([True, False] * 50), "number": [1, 0] * 50}, ["boolean", "category"])
    back = there_and_back(data)
    assert back.values.equals(data.values)


def test_nan_is_null():
    data = table({"x": np.where(np.arange(200) % 4, np.arange(200) % 7, np.nan)}, "numeric")
    assert values(there_and_back(data)).null_count == 50


def test_two_columns_gate_their_own_numbers():
    stream = np.random.default_rng(0)
    gone = stream.random((2, 400)) < 0.3
    data = table({n: pa.array(stream.normal(size=400), mask=m) for n, m in zip("ab", gone, strict=True)}, "numeric")
    layout = fitted(data).layout
    assert [f.gate for f in layout.fields] == [None, 0, None, 2]
    back = there_and_back(data)
    for name, mask in zip("ab", gone, strict=True):
        assert back.column(name).is_null().to_numpy().tolist() == mask.tolist()


def test_declared_bounds_hold():
    data = table(
        {"x": np.random.default_rng(0).normal(0, 10, 400), "n": np.arange(400) % 50 * 5},
        "numeric",
        options={"x": {"low": -5, "high": 5.5}, "n": {"low": 12, "high": 101}},
    )
    encoder = fitted(data)
    for scale in (1.0, 5.0, 1e45):
        back = decoded(encoder, 300, scale)
        assert pc.min_max(values(back)).as_py()["min"] >= -5
        assert pc.min_max(values(back)).as_py()["max"] <= 5.5
        assert pc.min_max(values(back, "n")).as_py()["min"] >= 12
        assert pc.min_max(values(back, "n")).as_py()["max"] <= 101


@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_infinite_numbers_are_refused(infinity):
    with pytest.raises(DataError, match=r"'x': holds infinite numbers, expected finite"):
        fitted(table({"x": np.append(np.arange(99.0), infinity)}, "numeric"))


# Lattices


@pytest.mark.parametrize(
    ("array", "on_lattice"),
    [
        (np.round(np.random.default_rng(0).normal(50, 10, 900), 2), lambda v: round(v, 2) == v),
        (np.random.default_rng(0).integers(0, 10_000, 900) * 5, lambda v: v % 5 == 0),
        (np.random.default_rng(0).integers(0, 10_000, 900) * 5 + 3, lambda v: v % 5 == 3),
        (np.random.default_rng(0).integers(0, 10_000, 900) * 0.25, lambda v: v % 0.25 == 0),
        (np.random.default_rng(0).integers(0, 10_000, 900) + 0.5, lambda v: v % 1 == 0.5),
        (np.random.default_rng(0).integers(0, 10_000, 900).astype(float), float.is_integer),
        (np.random.default_rng(0).integers(-900, 900, 900).astype(np.float32) / 10, lambda v: round(v * 10, 3) % 1 == 0),
        (pa.array(np.random.default_rng(0).integers(0, 9000, 900) * 86_400_000 + 43_200_000, pa.timestamp("ms")), lambda v: (v.hour, v.minute) == (12, 0)),
        (pa.array(np.random.default_rng(0).integers(0, 9000, 900) * 900, pa.timestamp("s")), lambda v: v.minute % 15 == v.second == 0),
        (pa.array([decimal.Decimal(int(v)) / 4 for v in np.random.default_rng(0).integers(0, 9000, 900)], pa.decimal128(12, 4)), lambda v: v * 4 % 1 == 0),
    ],
    ids=["two decimals", "fives", "fives and three", "quarters", "halves", "whole floats", "float32 tenths", "noons", "quarter hours", "decimal quarters"],
)  # fmt: skip
def test_lattices(array, on_lattice):
    data = table({"x": array}, "datetime" if isinstance(array, pa.Array) and pa.types.is_timestamp(array.type) else "numeric")
    encoder = fitted(data)
    for back in (there_and_back(data), decoded(encoder, 500), decoded(encoder, 50, 1e45)):
        assert all(on_lattice(v) for v in values(back).to_pylist())


@pytest.mark.parametrize(
    "array",
    [
        np.append(np.zeros(400), 7919.0),
        np.append(np.zeros(400), 7919),
        np.append(np.full(300, 9_876_543), 1_234_567),
        np.append(np.random.default_rng(0).choice([0, 7_000_000], 300), 7_919_000),
        np.append(np.zeros(400), 79.19),
    ],
)
def test_a_lattice_gives_nobody_away(array):
    """With one odd number the greatest common step would be that number, or its distance from the others."""
    encoder = fitted(table({"x": array}, "numeric"))
    scale = encoder.columns["x"].scale
    assert (scale.origin, scale.step) in ((0, 1), (0, 7_000_000))
    assert not told(encoder, float(array[-1]))
    assert array[-1] not in values(decoded(encoder, 500, 3.0)).to_pylist()


def test_too_few_to_learn_from():
    assert values(there_and_back(table({"x": np.arange(9.0)}, "numeric"))).null_count == 9
    assert values(there_and_back(table({"x": [f"v{i}" for i in range(30)]}, "category"))).null_count == 30
    with pytest.raises(DataError, match="9 subjects, expected at least 10"):
        fitted(table({"x": np.arange(9.0)}, "numeric", nullable=False))
    with pytest.raises(DataError, match="no value is held by at least 10 subjects"):
        fitted(table({"x": [f"v{i}" for i in range(30)]}, "category", nullable=False))


def test_state_is_json_and_restores():
    columns = {n: (a, k) for n, (a, k) in AWKWARD.items() if len(a) == ROWS}
    data = table({n: a for n, (a, _) in columns.items()}, [k for _, k in columns.values()])
    encoder = fitted(data)
    again = TableEncoder.restore(json.loads(json.dumps(encoder.state())))
    assert again.layout == encoder.layout
    assert decoded(again, 200).values.equals(decoded(encoder, 200).values)
    assert torch.equal(again.encode(data, rng=rng()), encoder.encode(data, rng=rng()))


# Requests


def test_given():
    data = table(
        {"n": np.arange(300) % 30, "c": pa.array(["a", "b", None] * 100), "spike": np.where(np.arange(300) % 10, 0.0, np.arange(300))},
        ["numeric", "category", "numeric"],
    )
    encoder = fitted(data)
    given = encoder.given({"n": 7, "c": ["a", "b", None], "spike": 0}, 3)
    back = encoder.decode(given.values, rng=rng())
    assert back.values.to_pylist() == [{"n": 7, "c": c, "spike": 0.0} for c in ("a", "b", None)]
    assert given.mask.all()
    for request, message in (
        ({"m": 1}, "no column 'm'"),
        ({"c": "z"}, "cannot be met by any row"),
        ({"n": 1000}, "cannot be met by any row"),
        ({"n": None}, "cannot be met by any row"),
        ({"n": "many"}, "a str was asked for, expected a value of type int64"),
    ):
        with pytest.raises(DataError, match=message):
            encoder.given(request, 2)
    with pytest.raises(DataError, match="found numeric, expected a category or boolean"):
        encoder.classes("n")
    with pytest.raises(DataError, match="no such column"):
        encoder.classes("m")
