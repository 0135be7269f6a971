"""A protected distribution function: numbers to (0, 1) and back, holding no number that too few subjects share.

The line is cut into segments in order of value. An *atom* is a number held by at least `k` subjects: it is kept exactly
and takes up a stretch of (0, 1) as long as its share. Everything between two atoms is a *run*: cut into groups of at
least `k` subjects, inside which numbers are spread evenly; the ends of a group are means over many subjects, never
somebody's number. A run of fewer than `k` subjects is given to the nearest atom. So the lowest and the highest number
that can come out have at least `k` subjects at or beyond them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Quantiles:
    """low, high (segments,): ends on the number line, equal for an atom; edges (segments + 1,): ends in [0, 1]."""

    low: np.ndarray
    high: np.ndarray
    edges: np.ndarray

    def to_unit(self, x: np.ndarray, rng: np.random.Generator, step: float = 0.0) -> np.ndarray:
        """Numbers (n,) -> (n,) in (0, 1). What lies on an atom or outside every segment is spread over the segment."""
        i = np.minimum(np.searchsorted(self.high, x), len(self.high) - 1)
        left = np.maximum(i - 1, 0)
        i = np.where((x < self.low[i]) & (x - self.high[left] < self.low[i] - x), left, i)
        width = self.high[i] - self.low[i]
        inside = (width > 0) & (x >= self.low[i]) & (x <= self.high[i])
        noise = rng.random(len(x))
        place = (x + step * (noise - 0.5) - self.low[i]) / np.where(width > 0, width, 1)
        place = np.where(inside, np.clip(1 - np.abs(1 - np.abs(place)), 0, 1), noise)  # mirrored at the ends
        return self.edges[i] + place * (self.edges[i + 1] - self.edges[i])

    def from_unit(self, u: np.ndarray) -> np.ndarray:
        """(n,) in [0, 1] -> numbers (n,)."""
        i = np.clip(np.searchsorted(self.edges, u, side="right") - 1, 0, len(self.low) - 1)
        share = self.edges[i + 1] - self.edges[i]
        return self.low[i] + np.clip((u - self.edges[i]) / share, 0, 1) * (self.high[i] - self.low[i])


def fit_quantiles(x: np.ndarray, subjects: np.ndarray, k: int, groups: int = 512) -> Quantiles:
    """Learns Quantiles from numbers x (n,), n > 0, and whose they are, subjects (n,)."""
    order = np.argsort(x, kind="stable")
    x, subjects = x[order], subjects[order]
    values, first, rows = np.unique(x, return_index=True, return_counts=True)
    atom = subjects_in(np.repeat(np.arange(len(values)), rows), subjects, len(values)) >= k
    atoms, mass = values[atom], rows[atom].astype(float)
    starts = np.concatenate([[0], (first + rows)[atom]])  # rows of the run below each atom, and of the last one
    ends = np.concatenate([first[atom], [len(x)]])

    parts = []
    for run, (a, b) in enumerate(zip(starts, ends, strict=True)):
        if a == b:
            continue
        held = len(np.unique(subjects[a:b]))
        inner = 0 < run < len(atoms)
        if held >= (k if inner else 2 * k) or not len(atoms):
            parts += _groups(x[a:b], subjects[a:b], k, inner, rows=max(len(x) / groups, 1))
        else:  # too few to be told apart: counted with the nearest atom
            near = np.clip([run - 1, run], 0, len(atoms) - 1)
            nearest = near[np.abs(atoms[near][None] - x[a:b, None]).argmin(1)]
            np.add.at(mass, nearest, 1)
    parts += [[v, v, m] for v, m in zip(atoms, mass, strict=True)]
    low, high, count = np.array(sorted(parts), dtype=float).T
    edges = np.concatenate([[0.0], np.cumsum(count)]) / count.sum()
    return Quantiles(low, high, edges)


def subjects_in(place: np.ndarray, subjects: np.ndarray, places: int) -> np.ndarray:
    """How many different subjects each place holds. place, subjects (n,) -> (places,)."""
    width = int(subjects.max(initial=0)) + 1
    return np.bincount(np.unique(place.astype(np.int64) * width + subjects) // width, minlength=places)


def _groups(x: np.ndarray, subjects: np.ndarray, k: int, inner: bool, rows: float) -> list[list[float]]:
    """Cuts a sorted run (n,) into [low, high, rows] of at least k subjects each; `inner` lies between two atoms."""
    low, high = _ends(x, subjects, k, inner)
    wanted = max(int(min(len(x) / rows, len(np.unique(subjects)) / k)), 1)
    place = np.arange(len(x)) * wanted // len(x)
    while wanted > 1 and subjects_in(place, subjects, wanted).min() < k:  # long stretches of one subject: coarser
        wanted //= 2
        place = np.arange(len(x)) * wanted // len(x)
    count = np.bincount(place, minlength=wanted)
    mean = np.bincount(place, weights=np.clip(x, low, high), minlength=wanted) / count
    knots = np.concatenate([[low], (mean[1:] + mean[:-1]) / 2, [high]])
    return [[float(a), float(b), float(c)] for a, b, c in zip(knots[:-1], knots[1:], count, strict=True)]


def _ends(x: np.ndarray, subjects: np.ndarray, k: int, inner: bool) -> tuple[float, float]:
    """The ends of a sorted run, each a mean over several subjects.

    At least k subjects lie at or beyond each, but for a run between two atoms, which are its bounds already.
    """
    lowest = np.sort(x[np.unique(subjects, return_index=True)[1]])
    highest = np.sort(x[::-1][np.unique(subjects[::-1], return_index=True)[1]])[::-1]
    total = len(lowest)
    k = min(k, max(total // 4, 1) if inner else (total + 1) // 2)
    span = slice(k - 1, max(min(2 * k - 1, total // 2), k + 1))
    low, high = float(lowest[span].mean()), float(highest[span].mean())
    return min(low, high), max(low, high)
