"""Windows: a series as one row of numbers, what stays and then step after step, with nothing where it has ended or a field does not count.

A class is an interval of a standard normal, as wide as the class is frequent; classes that have no order of their own are ordered by
the numbers they come with, so that neighbours are alike.

Extending the rank likelihood for semiparametric copula estimation; P. Hoff; 2007; https://doi.org/10.1214/07-AOAS107
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from generators.layout import Layout, Sequences, SeriesLayout, moments

LIMIT = 6.0  # of a standard normal, how far out a number may be


class Windows(nn.Module):
    """Rows x (n, D), D = static fields + longest series * fields of a step, with a mask of the same shape: where something is.

    ranks:      of every field (static first), its classes' places in the order; empty for a number
    thresholds: of every field the ends of its classes' intervals, (classes + 1,); empty for a number
    """

    def __init__(self, layout: SeriesLayout):
        super().__init__()
        self.layout, self.fields = layout, (*layout.static.fields, *layout.step.fields)
        self.static, self.steps = len(layout.static), layout.longest
        of = [self._column(i) for i in range(len(self.fields))]
        discrete = [c for c, f in zip(of, self.fields, strict=True) if f.classes]
        self.register_buffer("discrete", torch.cat([torch.empty(0, dtype=torch.long), *discrete]).sort().values, persistent=False)
        field = torch.empty(len(self), dtype=torch.long)
        for i, c in enumerate(of):
            field[c] = i
        self.register_buffer("field", field, persistent=False)  # (D,): of which field a column is
        self.ranks = nn.ParameterList([nn.Parameter(torch.arange(f.classes), requires_grad=False) for f in self.fields])
        self.thresholds = nn.ParameterList([nn.Parameter(_ends(torch.ones(f.classes)), requires_grad=False) for f in self.fields])

    def __len__(self) -> int:
        """D."""
        return self.static + self.steps * len(self.layout.step)

    def _column(self, i: int) -> Tensor:
        """Columns of field i of all, static first."""
        return torch.tensor([i]) if i < self.static else torch.arange(self.steps) * len(self.layout.step) + i

    def fit(self, x: Sequences) -> Windows:
        """Learns the order of classes and how frequent they are."""
        for layout, rows, first in ((self.layout.static, x.static, 0), (self.layout.step, x.steps, self.static)):
            order = _ordered(layout, rows, 1 if first == 0 else 0)
            for i, rank in order.items():
                self.ranks[first + i].data.copy_(rank)
                shares = torch.bincount(rank[rows[:, i].long()], minlength=len(rank)).double() + 0.5
                self.thresholds[first + i].data.copy_(_ends(shares))
        return self

    def rows(self, x: Sequences) -> tuple[Tensor, Tensor]:
        """x (n, D) double, numbers as they are and classes as their places in the order; mask (n, D) bool."""
        static, steps = _placed(self.layout.static, x.static, self.ranks[: self.static]), _placed(self.layout.step, x.steps, self.ranks[self.static :])
        n, fields = len(x), len(self.layout.step)
        wide, there = torch.zeros(n, self.steps, fields, dtype=torch.double), torch.zeros(n, self.steps, fields, dtype=torch.bool)
        whose, moment = torch.repeat_interleave(torch.arange(n), x.lengths), moments(x.lengths)
        wide[whose, moment], there[whose, moment] = steps[0], steps[1]
        return torch.cat([static[0], wide.flatten(1)], 1), torch.cat([static[1], there.flatten(1)], 1)

    def given(self, static: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of which only what stays is known."""
        x, mask = _placed(self.layout.static, static, self.ranks[: self.static])
        beyond = len(self) - self.static
        return nn.functional.pad(x, (0, beyond)), nn.functional.pad(mask, (0, beyond))

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Places of the discrete columns (n, d) -> where their intervals begin and end, (n, d) each."""
        low, high = torch.empty_like(x), torch.empty_like(x)
        for j, column in enumerate(self.discrete.tolist()):
            ends = self.thresholds[int(self.field[column])].double()
            low[:, j], high[:, j] = ends[x[:, j].long()], ends[x[:, j].long() + 1]
        return low, high

    def steps_of(self, z: Tensor, lengths: Tensor) -> Tensor:
        """Rows of numbers z (n, D), of series so long -> steps (sum of lengths, fields)."""
        wide = z[:, self.static :].reshape(len(z), self.steps, len(self.layout.step))
        whose = torch.repeat_interleave(torch.arange(len(z)), lengths)
        steps = wide[whose, moments(lengths)]
        out = steps.clamp(-LIMIT, LIMIT)
        for j, field in enumerate(self.layout.step.fields):
            if field.classes:
                place = torch.bucketize(steps[:, j].contiguous(), self.thresholds[self.static + j].double()[1:-1])
                out[:, j] = torch.argsort(self.ranks[self.static + j])[place].to(out.dtype)
        return (out * self.layout.step.active(out)).float()

    def settle(self, steps: Tensor, z: Tensor, lengths: Tensor) -> None:
        """Moves the ends of intervals until rows of numbers z (n, D), of series so long, hold each class of a step as often as steps do."""
        wide = z[:, self.static :].reshape(len(z), self.steps, len(self.layout.step))
        drawn = wide[torch.repeat_interleave(torch.arange(len(z)), lengths), moments(lengths)]
        for j in self.layout.step.discrete:
            rank, ends = self.ranks[self.static + j], self.thresholds[self.static + j]
            held = torch.bincount(rank[steps[:, j].long()], minlength=len(rank)).double()
            shares = (held.cumsum(0) / held.sum())[:-1]
            ordered = drawn[:, j].sort().values
            ends.data[1:-1] = ordered[(shares * (len(ordered) - 1)).round().long()].float()


def _placed(layout: Layout, rows: Tensor, ranks: nn.ParameterList) -> tuple[Tensor, Tensor]:
    """Rows (n, fields), classes replaced by their places; and where they say something, which a field of one class never does."""
    x, on = rows.double(), layout.active(rows)
    for i in layout.discrete:
        x[:, i] = ranks[i][rows[:, i].long()].double()
        on[:, i] &= layout.fields[i].classes > 1
    return x, on


def _ends(weights: Tensor) -> Tensor:
    """(k,) how frequent classes are, in their order -> (k + 1,) ends of their intervals of a standard normal."""
    if not len(weights):
        return torch.zeros(0)
    share = torch.cat([weights.new_zeros(1), weights.cumsum(0)]) / weights.sum()
    ends = torch.special.ndtri(share.double())
    ends[0], ends[-1] = -math.inf, math.inf
    return ends.float()


def _ordered(layout: Layout, rows: Tensor, kept: int) -> dict[int, Tensor]:
    """Of every one-of-k field, places of its classes (classes,): by the first direction in which the numbers that they come with differ.
    The first `kept` fields have an order of their own, and fields of two classes need none."""
    numbers = rows[:, layout.ungated].double()
    out = {}
    for i in layout.discrete:
        k = layout.fields[i].classes
        out[i] = torch.arange(k)
        if i < kept or k < 3 or not layout.ungated:
            continue
        code = rows[:, i].long()
        held = torch.bincount(code, minlength=k).double()
        means = torch.zeros(k, numbers.shape[1], dtype=torch.double).index_add_(0, code, numbers - numbers.mean(0)) / (held[:, None] + 1)
        direction = torch.linalg.svd(means * held[:, None].sqrt(), full_matrices=False)[2][0]
        out[i] = torch.argsort(torch.argsort(means @ direction))
    return out
