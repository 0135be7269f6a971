"""Mixtures of factor analysers over rows with gaps and classes, given what is told of each row, by stochastic EM; see gmm.

p(x | told) = sum_k softmax_k(G told) N(x_seen; M_k told, L_k L_k' + diag psi_k)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1024  # rows that are looked at together
FLOOR = 1e-6  # least variance of a number whose variance over all data is 1
PRIOR, LITTLE = 1.0, 0.01  # rows' worth of belief that one component has in no structure at all and this much noise
STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0)  # rows' worth of belief that each of several components has in what all have in common
LOOKS = 16  # at the factors of a held-out row that has classes
WIDER = 1.3  # than what is known of the factors, how much those looks are spread
FIRM = 0.1  # added to the variance of what is told, so that it tells components apart less surely
BEGUN = 10  # draws of numbers that stand for classes, given what is told alone, before all else
BELIEFS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e4)  # rows' worth of belief that what is told says nothing of a column's own
LOOKED = 64  # rows that are left out together
PATIENCE = 3  # passes that may gain nothing


@dataclass
class Parts:
    """K components of D columns, told r numbers. gate (K, r): G, lines (K, D, r + q): M and L, noise (K, D): psi."""

    gate: Tensor
    lines: Tensor
    noise: Tensor

    @property
    def factors(self) -> int:
        return self.lines.shape[2] - self.gate.shape[1]

    def log_pi(self, told: Tensor) -> Tensor:
        """(n, K), told (n, r)."""
        return (told @ self.gate.t()).log_softmax(1)


@dataclass
class Known:
    """Rows x (n, D) of numbers, mask (n, D), what is told of each, (n, r) of which the first is 1, and of the discrete columns (n, d) where
    their intervals begin and end, infinite where nothing is."""

    x: Tensor
    mask: Tensor
    told: Tensor
    low: Tensor
    high: Tensor

    def chunks(self) -> Iterator[Known]:
        """Views, of CHUNK rows each."""
        for i in range(0, len(self.x), CHUNK):
            yield Known(*(v[i : i + CHUNK] for v in (self.x, self.mask, self.told, self.low, self.high)))


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
    """A mixture that EM has fitted, as far as that helped held-out series. score: mean of rows, (held-out series,), nats."""

    def __init__(self, task: Task, begin: Callable[[Known], tuple[Parts, Parts]], strengths: list[Tensor], model: str, start: str):
        """begin: rows -> what EM starts from, and what components are drawn toward; strengths: how much, each of lines, see update, of which
        the best is taken."""
        self.task, self.begin, self.model, self.start = task, begin, model, start
        parts, base = begin(task.data)
        self.score = -math.inf
        for strength in strengths:
            rows, found, history = self._climb(parts, base, strength)
            if max(history) <= self.score:
                break
            self.score, self.rows, self.parts, self.history, self.strength = max(history), rows, found, history, strength

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
        one = getattr(self, "whole", self)

        def begin(data: Known) -> tuple[Parts, Parts]:
            start = _clusters(data, one.parts if data is self.task.data else one.again(data), k, self.task.rng)
            return start, start

        strengths = [torch.full((one.parts.lines.shape[2],), s, dtype=torch.double) for s in STRENGTHS]
        tried = Climbed(self.task, begin, strengths, f"a mixture of {k} components of {one.parts.factors} factors", "clusters")
        tried.whole = one
        return tried

    def _climb(self, parts: Parts, base: Parts, strength: Tensor) -> tuple[Tensor, Parts, list[float]]:
        task, best, waited, history = self.task, (torch.empty(0), parts), 0, []
        for _ in range(task.passes):
            parts = update(sums(task.data, task.discrete, parts, task.rng), base, strength, task.binary)
            rows = held_out(task.held, task.discrete, parts, task.rng)
            score = float(rows.mean())
            waited = 0 if not history or score > max(history) + 1e-3 else waited + 1
            if not history or score > max(history):
                best = (rows, parts)
            history.append(score)
            if waited > PATIENCE:
                break
        return (*best, history)

    def again(self, data: Known) -> Parts:
        """The same with other rows: as many passes, drawn toward as much."""
        parts, base = self.begin(data)
        for _ in range(1 + self.history.index(self.score)):
            parts = update(sums(data, self.task.discrete, parts, self.task.rng), base, self.strength, self.task.binary)
        return parts


def posterior(known: Known, lines: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of one component, lines (D, r + q), noise (D,): log p(x_seen) (n,), and of its factors the mean (n, q) and the Cholesky factor of
    the precision (n, q, q)."""
    r = known.told.shape[1]
    load, weight = lines[:, r:], 1 / noise
    seen, q = known.mask.double(), load.shape[1]
    off = (known.x - known.told @ lines[:, :r].t()) * seen
    pull = off @ (load * weight[:, None])
    outer = (load[:, :, None] * load[:, None, :] * weight[:, None, None]).flatten(1)
    precision = torch.eye(q, dtype=torch.double) + (seen @ outer).view(-1, q, q)
    root = torch.linalg.cholesky(precision)
    mean = torch.cholesky_solve(pull[:, :, None], root)[:, :, 0]
    told = off**2 @ weight - (pull * mean).sum(1)
    scale = seen @ (noise.log() + math.log(2 * math.pi))
    return -0.5 * (told + scale) - root.diagonal(dim1=1, dim2=2).log().sum(1), mean, root


