"""Where nothing happens on a Saturday, nothing synthetic does."""

import datetime as dt
import json

import longitudinal
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from generators.encoding.series import SeriesEncoder
from generators.encoding.weekdays import WEEK, Weekdays
from generators.synthesizer import Synthesizer
from pipelines import read


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def appointments(kind: pa.DataType, stray: int = 0, people: int = 120, seed: int = 0):
    """Five appointments a person, none on a weekend, or but a few."""
    r = np.random.default_rng(seed)
    first = r.integers(0, 250, people)[:, None]
    opened = np.cumsum(np.c_[first, r.integers(1, 15, (people, 4))], 1)  # open days since a Monday
    days = np.datetime64("2024-01-01") + opened // 5 * 7 + opened % 5
    days.flat[:stray] = np.datetime64("2021-01-02")  # a Saturday, before all others
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
    few, many = (SeriesEncoder(5).fit(appointments(pa.date32(), stray), rng=rng(0)) for stray in (3, 80))
    assert len(few.clock.days.open) == 5 and len(many.clock.days.open) == 6
    encoder = SeriesEncoder(5).fit(longitudinal.visits(), rng=rng(0))
    assert len(encoder.clock.days.open) == WEEK  # numbers have no weekdays


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
