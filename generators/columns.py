"""Columns: rows of fields as one whole number for each column, and back. A field that gates another and that one are one column."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from generators.codes import Codes
from generators.junction import NEVER
from generators.layout import Given, Layout


class Columns:
    """sizes: values of each column. Of a gate: those that switch off the first field that it gates, then the bins or classes of that one.
    Of a second field that it gates: off, then its classes.

    ruled_out: (two columns, a factor that says which of their combinations cannot be) for each second field
    """

    def __init__(self, layout: Layout, bins: int):
        self.layout, self.codes = layout, Codes.single(layout, bins)
        self.each, gates = self.codes.offsets.diff().tolist(), [f.gate for f in layout.fields]
        self.second = {gate: gates.index(gate) for gate in gates if gate is not None}  # a gate -> the first field that it gates
        self.first = [i for i in range(len(layout)) if i not in self.second.values()]  # the field that a column begins with
        self.sizes = [self.each[i] - 1 + self.each[self.second[i]] if i in self.second else self.each[i] + (gates[i] is not None) for i in self.first]
        self.bins = [self._bins(j, i) for j, i in enumerate(self.first)]  # which values of a column are bins of a number, in order
        self.ruled_out = []
        for j, i in enumerate(self.first):
            if gates[i] is not None:
                gate = self.first.index(gates[i])
                on, known = torch.arange(self.sizes[gate]) >= self.each[gates[i]] - 1, torch.arange(self.sizes[j]) > 0
                self.ruled_out.append(((gate, j), torch.where(on[:, None] == known, 0.0, NEVER).double()))

    def _bins(self, j: int, i: int) -> slice:
        number = self.second.get(i, i)
        return slice(0, 0) if self.layout.fields[number].classes else slice(self.sizes[j] - self.each[number], self.sizes[j])

    def encode(self, x: Tensor) -> Tensor:
        """x (n, fields) -> (n, columns) int64."""
        codes = self.codes.encode(x)
        level = torch.where(codes < self.codes.size, codes - self.codes.offsets[:-1], -1)
        out = []
        for i in self.first:
            if i in self.second:
                out.append(torch.where(level[:, i] > 0, level[:, i] - 1, self.each[i] - 1 + level[:, self.second[i]].clamp_min(0)))
            else:
                out.append(level[:, i] + int(self.layout.fields[i].gate is not None))
        return torch.stack(out, 1) if out else torch.zeros(len(x), 0, dtype=torch.long)

    def decode(self, values: Tensor, rng: torch.Generator) -> Tensor:
        """values (n, columns) -> x (n, fields)."""
        codes = self.codes.offsets[:-1].expand(len(values), -1).clone()
        for j, i in enumerate(self.first):
            if i in self.second:
                inside = values[:, j] - (self.each[i] - 1)
                codes[:, i] += torch.where(inside >= 0, 0, values[:, j] + 1)
                codes[:, self.second[i]] += inside.clamp_min(0)
            else:
                codes[:, i] += (values[:, j] - int(self.layout.fields[i].gate is not None)).clamp_min(0)
        x = torch.zeros(len(values), len(self.layout))
        self.codes.decode(codes, x, torch.rand(x.shape, generator=rng, dtype=torch.double))
        return x

    def count(self, values: Tensor, of: tuple[int, ...]) -> Tensor:
        """How many rows have each combination of these columns, a tensor with an axis for each."""
        shape = [self.sizes[i] for i in of]
        at = torch.zeros(len(values), dtype=torch.long)
        for i in of:
            at = at * self.sizes[i] + values[:, i]
        return torch.bincount(at, minlength=math.prod(shape)).double().reshape(shape)

    def log_density(self, x: Tensor) -> Tensor:
        return self.codes.log_density(x)

    def allowed(self, given: Given) -> list[Tensor]:
        """What one request leaves of each column, bool (values,)."""
        level = self.encode(given.values[:1])[0]
        out = []
        for j, i in enumerate(self.first):
            keep = torch.ones(self.sizes[j], dtype=torch.bool)
            on = torch.arange(self.sizes[j]) >= self.each[i] - 1
            if given.mask[i] and i in self.second and not given.mask[self.second[i]] and level[j] >= self.each[i] - 1:
                keep = on  # on, and no more is said
            elif i in self.second and given.mask[self.second[i]] and not given.mask[i]:
                keep = (torch.arange(self.sizes[j]) == level[j]) | ~on
            elif given.mask[i]:
                keep = torch.arange(self.sizes[j]) == level[j]
            out.append(keep)
        return out
