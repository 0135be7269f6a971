"""Mixtures of factor analysers over rows with gaps and classes, by stochastic EM: the mathematics of gmm of series, see there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1024  # rows that are looked at together
FLOOR = 1e-6  # least variance of a number whose variance over all data is 1
PRIOR, LITTLE = 1.0, 0.01  # rows' worth of belief that one component has in no structure at all and this much noise
STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0)  # rows' worth of belief that each of several components has in what all have in common
LOOKS = 16  # at the factors of a held-out row that has classes
WIDER = 1.3  # than what is known of the factors, how much those looks are spread
PATIENCE = 3  # passes that may gain nothing


@dataclass
class Parts:
    """K components of D columns. pi (K,), lines (K, D, 1 + q): m and L, noise (K, D): psi."""

    log_pi: Tensor
    lines: Tensor
    noise: Tensor

    @property
    def factors(self) -> int:
        return self.lines.shape[2] - 1


@dataclass
class Known:
    """Rows x (n, D) of numbers, mask (n, D), and of the discrete columns (n, d) where their intervals begin and end, infinite where nothing is."""

    x: Tensor
    mask: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Task:
    """What is learned from, and what says how well: rows in one basis. turned: fields of a step that are cosines in it."""

    data: Known
    held: Known
    discrete: Tensor
    binary: Tensor
    turned: list[int]
    passes: int
    rng: torch.Generator


class Climbed:
    """A mixture that EM has fitted, as far as that helped held-out series. score: mean of rows, (held-out series,), nats."""

    def __init__(self, task: Task, parts: Parts, base: Parts | None, model: str, start: str):
        self.task, self.base, self.model, self.start = task, base, model, start  # base: what components are drawn toward
        strengths = [PRIOR] if base is None else list(STRENGTHS)
        found = []
        self.score = -math.inf
        for strength in strengths:
            tried = self._climb(parts, strength)
            if found and tried[0] <= found[-1][0]:
                break
            found.append(tried)
        self.score, self.rows, self.parts, self.history = found[-1]
        self.one_of_all = self.parts

    @classmethod
    def one(cls, task: Task, q: int) -> Climbed:
        """One component of q factors, starting from principal directions."""
        return cls(task, _principal(task.data, q), None, f"one component of {q} factors", "principal directions")

    def split(self, k: int) -> Climbed:
        """k components of as many factors: the one of all, cut into clusters of its factors, toward which they are drawn."""
        start = _clusters(self.task.data, self.one_of_all, k, self.task.rng)
        tried = Climbed(self.task, start, start, f"a mixture of {k} components of {start.factors} factors", "clusters")
        tried.one_of_all = self.one_of_all
        return tried

    def _climb(self, parts: Parts, strength: float) -> tuple[float, Tensor, Parts, list[float]]:
        best, waited, history = (-math.inf, None, parts), 0, []
        for _ in range(self.task.passes):
            task = self.task
            parts = update(sums(task.data, task.discrete, parts, task.rng), self.base, strength, task.binary)
            rows = held_out(task.held, task.discrete, parts, task.rng)
            history.append(float(rows.mean()))
            waited = 0 if history[-1] > best[0] + 1e-3 else waited + 1
            if history[-1] > best[0]:
                best = (history[-1], rows, parts)
            if waited > PATIENCE:
                break
        return (*best, history)

    def surely_better(self, other: Climbed) -> bool:
        """By more than a standard error of the difference over held-out series: else the simpler one is to be had."""
        gain = self.rows - other.rows
        return bool(gain.mean() > gain.std(correction=0) / len(gain) ** 0.5)


def posterior(x: Tensor, mask: Tensor, lines: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of one component, lines (D, 1 + q), noise (D,): log p(x_seen) (n,), and of its factors the mean (n, q) and the Cholesky factor of
    the precision (n, q, q)."""
    m, load, weight = lines[:, 0], lines[:, 1:], 1 / noise
    seen, q = mask.double(), load.shape[1]
    off = (x - m) * seen
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
    found = [posterior(known.x, known.mask, lines, noise) for lines, noise in zip(parts.lines, parts.noise, strict=True)]
    joint = parts.log_pi + torch.stack([f[0] for f in found], 1)
    k = _pick(joint.softmax(1), rng)
    mean, root = (torch.stack([f[i] for f in found], 1)[torch.arange(len(k)), k] for i in (1, 2))
    return k, mean + _spread(root, rng)


