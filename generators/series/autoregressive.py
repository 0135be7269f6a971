"""Autoregressive series: p(steps | static) = prod_t prod_j p(x_tj | steps before t, fields before j, static), an exact likelihood.

A recurrent network reads the steps before, what stays, and where in the series a step is; what it holds is the context of the same
network over the fields of a step that rows of a table are drawn with.

Learning phrase representations using RNN encoder-decoder for statistical machine translation; K. Cho et al.; 2014; https://arxiv.org/abs/1406.1078
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from generators.base import Mechanism
from generators.descent import Descent
from generators.layout import Sequences, SeriesLayout, positions
from generators.nets import dropout
from generators.series import alone
from generators.series.past import by_series
from generators.series.stepwise import Coded, Stepwise
from generators.threads import single_thread
from generators.train import Plan


class Recurrent(Stepwise):
    """layout: what a series is.

    width:   hidden units; None: 192, or 96 for fewer than 20,000 steps
    bins:    bins of a number, of equal probability, at most; None: as many as suit the number of steps
    dropout: share of hidden units that are left out while training
    asked:   of train.Plan, passes and minutes above all
    """

    called, unit = "autoregressive", "Nats a series on held-out series"
    descent, private = Descent(passes=8, rate=0.03, counted=0.5), True  # can be learned through a mechanism

    def __init__(self, layout: SeriesLayout, width: int | None = None, bins: int | None = None, dropout: float = 0.3, **asked: Any):
        super().__init__(layout, width, bins, dropout, asked)

    def plan(self, n: int) -> Plan:
        few = max(3000 / max(n, 1), 1)
        return Plan(passes=30 * few**0.5, batch=min(max(n // 30, 8), 64), rate=0.004, decay=self.decay(), patience=8)

    def remember(self, width: int) -> None:
        self.gru, self.onward = nn.GRU(width, width, batch_first=True), nn.Linear(2 * width, width)

    def small(self, n: int) -> dict:
        return {"width": self.width or 16, "bins": self.bins or min(max(n // 100, 8), 16), "smooth": [], "tied": True}

    def _margins(self, ask: Mechanism, x: Sequences) -> Tensor:
        return alone.tell(self, self.coded(x), ask)

    def objective(self, x: Sequences, held_out: Sequences, rng: torch.Generator):
        if self.counted is not None:
            self.values.start(self.codes.offsets, self.counted)
            some = alone.padded(self, self.coded(x, torch.int32))
            return {"": lambda i, done: alone.nats(self, some, i)}, lambda: None
        coded = self.learned(x)

        def loss(i: Tensor, done: float) -> Tensor:
            some = coded.take(positions(x.lengths, i), i)
            return self._nats(some, self.net.orders(len(some.codes), 1.0)).sum() / len(some.codes)

        return {"": loss}, lambda: self.log_prob(held_out)

    def _nats(self, x: Coded, sees: Tensor) -> Tensor:
        """(steps,) minus the log probability of each, of bins."""
        seen, whose, moment = self.seen(x), x.whose, x.moment
        padded = seen.new_zeros(len(x.lengths), int(x.lengths.max()), seen.shape[1])
        padded[whose, moment] = seen
        held = self.gru(padded)[0][whose, moment]
        return self.nats(x, self.onward(torch.cat([dropout(held, self.dropout, self.training), seen], 1)), sees)

    @torch.no_grad()
    def log_prob(self, x: Sequences) -> Tensor:
        """(n,) nats of the steps given what stays."""
        return torch.cat([self._log_prob(x[i]) for i in self.parts(len(x), x.lengths.device)])

    def _log_prob(self, x: Sequences) -> Tensor:
        return by_series(self.log_density(x) - self._nats(self.coded(x), self.net.natural()), x.lengths)

    @torch.no_grad()
    def sample(self, static: Tensor, lengths: Tensor, *, rng: torch.Generator, so_far: Tensor | None = None, after: int = 0) -> Tensor:
        """static (n, fields), lengths (n,) -> steps (sum of lengths, fields), moment by moment. so_far: steps of the same shape, of which the
        first `after` of each series stay, and the others are drawn given those."""
        held = None

        def follow(seen: Tensor, series: Tensor) -> Tensor:
            nonlocal held
            state, held = self.gru(seen[:, None], held if held is None else held[:, : len(seen)].contiguous())
            return self.onward(torch.cat([state[:, 0], seen], 1))

        with single_thread():
            return self.draw(static, lengths, rng, follow, so_far, after)
