"""Are synthetic images like the real ones, do they show what their label says, and are they as useful? All through the judges' own network.

frechet    Frechet distance of features to those of the holdout, in units of what as many training pictures are away; 1: no farther. Each direction of
           features counts alike (variance 1 among training pictures): else one or two decide, and another seed of the network decides otherwise
density    in how many real pictures' neighbourhoods a synthetic one lies, of those that it should; 1: as real ones, below: outliers
agreement  share of synthetic pictures that the network, which learned from real ones, takes for what their label says, relative to real ones
target     balanced accuracy on held-out pictures of a network that learned from synthetic ones, relative to one that learned from real ones

"GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (the distance), Heusel, Ramsauer, Unterthiner, Nessler
and Hochreiter, 2017, https://arxiv.org/abs/1706.08500; "Demystifying MMD GANs" (the kernel), Binkowski, Sutherland, Arbel and Gretton, 2018,
https://arxiv.org/abs/1801.01401; "Reliable fidelity and diversity metrics for generative models", Naeem, Oh, Uh, Choi and Yoo, 2020,
https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from sklearn.metrics import balanced_accuracy_score

from generators.data import Table
from validation.coverage import NEIGHBOURS, reach
from validation.inception import inception, weights
from validation.pictures import kinds, shown, through, trained
from validation.pictures import look as looked
from validation.resampling import interval, sample, split, too_few
from validation.score import Score

MOST, DRAWS = 5000, 30
FLAT = 1e-3  # of the largest variance: a direction that varies less counts as though it varied so much


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of two sets of rows."""
    (m, c), (n, d) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (a.astype(float), b.astype(float)))
    values, vectors = eigh(c)
    half = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return float(((m - n) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * np.sqrt(eigh(half @ d @ half, eigvals_only=True).clip(0)).sum())


def alike(features: np.ndarray) -> np.ndarray:
    """(width, width): what turns features so that they vary as much in every direction."""
    values, vectors = eigh(np.cov(features.astype(float), rowvar=False))
    return vectors / np.sqrt(np.maximum(values, max(FLAT * values[-1], 1e-12)))


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared maximum mean discrepancy, kernel (x'y / width + 1)^3, unbiased."""
    k = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3  # noqa: E731
    within = lambda m: (m.sum() - np.trace(m)) / (len(m) * (len(m) - 1))  # noqa: E731
    return float(within(k(a, a)) + within(k(b, b)) - 2 * k(a, b).mean())


def dense(real: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(rows of other,): in how many neighbourhoods of real rows (to the k-th neighbour) each lies, divided by k."""
    squares = (real**2).sum(1)[:, None] + (other**2).sum(1) - 2 * real @ other.T
    return (squares <= reach(real)[:, None] ** 2).sum(0) / min(NEIGHBOURS, len(real) - 1)


def _equal(rng: np.random.Generator, *tables: Table) -> list[Table]:
    """As many pictures of each."""
    size = min(MOST, *map(len, tables))
    return [sample(t, size, rng) for t in tables]


def frechet(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """Interval by bootstrap over synthetic pictures. Yardstick: one half of the holdout in place of them, the other as the holdout."""
    if few := too_few(train, holdout, synthetic):
        return Score("fidelity.frechet", 0.0, 0.0, 0.0, 1.0, "low", few, {})
    rng, look = np.random.default_rng(seed), looked(train, seed)
    real, held, made = _equal(rng, train, holdout, synthetic)
    turn = alike(look.features(real))
    a, b, s = (look.features(t) @ turn for t in (real, held, made))
    unit = distance(a, b)
    value = distance(s, b) / unit
    drawn = np.array([distance(s[rng.integers(len(s), size=len(s))], b) for _ in range(DRAWS)]) / unit
    low, high = interval(value, drawn, 0)
    half, one, other = (look.features(t) @ turn for t in _equal(rng, real, *split(held, 2, rng)))
    details = {
        "distance": {"synthetic": value * unit, "train": unit},
        "kernel": {"synthetic": kernel_distance(s, b), "train": kernel_distance(a, b)},
        "directions": dict(zip(("synthetic", "train"), (distance(look.places(t), look.places(held)) for t in (made, train)), strict=True)),
        "pictures": len(s), "network": look.digest, "seed": seed,
    }  # fmt: skip
    if path := weights():
        details["inception"] = inception(path, held, synthetic=made, train=real)
    return Score("fidelity.frechet", value, low, high, distance(one, other) / distance(half, other), "low", None, details)


def density(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """Interval by bootstrap over synthetic pictures. Yardstick: the holdout in place of them."""
    if few := too_few(train, holdout, synthetic):
        return Score("fidelity.density", 0.0, 0.0, 1.0, 1.0, "high", few, {})
    rng, look = np.random.default_rng(seed), looked(train, seed)
    a, b, s = (look.features(t).astype(float) for t in _equal(rng, train, holdout, synthetic))
    found = dense(a, s)
    drawn = [found[rng.integers(len(found), size=len(found))].mean() for _ in range(DRAWS)]
    return Score("fidelity.density", float(found.mean()), *interval(found.mean(), drawn, 0), float(dense(a, b).mean()), "high", None, {"pictures": len(s)})


def agreement(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """Interval by bootstrap over synthetic pictures. Yardstick: 1, the holdout itself."""
    if few := too_few(train, holdout, synthetic):
        return Score("fidelity.agreement", 0.0, 0.0, 1.0, 1.0, "high", few, {})
    rng, look = np.random.default_rng(seed), looked(train, seed)
    if look.names is None:
        return Score("fidelity.agreement", 1.0, 1.0, 1.0, 1.0, "high", None, {"kinds": 1})
    real, made = ((through(look.net, shown(t)).argmax(1) == kinds(t, look.names)[0].numpy()).astype(float) for t in (holdout, synthetic))
    least = max(real.mean(), 1e-9)
    drawn = [made[rng.integers(len(made), size=len(made))].mean() / least for _ in range(DRAWS)]
    value, details = float(made.mean() / least), {"synthetic": float(made.mean()), "holdout": float(real.mean())}
    return Score("fidelity.agreement", value, *interval(value, drawn, 0), 1.0, "high", None, details)


def target(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """Interval by bootstrap over held-out pictures. Yardstick: 1, real training pictures in place of synthetic ones."""
    if few := too_few(train, holdout, synthetic):
        return Score("utility.target", 0.0, 0.0, 1.0, 1.0, "high", few, {})
    if looked(train, seed).names is None:
        return Score("utility.target", 0.0, 0.0, 1.0, 1.0, "high", "the images to learn from are all of one class", {})
    rng, names = np.random.default_rng(seed), kinds(train)[1]
    truth, x, (y, _) = kinds(holdout, names)[0].numpy(), shown(holdout), kinds(synthetic, names)
    nets = {"real": looked(train, seed).net, "synthetic": trained(shown(synthetic)[y >= 0], y[y >= 0], len(names), seed)}
    said = {name: through(net, x).argmax(1) for name, net in nets.items()}

    def right(rows: np.ndarray) -> dict[str, float]:
        return {name: float(balanced_accuracy_score(truth[rows], given[rows])) for name, given in said.items()}

    known = np.flatnonzero(truth >= 0)
    value, drawn = right(known), [right(rng.choice(known, len(known))) for _ in range(DRAWS)]
    details = {n: {"value": value[n], "interval": interval(value[n], [d[n] for d in drawn], 0)} for n in said} | {
        "target": train.schema.target, "metric": "balanced accuracy", "each": "The share of each class's held-out images that is told right.",
        "classes": {
            n: {"holdout_rows": int((truth == i).sum()), **{k: float((s[truth == i] == i).mean()) for k, s in said.items()}}
            for i, n in enumerate(names) if (truth == i).sum() >= rare_below
        },
    }  # fmt: skip
    share = lambda found: found["synthetic"] / max(found["real"], 1e-9)  # noqa: E731
    return Score("utility.target", share(value), *interval(share(value), [share(d) for d in drawn], 0), 1.0, "high", None, details)
