"""Ordered: a row is drawn field by field, in any order, by one network. What families share of which each field's distribution differs.

Most rows are learned from in the layout's order, in which rows are drawn; the others in orders drawn at random, so that what
is given may stand first. As little is learned of those where rows are few, some candidates are drawn so for every row that must
hold something, and one of them is chosen by how probable the whole row is in the layout's order, relative to how it was drawn:
    p(x | given) ~ p(x in the layout's order) / p(x with what is given first)
Rows are drawn together, with evenly spread random numbers over rows that are alike (array-RQMC, see heads.even).

Using the SIR algorithm to simulate posterior distributions; D. Rubin; 1988 (Bayesian Statistics 3, 395-402)
"""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.arguments import number, whole
from generators.codes import Codes
from generators.heads import Values
from generators.layout import Given, Layout
from generators.nets import AnyOrder
from generators.neural import Neural
from generators.train import Plan

CHUNK = 8192  # rows whose probability is looked at together
FIRST, TRIED, MOST = 128, 16, 64  # rows that must hold something, and candidates for each, that tell how many the others need; at most
TOGETHER = 4096  # such rows that are drawn together
SILVER = 0.4142135623730950  # steps from chunk to chunk of rows that spread random numbers evenly


class Ordered(Neural):
    """layout: what a row is.

    width:   hidden units; None: 256, or 128 for fewer than 5,000 rows
    bins:    bins of a number, of equal probability, at most; None: as many as suit the number of rows
    dropout: share of hidden units that are left out while training
    ordered: share of the rows that are learned from in the layout's order
    asked:   of train.Plan, passes and minutes above all

    A family defines
        bins_for(n) -> bins of a number where n rows are learned from
        nats(codes, x, sees) -> (n,) minus the sum over fields that count of log p(field | what it sees); x (n, fields), see nets for sees
        density(x)  -> (n,) what turns that into log p(x)
        value(j, hidden, head, start, inside) -> (n,) drawn values of field j, numbers within the field; may write inside (n, fields)
    """

    def __init__(self, layout: Layout, width: int | None = None, bins: int | None = None, dropout: float = 0.5, ordered: float = 0.75, **asked: Any):
        super().__init__(layout, asked)
        whole(width=width, bins=bins), number(high=0.99, dropout=dropout), number(high=1, ordered=ordered)
        self.width, self.bins, self.dropout, self.ordered = width, bins, dropout, ordered

    def plan(self, n: int) -> Plan:
        few = max(30_000 / max(n, 1), 1)
        return Plan(passes=10 * few**0.25, batch=min(max(n // 50, 32), 256), rate=0.015, decay=few**0.4)

    def sizes(self, n: int) -> dict:
        return {"width": self.width or (256 if n >= 5000 else 128), "bins": self.bins or self.bins_for(n)}

    def small(self, n: int) -> dict:
        return {"width": self.width or 64, "bins": self.bins or min(self.bins_for(n), 24)}

    def build(self, width: int, bins: int) -> None:
        self.codes = Codes.single(self.layout, bins)
        self.values, self.net = Values(self.codes, width), AnyOrder(len(self.layout), width, self.dropout)

    def objective(self, x: Tensor, held_out: Tensor, rng: torch.Generator):
        rows = self.codes.encode(x, torch.int32)
        self.values.start(rows, self.counted)
        loss = lambda i, done: self.nats(rows[i].long(), x[i], self.net.orders(len(i), self.ordered)).mean()  # noqa: E731
        return {"": loss}, lambda: self.log_prob(held_out)

    def fit(self, x: Tensor, held_out: Tensor, **how: Any):
        super().fit(x, held_out, **how)
        if k := self.layout.fields[0].classes:
            self._settle(torch.bincount(torch.cat([x[:, 0], held_out[:, 0]]).long(), minlength=k) if self.counted is None else self.counted[:k])
        return self

    @torch.no_grad()
    def _settle(self, counts: Tensor) -> None:
        """A class that is drawn first, given nothing, is as frequent as it is in all rows. counts (classes,)."""
        logits = F.linear(self.net.first(0), *self.values.heads()[0])
        self.values.bias[: len(counts)] += (counts + 0.5).log() - logits

    @torch.no_grad()
    def log_prob(self, x: Tensor, sees: Tensor | None = None) -> Tensor:
        """(n, fields) -> (n,) nats, in the layout's order, or in that which sees (1, fields, fields) says, see nets."""
        sees = self.net.natural() if sees is None else sees
        return torch.cat([self.density(part) - self.nats(self.codes.encode(part), part, sees) for part in x.split(CHUNK)])

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Tensor:
        """(n, fields). Raises ValueError where some rows cannot be as asked, with the number of those that can."""
        known = None if given is None else given.mask
        if known is None or not (known[1:] & ~known[:-1]).any():  # what is given stands first in the layout's order too
            return super().sample(n, given, rng=rng)
        few = given.values[torch.linspace(0, n - 1, min(n, FIRST)).long()]
        spread = float(self._candidates(few, known, TRIED, rng)[1].square().sum(1).mean()) * TRIED - 1 if n else 0.0  # variance of weights
        many = min(1 + math.ceil(4 * spread), MOST)
        found = []
        for values in given.values.split(TOGETHER):
            rows, weight = self._candidates(values, known, many, rng)
            found.append(rows[torch.arange(len(rows)), weight.multinomial(1, generator=rng)[:, 0]])
        return torch.cat(found)

    def _candidates(self, values: Tensor, known: Tensor, many: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Of n rows that must hold something: (n, many, fields) drawn with that first, and how probable each is as a row, relative to that, (n, many)."""
        rank = torch.argsort(torch.argsort((~known).int(), stable=True))
        first = (rank[None, :] < rank[:, None]).float()[None]
        rows = super().sample(len(values) * many, Given(values.repeat_interleave(many, 0), known), rng=rng)
        weight = (self.log_prob(rows) - self.log_prob(rows, first)).double() if many > 1 else torch.zeros(len(rows), dtype=torch.double)
        return rows.view(len(values), many, -1), weight.view(len(values), many).softmax(1)

    def drawer(self, known: Tensor, rng: torch.Generator):
        """Field by field in the layout's order, what is known first."""
        order = torch.cat([known.nonzero()[:, 0], (~known).nonzero()[:, 0]]).tolist()
        start, chunks = torch.rand(len(known), generator=rng, dtype=torch.double), count()
        vectors, heads = self.values.vectors(), self.values.heads()

        def fill(codes: Tensor, inside: Tensor) -> int:
            begin = ((start + next(chunks) * SILVER) % 1).tolist()

            def pick(j: int, hidden: Tensor) -> Tensor:
                value = self.value(j, hidden, heads[j], begin[j], inside)
                return self.codes.gated(j, self.codes.offsets[j] + value, codes)

            self.net.draw(codes, order, int(known.sum()), vectors, pick)
            return len(codes)

        return fill
