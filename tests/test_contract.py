"""The contract: it holds for the source, sees what is broken, and stores nothing raw."""

import datetime
import json
import socket

import numpy as np
import pyarrow as pa
import pytest

from generators.data import Column, DataError, Schema, Table
from privacy.disclosure import detect
from validation import contract


def table(n: int = 2000, seed: int = 0, **changed) -> Table:
    rng = np.random.default_rng(seed)
    values = {
        "who": pa.array(rng.permutation(n) + 10**6),
        "age": pa.array(rng.integers(18, 90, n), pa.int16(), mask=rng.random(n) < 0.1),
        "charges": rng.lognormal(8, 1, n).round(2),
        "diagnosis": pa.array([*rng.choice(["Sepsis", "Stroke", "Asthma"], n - 1), "Kuru"]).dictionary_encode(),
        "dead": pa.array(rng.random(n) < 0.2, mask=rng.random(n) < 0.02),
        "day": pa.array((18000 + rng.integers(0, 900, n)).astype("int32"), pa.date32()),
        "seen": pa.array(1_600_000_000 + rng.integers(0, 10**7, n), pa.timestamp("s", "Europe/Berlin")),
        "price": pa.array(rng.integers(100, 9999, n)).cast(pa.decimal128(21, 2)),
        "nothing": pa.nulls(n, pa.float64()),
        "d.o t é": rng.integers(0, 50, n),
    }
    t = pa.table({**values, **changed})
    return Table.of(t, Schema(t.schema, detect(t, {"diagnosis": {"kind": "category"}})))


@pytest.fixture(scope="module")
def suite():
    return contract.infer(table(), 10)


def failed(result: dict) -> list[tuple]:
    return [(e["expectation"], e["column"]) for e in result["expectations"] if not e["success"]]


def test_it_holds_for_the_source_and_a_fresh_sample_of_it(suite):
    for t in (table(), table(500, seed=3)):
        result = contract.check(t, suite)
        assert failed(result) == [] and result["success"] and result["rows"] == len(t)


def test_small_tables_with_few_people_hold_too():
    for seed in range(3):
        t = table(150, seed)
        small = contract.infer(t.take(np.arange(110)), 10)
        assert failed(contract.check(t.take(np.arange(110, 150)), small)) == []


BROKEN = [
    ({"age": pa.array([50] * 2000, pa.int64())}, ("expect_column_values_to_be_of_type", "age")),
    ({"age": pa.array([150] * 2000, pa.int16())}, ("expect_column_values_to_be_between", "age")),
    ({"age": pa.array([None, *[40] * 4] * 400, pa.int16())}, ("expect_column_values_to_not_be_null", "age")),
    ({"charges": -np.ones(2000)}, ("expect_column_values_to_be_between", "charges")),
    ({"diagnosis": pa.array(["Sepsis", "Plague"] * 1000).dictionary_encode()}, ("expect_column_values_to_be_in_set", "diagnosis")),
    ({"nothing": np.ones(2000)}, ("expect_column_values_to_be_null", "nothing")),
    ({"day": pa.array([datetime.date(1900, 1, 1)] * 2000)}, ("expect_column_values_to_be_between", "day")),
    ({"seen": pa.array([0] * 2000, pa.timestamp("s", "Europe/Berlin"))}, ("expect_column_values_to_be_between", "seen")),
    ({"who": pa.array([10**6, 10**6 + 1] * 1000)}, ("expect_column_values_to_be_unique", "who")),
    ({"extra": np.ones(2000)}, ("expect_table_columns_to_match_ordered_list", None)),
]


@pytest.mark.parametrize(("changed", "what"), BROKEN, ids=[f"{c} {e[7:]}" for _, (e, c) in BROKEN])
def test_it_sees_what_is_broken(suite, changed, what):
    result = contract.check(table(**changed), suite)
    assert not result["success"] and what in failed(result)


def test_nothing_raw_is_stored(suite):
    text = json.dumps(suite) + json.dumps(contract.check(table(), suite))
    t = table()
    assert "Kuru" not in text and "Sepsis" in text
    for name in ("charges", "age", "price"):
        bounds = next(e["expect_column_values_to_be_between"] for e in suite if e.get("expect_column_values_to_be_between", {}).get("column") == name)
        real = np.sort([float(v) for v in t.column(name).to_pylist() if v is not None])
        inside = (real >= bounds["min_value"]).sum(), (real <= bounds["max_value"]).sum()
        assert min(len(real) - inside[0], len(real) - inside[1]) < 10
        assert bounds["max_value"] != real[-1] or (real == real[-1]).sum() >= 10
    assert str(max(t.column("who").to_pylist())) not in text


