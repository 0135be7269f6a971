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

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.heads import Values, spread
from generators.layout import Given, Layout
from generators.nets import AnyOrder
from generators.streams import drawn, stream
from generators.train import Plan, device, train

CHUNK = 8192  # rows that go through the network at a time
HELD_OUT = 4000  # held-out rows that are looked at, at most
TABLE = 2**25  # numbers that are held while rows are drawn, about
SILVER = 0.4142135623730950  # steps from chunk to chunk of rows that spread random numbers evenly


class Autoregressive(nn.Module):
    """layout: what a row is.

    width:   hidden units; None: 256, or 128 for fewer than 5,000 rows
    bins:    bins of a number, of equal probability, at most; None: one for 20 rows, 16 to 128
    passes:  over the rows at most; None: 10 over 30,000 rows, more over fewer
    minutes: a time budget; None sets none
    rate, decay, dropout, batch: of the training; decay None: 1 over 30,000 rows, more over fewer;
             batch None: 32 to 256 rows, as many as make 50 steps a pass
    ordered: share of the rows that are learned from in the layout's order
    """

    def __init__(
        self, layout: Layout, width: int | None = None, bins: int | None = None, passes: float | None = None, minutes: float | None = None,
        rate: float = 0.015, decay: float | None = None, dropout: float = 0.5, batch: int | None = None, ordered: float = 0.75,
    ):  # fmt: skip
        super().__init__()
        self.layout, self.width, self.bins = layout, width, bins
        self.passes, self.minutes, self.rate, self.decay, self.batch = passes, minutes, rate, decay, batch
        self.dropout, self.ordered = dropout, ordered
        self.curve: list[dict] = []
        self.device = "cpu"
        with stream(0):
            self._build(bins or 16, width or 256)

    def _build(self, bins: int, width: int) -> None:
        """Weights at random, from torch's own stream."""
        self.values = Values(self.layout, bins, width)
        self.net = AnyOrder(len(self.layout), width, self.dropout)

    def _nats(self, codes: Tensor, sees: Tensor) -> Tensor:
        """(n,): minus the sum over fields that are switched on of log p(field | what it sees)."""
        return self.values.nats(self.net(F.embedding(codes, self.values.vectors()), sees).unbind(1), codes)

    def fit(self, x: Tensor, held_out: Tensor, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None, checkpoint: Path | None = None):
        """x (n, fields), held_out (m, fields). On a GPU where there is one; the model comes back to the CPU."""
        n = len(x)
        bins = self.bins or min(max(n // 20, 16), 128)
        width = self.width or (256 if n >= 5000 else 128)
        with stream(drawn(rng)):
            self._build(bins, width)
        held_out = held_out[torch.randperm(len(held_out), generator=rng)[:HELD_OUT]]
        codes = self.values.codes
        rows, held, density = codes.encode(x), codes.encode(held_out), codes.log_density(held_out)
        self.values.start(rows)
        where = device()
        self.device = where.type
        self.to(where)
        rows, held = rows.to(where), held.to(where)

        def score() -> Tensor:
            return density - torch.cat([self._nats(c, self.net.natural()) for c in held.split(CHUNK)]).cpu()

        few = max(30_000 / n, 1)
        passes, batch = self.passes or 10 * few**0.25, self.batch or min(max(n // 50, 32), 256)
        plan = Plan(passes, batch, self.rate, decay=few**0.4 if self.decay is None else self.decay, minutes=self.minutes)
        losses = {"": lambda i, done: self._nats(rows[i], self.net.orders(len(i), self.ordered)).mean()}
        history = train(self, losses, n, plan, rng=rng, score=score, log=lambda line: log(f"autoregressive: {line}"), checkpoint=checkpoint)
        self.cpu()
        self.curve = [{"rows": n, "width": width, "bins": bins, "held_out": history, "chosen": True}]
        return self

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """(n, fields) -> (n,) nats, in the layout's order."""
        codes, sees = self.values.codes, self.net.natural()
        return codes.log_density(x) - torch.cat([self._nats(c, sees) for c in codes.encode(x).split(CHUNK)])

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Tensor:
        """(n, fields), field by field in the layout's order, what is given first."""
        fields, x = len(self.layout), torch.zeros(n, len(self.layout))
        fixed = given.mask if given is not None else torch.zeros(fields, dtype=torch.bool)
        order = torch.cat([fixed.nonzero()[:, 0], (~fixed).nonzero()[:, 0]]).tolist()
        start = torch.rand(fields, generator=rng, dtype=torch.double)
        vectors, heads, codes = self.values.vectors(), self.values.heads(), self.values.codes
        chunk = max(TABLE // (fields * vectors.shape[1]), 256)
        for c, at in enumerate(range(0, n, chunk)):
            rows = slice(at, at + chunk)
            part = codes.encode(given.values[rows] if given is not None else x[rows])
            begin = ((start + c * SILVER) % 1).tolist()
            self.net.draw(part, order, int(fixed.sum()), vectors, lambda j, h, codes=part, begin=begin: self._draw(j, h, codes, heads[j], begin[j]))
            codes.decode(torch.where(part < codes.size, part, codes.offsets[:-1]), x[rows], rng=rng)
        return x if given is None else torch.where(given.mask, given.values, x)

    def _draw(self, j: int, hidden: Tensor, codes: Tensor, head: tuple[Tensor, Tensor], start: float) -> Tensor:
        """(n,): codes of field j."""
        value = self.values.codes.offsets[j] + spread(F.linear(hidden, *head).softmax(1), start)
        return self.values.codes.gated(j, value, codes)

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many rows."""
        return f"a network of {sum(p.numel() for p in self.parameters() if p.requires_grad):,} weights"

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "bins": self.curve[0]["bins"], "width": self.curve[0]["width"]}

    def restore(self, structure: dict, tensors: dict[str, Tensor]):
        self.curve = structure["curve"]
        with stream(0):
            self._build(structure["bins"], structure["width"])
        self.load_state_dict(tensors)
        return self.eval()
