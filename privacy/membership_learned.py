"""Two more attacks that say who was in the training table, by what values go together instead of by distance.

Each is a function (candidates, synthetic, reference) of View -> score, higher = more likely a member.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from generators.data import Table
from validation.features import NULL, Features, learnable

BINS, KINDS = 10, 24  # of a number, and of a category, its most frequent values, that go together with those of other columns
PAIRS, ROWS = 150, 10_000  # pairs of columns, and rows of a table, that are looked at
SEED = 0


class View(NamedTuple):
    """A table as attacks see it."""

    space: np.ndarray  # (rows, m) in which Euclidean distance is meant
    trees: np.ndarray  # (rows, columns) for boosted trees
    levels: np.ndarray  # (rows, columns) int: the bin of a number, the code of a category

    @classmethod
    def of(cls, table: Table, features: Features) -> View:
        ranks = [features.rank(table, n) for n in features.numeric]
        levels = [np.where(np.isnan(r), BINS, np.minimum(np.nan_to_num(r) * BINS, BINS - 1)).astype(int) for r in ranks]
        levels += [np.minimum(features.codes(table, n), KINDS) for n in features.category]
        none = np.full((len(table), 1), NULL)
        return cls(features.space(table), learnable(features.trees(table)), np.column_stack(levels) if levels else none)


def classifier(x: View, synthetic: View, reference: View) -> np.ndarray:
    """P(synthetic | x) of boosted trees that learned to tell synthetic rows from reference rows, each side weighing as much.

    "Synth-MIA: a testbed for auditing privacy leakage in tabular data synthesis", Ward, Gebhart, Cheng and others, 2025,
    https://arxiv.org/abs/2509.18014
    """
    sides = [some(v.trees) for v in (reference, synthetic)]
    label = np.repeat([0, 1], [len(s) for s in sides])
    model = HistGradientBoostingClassifier(max_iter=60, min_samples_leaf=5, class_weight="balanced", early_stopping=False, random_state=SEED)
    return model.fit(np.vstack(sides), label).predict_proba(x.trees)[:, 1]


def marginals(x: View, synthetic: View, reference: View) -> np.ndarray:
    """sum over pairs of columns of log(p_S(values) / p_R(values)): the likelihood ratio of a model that knows pairs, as the generators do that match them.

    "MAMA-MIA: membership inference attacks against synthetic data that use focal points", Golob, Pentyala, Maratkhan and De Cock, 2024,
    https://arxiv.org/abs/2410.05506
    """
    width, total = KINDS + 1, np.zeros(len(x.levels))
    pairs = list(combinations(range(x.levels.shape[1]), 2)) or [(0, 0)]
    chosen = np.random.default_rng(SEED).permutation(len(pairs))[:PAIRS]
    for a, b in (pairs[i] for i in chosen):
        own, ours, theirs = (v.levels[:, a] * width + v.levels[:, b] for v in (x, synthetic, reference))
        held = [np.bincount(c, minlength=width**2) for c in (ours, theirs)]
        total += np.log((held[0][own] + 0.5) / (len(ours) + 1)) - np.log((held[1][own] + 0.5) / (len(theirs) + 1))
    return total


def some(rows: np.ndarray) -> np.ndarray:
    """Not more than ROWS of them, evenly."""
    return rows[:: -(-len(rows) // ROWS) or 1]


LEARNED = {"classifier": classifier, "marginals": marginals}
