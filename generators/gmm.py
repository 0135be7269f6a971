"""GMM: a mixture over mixed fields, p(x) = sum_k pi_k prod_leaf p_leaf(x | k), fitted by incremental EM.

Leaves: tables over codes (categories, binned numbers and blocks of fields that depend on each other strongly) and full
covariance Gaussians over continuous fields. Numbers are binned or Gaussian, and there are many components or few,
whichever gives held-out rows the higher likelihood.

Maximum likelihood from incomplete data via the EM algorithm; A. Dempster, N. Laird, D. Rubin; 1977; https://doi.org/10.1111/j.2517-6161.1977.tb01600.x
A view of the EM algorithm that justifies incremental, sparse, and other variants; R. Neal, G. Hinton; 1998; https://doi.org/10.1007/978-94-011-5014-9_12
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.codes import Codes
from generators.layout import Given, Layout
from generators.leaves import CHUNK, FLOOR, Gaussian, Tables
from generators.threads import single_thread

FAN = 20  # components that share a parent
BATCHES = 16  # the M step follows every so many parts of the data, at most
WIDEST = 64  # numbers that a full covariance is tried for, at most
SCREEN = 8000  # rows on which the kind of leaves is chosen
HELD_OUT = 4000  # held-out rows that are looked at, at most
BETTER = 1e-3  # nats a row that a pass must gain on held-out rows
ROWS_A_NUMBER = 5  # rows for each number that a component with a full covariance must have, on average
MOST_GROUPS = 16  # groups that Gaussian components are split by, at most
EXPLAINED = 0.1  # share of the variance of the numbers from which they are
PATIENCE = 2  # passes that may gain less


class GMM(nn.Module):
    """layout: what a row is.

    components: how many to start with, if more than one for 100 rows only where that measures better;
                None: one for 100 rows where numbers are binned, else sizes doubled while that helps
    numbers:    "binned", "gaussian", or "auto": whichever measures better on held-out rows
    bins:       bins of a number; None tries some that suit the number of rows
    join:       fields with more mutual information than this, in nats, become one block
    passes:     passes over the data at most
    """

    def __init__(self, layout: Layout, components: int | None = None, numbers: str = "auto", bins: int | None = None, join: float = 0.06, passes: int = 12):
        super().__init__()
        if numbers not in ("auto", "binned", "gaussian"):
            raise ValueError(f"numbers: found {numbers!r}, expected auto, binned or gaussian")
        for name, value in (("components", components), ("bins", bins), ("passes", passes)):
            if value is not None and not (isinstance(value, int) and 1 <= value <= 1_000_000):
                raise ValueError(f"{name}: found {value!r}, expected a whole number, 1 or more")
        if not isinstance(join, (int, float)) or join < 0:
            raise ValueError(f"join: found {join!r}, expected nats, 0 or more")
        self.layout, self.numbers, self.join, self.passes = layout, numbers, join, passes
        self.components, self.bins = components, bins
        self.leaves = nn.ModuleList()
        self.register_buffer("log_pi", torch.zeros(0))
        self.curve: list[dict] = []

    @torch.no_grad()
    def fit(self, x: Tensor, held_out: Tensor, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None) -> GMM:
        """x (n, fields), held_out (m, fields). Tries the sizes and kinds of leaves asked for, keeps the best on held_out."""
        x, held_out = (rows[torch.randperm(len(rows), generator=rng)] for rows in (x, held_out))
        held_out = held_out[:HELD_OUT]
        seed = int(torch.randint(2**62, (1,), generator=rng))
        with single_thread():
            first = self._screen(x[:SCREEN], held_out, seed, log)
            recipe, best = _Recipe(self, x, held_out, first.numbers, first.bins, seed), None
            for components in sorted({recipe.at_least(k) for k in self._sizes(len(x), first.numbers)}):
                tried = recipe.mixture(components)
                self._note(tried, log)
                if best is not None and not tried.surely_better(best):
                    break  # more components do not help
                best = tried
            best.absorb_held_out()
        self.curve[best.note]["chosen"] = True
        self.leaves, self.log_pi = best.leaves, best.log_pi
        return self

    def _screen(self, x: Tensor, held_out: Tensor, seed: int, log) -> _Mixture:
        """A first look at some of the rows: which kind of leaves for numbers, how many bins, and what start."""
        widest = min(max(len(x) // 80, 8), 128)
        bins = [self.bins] if self.bins else sorted({max(widest // 3, 8), widest}) if self.layout.continuous else [widest]
        some = 2 <= len(_ungated(self.layout)) <= WIDEST
        kinds = [self.numbers] if self.numbers != "auto" else ["binned", "gaussian"] if some else ["binned"]
        tried = [_Recipe(self, x, held_out, "binned", b, seed).mixture(max(len(x) // 200, 1)) for b in bins] if "binned" in kinds else []
        if "gaussian" in kinds:
            best = max(tried, key=lambda t: t.score).bins if tried else bins[-1]
            recipe = _Recipe(self, x, held_out, "gaussian", best, seed)
            tried += [recipe.mixture(k) for k in sorted({recipe.at_least(k) for k in (2, 4, 16) if k <= self._most(len(x))})]
        for t in tried:
            self._note(t, log)
        return max(tried, key=lambda t: t.score)

    def _sizes(self, n: int, numbers: str) -> list[int]:
        if self.components:
            return sorted({min(self.components, max(n // 100, 1)), min(self.components, n)})  # more only if that measures better
        if numbers == "gaussian":
            return [k for k in (2**i for i in range(0, 11, 1 if n < 5000 else 2)) if k <= self._most(n)]
        return [min(max(n // 100, 1), 1000)]

    def _most(self, n: int) -> int:
        """Full covariances that n rows can bear: of fewer rows each, they would describe persons."""
        return max(n // (ROWS_A_NUMBER * max(len(_ungated(self.layout)), 4)), 2)

    def _note(self, tried: _Mixture, log) -> None:
        size, tried.note = len(tried.log_pi), len(self.curve)
        self.curve.append(
            {"rows": len(tried.recipe.x), "components": size, "numbers": tried.numbers, "bins": tried.bins, "start": tried.start, "held_out": tried.history}
        )
        what = f"{size} components on {len(tried.recipe.x)} rows, {tried.numbers}, {tried.bins} bins, from {tried.start}"
        log(f"gmm: {what}: {tried.score:.3f} nats a row held out")

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """(n, fields) -> (n,) nats."""
        out = [_joint(self.leaves, self.log_pi, chunks).logsumexp(1) for chunks in _prepare(self.leaves, x)]
        return torch.cat(out) + _log_density(self.leaves, x)

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Tensor:
        """(n, fields). Components and, within each, values are drawn systematically: shares come out as exactly as n allows.

        Raises ValueError where what is given has no probability.
        """
        x = torch.zeros(n, len(self.layout))
        if given is None or not given.mask.any():
            groups, which = [None], torch.zeros(n, dtype=torch.long)
        else:
            asked, which = torch.unique(given.values, dim=0, return_inverse=True)
            groups = [Given(row[None], given.mask) for row in asked]
        for g, one in enumerate(groups):
            rows = torch.nonzero(which == g)[:, 0]
            rows = rows[torch.randperm(len(rows), generator=rng)]
            log_p = self.log_pi if one is None else self.log_pi + sum(leaf.log_given(one) for leaf in self.leaves)
            if not torch.isfinite(log_p).any():
                raise ValueError("no row can meet the condition: the model gives it no probability")
            share = torch.softmax(log_p.double(), 0).cumsum(0)
            u = (torch.arange(len(rows), dtype=torch.double) + torch.rand(1, generator=rng, dtype=torch.double)) / max(len(rows), 1)
            k = torch.bucketize(u * share[-1], share).clamp_max(len(share) - 1)
            drawn = torch.zeros(len(rows), len(self.layout))
            for leaf in self.leaves:
                leaf.sample(k, one, drawn, rng=rng)
            x[rows] = drawn if one is None else torch.where(given.mask, one.values, drawn)
        return x

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many rows."""
        sizes = self._sizes(int(rows * 0.9), "binned")
        return f"a mixture of {sizes[-1]} components (or fewer Gaussian ones where that measures better)"

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        blocks = next((leaf.codes.blocks for leaf in self.leaves if isinstance(leaf, Tables)), None)
        fields = next((leaf.fields for leaf in self.leaves if isinstance(leaf, Gaussian)), None)
        return {"components": len(self.log_pi), "blocks": blocks, "gaussian": fields, "curve": self.curve}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> GMM:
        """Builds the leaves as they were saved and fills them."""
        components, self.curve = structure["components"], structure["curve"]
        if structure["blocks"] is not None:
            edges = [tensors[f"leaves.0.codes.edges.{i}"] for i in range(len(self.layout))]
            combinations = [tensors[f"leaves.0.codes.combinations.{b}"] for b in range(len(structure["blocks"]))]
            self.leaves.append(Tables(Codes(self.layout, structure["blocks"], edges, combinations), components))
        if structure["gaussian"] is not None:
            self.leaves.append(Gaussian(structure["gaussian"], components))
        self.log_pi = torch.zeros(components)
        self.load_state_dict(tensors)
        return self


