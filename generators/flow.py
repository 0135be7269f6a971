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
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.heads import Values, even, spread
from generators.layout import Given, Layout
from generators.nets import AnyOrder
from generators.streams import drawn, stream
from generators.train import Plan, device, train

CHUNK = 8192  # rows that go through the network at a time
HELD_OUT = 4000  # held-out rows that are looked at, at most
TABLE = 2**25  # numbers that are held while rows are drawn, about
SILVER = 0.4142135623730950  # steps from chunk to chunk of rows that spread random numbers evenly
LEAST = 1e-4  # share of a spline that a bin has at least, in all bins together
SLOPE = math.log(math.e - 1)  # softplus of it is 1
END = 1e-6  # the tails of the normal that are cut off


class Knots(NamedTuple):
    """Of n splines with K bins: where bins end on both axes, (n, K + 1), and the slopes there."""

    x: Tensor
    y: Tensor
    slope: Tensor


class Flow(nn.Module):
    """layout: what a row is.

    width:   hidden units; None: 256, or 128 for fewer than 5,000 rows
    bins:    of a spline, of equal probability to begin with, at most; None: one for 20 rows, 16 to 64
    passes:  over the rows at most; None: 10 over 30,000 rows, more over fewer
    minutes: a time budget; None sets none
    ordered: share of the rows that are learned from in the layout's order
    """

    def __init__(
        self, layout: Layout, width: int | None = None, bins: int | None = None, passes: float | None = None, minutes: float | None = None,
        rate: float = 0.015, decay: float | None = None, dropout: float = 0.4, batch: int | None = None, ordered: float = 0.75,
    ):  # fmt: skip
        super().__init__()
        self.layout, self.width, self.bins = layout, width, bins
        self.passes, self.minutes, self.rate, self.decay, self.batch = passes, minutes, rate, decay, batch
        self.dropout, self.ordered = dropout, ordered
        self.curve: list[dict] = []
        self.device = "cpu"
        with stream(0):
            self._build(bins or 16, width or 256)

    def _build(self, bins: int, width: int) -> None:
        """Weights at random, from torch's own stream."""
        self.values = Values(self.layout, bins, width)
        self.net = AnyOrder(len(self.layout), width, self.dropout)
        sizes = self.values.codes.offsets.diff().tolist()
        self.shape = nn.ModuleDict({str(j): nn.Linear(width, 2 * sizes[j] + 1) for j in self.layout.continuous})  # widths and slopes
        for layer in self.shape.values():
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
        self.ends = [torch.special.ndtr(e.double()).float() if len(e) else e for e in self.values.codes.edges]

    def _knots(self, j: int, hidden: Tensor, logits: Tensor) -> Knots:
        """Of field j's splines, whose heights are probabilities by these logits (n, K)."""
        widths, slopes = self.shape[str(j)](hidden).split([logits.shape[1], logits.shape[1] + 1], 1)
        start = self.ends[j].to(hidden.device).diff().log()
        x, y = (F.pad(_least(v.softmax(1)).cumsum(1)[:, :-1], (1, 1)) for v in (start + widths, logits))
        x, y = (torch.cat([v[:, :-1], torch.ones_like(v[:, :1])], 1) for v in (x, y))
        return Knots(x, y, F.softplus(slopes + SLOPE) + LEAST)

    def _nats(self, codes: Tensor, u: Tensor, sees: Tensor) -> Tensor:
        """(n,): minus the sum over fields that are switched on of log p(u_j, or class | what j sees)."""
        hidden, heads, total = self.net(F.embedding(codes, self.values.vectors()), sees), self.values.heads(), 0.0
        value = torch.where(codes < self.values.codes.size, codes - self.values.codes.offsets[:-1], -100)  # -100 counts nothing
        for j, field in enumerate(self.layout.fields):
            logits = F.linear(hidden[:, j], *heads[j])
            if field.classes:
                total = total + F.cross_entropy(logits, value[:, j], reduction="none")
            else:
                slope = _forward(u[:, j], self._knots(j, hidden[:, j], logits))[1]
                total = total - slope * (value[:, j] != -100)
        return total

    def fit(self, x: Tensor, held_out: Tensor, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None, checkpoint: Path | None = None):
        """x (n, fields), held_out (m, fields). On a GPU where there is one; the model comes back to the CPU."""
        n = len(x)
        bins, width = self.bins or min(max(n // 20, 16), 64), self.width or (256 if n >= 5000 else 128)
        with stream(drawn(rng)):
            self._build(bins, width)
        held_out = held_out[torch.randperm(len(held_out), generator=rng)[:HELD_OUT]]
        encode = self.values.codes.encode
        rows, held, density = encode(x), encode(held_out), self._phi(held_out)
        self.values.start(rows)
        where = device()
        self.device = where.type
        self.to(where)
        rows, held, u, u_held = rows.to(where), held.to(where), _share(x).to(where), _share(held_out).to(where)

        def score() -> Tensor:
            parts = zip(held.split(CHUNK), u_held.split(CHUNK), strict=True)
            return density - torch.cat([self._nats(c, v, self.net.natural()) for c, v in parts]).cpu()

        few = max(30_000 / n, 1)
        passes, batch = self.passes or 10 * few**0.25, self.batch or min(max(n // 50, 32), 256)
        plan = Plan(passes, batch, self.rate, decay=few**0.4 if self.decay is None else self.decay, minutes=self.minutes)
        losses = {"": lambda i, done: self._nats(rows[i], u[i], self.net.orders(len(i), self.ordered)).mean()}
        history = train(self, losses, n, plan, rng=rng, score=score, log=lambda line: log(f"flow: {line}"), checkpoint=checkpoint)
        self.cpu()
        self.curve = [{"rows": n, "width": width, "bins": bins, "held_out": history, "chosen": True}]
        return self

    def _phi(self, x: Tensor) -> Tensor:
        """(n,): what turns a density over u into one over x."""
        numbers = self.layout.continuous
        return ((-0.5 * x**2 - 0.5 * math.log(2 * math.pi)) * self.layout.active(x))[:, numbers].sum(1)

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """(n, fields) -> (n,) nats, in the layout's order."""
        parts = zip(self.values.codes.encode(x).split(CHUNK), _share(x).split(CHUNK), strict=True)
        return self._phi(x) - torch.cat([self._nats(c, u, self.net.natural()) for c, u in parts])

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Tensor:
        """(n, fields), field by field in the layout's order, what is given first."""
        fields, x = len(self.layout), torch.zeros(n, len(self.layout))
        fixed = given.mask if given is not None else torch.zeros(fields, dtype=torch.bool)
        order = torch.cat([fixed.nonzero()[:, 0], (~fixed).nonzero()[:, 0]]).tolist()
        start, vectors, heads = torch.rand(fields, generator=rng, dtype=torch.double), self.values.vectors(), self.values.heads()
        chunk = max(TABLE // (fields * vectors.shape[1]), 256)
        for c, at in enumerate(range(0, n, chunk)):
            out, asked = x[at : at + chunk], given.values[at : at + chunk] if given is not None else x[at : at + chunk]
            codes, begin = self.values.codes.encode(asked), ((start + c * SILVER) % 1).tolist()
            pick = lambda j, h, codes=codes, out=out, begin=begin: self._draw(j, h, codes, out, heads[j], begin[j])  # noqa: E731
            self.net.draw(codes, order, int(fixed.sum()), vectors, pick)
            out[~self.layout.active(torch.where(fixed, asked, out))] = 0
        return x if given is None else torch.where(given.mask, given.values, x)

    def _draw(self, j: int, hidden: Tensor, codes: Tensor, out: Tensor, head: tuple[Tensor, Tensor], start: float) -> Tensor:
        """(n,): codes of field j, whose values go into out (n, fields)."""
        logits, all_codes = F.linear(hidden, *head), self.values.codes
        if self.layout.fields[j].classes:
            value = spread(logits.softmax(1), start)
            out[:, j] = value
        else:
            u = _inverse(even(logits.softmax(1), start).float(), self._knots(j, hidden, logits))
            out[:, j] = torch.special.ndtri(u.double().clamp(END, 1 - END))
            value = torch.bucketize(out[:, j].contiguous(), all_codes.edges[j][1:-1])
        return all_codes.gated(j, all_codes.offsets[j] + value, codes)

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many rows."""
        return f"a network of {sum(p.numel() for p in self.parameters() if p.requires_grad):,} weights"

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "bins": self.curve[0]["bins"], "width": self.curve[0]["width"]}

    def restore(self, structure: dict, tensors: dict[str, Tensor]):
        self.curve = structure["curve"]
        with stream(0):
            self._build(structure["bins"], structure["width"])
        self.load_state_dict(tensors)
        return self.eval()


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
    """v (n,) -> T^-1(v)."""
    place = torch.searchsorted(knots.y[:, 1:-1].contiguous(), v[:, None].contiguous(), right=True)[:, 0]
    x, width, y, height, left, right = (k.double() for k in _at(place, knots))
    s, above = height / width, v.double() - y
    bend = above * (left + right - 2 * s)
    a, b, c = height * (s - left) + bend, height * left - bend, -s * above
    t = 2 * c / (-b - (b**2 - 4 * a * c).clamp_min(0).sqrt())
    return (x + width * t.clamp(0, 1)).float()
