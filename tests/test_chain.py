"""Chains of hidden states against sums over every path, and their walks against what they say."""

import itertools

import pytest
import torch
from tables import rng

from generators.series.chain import beliefs, forward, packed, walk

LENGTHS = torch.tensor([3, 1, 4, 2])


def chains(M: int, S: int, seed: int = 0):
    """(log_seen (steps, K) of packed steps, start (n, K), step (M, S, S))."""
    r = rng(seed)
    K = M * S
    step = torch.rand(M, S, S, generator=r)
    step[0, 0, -1] *= S == 1  # a move that there is not
    start = torch.rand(len(LENGTHS), K, generator=r)
    log_seen = 3 * torch.randn(int(LENGTHS.sum()), K, generator=r)
    return log_seen, start / start.sum(1, keepdim=True), step / step.sum(2, keepdim=True)


def paths(log_seen, start, step, live, series):
    """Of one packed series every path of states with its joint probability with what was seen."""
    M, S, _ = step.shape
    offsets = [sum(live[:t]) for t in range(len(live))]
    rows = [offsets[t] + series for t, n in enumerate(live) if series < n]
    for path in itertools.product(range(M * S), repeat=len(rows)):
        p = start[series, path[0]].double()
        for a, b in itertools.pairwise(path):
            p = p * (step[a // S, a % S, b % S].double() if a // S == b // S else 0.0)
        yield rows, path, p * torch.stack([log_seen[r, k].double().exp() for r, k in zip(rows, path, strict=True)]).prod()


@pytest.mark.parametrize(("M", "S"), [(1, 3), (2, 2), (3, 1)])
def test_likelihoods_and_beliefs_are_sums_over_all_paths(M, S):
    log_seen, start, step = chains(M, S)
    at = packed(LENGTHS)
    found = beliefs(log_seen, start, step, at.live)
    state, moves = torch.zeros_like(log_seen, dtype=torch.double), torch.zeros_like(step, dtype=torch.double)
    for series in range(len(LENGTHS)):
        every = list(paths(log_seen, start, step, at.live, series))
        total = sum(p for *_, p in every)
        assert float(found.log_p[series]) == pytest.approx(float(total.log()), abs=1e-4)
        for rows, path, p in every:
            for r, k in zip(rows, path, strict=True):
                state[r, k] += p / total
            for a, b in itertools.pairwise(path):
                moves[a // S, a % S, b % S] += p / total
    assert torch.allclose(found.state.double(), state, atol=1e-5)
    assert torch.allclose(found.moves.double(), moves, atol=1e-4)
    assert torch.allclose(forward(log_seen, start, step, at.live)[3], found.log_p)


def test_series_are_packed_by_moment_longest_first():
    at = packed(LENGTHS)
    assert at.order.tolist() == [2, 0, 3, 1] and at.live == [4, 3, 2, 1]
    assert at.rows.tolist() == [4, 0, 8, 3, 5, 1, 9, 6, 2, 7]


def test_a_very_long_series_does_not_underflow():
    log_seen = torch.full((20_000, 2), -50.0)
    found = beliefs(log_seen, torch.full((1, 2), 0.5), torch.full((1, 2, 2), 0.5), [1] * 20_000)
    assert float(found.log_p) == pytest.approx(-1_000_000, rel=1e-5)
    assert torch.allclose(found.state, torch.tensor(0.5))


def test_a_series_that_its_chain_does_not_allow_is_unlikely_and_no_more():
    """What is seen fits the other chain only, which what stays rules out."""
    log_seen = torch.tensor([[-500.0, 0.0]]).repeat(30, 1)
    found = beliefs(log_seen, torch.tensor([[1.0, 0.0]]), torch.ones(2, 1, 1), [1] * 30)
    assert torch.isfinite(found.log_p).all() and float(found.log_p) < -1000
    assert torch.equal(found.state, torch.tensor([[1.0, 0.0]]).repeat(30, 1)) and torch.isfinite(found.moves).all()


def test_walks_go_as_the_chains_say():
    n = 20_000
    step = torch.tensor([[[0.9, 0.1], [0.3, 0.7]], [[0.0, 1.0], [1.0, 0.0]]])
    start = torch.tensor([0.2, 0.3, 0.5, 0.0]).expand(n, 4)
    at = packed(torch.full((n,), 3))
    k = walk(start, step, at.live, rng()).view(3, n)
    assert torch.allclose(torch.bincount(k[0], minlength=4) / n, start[0], atol=0.015)
    for a, b, p in [(0, 0, 0.9), (1, 0, 0.3), (2, 3, 1.0)]:
        assert float((k[1][k[0] == a] == b).float().mean()) == pytest.approx(p, abs=0.02)
    assert ((k[0] >= 2) == (k[2] >= 2)).all()  # nobody changes the chain
