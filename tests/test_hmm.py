"""Hidden Markov models against exact oracles: EM never lowers the likelihood, a known chain is found, probabilities sum to one."""

import itertools

import numpy as np
import pytest
import torch
from longitudinal import CUTS
from tables import rng

from generators.layout import Field, Layout, Sequences, SeriesLayout
from generators.series.chains import Chain, Shared
from generators.series.hmm import HMM

KEPT = Layout((Field(1), Field(2)))
SMALL = SeriesLayout(KEPT, Layout((Field(3),)), ((3, 3),))
NUMBERS = SeriesLayout(KEPT, Layout((Field(cuts=CUTS), Field(cuts=CUTS))), ((12, 12),))


def known(n: int = 1500, steps: int = 12, seed: int = 0) -> tuple[Sequences, np.ndarray]:
    """Two numbers of a chain of two states that stays with 0.9 and 0.8, its means 1.2 apart from 0; and its moves."""
    stream = np.random.default_rng(seed)
    move = np.array([[0.9, 0.1], [0.2, 0.8]])
    state, out = stream.integers(0, 2, n), []
    for _ in range(steps):
        out.append((2 * state[:, None] - 1) * 1.2 + stream.normal(0, 0.5, (n, 2)))
        state = (stream.random(n) > move[state, 0]).astype(int)
    x = torch.from_numpy(np.stack(out, 1).reshape(-1, 2)).float()
    return Sequences(torch.zeros(n, 2), torch.full((n,), steps), x), move


def words(n: int, seed: int = 0) -> Sequences:
    """Three words; who is of group 1 says 2 more often, and again."""
    stream = np.random.default_rng(seed)
    group = stream.integers(0, 2, n)
    x = np.where(stream.random((n, 3)) < np.where(group, 0.8, 0.1)[:, None], 2, stream.integers(0, 2, (n, 3)))
    return Sequences(torch.from_numpy(np.column_stack([np.zeros(n), group])).float(), torch.full((n,), 3), torch.from_numpy(x.reshape(-1, 1)).float())


@pytest.mark.parametrize("numbers", ["gaussian", "regression"])
def test_em_never_lowers_the_likelihood(numbers):
    x = known(150)[0]
    shared = Shared(NUMBERS, x, known(30, seed=1)[0], numbers=numbers, bins=None, join=0.06, passes=1, seed=0)
    chain = Chain.of(shared, 4)
    chain.loose = 0.0
    for leaf in chain.emissions:
        leaf.strength.zero_()
        if numbers == "regression":
            leaf.first.strength.zero_()
    likely = []
    for _ in range(8):
        found = [(part, chain.beliefs(part)) for part in shared.parts]
        likely.append(sum(float(b.log_p.double().sum()) for _, b in found))
        sums = [chain._gathered(part, b.state, b.moves) for part, b in found]
        chain.total = [sum(s) for s in zip(*sums, strict=True)]
        chain._update()
    assert all(b >= a - 0.05 for a, b in itertools.pairwise(likely[1:])) and likely[-1] > likely[1]


def test_a_known_chain_is_found():
    x, move = known()
    model = HMM(NUMBERS, states=2, chains=1, numbers="gaussian").fit(x, known(200, seed=1)[0], rng=rng())
    leaf = model.leaves[0]
    order = leaf.mean[:, 0].argsort()
    assert torch.allclose(leaf.mean[order].float(), torch.tensor([[-1.2, -1.2], [1.2, 1.2]]), atol=0.06)
    assert np.allclose(model.step[0][order][:, order].numpy(), move, atol=0.04)


@pytest.mark.parametrize("chains", [1, 2])
def test_probabilities_of_all_series_sum_to_one(chains):
    model = HMM(SMALL, states=2, chains=chains, passes=5).fit(words(400), words(80, seed=1), rng=rng())
    every = torch.tensor(list(itertools.product(range(3), repeat=3))).float()
    for group in (0.0, 1.0):
        x = Sequences(torch.tensor([[0.0, group]]).repeat(27, 1), torch.full((27,), 3), every.reshape(-1, 1))
        assert float(model.log_prob(x).exp().sum()) == pytest.approx(1, abs=1e-4)


def test_chains_follow_what_stays():
    model = HMM(SMALL, states=2, passes=10).fit(words(600), words(150, seed=1), rng=rng())
    assert model.step.shape[0] >= 2
    static = torch.tensor([[0.0, 0.0], [0.0, 1.0]]).repeat(1000, 1)
    said = model.sample(static, torch.full((2000,), 3), rng=rng(1)).view(2000, 3)
    share = [float((said[static[:, 1] == g] == 2).float().mean()) for g in (0, 1)]
    assert share[0] == pytest.approx(0.1, abs=0.06) and share[1] == pytest.approx(0.8, abs=0.06)
    together = said[static[:, 1] == 1] == 2
    assert abs(float(together.all(1).float().mean()) - 0.8**3) < 0.08


def test_what_was_asked_for_is_used():
    x, held = known(200)[0], known(60, seed=1)[0]
    model = HMM(NUMBERS, states=3, chains=2, numbers="regression", passes=2).fit(x, held, rng=rng())
    assert tuple(model.step.shape) == (2, 3, 3) and type(model.leaves[-1]).__name__ == "Regression"
    for wrong in ({"states": 0}, {"chains": 1.5}, {"numbers": "smooth"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            HMM(NUMBERS, **wrong)
