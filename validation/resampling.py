"""By subject: how tables are split, sampled and bootstrapped, and what an interval is.

A judge never draws rows: rows of one person hang together, so the person is the unit everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from generators.data import Table

MOST = 100_000  # rows of a table that judges look at, at most, where figures are shares of rows: chance is 0.003 then
LEAST = 50  # subjects on each side below which a share or an area cannot be told from chance
NORMAL = 1.959963984540054  # the 97.5 % point of the standard normal


def count(table: Table) -> int:
    """How many subjects a table holds."""
    return int(table.subjects.max(initial=-1)) + 1


def weights(subjects: np.ndarray, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """`draws` bootstrap samples of the subjects: how often each row is in the sample, (rows,) float."""
    n = int(subjects.max(initial=-1)) + 1
    for _ in range(draws):
        yield np.bincount(rng.integers(n, size=n), minlength=n).astype(float)[subjects]


def split(table: Table, parts: int, rng: np.random.Generator) -> list[Table]:
    """The table in `parts` disjoint parts of (nearly) equally many subjects."""
    part = rng.permutation(np.arange(count(table)) % parts)[table.subjects]
    return [table.take(part == i) for i in range(parts)]


def sample(table: Table, rows: int, rng: np.random.Generator) -> Table:
    """Whole subjects at random, about `rows` rows of them (at least one subject); the table itself where it is no larger."""
    if len(table) <= rows:
        return table
    keep = rng.permutation(count(table)) < max(1, round(count(table) * rows / len(table)))
    return table.take(keep[table.subjects])


def looked_at(looked: dict[str, int], there: dict[str, int]) -> dict[str, list[int]]:
    """{table: [rows looked at, rows there are]} of the tables of which not all rows were, for a report."""
    return {name: [rows, there[name]] for name, rows in looked.items() if rows < there[name]}


def at_most(rows: int, rng: np.random.Generator, **tables: Table) -> tuple[list[Table], dict[str, list[int]]]:
    """Each table, or about so many rows of it where there are more, by whole subjects; and what a report says of that."""
    some = [sample(table, rows, rng) for table in tables.values()]
    lengths = {name: len(table) for name, table in zip(tables, some, strict=True)}
    return some, looked_at(lengths, {name: len(table) for name, table in tables.items()})


def people(codes: np.ndarray, subjects: np.ndarray, size: int) -> np.ndarray:
    """(size,) how many subjects have a row of each code 0 .. size - 1."""
    width = int(subjects.max(initial=0)) + 1
    if width == len(subjects) == len(codes) and np.bincount(subjects, minlength=width).max(initial=1) == 1:
        return np.bincount(codes, minlength=size)  # everybody has one row
    return np.bincount(np.unique(codes * width + subjects) // width, minlength=size)


def shown(shares: np.ndarray, held: np.ndarray, rare_below: int) -> list[float | None]:
    """Shares of real rows as details may hold them: None where one covers somebody, but fewer than `rare_below` subjects."""
    return [None if 0 < h < rare_below else float(s) for s, h in zip(shares, held, strict=True)]


def interval(value: float, drawn: list[float] | np.ndarray, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
    """95 % interval, value ± 1.96 times the standard deviation of its bootstrap values, inside [low, high]."""
    drawn = np.asarray(drawn, float)
    drawn = drawn[np.isfinite(drawn)]
    error = NORMAL * float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0
    return max(low, value - error), min(high, value + error)


def auc(scores: np.ndarray, positive: np.ndarray) -> Callable[..., float]:
    """The area under the ROC curve as a function of row weights (none: all equal), sorted once.

    AUC = P(score of a positive > score of a negative) + P(equal) / 2; 0.5 is chance.
    """
    order = np.unique(scores, return_inverse=True)[1]
    positive = positive.astype(float)
    size = int(order.max(initial=-1)) + 1

    def area(weight: np.ndarray | None = None) -> float:
        weight = np.ones(len(positive)) if weight is None else weight
        up = np.bincount(order, weight * positive, size)
        down = np.bincount(order, weight * (1 - positive), size)
        pairs = up.sum() * down.sum()
        return float((up * (np.cumsum(down) - down / 2)).sum() / pairs) if pairs else math.nan

    return area


def too_few(train: Table, holdout: Table, synthetic: Table, least: int = LEAST) -> str | None:
    """In plain words, which of the tables has fewer subjects than can be judged; None if none has."""
    for name, table in (("train", train), ("holdout", holdout), ("synthetic", synthetic)):
        if count(table) < least:
            real = count(train) + count(holdout)
            would = f", holdout: {math.ceil(100 * least / real + 0.5) / 100} gives so many" if name == "holdout" and real >= 2 * least else ""
            window = table.schema[table.schema.subject].options if table.schema.subject else {}
            if window.get("apart"):
                would = "a longer series or a smaller window: has more; of what is nobody's, like prices, lift the gate (null)"
                return f"{name} has {count(table)} windows that do not overlap, {least} are needed: {would}"
            if name != "synthetic" and "stride" in window:
                would = ", a smaller window: or stride: makes more windows"  # some stand across the border and are lost
            return f"{name} has {count(table)} subjects, {least} are needed{would}"
    return None
