"""Autoregressive series: p(steps | static) = prod_t prod_j p(x_tj | steps before t, fields before j, static), an exact likelihood.

A recurrent network reads the steps before, what stays, and where in the series a step is; what it holds is the context of the same
network over the fields of a step that rows of a table are drawn with. Numbers are fine bins; those of smooth signals are what is
new beyond a line through the steps before (see past.Innovations), so that neither noise nor smoothness is lost.

Learning phrase representations using RNN encoder-decoder for statistical machine translation; K. Cho et al.; 2014; https://arxiv.org/abs/1406.1078
The neural autoregressive distribution estimator; H. Larochelle, I. Murray; 2011; https://proceedings.mlr.press/v15/larochelle11a
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.chain import packed
from generators.codes import Codes
from generators.heads import Values, spread
from generators.layout import Sequences, SeriesLayout, moments, positions
from generators.nets import AnyOrder, dropout
from generators.neural import Neural
from generators.past import LAGS, Innovations, by_series, smooth, with_past
from generators.threads import single_thread
from generators.train import Plan

WAVES = 6  # of doubling frequency, by which the network knows where in a series a step is
STATIC_BINS = 16
STEPS = 2**14  # whose probability is looked at together


class Recurrent(Neural):
    """layout: what a series is.

    width:   hidden units; None: 192, or 96 for fewer than 20,000 steps
    bins:    bins of a number, of equal probability, at most; None: as many as suit the number of steps
    dropout: share of hidden units that are left out while training
    asked:   of train.Plan, passes and minutes above all
    """

    unit = "Nats a series on held-out series"

    def __init__(self, layout: SeriesLayout, width: int | None = None, bins: int | None = None, dropout: float = 0.3, **asked: Any):
        super().__init__(layout, asked)
        whole(width=width, bins=bins), number(high=1, dropout=dropout)
        self.width, self.bins, self.dropout = width, bins, dropout
        self.steps, self.smooth = 0, []

    def fit(
        self, x: Sequences, held_out: Sequences, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None, checkpoint: Path | None = None
    ) -> Recurrent:
        self.steps, self.smooth = len(x.steps), smooth(self.layout, x)
        with single_thread():  # a recurrent network is many small steps
            return super().fit(x, held_out, rng=rng, log=log, checkpoint=checkpoint)

    def cost(self, x: Sequences, n: int) -> tuple[float, float]:
        self.steps = round(n * float(x.lengths.float().mean()))
        with single_thread():
            return super().cost(x, n)

    def plan(self, n: int) -> Plan:
        few = max(3000 / max(n, 1), 1)
        return Plan(passes=30 * few**0.5, batch=min(max(n // 30, 8), 64), rate=0.004, decay=few**0.4, patience=8)

    def sizes(self, n: int) -> dict:
        few = self.steps < 20_000
        return {"width": self.width or (96 if few else 192), "bins": self.bins or min(max(self.steps // 50, 16), 128), "smooth": self.smooth}

    def build(self, width: int, bins: int, smooth: list[int]) -> None:
        layout = self.layout
        self.new = Innovations(layout, smooth, bins)
        self.codes, self.of_static = Codes.single(self.new.layout, bins), Codes.single(layout.static, STATIC_BINS)
        self.values, self.net = Values(self.codes, width), AnyOrder(len(layout), width, self.dropout)
        self.static = nn.EmbeddingBag(self.of_static.size + 2, width, mode="sum")
        self.numbers, self.place = nn.Linear(len(layout.step.ungated) or 1, width), nn.Linear(2 * WAVES + 4, width)
        self.gru, self.onward = nn.GRU(width, width, batch_first=True), nn.Linear(2 * width, width)
        nn.init.normal_(self.static.weight, std=0.1)

    def objective(self, x: Sequences, held_out: Sequences, rng: torch.Generator):
        self.new.fit(self.layout, x)
        rows = with_past(self.layout, x)
        codes = self.codes.encode(self.new.encode(rows), torch.int32)
        self.values.start(codes.long())
        static = self.of_static.encode(x.static)

        def loss(i: Tensor, done: float) -> Tensor:
            at = positions(x.lengths, i)
            return self._nats(codes[at].long(), x.steps[at], x.lengths[i], static[i], self.net.orders(len(at), 1.0)).sum() / len(at)

        return {"": loss}, lambda: self.log_prob(held_out)

    def _nats(self, codes: Tensor, steps: Tensor, lengths: Tensor, static: Tensor, sees: Tensor) -> Tensor:
        """(steps,) minus the log probability of each, of bins. codes (steps, fields), static (n, fields) of codes."""
        moment, whose = moments(lengths), torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
        before = torch.arange(len(codes), device=codes.device) - 1
        first = moment == 0
        vectors = self.values.vectors()
        seen = self._read(F.embedding(codes[before], vectors), steps[before], first) + self._where(moment, lengths[whose]) + self.static(static)[whose]
        padded = seen.new_zeros(len(lengths), int(lengths.max()), seen.shape[1])
        padded[whose, moment] = seen
        held = self.gru(padded)[0][whose, moment]
        context = self.onward(torch.cat([dropout(held, self.dropout, self.training), seen], 1))
        hidden = self.net(F.embedding(codes, vectors), sees, context[:, None])
        return self.values.nats(hidden.unbind(1), self.codes.within(codes))

    def _read(self, vectors: Tensor, steps: Tensor, first: Tensor) -> Tensor:
        """What the step before says, (n, width): vectors of its codes (n, fields, width), and its numbers; nothing of a first step."""
        numbers = self.layout.step.ungated
        told = self.numbers(steps[:, numbers]) if numbers else 0.0
        return (vectors.sum(1) + told) * ~first[:, None]

    def _where(self, moment: Tensor, length: Tensor) -> Tensor:
        """Where in its series a step is, (n, width)."""
        at, left = moment / self.layout.longest, (length - moment).float()
        turns = torch.pi * at[:, None] * 2.0 ** torch.arange(WAVES, device=at.device)
        return self.place(torch.cat([turns.sin(), turns.cos(), (moment == 0)[:, None], at[:, None], 1 / left[:, None], left[:, None] / self.layout.longest], 1))

    @torch.no_grad()
    def log_prob(self, x: Sequences) -> Tensor:
        """(n,) nats of the steps given what stays."""
        most = max(STEPS // self.layout.longest, 1)
        return torch.cat([self._log_prob(x[i]) for i in torch.arange(len(x), device=x.lengths.device).split(most)])

    def _log_prob(self, x: Sequences) -> Tensor:
        rows = with_past(self.layout, x)
        new = self.new.encode(rows)
        codes = self.codes.encode(new)
        nats = self._nats(codes, x.steps, x.lengths, self.of_static.encode(x.static), self.net.natural())
        return by_series(self.codes.log_density(new) + self.new.log_slope(rows) - nats, x.lengths)

    @torch.no_grad()
    def sample(self, static: Tensor, lengths: Tensor, *, rng: torch.Generator) -> Tensor:
        """static (n, fields), lengths (n,) -> steps (sum of lengths, fields), moment by moment."""
        with single_thread():
            return self._draw(static, lengths, rng)

    def _draw(self, static: Tensor, lengths: Tensor, rng: torch.Generator) -> Tensor:
        at, out = packed(lengths), []
        kept, length = self.static(self.of_static.encode(static[at.order])), lengths[at.order]
        vectors, heads, numbers = self.values.vectors(), self.values.heads(), self.layout.step.ungated
        held, past = None, []
        for t, n in enumerate(at.live):
            first = torch.full((n,), t == 0)
            before = out[-1][:n] if t else torch.zeros(n, len(self.layout))
            codes = codes[:n] if t else torch.zeros(n, len(self.layout), dtype=torch.long)  # noqa: F821
            seen = self._read(F.embedding(codes, vectors), before, first) + self._where(torch.full((n,), t), length[:n]) + kept[:n]
            state, held = self.gru(seen[:, None], held if held is None else held[:, :n].contiguous())
            context = self.onward(torch.cat([state[:, 0], seen], 1))
            start = torch.rand(len(self.layout), generator=rng, dtype=torch.double).tolist()
            codes = torch.zeros(n, len(self.layout), dtype=torch.long)

            def pick(j: int, hidden: Tensor, start=start, codes=codes) -> Tensor:
                value = spread(F.linear(hidden, *heads[j]).softmax(1), start[j])
                return self.codes.gated(j, self.codes.offsets[j] + value, codes)

            self.net.draw(codes, list(range(len(self.layout))), 0, vectors, pick, context)
            x = torch.zeros(n, len(self.layout))
            inside = torch.rand(x.shape, generator=rng, dtype=torch.double)
            self.codes.decode(torch.where(codes < self.codes.size, codes, self.codes.offsets[:-1]), x, inside)
            history = torch.cat([past[max(t - lag, 0)][:n] for lag in range(1, LAGS + 1)], 1) if t else None
            out.append(self.new.decode(x, history))
            past.append(out[-1][:, numbers])
        return torch.zeros(int(lengths.sum()), len(self.layout)).index_copy_(0, at.rows, torch.cat(out))
