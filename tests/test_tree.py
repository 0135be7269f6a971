"""The latent tree against exact oracles: sums over all hidden states, integrals, known trees; and where it is chosen."""

import itertools

import numpy as np
import pytest
import torch
from mixtures import CATEGORIES, GATED, agree, every, grid, tree
from tables import rng

from generators.codes import Codes
from generators.gmm import GMM
from generators.layout import Field, Given, Layout
from generators.tree import Tree, parents_of

SHAPES = [([-1, 0, 1, 2], [[0], [1], [2], [3]]), ([2, 2, -1, 2], [[0], [1], [2], [3]]), ([1, -1, 1], [[0, 2], [1], [3]]), ([-1], [[0, 1, 2, 3]])]


def over_all_states(leaf: Tree, codes: torch.Tensor) -> torch.Tensor:
    """(n, states of all blocks): p(codes, states), by the formula."""
    B, S = codes.shape[1], leaf.step.shape[1]
    out = []
    for z in itertools.product(range(S), repeat=B):
        p = torch.ones(len(codes), dtype=torch.double)
        for b in range(B):
            parent = leaf.parents[b]
            p = p * leaf.step[b, z[parent] if parent >= 0 else 0, z[b]].double() * leaf.theta[codes[:, b], z[b]].double()
        out.append(p)
    return torch.stack(out, 1)


@pytest.mark.parametrize(("parents", "blocks"), SHAPES)
def test_probabilities_are_sums_over_all_states(parents, blocks):
    model, rows = tree(CATEGORIES, parents, blocks), every(CATEGORIES)
    found, leaf = model.log_prob(rows).double().exp(), model.leaves[0]
    assert torch.allclose(found, over_all_states(leaf, leaf.codes.encode(rows)).sum(1), rtol=1e-5)
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("parents", "blocks"), SHAPES)
def test_expected_counts_are_those_over_all_states(parents, blocks):
    model, rows = tree(CATEGORIES, parents, blocks, seed=1), every(CATEGORIES)[::3]
    leaf = model.leaves[0]
    codes = leaf.codes.encode(rows)
    posterior = over_all_states(leaf, codes)
    posterior = posterior / posterior.sum(1, keepdim=True)
    states = list(itertools.product(range(3), repeat=len(blocks)))
    steps, held = (torch.zeros_like(t, dtype=torch.double) for t in leaf.sums(codes))
    for z, weight in zip(states, posterior.t(), strict=True):
        for b, parent in enumerate(parents):
            steps[b, z[parent] if parent >= 0 else 0, z[b]] += weight.sum()
            held[:, z[b]].index_add_(0, codes[:, b], weight)
    for found, exact in zip(leaf.sums(codes), (steps, held), strict=True):
        assert torch.allclose(found.double(), exact, atol=1e-3)


@pytest.mark.parametrize("blocks", [[[0], [2], [1]], [[0, 2], [1]]])
def test_gated_numbers_integrate_to_one(blocks):
    model, (z, step) = tree(GATED, [-1, 0, 0][: len(blocks)], blocks), grid()
    total = 0.0
    for c in (0.0, 1.0):
        total += float(model.log_prob(torch.stack([torch.zeros_like(z), z, torch.full_like(z, c)], 1)).double().exp().sum()) * step
        total += float(model.log_prob(torch.tensor([[1.0, 0, c], [2.0, 0, c]])).double().exp().sum())
    assert total == pytest.approx(1, abs=1e-3)


def test_em_never_lowers_the_likelihood():
    rows = every(CATEGORIES)[torch.multinomial(tree(CATEGORIES, *SHAPES[1], seed=5).log_prob(every(CATEGORIES)).exp(), 5000, True, generator=rng())]
    model = tree(CATEGORIES, *SHAPES[0], seed=2)
    leaf, history = model.leaves[0], []
    leaf.strength.zero_()
    leaf.margins = torch.full((leaf.codes.size,), 0.1)
    for _ in range(40):
        history.append(float(model.log_prob(rows).mean()))
        leaf.update(*leaf.sums(leaf.codes.encode(rows)))
    assert history[-1] > history[0] + 0.1
    assert (np.diff(history) > -1e-5).all()


