"""The mixture against exact oracles: enumeration, quadrature, PyTorch's and scikit-learn's own densities."""

import hashlib
import itertools
import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from tables import rng

from generators.codes import Codes
from generators.gmm import GMM
from generators.layout import Field, Given, Layout
from generators.leaves import FLOOR, Gaussian, Tables

ROOT = Path(__file__).parents[1]


def codes_of(layout: Layout, blocks: list[list[int]], bins: int) -> tuple[list, list]:
    """(edges, combinations) that Codes finds in data that hold every combination."""
    grid = [torch.arange(f.classes) if f.classes else torch.tensor([*f.cuts, 9.0]) for f in layout.fields]
    x = torch.cartesian_prod(*[g.float() for g in grid]).view(-1, len(grid))
    codes = Codes.fit(layout, sorted(itertools.chain(*blocks)), x * layout.active(x), bins, math.inf, 1000)
    sizes = [f.classes or len(e) - 1 for f, e in zip(layout.fields, codes.edges, strict=True)]
    combinations = [torch.cartesian_prod(*[torch.arange(sizes[i]) for i in b]).view(-1, len(b)) for b in blocks]
    return [e.data for e in codes.edges], combinations


def mixture(layout: Layout, pi, blocks=None, gaussian=None, bins: int = 50, seed: int = 0) -> GMM:
    """A mixture with known shares pi, random tables over whole blocks, and random Gaussians over some fields."""
    stream, K, tensors = np.random.default_rng(seed), len(pi), {"log_pi": torch.tensor(pi, dtype=torch.float32).log()}
    if blocks:
        edges, combinations = codes_of(layout, blocks, bins)
        theta = np.concatenate([stream.dirichlet(np.full(len(c), 0.8), K).T for c in combinations])
        tensors["leaves.0.log_theta"] = torch.tensor(np.concatenate([theta, np.full((1, K), 1e-30), np.ones((1, K))]), dtype=torch.float32).log()
        tensors["leaves.0.strength"] = torch.ones(len(blocks))
        tensors |= {f"leaves.0.codes.edges.{i}": e for i, e in enumerate(edges)}
        tensors |= {f"leaves.0.codes.combinations.{b}": c for b, c in enumerate(combinations)}
    if gaussian:
        leaf, d = f"leaves.{int(bool(blocks))}", len(gaussian)
        a = stream.normal(size=(K, d, d + 2))
        tensors |= {
            f"{leaf}.mean": torch.tensor(stream.normal(size=(K, d))),
            f"{leaf}.cholesky": torch.linalg.cholesky(torch.tensor(a @ a.transpose(0, 2, 1)) / d),
        }
        tensors[f"{leaf}.strength"] = torch.tensor(1.0)
    return GMM(layout).restore({"components": K, "blocks": blocks, "gaussian": gaussian, "curve": []}, tensors)


def every(layout: Layout) -> torch.Tensor:
    """All rows of a layout of one-of-k fields."""
    return torch.cartesian_prod(*[torch.arange(float(f.classes)) for f in layout.fields]).view(-1, len(layout))


CATEGORIES = Layout((Field(2), Field(3), Field(2), Field(4)))
SOME_CUTS = (-1.2, -0.4, 0.0, 0.3, 1.1)
NUMBERS = Layout((Field(3), Field(cuts=SOME_CUTS)))
GATED = Layout((Field(3), Field(gate=0, cuts=SOME_CUTS), Field(2)))


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


def grid(n: int = 40_000) -> tuple[torch.Tensor, float]:
    z = torch.linspace(-9, 9, n + 1)[:-1] + 9 / n
    return z, 18 / n


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


# EM


