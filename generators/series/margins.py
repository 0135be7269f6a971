"""Margins: numbers of steps, made as frequent as they are in the data, when everything else is learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from generators.layout import Sequences, SeriesLayout

KNOTS = 256  # of a distribution, at most
JUDGED = 2000  # series that are drawn to see how they are distributed, about, unless somebody says how many
STEPS_A_KNOT = 20


class Margins(nn.Module):
    """For every number of a step a rising line from how it is drawn to how it should be."""

    def __init__(self, layout: SeriesLayout):
        super().__init__()
        self.step, shape = layout.step, (len(layout.step.continuous), KNOTS)
        for name in ("drawn", "wanted"):
            self.register_buffer(name, torch.linspace(-1, 1, KNOTS, dtype=torch.double).expand(shape).clone())

    def fit(self, x: Sequences, sample: Callable[..., Tensor], rng: torch.Generator, judged: int = JUDGED) -> None:
        """sample(static, lengths, rng=) -> steps, as they are drawn before this."""
        if len(x) > judged:
            x = x[torch.randperm(len(x), generator=rng)[:judged]]
        made = torch.cat([sample(x.static, x.lengths, rng=rng) for _ in range(max(judged // len(x), 1))])
        drawn_on, real_on = self.step.active(made), self.step.active(x.steps)
        count = min(KNOTS, max(len(x.steps) // STEPS_A_KNOT, 2))
        shares = torch.linspace(0.5 / count, 1 - 0.5 / count, KNOTS, dtype=torch.double)
        for j, i in enumerate(self.step.continuous):
            sides = made[drawn_on[:, i], i], x.steps[real_on[:, i], i]
            if min(len(v) for v in sides):
                for side, v in zip((self.drawn, self.wanted), sides, strict=True):
                    side[j] = torch.quantile(v.double()[:: len(v) // 2**23 + 1], shares)

    def forward(self, steps: Tensor) -> Tensor:
        """Steps (n, fields) as they are drawn -> as they should be."""
        on = self.step.active(steps)
        for i, drawn, wanted in zip(self.step.continuous, self.drawn, self.wanted, strict=True):
            steps[on[:, i], i] = _through(steps[on[:, i], i].double(), drawn, wanted).float()
        return steps


class SetRight:
    """A family of series whose `sample` ends with `self.margins`, which is learned when everything else is, and so are its `holds`, if it has any."""

    judged = JUDGED

    def fit(self, x: Sequences, held_out: Sequences, *, rng: torch.Generator, **how: Any):
        super().fit(x, held_out, rng=rng, **how)
        with torch.no_grad():
            if hasattr(self, "holds"):
                self.holds.fit(x, self.sample, rng, self.judged)
            self.margins.fit(x, self.sample, rng, self.judged)
        return self


def _through(v: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The line through points (x, y), both rising, at v; beyond its ends as far from y as v is from x."""
    at = torch.searchsorted(x, v).clamp(1, len(x) - 1)
    share = ((v - x[at - 1]) / (x[at] - x[at - 1]).clamp_min(1e-9)).clamp(0, 1)
    return y[at - 1] + share * (y[at] - y[at - 1]) + (v - x[-1]).clamp_min(0) + (v - x[0]).clamp_max(0)
