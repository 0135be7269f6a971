"""Series there and back: times, lengths, what stays, and what is held by construction."""

import datetime
import json

import longitudinal
import numpy as np
import pyarrow as pa
import pytest
import torch
from tables import rng

from generators.data import DataError
from generators.encoding.series import SeriesEncoder, _spans
from generators.layout import Sequences


def fitted(data, rare_below=10):
    return SeriesEncoder(rare_below).fit(data, rng=rng())


def there_and_back(data, rare_below=1):
    encoder = fitted(data, rare_below)
    return encoder.decode(encoder.encode(data, rng=rng(1)), rng=rng(2))


def regular(times, n=40, **more):
    """n subjects with a step at each of these times."""
    columns = {
        "who": np.repeat(np.arange(n), len(times)),
        "when": pa.chunked_array([pa.array(list(times) * n)] if not isinstance(times, pa.Array) else [times] * n),
    }
    columns["x"] = np.random.default_rng(0).normal(size=n * len(times))
    return longitudinal.of(columns | more, {"when": "numeric" if not isinstance(times, pa.Array) or not pa.types.is_temporal(times.type) else "datetime"})


def test_what_stays_stays_and_the_rest_comes_back_in_order():
    data = longitudinal.visits()
    again = there_and_back(data)
    assert again.values.schema.equals(data.values.schema.remove_metadata(), check_metadata=False)
    assert (again.lengths == data.lengths).all()
    for name in ("sick", "age", "stage"):
        assert again.column(name).to_pylist() == data.column(name).to_pylist()
    assert again.column("marker").null_count == data.column("marker").null_count
    assert np.abs(again.column("when").to_numpy() - data.column("when").to_numpy()).max() < 0.02 * 8
    assert len(set(again.column("who").to_pylist())) == len(data.lengths)


@pytest.mark.parametrize(
    "times",
    [
        pa.array([0, 5, 10, 15]),
        pa.array([0.5, 1.0, 1.5]),
        pa.array([datetime.date(2020, 1, 1) + datetime.timedelta(days=7 * i) for i in range(4)]),
        pa.array([datetime.datetime(2020, 3, 28) + datetime.timedelta(hours=i) for i in range(5)], pa.timestamp("us", "Europe/Berlin")),
        pa.array([0.1 * i for i in range(9)], pa.float32()),
        pa.array([3, 2**31, 2**32 - 3], pa.int64()),
    ],
)
def test_regular_times_come_back_exactly(times):
    data = regular(times)
    encoder = fitted(data)
    assert encoder.clock.gap is None and len(encoder.layout) == 1
    again = encoder.decode(encoder.encode(data, rng=rng(1)), rng=rng(2))
    assert again.values.schema.field("when").type == times.type
    expected, found = (np.array(t.column("when").cast(pa.float64() if pa.types.is_floating(times.type) else times.type).to_pylist()) for t in (data, again))
    assert (np.abs(expected - found) < 1e-5).all() if expected.dtype.kind == "f" else (expected == found).all()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_irregular_timestamps_keep_their_order_and_type(unit):
    r = np.random.default_rng(0)
    n, steps = 60, 6
    seconds = np.cumsum(r.integers(1, 100_000, (n, steps)), 1).reshape(-1) + 1_500_000_000
    when = pa.array(seconds, pa.int64()).cast(pa.timestamp("s", "America/New_York")).cast(pa.timestamp(unit, "America/New_York"))
    data = longitudinal.of({"who": np.repeat(np.arange(n), steps), "when": when, "x": r.normal(size=n * steps)}, {"when": "datetime"})
    encoder = fitted(data)
    x = encoder.encode(data, rng=rng())
    wild = Sequences(x.static, x.lengths, 5 * torch.randn(x.steps.shape, generator=rng(3)))
    for drawn in (x, wild):
        again = encoder.decode(drawn, rng=rng(1))
        assert again.values.schema.field("when").type == when.type
        later = np.diff(again.column("when").cast(pa.int64()).to_numpy())[again.subjects[1:] == again.subjects[:-1]]
        assert (later > 0).all()


