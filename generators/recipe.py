"""A Recipe: the data as the leaves of a mixture see them, whatever its size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generators.codes import Codes
from generators.layout import Layout
from generators.leaves import FLOOR, Gaussian, Tables
from generators.series.held import Held
from generators.series.regression import Regression
from generators.tree import Tree

SCREEN = 8000  # rows on which the kind of leaves is chosen
MOST_GROUPS = 16  # groups that Gaussian components are split by, at most
EXPLAINED = 0.1  # share of the variance of the numbers from which they are


def prepare(leaves, x: Tensor) -> list[tuple]:
    """Rows x (n, fields) as every leaf wants them, in chunks."""
    return list(zip(*(leaf.prepare(x) for leaf in leaves), strict=True))


def joint(leaves, log_pi: Tensor, chunks: tuple) -> Tensor:
    """(m, K): log p(row, component)."""
    return log_pi + sum(leaf.log_prob(chunk) for leaf, chunk in zip(leaves, chunks, strict=True))


def log_density(leaves, x: Tensor) -> Tensor:
    """(n,): what turns the probabilities of bins into densities."""
    return sum((leaf.codes.log_density(x) for leaf in leaves if isinstance(leaf, Tables | Tree)), torch.zeros(len(x)))


def shape_of(leaves) -> dict:
    """What `leaves_like` needs beside the tensors."""
    coded = next((leaf for leaf in leaves if isinstance(leaf, Tables | Tree)), None)
    tree = {"parents": coded.parents, "states": coded.step.shape[1]} if isinstance(coded, Tree) else {}
    fields = next((leaf.fields for leaf in leaves if isinstance(leaf, Gaussian)), None)
    past = next(([leaf.fields, leaf.lags, leaf.width] for leaf in leaves if isinstance(leaf, Regression)), None)
    return {"blocks": coded and coded.codes.blocks, "gaussian": fields, "regression": past, "held": isinstance(coded, Held)} | tree


def leaves_like(layout: Layout, shape: dict, components: int, name: str, tensors: dict[str, Tensor]) -> nn.ModuleList:
    """Leaves as they were saved, to be filled; `name` is what the tensors call them."""
    leaves = nn.ModuleList()
    if shape["blocks"] is not None:
        edges = [tensors[f"{name}.0.codes.edges.{i}"] for i in range(len(layout))]
        combinations = [tensors[f"{name}.0.codes.combinations.{b}"] for b in range(len(shape["blocks"]))]
        codes = Codes(layout, shape["blocks"], edges, combinations)
        tables = Held if shape.get("held") else Tables
        leaves.append(Tree(codes, shape["parents"], shape["states"]) if "parents" in shape else tables(codes, components))
    if shape["gaussian"] is not None:
        leaves.append(Gaussian(shape["gaussian"], components))
    if shape.get("regression") is not None:
        leaves.append(Regression(*shape["regression"], components))
    return leaves


class Recipe:
    """Everything that mixtures of different sizes on the same data share."""

    def __init__(self, layout: Layout, x: Tensor, held_out: Tensor, *, numbers: str, bins: int, join: float, passes: int, seed: int):
        self.numbers, self.bins, self.x, self.passes = numbers, bins, x, passes
        self.rng = torch.Generator().manual_seed(seed)
        self.gaussian = layout.ungated if numbers == "gaussian" else []
        coded = [i for i in range(len(layout)) if i not in self.gaussian]
        most = max(min(len(x) // 100, 300), 16)
        self.codes = Codes.fit(layout, coded, x, bins, join, most) if coded else None
        blank = self.leaves(1)
        self.train, self.held_out = prepare(blank, x), prepare(blank, held_out)
        self.density = log_density(blank, held_out)  # of each held-out row, (m,)
        if self.codes is not None:
            held = torch.bincount(self.codes.encode(x).reshape(-1), minlength=self.codes.size + 2)[:-2].float()
            rows = torch.zeros(len(self.codes.blocks)).index_add_(0, self.codes.block_of, held)[self.codes.block_of]
            self.margins = torch.where(rows > 0, held, 1.0)  # of a field that is switched off in all these rows, all codes alike
            self.margins /= torch.zeros(len(self.codes.blocks)).index_add_(0, self.codes.block_of, self.margins)[self.codes.block_of]
        self.group, share = self.starts()
        self.start = "clusters" if share > EXPLAINED else "rows"
        if self.gaussian:
            z = x[:, self.gaussian]
            self.pooled = torch.cov(z.t().double(), correction=0).reshape(z.shape[1], z.shape[1]) + FLOOR * torch.eye(z.shape[1])

    def leaves(self, components: int) -> nn.ModuleList:
        """Leaves that know nothing yet."""
        tables = [Tables(self.codes, components)] if self.codes is not None else []
        return nn.ModuleList([*tables, *([Gaussian(self.gaussian, components)] if self.gaussian else [])])

    def at_least(self, components: int) -> int:
        """So many components, or as many as there are groups to keep apart."""
        return max(components, len(self.codes.combinations[self.group])) if self.start == "clusters" else components

    def starts(self) -> tuple[int | None, float]:
        """The block of codes that the numbers depend on most, and the share of their variance that it explains."""
        if not self.gaussian or self.codes is None:
            return None, 0.0
        codes = self.codes.encode(self.x) - self.codes.offsets[:-1]
        explained = [_explained(self.x[:, self.gaussian], c) if int(c.max()) < MOST_GROUPS else 0.0 for c in codes.t()]
        best = max(range(len(explained)), key=explained.__getitem__)
        return best, explained[best]

    def clusters(self, components: int) -> Tensor:
        """(n,) labels: rows split by the block that the numbers depend on most, then by k-means on the numbers.

        A diagnosis, say, that the numbers would not be split by of themselves: each component keeps to one, so that a
        classifier finds in the synthetic rows what it finds in the real ones.
        Discriminant analysis by Gaussian mixtures; T. Hastie, R. Tibshirani; 1996; https://doi.org/10.1111/j.2517-6161.1996.tb02073.x
        """
        from sklearn.cluster import KMeans

        z, labels, first = self.x[:, self.gaussian], torch.zeros(len(self.x), dtype=torch.long), 0
        group = self.codes.encode(self.x)[:, self.group] - self.codes.offsets[self.group]
        share = torch.bincount(group).double() / len(group)
        each = (share * (components - len(share))).clamp_min(0).round().long() + 1
        for g, k in enumerate(each.tolist()):
            rows = torch.nonzero(group == g)[:, 0]
            seed = int(torch.randint(2**31, (1,), generator=self.rng))
            if len(rows):
                k = min(k, len(rows))
                means = KMeans(k, n_init=1, max_iter=20, random_state=seed).fit(z[rows[:SCREEN]].numpy())
                labels[rows] = first + torch.from_numpy(means.predict(z[rows].numpy())).long()
                first += k
        return labels


def _explained(z: Tensor, group: Tensor) -> float:
    """Share of the variance of numbers z (n, d) that lies between groups (n,)."""
    count = torch.bincount(group).clamp_min(1)[:, None]
    mean = torch.zeros(len(count), z.shape[1]).index_add_(0, group, z) / count
    return float((count * (mean - z.mean(0)).square()).sum() / (z - z.mean(0)).square().sum())
