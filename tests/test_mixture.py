"""What a mixture says of rows and draws, against exact oracles: enumeration, quadrature, PyTorch's and scikit-learn's own densities."""

import math
import warnings

import numpy as np
import pytest
import torch
from mixtures import CATEGORIES, GATED, NUMBERS, SOME_CUTS, agree, em_step, every, grid, mixture
from tables import rng

from generators.gmm import GMM
from generators.layout import Field, Given, Layout
from generators.leaves import FLOOR

# Densities


@pytest.mark.parametrize("blocks", [[[0], [1], [2], [3]], [[0, 2], [1], [3]], [[0, 1, 2, 3]]])
def test_categories_sum_to_one_and_are_what_they_say(blocks):
    model = mixture(CATEGORIES, [0.5, 0.3, 0.2], blocks)
    rows = every(CATEGORIES)
    assert float(model.log_prob(rows).double().exp().sum()) == pytest.approx(1, abs=1e-5)
    theta, tables = model.leaves[0].log_theta.exp().double(), model.leaves[0].codes
    for row, found in zip(rows, model.log_prob(rows), strict=True):
        p = torch.tensor([0.5, 0.3, 0.2]).double()
        for b, fields in enumerate(blocks):
            v = int(tables.offsets[b]) + next(i for i, c in enumerate(tables.combinations[b]) if c.tolist() == row[fields].long().tolist())
            p = p * theta[v]
        assert float(found) == pytest.approx(math.log(p.sum()), abs=1e-4)


@pytest.mark.parametrize("blocks", [[[0], [1]], [[0, 1]]])
def test_binned_numbers_integrate_to_one(blocks):
    model, (z, step) = mixture(NUMBERS, [0.6, 0.4], blocks), grid()
    total = sum(float(model.log_prob(torch.stack([torch.full_like(z, c), z], 1)).double().exp().sum()) * step for c in range(3))
    assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("blocks", [[[0], [2], [1]], [[0, 1], [2]], [[0, 2], [1]]])
def test_gated_numbers_integrate_to_one(blocks):
    """Density where the gate is open, mass where it is not. With the gate in the block every closed row has its first bin."""
    model, (z, step) = mixture(GATED, [0.6, 0.4], blocks, seed=2), grid()
    if [0, 1] in blocks:  # what training never holds gets no weight: another bin under a closed gate
        leaf = model.leaves[0]
        b = blocks.index([0, 1])
        first, last = leaf.codes.offsets[b : b + 2].tolist()
        impossible = (leaf.codes.combinations[b][:, 0] != 0) & (leaf.codes.combinations[b][:, 1] != 0)
        theta = leaf.log_theta[first:last].exp() * ~impossible[:, None]
        leaf.log_theta[first:last] = (theta / theta.sum(0)).clamp_min(1e-37).log()
    total = 0.0
    for c in (0.0, 1.0):
        total += float(model.log_prob(torch.stack([torch.zeros_like(z), z, torch.full_like(z, c)], 1)).double().exp().sum()) * step
        total += float(model.log_prob(torch.tensor([[1.0, 0, c], [2.0, 0, c]])).double().exp().sum())
    assert total == pytest.approx(1, abs=1e-3)


def test_the_gaussian_leaf_is_pytorchs_normal():
    model, x = mixture(Layout((Field(),) * 4), [1.0], gaussian=[0, 1, 2, 3]), torch.randn(200, 4, generator=rng())
    leaf = model.leaves[0]
    exact = torch.distributions.MultivariateNormal(leaf.mean[0], scale_tril=leaf.cholesky[0]).log_prob(x.double())
    assert torch.allclose(model.log_prob(x).double(), exact, atol=1e-4)


def sklearn_mixture(model: GMM):
    from sklearn.mixture import GaussianMixture

    leaf = model.leaves[0]
    covariance = (leaf.cholesky @ leaf.cholesky.mT).numpy()
    peer = GaussianMixture(
        len(leaf.mean),
        weights_init=model.log_pi.double().softmax(0).numpy(),
        means_init=leaf.mean.numpy(),
        precisions_init=np.linalg.inv(covariance),
        max_iter=1,
        reg_covar=FLOOR,
    )
    peer.weights_, peer.means_, peer.covariances_ = peer.weights_init, peer.means_init, covariance
    peer.precisions_cholesky_ = np.linalg.cholesky(peer.precisions_init)
    return peer


