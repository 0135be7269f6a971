"""Holds: classes of a step are kept from the step before, now and then, so that they change as often as in the data.

A family that says all steps of a series at once draws its classes step by step, given all that it knows of the series; what it does
not know, somebody's diagnosis, would flicker. With a probability k, one for each field, a step has the random number of the step
before. Every step's own distribution stays what it was; only steps depend on each other, a copula in time. Where no random number
decides in the end (of a diffusion), the class itself is kept. The share of steps that bring another class is about
(1 - k) r_0 + k r_1, r_0 without holding and r_1 with one number for a series; k is what makes it that of the data.

Copulas and Markov processes; W. Darsow, B. Nguyen, E. Olsen; 1992; https://doi.org/10.1215/ijm/1255987328
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from generators.layout import Layout, Sequences, SeriesLayout


class Holds(nn.Module):
    """kept (fields,): k of each field of a step, 0 of a number."""

    def __init__(self, layout: SeriesLayout):
        super().__init__()
        self.step, self.longest = layout.step, layout.longest
        self.register_buffer("kept", torch.zeros(len(layout.step)))

    def fit(self, x: Sequences, sample: Callable[..., Tensor], rng: torch.Generator, judged: int) -> None:
        """sample(static, lengths, rng=) -> steps, of which about so many series are looked at."""
        if self.longest < 2 or not self.step.discrete:
            return
        some = x[torch.randperm(len(x), generator=rng)[:judged]]
        static, lengths = (v.repeat(max(judged // len(some), 1), *[1] * (v.ndim - 1)) for v in (some.static, some.lengths))
        wanted, found = changes(self.step, x.steps, x.lengths), []
        for k in (0.0, 1.0):
            self.kept.fill_(k)
            found.append(changes(self.step, sample(static, lengths, rng=rng), lengths))
        new, apart = found[0], found[0] - found[1]
        k = torch.where(apart > 0, ((new - wanted) / apart).clamp(0, 1), 0.0)
        self.kept.copy_(k)
        got = changes(self.step, sample(static, lengths, rng=rng), lengths)  # steps that are farther apart differ more, if it is the class that is kept
        self.kept.copy_(torch.where(got < new, (k * (new - wanted) / (new - got)).clamp(0, 1), k))

    def forward(self, noise: Tensor, j: int, rng: torch.Generator) -> Tensor:
        """Random numbers, or classes, of field j, (series, longest) or (series, longest, values), some of them held."""
        if not float(self.kept[j]):
            return noise
        new = torch.rand(noise.shape[:2], generator=rng) >= float(self.kept[j])
        new[:, 0] = True
        at = torch.where(new, torch.arange(noise.shape[1]), 0).cummax(1).values.to(noise.device)
        return noise.gather(1, at if noise.ndim == 2 else at[:, :, None].expand_as(noise))


def changes(layout: Layout, steps: Tensor, lengths: Tensor) -> Tensor:
    """(fields,): the share of steps (steps, fields) with another class than the step before, where both have one; 0 of a number."""
    whose, on = torch.repeat_interleave(torch.arange(len(lengths)), lengths), layout.active(steps)
    both = (whose[1:] == whose[:-1])[:, None] & on[1:] & on[:-1]
    share = ((steps[1:] != steps[:-1]) & both).sum(0) / both.sum(0).clamp_min(1)
    return share * torch.tensor([bool(f.classes) for f in layout.fields])