def draw_factors(known: Known, parts: Parts, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A component for each row, (n,), and its factors, (n, q), drawn given what is known."""
    found = [posterior(known, *p) for p in zip(parts.lines, parts.noise, strict=True)]
    joint = parts.log_pi(known.told) + torch.stack([f[0] for f in found], 1)
    k = pick(joint.softmax(1), rng)
    mean, root = (torch.stack([f[i] for f in found], 1)[torch.arange(len(k)), k] for i in (1, 2))
    return k, mean + _spread(root, rng)


def _spread(root: Tensor, rng: torch.Generator) -> Tensor:
    """Normal deviates (n, q) of these precisions."""
    noise = torch.randn(root.shape[:2], generator=rng, dtype=torch.double)
    return torch.linalg.solve_triangular(root.mT, noise[:, :, None], upper=True)[:, :, 0]


def redraw(known: Known, at: Tensor, parts: Parts, k: Tensor, f: Tensor, rng: torch.Generator) -> None:
    """Numbers that stand for classes, given components and factors."""
    if len(at):
        mean = (parts.lines[:, at][k] * torch.cat([known.told, f], 1)[:, None]).sum(2)  # (n, d)
        known.x[:, at] = torch.where(known.mask[:, at], between(known.low, known.high, mean, parts.noise[:, at][k].sqrt(), rng), known.x[:, at])


def between(low: Tensor, high: Tensor, mean: Tensor, scale: Tensor, rng: torch.Generator) -> Tensor:
    """Normal deviates within intervals."""
    a, b = torch.special.ndtr((low - mean) / scale), torch.special.ndtr((high - mean) / scale)
    u = a + (b - a) * torch.rand(low.shape, generator=rng, dtype=torch.double)
    z = mean + scale * torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))
    return torch.minimum(torch.maximum(z, low.clamp_min(-8)), high.clamp_max(8))


def pick(p: Tensor, rng: torch.Generator) -> Tensor:
    u = torch.rand(len(p), 1, generator=rng, dtype=torch.double)
    return torch.searchsorted(p.cumsum(1), u * p.sum(1, keepdim=True))[:, 0].clamp_max(p.shape[1] - 1)


def sums(data: Known, at: Tensor, parts: Parts, rng: torch.Generator) -> list[tuple[Tensor, ...]]:
    """Of every component the sums of the M step: what is told (r, r), (D, (r + q)^2) of what is told and factors, (D, r + q) of numbers with
    them, (D,) of squares. Numbers that stand for classes are drawn anew afterwards."""
    D, side, r = data.x.shape[1], parts.lines.shape[2], data.told.shape[1]
    totals = [tuple(torch.zeros(s, dtype=torch.double) for s in ((r, r), (D, side**2), (D, side), (D,))) for _ in parts.lines]
    for some in data.chunks():
        found = [posterior(some, *p) for p in zip(parts.lines, parts.noise, strict=True)]
        share = (parts.log_pi(some.told) + torch.stack([f[0] for f in found], 1)).softmax(1)
        for j, (_, mean, root) in enumerate(found):
            both = torch.cat([some.told, mean], 1)
            second = both[:, :, None] * both[:, None, :]
            second[:, r:, r:] += torch.cholesky_inverse(root)
            weight = some.mask * share[:, j : j + 1]
            x = weight * some.x
            new = (share[:, j : j + 1] * some.told).t() @ some.told, weight.t() @ second.flatten(1), x.t() @ both, (x * some.x).sum(0)
            totals[j] = tuple(a + b for a, b in zip(totals[j], new, strict=True))
        if len(at):
            k = pick(share, rng)
            mean, root = (torch.stack([f[j] for f in found], 1)[torch.arange(len(k)), k] for j in (1, 2))
            redraw(some, at, parts, k, mean + _spread(root, rng), rng)
    return totals


def update(sums: list[tuple[Tensor, ...]], base: Parts, strength: Tensor, binary: Tensor) -> Parts:
    """Lines by ridge regression of every column on what is told and the factors, toward those of base; and what they leave.
    strength (D, r + q) or (r + q,): series' worth of belief in base."""
    lines, noise = [], []
    strength = strength.expand(len(binary), -1)
    level = strength[:, 0]
    for k, (_, both, cross, squares) in enumerate(sums):
        side = cross.shape[1]
        both = both.view(-1, side, side)
        line = torch.linalg.solve(both + torch.diag_embed(strength), (cross + strength * base.lines[k])[:, :, None])[:, :, 0]
        left = squares - 2 * (line * cross).sum(1) + (line[:, :, None] * both * line[:, None, :]).sum((1, 2))
        lines.append(line)
        spread = (left.clamp_min(0) + level * base.noise[k]) / (both[:, 0, 0] + level)
        noise.append(torch.where(binary, 1.0, spread.clamp_min(FLOOR)))
    return Parts(_gate(torch.stack([s[0] for s in sums]), float(level[0])), torch.stack(lines), torch.stack(noise))


def _gate(told: Tensor, strength: float) -> Tensor:
    """(K, r) from sums (K, r, r) of what is told: linear discriminants, p(k | told) for Gaussians of one covariance, with some belief that
    components are as frequent as each other where there are few rows, and that nothing that is told matters."""
    weight, total = told[:, 0, 0], told.sum(0)
    share = (weight + min(strength, 1.0)) / (weight + min(strength, 1.0)).sum()
    mean = total[0, 1:] / total[0, 0]
    middle = (told[:, 0, 1:] - weight[:, None] * mean) / (weight + strength)[:, None]  # less the mean
    within = total[1:, 1:] / total[0, 0] - mean[:, None] * mean - (weight[:, None, None] * middle[:, :, None] * middle[:, None, :]).sum(0) / total[0, 0]
    slope = torch.linalg.solve(within + FIRM * torch.eye(len(mean), dtype=torch.double), middle.t()).t()
    level = share.log() - (middle * slope).sum(1) / 2 - slope @ mean
    return torch.cat([level[:, None], slope], 1)


def binary(data: Known, at: Tensor) -> Tensor:
    """(D,): columns of two classes, whose number has no scale of its own."""
    out = torch.zeros(data.x.shape[1], dtype=torch.bool)
    inner = torch.isfinite(data.low) & torch.isfinite(data.high)
    out[at] = ~inner.any(0)
    return out


def held_out(held: Known, at: Tensor, parts: Parts, rng: torch.Generator) -> Tensor:
    """(n,) log p, of rows with classes a bound from below, by looks at the factors that are weighed by their importance.

    Importance weighted autoencoders; Y. Burda, R. Grosse, R. Salakhutdinov; 2016; https://arxiv.org/abs/1509.00519
    """
    if not len(at):
        return (parts.log_pi(held.told) + torch.stack([posterior(held, *p)[0] for p in zip(parts.lines, parts.noise, strict=True)], 1)).logsumexp(1)
    k, f = draw_factors(held, parts, rng)
    redraw(held, at, parts, k, f, rng)
    seen = held.mask.double()
    seen[:, at] = 0
    out = []
    for lines, noise in zip(parts.lines, parts.noise, strict=True):
        _, mean, root = posterior(held, lines, noise)
        looks = []
        for _ in range(LOOKS):
            deviate = WIDER * _spread(root, rng)
            f, away = mean + deviate, ((root.mT @ deviate[:, :, None])[:, :, 0] ** 2).sum(1) / WIDER**2
            q = root.diagonal(dim1=1, dim2=2).log().sum(1) - deviate.shape[1] * math.log(WIDER) - 0.5 * away
            expected = torch.cat([held.told, f], 1) @ lines.t()
            told = (-0.5 * ((held.x - expected) ** 2 / noise + noise.log() + math.log(2 * math.pi)) * seen).sum(1)
            scale = noise[at].sqrt()
            inside = torch.special.ndtr((held.high - expected[:, at]) / scale) - torch.special.ndtr((held.low - expected[:, at]) / scale)
            looks.append(told + inside.clamp_min(1e-12).log().sum(1) - 0.5 * (f**2).sum(1) - q)
        out.append(torch.stack(looks, 1).logsumexp(1) - math.log(LOOKS))
    return (parts.log_pi(held.told) + torch.stack(out, 1)).logsumexp(1)


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
