"""EM for mixtures: a Recipe is the data as the leaves see it, and makes Mixtures of any size; gmm.py chooses among them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.codes import Codes
from generators.layout import Layout
from generators.leaves import CHUNK, FLOOR, Gaussian, Tables

FAN = 20  # components that share a parent
BATCHES = 16  # the M step follows every so many parts of the data, at most
SCREEN = 8000  # rows on which the kind of leaves is chosen
BETTER = 1e-3  # nats a row that a pass must gain on held-out rows
MOST_GROUPS = 16  # groups that Gaussian components are split by, at most
EXPLAINED = 0.1  # share of the variance of the numbers from which they are
PATIENCE = 2  # passes that may gain less


def ungated(layout: Layout) -> list[int]:
    """Continuous fields that mean something in every row."""
    return [i for i in layout.continuous if layout.fields[i].gate is None]


def prepare(leaves, x: Tensor) -> list[tuple]:
    """Rows x (n, fields) as every leaf wants them, in chunks."""
    return list(zip(*(leaf.prepare(x) for leaf in leaves), strict=True))


def joint(leaves, log_pi: Tensor, chunks: tuple) -> Tensor:
    """(m, K): log p(row, component)."""
    return log_pi + sum(leaf.log_prob(chunk) for leaf, chunk in zip(leaves, chunks, strict=True))


def log_density(leaves, x: Tensor) -> Tensor:
    """(n,): what turns the probabilities of bins into densities."""
    return sum((leaf.codes.log_density(x) for leaf in leaves if isinstance(leaf, Tables)), torch.zeros(len(x)))


class Recipe:
    """Everything that mixtures of different sizes on the same data share."""

    def __init__(self, layout: Layout, x: Tensor, held_out: Tensor, *, numbers: str, bins: int, join: float, passes: int, seed: int):
        self.numbers, self.bins, self.x, self.passes = numbers, bins, x, passes
        self.rng = torch.Generator().manual_seed(seed)
        self.gaussian = ungated(layout) if numbers == "gaussian" else []
        coded = [i for i in range(len(layout)) if i not in self.gaussian]
        most = max(min(len(x) // 100, 300), 16)
        self.codes = Codes.fit(layout, coded, x, bins, join, most) if coded else None
        blank = self._leaves(1)
        self.train, self.held_out = prepare(blank, x), prepare(blank, held_out)
        self.density = float(log_density(blank, held_out).mean())
        if self.codes is not None:
            held = torch.bincount(self.codes.encode(x).reshape(-1), minlength=self.codes.size + 2)[:-2].float()
            self.margins = held / torch.zeros(len(self.codes.blocks)).index_add_(0, self.codes.block_of, held)[self.codes.block_of].clamp_min(1)
        self.group, share = self.starts()
        self.start = "clusters" if share > EXPLAINED else "rows"
        if self.gaussian:
            z = x[:, self.gaussian]
            self.pooled = torch.cov(z.t().double(), correction=0).reshape(z.shape[1], z.shape[1]) + FLOOR * torch.eye(z.shape[1])

    def _leaves(self, components: int) -> nn.ModuleList:
        tables = [Tables(self.codes, components)] if self.codes is not None else []
        return nn.ModuleList([*tables, *([Gaussian(self.gaussian, components)] if self.gaussian else [])])

    def mixture(self, components: int) -> Mixture:
        """A mixture of this size, whose tables are drawn toward those of a coarser one.

        It starts from "rows", each component at a row of its own, or from "clusters", see `_clusters`.
        """
        start, labels, components = self.start, None, min(components, len(self.x))
        if start == "clusters":
            labels = self._clusters(components)
            components = int(labels.max()) + 1
        rows = self.x[torch.randperm(len(self.x), generator=self.rng)[:components]]
        leaves, parents, upper = self._leaves(components), None, None
        if components >= 2 * FAN and self.codes is not None:
            coarse = self.mixture(max(components // FAN, 2))
            parents = torch.cat([joint(coarse.leaves, coarse.log_pi, chunks).argmax(1) for chunks in prepare(coarse.leaves, rows)])
            upper = coarse.leaves[0].strength
        for leaf in leaves:
            if isinstance(leaf, Tables):
                leaf.start(self.codes.encode(rows), self.margins, parents, upper)
            else:
                leaf.start(rows, self.pooled)
        if start == "clusters":
            leaves[0].pure = self.group
        return Mixture(self, leaves, components, start, labels)

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

    def _clusters(self, components: int) -> Tensor:
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


class Mixture:
    """Incremental EM: the sums of a part of the data are replaced by new ones, and an M step follows at once."""

    def __init__(self, recipe: Recipe, leaves: nn.ModuleList, components: int, start: str, labels: Tensor | None):
        self.recipe, self.leaves, self.start = recipe, leaves, start
        self.numbers, self.bins = recipe.numbers, recipe.bins
        self.log_pi = torch.full((components,), -math.log(components))
        self.history: list[float] = []
        self.score, saved, waited = -math.inf, None, 0
        size = max(math.ceil(len(recipe.train) / BATCHES), 1)
        parts = [recipe.train[i : i + size] for i in range(0, len(recipe.train), size)]
        sums: list = [None] * len(parts)
        first = list(F.one_hot(labels, components).float().split(CHUNK)) if labels is not None else None
        for i, part in enumerate(parts):
            sums[i] = self._sums(part, first and first[i * size : (i + 1) * size])
        self.total = [sum(s) for s in zip(*sums, strict=True)]
        self._update()
        for count in range(recipe.passes):
            for i, part in enumerate(parts if count else []):
                new = self._sums(part)
                self.total = [t - a + b for t, a, b in zip(self.total, sums[i], new, strict=True)]
                sums[i] = new
                self._update()
            self._tune()
            rows = torch.cat([joint(leaves, self.log_pi, chunks).logsumexp(1) for chunks in recipe.held_out])
            self.history.append(float(rows.mean()) + recipe.density)
            if self.history[-1] < self.score + BETTER:
                waited += 1
                if waited > PATIENCE:
                    break
            if self.history[-1] > self.score:
                waited = 0
                self.score, self.rows = self.history[-1], rows
                saved = ([t.clone() for t in self.total], [leaf.strength.clone() for leaf in leaves])
        self.total, strengths = saved
        for leaf, strength in zip(leaves, strengths, strict=True):
            leaf.strength.copy_(strength)
        self._update()

    def _sums(self, part: list, r_of: list[Tensor] | None = None) -> list[Tensor]:
        """The sums of the M step over some chunks, with responsibilities as they are, or those given."""
        out = None
        for j, chunks in enumerate(part):
            r = r_of[j] if r_of else torch.softmax(joint(self.leaves, self.log_pi, chunks), 1)
            new = [leaf.sums(chunk, r) for leaf, chunk in zip(self.leaves, chunks, strict=True)] + [r.sum(0)]
            out = new if out is None else [a + b for a, b in zip(out, new, strict=True)]
        return out

    def _update(self) -> None:
        for leaf, total in zip(self.leaves, self.total[:-1], strict=True):
            leaf.update(total if isinstance(leaf, Gaussian) else total.clamp_min(0))
        n = self.total[-1].clamp_min(0) + 1 / len(self.log_pi)
        self.log_pi = (n / n.sum()).log()

    def _tune(self) -> None:
        r = [torch.softmax(joint(self.leaves, self.log_pi, chunks), 1) for chunks in self.recipe.held_out]
        for i, (leaf, total) in enumerate(zip(self.leaves, self.total[:-1], strict=True)):
            leaf.tune(total if isinstance(leaf, Gaussian) else total.clamp_min(0), [c[i] for c in self.recipe.held_out], r)

    def surely_better(self, other: Mixture) -> bool:
        """By more than two standard errors of the difference over held-out rows: else the smaller one is to be had."""
        gain = self.rows - other.rows
        return bool(gain.mean() > 2 * gain.std(correction=0) / len(gain) ** 0.5)

    def absorb_held_out(self) -> None:
        """With sizes, strengths and passes chosen, the held-out rows are learned from too; empty components go."""
        self.total = [a + b for a, b in zip(self.total, self._sums(self.recipe.held_out), strict=True)]
        self._update()
        keep = torch.nonzero(self.total[-1] >= 0.5)[:, 0]
        for leaf in self.leaves:
            leaf.keep(keep)
        self.log_pi = self.log_pi[keep].log_softmax(0)
