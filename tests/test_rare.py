"""Encodings hold nothing rare: values of few subjects are counted by subject, and are not in the state."""

import numpy as np
import pyarrow as pa
import pytest
from tables import decoded, fitted, table, there_and_back, told, values


def stays(subjects: int, rows: int, *, dictionary: bool = False) -> pa.Table:
    """Stays of people: `rows` rows with a rare diagnosis, spread over `subjects` of them, among 60 others."""
    person = np.concatenate([np.arange(subjects).repeat(rows // subjects), 1000 + np.arange(600) % 60])
    names = np.array(["Fabry"] * rows + ["asthma", "flu"] * 300)
    diagnosis = pa.array(names).dictionary_encode() if dictionary else pa.array(names)
    return table({"person": [f"p{p}" for p in person], "diagnosis": diagnosis}, ["id", "category"], subject="person")


@pytest.mark.parametrize("dictionary", [False, True])
def test_rare_is_counted_by_subject(dictionary):
    rare, common = fitted(stays(9, 900, dictionary=dictionary)), fitted(stays(10, 900, dictionary=dictionary))
    assert rare.columns["diagnosis"].values == ["asthma", "flu"] or set(rare.columns["diagnosis"].values) == {"asthma", "flu"}
    assert "Fabry" in common.columns["diagnosis"].values
    assert told(common, "Fabry")
    assert not told(rare, "Fabry")
    out = decoded(rare, 3000, 2.0).column("diagnosis").combine_chunks()
    assert "Fabry" not in out.to_pylist()
    assert not dictionary or "Fabry" not in out.dictionary.to_pylist()
    assert rare.columns["diagnosis"].protected == {"values kept": 2, "rare values left out": True}


def test_nothing_is_protected_with_rare_below_one():
    assert "Fabry" in fitted(stays(1, 900), rare_below=1).columns["diagnosis"].values


def test_rare_numbers_and_dates_are_not_held():
    """A lone large income, a date of birth, an odd decimal; each beside many that are common."""
    n = 500
    income = np.append(np.random.default_rng(0).choice([1000.0, 2000.0], n - 1), 123_456_789.0)
    born = np.append(np.random.default_rng(0).integers(7000, 7004, n - 1), -12_345).astype("int32")
    encoder = fitted(table({"income": income, "born": pa.array(born, pa.int32()).view(pa.date32())}, ["numeric", "datetime"]))
    assert not told(encoder, 123_456_789.0)
    assert not told(encoder, -12_345.0)
    for scale in (1.0, 1e45):
        back = decoded(encoder, 400, scale)
        assert set(values(back, "income").to_pylist()) <= {1000.0, 2000.0}
        assert {d.year for d in values(back, "born").to_pylist()} == {1989}


def test_a_continuous_column_is_held_without_one_of_its_numbers():
    x = np.random.default_rng(0).lognormal(3, 1, 2000)
    encoder = fitted(table({"x": x}, "numeric"))
    assert not any(told(encoder, float(v)) for v in [*np.sort(x)[:20], *np.sort(x)[-20:]])
    quantiles = encoder.state()["columns"]["x"]["quantiles"]
    assert not np.isin([*quantiles["low"], *quantiles["high"]], x).any()
    assert not np.isin(values(there_and_back(table({"x": x}, "numeric"))).to_numpy(), x).any()
    out = values(decoded(encoder, 3000, 1e45)).to_numpy()
    assert (x <= out.min()).sum() >= 10
    assert (x >= out.max()).sum() >= 10
