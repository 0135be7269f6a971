"""Mixtures whose numbers are known, and all rows that they can make."""

import itertools
import math

import numpy as np
import torch
from scipy.stats import chi2

from generators.codes import Codes
from generators.gmm import GMM
from generators.layout import Field, Layout


def codes_of(layout: Layout, blocks: list[list[int]], bins: int) -> tuple[list, list]:
    """(edges, combinations) that Codes finds in data that hold every combination."""
    grid = [torch.arange(f.classes) if f.classes else torch.tensor([*f.cuts, 9.0]) for f in layout.fields]
    x = torch.cartesian_prod(*[g.float() for g in grid]).view(-1, len(grid))
    codes = Codes.fit(layout, sorted(itertools.chain(*blocks)), x * layout.active(x), bins, math.inf, 1000)
    sizes = [f.classes or len(e) - 1 for f, e in zip(layout.fields, codes.edges, strict=True)]
    combinations = [torch.cartesian_prod(*[torch.arange(sizes[i]) for i in b]).view(-1, len(b)) for b in blocks]
    return [e.data for e in codes.edges], combinations


def mixture(layout: Layout, pi, blocks=None, gaussian=None, bins: int = 50, seed: int = 0) -> GMM:
    """A mixture with known shares pi, random tables over whole blocks, and random Gaussians over some fields."""
    stream, K, tensors = np.random.default_rng(seed), len(pi), {"log_pi": torch.tensor(pi, dtype=torch.float32).log()}
    if blocks:
        edges, combinations = codes_of(layout, blocks, bins)
        theta = np.concatenate([stream.dirichlet(np.full(len(c), 0.8), K).T for c in combinations])
        tensors["leaves.0.log_theta"] = torch.tensor(np.concatenate([theta, np.full((1, K), 1e-30), np.ones((1, K))]), dtype=torch.float32).log()
        tensors["leaves.0.strength"] = torch.ones(len(blocks))
        tensors |= {f"leaves.0.codes.edges.{i}": e for i, e in enumerate(edges)}
        tensors |= {f"leaves.0.codes.combinations.{b}": c for b, c in enumerate(combinations)}
    if gaussian:
        leaf, d = f"leaves.{int(bool(blocks))}", len(gaussian)
        a = stream.normal(size=(K, d, d + 2))
        tensors |= {
            f"{leaf}.mean": torch.tensor(stream.normal(size=(K, d))),
            f"{leaf}.cholesky": torch.linalg.cholesky(torch.tensor(a @ a.transpose(0, 2, 1)) / d),
        }
        tensors[f"{leaf}.strength"] = torch.tensor(1.0)
    return GMM(layout).restore({"components": K, "blocks": blocks, "gaussian": gaussian, "curve": []}, tensors)


def em_step(leaves, log_pi: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """One step without priors or tuning; the new log shares."""
    prepared = [leaf.prepare(x) for leaf in leaves]
    sums, total = [0.0] * len(leaves), 0.0
    for leaf in leaves:
        leaf.strength.zero_()
    for chunks in zip(*prepared, strict=True):
        r = torch.softmax(log_pi + sum(leaf.log_prob(c) for leaf, c in zip(leaves, chunks, strict=True)), 1)
        sums, total = [s + leaf.sums(c, r) for s, leaf, c in zip(sums, leaves, chunks, strict=True)], total + r.sum(0)
    for leaf, s in zip(leaves, sums, strict=True):
        leaf.update(s)
    return (total / total.sum()).log()


def agree(counts: torch.Tensor, p: torch.Tensor) -> bool:
    """Chi-square, at one in a thousand; systematic draws lie well below."""
    expected = p / p.sum() * counts.sum()
    few = expected < 1e-6
    assert not counts[few].any()
    return float(((counts - expected)[~few] ** 2 / expected[~few]).sum()) < chi2.ppf(0.999, max(int((~few).sum()) - 1, 1))


def tree(layout: Layout, parents: list[int], blocks: list[list[int]], states: int = 3, bins: int = 50, seed: int = 0) -> GMM:
    """A latent tree with random probabilities."""
    stream = np.random.default_rng(seed)
    edges, combinations = codes_of(layout, blocks, bins)
    theta = np.concatenate([stream.dirichlet(np.full(len(c), 0.8), states).T for c in combinations])
    step = np.stack([stream.dirichlet(np.full(states, 0.8), states) for _ in parents])
    step[parents.index(-1)] = step[parents.index(-1)][0]
    tensors = {"log_pi": torch.zeros(1), "leaves.0.strength": torch.ones(2)}
    tensors["leaves.0.step"] = torch.tensor(step, dtype=torch.float32)
    tensors["leaves.0.theta"] = torch.tensor(np.concatenate([theta, np.full((1, states), 1e-30), np.ones((1, states))]), dtype=torch.float32)
    tensors |= {f"leaves.0.codes.edges.{i}": e for i, e in enumerate(edges)}
    tensors |= {f"leaves.0.codes.combinations.{b}": c for b, c in enumerate(combinations)}
    structure = {"components": 1, "blocks": blocks, "gaussian": None, "curve": [], "parents": parents, "states": states}
    return GMM(layout).restore(structure, tensors)


def grid(n: int = 40_000) -> tuple[torch.Tensor, float]:
    z = torch.linspace(-9, 9, n + 1)[:-1] + 9 / n
    return z, 18 / n


def every(layout: Layout) -> torch.Tensor:
    """All rows of a layout of one-of-k fields."""
    return torch.cartesian_prod(*[torch.arange(float(f.classes)) for f in layout.fields]).view(-1, len(layout))


CATEGORIES = Layout((Field(2), Field(3), Field(2), Field(4)))
SOME_CUTS = (-1.2, -0.4, 0.0, 0.3, 1.1)
NUMBERS = Layout((Field(3), Field(cuts=SOME_CUTS)))
GATED = Layout((Field(3), Field(gate=0, cuts=SOME_CUTS), Field(2)))