def em_step(leaves, log_pi: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """One step without priors or tuning; the new log shares."""
    prepared = [leaf.prepare(x) for leaf in leaves]
    sums, total = [0.0] * len(leaves), 0.0
    for leaf in leaves:
        leaf.strength.zero_()
    for chunks in zip(*prepared, strict=True):
        r = torch.softmax(log_pi + sum(leaf.log_prob(c) for leaf, c in zip(leaves, chunks, strict=True)), 1)
        sums, total = [s + leaf.sums(c, r) for s, leaf, c in zip(sums, leaves, chunks, strict=True)], total + r.sum(0)
    for leaf, s in zip(leaves, sums, strict=True):
        leaf.update(s)
    return (total / total.sum()).log()


@pytest.mark.parametrize("kind", ["tables", "blocks", "gaussian", "both"])
def test_em_never_lowers_the_likelihood(kind):
    layout = Layout((Field(2), Field(3), Field(cuts=SOME_CUTS), Field(cuts=SOME_CUTS)))
    stream = np.random.default_rng(0)
    group = stream.integers(0, 3, 5000)
    x = np.stack(
        [stream.random(5000) < 0.3 + 0.2 * group, (group + stream.integers(0, 2, 5000)) % 3, stream.normal(group - 1, 0.5), stream.normal(1 - group, 0.7)], 1
    )
    x = torch.from_numpy(x.astype(np.float32))
    blocks = {"tables": [[0], [1], [2], [3]], "blocks": [[0, 2], [1, 3]], "gaussian": None, "both": [[0], [1]]}[kind]
    model = mixture(layout, [0.25] * 4, blocks, {"gaussian": [2, 3], "both": [2, 3]}.get(kind))
    for leaf in model.leaves:
        if isinstance(leaf, Tables):
            leaf.margins = torch.full((leaf.codes.size,), 0.1)
    history = [float(model.log_prob(x).mean())]
    for _ in range(25):
        model.log_pi = em_step(model.leaves, model.log_pi, x)
        history.append(float(model.log_prob(x).mean()))
    assert history[-1] > history[0] + 0.1
    assert (np.diff(history) > -1e-5).all()


def test_incremental_em_reaches_what_batch_em_does():
    """Its sums stay those of all rows: a fit with the strengths found is a fixed point of one more step over everything."""
    layout = Layout((Field(4), Field(3), Field(3)))
    stream = np.random.default_rng(1)
    group = stream.integers(0, 2, 4000)
    x = torch.from_numpy(
        np.stack(
            [(group * 2 + stream.integers(0, 2, 4000)) % 4, (group + (stream.random(4000) < 0.3)) % 3, (group + (stream.random(4000) < 0.2)) % 3], 1
        ).astype(np.float32)
    )
    truth = mixture(layout, [0.5, 0.5], [[0], [1], [2]], seed=4)
    truth.leaves[0].margins = torch.full((10,), 0.1)
    for _ in range(300):
        truth.log_pi = em_step(truth.leaves, truth.log_pi, x[:3600])
    fitted = GMM(layout, components=6, join=9.0, passes=40).fit(x[:3600], x[3600:], rng=rng())
    assert float(fitted.log_prob(x).mean()) > float(truth.log_prob(x).mean()) - 0.02


# Conditions


def agree(counts: torch.Tensor, p: torch.Tensor) -> bool:
    """Chi-square, at one in a thousand; systematic draws lie well below."""
    expected = p / p.sum() * counts.sum()
    few = expected < 1e-6
    assert not counts[few].any()
    return float(((counts - expected)[~few] ** 2 / expected[~few]).sum()) < chi2.ppf(0.999, max(int((~few).sum()) - 1, 1))


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


# Draws


def test_shares_are_as_exact_as_the_number_of_rows_allows():
    """Three components, each with a class of its own: within one row of n pi. One component: within one row of n theta."""
    for pi in ([0.5, 0.3, 0.2], [0.998, 0.001, 0.001]):
        model = mixture(Layout((Field(3),)), pi, [[0]])
        model.leaves[0].log_theta[:3] = torch.eye(3).clamp_min(1e-37).log()
        for n in (10, 777, 5000):
            counts = torch.bincount(model.sample(n, rng=rng(n))[:, 0].long(), minlength=3)
            assert (counts - n * torch.tensor(pi)).abs().max() <= 1 + 1e-3
    single = mixture(Layout((Field(7),)), [1.0], [[0]])
    counts = torch.bincount(single.sample(1000, rng=rng())[:, 0].long(), minlength=7)
    assert (counts - 1000 * single.leaves[0].log_theta[:7, 0].exp()).abs().max() <= 1 + 1e-3


def test_rows_are_in_no_order():
    """Systematic draws are sorted by component inside; what comes out is not."""
    model = mixture(Layout((Field(2), Field(2))), [0.5, 0.5], [[0], [1]])
    model.leaves[0].log_theta[:2] = torch.eye(2).clamp_min(1e-37).log()
    x = model.sample(4000, rng=rng())[:, 0]
    assert abs(float((x[1:] == x[:-1]).float().mean()) - 0.5) < 0.04
    assert abs(float(x[:2000].mean()) - 0.5) < 0.05


def test_a_known_mixture_is_recovered():
    """Held-out rows are as likely under what was learned from 6,000 rows as under the truth, to a twentieth of a nat."""
    layout = Layout((Field(3), Field(2), Field(), Field()))
    truth = mixture(layout, [0.5, 0.3, 0.2], [[0], [1]], gaussian=[2, 3], seed=8)
    x, fresh = truth.sample(6000, rng=rng(1)), truth.sample(4000, rng=rng(2))
    scale = x[:, 2:].std(0)
    x[:, 2:] /= scale
    fresh[:, 2:] /= scale
    model = GMM(layout, numbers="gaussian").fit(x[:5400], x[5400:], rng=rng())
    before = fresh.clone()
    before[:, 2:] *= scale
    exact = float(truth.log_prob(before).mean() + scale.log().sum())
    assert float(model.log_prob(fresh).mean()) == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("numbers", ["binned", "gaussian"])
def test_as_many_components_as_rows_do_not_memorise(numbers):
    """Strengths chosen on held-out rows keep the fit from its own rows; a kernel at each row is far off on fresh ones."""
    cuts = tuple(torch.special.ndtri(torch.arange(1, 100) / 100).tolist())
    layout, x, fresh = Layout((Field(cuts=cuts),) * 5), torch.randn(800, 5, generator=rng(1)), torch.randn(2000, 5, generator=rng(2))
    model = GMM(layout, components=800, numbers=numbers).fit(x[:640], x[640:], rng=rng())
    gap = float(model.log_prob(x).mean() - model.log_prob(fresh).mean())
    naive = torch.distributions.Normal(0, 0.15)
    kernel = [float((naive.log_prob(rows[:, None] - x).sum(2).logsumexp(1) - math.log(800)).mean()) for rows in (x, fresh)]
    assert kernel[0] - kernel[1] > 5
    assert gap < 0.6
    near = torch.cdist(model.sample(2000, rng=rng()), x).min(1).values.median() / torch.cdist(fresh, x).min(1).values.median()
    assert near > 0.95


def test_columns_that_are_copies_of_each_other():
    """Twenty of twelve classes: one number for each combination of all would not fit into 64 bits, so there are two blocks."""
    stream = np.random.default_rng(0)
    x = torch.from_numpy(stream.integers(0, 12, 2000).astype(np.float32))[:, None].repeat(1, 20)
    model = GMM(Layout((Field(12),) * 20), passes=3).fit(x[:1800], x[1800:], rng=rng())
    drawn = model.sample(500, rng=rng())
    assert len(model.leaves[0].codes.blocks) == 2
    assert max(len(set(row.tolist())) for row in drawn) <= 2


SCRIPT = """
import hashlib, sys, torch
sys.path.insert(0, "tests")
from tables import patients
from generators.synthesizer import Synthesizer
torch.set_num_threads(int(sys.argv[1]))
out = hashlib.sha256()
for numbers in ("binned", "gaussian"):
    model = Synthesizer("gmm", numbers=numbers, seed=3).fit(patients(500))
    for value in model.generator.state_dict().values():
        out.update(value.contiguous().numpy().tobytes())
    for column in model.sample(3000, balance="ward").values.columns:
        out.update(str(column.to_pylist()).encode())
print(out.hexdigest())
"""


def test_same_bytes_in_any_process_on_any_number_of_threads():
    runs = [subprocess.Popen([sys.executable, "-c", SCRIPT, n], cwd=ROOT, stdout=subprocess.PIPE, text=True) for n in "12"]
    first, second = (run.communicate()[0] for run in runs)
    assert len(first.strip()) == hashlib.sha256().digest_size * 2
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"numbers": "bined"}, "found 'bined', expected auto, binned or gaussian"),
        ({"components": 0}, "components: found 0, expected a whole number"),
        ({"components": -3}, "components: found -3"),
        ({"bins": 2.5}, "bins: found 2.5"),
        ({"passes": 0}, "passes: found 0"),
        ({"passes": 10**9}, "passes: found 1000000000"),
        ({"join": -1}, "join: found -1, expected a number from 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GMM(CATEGORIES, **arguments)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("numbers", ["auto", "binned", "gaussian"])
def test_few_rows(n, numbers):
    layout = Layout((Field(2), Field(cuts=SOME_CUTS), Field(cuts=SOME_CUTS)))
    x = torch.randn(n, 3, generator=rng())
    x[:, 0] = torch.arange(n) % 2
    model = GMM(layout, numbers=numbers).fit(x[: n - 1], x[n - 1 :], rng=rng())
    assert torch.isfinite(model.sample(20, rng=rng())).all()
    assert torch.isfinite(model.log_prob(x)).all()
    assert isinstance(model.leaves[-1], Gaussian | Tables)
