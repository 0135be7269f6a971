"""Alone: what a recurrent model knows of series where a mechanism stands between, and the loss of one series by itself, whose gradient is cut to a norm.

Of each series what it holds on average is told: how often a value follows on another, and with which it begins. Whatever its length, one series
adds a vector of norm at most BOTH for each field. A loss looks at a stretch of a series, of all steps where they are not too many, anywhere in it.

    h_t = GRU(seen_t, h_t-1),   loss = - sum over steps t of the stretch log p(x_t | h_t, seen_t),   seen: the step before, what stays, where it is
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.base import Mechanism
from generators.series.stepwise import Coded, Stepwise

STRETCH = 64  # steps of a series that are looked at together
FIRST = 0.5  # what the first step counts, beside 1 that all others count together
BOTH = (1 + FIRST**2) ** 0.5


def tell(model: Stepwise, x: Coded, ask: Mechanism) -> Tensor:
    """How often each value of each field is there, (V,); and the model's ties, both as far as is told."""
    within, before = model.codes.within(x.codes.long()), model.before(x.codes.long(), x.moment)
    ties, sizes, norm = model.ties, model.codes.offsets.diff().tolist(), (BOTH**2 * len(model.codes.offsets.diff())) ** 0.5
    weight, even = torch.where(x.moment == 0, FIRST, _each(x.lengths - 1)[x.whose]), _each(x.lengths)[x.whose]
    now = torch.where((before < 0) & (x.moment > 0)[:, None], -1, within)  # after a step without a value it neither follows nor begins
    exact = [ties.counts(j, now[:, j], before[:, j], weight) if j in ties.fields else _held(within[:, j], even, k) for j, k in enumerate(sizes)]
    share, off = ask.rest, norm * ask.sd(ask.rest)
    parts = [
        p.view(e.shape) for p, e in zip(ask.sums(torch.cat([e.flatten() for e in exact]), norm, share).split([e.numel() for e in exact]), exact, strict=True)
    ]
    found = dict(zip(ties.fields, ties.hear([parts[j] for j in ties.fields], off), strict=True))
    return torch.cat([found.get(j, part.clamp_min(off)) for j, part in enumerate(parts)]).float()


def _each(steps: Tensor) -> Tensor:
    """What each of so many steps of a series counts: together they count 1."""
    return 1 / steps.clamp_min(1).double()


def _held(within: Tensor, weight: Tensor, k: int) -> Tensor:
    return torch.bincount(within[within >= 0], weight[within >= 0], k)


class Padded(NamedTuple):
    """Series side by side. codes, before (n, longest, fields); numbers (n, longest, numbers) of the step before; length (n,); static (n, fields)"""

    codes: Tensor
    before: Tensor
    numbers: Tensor
    length: Tensor
    static: Tensor


def padded(model: Stepwise, x: Coded) -> Padded:
    """What is beyond the length of a series is not looked at."""
    at = torch.arange(len(x.codes), device=x.codes.device)
    numbers = x.steps[at - x.moment.clamp_max(1)][:, model.layout.step.ungated]

    def side_by_side(v: Tensor) -> Tensor:
        nothing = 0 if v.is_floating_point() else model.codes.size + 1
        return v.new_full((len(x.lengths), model.layout.longest, v.shape[1]), nothing).index_put_((x.whose, x.moment), v)

    return Padded(*map(side_by_side, (x.codes.int(), x.codes.int().roll(1, 0), numbers)), x.lengths, x.static)


def nats(model: Stepwise, x: Padded, i: Tensor) -> Tensor:
    """Of one series, whose number is i, (1,): minus the log probability of the steps of a stretch of it, of bins. The model has a GRU."""
    length, stretch = x.length[i], min(model.layout.longest, STRETCH)
    begin = (torch.rand(1, device=i.device) * (length - stretch + 1).clamp_min(1)).long()
    at = begin + torch.arange(stretch, device=i.device)
    codes, before, numbers = (v[i][0][at] for v in (x.codes, x.before, x.numbers))
    on, first, vectors = at < length, at == 0, model.values.vectors()
    seen = model.read(F.embedding(before.long(), vectors), numbers, first)
    seen = seen + model.where(torch.minimum(at, length - 1), length.expand(stretch)) + F.embedding(x.static[i][0], model.static.weight).sum(0)
    context = model.onward(torch.cat([_followed(model.gru, seen), seen], 1))
    hidden = model.net(F.embedding(codes.long(), vectors), model.net.natural(), context[:, None])
    then = torch.where(first[:, None], -1, model.codes.within(before.long()))
    return (model.values.nats(hidden.unbind(1), model.codes.within(codes.long()), model.ties(then)) * on).sum()


def _followed(gru: nn.GRU, seen: Tensor) -> Tensor:
    """(steps, width) both ways: what a recurrent network holds after each step, by its formula, which gradients of one series alone can be had of."""
    told, held, out = F.linear(seen, gru.weight_ih_l0, gru.bias_ih_l0), torch.zeros_like(seen[0]), []
    for step in told.unbind(0):
        reset, update, new = step.chunk(3)
        own = F.linear(held, gru.weight_hh_l0, gru.bias_hh_l0).chunk(3)
        update = torch.sigmoid(update + own[1])
        held = (1 - update) * torch.tanh(new + torch.sigmoid(reset + own[0]) * own[2]) + update * held
        out.append(held)
    return torch.stack(out)
