"""Is the same missing, as often and together?

value = max over columns i, j of |share of training rows where i and j are both null - the same of the synthetic rows|;
i = j is the null share of a column. No unit, 0 is equal. The joint null pattern matters: a blood test that was not
taken leaves all its columns empty (Rubin, "Inference and missing data", 1976, https://doi.org/10.1093/biomet/63.3.581).
Of series also, in place of rows, subjects, for whom a column is null in every step: a test that was never made.
"""

from __future__ import annotations

import numpy as np

from generators.data import Table
from validation.features import Features
from validation.resampling import MOST, at_most, interval, shown, too_few, weights
from validation.score import Score

DRAWS, WORST = 40, 10
NEVER = "in every step"


def together(nulls: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """(columns, columns): the share of rows where both are null; the diagonal holds the null shares."""
    nulls = nulls.astype(float)
    weighted = nulls if weight is None else nulls * weight[:, None]
    return weighted.T @ nulls / max(1.0, len(nulls) if weight is None else weight.sum())


def empty(nulls: np.ndarray, table: Table) -> list[tuple[np.ndarray, np.ndarray]]:
    """[(what is null (rows, columns) bool, weight of a row)]: of rows alike; of series also of subjects alike, where all their rows are null."""
    out = [(nulls, np.ones(len(table)))]
    if table.schema.time:
        never = np.logical_and.reduceat(nulls, np.cumsum(table.lengths) - table.lengths)
        out.append((never[table.subjects], 1 / table.lengths[table.subjects]))
    return out


def missingness(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """The largest difference of null shares, of single columns and of pairs; interval by bootstrap over subjects."""
    rng = np.random.default_rng(seed)
    (train, holdout, synthetic), seen = at_most(MOST, rng, train=train, holdout=holdout, synthetic=synthetic)
    features = Features.of(train, rare_below)
    names = [*features.numeric, *features.category, *features.hidden]
    ours, theirs, control = (empty(features.nulls(t), t) for t in (train, synthetic, holdout))
    used = ours[0][0].any(0) | theirs[0][0].any(0)

    def shares(levels: list[tuple[np.ndarray, np.ndarray]], drawn: np.ndarray | float = 1.0, which: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(levels, columns, columns): together, of rows and of subjects. drawn: how often a row is in a bootstrap sample."""
        return np.stack([together(nulls[:, which], weight * drawn) for nulls, weight in levels])

    real, fake = shares(ours), shares(theirs)
    apart, noise = np.abs(real - fake), np.abs(real - shares(control))
    pairs = zip(weights(train.subjects, DRAWS, rng), weights(synthetic.subjects, DRAWS, rng), strict=True)
    drawn = [np.abs(shares(ours, a, used) - shares(theirs, b, used)).max(initial=0) for a, b in pairs] if used.any() else []

    def cell(level: int, i: int, j: int) -> dict:
        """One column (i = j) or pair: its shares, and how far the holdout is from train."""
        nulls = ours[level][0]
        held = len(np.unique(train.subjects[nulls[:, i] & nulls[:, j]]))
        seen, yardstick = shown([real[level, i, j], noise[level, i, j]], [held, held], rare_below)
        columns = [names[k] for k in sorted({i, j})] + [NEVER] * level
        return {"columns": columns, "real": seen, "synthetic": float(fake[level, i, j]), "yardstick": yardstick}

    worst = [np.unravel_index(k, apart.shape) for k in np.argsort(-np.triu(apart), axis=None, kind="stable")[:WORST]]
    details = {
        "columns": {name: {k: cell(0, i, i)[k] for k in ("real", "synthetic")} for i, name in enumerate(names)},
        "marginal": float(np.diag(apart[0]).max(initial=0)),
        "worst": [cell(int(n), int(i), int(j)) for n, i, j in worst if i <= j and apart[n, i, j] > 0],
        "looked_at": seen,
    }
    value, yardstick = float(apart.max(initial=0)), float(noise.max(initial=0))
    return Score("fidelity.missingness", value, *interval(value, drawn, 0, 1), yardstick, "low", too_few(train, holdout, synthetic), details)