@pytest.mark.parametrize(("parents", "blocks"), SHAPES)
@pytest.mark.parametrize("fixed", [(), (0,), (0, 2), (1, 2, 3), (0, 1, 2, 3)])
def test_conditions_are_exact(parents, blocks, fixed):
    model, rows, wanted = tree(CATEGORIES, parents, blocks, seed=3), every(CATEGORIES), torch.tensor([1.0, 2.0, 0.0, 3.0])
    mask = torch.tensor([i in fixed for i in range(4)])
    x = model.sample(20_000, Given((wanted * mask).expand(20_000, -1), mask), rng=rng(1))
    counts = torch.stack([(x == row).all(1).sum() for row in rows]).double()
    assert agree(counts, model.log_prob(rows).double().exp() * (rows[:, mask] == wanted[mask]).all(1))


def test_a_number_that_is_off():
    """Given that a number is missing, the rest is as the joint has it, whatever stands in the number's field."""
    model, mask = tree(GATED, [-1, 0, 1], [[0], [2], [1]], seed=6), torch.tensor([True, True, False])
    x = model.sample(9000, Given(torch.tensor([[2.0, 0.0, 0.0]]).expand(9000, -1), mask), rng=rng())
    p = model.log_prob(torch.tensor([[2.0, 0, 0], [2.0, 0, 1]])).double().exp()
    assert agree(torch.bincount(x[:, 2].long(), minlength=2).double(), p)
    assert (x[:, 1] == 0).all()


def test_what_has_no_probability_is_an_error():
    model = tree(CATEGORIES, *SHAPES[0])
    model.leaves[0].theta[1] = 0.0  # the second class of the first field
    with pytest.raises(ValueError, match="0 of 5 rows can be as asked"):
        model.sample(5, Given(torch.ones(5, 4), torch.tensor([True, False, False, False])), rng=rng())


def test_many_blocks_that_hang_on_one_do_not_underflow():
    """200 children, each of which is sure of its state."""
    layout = Layout((Field(50),) * 200)
    leaf = Tree(Codes.single(layout, 8), [-1] + [0] * 199, 3)
    leaf.step[:] = 0.999 * torch.eye(3) + 0.001 / 3
    leaf.step[0] = torch.tensor([0.5, 0.3, 0.2])
    leaf.theta[:-2] = torch.rand(10_000, 3, generator=rng()) / 25
    x = torch.randint(50, (64, 200), generator=rng()).float()
    exact = torch.zeros(64, 3, dtype=torch.double)
    codes = leaf.codes.encode(x)
    for b in range(200):
        seen = leaf.theta[codes[:, b]].double()
        exact += (seen if b == 0 else seen @ leaf.step[b].double().t()).log()
    assert torch.allclose(leaf.log_prob(codes)[:, 0].double(), (exact + leaf.step[0, 0].double().log()).logsumexp(1), rtol=1e-5)
    assert all(bool(torch.isfinite(t).all()) for t in leaf.sums(codes))


def chain(n: int = 6000, fields: int = 12, classes: int = 5, stay: float = 0.7) -> torch.Tensor:
    """(n, fields): each field is mostly what the one before it is, but in another order of columns: 0, 2, 4, and so on, then 1, 3, 5."""
    stream = np.random.default_rng(0)
    x = [stream.integers(0, classes, n)]
    while len(x) < fields:
        x.append(np.where(stream.random(n) < stay, x[-1], stream.integers(0, classes, n)))
    order = [*range(0, fields, 2), *range(1, fields, 2)]
    return torch.from_numpy(np.stack([x[order.index(i)] for i in range(fields)], 1)).float()


