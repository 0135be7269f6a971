"""Mixtures of factor analysers over rows with gaps and classes, given what is told of each row, by stochastic EM; see gmm.

p(x | told) = sum_k softmax_k(G told) N(x_seen; M_k told, L_k L_k' + diag psi_k)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1024  # rows that are looked at together
FLOOR = 1e-6  # least variance of a number whose variance over all data is 1
LOOKS = 16  # at the factors of a held-out row that has classes
WIDER = 1.3  # than what is known of the factors, how much those looks are spread
FIRM = 0.1  # added to the variance of what is told, so that it tells components apart less surely


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
