"""Weekdays: days on which something happens at all. Where nothing does on a Saturday or a Sunday, days are counted without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WEEK = 7
ENOUGH = 50  # different days that tell which of the week are closed: fewer may leave one out by chance
STRAY = 0.25  # as many rows as on the busiest day of the week may lie on a closed one all the same


class Weekdays:
    """open: the days of the week, 0 a Thursday, as of 1970-01-01, on which steps come; all seven where days are not told apart.

    A row on a closed day is taken for one on the next open day.
    """

    def __init__(self, open: Sequence[int] = range(WEEK)):
        self.open = np.array(open, dtype=int)
        self.rank = np.searchsorted(self.open, np.arange(WEEK))

    @classmethod
    def of(cls, days: np.ndarray) -> Weekdays:
        """days (rows,): since 1970. Open are those of the week that hold a fair share of the rows."""
        if len(np.unique(days)) < ENOUGH:
            return cls()
        held = np.bincount(days.astype(int) % WEEK, minlength=WEEK)
        return cls(np.flatnonzero(held >= STRAY * held.max()))

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