def _spread(root: Tensor, rng: torch.Generator) -> Tensor:
    """Normal deviates (n, q) of these precisions."""
    noise = torch.randn(root.shape[:2], generator=rng, dtype=torch.double)
    return torch.linalg.solve_triangular(root.mT, noise[:, :, None], upper=True)[:, :, 0]


def redraw(known: Known, at: Tensor, parts: Parts, k: Tensor, f: Tensor, rng: torch.Generator) -> None:
    """Numbers that stand for classes, given components and factors."""
    if len(at):
        lines = parts.lines[:, at][k]  # (n, d, 1 + q)
        mean = lines[:, :, 0] + (lines[:, :, 1:] * f[:, None]).sum(2)
        known.x[:, at] = torch.where(known.mask[:, at], between(known.low, known.high, mean, parts.noise[:, at][k].sqrt(), rng), known.x[:, at])


def between(low: Tensor, high: Tensor, mean: Tensor, scale: Tensor, rng: torch.Generator) -> Tensor:
    """Normal deviates within intervals."""
    a, b = torch.special.ndtr((low - mean) / scale), torch.special.ndtr((high - mean) / scale)
    u = a + (b - a) * torch.rand(low.shape, generator=rng, dtype=torch.double)
    z = mean + scale * torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))
    return torch.minimum(torch.maximum(z, low.clamp_min(-8)), high.clamp_max(8))


def _pick(p: Tensor, rng: torch.Generator) -> Tensor:
    u = torch.rand(len(p), 1, generator=rng, dtype=torch.double)
    return torch.searchsorted(p.cumsum(1), u * p.sum(1, keepdim=True))[:, 0].clamp_max(p.shape[1] - 1)


def sums(data: Known, at: Tensor, parts: Parts, rng: torch.Generator, given: Tensor | None = None) -> list[tuple[Tensor, ...]]:
    """Of every component the sums of the M step: weight, (D, (1 + q)^2) of factors, (D, 1 + q) of numbers with factors, (D,) of squares.
    Numbers that stand for classes are drawn anew afterwards. given (n, K): responsibilities, if not those of parts."""
    q = parts.factors
    D = data.x.shape[1]
    totals = [tuple(torch.zeros(s, dtype=torch.double) for s in ((), (D, (1 + q) ** 2), (D, 1 + q), (D,))) for _ in parts.log_pi]
    for i in range(0, len(data.x), CHUNK):
        some = Known(data.x[i : i + CHUNK], data.mask[i : i + CHUNK], data.low[i : i + CHUNK], data.high[i : i + CHUNK])
        found = [posterior(some.x, some.mask, lines, noise) for lines, noise in zip(parts.lines, parts.noise, strict=True)]
        r = (parts.log_pi + torch.stack([f[0] for f in found], 1)).softmax(1) if given is None else given[i : i + CHUNK]
        for j, (_, mean, root) in enumerate(found):
            second = torch.cholesky_inverse(root) + mean[:, :, None] * mean[:, None, :]
            whole = torch.cat([torch.cat([torch.ones(len(mean), 1, 1, dtype=torch.double), mean[:, None]], 2), torch.cat([mean[:, :, None], second], 2)], 1)
            weight = some.mask * r[:, j : j + 1]
            x = weight * some.x
            new = r[:, j].sum(), weight.t() @ whole.flatten(1), x.t() @ whole[:, 0], (x * some.x).sum(0)
            totals[j] = tuple(a + b for a, b in zip(totals[j], new, strict=True))
        if len(at):
            k = _pick(r, rng)
            mean, root = (torch.stack([f[j] for f in found], 1)[torch.arange(len(k)), k] for j in (1, 2))
            redraw(some, at, parts, k, mean + _spread(root, rng), rng)
    return totals


