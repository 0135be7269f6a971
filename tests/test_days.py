"""Where nothing happens on a Saturday, nothing synthetic does."""

import datetime as dt
import json

import longitudinal
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from generators.data import from_local, to_local
from generators.encoding.days import WEEK, Months, Weekdays
from generators.encoding.series import SeriesEncoder
from generators.layout import Sequences
from generators.synthesizer import Synthesizer
from pipelines import read
from pipelines.gates import DEFAULTS, METRICS


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def appointments(kind: pa.DataType, stray: int = 0, people: int = 120, seed: int = 0):
    """Five appointments a person, none on a weekend, or but a few."""
    r = np.random.default_rng(seed)
    first = r.integers(0, 250, people)[:, None]
    opened = np.cumsum(np.c_[first, r.integers(1, 15, (people, 4))], 1)  # open days since a Monday
    days = np.datetime64("2024-01-01") + opened // 5 * 7 + opened % 5
    days[:stray, 0] = np.datetime64("2021-01-02")  # a Saturday, before all others
    when = pa.array(days.reshape(-1).astype("datetime64[us]")).cast(kind)
    return longitudinal.of({"who": np.repeat(np.arange(people), 5), "when": when, "x": r.normal(size=5 * people)}, {"when": "datetime"})


def weekdays(table) -> np.ndarray:
    return pd.to_datetime(pd.Series(table.column("when").to_pylist()), utc=True).dt.weekday.to_numpy()


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.timestamp("ns"), pa.timestamp("s", "UTC")])
def test_no_step_of_a_synthetic_series_comes_on_a_closed_day(kind):
    data = appointments(kind)
    encoder = SeriesEncoder(5).fit(data, rng=rng(0))
    assert len(encoder.clock.days.open) == 5
    x = encoder.encode(data, rng=rng(1))
    assert encoder.decode(x, rng=rng(2)).column("when").type == kind
    made = Synthesizer("hmm", passes=2, states=3, seed=1).fit(data).sample(300)
    assert made.column("when").type == kind and set(weekdays(made)) == {0, 1, 2, 3, 4}
    again = SeriesEncoder.restore(json.loads(json.dumps(encoder.state())))
    assert again.decode(x, rng=rng(2)).values.equals(encoder.decode(x, rng=rng(2)).values)


def test_a_few_stray_days_open_none_of_the_week_and_many_do():
    few, many = (SeriesEncoder(5).fit(appointments(pa.date32(), stray), rng=rng(0)) for stray in (15, 110))
    assert len(few.clock.days.open) == 5 and len(many.clock.days.open) == 6
    assert SeriesEncoder(5).fit(longitudinal.visits(), rng=rng(0)).clock.days is None  # numbers have no weekdays


def test_days_are_counted_there_and_back():
    everyday = np.arange(-3000, 3000).astype(float)
    some = Weekdays([0, 1, 4, 5, 6])
    held = everyday[np.isin(everyday % WEEK, some.open)]
    counted = some.count(held)
    assert (np.diff(counted) == 1).all() and (some.day(counted) == held).all()
    assert (some.day(some.count(everyday)) >= everyday).all() and np.isin(some.day(some.count(everyday)) % WEEK, some.open).all()
    settled = some.settle(everyday, np.random.default_rng(0))
    assert np.isin(settled % WEEK, some.open).all() and (settled[np.isin(everyday % WEEK, some.open)] == held).all()
    assert Weekdays().count(everyday) is everyday and Weekdays().day(everyday) is everyday
    assert dt.date(1970, 1, 1).weekday() == 3  # day 0 is a Thursday


@pytest.mark.parametrize("on", [1, 30, 31])
@pytest.mark.parametrize("every", [1, 3, None])
def test_what_is_told_once_a_month_is_told_on_that_day_of_the_month(on, every):
    """Months have 28 to 31 days; the 29th and the 31st are the last day of those that are shorter."""
    r = np.random.default_rng(0)
    months = np.cumsum(np.c_[r.integers(480, 600, (100, 1)), r.integers(1, 5, (100, 7)) if every is None else np.full((100, 7), every)], 1)
    told = Months(on)
    days = told.day(months.reshape(-1))
    assert (told.count(days) == months.reshape(-1)).all() and Months.of(days).on == on
    data = longitudinal.of(
        {"who": np.repeat(np.arange(100), 8), "when": pa.array(days.astype("datetime64[D]")).cast(pa.date32()), "x": r.normal(size=800)}, {"when": "datetime"}
    )
    model = Synthesizer("hmm", passes=2, states=3, seed=0).fit(data)
    assert model.encoder.clock.every == every
    made = to_local(model.sample(200).column("when"))[0]
    assert (told.day(told.count(made)) == made).all()
    assert every is None or (np.diff(told.count(made).reshape(-1, 8), axis=1) == every).all()
    assert Months.of(np.r_[days, days[:1] + 1]) is None


