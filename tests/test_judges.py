"""Judges against hand calculations, against SDMetrics, by order (real < good < noise), and on what they may say."""

import json
import math
import warnings

import longitudinal
import numpy as np
import planted
import pyarrow as pa
import pytest

from generators.data import DataError
from pipelines.gates import METRICS, gates
from validation import JUDGES, OF_IMAGES, OF_SERIES
from validation.dependence import Trends, correlations, dependence
from validation.detection import hard
from validation.features import NULL, RARE, Features, holders
from validation.histograms import bars, edges, extremes
from validation.marginals import ks, shape, tv
from validation.missingness import missingness, together
from validation.resampling import auc, looked_at, sample, split, weights


def ones(*lengths):
    return [np.ones(n) for n in lengths]


def test_ks_by_hand():
    """F and G are {1,2,3,4} and {3,4,5,6}: apart by 1/2 at 2; a null is not counted; a weight of 0 removes a row."""
    real, other = np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6, np.nan])
    assert ks(real, other)(*ones(4, 5)) == 0.5
    assert ks(real, other)(np.array([0.0, 0, 1, 1]), np.array([1.0, 1, 0, 0, 1])) == 0
    assert ks(real, np.array([np.nan]))(*ones(4, 1)) == 1


def test_tv_by_hand():
    """(1/2, 1/4, null 1/4) against (1/4, 3/4, 0): half the sum of 1/4 + 1/2 + 1/4."""
    assert tv(pa.array(["a", "a", "b", None]), pa.array(["a", "b", "b", "b"]))(*ones(4, 4)) == 0.5


def test_of_very_many_values_the_rare_ones_are_compared_in_groups():
    """20,000 rows of 30,000 values: a fresh sample is not set apart by chance, and one without the commonest values is."""
    rng, share = np.random.default_rng(0), 1 / (20 + np.arange(30_000))
    real, fresh, other = (
        pa.array([f"v{v}" for v in rng.choice(len(p), 20_000, p=p / p.sum())]) for p in (share, share, np.where(np.arange(30_000) < 100, 0, share))
    )
    assert tv(real, fresh)(*ones(20_000, 20_000)) < 0.1
    lost = share[:100].sum() / share.sum()
    assert tv(real, other)(*ones(20_000, 20_000)) == pytest.approx(lost, abs=0.1)


def test_auc_by_hand():
    """Positives .9 and .4 against negatives .4 and .1: three pairs won and one tied of four."""
    area = auc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([1, 1, 0, 0]))
    assert area() == 0.875
    assert area(np.array([0.0, 1, 1, 0])) == 0.5
    assert math.isnan(area(np.array([1.0, 1, 0, 0])))


def test_correlation_by_hand_leaves_nulls_out():
    values = np.array([[1.0, 2, 1], [2, 4, 5], [3, 7, 5], [np.nan, 1, 5]])
    r = correlations(values, np.ones(4))
    assert r[0, 1] == pytest.approx(np.corrcoef([1, 2, 3], [2, 4, 7])[0, 1])
    assert correlations(values, np.array([1.0, 1, 0, 1]))[0, 1] == pytest.approx(1)


def test_missingness_by_hand():
    """Half of x, half of y, never together, against always together: the pair differs by 1/2 and no column does."""
    kinds = {"x": "numeric", "y": "numeric"}
    real = planted.table({"x": pa.array([1.0, 2, None, None]), "y": pa.array([None, None, 1.0, 2])}, kinds)
    fake = planted.table({"x": pa.array([1.0, 2, None, None]), "y": pa.array([1.0, 2, None, None])}, kinds)
    score = missingness(real, real, fake)
    assert (score.value, score.yardstick, score.details["marginal"]) == (0.5, 0, 0)
    assert "subjects" in score.power
    assert score.details["worst"] == [{"columns": ["x", "y"], "real": 0.0, "synthetic": 0.5, "yardstick": 0.0}]
    assert together(np.array([[True, True], [False, True]])).tolist() == [[0.5, 0.5], [0.5, 1.0]]