def update(sums: list[tuple[Tensor, ...]], base: Parts | None, strength: float, binary: Tensor) -> Parts:
    """Lines by ridge regression of every column on the factors, and what they leave."""
    lines, noise, weight = [], [], torch.stack([s[0] for s in sums]) + min(strength, 1.0)
    for k, (_, factors, cross, squares) in enumerate(sums):
        side = cross.shape[1]
        prior = base.lines[k] if base is not None else torch.zeros_like(cross)
        own = base.noise[k] if base is not None else torch.full_like(squares, LITTLE)
        eye = torch.eye(side, dtype=torch.double)
        gram, toward = factors.view(-1, side, side) + strength * eye, cross + strength * prior
        line = torch.linalg.solve(gram, toward[:, :, None])[:, :, 0]
        count = factors[:, 0]
        left = squares - 2 * (line * cross).sum(1) + (line[:, :, None] * factors.view(-1, side, side) * line[:, None, :]).sum((1, 2))
        lines.append(line)
        spread = (left.clamp_min(0) + strength * own) / (count + strength)
        noise.append(torch.where(binary, 1.0, spread.clamp_min(FLOOR)))
    return Parts((weight / weight.sum()).log(), torch.stack(lines), torch.stack(noise))


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
        return (parts.log_pi + torch.stack([posterior(held.x, held.mask, *p)[0] for p in zip(parts.lines, parts.noise, strict=True)], 1)).logsumexp(1)
    k, f = draw_factors(held, parts, rng)
    redraw(held, at, parts, k, f, rng)
    seen = held.mask.double()
    seen[:, at] = 0
    out = []
    for lines, noise in zip(parts.lines, parts.noise, strict=True):
        _, mean, root = posterior(held.x, held.mask, lines, noise)
        looks = []
        for _ in range(LOOKS):
            deviate = WIDER * _spread(root, rng)
            f, away = mean + deviate, ((root.mT @ deviate[:, :, None])[:, :, 0] ** 2).sum(1) / WIDER**2
            q = root.diagonal(dim1=1, dim2=2).log().sum(1) - deviate.shape[1] * math.log(WIDER) - 0.5 * away
            expected = lines[:, 0] + f @ lines[:, 1:].t()
            told = (-0.5 * ((held.x - expected) ** 2 / noise + noise.log() + math.log(2 * math.pi)) * seen).sum(1)
            scale = noise[at].sqrt()
            inside = torch.special.ndtr((held.high - expected[:, at]) / scale) - torch.special.ndtr((held.low - expected[:, at]) / scale)
            looks.append(told + inside.clamp_min(1e-12).log().sum(1) - 0.5 * (f**2).sum(1) - q)
        out.append(torch.stack(looks, 1).logsumexp(1) - math.log(LOOKS))
    return (parts.log_pi + torch.stack(out, 1)).logsumexp(1)


def _principal(data: Known, q: int) -> Parts:
    """One component from principal directions of rows whose gaps are filled with means."""
    seen = data.mask.double()
    count = seen.sum(0)
    mean = (data.x * seen).sum(0) / count.clamp_min(1)
    off = (data.x - mean) * seen
    _, s, v = torch.linalg.svd(off[: 4 * CHUNK], full_matrices=False)
    q = min(q, len(s))
    total = (off**2).sum(0) / count.clamp_min(1)
    load = v[:q].t() * s[:q] / min(len(off), 4 * CHUNK) ** 0.5
    load = load * 0.9
    noise = torch.where(count > 0, total, 1.0) - (load**2).sum(1)
    return Parts(torch.zeros(1, dtype=torch.double), torch.cat([mean[:, None], load], 1)[None], noise.clamp_min(0.05 * total + FLOOR)[None])


def _clusters(data: Known, one: Parts, k: int, rng: torch.Generator) -> Parts:
    """One component cut into k, by clusters of what is known of its factors: f = mean_k + C_k^1/2 g within each."""
    found = [posterior(data.x[i : i + CHUNK], data.mask[i : i + CHUNK], one.lines[0], one.noise[0])[1:] for i in range(0, len(data.x), CHUNK)]
    f, spread = torch.cat([mean for mean, _ in found]), torch.cat([torch.cholesky_inverse(root) for _, root in found])
    middle = f[torch.randperm(len(f), generator=rng)[:1]]
    while len(middle) < k:  # k-means++
        far = torch.cdist(f, middle).min(1).values.square()
        middle = torch.cat([middle, f[_pick(far[None] + 1e-12, rng)]])
    for _ in range(20):
        near = torch.cdist(f, middle).argmin(1)
        held = torch.bincount(near, minlength=k).double()
        total = torch.zeros(k, f.shape[1], dtype=torch.double).index_add_(0, near, f)
        middle = torch.where(held[:, None] > 0, total / held[:, None].clamp_min(1), middle)
    lines, base = [], STRENGTHS[1]
    pooled = (spread + (f - middle[near])[:, :, None] * (f - middle[near])[:, None]).mean(0)
    for j in range(k):
        own = f[near == j] - middle[j]
        inside = (spread[near == j].sum(0) + own.t() @ own + base * pooled) / (len(own) + base)
        load = one.lines[0, :, 1:]
        lines.append(torch.cat([one.lines[0, :, :1] + (load @ middle[j])[:, None], load @ torch.linalg.cholesky(inside)], 1))
    return Parts(((held + 1) / (held + 1).sum()).log(), torch.stack(lines), one.noise.expand(k, -1).clone())
