"""Weekdays: days on which something happens at all. Where nothing does on a Saturday or a Sunday, days are counted without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from generators.encoding.scale import Scale

WEEK = 7
ENOUGH, STRAY = 140, 0.02  # rows that tell which days are closed, and the share of rows that may lie on a closed day all the same


class Weekdays:
    """open: the days of the week, 0 a Thursday, as of 1970-01-01, on which steps come; all seven where days are not told apart.

    A row on a closed day is taken for one on the next open day.
    """

    def __init__(self, open: Sequence[int] = range(WEEK)):
        self.open = np.array(open, dtype=int)
        self.rank = np.searchsorted(self.open, np.arange(WEEK))

    @classmethod
    def of(cls, days: np.ndarray, subjects: np.ndarray, scale: Scale, k: int) -> Weekdays:
        """days (rows,): since 1970, of which subjects (rows,). Open are those of the week that k subjects or more hold."""
        if not scale.daily or len(days) < ENOUGH:
            return cls()
        weekday = days.astype(int) % WEEK
        held = np.unique(np.stack([weekday, subjects]), axis=1)[0]
        found = cls(np.flatnonzero(np.bincount(held, minlength=WEEK) >= k))
        return found if len(found.open) and (~np.isin(weekday, found.open)).mean() <= STRAY else cls()

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
