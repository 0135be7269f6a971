"""How mixtures of factor analysers are found: what EM starts from, how much it is drawn toward that, and when it stops; see gmm."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from generators.series.factors import CHUNK, FLOOR, Known, Parts, held_out, pick, posterior, redraw, sums, update

PRIOR, LITTLE = 1.0, 0.01  # rows' worth of belief that one component has in no structure at all and this much noise
STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0)  # rows' worth of belief that each of several components has in what all have in common
BEGUN = 10  # draws of numbers that stand for classes, given what is told alone, before all else
BELIEFS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e4)  # rows' worth of belief that what is told says nothing of a column's own
LOOKED = 64  # rows that are left out together
PATIENCE = 3  # passes that may gain nothing


@dataclass(frozen=True)
class Task:
    """What is learned from, and what says how well: rows in one basis. turned: fields of a step that are cosines in it.
    field (D,): of which field a column is a moment; -1 where it is none."""

    data: Known
    held: Known
    discrete: Tensor
    binary: Tensor
    turned: list[int]
    field: Tensor
    passes: int
    rng: torch.Generator


class Climbed:
    """A mixture that EM has fitted, as far as that helped held-out series. score: nats a held-out series."""

    def __init__(self, task: Task, begin: Callable[[Known], tuple[Parts, Parts]], strengths: list[Tensor], model: str, start: str):
        """begin: rows -> what EM starts from, and what components are drawn toward; strengths: how much, each of lines, see update, of which
        the best is taken."""
        self.task, self.begin, self.model, self.start = task, begin, model, start
        self.whole = self  # the one component that it was cut from
        parts, base = begin(task.data)
        self.score = -math.inf
        for strength in strengths:
            found, history = self._climb(parts, base, strength)
            if max(history) <= self.score:
                break
            self.score, self.parts, self.history, self.strength = max(history), found, history, strength

    @classmethod
    def one(cls, task: Task, q: int) -> Climbed:
        """One component of q factors, starting from principal directions of what is not told."""
        belief = _belief(task)

        def begin(data: Known) -> tuple[Parts, Parts]:
            found, base = _told(task, data, belief)
            for _ in range(BEGUN if len(task.discrete) else 0):
                nobody = torch.zeros(len(data.x), dtype=torch.long)
                redraw(data, task.discrete, found, nobody, data.told[:, :0], task.rng)
                found, base = _told(task, data, belief)
            start = _principal(data, found.lines[0], q)
            lines = torch.cat([base.lines, torch.zeros(1, len(task.field), start.factors, dtype=torch.double)], 2)
            return start, Parts(start.gate, lines, torch.full_like(start.noise, LITTLE))

        q = min(q, *task.data.x.shape)
        strength = torch.cat([belief, torch.full((len(belief), q), PRIOR, dtype=torch.double)], 1)
        return cls(task, begin, [strength], f"one component of {q} factors", "principal directions")

    def split(self, k: int) -> Climbed:
        """k components of as many factors: one of all, cut into clusters of its factors, toward which they are drawn."""
        one = self.whole

        def begin(data: Known) -> tuple[Parts, Parts]:
            start = _clusters(data, one.parts if data is self.task.data else one.again(data), k, self.task.rng)
            return start, start

        strengths = [torch.full((one.parts.lines.shape[2],), s, dtype=torch.double) for s in STRENGTHS]
        tried = Climbed(self.task, begin, strengths, f"a mixture of {k} components of {one.parts.factors} factors", "clusters")
        tried.whole = one
        return tried

    def _climb(self, parts: Parts, base: Parts, strength: Tensor) -> tuple[Parts, list[float]]:
        task, best, waited, history = self.task, parts, 0, []
        for _ in range(task.passes):
            parts = update(sums(task.data, task.discrete, parts, task.rng), base, strength, task.binary)
            score = float(held_out(task.held, task.discrete, parts, task.rng).mean())
            waited = 0 if not history or score > max(history) + 1e-3 else waited + 1
            if not history or score > max(history):
                best = parts
            history.append(score)
            if waited > PATIENCE:
                break
        return best, history

    def again(self, data: Known) -> Parts:
        """The same with other rows: as many passes, drawn toward as much."""
        parts, base = self.begin(data)
        for _ in range(1 + self.history.index(self.score)):
            parts = update(sums(data, self.task.discrete, parts, self.task.rng), base, self.strength, self.task.binary)
        return parts


def _told(task: Task, data: Known, strength: Tensor) -> tuple[Parts, Parts]:
    """One component of no factors, what is told alone; and what it is drawn toward: effects that all moments of a field have in common.
    strength (D, r)."""
    r, seen = data.told.shape[1], data.mask.double()
    both, cross = seen.t() @ (data.told[:, :, None] * data.told[:, None, :]).flatten(1), (seen * data.x).t() @ data.told
    base = torch.zeros(1, len(both), r, dtype=torch.double)
    for field in task.field.unique().tolist():
        if field >= 0:
            base[0, task.field == field, 1:] = _common(both.view(-1, r, r)[task.field == field], cross[task.field == field])
    toward = Parts(torch.zeros(1, r, dtype=torch.double), base, torch.ones(1, len(both), dtype=torch.double))
    return update([(data.told.t() @ data.told, both, cross, (seen * data.x**2).sum(0))], toward, strength, task.binary), toward


def _common(both: Tensor, cross: Tensor) -> Tensor:
    """(r - 1,): one effect of what is told on several columns, each of which has a level of its own. both (d, r, r), cross (d, r)."""
    held, middle = both[:, 0, 0].clamp_min(1), both[:, 0, 1:]
    within = (both[:, 1:, 1:] - middle[:, :, None] * middle[:, None, :] / held[:, None, None]).sum(0)
    along = (cross[:, 1:] - cross[:, :1] * middle / held[:, None]).sum(0)
    return torch.linalg.solve(within + PRIOR * len(both) * torch.eye(len(along), dtype=torch.double), along)


def _belief(task: Task) -> Tensor:
    """(D, r): series' worth of belief that what is told says the same at all moments, or nothing; for each column that which best foretells
    the rows that it has not seen, one left out at a time (in closed form).

    Matrix computations for ridge regression: D. Allen; 1974 (PRESS); https://doi.org/10.1080/00401706.1974.10489157
    """
    data = next(task.data.chunks())
    seen, (n, r) = data.mask.double(), data.told.shape
    both = (seen.t() @ (data.told[:, :, None] * data.told[:, None, :]).flatten(1)).view(-1, r, r)
    out = torch.full((len(both), r), STRENGTHS[0], dtype=torch.double)
    out[:, 0] = PRIOR
    least = torch.full((len(both),), math.inf, dtype=torch.double)
    for belief in BELIEFS if r > 1 else ():
        strength = torch.full_like(out, belief)
        strength[:, 0] = PRIOR
        lines, back = _told(task, data, strength)[0].lines[0], torch.linalg.inv(both + torch.diag_embed(strength))
        wrong = torch.zeros_like(least)
        for i in torch.arange(n).split(LOOKED):
            told = data.told[i]
            pull = torch.einsum("nr,drs,ns->nd", told, back, told) * seen[i]
            wrong += (seen[i] * ((data.x[i] - told @ lines.t()) / (1 - pull).clamp_min(0.01)) ** 2).sum(0)
        out = torch.where((wrong < least)[:, None], strength, out)
        least = torch.minimum(wrong, least)
    return out


def _principal(data: Known, line: Tensor, q: int) -> Parts:
    """One component from principal directions of rows less what is told, whose gaps are filled with that. line (D, r)."""
    seen = data.mask.double()
    count = seen.sum(0)
    off = (data.x - data.told @ line.t()) * seen
    _, s, v = torch.linalg.svd(off[: 4 * CHUNK], full_matrices=False)
    q = min(q, len(s))
    total = (off**2).sum(0) / count.clamp_min(1)
    load = v[:q].t() * s[:q] / min(len(off), 4 * CHUNK) ** 0.5
    load = load * 0.9
    noise = (torch.where(count > 0, total, 1.0) - (load**2).sum(1)).clamp_min(0.05 * total + FLOOR)
    return Parts(torch.zeros(1, data.told.shape[1], dtype=torch.double), torch.cat([line, load], 1)[None], noise[None])


def _clusters(data: Known, one: Parts, k: int, rng: torch.Generator) -> Parts:
    """One component cut into k, by clusters of what is known of its factors: f = mean_k + C_k^1/2 g within each."""
    r = data.told.shape[1]
    found = [posterior(some, one.lines[0], one.noise[0])[1:] for some in data.chunks()]
    f, spread = torch.cat([mean for mean, _ in found]), torch.cat([torch.cholesky_inverse(root) for _, root in found])
    middle = f[torch.randperm(len(f), generator=rng)[:1]]
    while len(middle) < k:  # k-means++
        far = torch.cdist(f, middle).min(1).values.square()
        middle = torch.cat([middle, f[pick(far[None] + 1e-12, rng)]])
    for _ in range(20):
        near = torch.cdist(f, middle).argmin(1)
        held = torch.bincount(near, minlength=k).double()
        total = torch.zeros(k, f.shape[1], dtype=torch.double).index_add_(0, near, f)
        middle = torch.where(held[:, None] > 0, total / held[:, None].clamp_min(1), middle)
    lines, base = [], STRENGTHS[1]
    pooled = (spread + (f - middle[near])[:, :, None] * (f - middle[near])[:, None]).mean(0)
    load = one.lines[0, :, r:]
    for j in range(k):
        own = f[near == j] - middle[j]
        inside = (spread[near == j].sum(0) + own.t() @ own + base * pooled) / (len(own) + base)
        told = one.lines[0, :, :r].clone()
        told[:, 0] += load @ middle[j]
        lines.append(torch.cat([told, load @ torch.linalg.cholesky(inside)], 1))
    gate = torch.zeros(k, r, dtype=torch.double)
    gate[:, 0] = ((held + 1) / (held + 1).sum()).log()
    return Parts(gate, torch.stack(lines), one.noise.expand(k, -1).clone())