def _ungated(layout: Layout) -> list[int]:
    """Continuous fields that mean something in every row."""
    return [i for i in layout.continuous if layout.fields[i].gate is None]


def _prepare(leaves, x: Tensor) -> list[tuple]:
    return list(zip(*(leaf.prepare(x) for leaf in leaves), strict=True))


def _joint(leaves, log_pi: Tensor, chunks: tuple) -> Tensor:
    """(m, K): log p(row, component)."""
    return log_pi + sum(leaf.log_prob(chunk) for leaf, chunk in zip(leaves, chunks, strict=True))


def _log_density(leaves, x: Tensor) -> Tensor:
    return sum((leaf.codes.log_density(x) for leaf in leaves if isinstance(leaf, Tables)), torch.zeros(len(x)))


class _Recipe:
    """Everything that mixtures of different sizes on the same data share."""

    def __init__(self, model: GMM, x: Tensor, held_out: Tensor, numbers: str, bins: int, seed: int):
        self.numbers, self.bins, self.x, self.passes = numbers, bins, x, model.passes
        self.rng = torch.Generator().manual_seed(seed)
        self.gaussian = _ungated(model.layout) if numbers == "gaussian" else []
        coded = [i for i in range(len(model.layout)) if i not in self.gaussian]
        most = max(min(len(x) // 100, 300), 16)
        self.codes = Codes.fit(model.layout, coded, x, bins, model.join, most) if coded else None
        blank = self._leaves(1)
        self.train, self.held_out = _prepare(blank, x), _prepare(blank, held_out)
        self.density = float(_log_density(blank, held_out).mean())
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

    def mixture(self, components: int) -> _Mixture:
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
            parents = torch.cat([_joint(coarse.leaves, coarse.log_pi, chunks).argmax(1) for chunks in _prepare(coarse.leaves, rows)])
            upper = coarse.leaves[0].strength
        for leaf in leaves:
            if isinstance(leaf, Tables):
                leaf.start(self.codes.encode(rows), self.margins, parents, upper)
            else:
                leaf.start(rows, self.pooled)
        if start == "clusters":
            leaves[0].pure = self.group
        return _Mixture(self, leaves, components, start, labels)

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


class _Mixture:
    """Incremental EM: the sums of a part of the data are replaced by new ones, and an M step follows at once."""

    def __init__(self, recipe: _Recipe, leaves: nn.ModuleList, components: int, start: str, labels: Tensor | None):
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
            rows = torch.cat([_joint(leaves, self.log_pi, chunks).logsumexp(1) for chunks in recipe.held_out])
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
            r = r_of[j] if r_of else torch.softmax(_joint(self.leaves, self.log_pi, chunks), 1)
            new = [leaf.sums(chunk, r) for leaf, chunk in zip(self.leaves, chunks, strict=True)] + [r.sum(0)]
            out = new if out is None else [a + b for a, b in zip(out, new, strict=True)]
        return out

    def _update(self) -> None:
        for leaf, total in zip(self.leaves, self.total[:-1], strict=True):
            leaf.update(total if isinstance(leaf, Gaussian) else total.clamp_min(0))
        n = self.total[-1].clamp_min(0) + 1 / len(self.log_pi)
        self.log_pi = (n / n.sum()).log()

    def _tune(self) -> None:
        r = [torch.softmax(_joint(self.leaves, self.log_pi, chunks), 1) for chunks in self.recipe.held_out]
        for i, (leaf, total) in enumerate(zip(self.leaves, self.total[:-1], strict=True)):
            leaf.tune(total if isinstance(leaf, Gaussian) else total.clamp_min(0), [c[i] for c in self.recipe.held_out], r)

    def surely_better(self, other: _Mixture) -> bool:
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