def test_a_value_of_one_person_with_many_rows_is_rare():
    t = pa.table({"who": np.repeat(np.arange(100), 20), "x": np.repeat(["a", "b", "kuru", *["c"] * 97], 20)})
    t = Table.of(t, Schema(t.schema, (Column("who", "id"), Column("x", "category")), "who"))
    suite = contract.infer(t, 10)
    assert [e["expect_column_values_to_be_in_set"]["value_set"] for e in suite if "expect_column_values_to_be_in_set" in e] == [["c"]]
    assert contract.check(t, suite)["success"]


def test_very_many_values_promise_no_set():
    t = pa.table({"code": [f"c{i}" for i in range(contract.MOST_ALLOWED + 1)] * 12, "flag": ["a", "b"] * (6 * contract.MOST_ALLOWED + 6)})
    suite = contract.infer(Table.of(t, Schema(t.schema, (Column("code", "category"), Column("flag", "category")))), 10)
    assert [e["expect_column_values_to_be_in_set"]["column"] for e in suite if "expect_column_values_to_be_in_set" in e] == ["flag"]


WRITTEN = [
    ({"expect_column_values_to_be_between": {"column": "age", "min_value": 0, "max_value": 120}}, True),
    ({"expect_column_values_to_be_between": {"column": "age", "min_value": 60}}, False),
    ({"expect_column_values_to_be_between": {"column": "seen", "min_value": "2020-01-01", "max_value": "2021-12-31"}}, True),
    ({"expect_column_values_to_be_between": {"column": "day", "max_value": "2000-01-01"}}, False),
    ({"expect_column_values_to_be_of_type": {"column": "price", "type_": "decimal128(21, 2)"}}, True),
    ({"expect_column_values_to_be_of_type": {"column": "price", "type_": "double"}}, False),
    ({"expect_column_mean_to_be_between": {"column": "age", "min_value": 40, "max_value": 70}}, True),
    ({"expect_table_row_count_to_be_between": {"min_value": 3000}}, False),
    ({"expect_compound_columns_to_be_unique": {"column_list": ["age", "dead"]}}, False),
    ({"expect_column_pair_values_a_to_be_greater_than_b": {"column_A": "who", "column_B": "age", "ignore_row_if": "either_value_is_missing"}}, True),
    ({"expect_column_values_to_match_regex": {"column": "diagnosis", "regex": "^[A-Z]"}}, True),
    ({"expect_column_values_to_be_between": {"column": "d.o t é", "min_value": 0}}, True),
    ({"expect_column_values_to_not_be_null": {"column": "no such column"}}, False),
    ({"expect_column_values_to_be_between": {"column": "diagnosis", "min_value": 0}}, False),
]


@pytest.mark.parametrize("batch", [10**6, 700])
def test_what_users_write(batch, monkeypatch):
    monkeypatch.setattr(contract, "BATCH", batch)
    result = contract.check(table(), [item for item, _ in WRITTEN])
    assert [e["success"] for e in result["expectations"]] == [holds for _, holds in WRITTEN]
    assert [e["crashed"] for e in result["expectations"]][-2:] == [True, True] and result["batches"] == (1 if batch > 2000 else 3)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"expect_column_values_to_be_betwixt": {"column": "age"}}, "no expectation of Great Expectations"),
        ({"expect_column_values_to_be_between": {"column": "age", "least": 3}}, "wrong or missing arguments"),
        ({"expect_column_values_to_be_between": {"min_value": 3}}, "wrong or missing arguments: column"),
        ({"expect_column_values_to_be_of_type": {"column": "age"}}, "wrong or missing arguments"),
    ],
)
def test_what_users_write_wrongly(item, words):
    with pytest.raises(DataError, match=words):
        contract.check(table(200), [item])


def test_it_is_quiet_and_calls_nobody(suite, monkeypatch, capfd, tmp_path):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was attempted")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    contract.check(table(200), suite)
    assert capfd.readouterr() == ("", "") and list(tmp_path.iterdir()) == []