def test_windows_of_daily_prices_are_even_and_keep_the_weekend():
    """Without it, the distance after a Friday would stand anywhere."""
    days = pd.bdate_range("2018-01-01", periods=900)
    frame = pd.DataFrame({"when": days, "close": np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.02, 900)))})
    data = read(frame, window=20, stride=1, time="when")
    model = Synthesizer("hmm", passes=2, states=3, seed=0).fit(data)
    assert model.encoder.clock.every == 1 and not model.encoder.clock.fields
    made = model.sample(200)
    assert set(weekdays(made)) == {0, 1, 2, 3, 4}
    assert set(np.diff(made.column("when").to_numpy().reshape(-1, 20), axis=1).reshape(-1).astype("timedelta64[D]").astype(int)) == {1, 3}


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "America/New_York", "+05:30"])
@pytest.mark.parametrize("always", [False, True])
def test_surgeries_open_at_their_hours_by_the_clocks_of_their_zone(zone, always):
    """Half an hour apart from eight to five, or always at midnight, in summer as in winter; nobody comes on a weekend."""
    data = appointments(pa.date32(), people=200)
    since = np.zeros(len(data), int) if always else np.random.default_rng(1).integers(16, 34, len(data)) * 1800
    days = np.array(data.column("when").to_pylist(), "datetime64[D]")
    local = pd.DatetimeIndex(days.astype("datetime64[s]") + since.astype("timedelta64[s]"))
    when = pa.array(local.tz_localize(None if zone is None else pa.lib.string_to_tzinfo(zone)), pa.timestamp("us", zone))
    table = data.values.set_column(1, "when", when)
    data = longitudinal.of({n: table[n] for n in table.column_names}, {"when": "datetime"})
    day, rest = to_local(data.column("when"))
    assert (day == days.astype(int)).all() and (rest == since * 10**6).all()
    assert from_local(day, rest, when.type).equals(when)
    encoder = SeriesEncoder(5).fit(data, rng=rng(0))
    assert len(encoder.clock.days.open) == 5 and (encoder.clock.hour is None) == always
    made = Synthesizer("hmm", passes=2, states=3, seed=1).fit(data).sample(300)
    day, rest = to_local(made.column("when"))
    assert set((day + 3) % 7) == {0, 1, 2, 3, 4} and set(rest // 1_800_000_000) <= ({0} if always else set(range(16, 34)))
    moments, whose = made.column("when").cast(pa.int64()).to_numpy(), made.subjects
    assert (np.diff(moments)[whose[1:] == whose[:-1]] > 0).all()
    again = SeriesEncoder.restore(json.loads(json.dumps(encoder.state())))
    x = encoder.encode(data, rng=rng(1))
    assert again.decode(x, rng=rng(2)).values.equals(encoder.decode(x, rng=rng(2)).values)


def test_steps_of_one_day_come_one_after_the_other():
    r = np.random.default_rng(0)
    day = np.sort(np.cumsum(r.integers(0, 30, (100, 6)), 1), 1)  # now and then twice a day
    hour = r.integers(8, 12, (100, 6))
    when = np.sort(np.datetime64("2024-01-01") + (day * 24 + hour).astype("timedelta64[h]"), 1)
    when += np.arange(6).astype("timedelta64[m]")
    data = longitudinal.of(
        {"who": np.repeat(np.arange(100), 6), "when": pa.array(when.reshape(-1).astype("datetime64[us]")), "x": r.normal(size=600)}, {"when": "datetime"}
    )
    made = Synthesizer("autoregressive", passes=3, seed=1).fit(data).sample(500)
    gaps = np.diff(made.column("when").to_numpy().astype("datetime64[us]").astype(int).reshape(-1, 6), axis=1)
    assert (gaps > 0).all() and 0.005 < (gaps < 86_400_000_000 / 2).mean() < 0.1


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us")])
def test_steps_on_closed_days_or_at_other_hours_are_not_timed_as_the_real_ones(kind):
    judge, least = METRICS["fidelity.timing"], DEFAULTS["fidelity.timing"]["min"]
    train, holdout, fresh = (appointments(kind, people=n, seed=s) for n, s in ((400, 0), (200, 1), (400, 2)))
    assert judge(train, holdout, fresh).value > 0.9

    def moved(days: int, hours: int = 0):
        """Steps as far apart as ever, of every second person on other days."""
        other = fresh.subjects % 2 * days * 86_400_000_000 + hours * 3_600_000_000
        when = pc.add(fresh.column("when").cast(pa.timestamp("us")).cast(pa.int64()), pa.array(other)).cast(pa.timestamp("us"))
        table = fresh.values.set_column(1, "when", when.cast(kind))
        return longitudinal.of({n: table[n] for n in table.column_names}, {"when": "datetime"})

    wrong = judge(train, holdout, moved(2))
    assert wrong.value < least and wrong.details["each"]["day of the week"]["distance"] == pytest.approx(1 - wrong.value)
    if pa.types.is_timestamp(kind):
        assert judge(train, holdout, moved(0, 7)).details["each"]["time of day"]["distance"] == 1


def test_times_of_a_subject_rise_even_where_they_lie_on_few_times_of_day():
    """At noon and at midnight, now and then twice a day: one that is moved on may meet the next day's."""
    r = np.random.default_rng(0)
    halves = np.cumsum(np.c_[r.integers(0, 60, (80, 1)), np.where(r.random((80, 11)) < 0.08, 1, r.integers(2, 12, (80, 11)))], 1)
    when = np.datetime64("2024-03-20") + (12 * halves.reshape(-1)).astype("timedelta64[h]")
    local = pd.DatetimeIndex(when.astype("datetime64[s]")).tz_localize("Europe/Berlin")
    data = longitudinal.of(
        {"who": np.repeat(np.arange(80), 12), "when": pa.array(local, pa.timestamp("s", "Europe/Berlin")), "x": r.normal(size=960)}, {"when": "datetime"}
    )
    encoder = SeriesEncoder(5).fit(data, rng=rng(0))
    assert encoder.clock.hour is not None and encoder.clock.state()["always"] == 0  # nobody's own time of day is kept
    x = encoder.encode(data, rng=rng(1))
    shuffled = Sequences(x.static, x.lengths, x.steps[torch.randperm(len(x.steps), generator=rng(2))])
    made = encoder.decode(shuffled, rng=rng(3))
    moments = made.column("when").cast(pa.int64()).to_numpy()
    assert (np.diff(moments)[made.subjects[1:] == made.subjects[:-1]] > 0).all()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_the_ends_of_the_calendar_are_no_trouble(unit, zone):
    ends = ["1700-01-01", "2250-01-01"] if unit == "ns" else ["0001-01-01", "9999-12-31"]
    times = pa.array(np.array(ends, f"datetime64[{unit}]"), pa.timestamp(unit)).view(pa.timestamp(unit, zone))
    day, since = to_local(pa.chunked_array([times]))
    apart = np.abs(from_local(day, since, times.type).view(pa.int64()).to_numpy() - times.view(pa.int64()).to_numpy())
    assert (apart <= 3 * 86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]).all()


