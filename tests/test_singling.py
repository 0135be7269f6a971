"""Singling out and linking: guesses by hand, a copy is caught, a fresh sample is let through, and columns that say nothing do no harm."""

import longitudinal
import numpy as np
import planted
import pyarrow as pa
import pytest

from generators.data import Column, Schema
from pipelines import read, series
from pipelines.gates import DEFAULTS, FAIL, NO_VERDICT, PASS, judged, lacks
from privacy import JUDGES
from privacy.linkability import halves, linked
from privacy.rates import MILD, powerless
from privacy.singling import People, guessed
from validation.features import Features

BOTH = ("privacy.singling", "privacy.linkability")


def of(values: dict) -> tuple[planted.Table, Features]:
    table = planted.table(values, {n: "numeric" if isinstance(v[0], float) else "category" for n, v in values.items()})
    return table, Features.of(table, 1)


def test_a_guess_by_hand():
    """The second row says: ward b, not below 2 in x: two fit; and y unknown: one of them."""
    table, features = of({"x": [1.0, 2.0, 3.0, 4.0], "y": pa.array([5.0, None, 6.0, None]), "ward": ["b", "b", "b", "a"]})
    people, low = People(table, features), np.array([False, False])
    assert people.fits(people, 1, np.array([2]), low).tolist() == [True, True, True, False]
    assert people.fits(people, 1, np.array([2, 0]), low).tolist() == [False, True, True, False]
    assert people.fits(people, 1, np.array([2, 0, 1]), low).tolist() == [False, True, False, False]
    assert people.fits(people, 1, np.array([0]), ~low).tolist() == [True, True, False, False]


def test_who_has_several_rows_is_one():
    """Everybody twice: what fits two rows of one subject singles him out."""
    once, features = of({c: list(np.random.default_rng(i).normal(size=30)) for i, c in enumerate("abc")})
    twice = once.take(np.repeat(np.arange(30), 2))
    people, alone = People(twice, features), People(once, features)
    people.subjects = np.repeat(np.arange(30), 2)
    rng = [np.random.default_rng(0) for _ in range(2)]
    assert guessed(alone, (people,), rng[0]) == guessed(alone, (alone,), rng[1])


def test_linking_by_hand():
    """By x alone the first row is nearest, by y the first or the second: only who has both is linked."""
    source, features = of({"x": [0.0, 10.0, 20.0], "y": [0.0, 10.0, 20.0]})
    people, _ = of({"x": [1.0, 1.0, 19.0], "y": [1.0, 11.0, 21.0]})
    sides = halves(features, np.random.default_rng(0))
    assert sorted(n for s in sides for n in (*s.numeric, *s.category)) == ["x", "y"] and all(len(s.numeric) == 1 for s in sides)
    assert linked(people, source, sides).tolist() == [True, False, True]


@pytest.mark.parametrize("metric", BOTH)
@pytest.mark.parametrize("size", [150, 2000])
def test_a_copy_fails_and_a_fresh_sample_passes(metric, size):
    train, holdout, fresh = (planted.patients(size, seed) for seed in range(3))
    caught, passed = (JUDGES[metric](train, holdout, made) for made in (train, fresh))
    assert caught.power is None and caught.low > 3 * DEFAULTS[metric]["max"] and caught.value == pytest.approx(caught.details["copy"], abs=0.1)
    assert judged(metric, DEFAULTS[metric], caught).verdict == FAIL
    assert passed.low <= 0.02 and judged(metric, DEFAULTS[metric], passed).verdict == PASS


@pytest.mark.parametrize("metric", BOTH)
def test_a_quarter_of_copies_is_seen(metric):
    train, holdout, fresh = (planted.patients(1500, seed) for seed in range(10, 13))
    mixed = planted.Table.of(pa.concat_tables([fresh.values[375:], train.values[:375]]), fresh.schema)
    found = JUDGES[metric](train, holdout, mixed)
    assert found.low > 0.05 and found.value < 0.5 * found.details["copy"]


@pytest.mark.parametrize("metric", BOTH)
def test_strangers_are_no_false_alarm(metric):
    """An interval of 95 % lies above nothing in one of forty: more than 3 of 30 would come once in two hundred."""
    alarms = 0
    for seed in range(30):
        train, holdout, fresh = (planted.patients(300, 100 + 3 * seed + i) for i in range(3))
        alarms += JUDGES[metric](train, holdout, fresh).low > 0
    assert alarms <= 3


@pytest.mark.parametrize("metric", BOTH)
def test_columns_that_say_nothing_do_no_harm(metric):
    """Of four truths not even a verbatim copy singles anybody out: that is a verdict, and no lack of power."""
    sides = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        sides.append(planted.table({n: rng.random(4000) < 0.4 for n in "abcd"}, dict.fromkeys("abcd", "boolean")))
    found = JUDGES[metric](*sides, sides[0])
    assert found.power is None and found.details["copy"] < MILD
    assert judged(metric, DEFAULTS[metric], found).verdict == PASS


def test_a_copy_of_which_nothing_is_known_is_no_verdict():
    assert powerless((500, 1000), (400, 1000)) is None
    assert powerless((10, 1000), (10, 1000)) is None
    said = powerless((5, 20), (5, 20))
    assert said and "too small" in said
    train, holdout = planted.patients(60, 0), planted.patients(3, 1)
    assert judged(BOTH[0], DEFAULTS[BOTH[0]], JUDGES[BOTH[0]](train, holdout, train)).verdict == NO_VERDICT


def test_what_has_no_such_columns_is_not_asked():
    few = planted.table({"a": [1.0, 2.0], "b": ["x", "y"]}, {"a": "numeric", "b": "category"}).schema
    assert lacks("privacy.singling", few) is None and "4 or more columns" in lacks("privacy.linkability", few)


def test_of_series_and_images_a_copy_is_found_and_fresh_ones_are_not():
    """By subject, by figures of their courses; of images by what a network that saw the synthetic ones sees in them."""
    digits = read("digits", images=True, label="digit")
    order = np.random.default_rng(0).permutation(len(digits))
    parts = [digits.take(np.sort(order[a:b])) for a, b in ((0, 600), (600, 1000), (1000, 1600))]
    visits = [longitudinal.visits(n, seed=i) for i, n in enumerate((300, 150, 300))]
    for train, holdout, fresh in (visits, parts):
        for metric in BOTH:
            assert lacks(metric, train.schema) is None
            copied, honest = (JUDGES[metric](train, holdout, made) for made in (train, fresh))
            assert copied.low > 0.1 and copied.power is None, metric
            assert honest.value < 0.1 and honest.low < 0.05, metric
    window = series.window_column(5)
    arrow, others = pa.schema([("window", pa.int64()), ("t", pa.int64()), ("x", pa.float64())]), (Column("t", "numeric"), Column("x", "numeric"))
    schema = Schema(arrow, (window, *others), "window", time="t")
    assert all("one long series" in lacks(metric, schema) for metric in BOTH)