def test_decoding_is_total():
    data = longitudinal.visits()
    encoder = fitted(data)
    x = encoder.encode(data, rng=rng())
    for scale in (0.0, 1.0, 1e6):
        wild = Sequences(scale * torch.randn(x.static.shape, generator=rng(1)), x.lengths, scale * torch.randn(x.steps.shape, generator=rng(2)))
        made = encoder.decode(wild, rng=rng(3), start=100)
        made.values.validate(full=True)
        assert (made.lengths == x.lengths.numpy()).all()


def test_a_mean_and_a_spread_that_all_series_share_are_held():
    data = longitudinal.signals()
    encoder = fitted(data)
    assert set(encoder.even) == {"x"}
    x = encoder.encode(data, rng=rng())
    made = encoder.decode(Sequences(x.static, x.lengths, torch.randn(x.steps.shape, generator=rng(4))), rng=rng(5))
    each = made.column("x").to_numpy().reshape(-1, 40)
    assert np.abs(each.mean(1)).max() < 1e-9 and np.abs(each.std(1) - 1).max() < 1e-9
    assert not fitted(longitudinal.visits()).even


def test_lengths_that_few_have_are_taken_for_others():
    lengths = np.r_[np.full(50, 5), np.full(4, 6), np.full(30, 8), [40]]
    spans = _spans(lengths, 10)
    assert spans == ((5, 5), (8, 8))
    assert _spans(np.array([3] * 9 + [50] * 5), 10) == ((3, 50),)
    for k in (1, 5, 20):
        drawn = np.random.default_rng(k).poisson(30, 500) + 1
        taken = np.clip(drawn, np.sort(drawn)[k - 1], np.sort(drawn)[-k])
        held = [((taken >= low) & (taken <= high)).sum() for low, high in _spans(drawn, k)]
        assert min(held) >= k and len(held) <= 64


def test_no_value_of_few_subjects_is_held():
    r = np.random.default_rng(1)
    n, steps = 80, 5
    word = np.where(r.random(n * steps) < 0.5, "a", "b").astype(object)
    word[7 * steps : 8 * steps] = "of one patient"  # in five rows, all of one
    number = r.normal(size=n * steps).round(3)
    number[11 * steps : 12 * steps] = 77.125
    data = longitudinal.of({"who": np.repeat(np.arange(n), steps), "when": np.tile(np.arange(steps), n), "word": word, "x": number}, {"word": "category"})
    state = json.dumps(fitted(data).state())
    assert "of one patient" not in state and "77.125" not in state and "77125" not in state
    assert "of one patient" not in there_and_back(data, 10).column("word").to_pylist()


def test_saved_and_restored_it_does_the_same():
    data = longitudinal.visits()
    encoder = fitted(data)
    again = SeriesEncoder.restore(json.loads(json.dumps(encoder.state())))
    assert again.layout == encoder.layout
    x = encoder.encode(data, rng=rng(1))
    assert all(torch.equal(a, b) for a, b in zip(vars(x).values(), vars(again.encode(data, rng=rng(1))).values(), strict=True))
    assert again.decode(x, rng=rng(2)).values.equals(encoder.decode(x, rng=rng(2)).values)


def test_conditions_are_on_what_stays():
    encoder = fitted(longitudinal.visits())
    given = encoder.given({"sick": True}, 3)
    assert int(given.mask.sum()) == 1 and not given.mask[0]  # the first field is the number of steps
    with pytest.raises(DataError, match="'marker' changes from step to step, expected one that stays: sick, age"):
        encoder.given({"marker": 1.0}, 3)
    with pytest.raises(DataError, match="balance: column 'stage' changes"):
        encoder.classes("stage")
    with pytest.raises(DataError, match="where: column 'who' is the subject, of which new ones are invented; expected one that stays: sick, age"):
        encoder.given({"who": 1}, 3)


