"""Past: steps of series with those before them, and what is new in a step beyond what a line through those before says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generators.layout import Field, Layout, Sequences, SeriesLayout, moments

LAGS = 2  # steps that are looked back on
SMOOTH = 0.1  # share of its variance that a smooth signal has beyond what the steps before say, at most
KNOTS = 512  # of the distribution of what is new, at most
ROWS_A_KNOT = 20
END = 1e-6  # of a probability that is told from none


def with_past(layout: SeriesLayout, x: Sequences) -> Tensor:
    """Steps (steps, fields), beside each the numbers of the LAGS before it (before the first stands the first), and 1 of a first step."""
    at, moment, numbers = torch.arange(len(x.steps), device=x.steps.device), moments(x.lengths), layout.step.ungated
    past = [x.steps[at - moment.clamp_max(lag)][:, numbers] for lag in range(1, LAGS + 1)]
    return torch.cat([x.steps, *past, (moment == 0)[:, None].float()], 1)


def remembered(layout: SeriesLayout, x: Sequences) -> Tensor:
    """Rows `with_past`, and before the last column all fields of the step before (of a first step, its own)."""
    rows, moment = with_past(layout, x), moments(x.lengths)
    before = x.steps[torch.arange(len(x.steps), device=x.steps.device) - moment.clamp_max(1)]
    return torch.cat([rows[:, :-1], before, rows[:, -1:]], 1)


def by_series(rows: Tensor, lengths: Tensor) -> Tensor:
    """Sums over the steps of each series; rows (steps, ...)."""
    whose = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    return torch.zeros(len(lengths), *rows.shape[1:], dtype=rows.dtype, device=rows.device).index_add(0, whose, rows)


def smooth(layout: SeriesLayout, x: Sequences) -> list[int]:
    """Fields of a step that are smooth signals."""
    numbers, (past, now) = layout.step.ungated, _lagged(layout, with_past(layout, x))
    if len(now) < 2 * past.shape[1] or not numbers:
        return []
    left = (now - past @ torch.linalg.lstsq(past, now, driver="gelsd").solution).var(0)
    return [i for i, share in zip(numbers, (left / now.var(0).clamp_min(1e-9)).tolist(), strict=True) if share < SMOOTH]


def _lagged(layout: SeriesLayout, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of all steps but first ones: 1 and the numbers before, and the numbers."""
    rows = rows[rows[:, -1] == 0]
    past = rows[:, len(layout.step) : -1]
    return torch.cat([torch.ones(len(past), 1), past], 1).double(), rows[:, layout.step.ungated].double()


class Innovations(nn.Module):
    """Steps in which the smooth fields are the normal scores of what is new: e = z_t - W [1 z_t-1 .. z_t-p], score = Phi^-1(F(e)), with one
    W and one F for all steps. The first step stays as it is. The least-squares line is no model, but a unit of measure that is fine where
    the signal is smooth: a model of the scores is exactly a model of the steps.

    smooth: the fields
    """

    def __init__(self, layout: SeriesLayout, smooth: list[int], bins: int):
        super().__init__()
        self.smooth, self.numbers, self.width = smooth, layout.step.ungated, len(layout.step)
        cuts = tuple(torch.special.ndtri(torch.linspace(0, 1, bins + 1).double()[1:-1]).tolist())
        self.layout = Layout(tuple(Field(cuts=cuts) if i in smooth else f for i, f in enumerate(layout.step.fields)))
        self.register_buffer("weight", torch.zeros(len(smooth), 1 + LAGS * len(self.numbers)))
        self.register_buffer("knots", torch.zeros(len(smooth), KNOTS))
        self.register_buffer("shares", torch.linspace(END, 1 - END, KNOTS).double())

    def fit(self, layout: SeriesLayout, x: Sequences) -> Innovations:
        if self.smooth:
            past, now = _lagged(layout, with_past(layout, x).cpu())
            now = now[:, [self.numbers.index(i) for i in self.smooth]]
            weight = torch.linalg.lstsq(past, now, driver="gelsd").solution
            new = (now - past @ weight).sort(0).values  # (steps, smooth fields)
            count = min(KNOTS, max(len(new) // ROWS_A_KNOT, 2))
            shares = torch.linspace(0.5 / count, 1 - 0.5 / count, KNOTS).double()
            shares[0], shares[-1] = END, 1 - END
            inner = torch.quantile(new[:: max(len(new) // 2**20, 1)], torch.linspace(0.5 / count, 1 - 0.5 / count, KNOTS).double(), dim=0).t()
            step = (inner[:, -1:] - inner[:, :1]) * 0.05
            inner = torch.cat([inner[:, :1] - step, inner[:, 1:-1], inner[:, -1:] + step], 1)
            inner = inner + torch.arange(KNOTS) * 1e-9 * (1 + inner.abs().amax(1, keepdim=True))  # increasing
            self.weight.copy_(weight.t()), self.knots.copy_(inner), self.shares.copy_(shares)
        return self

    def encode(self, rows: Tensor) -> Tensor:
        """Rows `with_past` -> (steps, fields)."""
        x = rows[:, : self.width].clone()
        if self.smooth:
            new = x[:, self.smooth] - self._line(rows[:, self.width : -1])
            x[:, self.smooth] = torch.where(rows[:, -1:] > 0, x[:, self.smooth], self._scores(new)[0])
        return x

    def decode(self, x: Tensor, past: Tensor | None) -> Tensor:
        """Steps (n, fields) of scores, after numbers past (n, p d), nearest step first, or first steps -> (n, fields) as they are."""
        if self.smooth and past is not None:
            u = torch.special.ndtr(x[:, self.smooth].double()).clamp(END, 1 - END)
            new = torch.stack([_between(v, self.shares, k.double()) for v, k in zip(u.t(), self.knots, strict=True)], 1)
            x = x.clone()
            x[:, self.smooth] = (self._line(past) + new).float()
        return x

    def log_slope(self, rows: Tensor) -> Tensor:
        """(steps,): log of how fast scores change with what they stand for, which turns a density of scores into one of steps."""
        if not self.smooth:
            return torch.zeros(len(rows), device=rows.device)
        slope = self._scores(rows[:, self.smooth] - self._line(rows[:, self.width : -1]))[1].sum(1)
        return torch.where(rows[:, -1] > 0, 0.0, slope)

    def _line(self, past: Tensor) -> Tensor:
        return self.weight[:, 0] + past @ self.weight[:, 1:].t()

    def _scores(self, new: Tensor) -> tuple[Tensor, Tensor]:
        """What is new (n, fields) -> normal scores, and log d score / d new."""
        u, rise = [], []
        for v, knots in zip(new.double().t().contiguous(), self.knots.double(), strict=True):
            at = torch.searchsorted(knots, v).clamp(1, KNOTS - 1)
            slope = (self.shares[at] - self.shares[at - 1]) / (knots[at] - knots[at - 1])
            u.append((self.shares[at - 1] + (v - knots[at - 1]) * slope).clamp(END, 1 - END))
            rise.append(slope.log())
        score = torch.special.ndtri(torch.stack(u, 1))
        density = -0.5 * score**2 - 0.918938533204672
        return score.float(), (torch.stack(rise, 1) - density).float()


def _between(v: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The line through points (x, y), both increasing, at v."""
    at = torch.searchsorted(x, v.contiguous()).clamp(1, len(x) - 1)
    return y[at - 1] + (v - x[at - 1]) * (y[at] - y[at - 1]) / (x[at] - x[at - 1])
