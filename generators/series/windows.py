"""Windows: a series as one row of numbers, step after step, with nothing where it has ended or a field does not count; and what stays as numbers.

A class is an interval of a standard normal, as wide as the class is frequent; classes that have no order of their own are ordered by
the numbers they come with, so that neighbours are alike.

Extending the rank likelihood for semiparametric copula estimation; P. Hoff; 2007; https://doi.org/10.1214/07-AOAS107
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from generators.layout import Layout, Sequences, SeriesLayout, moments

MOST_TOLD = 32  # numbers of what stays, at most
RIDGE = 10.0  # series' worth of belief that what stays says nothing
LIMIT = 6.0  # of a standard normal, how far out a number may be


class Told(nn.Module):
    """What stays, rows (n, fields), as numbers (n, r): 1, then numbers as they are and classes as 0 or 1, of many of them those combinations
    that tell most of the steps. The first field, how long a series is, is a number too."""

    def __init__(self, layout: Layout):
        super().__init__()
        self.layout = layout
        self.register_buffer("turn", torch.zeros(0, 0, dtype=torch.double))  # (numbers, r - 1)

    def fit(self, static: Tensor, rows: Tensor, mask: Tensor) -> Told:
        """static (n, fields), rows and mask (n, D) of the steps."""
        wide = self._wide(static)
        self.turn = torch.eye(wide.shape[1], dtype=torch.double)
        if wide.shape[1] > MOST_TOLD:
            away, seen = wide - wide.mean(0), rows * mask
            line = torch.linalg.solve(away.t() @ away + RIDGE * self.turn, away.t() @ (seen - seen.mean(0)))
            self.turn = torch.linalg.svd(line, full_matrices=False)[0][:, :MOST_TOLD].contiguous()
        return self

    def forward(self, static: Tensor) -> Tensor:
        return nn.functional.pad(self._wide(static) @ self.turn, (1, 0), value=1.0)

    def _wide(self, static: Tensor) -> Tensor:
        out, on = [], self.layout.active(static)
        for i, field in enumerate(self.layout.fields):
            value = static[:, i].double()
            if i == 0 and field.classes > 1:
                out.append((value / (field.classes - 1) - 0.5)[:, None] * 2)
            elif field.classes > 1:
                out.append(nn.functional.one_hot(value.long(), field.classes).double() * on[:, i : i + 1])
            elif not field.classes:
                out.append((value * on[:, i])[:, None])
        return torch.cat([static.new_zeros(len(static), 0, dtype=torch.double), *out], 1)


class Windows(nn.Module):
    """Rows x (n, D), D = longest series * fields of a step, with a mask of the same shape: where something is.

    ranks:      of every field, its classes' places in the order; empty for a number
    thresholds: of every field the ends of its classes' intervals, (classes + 1,); empty for a number
    """

    def __init__(self, layout: SeriesLayout):
        super().__init__()
        self.layout, self.steps = layout, layout.longest
        field = torch.arange(len(layout.step)).repeat(self.steps)
        self.register_buffer("field", field, persistent=False)  # (D,): of which field a column is
        self.register_buffer("discrete", torch.isin(field, torch.tensor(layout.step.discrete)).nonzero()[:, 0], persistent=False)
        self.ranks = nn.ParameterList([nn.Parameter(torch.arange(f.classes), requires_grad=False) for f in layout.step.fields])
        self.thresholds = nn.ParameterList([nn.Parameter(_ends(torch.ones(f.classes)), requires_grad=False) for f in layout.step.fields])

    def __len__(self) -> int:
        """D."""
        return len(self.field)

    def fit(self, x: Sequences) -> Windows:
        """Learns the order of classes and how frequent they are."""
        for i, rank in _ordered(self.layout.step, x.steps).items():
            self.ranks[i].data.copy_(rank)
            shares = torch.bincount(rank[x.steps[:, i].long()], minlength=len(rank)).double() + 0.5
            self.thresholds[i].data.copy_(_ends(shares))
        return self

    def rows(self, x: Sequences) -> tuple[Tensor, Tensor]:
        """x (n, D) double, numbers as they are and classes as their places in the order; mask (n, D) bool."""
        values, on = _placed(self.layout.step, x.steps, self.ranks)
        n, fields = len(x), len(self.layout.step)
        wide, there = torch.zeros(n, self.steps, fields, dtype=torch.double), torch.zeros(n, self.steps, fields, dtype=torch.bool)
        whose, moment = torch.repeat_interleave(torch.arange(n), x.lengths), moments(x.lengths)
        wide[whose, moment], there[whose, moment] = values, on
        return wide.flatten(1), there.flatten(1)

    def interval(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Places of the discrete columns (n, d) -> where their intervals begin and end, (n, d) each."""
        low, high = torch.empty_like(x), torch.empty_like(x)
        for j, column in enumerate(self.discrete.tolist()):
            ends = self.thresholds[int(self.field[column])].double()
            low[:, j], high[:, j] = ends[x[:, j].long()], ends[x[:, j].long() + 1]
        return low, high

    def steps_of(self, z: Tensor, lengths: Tensor) -> Tensor:
        """Rows of numbers z (n, D), of series so long -> steps (sum of lengths, fields)."""
        wide = z.reshape(len(z), self.steps, len(self.layout.step))
        whose = torch.repeat_interleave(torch.arange(len(z)), lengths)
        steps = wide[whose, moments(lengths)]
        out = steps.clamp(-LIMIT, LIMIT)
        for j, field in enumerate(self.layout.step.fields):
            if field.classes:
                place = torch.bucketize(steps[:, j].contiguous(), self.thresholds[j].double()[1:-1])
                out[:, j] = torch.argsort(self.ranks[j])[place].to(out.dtype)
        return (out * self.layout.step.active(out)).float()

    def settle(self, steps: Tensor, z: Tensor, lengths: Tensor) -> None:
        """Moves the ends of intervals until rows of numbers z (n, D), of series so long, hold each class of a step as often as steps do."""
        wide = z.reshape(len(z), self.steps, len(self.layout.step))
        drawn = wide[torch.repeat_interleave(torch.arange(len(z)), lengths), moments(lengths)]
        for j in self.layout.step.discrete:
            rank, ends = self.ranks[j], self.thresholds[j]
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


def _ordered(layout: Layout, rows: Tensor) -> dict[int, Tensor]:
    """Of every one-of-k field, places of its classes (classes,): by the first direction in which the numbers that they come with differ."""
    numbers = rows[:, layout.ungated].double()
    out = {}
    for i in layout.discrete:
        k = layout.fields[i].classes
        out[i] = torch.arange(k)
        if k < 3 or not layout.ungated:
            continue
        code = rows[:, i].long()
        held = torch.bincount(code, minlength=k).double()
        means = torch.zeros(k, numbers.shape[1], dtype=torch.double).index_add_(0, code, numbers - numbers.mean(0)) / (held[:, None] + 1)
        direction = torch.linalg.svd(means * held[:, None].sqrt(), full_matrices=False)[2][0]
        out[i] = torch.argsort(torch.argsort(means @ direction))
    return out
