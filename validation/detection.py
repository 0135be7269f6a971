"""Can a strong classifier tell the synthetic rows from the real ones?

Boosted trees are trained on real against synthetic rows (equally many) and score rows they have not seen (3 folds, by
subject). value = 1 - (2 max(AUC, 1/2) - 1); no unit, 1 = cannot be told apart, 0 = every row is told.
"Revisiting classifier two-sample tests", Lopez-Paz and Oquab, 2017, https://arxiv.org/abs/1610.06545
"""

from __future__ import annotations

import numpy as np

from generators.data import Table
from validation.features import Features, learnable
from validation.resampling import auc, count, interval, sample, too_few, weights
from validation.score import Score

MOST, FOLDS, DRAWS = 20_000, 3, 40


def told_apart(train: Table, other: Table, features: Features, seed: int) -> tuple:
    """Out-of-fold scores of the rows of both, which of them are `other`, and their subjects (apart for the two tables)."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    rows = min(len(train), len(other), MOST)
    tables = [sample(t, rows, rng) for t in (train, other)]
    x = np.vstack([features.trees(t) for t in tables])
    y = np.repeat([0, 1], [len(t) for t in tables])
    fold = np.concatenate([(rng.permutation(count(t)) % FOLDS)[t.subjects] for t in tables])
    scores = np.zeros(len(y))
    with threadpool_limits(1, "openmp"):  # threads of the trees wait for each other where cores are shared: ten times slower
        for i in range(FOLDS):
            model = HistGradientBoostingClassifier(random_state=seed).fit(learnable(x[fold != i]), y[fold != i])
            scores[fold == i] = model.decision_function(x[fold == i])
    return scores, y, np.concatenate([tables[0].subjects, tables[1].subjects + count(tables[0])])


def detection(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """1 - (2 AUC - 1)+ of boosted trees; interval by bootstrap of the scored subjects (the trees are not refitted)."""
    rng = np.random.default_rng(seed)
    features = Features.of(train, rare_below)
    few = too_few(train, holdout, synthetic)
    if few:
        return Score("fidelity.detection", 1.0, 0.0, 1.0, 1.0, "high", few, {"auc": 0.5, "rows": 0})
    scores, y, subjects = told_apart(train, synthetic, features, seed)
    area = auc(scores, y)
    blind = auc(*told_apart(train, holdout, features, seed)[:2])()
    hard = lambda a: 1 - (2 * max(a, 0.5) - 1)  # noqa: E731
    low, high = interval(area(), [area(w) for w in weights(subjects, DRAWS, rng)], 0, 1)
    details = {"auc": area(), "auc_interval": [low, high], "yardstick_auc": blind, "rows": int((y == 0).sum())}
    return Score("fidelity.detection", hard(area()), hard(high), hard(low), hard(blind), "high", None, details)
