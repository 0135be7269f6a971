"""Holds: classes of a step are kept from the step before, now and then, so that they change as often as in the data.

A family that says all steps of a series at once draws its classes step by step, given all that it knows of the series; what it does
not know, somebody's diagnosis, would flicker. With a probability k, one for each field, a step has the random number of the step
before. Every step's own distribution stays what it was; only steps depend on each other, a copula in time. The share of steps that
bring another class is (1 - k) r_0 + k r_1, r_0 without holding and r_1 with one number for a series; k is what makes it that of
the data. Where not even one number does, or none decides in the end (of a diffusion), the class itself is kept with a probability.

Copulas and Markov processes; W. Darsow, B. Nguyen, E. Olsen; 1992; https://doi.org/10.1215/ijm/1255987328
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from generators.layout import Layout, Sequences, SeriesLayout


class Holds(nn.Module):
    """numbers: whether classes are drawn by random numbers that can be held.

    kept, whole (fields,): how probably the random number, and the class, of each field of a step is held; 0 of a number
    """

    def __init__(self, layout: SeriesLayout, numbers: bool = True):
        super().__init__()
        self.step, self.longest, self.numbers = layout.step, layout.longest, numbers
        self.register_buffer("kept", torch.zeros(len(layout.step)))
        self.register_buffer("whole", torch.zeros(len(layout.step)))

    def fit(self, x: Sequences, sample: Callable[..., Tensor], rng: torch.Generator, judged: int) -> None:
        """sample(static, lengths, rng=) -> steps, of which about so many series are looked at."""
        if self.longest < 2 or not self.step.discrete:
            return
        some = x[torch.randperm(len(x), generator=rng)[:judged]]
        static, lengths = (v.repeat(max(judged // len(some), 1), *[1] * (v.ndim - 1)) for v in (some.static, some.lengths))
        wanted = changes(self.step, x.steps, x.lengths)

        def found() -> Tensor:
            return changes(self.step, sample(static, lengths, rng=rng), lengths)

        self.kept.zero_(), self.whole.zero_()
        now = found()
        for held in (self.kept, self.whole) if self.numbers else (self.whole,):
            free = now
            held.copy_(torch.where(free > wanted, 1 - wanted / free if held is self.whole else 1.0, 0.0))
            for _ in range(2):  # twice, for steps that are farther apart may differ more
                now = found()
                held.copy_(torch.where(now < free, held * (free - wanted) / (free - now), held).clamp(0, 1))
            now = found() if held is self.kept else now

    def forward(self, noise: Tensor, j: int, rng: torch.Generator) -> Tensor:
        """Random numbers of field j, (series, longest) or (series, longest, values), some of them held."""
        return _held(noise, float(self.kept[j]), rng)

    def settled(self, dense: Tensor, rng: torch.Generator) -> Tensor:
        """Steps (series, longest, fields), some classes of which are held."""
        out = dense.clone()
        for j in self.step.discrete:
            out[:, :, j] = _held(dense[:, :, j], float(self.whole[j]), rng)
        return out


def _held(x: Tensor, probability: float, rng: torch.Generator) -> Tensor:
    """x (series, longest, ...), at every step but the first with some probability that of the step before."""
    if not probability:
        return x
    new = torch.rand(x.shape[:2], generator=rng) >= probability
    new[:, 0] = True
    at = torch.where(new, torch.arange(x.shape[1]), 0).cummax(1).values.to(x.device)
    return x.gather(1, at if x.ndim == 2 else at[:, :, None].expand_as(x))


def changes(layout: Layout, steps: Tensor, lengths: Tensor) -> Tensor:
    """(fields,): the share of steps (steps, fields) with another class than the step before, where both have one; 0 of a number."""
    whose, on = torch.repeat_interleave(torch.arange(len(lengths)), lengths), layout.active(steps)
    both = (whose[1:] == whose[:-1])[:, None] & on[1:] & on[:-1]
    share = ((steps[1:] != steps[:-1]) & both).sum(0) / both.sum(0).clamp_min(1)
    return share * torch.tensor([bool(f.classes) for f in layout.fields])
