"""Judges of series: four-step examples by hand, order (real before good before noise), and planted leaks, by subject."""

import json
from dataclasses import replace

import longitudinal
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from generators.data import DataError, Table
from pipelines import read
from pipelines.gates import DEFAULTS, METRICS, gates, past
from pipelines.series import by_calendar
from validation import OF_SERIES
from validation.series import autocorrelations
from validation.summary import Summary


def put(data: Table, name: str, values) -> Table:
    at = data.values.schema.get_field_index(name)
    field = data.values.schema.field(at)
    return replace(data, values=data.values.set_column(at, field, pa.array(values).cast(field.type)))


def renamed(data: Table, first: int = 100_000) -> Table:
    """The same series of other people."""
    return put(data, "who", data.subjects + first)


def shuffled(data: Table, seed: int = 0) -> Table:
    """Each marker at another step of anybody's."""
    order = np.random.default_rng(seed).permutation(len(data))
    return put(data, "marker", data.column("marker").take(pa.array(order)).combine_chunks())


def by_hand() -> Table:
    columns = {"who": [1, 1, 1, 1, 2, 2, 3], "when": [0, 1, 2, 4, 0, 3, 5], "x": [1.0, 3.0, None, 5.0, 2.0, 2.0, 7.0], "w": ["a", "a", "b", "a", "b", "b", "c"]}
    return longitudinal.of(columns | {"sex": ["f"] * 4 + ["m"] * 2 + ["f"]}, {"w": "category", "sex": "category"}, static=("sex",))


def test_summaries_by_hand():
    data = by_hand()
    figures = [f"x: {what}" for what in ("mean", "first", "last", "least", "most", "mean move", "most move", "missing", "crossings")]
    rows = Summary(dict.fromkeys([*figures, "when: steps", "when: distance", "w: changes"], 1e-9)).table(data)
    found = {name: rows.column(name).to_pylist() for name in rows.schema.arrow.names}
    assert found["sex"] == ["f", "m", "f"]
    assert found["when: steps"] == [4, 2, 1] and found["when: distance"] == pytest.approx([4 / 3, 3, None], nan_ok=True)
    assert found["x: mean"] == [3, 2, 7] and found["x: first"] == [1, 2, 7] and found["x: last"] == [5, 2, 7]
    assert found["x: mean move"] == [2, 0, None] and found["x: most move"] == [2, 0, None]
    assert found["x: missing"] == [0.25, 0, 0] and found["w: changes"] == pytest.approx([2 / 3, 0, None])
    assert found["w: first"] == ["a", "b", "c"] and found["w: last"] == ["a", "b", "c"] and found["w: most frequent"] == ["a", "b", "c"]


def test_what_holds_only_nearly_is_rounded_away():
    data = longitudinal.signals()
    see = Summary.of(data)
    exact, nearly = (see.table(put(data, "x", data.column("x").to_numpy() + shift)).column("x: mean").to_pylist() for shift in (0, 1e-7))
    assert exact == nearly


def test_autocorrelations_by_hand():
    found = autocorrelations(longitudinal.of({"who": [1] * 6, "when": range(6), "x": [1.0, -1, 1, -1, 1, -1]}, {}), "x")[0]
    assert found[:2] == pytest.approx([-1, 1]) and np.isnan(found[4:]).all()


