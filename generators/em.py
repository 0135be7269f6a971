"""EM for mixtures and latent trees: the sums of a part of the data are replaced by new ones, and an M step follows at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.leaves import CHUNK, Gaussian, Tables
from generators.recipe import Recipe, joint, prepare
from generators.tree import STEP, Tree, parents_of

FAN = 20  # components that share a parent
BATCHES = 16  # the M step follows every so many parts of the data, at most
BETTER = 1e-3  # nats a row that a pass must gain on held-out rows
PATIENCE = 2  # passes that may gain less
GROWING = 3  # passes that a tree gets for one of a mixture
TUNED = 2000  # held-out rows on which the strengths of a tree are chosen


class Climb:
    """Leaves that EM has fitted to a recipe's rows, as far as that helped its held-out rows. model, start: what it is, and from what
    it came, in words; rows: log density of the held-out rows, nats, and score, their mean."""

    def __init__(self, recipe: Recipe, leaves: Sequence[nn.Module], components: int, model: str, start: str):
        self.recipe, self.leaves, self.model, self.start = recipe, leaves, model, start
        self.log_pi = torch.full((components,), -math.log(components))
        self.history: list[float] = []
        self.better = BETTER

    def _climb(self, parts: list, sums: list, passes: int) -> None:
        """parts of the data, and their sums to begin with."""
        self.score, saved, waited = -math.inf, None, 0
        self.total = [sum(s) for s in zip(*sums, strict=True)]
        self._update()
        for count in range(passes):
            for i, part in enumerate(parts if count else []):
                new = self._sums(part)
                self.total = [t - a + b for t, a, b in zip(self.total, sums[i], new, strict=True)]
                sums[i] = new
                self._update()
            self._tune()
            rows = self._rows() + self.recipe.density
            self.history.append(float(rows.mean()))
            if self.history[-1] < self.score + self.better:
                waited += 1
                if waited > PATIENCE:
                    break
            if self.history[-1] > self.score:
                waited = 0
                self.score, self.rows = self.history[-1], rows
                saved = ([t.clone() for t in self.total], [leaf.strength.clone() for leaf in self.leaves])
        self.total, strengths = saved
        for leaf, strength in zip(self.leaves, strengths, strict=True):
            leaf.strength.copy_(strength)
        self._update()

    def surely_better(self, other: Climb, by: float = 0.0) -> bool:
        """By more than two standard errors of the difference over held-out rows, and so many nats a row: else the simpler one is to be had."""
        gain = self.rows - other.rows - by
        return bool(gain.mean() > 2 * gain.std(correction=0) / len(gain) ** 0.5)

    def absorb_held_out(self) -> None:
        """With sizes, strengths and passes chosen, the held-out rows are learned from too."""
        self.total = [a + b for a, b in zip(self.total, self._sums(self._held_out), strict=True)]
        self._update()


class Mixture(Climb):
    """Components with leaves of their own."""

    @classmethod
    def of(cls, recipe: Recipe, components: int) -> Mixture:
        """A mixture of this size, whose tables are drawn toward those of a coarser one.

        It starts from "rows", each component at a row of its own, or from "clusters", see `Recipe.clusters`.
        """
        start, labels, components = recipe.start, None, min(components, len(recipe.x))
        if start == "clusters":
            labels = recipe.clusters(components)
            components = int(labels.max()) + 1
        rows = recipe.x[torch.randperm(len(recipe.x), generator=recipe.rng)[:components]]
        leaves, parents, upper = recipe.leaves(components), None, None
        if components >= 2 * FAN and recipe.codes is not None:
            coarse = cls.of(recipe, max(components // FAN, 2))
            parents = torch.cat([joint(coarse.leaves, coarse.log_pi, chunks).argmax(1) for chunks in prepare(coarse.leaves, rows)])
            upper = coarse.leaves[0].strength
        for leaf in leaves:
            if isinstance(leaf, Tables):
                leaf.start(recipe.codes.encode(rows), recipe.margins, parents, upper)
            else:
                leaf.start(rows, recipe.pooled)
        if start == "clusters":
            leaves[0].pure = recipe.group
        return cls(recipe, leaves, components, start, labels)

    def __init__(self, recipe: Recipe, leaves: nn.ModuleList, components: int, start: str, labels: Tensor | None):
        super().__init__(recipe, leaves, components, f"a mixture of {components} components", start)
        self._held_out, size = recipe.held_out, max(math.ceil(len(recipe.train) / BATCHES), 1)
        parts = [recipe.train[i : i + size] for i in range(0, len(recipe.train), size)]
        first = list(F.one_hot(labels, components).float().split(CHUNK)) if labels is not None else None
        sums = [self._sums(part, first and first[i * size : (i + 1) * size]) for i, part in enumerate(parts)]
        self._climb(parts, sums, recipe.passes)

    def _rows(self) -> Tensor:
        return torch.cat([joint(self.leaves, self.log_pi, chunks).logsumexp(1) for chunks in self._held_out])

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

    def absorb_held_out(self) -> None:
        """And empty components go."""
        super().absorb_held_out()
        keep = torch.nonzero(self.total[-1] >= 0.5)[:, 0]
        for leaf in self.leaves:
            leaf.keep(keep)
        self.log_pi = self.log_pi[keep].log_softmax(0)


class Grown(Climb):
    """A latent tree, grown from a mixture whose components its states start as."""

    def __init__(self, recipe: Recipe, seed: Mixture):
        self.tree = Tree(recipe.codes, parents_of(recipe.codes, recipe.x), len(seed.log_pi))
        self.tree.start(seed.log_pi.exp(), seed.leaves[0].log_theta[:-2].exp(), recipe.margins)
        super().__init__(recipe, nn.ModuleList([self.tree]), 1, f"a latent tree of {len(seed.log_pi)} states", "a mixture")
        codes, self._held_out = (torch.cat([chunks[0][0] for chunks in prepared]) for prepared in (recipe.train, recipe.held_out))
        parts = list(codes.split(max(math.ceil(len(codes) / BATCHES), 1)))
        self._climb(parts, [self._sums(part) for part in parts], GROWING * recipe.passes)

    @classmethod
    def of(cls, recipe: Recipe, states: int, seed: Mixture | None = None) -> Grown:
        """With so many states, from a mixture of as many components: this one, if it is."""
        return cls(recipe, seed if seed is not None and len(seed.log_pi) == states else Mixture.of(recipe, states))

    def _rows(self) -> Tensor:
        return self.tree.log_prob(self._held_out)[:, 0]

    def _sums(self, part: Tensor) -> list[Tensor]:
        return self.tree.sums(part)

    def _update(self) -> None:
        self.tree.update(*(t.clamp_min(0) for t in self.total))

    def _tune(self) -> None:
        """One step of each strength toward what makes held-out rows more likely."""
        for i in range(2):
            now, found = float(self.tree.strength[i]), {}
            for tried in (now, now * STEP, now / STEP):
                self.tree.strength[i] = tried
                self._update()
                found[tried] = float(self.tree.log_prob(self._held_out[:TUNED]).mean())
            self.tree.strength[i] = max(found, key=found.__getitem__)
        self._update()

    def absorb_held_out(self) -> None:
        """And frequencies are set right."""
        super().absorb_held_out()
        self.tree.settle(*(t.clamp_min(0) for t in self.total))
