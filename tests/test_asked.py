"""Rows that are asked for: `where:` and `balance:` from table to table, and what is said of requests that cannot be met."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tables import QUICK, awkward, learned, patients, share, table

from generators.data import DataError
from generators.synthesizer import Synthesizer


@pytest.fixture(scope="module")
def model():
    return learned()[1]


def test_where(model):
    source = learned()[0]
    day = source.column("seen")[0].as_py()
    for where in (
        {"ward": "west"},
        {"died": None},
        {"died": True, "age": 40},
        {"gain": 0.0},
        {"dose": 12.34},
        {"lab": None},
        {"seen": day},
        {"ward": "north", "lab": 0.5},
    ):
        out = model.sample(300, where=where)
        out.values.validate(full=True)
        for name, value in where.items():
            assert set(out.column(name).to_pylist()) == {value}


def test_a_condition_moves_what_depends_on_it():
    """Who died is commoner in the west; a dose is higher there."""
    source = patients(3000)
    model = Synthesizer("gmm").fit(source)
    west, north = (model.sample(3000, where={"ward": w}) for w in ("west", "north"))
    real = [pc.mean(source.values.filter(pc.equal(source.column("ward"), w))["dose"]).as_py() for w in ("west", "north")]
    assert pc.mean(west.column("dose")).as_py() == pytest.approx(real[0], rel=0.15)
    assert pc.mean(north.column("dose")).as_py() == pytest.approx(real[1], rel=0.15)
    assert share(west.column("died"), True) > share(north.column("died"), True) + 0.1


def test_balance_is_exact(model):
    for rows in (300, 301, 1000):
        counts = pc.value_counts(model.sample(rows, balance="ward").column("ward")).to_pylist()
        assert sorted(c["counts"] for c in counts) == sorted(rows // 3 + (i < rows % 3) for i in range(3))
    out = model.sample(200, balance="died", where={"ward": "south"})
    assert share(out.column("died"), True) == 0.5
    assert share(out.column("ward"), "south") == 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"where": {"wards": "west"}}, "no column 'wards'"),
        ({"where": {"ward": "east"}}, "'ward': the value asked for cannot be met by any row"),
        ({"where": {"age": 4000}}, "'age': the value asked for cannot be met by any row"),
        ({"where": {"age": "old"}}, "'age': a str was asked for, expected a value of type int64"),
        ({"where": {"age": None}}, "'age': the value asked for cannot be met"),
        ({"where": {"number": 7}}, "'number': kind id is invented anew"),
        ({"balance": "age"}, "found numeric, expected a category or boolean column"),
        ({"balance": "nothing"}, "found no such column"),
        ({"balance": "ward", "where": {"ward": "west"}}, "expected only one of the two"),
    ],
)
def test_requests_that_cannot_be_met(model, request_, message):
    for call in (model.check, lambda **r: model.sample(10, **r)):
        with pytest.raises(DataError, match=message):
            call(**request_)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"rows": -3}, "rows: found -3, expected a whole number"),
        ({"rows": 2.5}, "rows: found 2.5"),
        ({"rows": "x"}, "rows: found 'x'"),
        ({"where": {"ward": ["west"]}}, "where: column 'ward': found a list, expected one value"),
        ({"where": "ward"}, "where: found a str, expected a mapping"),
        ({"balance": ["ward"]}, "balance: found a list, expected the name of a column"),
    ],
)
def test_requests_that_are_none(model, request_, message):
    with pytest.raises(DataError, match=message):
        model.sample(**({"rows": 10} | request_))


def test_nan_is_null_and_asked_for_in_vain_where_there_is_none():
    data = table({"x": np.random.default_rng(0).normal(size=300), "g": ["a", "b"] * 150}, ["numeric", "category"])
    with pytest.raises(DataError, match="'x': the value asked for cannot be met"):
        Synthesizer("gmm", **QUICK).fit(data).sample(5, where={"x": float("nan")})


def test_values_that_never_meet():
    data = table({"a": ["x", "y"] * 200, "b": ["x", "y"] * 200}, "category")
    model = Synthesizer("gmm").fit(data)
    model.check(where={"a": "x", "b": "x"})
    with pytest.raises(DataError, match="where/balance on a, b: 0 of 12 rows can be as asked"):
        model.check(where={"a": "x", "b": "y"}, rows=12)


def test_a_number_that_cannot_be_met_comes_with_those_that_can(model):
    with pytest.raises(DataError, match=r"'age': .*expected .*a value from \d+ to \d+, .*at least 10 subjects hold"):
        model.check(where={"age": 4000})


@pytest.mark.parametrize(
    "name",
    [
        "dictionary of numbers",
        "date32",
        "date64",
        "decimal with negatives",
        "moments timestamp[us, tz=Europe/Berlin]",
        "midnights timestamp[ns]",
        "float32 with nulls",
    ],
)
def test_where_on_numbers_of_every_type(name):
    array, kind = awkward()[name]
    data = table({"x": array, "group": ["a", "b"] * 200}, [kind, "category"])
    values = data.column("x").drop_null().combine_chunks()
    values = values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values
    middle = values.take(pc.sort_indices(values))[len(values) // 2].as_py()
    out = Synthesizer("gmm", **QUICK).fit(data).sample(50, where={"x": middle})
    out.values.validate(full=True)
    assert out.values.schema.equals(data.schema.arrow)
    assert set(out.column("x").to_pylist()) == {middle}
