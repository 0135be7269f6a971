"""Can a strong classifier tell the synthetic rows from the real ones?

Boosted trees are trained on real against synthetic rows (equally many) and score rows they have not seen (3 folds, by
subject). value = 1 - 2 |AUC - 1/2|; no unit, 1 = cannot be told apart, 0 = every row is told.
An AUC below 1/2 counts like one above: the rows of a fresh sample say nothing about those of another fold, but a copy does.
Where it was learned with as real, its twin is taken for real, so copies that fall into different folds turn the ranking round.
"Revisiting classifier two-sample tests", Lopez-Paz and Oquab, 2017, https://arxiv.org/abs/1610.06545
"""

from __future__ import annotations

import numpy as np

from generators.data import Table
from validation.features import Features, learnable
from validation.resampling import auc, count, interval, looked_at, sample, too_few, weights
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


def hard(area: float) -> float:
    """How hard it is to tell, of an AUC: 1 at chance, 0 where every row is told, either way round."""
    return 1 - 2 * abs(area - 0.5)


def detection(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """1 - 2 |AUC - 1/2| of boosted trees; interval by bootstrap of the scored subjects (the trees are not refitted)."""
    rng = np.random.default_rng(seed)
    features = Features.of(train, rare_below)
    few = too_few(train, holdout, synthetic)
    if few:
        return Score("fidelity.detection", 1.0, 0.0, 1.0, 1.0, "high", few, {"auc": 0.5, "rows": 0})
    scores, y, subjects = told_apart(train, synthetic, features, seed)
    area = auc(scores, y)
    blind = auc(*told_apart(train, holdout, features, seed)[:2])()
    low, high = interval(area(), [area(w) for w in weights(subjects, DRAWS, rng)], 0, 1)
    rows = {"train": int((y == 0).sum()), "synthetic": int((y == 1).sum())}
    seen = looked_at(rows, {"train": len(train), "synthetic": len(synthetic)})
    details = {"auc": area(), "auc_interval": [low, high], "yardstick_auc": blind, "rows": rows["train"], "looked_at": seen}
    band = min(hard(low), hard(high)), hard(min(max(low, 0.5), high))  # the hardest is the AUC that is nearest to 1/2
    return Score("fidelity.detection", hard(area()), *band, hard(blind), "high", None, details)