def test_the_mixture_is_scikit_learns():
    model, x = mixture(Layout((Field(),) * 3), [0.5, 0.3, 0.2], gaussian=[0, 1, 2]), torch.randn(300, 3, generator=rng())
    assert np.allclose(model.log_prob(x), sklearn_mixture(model).score_samples(x.double().numpy()), atol=1e-4)


def test_a_step_of_em_is_scikit_learns():
    model, x = mixture(Layout((Field(),) * 3), [0.5, 0.3, 0.2], gaussian=[0, 1, 2]), torch.randn(800, 3, generator=rng())
    peer = sklearn_mixture(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one step does not converge, which is the point
        peer.fit(x.double().numpy())
    log_pi = em_step(model.leaves, model.log_pi, x)
    leaf = model.leaves[0]
    assert np.allclose(log_pi.exp(), peer.weights_, atol=1e-5)
    assert np.allclose(leaf.mean, peer.means_, atol=1e-4)
    assert np.allclose(leaf.cholesky @ leaf.cholesky.mT, peer.covariances_, atol=1e-4)


def test_mixed_leaves_integrate_to_one():
    """Two categories and a Gaussian number: a sum of integrals."""
    layout = Layout((Field(2), Field(), Field(3)))
    model, (z, step) = mixture(layout, [0.4, 0.6], [[0], [2]], gaussian=[1]), grid()
    total = sum(
        float(model.log_prob(torch.stack([torch.full_like(z, a), z, torch.full_like(z, b)], 1)).double().exp().sum()) * step for a in range(2) for b in range(3)
    )
    assert total == pytest.approx(1, abs=1e-3)


# Conditions


@pytest.mark.parametrize("blocks", [[[0], [1], [2], [3]], [[0, 2], [1], [3]], [[0, 1, 2, 3]]])
@pytest.mark.parametrize("fixed", [(), (0,), (3,), (0, 2), (1, 2, 3), (0, 1, 2, 3)])
def test_conditions_on_categories_are_exact(blocks, fixed):
    model = mixture(CATEGORIES, [0.5, 0.3, 0.2], blocks, seed=3)
    rows, wanted = every(CATEGORIES), torch.tensor([1.0, 2.0, 0.0, 3.0])
    mask = torch.tensor([i in fixed for i in range(4)])
    x = model.sample(20_000, Given((wanted * mask).expand(20_000, -1), mask), rng=rng(1))
    met = (rows[:, mask] == wanted[mask]).all(1)
    counts = torch.stack([(x == row).all(1).sum() for row in rows]).double()
    assert agree(counts, model.log_prob(rows).double().exp() * met)


def test_a_condition_of_its_own_for_every_row():
    model = mixture(CATEGORIES, [0.5, 0.3, 0.2], [[0, 1], [2], [3]], seed=3)
    rows, mask = every(CATEGORIES), torch.tensor([False, True, False, False])
    wanted = torch.zeros(30_000, 4)
    wanted[:, 1] = torch.arange(30_000) % 3
    x = model.sample(30_000, Given(wanted, mask), rng=rng(1))
    assert torch.equal(x[:, 1], wanted[:, 1])
    for v in range(3):
        part = x[v::3]
        counts = torch.stack([(part == row).all(1).sum() for row in rows]).double()
        assert agree(counts, model.log_prob(rows).double().exp() * (rows[:, 1] == v))


@pytest.mark.parametrize("fixed", [(0,), (2,), (1, 3)])
def test_conditions_on_gaussians_are_exact(fixed):
    """Mean and covariance of the rest: those of the mixture of conditional normals."""
    model, n = mixture(Layout((Field(),) * 4), [0.5, 0.3, 0.2], gaussian=[0, 1, 2, 3], seed=5), 200_000
    leaf, wanted = model.leaves[0], torch.tensor([0.3, -0.6, 0.9, 0.2])
    fixed, mask = list(fixed), torch.tensor([i in fixed for i in range(4)])
    rest = [i for i in range(4) if i not in fixed]
    x = model.sample(n, Given((wanted * mask).expand(n, -1), mask), rng=rng()).double()
    means, covariances, weights = [], [], []
    for k in range(3):
        m, s = leaf.mean[k], leaf.cholesky[k] @ leaf.cholesky[k].T
        seen = s[fixed][:, fixed]
        gain = s[rest][:, fixed] @ torch.linalg.inv(seen)
        means.append(m[rest] + gain @ (wanted[fixed].double() - m[fixed]))
        covariances.append(s[rest][:, rest] - gain @ s[fixed][:, rest])
        weights.append(model.log_pi[k].double() + torch.distributions.MultivariateNormal(m[fixed], seen).log_prob(wanted[fixed].double()))
    w = torch.stack(weights).softmax(0)
    mean = sum(a * m for a, m in zip(w, means, strict=True))
    covariance = sum(a * (s + torch.outer(m - mean, m - mean)) for a, m, s in zip(w, means, covariances, strict=True))
    assert torch.equal(x[:, fixed].float(), wanted[fixed].expand(n, -1))
    assert torch.allclose(x[:, rest].mean(0), mean, atol=0.015)
    assert torch.allclose(torch.cov(x[:, rest].T).view(len(rest), -1), covariance, atol=0.04)


def test_a_category_given_a_number_is_exact():
    """p(category | number) under both kinds of number, against the joint density."""
    layout = Layout((Field(3), Field(cuts=SOME_CUTS)))
    for model in (mixture(layout, [0.6, 0.4], [[0]], gaussian=[1]), mixture(layout, [0.6, 0.4], [[0], [1]]), mixture(layout, [0.6, 0.4], [[0, 1]])):
        for z in (-2.0, 0.2, 0.9):
            x = model.sample(9000, Given(torch.tensor([[0.0, z]]).expand(9000, -1), torch.tensor([False, True])), rng=rng())
            p = model.log_prob(torch.tensor([[c, z] for c in (0.0, 1.0, 2.0)])).double().exp()
            assert agree(torch.bincount(x[:, 0].long(), minlength=3).double(), p)


@pytest.mark.parametrize("blocks", [[[0], [2], [1]], [[0, 2], [1]]])
def test_a_number_that_is_off(blocks):
    """Given that a number is missing, the rest is as the joint has it, whatever stands in the number's field."""
    model, mask = mixture(GATED, [0.7, 0.3], blocks, seed=6), torch.tensor([True, True, False])
    x = model.sample(9000, Given(torch.tensor([[2.0, 0.0, 0.0]]).expand(9000, -1), mask), rng=rng())
    p = model.log_prob(torch.tensor([[2.0, 0, 0], [2.0, 0, 1]])).double().exp()
    assert agree(torch.bincount(x[:, 2].long(), minlength=2).double(), p)
    assert (x[:, 1] == 0).all()


def test_what_has_no_probability_is_an_error():
    model = mixture(CATEGORIES, [0.5, 0.3, 0.2], [[0], [1], [2], [3]])
    model.leaves[0].log_theta[1] = -math.inf  # the second class of the first field
    with pytest.raises(ValueError, match="0 of 5 rows can be as asked"):
        model.sample(5, Given(torch.ones(5, 4), torch.tensor([True, False, False, False])), rng=rng())
    seen = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(200, 1)
    fitted = GMM(Layout((Field(2), Field(2)))).fit(seen[:300], seen[300:], rng=rng())
    with pytest.raises(ValueError, match="0 of 5 rows can be as asked"):
        fitted.sample(5, Given(torch.tensor([[0.0, 1.0]]).expand(5, -1), torch.tensor([True, True])), rng=rng())
    some = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match="3 of 5 rows can be as asked"):
        fitted.sample(5, Given(some, torch.tensor([True, True])), rng=rng())