def test_series_that_hold_nothing_that_changes_are_no_series():
    with pytest.raises(DataError, match="no column changes within a subject"):
        fitted(
            longitudinal.of({"who": np.repeat(np.arange(30), 3), "when": np.tile(np.arange(3), 30), "a": np.repeat(np.arange(30) % 2, 3)}, {}, static=("a",))
        )


def lab(people=100, never=0.3, here_and_there=0.0, steps=8, seed=0):
    """Two values of a laboratory that saw a part of the people never, at all other visits or at most of them; a third that is missing at random."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), steps)
    gone = (rng.random(people) < never)[who] | (rng.random(len(who)) < here_and_there)
    loose = rng.random(len(who)) < 0.3
    columns = {"who": who, "when": np.tile(np.arange(steps), people), "x": rng.normal(size=len(who))}
    columns |= {name: pa.array(rng.normal(size=len(who)), mask=gone) for name in ("iron", "zinc")}
    return longitudinal.of(columns | {"loose": pa.array(rng.normal(size=len(who)), mask=loose)}, {})


def never_filled(data, name):
    return data.values.to_pandas().groupby("who", sort=False)[name].apply(lambda v: v.isna().all()).to_numpy()


def test_what_is_never_measured_of_some_subjects_stays_so():
    """Both columns share one field of what stays; a step's nulls, that would say the same, may be learned badly and yet nobody is seen by half."""
    data = lab(here_and_there=0.1)
    encoder = fitted(data)
    assert encoder.absence.groups == [["iron", "zinc"]]
    x = encoder.encode(data, rng=rng(1))
    assert (x.static[:, -1].numpy() == never_filled(data, "iron")).all()
    other = encoder.decode(Sequences(x.static.roll(1, 0), x.lengths, x.steps), rng=rng(2))  # steps of somebody else
    for name in ("iron", "zinc"):
        assert (never_filled(other, name) >= np.roll(never_filled(data, name), 1)).all()
    again = SeriesEncoder.restore(json.loads(json.dumps(encoder.state())))
    assert again.layout == encoder.layout and again.decode(x, rng=rng(2)).values.equals(encoder.decode(x, rng=rng(2)).values)


def test_what_a_subject_lacks_always_or_never_is_never_missing_here_and_there():
    """A generator that draws a null for somebody who was tested gets the value of the nearest visit that has one; who has none keeps none."""
    data = lab()
    encoder = fitted(data)
    assert encoder.absence.filled == ["iron", "zinc"] and fitted(lab(here_and_there=0.1)).absence.filled == []
    x = encoder.encode(data, rng=rng(1))
    tested = np.flatnonzero(~never_filled(data, "iron"))
    nobody = np.flatnonzero(never_filled(data, "iron"))[0]
    steps = x.steps.clone().reshape(100, 8, -1)
    steps[tested[0], [0, 1, 5]] = steps[tested[1], 7] = steps[nobody, 0]  # steps of somebody who was never tested
    steps[tested[2]] = steps[nobody]
    again = SeriesEncoder.restore(json.loads(json.dumps(encoder.state())))
    made = again.decode(Sequences(x.static, x.lengths, steps.reshape(800, -1)), rng=rng(2))
    iron = np.array(made.column("iron").to_pylist(), float).reshape(100, 8)
    missing = np.isnan(iron).all(1)
    assert (missing == np.isnan(iron).any(1)).all() and set(np.flatnonzero(missing)) == {*np.flatnonzero(never_filled(data, "iron")), tested[2]}
    one, other = iron[tested[0]], iron[tested[1]]
    assert one[0] == one[1] == one[2] and one[5] == one[4] != one[6] and other[7] == other[6]


@pytest.mark.parametrize("data", [lab(never=0.05), lab(never=0.95), lab(never=0, here_and_there=0.6, steps=2)])
def test_what_few_are_known_by_or_what_chance_leaves_empty_is_no_field(data):
    """Five of a hundred people are too few to be told apart by it, whichever side they are on; and of two visits, some hold nothing by chance."""
    assert fitted(data).absence.groups == []
