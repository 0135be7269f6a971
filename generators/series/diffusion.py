"""Diffusion of series: all steps of a series at once, noise taken away a little at a time.

    dx / d sigma = (x - D(x; sigma)) / sigma,     D(x; sigma) = E[clean x | noisy x, static]
Of numbers D is learned by denoising, D = c_skip x + c_out F(c_in x; sigma); of classes, which are points, D is the mean of the
points under the probabilities that the network gives them (score interpolation). How many steps a series has is known before.

Elucidating the design space of diffusion-based generative models; T. Karras, M. Aittala, T. Aila, S. Laine; 2022; https://arxiv.org/abs/2206.00364
Continuous diffusion for categorical data; S. Dieleman et al.; 2022; https://arxiv.org/abs/2211.15089
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.codes import Codes
from generators.heads import spread
from generators.layout import Sequences, SeriesLayout, positions
from generators.nets import Stays
from generators.neural import Neural
from generators.series.holds import Holds
from generators.series.margins import Margins, SetRight
from generators.series.tracks import Tracks, Trunk
from generators.train import Plan

LEAST, MOST = 0.05, 20.0  # of the noise; a number's own spread is 1. Of less noise the network learns too little to be asked
MIDDLE, AROUND = -1.0, 1.6  # log of the noise that is learned from: mean and spread
BEND = 7.0  # how much closer levels of little noise are
WAVES = 8  # by which the network knows the noise
HELD_OUT = 96  # held-out series that are looked at, at least
CHUNK = 2**16  # steps that are drawn together
STEPS = 3000  # of the training, at least
JUDGED = 500  # series that are drawn to set the margins right


class Denoised(SetRight, Neural):
    """layout: what a series is.

    width, depth: of the network, hidden units and blocks
    steps:   in which noise is taken away, two looks at the network each
    dropout: share of hidden units that are left out while training
    asked:   of train.Plan, passes and minutes above all
    """

    called = "diffusion"
    unit, judged = "Minus the error of the network on held-out series, mean over noise levels", JUDGED

    def __init__(self, layout: SeriesLayout, width: int = 128, depth: int = 4, steps: int = 20, dropout: float = 0.1, **asked: Any):
        super().__init__(layout, asked)
        whole(width=width, depth=depth, steps=steps), number(high=0.99, dropout=dropout)
        self.width, self.depth, self.steps, self.dropout = width, depth, steps, dropout

    def plan(self, n: int) -> Plan:
        batch = min(max(n // 8, 16), 64)
        few = max(STEPS * batch / (30 * max(n, 1)), 1)
        return Plan(passes=30 * few, batch=batch, rate=2e-3, decay=0.05, memory=2 * few, patience=round(10 * few))

    def sizes(self, n: int) -> dict:
        return {}

    def build(self) -> None:
        layout, width = self.layout, self.width
        self.tracks, self.stays = Tracks(layout), Stays(layout.static, width)
        self.holds, self.margins = Holds(layout, numbers=False), Margins(layout)
        self.level = nn.Sequential(nn.Linear(2 * WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.outs = [k or 1 for k in self.tracks.sizes]  # of the network, for each field
        self.trunk = Trunk(layout.longest, self.tracks.channels, sum(self.outs), width, self.depth, self.dropout)
        nn.init.zeros_(self.trunk.outlet.weight), nn.init.zeros_(self.trunk.outlet.bias)

    @property
    def codes(self) -> Codes:
        return self.stays.codes

    def _answers(self, x: Tensor, sigma: Tensor, mask: Tensor, stays: Tensor) -> list[Tensor]:
        """For each field D of a number (n, longest, 1), or logits of its classes. x (n, longest, channels), sigma (n,), stays (n, width)."""
        s = sigma[:, None, None]
        skip, out = 1 / (1 + s**2), s * (1 + s**2).rsqrt()
        turns = sigma.log()[:, None] * 0.5 * torch.linspace(0.5, 4, WAVES, device=x.device)
        condition = stays + self.level(torch.cat([turns.sin(), turns.cos()], 1))
        raw = self.trunk(x * (1 + s**2).rsqrt(), mask, condition).split(self.outs, 2)
        answers = []
        for j, (f, own) in enumerate(zip(raw, x.split(self.tracks.widths, 2), strict=True)):
            if k := self.tracks.sizes[j]:
                points = self.tracks.points(j)
                answers.append(f + (own @ points.t() - 0.5 * (points**2).sum(1)) / s**2 if k > 1 else f)  # log N(own; point, sigma), up to a constant
            else:
                answers.append(skip * own + out * f)
        return answers

    def _clean(self, answers: list[Tensor]) -> Tensor:
        """D, (n, longest, channels)."""
        return torch.cat([a.softmax(2) @ self.tracks.points(j) if self.tracks.sizes[j] else a for j, a in enumerate(answers)], 2)

    def _errors(self, steps: Tensor, lengths: Tensor, static: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
        """(n,): of the fields of a step, squared error of numbers in units of what there is to learn and nats of classes, mean over steps."""
        dense, mask = self.tracks.dense(steps, lengths)
        s, total = sigma[:, None, None], 0.0
        answers = self._answers(self.tracks.placed(dense) + s * eps, sigma, mask, self.stays(static))
        for j, answer in enumerate(answers):
            if self.tracks.sizes[j]:
                total = total + F.cross_entropy(answer.transpose(1, 2), dense[:, :, j].long(), reduction="none")
            else:
                total = total + (answer[:, :, 0] - dense[:, :, j]).square() * ((1 + s**2) / s**2)[:, :, 0]
        return (total * mask[:, :, 0]).sum(1) / lengths

    def objective(self, x: Sequences, held_out: Sequences, rng: torch.Generator):
        steps, held, where = self.tracks.filled(x), self.tracks.filled(held_out), x.steps.device
        each = max(HELD_OUT // len(held_out), 1)  # times that a held-out series is looked at, over all levels alike
        even = torch.special.ndtri((torch.arange(each * len(held_out), device=where) + 0.5) / (each * len(held_out)))
        even = (MIDDLE + AROUND * even[torch.randperm(len(even), generator=rng).to(where)]).exp()
        shape = (self.layout.longest, self.tracks.channels)
        eps = torch.randn(len(even), *shape, generator=rng).to(where)

        def loss(i: Tensor, done: float) -> Tensor:
            share = (torch.randperm(len(i), device=where) + torch.rand(len(i), device=where)) / len(i)
            sigma = (MIDDLE + AROUND * torch.special.ndtri(share.clamp(1e-4, 1 - 1e-4))).exp()
            noise = torch.randn(len(i), *shape, device=where)
            return self._errors(steps[positions(x.lengths, i)], x.lengths[i], x.static[i], sigma, noise).mean()

        def score() -> Tensor:
            parts = zip(even.split(len(held_out)), eps.split(len(held_out)), strict=True)
            return -torch.stack([self._errors(held, held_out.lengths, held_out.static, s, e) for s, e in parts]).mean(0)

        return {"": loss}, score

    @torch.no_grad()
    def sample(self, static: Tensor, lengths: Tensor, *, rng: torch.Generator) -> Tensor:
        """static (n, fields), lengths (n,) -> steps (sum of lengths, fields)."""
        size = max(CHUNK // self.layout.longest, 1)
        return torch.cat([self._draw(s, n, rng) for s, n in zip(static.split(size), lengths.split(size), strict=True)])

    def _draw(self, static: Tensor, lengths: Tensor, rng: torch.Generator) -> Tensor:
        """From the most noise to the least by the method of Heun."""
        n, stays = len(lengths), self.stays(static)
        mask = (torch.arange(self.layout.longest) < lengths[:, None])[:, :, None].float()
        levels = torch.linspace(MOST ** (1 / BEND), LEAST ** (1 / BEND), self.steps + 1) ** BEND
        x = MOST * torch.randn(n, self.layout.longest, self.tracks.channels, generator=rng)
        slope = lambda x, s: (x - self._clean(self._answers(x, torch.full((n,), float(s)), mask, stays))) / s  # noqa: E731
        for now, then in pairwise(levels):
            before = slope(x, now)
            after = slope(x + (then - now) * before, then)
            x = x + (then - now) * (before + after) / 2
        found = []
        for j, answer in enumerate(self._answers(x, torch.full((n,), LEAST), mask, stays)):
            start = float(torch.rand((), generator=rng))
            found.append(spread(answer.flatten(0, 1).softmax(1), start).view(n, -1).float() if self.tracks.sizes[j] else answer[:, :, 0])
        return self.margins(self.tracks.steps_of(self.holds.settled(torch.stack(found, 2), rng), lengths))
