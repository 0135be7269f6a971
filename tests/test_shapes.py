"""Tables of every shape are learned or refused in words: few rows, many columns, constants, copies, nulls nearly everywhere."""

import numpy as np
import pyarrow as pa
import pytest
from tables import patients, table

from generators.data import DataError
from generators.synthesizer import Synthesizer

QUICK = {"passes": 3}


def numbers(columns: int, rows: int) -> dict:
    return {f"n{i}": np.random.default_rng(i).normal(size=rows) for i in range(columns)}


def words(columns: int, rows: int) -> dict:
    return {f"c{i}": np.array(["a", "b", "c"])[np.random.default_rng(i).integers(0, 3, rows)] for i in range(columns)}


SHAPES = {
    "only categories": lambda: table(words(5, 600), "category"),
    "only numbers": lambda: table(numbers(5, 600), "numeric"),
    "one number": lambda: table(numbers(1, 300), "numeric"),
    "one category": lambda: table(words(1, 300), "category"),
    "101 rows": lambda: patients(101),
    "12 rows": lambda: table(numbers(2, 12) | words(1, 12), ["numeric", "numeric", "category"]),
    "60 columns": lambda: table(words(30, 400) | numbers(30, 400), ["category"] * 30 + ["numeric"] * 30),
    "all null": lambda: table({"x": pa.nulls(200, pa.int64()), "y": pa.nulls(200)}, ["numeric", "category"]),
    "constant": lambda: table({"x": np.ones(200), "y": ["a"] * 200, "z": [True] * 200}, ["numeric", "category", "boolean"]),
    "nulls nearly everywhere": lambda: table({"x": pa.array(np.arange(400.0), mask=np.arange(400) % 20 > 0), "y": numbers(1, 400)["n0"]}, "numeric"),
    "copies": lambda: table(
        {f"c{i}": words(1, 500)["c0"] for i in range(40)} | {f"n{i}": numbers(1, 500)["n0"] + i for i in range(12)}, ["category"] * 40 + ["numeric"] * 12
    ),
    "sorted": lambda: table({"t": np.arange(700), "late": np.arange(700) > 500}, ["numeric", "boolean"]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_tables_of_every_shape(shape):
    data = SHAPES[shape]()
    model = Synthesizer("gmm", **QUICK).fit(data)
    out = model.sample(500)
    out.values.validate(full=True)
    assert out.values.schema.equals(data.schema.arrow)
    assert model.curve
    assert model.parameters > 0
    for name in data.schema.arrow.names:
        assert abs(out.column(name).null_count / 500 - data.column(name).null_count / len(data)) < 0.05 or len(data) < 40  # of twelve rows no category is kept
    if shape == "constant":
        assert out.values.slice(0, 200).equals(data.values)


def test_a_wide_table_of_numbers_needs_little_memory_to_draw():
    """A covariance for each of 50,000 rows would be 1.6 GB."""
    data = table(numbers(64, 300), "numeric")
    model = Synthesizer("gmm", numbers="gaussian", passes=1).fit(data)
    before = peak()
    model.sample(20_000)
    assert peak() - before < 400


def peak() -> float:
    """MB that this process has needed at most."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize(
    ("columns", "kinds", "subject", "message"),
    [
        ({"x": np.zeros(0)}, "numeric", None, "found 0 subjects, expected at least 2"),
        ({"x": np.zeros(1)}, "numeric", None, "found 1 subjects, expected at least 2"),
        ({"s": ["a"] * 50, "x": np.arange(50)}, ["id", "numeric"], "s", "found 1 subjects, expected at least 2"),
        ({"s": [str(i) for i in range(50)]}, "id", None, "no column is learned"),
    ],
)
def test_tables_that_cannot_be_learned(columns, kinds, subject, message):
    with pytest.raises(DataError, match=message):
        Synthesizer("gmm").fit(table(columns, kinds, subject=subject))


def test_unknown_family_and_arguments():
    with pytest.raises(DataError, match="unknown family 'gmmm', expected one of gmm"):
        Synthesizer("gmmm")
    with pytest.raises(DataError, match="componentz"):
        Synthesizer("gmm", componentz=3).fit(patients(100))