def clinic(people: int = 200, seed: int = 0, mondays: float = 0.6):
    """Appointments weeks apart, most of them on a Monday."""
    r = np.random.default_rng(seed)
    week = np.cumsum(np.c_[r.integers(0, 60, (people, 1)), r.integers(1, 8, (people, 4))], 1)
    day = np.where(r.random((people, 5)) < mondays, 0, r.integers(1, 5, (people, 5)))
    days = np.datetime64("2024-01-01") + 7 * week + day
    when = pa.array(days.reshape(-1).astype("datetime64[us]")).cast(pa.date32())
    return longitudinal.of({"who": np.repeat(np.arange(people), 5), "when": when, "x": r.normal(size=5 * people)}, {"when": "datetime"})


def test_days_of_the_week_have_their_shares():
    data = clinic()
    made = Synthesizer("hmm", passes=2, states=3, seed=1).fit(data).sample(400)
    shares = np.bincount(weekdays(made), minlength=7) / len(made)
    assert abs(shares[0] - 0.6) < 0.05 and np.abs(shares[1:5] - 0.1).max() < 0.04 and not shares[5:].any()
    score = METRICS["fidelity.timing"](data, clinic(200, 1), made)
    assert score.value > DEFAULTS["fidelity.timing"]["min"], score.details["each"]
    days = to_local(data.column("when"))[0]
    assert Weekdays.of(days).lean(days, data.subjects, np.random.default_rng(0)) is days  # what is right stays


def test_who_comes_every_week_comes_on_the_same_day_still():
    lean = Weekdays([0, 1, 4, 5, 6], [0.1, 0.1, 0.6, 0.1, 0.1])
    whose = np.repeat(np.arange(500), 6)
    days = lean.day(np.repeat(np.arange(500.0), 6) + 5 * np.tile(np.arange(6), 500))
    moved = lean.lean(days, whose, np.random.default_rng(0)).reshape(500, 6)
    assert (np.diff(moved, axis=1) == 7).all() and abs((moved % 7 == 4).mean() - 0.6) < 0.04 and np.abs(moved.reshape(-1) - days).max() <= 6
    daily = lean.day(np.repeat(np.arange(500.0), 6) + np.tile(np.arange(6), 500))
    assert lean.lean(daily, whose, np.random.default_rng(0)) is daily
    near = lean.day(np.repeat(np.arange(500.0), 6) + 4 * np.tile(np.arange(6), 500))
    assert (np.diff(lean.lean(near, whose, np.random.default_rng(0)).reshape(500, 6), axis=1) > 0).all()
