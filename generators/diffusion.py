"""Diffusion: noise is added to every field at a rate of its own, and a network that knows what was there takes it away.

A value v of field j is a point e_jv: the middle of a bin of a number, or a learned direction of a class. With noise
x_j = e_jv + sigma_j eps, what was there follows from the field itself and a network's look at all fields,
    p(v | x) = softmax_v( log N(x_j; e_jv, sigma_j) + net_jv(x, sigma) ),      D_j(x, sigma) = sum_v p(v | x) e_jv
learned by cross entropy (score interpolation). From pure noise, dx_j / d sigma_j = (x_j - D_j) / sigma_j leads back to a row.
All fields share a time t, and sigma_j(t) is learned: it moves so that field j loses its information evenly over time.
A row that must hold y has y's points with their noise on the way, and its other fields are led by what the network itself says of y:
    D(x | y) = D(x) + sigma^2 grad log p(y | x)
with log p(y | x) summed over what is given, and divided by the square root of their number, as they say in part the same.

Continuous diffusion for mixed-type tabular data; M. Mueller, K. Gruber, D. Fok; 2023; https://arxiv.org/abs/2312.10431
Continuous diffusion for categorical data; S. Dieleman et al.; 2022; https://arxiv.org/abs/2211.15089
Elucidating the design space of diffusion-based generative models; T. Karras, M. Aittala, T. Aila, S. Laine; 2022; https://arxiv.org/abs/2206.00364
Diffusion models beat GANs on image synthesis (a classifier's guidance); P. Dhariwal, A. Nichol; 2021; https://arxiv.org/abs/2105.05233
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.codes import Codes
from generators.descent import Descent
from generators.heads import Values, spread
from generators.layout import Layout
from generators.nets import Residual
from generators.neural import Neural
from generators.streams import drawn, stream
from generators.train import Plan

CHUNK = 8192  # held-out rows that go through the network at a time
HELD_OUT = 2000  # held-out rows that are looked at, at most
LOW, HIGH = math.log(0.01), math.log(40.0)  # logarithms of the least and the most noise; data have variance 1 in each direction
LEVELS = 32  # noise levels at which the loss of each field is watched
FLOOR = 0.25  # share of the time that is spread evenly over the levels
STAGGER = 1.5  # how much later the last field's noise goes than the first one's, as a share of the time that one takes
FORGET = 0.05  # weight of a new loss in what is known of a level
DONORS, LENT = 16, 2**16  # rows that one may be lent a value from, and of how many in all
DIRECTIONS = 8  # dimensions of a class's point, at most


class Diffusion(Neural):
    """layout: what a row is.

    width, depth: hidden units, 384 unless said, and residual blocks
    bins:    bins of a number, of equal probability, at most; None: one for 20 rows, 16 to 128
    steps:   in which noise is taken away, two looks at the network each
    dropout: share of hidden units that are left out while training
    given:   share of the rows that are learned from with some fields given: a little better on large tables, a little worse on small ones
    asked:   of train.Plan, passes and minutes above all
    """

    unit = "Nats a row on held-out rows, mean over noise levels"
    descent = Descent(rate=0.01)

    def __init__(
        self, layout: Layout, width: int | None = None, depth: int = 3, bins: int | None = None, steps: int = 40,
        dropout: float = 0.25, given: float = 0.15, **asked: Any,
    ):  # fmt: skip
        super().__init__(layout, asked)
        whole(width=width, bins=bins, steps=steps), whole(0, depth=depth), number(high=0.99, dropout=dropout), number(high=1, given=given)
        self.width, self.depth, self.bins, self.steps, self.dropout, self.given = width, depth, bins, steps, dropout, given

    def plan(self, n: int) -> Plan:
        return Plan(passes=40 * max(30_000 / max(n, 1), 1) ** 0.25, batch=min(max(n // 50, 32), 256), rate=2e-3, decay=0.3, memory=2.0)

    def sizes(self, n: int) -> dict:
        return {"width": self.width or 384, "bins": self.bins or min(max(n // 20, 16), 128)}

    def small(self, n: int) -> dict:
        return {"width": self.width or 64, "bins": self.bins or 24}

    def build(self, width: int, bins: int) -> None:
        fields = len(self.layout)
        self.codes = Codes.single(self.layout, bins)
        self.values = Values(self.codes, width)
        sizes = self.codes.offsets.diff().tolist()
        self.numbers = [_middles(e) if len(e) else torch.empty(0) for e in self.codes.edges]  # of each field's bins
        self.points = nn.ParameterDict({str(j): _directions(sizes[j]) for j in self.layout.discrete})
        self.ends = [0]  # where each field's dimensions are in x (n, dimensions)
        for j, k in enumerate(sizes):
            self.ends.append(self.ends[-1] + (min(k, DIRECTIONS) if self.layout.fields[j].classes else 1))
        self.inlet, self.level = nn.Linear(self.ends[-1], width), nn.Linear(fields, width)
        self.body = Residual(width, self.depth, self.dropout)
        self.register_buffer("loss", torch.linspace(0, 1, LEVELS).repeat(fields, 1))  # of each field at each noise level

    def _tables(self) -> list[Tensor]:
        """Of each field the points of its values, (values, dimensions), of unit variance in each."""
        where = self.inlet.weight.device
        scaled = lambda e: F.normalize(e, dim=1) * e.shape[1] ** 0.5  # noqa: E731
        return [scaled(self.points[str(j)]) if f.classes else self.numbers[j].to(where)[:, None] for j, f in enumerate(self.layout.fields)]

    def _noise(self, t: Tensor, loss: Tensor) -> Tensor:
        """t (n,) in [0, 1] -> log sigma (n, fields): the level at which a field has lost the share of what it can lose that its own time says."""
        rising = loss.cummax(1).values
        spent = (rising - rising[:, :1]) / (rising[:, -1:] - rising[:, :1]).clamp_min(1e-6)
        spent = (1 - FLOOR) * spent + FLOOR * torch.linspace(0, 1, LEVELS, device=loss.device)  # (fields, levels), 0 to 1
        first = torch.linspace(1, 0, len(loss), device=loss.device)[:, None]
        own = ((1 + STAGGER) * t - STAGGER * first).clamp(0, 1)  # (fields, n)
        above = torch.searchsorted(spent, own).clamp(1, LEVELS - 1)
        low, high = spent.gather(1, above - 1), spent.gather(1, above)
        level = above - 1 + (own - low) / (high - low).clamp_min(1e-9)
        return (LOW + (HIGH - LOW) * level.clamp(0, LEVELS - 1) / (LEVELS - 1)).t()

    def _place(self, codes: Tensor, tables: list[Tensor]) -> Tensor:
        """codes (n, fields) -> x (n, dimensions) without noise; 0 where a number does not count."""
        known = codes < self.codes.size
        value = torch.where(known, codes - self.codes.offsets[:-1], 0)
        return torch.cat([F.embedding(v, e) * k[:, None] for v, e, k in zip(value.unbind(1), tables, known.unbind(1), strict=True)], 1)

    def _logits(self, x: Tensor, noise: Tensor, tables: list[Tensor]) -> list[Tensor]:
        """Of each field, (n, values). noise: log sigma (n, fields)."""
        own, values = [], []
        for j, e in enumerate(tables):
            part, variance = x[:, self.ends[j] : self.ends[j + 1]], (2 * noise[:, j : j + 1]).exp()
            own.append((part @ e.t() - 0.5 * (e**2).sum(1)) / variance)  # log N(x_j; e, sigma), up to a constant
            bias = self.values.bias[self.codes.offsets[j] : self.codes.offsets[j + 1]].detach()
            values.append((own[-1] + bias).softmax(1))  # what the field itself says of its value
        dims = torch.tensor(self.ends, device=x.device).diff()
        seen = x * (1 + (2 * noise).exp()).rsqrt().repeat_interleave(dims, 1)
        guess = torch.cat(values, 1) @ self.values.vectors()[: self.codes.size]
        h = self.body(self.inlet(seen) + guess + self.level(noise / 2))
        return [o + F.linear(h, *head) for o, head in zip(own, self.values.heads(), strict=True)]

    def _losses(self, codes: Tensor, noise: Tensor, eps: Tensor, tables: list[Tensor]) -> Tensor:
        """(n, fields): -log p(what was there | the noisy row); 0 where a field does not count."""
        dims = torch.tensor(self.ends, device=eps.device).diff()
        x = self._place(codes, tables) + noise.exp().repeat_interleave(dims, 1) * eps
        parts = zip(self._logits(x, noise, tables), self.codes.within(codes).unbind(1), strict=True)
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

    def objective(self, x: Tensor, held_out: Tensor, rng: torch.Generator):
        fields, where = len(self.layout), x.device
        if self.counted is not None:
            return self._alone(x)
        rows, held = self.codes.encode(x, torch.int32), self.codes.encode(held_out[:HELD_OUT])
        each = max(HELD_OUT // len(held), 1)  # times that a held-out row is looked at, over all levels alike and always the same
        held, eps = held.repeat(each, 1), torch.randn(each * len(held), self.ends[-1], generator=rng).to(where)
        even = (torch.arange(len(held), device=where) + 0.5) / len(held)
        self.values.start(rows)
        sizes = self.codes.offsets.diff()
        words = torch.tensor([bool(f.classes) for f in self.layout.fields], device=where)
        gated = [j for j, f in enumerate(self.layout.fields) if f.gate is not None]
        donors = {j: (rows[:, j] < self.codes.size).nonzero()[:, 0] for j in gated}  # rows in which a field counts
        donors = {j: rows[d[torch.randperm(len(d), generator=rng)[:LENT].to(where)]].long() for j, d in donors.items() if len(d)}

        def ghosts(codes: Tensor) -> Tensor:
            """A field that is switched off stands for what it is in another row, the most alike of a few: so the rest says as much of it."""
            out = codes.clone()
            for j, lent in donors.items():
                off = (codes[:, j] >= self.codes.size).nonzero()[:, 0]
                some = lent[torch.randint(len(lent), (len(off), DONORS), device=where)]  # (m, donors, fields)
                steps = (some - codes[off][:, None]).abs()
                unlike = torch.where(words, (steps > 0).float(), (steps / sizes).clamp_max(1))
                unlike[:, :, j] = 0
                best = unlike.sum(2).argmin(1)
                out[off, j] = some[torch.arange(len(off), device=where), best, j]
            return out

        with stream(drawn(rng)), torch.no_grad():
            held = ghosts(held)
            noise = LOW + (HIGH - LOW) * even[:, None].expand(-1, fields)
            self._watch(noise, self._losses(held, noise, eps, self._tables()), held < self.codes.size, forget=1.0)

        def loss(i: Tensor, done: float) -> Tensor:
            codes = ghosts(rows[i].long())
            t = (torch.arange(len(i), device=where) + torch.rand(1, device=where)) / len(i)
            t = t[torch.randperm(len(i), device=where)]
            noise, some = self._noise(t, self.loss), round(self.given * len(i))
            shown = torch.rand(some, fields, device=where) < torch.rand(some, 1, device=where)
            noise = torch.cat([torch.where(shown, LOW, noise[:some]), noise[some:]])
            losses = self._losses(codes, noise, torch.randn(len(i), self.ends[-1], device=where), self._tables())
            with torch.no_grad():
                self._watch(noise[some:], losses[some:].detach(), codes[some:] < self.codes.size)
            return losses.sum(1).mean()

        first = self.loss.clone()

        def score() -> Tensor:
            noise = self._noise(even, first)
            parts = zip(held.split(CHUNK), noise.split(CHUNK), eps.split(CHUNK), strict=True)
            return -torch.cat([self._losses(c, s, e, self._tables()).sum(1) for c, s, e in parts]).view(each, -1).mean(0)

        return {"": loss}, score

    def _alone(self, x: Tensor):
        """The same where a row's loss may look at nothing but the row: noise rises evenly, and a field that is switched off is lent nothing."""
        rows, fields = self.codes.encode(x, torch.int32), len(self.layout)
        self.values.start(rows, self.counted)
        first = torch.linspace(1, 0, fields, device=x.device)

        def loss(i: Tensor, done: float) -> Tensor:
            t = torch.rand(len(i), 1, device=x.device)
            noise = LOW + (HIGH - LOW) * ((1 + STAGGER) * t - STAGGER * first).clamp(0, 1)  # what _noise says as long as nothing was watched
            return self._losses(rows[i].long(), noise, torch.randn(len(i), self.ends[-1], device=x.device), self._tables()).sum(1).mean()

        return {"": loss}, None

    def drawer(self, known: Tensor, rng: torch.Generator):
        """Noise is taken away step by step, and each field's value then drawn from what the network says of it."""
        tables = self._tables()

        def fill(codes: Tensor, inside: Tensor) -> int:
            start = torch.rand(len(known), generator=rng, dtype=torch.double).tolist()
            logits = self._denoised(codes, known, tables, rng)
            for j in (~known).nonzero()[:, 0].tolist():
                codes[:, j] = self.codes.gated(j, self.codes.offsets[j] + spread(logits[j].softmax(1), start[j]), codes)
            return len(codes)

        return fill

    def _denoised(self, codes: Tensor, fixed: Tensor, tables: list[Tensor], rng: torch.Generator) -> list[Tensor]:
        """Logits of every field at the least noise, from the most, by an exponential trapezoid: D is a line in log sigma over a step.

        codes (n, fields), of which the fixed fields (fields,) count.
        DPM-Solver++; C. Lu, Y. Zhou, F. Bao, J. Chen, C. Li, J. Zhu; 2022; https://arxiv.org/abs/2211.01095
        """
        dims = torch.tensor(self.ends).diff()
        wide = lambda v: v.repeat_interleave(dims, 1)  # noqa: E731
        stays = fixed & (codes < self.codes.size)  # (n, fields): given, and not switched off
        levels = self._noise(torch.linspace(1, 0, self.steps + 1), self.loss)  # (steps + 1, fields)
        clean, hold = self._place(codes, tables), wide(stays)
        eps = torch.randn(clean.shape, generator=rng)
        x = torch.where(hold, clean, 0) + wide(levels[:1].exp()) * eps
        mean = self._mean
        if stays.any():
            mean = lambda x, noise, tables: self._led(x, noise, tables, self.codes.within(codes), stays)  # noqa: E731
        for now, then in pairwise(levels):
            h = (now - then).clamp_min(1e-6)[None]
            whole, second = -torch.expm1(-h), 1 + torch.expm1(-h) / h  # what D weighs in all, and at the end of the step
            keep, first, second = wide(torch.exp(-h)), wide(whole - second), wide(second)
            given, now, then = clean + wide(then[None].exp()) * eps, now.expand(len(x), -1), then.expand(len(x), -1)
            before = mean(x, now, tables)
            after = mean(torch.where(hold, given, keep * x + (first + second) * before), then, tables)
            x = torch.where(hold, given, keep * x + first * before + second * after)
        return self._logits(x, levels[-1].expand(len(x), -1), tables)

    def _mean(self, x: Tensor, noise: Tensor, tables: list[Tensor]) -> Tensor:
        """D(x, sigma), (n, dimensions)."""
        return torch.cat([logits.softmax(1) @ e for logits, e in zip(self._logits(x, noise, tables), tables, strict=True)], 1)

    @torch.enable_grad()
    def _led(self, x: Tensor, noise: Tensor, tables: list[Tensor], values: Tensor, stays: Tensor) -> Tensor:
        """D(x, sigma | y), (n, dimensions), within the points of each field. values (n, fields) are y's, within their fields, where stays."""
        x = x.detach().requires_grad_()
        logits = self._logits(x, noise, tables)
        log_p = torch.stack([-F.cross_entropy(v, y, reduction="none") for v, y in zip(logits, values.unbind(1), strict=True)], 1)
        told = (stays & (noise > LOW + 1)).float()  # given, and still behind noise: once it is seen the network knows it
        (pull,) = torch.autograd.grad((log_p * told / told.sum(1, keepdim=True).clamp_min(1).sqrt()).sum(), x)
        dims, tables = torch.tensor(self.ends).diff(), [e.detach() for e in tables]
        mean = torch.cat([v.detach().softmax(1) @ e for v, e in zip(logits, tables, strict=True)], 1)
        low, high = torch.cat([e.amin(0) for e in tables]), torch.cat([e.amax(0) for e in tables])
        return (mean + (2 * noise).exp().repeat_interleave(dims, 1) * pull).clamp(low, high)


def _middles(edges: Tensor) -> Tensor:
    """Edges of a number's bins (bins + 1,) -> the mean of a standard normal in each."""
    phi = torch.exp(-0.5 * edges.double() ** 2) / math.sqrt(2 * math.pi)
    return ((phi[:-1] - phi[1:]) / torch.special.ndtr(edges.double()).diff()).float()


def _directions(classes: int) -> nn.Parameter:
    """A point for each class, as far apart as they can be where there are few."""
    points = torch.empty(classes, min(classes, DIRECTIONS))
    return nn.Parameter(nn.init.orthogonal_(points) if classes <= DIRECTIONS else points.normal_())
