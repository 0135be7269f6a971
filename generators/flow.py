"""Flow: an invertible map of a row to uniform noise, field by field; each by a rational-quadratic spline on [0, 1].

With u_j = Phi(x_j), T_j the spline whose knots are a network's answer to the fields before j, in any order:
    p(x) = prod over numbers j of T_j'(u_j; fields before) phi(x_j) * prod over one-of-k j of (T_j(c_v+1) - T_j(c_v))
A one-of-k field is dequantised: class v is the interval [c_v, c_v+1) of u_j, and as its knots are the intervals' ends, the
probability of a class is exact and no bound is needed. Samples are x_j = Phi^-1(T_j^-1(noise)).

Neural spline flows; C. Durkan, A. Bekasov, I. Murray, G. Papamakarios; 2019; https://arxiv.org/abs/1906.04032
Masked autoregressive flow for density estimation; G. Papamakarios, T. Pavlakou, I. Murray; 2017; https://arxiv.org/abs/1705.07057
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.heads import even, spread
from generators.ordered import Ordered
from generators.train import Plan

LEAST = 1e-4  # share of a spline that a bin has at least, in all bins together
SLOPE = math.log(math.e - 1)  # softplus of it is 1
END = 1e-6  # the tails of the normal that are cut off


class Knots(NamedTuple):
    """Of n splines with K bins: where bins end on both axes, (n, K + 1), and the slopes there."""

    x: Tensor
    y: Tensor
    slope: Tensor


class Flow(Ordered):
    """Arguments: see Ordered. bins: of a spline."""

    def plan(self, n: int) -> Plan:
        return replace(super().plan(n), decay=max(30_000 / max(n, 1), 1) ** 0.5)  # widths and slopes can be learned by heart too

    def bins_for(self, n: int) -> int:
        return min(max(n // 200, 8), 64)

    def build(self, width: int, bins: int) -> None:
        super().build(width, bins)
        sizes = self.codes.offsets.diff().tolist()
        self.shape = nn.ModuleDict({str(j): nn.Linear(width, 2 * sizes[j] + 1) for j in self.layout.continuous})  # widths and slopes
        for layer in self.shape.values():
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)

    def _knots(self, j: int, hidden: Tensor, logits: Tensor) -> Knots:
        """Of field j's splines, whose heights are probabilities by these logits (n, K)."""
        widths, slopes = self.shape[str(j)](hidden).split([logits.shape[1], logits.shape[1] + 1], 1)
        start = torch.special.ndtr(self.codes.edges[j].double()).diff().log().float()
        x, y = (F.pad(_least(v.softmax(1)).cumsum(1)[:, :-1], (1, 1)) for v in (start + widths, logits))
        x, y = (torch.cat([v[:, :-1], torch.ones_like(v[:, :1])], 1) for v in (x, y))
        return Knots(x, y, F.softplus(slopes + SLOPE) + LEAST)

    def nats(self, codes: Tensor, x: Tensor, sees: Tensor) -> Tensor:
        hidden, heads, total = self.net(F.embedding(codes, self.values.vectors()), sees), self.values.heads(), 0.0
        within, u = self.codes.within(codes), _share(x)
        for j, field in enumerate(self.layout.fields):
            logits = F.linear(hidden[:, j], *heads[j])
            if field.classes:
                total = total + F.cross_entropy(logits, within[:, j], reduction="none")
            else:
                slope = _forward(u[:, j], self._knots(j, hidden[:, j], logits))[1]
                total = total - slope * (within[:, j] != -100)
        return total

    def density(self, x: Tensor) -> Tensor:
        phi = (-0.5 * x**2 - 0.5 * math.log(2 * math.pi)) * self.layout.active(x)
        return phi[:, self.layout.continuous].sum(1)

    def value(self, j: int, hidden: Tensor, head: tuple[Tensor, Tensor], start: float, inside: Tensor) -> Tensor:
        logits = F.linear(hidden, *head)
        if self.layout.fields[j].classes:
            return spread(logits.softmax(1), start)
        u, ends = _inverse(even(logits.softmax(1), start), self._knots(j, hidden, logits)), torch.special.ndtr(self.codes.edges[j].double())
        value = torch.bucketize(u, ends[1:-1])
        inside[:, j] = (u - ends[value]) / (ends[value + 1] - ends[value])
        return value


def _share(x: Tensor) -> Tensor:
    """Phi(x), inside (0, 1)."""
    return torch.special.ndtr(x.double()).clamp(END, 1 - END).float()


def _least(share: Tensor) -> Tensor:
    return (1 - LEAST) * share + LEAST / share.shape[1]


def _at(place: Tensor, knots: Knots) -> tuple[Tensor, ...]:
    """Of the bin at this place of each of n splines: left end, width, low end, height, and the slopes at both ends."""
    get = lambda v, k: v.gather(1, k)[:, 0]  # noqa: E731
    k = place[:, None]
    x, y = get(knots.x, k), get(knots.y, k)
    return x, get(knots.x, k + 1) - x, y, get(knots.y, k + 1) - y, get(knots.slope, k), get(knots.slope, k + 1)


def _forward(u: Tensor, knots: Knots) -> tuple[Tensor, Tensor]:
    """u (n,) -> T(u) and log T'(u)."""
    place = torch.searchsorted(knots.x[:, 1:-1].contiguous(), u[:, None].contiguous(), right=True)[:, 0]
    x, width, y, height, left, right = _at(place, knots)
    s, t = height / width, ((u - x) / width).clamp(0, 1)
    below = s + (left + right - 2 * s) * t * (1 - t)
    value = y + height * (s * t**2 + left * t * (1 - t)) / below
    return value, 2 * s.log() + (right * t**2 + 2 * s * t * (1 - t) + left * (1 - t) ** 2).log() - 2 * below.log()


def _inverse(v: Tensor, knots: Knots) -> Tensor:
    """v (n,) float64 -> T^-1(v), float64."""
    place = torch.searchsorted(knots.y[:, 1:-1].double().contiguous(), v[:, None].contiguous(), right=True)[:, 0]
    x, width, y, height, left, right = (k.double() for k in _at(place, knots))
    s, above = height / width, v - y
    bend = above * (left + right - 2 * s)
    a, b, c = height * (s - left) + bend, height * left - bend, -s * above
    t = 2 * c / (-b - (b**2 - 4 * a * c).clamp_min(0).sqrt())
    return x + width * t.clamp(0, 1)
