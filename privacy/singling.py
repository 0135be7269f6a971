"""Can a person be singled out: does a guess that the synthetic table suggests fit exactly one person in the training table?

A guess takes a synthetic row and a few of its columns: category equal, number not below it or not above it, whichever is rarer. It singles out if
exactly one subject fits. The same guesses are made about as many strangers: what fits exactly one of them too is luck, not knowledge.
value = the residual risk (attack - control) / (1 - control) of all guesses. Power: guesses from a verbatim copy single out members surely more
often than strangers, or surely hardly anybody.
"A unified framework for quantifying privacy risk in synthetic data" (Anonymeter), Giomi, Boenisch, Wehmeyer and Tasnádi, 2023,
https://arxiv.org/abs/2211.10459 (multivariate singling-out, of columns and rows at random)
"""

from __future__ import annotations

import numpy as np

from generators.data import Table
from privacy.rates import powerless, residual, residual_interval, wilson
from validation.features import Features
from validation.resampling import count, sample, split, too_few
from validation.score import Score

GUESSES, MOST, FEWEST_COLUMNS, MOST_COLUMNS = 1_500, 4_000, 3, 60


class People:
    """Rows as guesses see them: numbers, and codes of categories."""

    def __init__(self, table: Table, features: Features):
        self.numbers = np.column_stack([features.rank(table, n) for n in features.numeric]) if features.numeric else np.zeros((len(table), 0))
        self.codes = np.column_stack([features.codes(table, n) for n in features.category]) if features.category else np.zeros((len(table), 0), int)
        self.subjects, self.count = table.subjects, count(table)

    def fits(self, source: People, row: int, columns: np.ndarray, low: np.ndarray) -> np.ndarray:
        """(rows,) bool: what a guess from a row of the source says. low: of each number whether the guess is "not above"."""
        own, out = self.numbers.shape[1], np.ones(len(self.subjects), bool)
        for c in columns:
            if c >= own:
                out &= self.codes[:, c - own] == source.codes[row, c - own]
            elif np.isnan(value := source.numbers[row, c]):
                out &= np.isnan(self.numbers[:, c])
            else:
                out &= self.numbers[:, c] <= value if low[c] else self.numbers[:, c] >= value
        return out


def guessed(source: People, sides: tuple[People, ...], rng: np.random.Generator) -> list[int]:
    """Of GUESSES guesses from a source, how many fit exactly one subject of each side."""
    width = source.numbers.shape[1] + source.codes.shape[1]
    hits, sizes = [0] * len(sides), np.arange(min(FEWEST_COLUMNS, width), min(MOST_COLUMNS, width) + 1)
    for _ in range(GUESSES):
        row, columns = int(rng.integers(len(source.subjects))), rng.permutation(width)[: rng.choice(sizes)]
        low = source.numbers[row] < 0.5  # ranks: the tail that is the rarer
        for i, people in enumerate(sides):
            fitting = people.subjects[people.fits(source, row, columns, low)]
            hits[i] += bool(len(fitting)) and bool((fitting == fitting[0]).all())
    return hits


def singling(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """The residual risk of being singled out. Yardstick: one half of the holdout in place of the synthetic table, the other as the control."""
    rng = np.random.default_rng(seed)
    features = Features.of(train, rare_below)
    few = too_few(train, holdout, synthetic)
    if few:
        return Score("privacy.singling", 0.0, -1.0, 1.0, 0.0, "low", few, {})
    size = min(count(train), count(holdout), MOST)
    members, strangers = (People(_so_many(t, size, rng), features) for t in (train, holdout))
    made = People(sample(synthetic, 20_000, rng), features)
    attack, control = guessed(made, (members, strangers), rng)
    copied = guessed(members, (members, strangers), rng)
    fresh, rest = split(holdout, 2, rng)
    half = min(count(fresh), count(rest), count(train))
    again = guessed(People(fresh, features), tuple(People(_so_many(t, half, rng), features) for t in (train, rest)), rng)
    value = residual(attack / GUESSES, control / GUESSES)
    low, high = residual_interval((attack, GUESSES), (control, GUESSES))
    power = powerless((copied[0], GUESSES), (copied[1], GUESSES))
    details = {
        "guesses": GUESSES, "people": size,
        "attack": {"value": attack / GUESSES, "interval": list(wilson(attack, GUESSES))},
        "control": {"value": control / GUESSES, "interval": list(wilson(control, GUESSES))},
        "copy": residual(copied[0] / GUESSES, copied[1] / GUESSES),
    }  # fmt: skip
    return Score("privacy.singling", value, min(low, value), max(high, value), residual(again[0] / GUESSES, again[1] / GUESSES), "low", power, details)


def _so_many(table: Table, subjects: int, rng: np.random.Generator) -> Table:
    """The rows of exactly so many subjects, at random."""
    return table.take((rng.permutation(count(table)) < subjects)[table.subjects])