@pytest.mark.parametrize("metric", [*OF_SERIES, "fidelity.detection", "fidelity.coverage", "utility.target"])
def test_real_is_better_than_noise(metric):
    if metric == "fidelity.spectrum":  # of longer series
        train, holdout, fresh = (longitudinal.signals(n, 40, s) for n, s in ((300, 0), (200, 1), (300, 2)))
        good, rough = (
            METRICS[metric](train, holdout, renamed(t)) for t in (fresh, put(fresh, "x", fresh.column("x").to_numpy() + 0.3 * np.sin(np.arange(12_000) ** 2)))
        )
        assert good.value > 0.9 and rough.value < 0.5
        return
    train, holdout, fresh = (longitudinal.visits(n, s) for n, s in ((300, 0), (200, 1), (300, 2)))
    bound = DEFAULTS[metric]
    real = METRICS[metric](train, holdout, renamed(fresh))
    assert not past(real.value, bound), real
    if metric == "fidelity.timing":
        bad = put(fresh, "when", fresh.column("when").to_numpy() ** 2)
    elif metric == "fidelity.course":
        bad = put(fresh, "marker", pc.subtract(fresh.column("marker"), fresh.column("when")).combine_chunks())
    elif metric == "fidelity.crosscorrelation":  # one number alone: no gate asks
        assert real.value == 1 and metric not in gates(train.schema)
        return
    elif metric == "fidelity.transitions":
        bad = put(fresh, "stage", np.random.default_rng(0).choice(["late", "early"], len(fresh)))
    else:
        bad = shuffled(fresh) if metric != "utility.target" else put(fresh, "sick", np.random.default_rng(0).random(300)[fresh.subjects] < 0.4)
    noise = METRICS[metric](train, holdout, renamed(bad))
    assert noise.value < real.value - 0.05 and 0 <= noise.low <= noise.value <= noise.high


@pytest.mark.parametrize("metric", ["fidelity.spectrum", "fidelity.autocorrelation"])
@pytest.mark.parametrize("still", [1.0, 0.9])
def test_series_that_do_not_move_are_not_like_series_that_do(metric, still):
    """All of them, or nine in ten; of those that move as many are alike."""
    train, holdout, fresh = (longitudinal.signals(200, 40, s) for s in (0, 1, 2))
    x = fresh.column("x").to_numpy()
    stopped = put(fresh, "x", np.where(fresh.subjects < 200 * still, 0.0, x))
    score = METRICS[metric](train, holdout, renamed(stopped))
    assert score.value <= 0.02 if still == 1 else 0.1 < score.value < 0.25


def test_cross_correlation_sees_columns_that_no_longer_go_together():
    def two(seed):
        data = longitudinal.signals(seed=seed)
        x = data.column("x").to_numpy()
        both = data.values.append_column("y", pa.array(np.roll(x, 1) + np.random.default_rng(seed).normal(0, 0.1, len(x))))
        return longitudinal.of({n: both.column(n) for n in both.column_names}, {"label": "category"}, static=("label",))

    train, holdout, fresh = two(0), two(1), two(2)
    good = METRICS["fidelity.crosscorrelation"](train, holdout, fresh)
    apart = METRICS["fidelity.crosscorrelation"](train, holdout, put(fresh, "y", np.random.default_rng(5).permutation(fresh.column("y").to_numpy())))
    assert good.value > 0.9 > apart.value + 0.15


def test_a_chain_that_runs_backwards_is_not_like_one_that_runs_on():
    """Nine steps in ten stay; a, b, c, a against a, c, b, a, every value as frequent, and kept as long, in both."""

    def chain(people: int, seed: int, step: int) -> Table:
        rng = np.random.default_rng(seed)
        value = (rng.integers(0, 3, (people, 1)) + step * np.cumsum(rng.random((people, 20)) < 0.1, 1)) % 3
        who, when = np.repeat(np.arange(people), 20), np.tile(np.arange(20), people)
        return longitudinal.of({"who": who, "when": when, "w": np.array(list("abc"))[value.reshape(-1)]}, {"w": "category"})

    train, holdout, fresh, back = chain(200, 0, 1), chain(150, 1, 1), chain(200, 2, 1), chain(200, 3, 2)
    judge, bound = METRICS["fidelity.transitions"], DEFAULTS["fidelity.transitions"]
    assert judge(train, holdout, fresh).value > 0.9 and not past(judge(train, holdout, fresh).value, bound)
    assert judge(train, holdout, back).value < 0.55 and judge(train, holdout, back).yardstick > 0.9
    assert {m for m in gates(train.schema) if m in OF_SERIES} == {"fidelity.course", "fidelity.transitions", "fidelity.timing"}
    with pytest.raises(DataError, match=r"fidelity\.spectrum needs 1 or more columns of kind numeric or datetime that change.*has 0"):
        gates(train.schema, {"fidelity.spectrum": {"min": 0.5}})


