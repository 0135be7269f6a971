"""Stepwise: what families share that say a series step by step. A family adds what it knows of a series when it says the next step.

    p(steps | static) = prod_t prod_j p(x_tj | context of step t, fields before j)
A category follows on its value at the step before by a table (see Ties), and what the network says is beyond that.
Numbers are fine bins; those of smooth signals are what is new beyond a line through the steps before (see past.Innovations), so that
neither noise nor smoothness is lost.

The neural autoregressive distribution estimator; H. Larochelle, I. Murray; 2011; https://proceedings.mlr.press/v15/larochelle11a
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.base import Mechanism
from generators.codes import Codes
from generators.heads import Values, spread
from generators.layout import Sequences, SeriesLayout, moments
from generators.nets import AnyOrder
from generators.neural import Neural
from generators.series.chain import packed
from generators.series.past import LAGS, Innovations, smooth, with_past
from generators.series.ties import Ties
from generators.threads import single_thread

WAVES = 6  # of doubling frequency, by which the network knows where in a series a step is
STATIC_BINS = 16
STEPS = 2**14  # whose probability is looked at together
DECAYED = 20_000  # steps that are learned from with weights that decay at 1


@dataclass(frozen=True)
class Coded:
    """Series as the networks read them: codes and numbers of all steps (steps, fields), lengths (n,), codes of what stays (n, fields)."""

    codes: Tensor
    steps: Tensor
    lengths: Tensor
    static: Tensor

    def take(self, at: Tensor, which: Tensor) -> Coded:
        """Series `which` (m,), whose steps are `at`."""
        return Coded(self.codes[at].long(), self.steps[at], self.lengths[which], self.static[which])

    @property
    def moment(self) -> Tensor:
        return moments(self.lengths)

    @property
    def whose(self) -> Tensor:
        return torch.repeat_interleave(torch.arange(len(self.lengths), device=self.lengths.device), self.lengths)


class Stepwise(Neural):
    """A family defines, beside what Neural asks for,
        remember(width)   makes its own networks
    and what it knows of a step, see Recurrent and Latent.
    """

    lags = 1  # steps before whose numbers are read
    steps = DECAYED  # that are learned from, as long as nobody knows

    def __init__(self, layout: SeriesLayout, width: int | None, bins: int | None, dropout: float, asked: Mapping[str, Any]):
        super().__init__(layout, asked)
        whole(width=width, bins=bins), number(high=0.99, dropout=dropout)
        self.width, self.bins, self.dropout = width, bins, dropout
        self.smooth: list[int] = []

    def fit(
        self, x: Sequences, held_out: Sequences, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None,
        checkpoint: Path | None = None, mechanism: Mechanism | None = None,
    ):  # fmt: skip
        self.steps, self.smooth = len(x.steps), [] if mechanism else smooth(self.layout, x)
        with single_thread():  # many small steps
            return super().fit(x, held_out, rng=rng, log=log, checkpoint=checkpoint, mechanism=mechanism)

    def cost(self, x: Sequences, n: int) -> tuple[float, float]:
        self.steps = round(n * float(x.lengths.float().mean()))
        with single_thread():
            return super().cost(x, n)

    def sizes(self, n: int) -> dict:
        few = self.steps < 20_000
        return {"width": self.width or (96 if few else 192), "bins": self.bins or min(max(self.steps // 50, 16), 128), "smooth": self.smooth, "tied": False}

    def decay(self) -> float:
        """Of weights: the more, the fewer steps there are to learn from."""
        return max((DECAYED / self.steps) ** 0.4, 0.3)

    def build(self, width: int, bins: int, smooth: list[int], tied: bool) -> None:
        """tied: whether numbers too, not classes alone, follow on their value at the step before by a table."""
        layout = self.layout
        self.new = Innovations(layout, smooth, bins)
        self.codes, self.of_static = Codes.single(self.new.layout, bins), Codes.single(layout.static, STATIC_BINS)
        self.values, self.net, self.ties = Values(self.codes, width), AnyOrder(len(layout), width, self.dropout), Ties(self.codes, tied)
        self.static = nn.EmbeddingBag(self.of_static.size + 2, width, mode="sum")
        self.numbers, self.place = nn.Linear(self.lags * len(layout.step.ungated) or 1, width), nn.Linear(2 * WAVES + 4, width)
        self.remember(width)
        nn.init.normal_(self.static.weight, std=0.1)

    def coded(self, x: Sequences, dtype: torch.dtype = torch.long) -> Coded:
        new = self.new.encode(with_past(self.layout, x))
        return Coded(self.codes.encode(new, dtype), x.steps, x.lengths, self.of_static.encode(x.static))

    def learned(self, x: Sequences) -> Coded:
        """Series to learn from."""
        self.new.fit(self.layout, x)
        coded = self.coded(x, torch.int32)
        codes = coded.codes.long()
        self.values.start(codes), self.ties.start(self.codes.within(codes), self.before(codes, coded.moment))
        return coded

    def log_density(self, x: Sequences) -> Tensor:
        """(steps,): what turns probabilities of bins into densities of steps."""
        rows = with_past(self.layout, x)
        return self.codes.log_density(self.new.encode(rows)) + self.new.log_slope(rows)

    def parts(self, n: int, where: torch.device) -> tuple[Tensor, ...]:
        """Numbers of n series, few enough together to be looked at."""
        return torch.arange(n, device=where).split(max(STEPS // self.layout.longest, 1))

    def seen(self, x: Coded) -> Tensor:
        """What every step knows of the ones right before it, of where it is and of what stays, (steps, width)."""
        at, moment, whose, numbers = torch.arange(len(x.codes), device=x.codes.device), x.moment, x.whose, self.layout.step.ungated
        before = torch.cat([x.steps[at - moment.clamp_max(lag)][:, numbers] for lag in range(1, self.lags + 1)], 1)
        read = self.read(F.embedding(x.codes[at - 1], self.values.vectors()), before, moment == 0)
        return read + self.where(moment, x.lengths[whose]) + self.static(x.static)[whose]

    def read(self, vectors: Tensor, before: Tensor, first: Tensor) -> Tensor:
        """What steps before say, (n, width): vectors of the last one's codes (n, fields, width), and numbers; nothing of a first step."""
        told = self.numbers(before) if before.shape[1] else 0.0
        return (vectors.sum(1) + told) * ~first[:, None]

    def where(self, moment: Tensor, length: Tensor) -> Tensor:
        """Where in its series a step is, (n, width)."""
        at, left = moment / self.layout.longest, (length - moment).float()
        turns = torch.pi * at[:, None] * 2.0 ** torch.arange(WAVES, device=at.device)
        return self.place(torch.cat([turns.sin(), turns.cos(), (moment == 0)[:, None], at[:, None], 1 / left[:, None], left[:, None] / self.layout.longest], 1))

    def before(self, codes: Tensor, moment: Tensor) -> Tensor:
        """Codes of steps (steps, fields) -> numbers within each field of the values at the step before, negative where there is none."""
        return torch.where((moment > 0)[:, None], self.codes.within(codes).roll(1, 0), -1)

    def nats(self, x: Coded, context: Tensor, sees: Tensor) -> Tensor:
        """(steps,): minus the log probability of each, of bins. context (steps, width)."""
        hidden = self.net(F.embedding(x.codes, self.values.vectors()), sees, context[:, None])
        return self.values.nats(hidden.unbind(1), self.codes.within(x.codes), self.ties(self.before(x.codes, x.moment)))

    def draw(
        self, static: Tensor, lengths: Tensor, rng: torch.Generator, follow: Callable[[Tensor, Tensor], Tensor], so_far: Tensor | None = None, after: int = 0
    ) -> Tensor:
        """Steps (sum of lengths, fields), moment by moment. follow(seen (m, width), series (m,)) -> context (m, width) of the series that go on,
        longest first, always the first m of the same order. so_far: steps of the same shape, of which the first `after` of each series stay."""
        at, out, past = packed(lengths), [], []
        if so_far is not None:
            begun, begun_codes, row = so_far[at.rows], self.coded(Sequences(static, lengths, so_far)).codes[at.rows], 0
        kept, length = self.static(self.of_static.encode(static[at.order])), lengths[at.order]
        vectors, heads, numbers = self.values.vectors(), self.values.heads(), self.layout.step.ungated
        codes = torch.zeros(len(lengths), len(self.layout), dtype=torch.long)
        for t, n in enumerate(at.live):
            history = torch.cat([past[max(t - lag, 0)][:n] for lag in range(1, LAGS + 1)], 1) if t else None
            before = history[:, : self.lags * len(numbers)] if t else torch.zeros(n, self.lags * len(numbers))
            seen = self.read(F.embedding(codes[:n], vectors), before, torch.full((n,), t == 0))
            context = follow(seen + self.where(torch.full((n,), t), length[:n]) + kept[:n], at.order[:n])
            if so_far is not None and t < after:
                codes = begun_codes[row : row + n]
                out.append(begun[row : row + n])
                past.append(out[-1][:, numbers])
                row += n
                continue
            start = torch.rand(len(self.layout), generator=rng, dtype=torch.double).tolist()
            then = self.codes.within(codes[:n]) if t else torch.full((n, len(self.layout)), -1)
            codes = torch.zeros(n, len(self.layout), dtype=torch.long)

            def pick(j: int, hidden: Tensor, start=start, codes=codes, then=then) -> Tensor:
                value = spread((F.linear(hidden, *heads[j]) + self.ties.of(j, then[:, j])).softmax(1), start[j])
                return self.codes.gated(j, self.codes.offsets[j] + value, codes)

            self.net.draw(codes, list(range(len(self.layout))), 0, vectors, pick, context)
            x = torch.zeros(n, len(self.layout))
            inside = torch.rand(x.shape, generator=rng, dtype=torch.double)
            self.codes.decode(torch.where(codes < self.codes.size, codes, self.codes.offsets[:-1]), x, inside)
            out.append(self.new.decode(x, history))
            past.append(out[-1][:, numbers])
        return torch.zeros(int(lengths.sum()), len(self.layout)).index_copy_(0, at.rows, torch.cat(out))