def test_missingness_of_series_asks_who_is_never_measured():
    """Half of all values are null on both sides: of the real people one in two holds none, of the synthetic ones nobody."""
    n, steps = 80, 4
    who, odd = np.repeat(np.arange(n), steps), np.arange(n * steps) % 2 == 0
    make = lambda gone: longitudinal.of({"who": who, "when": np.tile(np.arange(steps), n), "x": pa.array(np.ones(n * steps), mask=gone)}, {})  # noqa: E731
    real, fake = make(who % 2 == 0), make(odd)
    score = missingness(real, real, fake)
    assert (score.value, score.details["marginal"], score.yardstick) == (0.5, 0, 0)
    assert score.details["worst"] == [{"columns": ["x", "in every step"], "real": 0.5, "synthetic": 0.0, "yardstick": 0.0}]
    assert missingness(real, real, real).value == 0


def test_a_share_of_few_people_is_not_told():
    """Nine of a hundred people are missing x, twenty y: the nine are too few to be shown, also as a bar or a bin."""
    n, kinds = 100, {"x": "numeric", "y": "numeric", "c": "category"}
    values = {"x": [None] * 9 + [1.0] * 91, "y": [None] * 20 + [1.0] * 80, "c": ["rare"] * 5 + [None] * 11 + ["a"] * 84}
    real = planted.table({k: pa.array(v) for k, v in values.items()}, kinds)
    fake = planted.table({"x": pa.array([1.0] * n), "y": pa.array([1.0] * n), "c": pa.array(["a"] * n)}, kinds)
    details = missingness(real, real, fake).details
    assert [details["columns"][k]["real"] for k in kinds] == [None, 0.2, 0.11]
    assert [(w["columns"], w["real"]) for w in details["worst"]] == [
        (["y"], 0.2),
        (["y", "c"], 0.11),
        (["c"], 0.11),
        (["x"], None),
        (["x", "y"], None),
        (["x", "c"], None),
    ]
    assert missingness(real, real, fake, rare_below=5).details["columns"]["x"]["real"] == 0.09
    found = bars(Features.of(real), real, fake, "c", 10)
    assert dict(zip(found["values"], found["real"], strict=True)) == {"a": 0.84, "(rare)": None, "(null)": 0.11}


def test_holders_counts_people_not_rows():
    distinct, held = holders(pa.array(["a", "a", "b", None, "a"]), np.array([0, 0, 1, 1, 2]))
    assert dict(zip(distinct.to_pylist(), held.tolist(), strict=True)) == {"a": 2, "b": 1}


def test_features_know_no_rare_value():
    table = planted.table({"c": pa.array(["a"] * 10 + ["b"] * 9 + [None])}, {"c": "category"})
    features = Features.of(table)
    assert features.vocabulary["c"].to_pylist() == ["a"]
    assert features.codes(table, "c").tolist() == [2] * 10 + [RARE] * 9 + [NULL]


def test_of_a_wide_space_attacks_look_at_as_many_rows_as_half_a_gigabyte_holds():
    words = pa.array([f"word {i}" for i in range(600)] * 10)

    def seen(columns: int) -> tuple[Features, int]:
        names = [f"c{i}" for i in range(columns)]
        rows = planted.table(dict.fromkeys(names, words), dict.fromkeys(names, "category"))
        features = Features.of(rows)
        return features, features.space(rows).shape[1]

    (few, _), (many, width) = seen(1), seen(30)
    assert few.rows == 200_000 and many.rows * width <= 2**27 < (many.rows + 1) * width


