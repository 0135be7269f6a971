"""Is every kind of real row there among the synthetic ones, or did the generator collapse onto some of them?

value = share of real rows r for which some synthetic row is no farther from r than its k-th nearest real neighbour, k = 5;
as many synthetic as real rows are looked at. 1: all are covered; a fresh real sample gets about 1 - 2^-5 = 0.97.
Reliable fidelity and diversity metrics for generative models; M. Naeem, S. Oh, Y. Uh, Y. Choi, J. Yoo; 2020; https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors

from generators.data import Table
from validation.features import Features
from validation.resampling import at_most, interval, people, too_few, weights
from validation.score import Score

NEIGHBOURS, MOST, DRAWS = 5, 3000, 200
MODES = 20  # groups of real rows that are shown, at most
LOST, LARGE = 0.1, 0.01  # a mode of at least this share of real rows is lost where synthetic rows have a tenth of it


def reach(rows: np.ndarray) -> np.ndarray:
    """(rows,): how far each row's k-th neighbour is among the others. rows (rows, m)."""
    k = min(NEIGHBOURS, len(rows) - 1)
    return NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(rows).kneighbors(rows)[0][:, k]  # the first is the row itself


def covered(real: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(real rows,) bool: whether a row of `other` is within the k-th neighbour of a real row. Both (rows, m)."""
    radius = reach(real)
    return NearestNeighbors(n_neighbors=1, algorithm="brute").fit(other).kneighbors(real)[0][:, 0] <= radius + 1e-6


def modes(real: np.ndarray, subjects: np.ndarray, other: np.ndarray, rare_below: int, seed: int) -> list[dict]:
    """Groups of real rows (k-means) with their shares of real and of synthetic rows, largest first; none of few subjects."""
    k = max(min(MODES, len(real) // 50), 1)
    found = MiniBatchKMeans(k, n_init=3, random_state=seed, batch_size=4096).fit(real)
    held, shares = people(found.labels_, subjects, k), [np.bincount(found.predict(x), minlength=k) / len(x) for x in (real, other)]
    rows = [{"real": float(r), "synthetic": float(s)} for r, s, h in zip(*shares, held, strict=True) if h >= rare_below]
    return sorted(rows, key=lambda row: -row["real"])


def coverage(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """The share of real rows that are covered (at most 3,000 are looked at); interval by bootstrap over their subjects."""
    few = too_few(train, holdout, synthetic)
    if few:
        return Score("fidelity.coverage", 0.0, 0.0, 1.0, 1.0, "high", few, {})
    rng = np.random.default_rng(seed)
    size = min(MOST, len(train), len(holdout), len(synthetic))
    features = Features.of(train, rare_below)
    (real, fake, control), looked = at_most(size, rng, train=train, synthetic=synthetic, holdout=holdout)
    ours, theirs, fresh = (features.space(t) for t in (real, fake, control))
    flags = covered(ours, theirs).astype(float)
    value = float(flags.mean())
    drawn = [np.average(flags, weights=w) for w in weights(real.subjects, DRAWS, rng)]
    found = modes(ours, real.subjects, theirs, rare_below, seed)
    lost = [m for m in found if m["real"] >= LARGE and m["synthetic"] < LOST * m["real"]]
    yardstick = float(covered(ours, fresh).mean())
    details = {"modes": found, "lost": len(lost), "looked_at": looked}
    return Score("fidelity.coverage", value, *interval(value, drawn, 0, 1), yardstick, "high", None, details)
