"""Autoregressive: p(x) = prod_j p(x_j | the fields before j), for any order of the fields, by one network.

The network sees some fields i of a row and gives the distribution of every other field j:
    h_j = f(place_j + sum over seen i of A_ji * e(x_i)),   p(x_j = v | seen) = softmax_v(u_v . h_j + b_v)
with an embedding e of every value, and A_ji one learned weight for each pair of fields. Most rows are learned from in the
layout's order, in which rows are drawn; the others in orders drawn at random, so that what is given may stand first and
conditions hold exactly. Numbers are fine bins, entered and predicted through smooth functions over their bins, so that
neighbours share what they learn. Rows are drawn together, with evenly spread random numbers over rows that are alike
(array-RQMC).

The neural autoregressive distribution estimator; H. Larochelle, I. Murray; 2011; https://proceedings.mlr.press/v15/larochelle11a
A deep and tractable density estimator; B. Uria, I. Murray, H. Larochelle; 2014; https://arxiv.org/abs/1310.1757
A randomized quasi-Monte Carlo simulation method for Markov chains; P. L'Ecuyer, C. Lecot, B. Tuffin; 2008; https://doi.org/10.1287/opre.1070.0492
"""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.arguments import number, whole
from generators.codes import Codes
from generators.heads import Values, spread
from generators.layout import Layout
from generators.nets import AnyOrder
from generators.neural import Neural
from generators.train import Plan

CHUNK = 8192  # held-out rows that go through the network at a time
SILVER = 0.4142135623730950  # steps from chunk to chunk of rows that spread random numbers evenly


class Autoregressive(Neural):
    """layout: what a row is.

    width:   hidden units; None: 256, or 128 for fewer than 5,000 rows
    bins:    bins of a number, of equal probability, at most; None: one for 20 rows, 16 to 128
    dropout: share of hidden units that are left out while training
    ordered: share of the rows that are learned from in the layout's order
    asked:   of train.Plan, passes and minutes above all
    """

    def __init__(self, layout: Layout, width: int | None = None, bins: int | None = None, dropout: float = 0.5, ordered: float = 0.75, **asked: Any):
        super().__init__(layout, asked)
        whole(width=width, bins=bins), number(high=1, dropout=dropout, ordered=ordered)
        self.width, self.bins, self.dropout, self.ordered = width, bins, dropout, ordered

    def plan(self, n: int) -> Plan:
        few = max(30_000 / max(n, 1), 1)
        return Plan(passes=10 * few**0.25, batch=min(max(n // 50, 32), 256), rate=0.015, decay=few**0.4)

    def sizes(self, n: int) -> dict:
        return {"width": self.width or (256 if n >= 5000 else 128), "bins": self.bins or min(max(n // 20, 16), 128)}

    def build(self, width: int, bins: int) -> None:
        self.codes = Codes.single(self.layout, bins)
        self.values, self.net = Values(self.codes, width), AnyOrder(len(self.layout), width, self.dropout)

    def _nats(self, codes: Tensor, sees: Tensor) -> Tensor:
        """(n,): minus the sum over fields that are switched on of log p(field | what it sees)."""
        hidden = self.net(F.embedding(codes, self.values.vectors()), sees)
        return self.values.nats(hidden.unbind(1), self.codes.within(codes))

    def objective(self, x: Tensor, held_out: Tensor, rng: torch.Generator):
        rows = self.codes.encode(x, torch.int32)
        self.values.start(rows)
        return {"": lambda i, done: self._nats(rows[i].long(), self.net.orders(len(i), self.ordered)).mean()}, lambda: self.log_prob(held_out)

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """(n, fields) -> (n,) nats, in the layout's order."""
        natural = self.net.natural()
        return torch.cat([self.codes.log_density(part) - self._nats(self.codes.encode(part), natural) for part in x.split(CHUNK)])

    def drawer(self, known: Tensor, rng: torch.Generator):
        """Field by field in the layout's order, what is known first."""
        order = torch.cat([known.nonzero()[:, 0], (~known).nonzero()[:, 0]]).tolist()
        start, chunks = torch.rand(len(known), generator=rng, dtype=torch.double), count()
        vectors, heads = self.values.vectors(), self.values.heads()

        def fill(codes: Tensor, inside: Tensor) -> int:
            begin = ((start + next(chunks) * SILVER) % 1).tolist()

            def pick(j: int, hidden: Tensor) -> Tensor:
                value = spread(F.linear(hidden, *heads[j]).softmax(1), begin[j])
                return self.codes.gated(j, self.codes.offsets[j] + value, codes)

            self.net.draw(codes, order, int(known.sum()), vectors, pick)
            return len(codes)

        return fill
