"""Is the same missing, as often and together?

value = max over columns i, j of |share of training rows where i and j are both null - the same of the synthetic rows|;
i = j is the null share of a column. No unit, 0 is equal. The joint null pattern matters: a blood test that was not
taken leaves all its columns empty (Rubin, "Inference and missing data", 1976, https://doi.org/10.1093/biomet/63.3.581).
"""

from __future__ import annotations

import numpy as np

from generators.data import Table
from validation.features import Features
from validation.resampling import MOST, at_most, interval, shown, too_few, weights
from validation.score import Score

DRAWS, WORST = 40, 10


def together(nulls: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """(columns, columns): the share of rows where both are null; the diagonal holds the null shares."""
    nulls = nulls.astype(float)
    weighted = nulls if weight is None else nulls * weight[:, None]
    return weighted.T @ nulls / max(1.0, len(nulls) if weight is None else weight.sum())


def missingness(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """The largest difference of null shares, of single columns and of pairs; interval by bootstrap over subjects."""
    rng = np.random.default_rng(seed)
    (train, holdout, synthetic), seen = at_most(MOST, rng, train=train, holdout=holdout, synthetic=synthetic)
    features = Features.of(train, rare_below)
    names = [*features.numeric, *features.category, *features.hidden]
    ours, theirs, control = (features.nulls(t) for t in (train, synthetic, holdout))
    used = ours.any(0) | theirs.any(0)
    real, fake = together(ours), together(theirs)
    apart, noise = np.abs(real - fake), np.abs(real - together(control))
    pairs = zip(weights(train.subjects, DRAWS, rng), weights(synthetic.subjects, DRAWS, rng), strict=True)
    drawn = [np.abs(together(ours[:, used], a) - together(theirs[:, used], b)).max(initial=0) for a, b in pairs] if used.any() else []

    def cell(i: int, j: int) -> dict:
        """One column (i = j) or pair: its shares, and how far the holdout is from train."""
        held = len(np.unique(train.subjects[ours[:, i] & ours[:, j]]))
        seen, yardstick = shown([real[i, j], noise[i, j]], [held, held], rare_below)
        return {"columns": [names[k] for k in sorted({i, j})], "real": seen, "synthetic": float(fake[i, j]), "yardstick": yardstick}

    worst = [divmod(int(k), len(names)) for k in np.argsort(-np.triu(apart), axis=None, kind="stable")[:WORST]]
    details = {
        "columns": {name: {k: cell(i, i)[k] for k in ("real", "synthetic")} for i, name in enumerate(names)},
        "marginal": float(np.diag(apart).max(initial=0)),
        "worst": [cell(i, j) for i, j in worst if i <= j and apart[i, j] > 0],
        "looked_at": seen,
    }
    value, yardstick = float(apart.max(initial=0)), float(noise.max(initial=0))
    return Score("fidelity.missingness", value, *interval(value, drawn, 0, 1), yardstick, "low", too_few(train, holdout, synthetic), details)
