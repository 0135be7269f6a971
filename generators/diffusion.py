"""Diffusion: noise is added to every field at a rate of its own, and a network that knows what was there takes it away.

A value v of field j is a point e_jv: the middle of a bin of a number, or a learned direction of a class. With noise
x_j = e_jv + sigma_j eps, what was there follows from the field itself and a network's look at all fields,
    p(v | x) = softmax_v( log N(x_j; e_jv, sigma_j) + net_jv(x, sigma) ),      D_j(x, sigma) = sum_v p(v | x) e_jv
learned by cross entropy (score interpolation). From pure noise, dx_j / d sigma_j = (x_j - D_j) / sigma_j leads back to a row.
All fields share a time t, and sigma_j(t) is learned: it moves so that field j loses its information evenly over time.
Fields that are given stay without noise, and some rows are learned from so: conditions need no second model.

Continuous diffusion for mixed-type tabular data; M. Mueller, K. Gruber, D. Fok; 2023; https://arxiv.org/abs/2312.10431
Continuous diffusion for categorical data; S. Dieleman et al.; 2022; https://arxiv.org/abs/2211.15089
Elucidating the design space of diffusion-based generative models; T. Karras, M. Aittala, T. Aila, S. Laine; 2022; https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.heads import Values, spread
from generators.layout import Given, Layout
from generators.nets import Residual
from generators.streams import drawn, stream
from generators.train import Plan, device, train

CHUNK = 8192  # rows that go through the network at a time
HELD_OUT = 2000  # held-out rows that are looked at, at most
LOW, HIGH = math.log(0.01), math.log(40.0)  # logarithms of the least and the most noise; data have variance 1 in each direction
LEVELS = 32  # noise levels at which the loss of each field is watched
FLOOR = 0.25  # share of the time that is spread evenly over the levels
FORGET = 0.05  # weight of a new loss in what is known of a level
DIRECTIONS = 8  # dimensions of a class's point, at most


class Diffusion(nn.Module):
    """layout: what a row is.

    width, depth: hidden units and residual blocks
    bins:    bins of a number, of equal probability, at most; None: one for 20 rows, 16 to 128
    steps:   in which noise is taken away, two looks at the network each
    passes:  over the rows at most; None: 60 over 30,000 rows, more over fewer
    minutes: a time budget; None sets none
    given:   share of the rows that are learned from with some fields given
    """

    def __init__(
        self, layout: Layout, width: int = 384, depth: int = 3, bins: int | None = None, steps: int = 30, passes: float | None = None,
        minutes: float | None = None, rate: float = 2e-3, decay: float = 0.05, dropout: float = 0.05, batch: int | None = None, given: float = 0.15,
    ):  # fmt: skip
        super().__init__()
        self.layout, self.width, self.depth, self.bins, self.steps = layout, width, depth, bins, steps
        self.passes, self.minutes, self.rate, self.decay, self.dropout, self.batch, self.given = passes, minutes, rate, decay, dropout, batch, given
        self.curve: list[dict] = []
        self.device = "cpu"
        with stream(0):
            self._build(bins or 16)

    def _build(self, bins: int) -> None:
        """Weights at random, from torch's own stream."""
        fields, width = len(self.layout), self.width
        self.values = Values(self.layout, bins, width)
        sizes = self.values.codes.offsets.diff().tolist()
        self.numbers = [_middles(e) if len(e) else torch.empty(0) for e in self.values.codes.edges]  # of each field's bins
        self.points = nn.ParameterDict({str(j): _directions(sizes[j]) for j in self.layout.discrete})
        self.ends = [0]  # where each field's dimensions are in x (n, dimensions)
        for j, k in enumerate(sizes):
            self.ends.append(self.ends[-1] + (min(k, DIRECTIONS) if self.layout.fields[j].classes else 1))
        self.inlet, self.level = nn.Linear(2 * self.ends[-1], width), nn.Linear(fields, width)
        self.body = Residual(width, self.depth, self.dropout)
        self.register_buffer("loss", torch.linspace(0, 1, LEVELS).repeat(fields, 1))  # of each field at each noise level

    def _tables(self) -> list[Tensor]:
        """Of each field the points of its values, (values, dimensions), of unit variance in each."""
        where = self.inlet.weight.device
        scaled = lambda e: F.normalize(e, dim=1) * e.shape[1] ** 0.5  # noqa: E731
        return [scaled(self.points[str(j)]) if f.classes else self.numbers[j].to(where)[:, None] for j, f in enumerate(self.layout.fields)]

    def _noise(self, t: Tensor, loss: Tensor) -> Tensor:
        """t (n,) in [0, 1] -> log sigma (n, fields): the level at which a field has lost the share t of what it can lose."""
        rising = loss.cummax(1).values
        spent = (rising - rising[:, :1]) / (rising[:, -1:] - rising[:, :1]).clamp_min(1e-6)
        spent = (1 - FLOOR) * spent + FLOOR * torch.linspace(0, 1, LEVELS, device=loss.device)  # (fields, levels), 0 to 1
        above = torch.searchsorted(spent, t.expand(len(loss), -1).contiguous()).clamp(1, LEVELS - 1)  # (fields, n)
        low, high = spent.gather(1, above - 1), spent.gather(1, above)
        level = above - 1 + (t - low) / (high - low).clamp_min(1e-9)
        return (LOW + (HIGH - LOW) * level.clamp(0, LEVELS - 1) / (LEVELS - 1)).t()

    def _place(self, codes: Tensor, tables: list[Tensor]) -> Tensor:
        """codes (n, fields) -> x (n, dimensions) without noise; 0 where a number does not count."""
        known = codes < self.values.codes.size
        value = torch.where(known, codes - self.values.codes.offsets[:-1], 0)
        return torch.cat([F.embedding(v, e) * k[:, None] for v, e, k in zip(value.unbind(1), tables, known.unbind(1), strict=True)], 1)

    def _logits(self, x: Tensor, noise: Tensor, tables: list[Tensor]) -> list[Tensor]:
        """Of each field, (n, values). noise: log sigma (n, fields)."""
        own, guess = [], []
        for j, e in enumerate(tables):
            part, variance = x[:, self.ends[j] : self.ends[j + 1]], (2 * noise[:, j : j + 1]).exp()
            own.append((part @ e.t() - 0.5 * (e**2).sum(1)) / variance)  # log N(x_j; e, sigma), up to a constant
            guess.append((own[-1] + self.values.bias[self.values.codes.offsets[j] : self.values.codes.offsets[j + 1]].detach()).softmax(1) @ e)
        dims = torch.tensor(self.ends, device=x.device).diff()
        seen = x * (1 + (2 * noise).exp()).rsqrt().repeat_interleave(dims, 1)
        h = self.body(self.inlet(torch.cat([seen, *guess], 1)) + self.level(noise / 2))
        return [o + F.linear(h, *head) for o, head in zip(own, self.values.heads(), strict=True)]

    def _losses(self, codes: Tensor, noise: Tensor, eps: Tensor, tables: list[Tensor]) -> Tensor:
        """(n, fields): -log p(what was there | the noisy row); 0 where a field does not count."""
        dims = torch.tensor(self.ends, device=eps.device).diff()
        x = self._place(codes, tables) + noise.exp().repeat_interleave(dims, 1) * eps
        value = torch.where(codes < self.values.codes.size, codes - self.values.codes.offsets[:-1], -100)
        parts = zip(self._logits(x, noise, tables), value.unbind(1), strict=True)
        return torch.stack([F.cross_entropy(logits, v, reduction="none") for logits, v in parts], 1)

    def _watch(self, noise: Tensor, losses: Tensor, counts: Tensor, forget: float = FORGET) -> None:
        """Takes note of losses (n, fields) at their levels; counts (n, fields) bool says which."""
        level = ((noise - LOW) / (HIGH - LOW) * (LEVELS - 1)).round().long().clamp(0, LEVELS - 1)
        place = level + LEVELS * torch.arange(noise.shape[1], device=noise.device)
        number, total = (
            torch.zeros_like(self.loss).view(-1).index_add_(0, place[counts], v[counts]).view_as(self.loss) for v in (torch.ones_like(losses), losses)
        )
        share = 1 - (1 - forget) ** number
        self.loss.lerp_(torch.where(number > 0, total / number.clamp_min(1), self.loss), share)

    def fit(self, x: Tensor, held_out: Tensor, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None, checkpoint: Path | None = None):
        """x (n, fields), held_out (m, fields). On a GPU where there is one; the model comes back to the CPU."""
        n, fields = len(x), len(self.layout)
        bins = self.bins or min(max(n // 20, 16), 128)
        with stream(drawn(rng)):
            self._build(bins)
        held_out = held_out[torch.randperm(len(held_out), generator=rng)[:HELD_OUT]]
        rows, held = self.values.codes.encode(x), self.values.codes.encode(held_out)
        self.values.start(rows)
        eps = torch.randn(len(held), self.ends[-1], generator=rng)
        where = device()
        self.device = where.type
        self.to(where)
        rows, held, eps = rows.to(where), held.to(where), eps.to(where)
        even = (torch.arange(len(held), device=where) + 0.5) / len(held)  # held-out rows are looked at over all levels alike, always the same

        def ghosts(codes: Tensor) -> Tensor:
            """A number that is switched off stands for one at random: what it is then says nothing of the rest."""
            for j, f in enumerate(self.layout.fields):
                if f.gate is not None:
                    low, high = self.values.codes.offsets[j], self.values.codes.offsets[j + 1]
                    drawn = low + torch.multinomial(margins[low:high], len(codes), replacement=True)
                    codes[:, j] = torch.where(codes[:, j] < self.values.codes.size, codes[:, j], drawn)
            return codes

        margins = torch.bincount(rows.reshape(-1), minlength=self.values.codes.size + 2)[: self.values.codes.size].float().add_(1e-3)
        with stream(drawn(rng)), torch.no_grad():
            held = ghosts(held)
            noise = LOW + (HIGH - LOW) * even[:, None].expand(-1, fields)
            self._watch(noise, self._losses(held, noise, eps, self._tables()), held < self.values.codes.size, forget=1.0)

        def loss(i: Tensor, done: float) -> Tensor:
            codes = ghosts(rows[i])
            t = (torch.arange(len(i), device=where) + torch.rand(1, device=where)) / len(i)
            noise, some = self._noise(t, self.loss), round(self.given * len(i))
            shown = torch.rand(some, fields, device=where) < torch.rand(some, 1, device=where)
            noise[-some:] = torch.where(shown, LOW, noise[-some:].clone()) if some else noise[:0]
            noise = noise[torch.randperm(len(i), device=where)]
            losses = self._losses(codes, noise, torch.randn(len(i), self.ends[-1], device=where), self._tables())
            with torch.no_grad():
                alone = (noise > LOW).all(1, keepdim=True)  # rows of which nothing is given
                self._watch(noise, losses.detach(), alone & (codes < self.values.codes.size))
            return losses.sum(1).mean()

        first = self.loss.clone()

        def score() -> Tensor:
            noise = self._noise(even, first)
            parts = zip(held.split(CHUNK), noise.split(CHUNK), eps.split(CHUNK), strict=True)
            return -torch.cat([self._losses(c, s, e, self._tables()).sum(1) for c, s, e in parts]).cpu()

        passes, batch = self.passes or 60 * max(30_000 / n, 1) ** 0.25, self.batch or min(max(n // 50, 32), 256)
        plan = Plan(passes, batch, self.rate, decay=self.decay, memory=2.0, minutes=self.minutes)
        history = train(self, {"": loss}, n, plan, rng=rng, score=score, log=lambda line: log(f"diffusion: {line}"), checkpoint=checkpoint)
        self.cpu()
        unit = "Nats a row on held-out rows, mean over noise levels"
        self.curve = [{"rows": n, "width": self.width, "bins": bins, "unit": unit, "held_out": history, "chosen": True}]
        return self

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Tensor:
        """(n, fields): noise is taken away step by step, and each field's value then drawn from what the network says of it."""
        x, codes, tables = torch.zeros(n, len(self.layout)), self.values.codes, self._tables()
        fixed = given.mask if given is not None else torch.zeros(len(self.layout), dtype=torch.bool)
        for at in range(0, n, CHUNK):
            asked = given.values[at : at + CHUNK] if given is not None else x[at : at + CHUNK]
            part, start = codes.encode(asked), torch.rand(len(self.layout), generator=rng, dtype=torch.double).tolist()
            logits = self._denoised(part, fixed, tables, rng)
            for j in (~fixed).nonzero()[:, 0].tolist():
                part[:, j] = codes.gated(j, codes.offsets[j] + spread(logits[j].softmax(1), start[j]), part)
            codes.decode(torch.where(part < codes.size, part, codes.offsets[:-1]), x[at : at + CHUNK], rng=rng)
        return x if given is None else torch.where(given.mask, given.values, x)

    def _denoised(self, codes: Tensor, fixed: Tensor, tables: list[Tensor], rng: torch.Generator) -> list[Tensor]:
        """Logits of every field at the least noise, from the most, by an exponential trapezoid: D is a line in log sigma over a step.

        codes (n, fields), of which the fixed fields (fields,) count.
        DPM-Solver++; C. Lu, Y. Zhou, F. Bao, J. Chen, C. Li, J. Zhu; 2022; https://arxiv.org/abs/2211.01095
        """
        dims = torch.tensor(self.ends).diff()
        wide = lambda v: v.repeat_interleave(dims, 1)  # noqa: E731
        stays = fixed & (codes < self.values.codes.size)  # (n, fields): given, and not switched off
        levels = self._noise(torch.linspace(1, 0, self.steps + 1), self.loss)  # (steps + 1, fields)
        clean, hold = self._place(codes, tables), wide(stays)
        x = torch.where(hold, clean, torch.randn(clean.shape, generator=rng) * wide(levels[:1].exp()))
        for now, then in pairwise(levels):
            h = (now - then).clamp_min(1e-6)[None]
            whole, second = -torch.expm1(-h), 1 + torch.expm1(-h) / h  # what D weighs in all, and at the end of the step
            keep, first, second = wide(torch.exp(-h)), wide(whole - second), wide(second)
            before = self._mean(x, torch.where(stays, LOW, now), tables)
            after = self._mean(keep * x + (first + second) * before, torch.where(stays, LOW, then), tables)
            x = torch.where(hold, clean, keep * x + first * before + second * after)
        return self._logits(x, torch.where(stays, LOW, levels[-1]), tables)

    def _mean(self, x: Tensor, noise: Tensor, tables: list[Tensor]) -> Tensor:
        """D(x, sigma), (n, dimensions)."""
        return torch.cat([logits.softmax(1) @ e for logits, e in zip(self._logits(x, noise, tables), tables, strict=True)], 1)

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many rows."""
        return f"a network of {sum(p.numel() for p in self.parameters() if p.requires_grad):,} weights"

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "bins": self.curve[0]["bins"]}

    def restore(self, structure: dict, tensors: dict[str, Tensor]):
        self.curve = structure["curve"]
        with stream(0):
            self._build(structure["bins"])
        self.load_state_dict(tensors)
        return self.eval()


def _middles(edges: Tensor) -> Tensor:
    """Edges of a number's bins (bins + 1,) -> the mean of a standard normal in each."""
    phi = torch.exp(-0.5 * edges.double() ** 2) / math.sqrt(2 * math.pi)
    return ((phi[:-1] - phi[1:]) / torch.special.ndtr(edges.double()).diff()).float()


def _directions(classes: int) -> nn.Parameter:
    """A point for each class, as far apart as they can be where there are few."""
    points = torch.empty(classes, min(classes, DIRECTIONS))
    return nn.Parameter(nn.init.orthogonal_(points) if classes <= DIRECTIONS else points.normal_())