def test_the_tree_of_a_chain_is_the_chain():
    x = chain()
    order = [*range(0, 12, 2), *range(1, 12, 2)]
    links = {frozenset(pair) for pair in itertools.pairwise(order)}
    parents = parents_of(Codes.single(Layout((Field(5),) * 12), 8), x)
    assert {frozenset((b, p)) for b, p in enumerate(parents) if p >= 0} == links and parents.count(-1) == 1


def test_settled_probabilities_have_the_frequencies_of_the_rows():
    x = chain()
    model = GMM(Layout((Field(5),) * 12), join=9.0).fit(x[:5000], x[5000:], rng=rng())
    leaf = model.leaves[0]
    steps, held = leaf.sums(leaf.codes.encode(x))
    leaf.strength.fill_(300.0)
    leaf.margins = torch.full((leaf.codes.size,), 0.2)
    leaf.update(steps, held)

    def shares() -> torch.Tensor:
        state = {-1: torch.eye(leaf.step.shape[1])[0]}
        for b in leaf.order:
            state[b] = state[leaf.parents[b]] @ leaf.step[b]
        return torch.stack([leaf.theta[:-2][leaf.codes.block_of == b] @ state[b] for b in range(12)])

    real = torch.stack([(x == c).float().mean(0) for c in range(5)], 1)
    assert float((shares() - real).abs().max()) > 0.003
    leaf.settle(steps, held)
    assert float((shares() - real).abs().max()) < 1e-4


def test_a_tree_is_chosen_where_it_is_better_and_comes_back_as_it_was():
    x = chain()
    model = GMM(Layout((Field(5),) * 12), join=9.0).fit(x[:5000], x[5000:], rng=rng())
    assert isinstance(model.leaves[0], Tree) and "latent tree" in next(c for c in model.curve if c.get("chosen"))["model"]
    tensors = {k: v.clone() for k, v in model.state_dict().items()}
    again = GMM(Layout((Field(5),) * 12)).restore(model.structure(), tensors)
    assert torch.equal(again.log_prob(x[:50]), model.log_prob(x[:50]))
    assert torch.equal(again.sample(100, rng=rng()), model.sample(100, rng=rng()))
    without = GMM(Layout((Field(5),) * 12), join=9.0, states=0).fit(x[:5000], x[5000:], rng=rng())
    assert not isinstance(without.leaves[0], Tree) and float((model.log_prob(x) - without.log_prob(x)).mean()) > 0.24


def test_a_number_that_is_never_there_leaves_the_rest_as_it_is():
    """Too rare for the rows that a tree is grown from: its own distribution is unknown, all others' are not."""
    x = torch.cat([chain(), torch.zeros(6000, 2)], 1)
    x[:, 12] = 1  # the gate: always switched off
    layout = Layout((*(Field(5),) * 12, Field(2), Field(gate=12, cuts=(-0.5, 0.0, 0.5))))
    model = GMM(layout, join=9.0).fit(x[:5000], x[5000:], rng=rng())
    assert isinstance(model.leaves[0], Tree)
    y = model.sample(6000, rng=rng())
    same = lambda v: (v[:, 0] == v[:, 1]).float().mean() - (v[:, 0] == v[:, 2]).float().mean()  # noqa: E731
    assert float(same(y)) == pytest.approx(float(same(x)), abs=0.03)
    shares = torch.stack([torch.bincount(v[:, 5].long(), minlength=5) / 6000 for v in (x, y)])
    assert float((shares[0] - shares[1]).abs().max()) < 0.01
    mask = torch.zeros(14, dtype=torch.bool)
    mask[0] = True
    assert (model.sample(10, Given(torch.full((10, 14), 2.0) * mask, mask), rng=rng())[:, 0] == 2).all()


def test_fields_that_say_nothing_of_each_other_get_no_tree():
    x = torch.randint(5, (3000, 6), generator=rng()).float()
    assert not isinstance(GMM(Layout((Field(5),) * 6)).fit(x[:2500], x[2500:], rng=rng()).leaves[0], Tree)
