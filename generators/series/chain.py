"""Chains of hidden states: what is likely of them given what was seen, for many series at once, by products of matrices.

Series of different lengths are packed: their steps stand in order of time, the longest series first, so that the steps at
one moment are a block of rows and no padding is looked at. M chains stand side by side, of S states each: a series is
of one of them throughout. K = M S.

A maximization technique occurring in the statistical analysis of probabilistic functions of Markov chains; L. Baum, T. Petrie,
G. Soules, N. Weiss; 1970; https://doi.org/10.1214/aoms/1177697196
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LEAST = 1e-30  # least probability of what was seen at a moment
MOST = 1e30  # of a message about states that nothing before allows
UNLIKELY = 1e-20  # times as likely as in the likeliest state, at least, so that no series that leaves its chain's states is impossible


class Packed(NamedTuple):
    """order (n,): the series, longest first; live: how many of them have a step 0, 1, ...; rows (steps,): where the steps stand in a plain row."""

    order: Tensor
    live: list[int]
    rows: Tensor


def packed(lengths: Tensor) -> Packed:
    """lengths (n,) of series whose steps stand one series after the other."""
    order = lengths.argsort(descending=True, stable=True)
    live = (lengths[:, None] > torch.arange(int(lengths.max()))).sum(0).tolist()
    first = (lengths.cumsum(0) - lengths)[order]
    return Packed(order, live, torch.cat([first[:n] + t for t, n in enumerate(live)]))


class Beliefs(NamedTuple):
    """log_p (n,): log probability of each series, longest first; state (steps, K): p(state | the whole series) of each packed step;
    moves (M, S, S): expected number of steps from state to state."""

    log_p: Tensor
    state: Tensor
    moves: Tensor


def forward(log_seen: Tensor, start: Tensor, step: Tensor, live: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log_seen (steps, K): log p(what is seen | state), of packed steps; start (n, K), p(first state), need not add up to 1; step (M, S, S).

    Returns before (steps, K), p(state | series so far); scale (steps,), what each step of it was divided by; seen (steps, K), the
    likelihoods up to a factor; and log_p (n,).
    """
    top = log_seen.amax(1, keepdim=True)
    seen = (log_seen - top).exp().clamp_min_(UNLIKELY)
    before, scale = torch.empty_like(seen), torch.empty_like(seen[:, 0])
    log_p, at = log_seen.new_zeros(live[0]), 0
    for t, n in enumerate(live):
        rows = slice(at, at + n)
        prior = start if t == 0 else _moved(before[at - live[t - 1] : at - live[t - 1] + n], step)
        joint = torch.mul(prior, seen[rows], out=before[rows])
        total = joint.sum(1).clamp_min_(LEAST)
        joint /= total[:, None]
        scale[rows] = total
        at += n
    logs, at = scale.log() + top[:, 0], 0
    for n in live:
        log_p[:n] += logs[at : at + n]
        at += n
    return before, scale, seen, log_p


def beliefs(log_seen: Tensor, start: Tensor, step: Tensor, live: list[int]) -> Beliefs:
    """Forward and backward; see `forward`."""
    before, scale, seen, log_p = forward(log_seen, start, step, live)
    moves, back = torch.zeros_like(step), step.mT.contiguous()
    after = None  # (n of the next moment, K): p(what comes | state), scaled
    at = len(seen)
    for t in range(len(live) - 1, -1, -1):
        n = live[t]
        rows = slice(at - n, at)
        if after is not None:
            m = len(after)
            moves += pairs(before[rows][:m], after, step)
            onward = _moved(after, back)
            before[rows][:m] *= onward
        following = seen[rows] / scale[rows][:, None]
        if after is not None:
            following[:m] *= onward
        after, at = following.clamp_max_(MOST), at - n
    return Beliefs(log_p, before, moves)


def _moved(p: Tensor, step: Tensor) -> Tensor:
    """(n, K) -> (n, K), one step on."""
    M, S, _ = step.shape
    return p @ step[0] if M == 1 else torch.bmm(p.view(-1, M, S).transpose(0, 1), step).transpose(0, 1).reshape(-1, M * S)


def pairs(p: Tensor, q: Tensor, step: Tensor) -> Tensor:
    """(n, K), (n, K) -> (M, S, S): sums over series of p_i step_ij q_j."""
    M, S, _ = step.shape
    return step * torch.bmm(p.view(-1, M, S).permute(1, 2, 0), q.view(-1, M, S).transpose(0, 1))


def walk(start: Tensor, step: Tensor, live: list[int], rng: torch.Generator) -> Tensor:
    """States (steps,) of packed series that go as the chains say. start (n, K): p(first state)."""
    M, S, _ = step.shape
    out, before = [], start
    for t, n in enumerate(live):
        if t:
            now = out[-1][:n]
            before = step.reshape(M * S, S)[now]  # (n, S): where to, within the chain
        cumulative = before[:n].double().cumsum(1)
        u = torch.rand(n, 1, generator=rng, dtype=torch.double) * cumulative[:, -1:]
        k = torch.searchsorted(cumulative, u, right=True)[:, 0].clamp_max(cumulative.shape[1] - 1)
        out.append(k if t == 0 else torch.div(now, S, rounding_mode="floor") * S + k)
    return torch.cat(out)