@pytest.mark.parametrize("seed", range(2))
def test_copied_patients_are_caught_and_fresh_ones_are_not(seed):
    """The training series under other names, all of them or every fifth."""
    train, holdout, fresh = (longitudinal.visits(n, 10 * seed + s) for n, s in ((400, 0), (300, 1), (400, 2)))
    whole = METRICS["privacy.copies"](train, holdout, renamed(train))
    some = Table.of(
        pa.concat_tables([renamed(train).take(train.subjects % 5 == 0).values, renamed(fresh, 10**6).take(fresh.subjects % 5 > 0).values]), train.schema
    )
    part = METRICS["privacy.copies"](train, holdout, some)
    clean = METRICS["privacy.copies"](train, holdout, renamed(fresh))
    bound = DEFAULTS["privacy.copies"]
    assert past(whole.value, bound) and past(part.value, bound) and not past(clean.value, bound)
    membership = DEFAULTS["privacy.membership"]
    assert past(METRICS["privacy.membership"](train, holdout, renamed(train)).value, membership)
    assert not past(METRICS["privacy.membership"](train, holdout, renamed(fresh)).value, membership)


def test_a_rare_event_is_caught():
    train, holdout, fresh = (longitudinal.visits(n, s) for n, s in ((300, 0), (200, 1), (300, 2)))
    words = np.array(train.column("stage").to_pylist(), dtype=object)
    words[train.subjects == 7] = "transplanted twice"
    told = np.array(fresh.column("stage").to_pylist(), dtype=object)
    told[fresh.subjects == 3] = "transplanted twice"
    assert METRICS["privacy.rare"](put(train, "stage", words), holdout, renamed(put(fresh, "stage", told))).value >= 1
    assert METRICS["privacy.rare"](put(train, "stage", words), holdout, renamed(fresh)).value == 0


def wandering(seed: int, rows: int = 6000, stride: int = 1) -> list[Table]:
    """(train, holdout) windows of ten rows of two numbers that forget what they were."""
    stream, x = np.random.default_rng(seed), np.zeros((rows, 2))
    for i in range(1, rows):
        x[i] = 0.8 * x[i - 1] + stream.normal(size=2)
    return by_calendar(read(pd.DataFrame(x, columns=["a", "b"]), window=10, stride=stride), 0.4, 10, stride)


@pytest.mark.parametrize("stride", [1, 10])
def test_windows_that_overlap_are_no_strangers_to_each_other(stride):
    """A series that never saw the source is nobody's, and the source's own windows are."""
    judge, found = METRICS["privacy.membership"], []
    for seed in range(4):
        train, holdout = wandering(seed, stride=stride)
        fresh = judge(train, holdout, wandering(seed + 50, stride=stride)[0], seed=seed)
        assert fresh.power is None
        found.append(fresh.value)
    assert np.mean(found) < 0.08 and judge(train, holdout, train).value > 0.9
    short = wandering(0, 1500, stride)
    assert "windows that do not overlap, 100 are needed" in judge(*short, short[0]).power


def test_every_judge_takes_series_and_says_nothing_of_a_person():
    train, holdout, fresh = (longitudinal.visits(n, s) for n, s in ((200, 0), (150, 1), (200, 2)))
    for metric in gates(train.schema):
        first, again = (json.dumps(METRICS[metric](train, holdout, renamed(fresh), seed=3).to_json(), allow_nan=False) for _ in range(2))
        assert first == again


def test_odd_series_are_judged():
    """One number that never moves, one that is never there, a category of one word, series of one step."""
    n = 120
    lengths = np.where(np.arange(n) % 3 == 0, 1, 3)
    who = np.repeat(np.arange(n), lengths)
    when = np.arange(len(who)) - (np.cumsum(lengths) - lengths)[who]
    rng = np.random.default_rng(0)
    columns = {
        "who": who, "when": when, "still": np.ones(len(who)), "gone": pa.nulls(len(who), pa.float64()), "word": ["x"] * len(who),
        "x": rng.normal(size=len(who)), "flag": rng.random(len(who)) < 0.5,
    }  # fmt: skip
    data = longitudinal.of(columns, {"word": "category", "flag": "boolean"}, static=("word",))
    for metric in gates(data.schema):
        json.dumps(METRICS[metric](data, data, renamed(data)).to_json(), allow_nan=False)
