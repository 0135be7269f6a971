"""Days on which steps come: days of the week on which something happens at all, or one day of every month. Others are not counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WEEK = 7
ENOUGH = 50  # different days that tell which of the week are closed: fewer may leave one out by chance
LEAN = 0.05  # of the rows would have to come on another day of the week, from which they do
TOGETHER = 0.2  # share of steps that come in the week of the step before, up to which days are moved within weeks
STRAY = 0.25  # of as many rows as on the middle day of the week may lie on a closed one all the same


class Weekdays:
    """open: the days of the week, 0 a Thursday, as of 1970-01-01, on which steps come; all seven where days are not told apart.

    A row on a closed day is taken for one on the next open day. share: of the rows, on each open day.
    """

    def __init__(self, open: Sequence[int] = range(WEEK), share: Sequence[float] | None = None):
        self.open = np.array(open, dtype=int)
        self.share = None if share is None else np.array(share, dtype=float)
        self.rank = np.searchsorted(self.open, np.arange(WEEK))

    @classmethod
    def of(cls, days: np.ndarray) -> Weekdays:
        """days (rows,): since 1970. Open are those of the week that hold a fair share of the rows, of what the middle one of those with any holds."""
        if len(np.unique(days)) < ENOUGH:
            return cls()
        held = np.bincount(days.astype(int) % WEEK, minlength=WEEK)
        open = np.flatnonzero(held >= STRAY * np.median(held[held > 0]))
        return cls(open, np.bincount(cls(open).rank[days.astype(int) % WEEK] % len(open), minlength=len(open)) / len(days))

    def count(self, days: np.ndarray) -> np.ndarray:
        """Days since 1970 -> open days since then."""
        if len(self.open) == WEEK:
            return days
        return days // WEEK * len(self.open) + self.rank[(days % WEEK).astype(int)]

    def day(self, count: np.ndarray) -> np.ndarray:
        """And back."""
        if len(self.open) == WEEK:
            return count
        whole = np.rint(count)
        return whole // len(self.open) * WEEK + self.open[(whole % len(self.open)).astype(int)]

    def settle(self, days: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Days since 1970, those on closed ones moved to any open one of the same week."""
        closed = ~np.isin(np.rint(days) % WEEK, self.open)
        return np.where(closed, days // WEEK * WEEK + rng.choice(self.open, len(days)), days) if closed.any() else days

    def lean(self, days: np.ndarray, whose: np.ndarray, rng: np.random.Generator, least: int = 1) -> np.ndarray:
        """Open days of steps, series after series, moved within their week so that each day of it has its share.

        Who comes on Tuesdays comes on one day still: a series has one random number, and what is later stays later, by `least` open days. Nothing
        is done where shares are nearly right, or where steps of a week follow each other, whose distances would change."""
        k = len(self.open)
        if self.share is None or k == 1 or not len(days):
            return days
        count = self.count(days).astype(int)
        week, rank, same = count // k, count % k, np.r_[False, whose[1:] == whose[:-1]]
        found = np.bincount(rank, minlength=k) / len(rank)
        close = (np.r_[False, week[1:] == week[:-1]] & same).sum() > TOGETHER * max(same.sum(), 1)
        if close or np.abs(found - self.share).sum() / 2 < LEAN:
            return days
        place = (np.cumsum(found) - found)[rank] + found[rank] * rng.random(int(whose.max()) + 1)[whose]
        moved = week * k + np.searchsorted(np.cumsum(self.share)[:-1], place, side="right")
        at = least * np.arange(len(moved))
        far = 2 * (int(np.ptp(moved)) + len(moved) + 1) * whose  # so that each series is by itself
        return self.day((np.maximum.accumulate(moved - at + far) + at - far).astype(float))

    def state(self) -> dict:
        return {"open": self.open.tolist(), "share": self.share if self.share is None else self.share.tolist()}


class Months:
    """on: the day of the month on which all steps come, the last one of a month that has fewer."""

    def __init__(self, on: int):
        self.on = on

    @classmethod
    def of(cls, days: np.ndarray) -> Months | None:
        """days (rows,): since 1970. None where steps come on several days of the month."""
        dates = days.astype("datetime64[D]")
        found = cls(int((dates - dates.astype("datetime64[M]")).astype(int).max()) + 1)
        return found if (found.day(found.count(days)) == days).all() else None

    def count(self, days: np.ndarray) -> np.ndarray:
        """Days since 1970 -> months since then."""
        return np.rint(days).astype(int).astype("datetime64[D]").astype("datetime64[M]").astype(int)

    def day(self, count: np.ndarray) -> np.ndarray:
        """And back."""
        month = np.rint(count).astype(int).astype("datetime64[M]")
        last = (month + 1).astype("datetime64[D]").astype(int) - 1
        return np.minimum(month.astype("datetime64[D]").astype(int) + self.on - 1, last)

    def settle(self, days: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Any day stands for its month."""
        return days

    def lean(self, days: np.ndarray, whose: np.ndarray, rng: np.random.Generator, least: int = 1) -> np.ndarray:
        """They have their day."""
        return days

    def state(self) -> dict:
        return {"on": self.on}


def days_of(days: np.ndarray) -> Weekdays | Months:
    """What suits these days since 1970, (rows,)."""
    return Months.of(days) or Weekdays.of(days)