def test_subjects_are_split_and_sampled_whole():
    table, rng = planted.visits(40, 0), np.random.default_rng(0)
    a, b = split(table, 2, rng)
    assert len(a) == len(b) == 80 and not set(a.column("id").to_pylist()) & set(b.column("id").to_pylist())
    assert np.unique(np.bincount(sample(table, 80, rng).subjects)).tolist() == [4]
    assert all(len(np.unique(w[table.subjects == 7])) == 1 for w in weights(table.subjects, 3, rng))


def test_histogram_edges_are_round_and_protected():
    values, subjects = np.r_[np.arange(1000.0) + 0.137, 1e9], np.arange(1001)
    low, high = extremes(values, subjects, 10)
    assert (low, high) == (9.137, 991.137)
    at = edges(low, high, False)
    assert at[0] >= low and at[-1] <= high and set(at % 50) == {0}
    assert extremes(np.arange(19.0), np.zeros(19, int), 10) is None


def test_shape_and_dependence_agree_with_sdmetrics():
    from sdmetrics.column_pairs import ContingencySimilarity, CorrelationSimilarity
    from sdmetrics.single_column import KSComplement, TVComplement

    real, fake = planted.patients(400, 0), planted.one_component_a_row(planted.patients(300, 1), 0, noise=0.3, swap=0.3)
    a, b = ({n: t.column(n).to_pandas() for n in planted.KINDS} for t in (real, fake))
    columns = shape(real, real, fake).details["columns"]
    assert columns["lactate"]["distance"] == pytest.approx(1 - KSComplement.compute(a["lactate"], b["lactate"]))
    assert columns["ward"]["distance"] == pytest.approx(1 - TVComplement.compute(a["ward"], b["ward"]))
    found = dependence(real, real, fake).details
    import pandas as pd

    def frames(x, y):
        return [pd.DataFrame({x: d[x], y: d[y]}).astype({"ward": str} if "ward" in (x, y) else {}) for d in (a, b)]

    def difference(x, y):
        return found["difference"][found["columns"].index(x)][found["columns"].index(y)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SDMetrics writes into a slice of a frame
        assert difference("age", "creatinine") == pytest.approx(1 - CorrelationSimilarity.compute(*frames("age", "creatinine")))
        assert difference("ward", "diagnosis") == pytest.approx(1 - ContingencySimilarity.compute(*frames("ward", "diagnosis")))
        assert difference("stay", "ward") == pytest.approx(1 - ContingencySimilarity.compute(*frames("stay", "ward"), continuous_column_names=["stay"]))


def noise(table, seed=0):
    """Every column shuffled by itself, numbers spread, nulls moved: margins roughly kept, everything else lost."""
    rng, new = np.random.default_rng(seed), {}
    for name in ("age", "stay", "lactate", "ward", "diagnosis", "smoker", "died"):
        new[name] = table.column(name).take(pa.array(rng.permutation(len(table))))
    new["stay"] = pa.array(rng.uniform(0, 30, len(table)))
    new["lactate"] = pa.array(np.where(rng.random(len(table)) < 0.6, np.nan, 2.0 + rng.normal(size=len(table))), from_pandas=True)
    return planted.put(table, **new)


@pytest.mark.parametrize("metric", [m for m in JUDGES if m not in (*OF_SERIES, *OF_IMAGES)])
def test_real_is_better_than_good_is_better_than_noise(metric):
    train, holdout, fresh = (planted.patients(n, s) for n, s in ((1200, 1), (600, 2), (1200, 3)))
    good = planted.stacked(fresh.take(np.arange(900)), noise(fresh).take(np.arange(900, 1200)))
    real, middle, bad = (JUDGES[metric](train, holdout, t) for t in (fresh, good, noise(fresh)))
    sign = 1 if real.better == "high" else -1
    assert sign * real.value > sign * middle.value > sign * bad.value
    assert real.low <= real.value <= real.high and real.power is None
    assert abs(real.value - real.yardstick) < 0.1 < abs(bad.value - bad.yardstick) + 0.06


def test_trends_of_a_table_with_itself_are_zero():
    table = planted.patients(200, 0)
    assert np.nanmax(Trends(Features.of(table), table, table)(*ones(200, 200))) == 0


def test_detection_is_no_better_below_one_half():
    assert [hard(a) for a in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0, 0.5, 1, 0.5, 0]
    train, holdout = planted.patients(600, 1), planted.patients(300, 2)
    score = JUDGES["fidelity.detection"](train, holdout, planted.reissued(train))
    assert score.details["auc"] < 0.4 and score.low <= score.value <= score.high < 0.9


def test_what_was_looked_at_of_a_large_table_is_said(monkeypatch):
    monkeypatch.setattr("validation.detection.MOST", 200)
    train, holdout, fresh = (planted.patients(n, s) for n, s in ((400, 1), (200, 2), (300, 3)))
    details = JUDGES["fidelity.detection"](train, holdout, fresh).details
    assert details["looked_at"] == {"train": [200, 400], "synthetic": [200, 300]}
    assert looked_at({"train": 5}, {"train": 5}) == {}


def test_odd_columns_are_judged():
    """All-null, constant, decimal, date, dictionary, 300 rare labels, one column: no judge falls over or warns."""
    n, rng = 300, np.random.default_rng(0)
    days = pa.array(rng.integers(0, 20000, n), pa.int32()).cast(pa.date32())
    values = {
        "none": pa.nulls(n, pa.float64()), "nothing": pa.nulls(n, pa.string()), "one": pa.array(["x"] * n), "same": pa.array([3] * n),
        "price": pa.array(np.round(rng.random(n), 2)).cast(pa.decimal128(9, 2)), "day": days,
        "code": pa.array([f"c{i}" for i in range(n)]).dictionary_encode(), "a.b ü": pa.array(rng.random(n)),
    }  # fmt: skip
    kinds = dict(zip(values, ("numeric", "category", "category", "numeric", "numeric", "datetime", "category", "numeric"), strict=True))
    table = planted.table(values, kinds)
    for metric in gates(table.schema):
        score = METRICS[metric](table, table, table)
        json.dumps(score.to_json(), allow_nan=False)
    single = planted.table({"x": pa.array(rng.random(n))}, {"x": "numeric"}, target="x")
    for metric in gates(single.schema):
        json.dumps(METRICS[metric](single, single, single).to_json(), allow_nan=False)


def test_utility_of_numbers_classes_and_lost_classes():
    train, holdout = planted.visits(150, 1), planted.visits(100, 2)
    number = [planted.Table(t.values, planted.Schema(t.schema.arrow, t.schema.columns, "id", "albumin")) for t in (train, holdout)]
    score = JUDGES["utility.target"](*number, number[0])
    assert score.details["metric"] == "R2" and score.value == 1 and score.low == score.high == 1
    lost = planted.put(train, female=[True] * len(train))
    assert JUDGES["utility.target"](train, holdout, lost).details["synthetic"]["value"] == 0.5
    with pytest.raises(DataError, match="names no target"):
        JUDGES["utility.target"](*[planted.Table(t.values, planted.Schema(t.schema.arrow, t.schema.columns)) for t in (train, holdout, train)])


def test_scores_hold_no_value_of_a_person_and_repeat_to_the_bit():
    train, holdout, fresh = (planted.patients(n, s) for n, s in ((400, 1), (200, 2), (400, 3)))
    secret = ["kuru", *["sepsis"] * 399]
    train = planted.put(train, diagnosis=secret)
    for metric in gates(train.schema):
        first, again = (METRICS[metric](train, holdout, train, seed=5).to_json() for _ in range(2))
        text = json.dumps(first, allow_nan=False)
        assert text == json.dumps(again, allow_nan=False)
        assert "kuru" not in text and "P00001" not in text
        for name in ("stay", "lactate", "creatinine"):
            assert not any(repr(v) in text for v in train.column(name).to_pylist() if v is not None)
        METRICS[metric](train, holdout, fresh)
