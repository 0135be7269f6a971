"""Junction trees against the joint table that they stand for, written out whole."""

import itertools

import pytest
import torch
from tables import rng

from generators import junction
from generators.junction import NEVER, JunctionTree, lifted
from generators.potentials import DAMPING, FLOOR, SLOW, Measured, fitted, slowly

SIZES = [2, 3, 4, 2, 3, 2]
GRAPHS = {
    "a cycle and a pair": [(0, 1), (1, 2), (2, 3), (0, 3), (4, 5)],
    "a chain": [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)],
    "nothing together": [],
    "triples": [(0, 1, 2), (1, 2, 3), (3, 4, 5)],
    "all": [(0, 1, 2, 3, 4, 5)],
}


@pytest.fixture(params=GRAPHS, ids=list(GRAPHS))
def known(request):
    """(tree, theta, the joint table of probabilities, log Z)"""
    tree, stream = JunctionTree(SIZES, GRAPHS[request.param]), rng(3)
    theta = [torch.randn(t.shape, dtype=torch.double, generator=stream) for t in tree.zeros()]
    joint = sum(lifted(t, c, range(len(SIZES))) for c, t in zip(tree.cliques, theta, strict=True)).expand(SIZES)
    log_z = joint.reshape(-1).logsumexp(0)
    return tree, theta, (joint - log_z).exp(), float(log_z)


def others(variables):
    return tuple(v for v in range(len(SIZES)) if v not in variables)


def test_every_factor_lies_in_a_clique_and_what_two_share_in_all_between():
    for factors in GRAPHS.values():
        tree = JunctionTree(SIZES, factors)
        assert all(tree.home(f) is not None for f in factors)
        assert len(tree.links) == len(tree.cliques) - 1
        for v in range(len(SIZES)):  # the cliques that hold a variable hang together
            holding = sum(v in c for c in tree.cliques)
            assert holding - sum(v in shared for *_, shared in tree.links) == 1


def test_marginals_are_those_of_the_joint(known):
    tree, theta, joint, log_z = known
    beliefs, found = tree.calibrate(theta)
    assert found == pytest.approx(log_z)
    for clique, belief in zip(tree.cliques, beliefs, strict=True):
        gone = others(clique)
        torch.testing.assert_close(belief.exp(), joint.sum(gone) if gone else joint)
        for part in itertools.combinations(clique, min(2, len(clique))):
            torch.testing.assert_close(tree.marginal(beliefs, part), joint.sum(others(part)))


def test_log_prob_of_every_row(known):
    tree, theta, joint, _ = known
    rows = torch.cartesian_prod(*[torch.arange(k) for k in SIZES])
    torch.testing.assert_close(tree.log_prob(tree.calibrate(theta)[0], rows).exp(), joint.reshape(-1))


def test_samples_follow_the_joint(known):
    tree, theta, joint, _ = known
    n = 200_000
    rows = tree.sample(tree.calibrate(theta)[0], n, rng=rng())
    at = torch.zeros(n, dtype=torch.long)
    for v, k in enumerate(SIZES):
        at = at * k + rows[:, v]
    share = torch.bincount(at, minlength=joint.numel()) / n
    sd = (joint.reshape(-1) * (1 - joint.reshape(-1)) / n).sqrt()
    assert ((share - joint.reshape(-1)).abs() < 5 * sd + 1e-5).all()
    assert tree.sample(tree.calibrate(theta)[0], 0, rng=rng()).shape == (0, len(SIZES))


def test_what_is_ruled_out_never_comes(known):
    tree, theta, joint, log_z = known
    at = tree.home((2,))
    out = torch.tensor([0.0, NEVER, 0.0, NEVER], dtype=torch.double).reshape([-1 if v == 2 else 1 for v in tree.cliques[at]])
    beliefs, left = tree.calibrate([t + out if i == at else t for i, t in enumerate(theta)])
    allowed = joint[:, :, [0, 2]].sum()
    assert left - log_z == pytest.approx(float(allowed.log()))
    assert set(tree.sample(beliefs, 5000, rng=rng())[:, 2].tolist()) == {0, 2}


@pytest.mark.parametrize("given", [(), (1,), (0, 2), (0, 3, 5), (1, 2, 3, 4), (0, 1, 2, 3, 4, 5)])
def test_what_is_left_given_what_is_known(known, given):
    """Rows with other evidence each: how probable it is, and how the rest is drawn."""
    tree, theta, joint, _ = known
    beliefs, unknown = tree.calibrate(theta)[0], others(given)
    rows = torch.cartesian_prod(*[torch.arange(SIZES[v] if v in given else 1) for v in range(len(SIZES))])
    margin = joint.sum(unknown) if unknown else joint
    torch.testing.assert_close(tree.posterior(beliefs, rows, set(given))[1].exp(), margin.reshape(-1))
    each = 4000
    drawn = tree.complete(beliefs, rows.repeat_interleave(each, 0), set(given), rng=rng())
    assert (drawn[:, list(given)] == rows.repeat_interleave(each, 0)[:, list(given)]).all()
    share = torch.zeros_like(joint).index_put_(tuple(drawn.t()), torch.ones(len(drawn), dtype=torch.double), accumulate=True) / each
    wanted = joint / (joint.sum(unknown, keepdim=True) if unknown else joint)
    assert ((share - wanted).abs() < 5 * (wanted * (1 - wanted) / each).sqrt() + 2e-3).all()


def test_many_rows_are_completed_part_by_part(known, monkeypatch):
    tree, theta, _, _ = known
    monkeypatch.setattr(junction, "TABLE", 50)
    rows = torch.zeros(1000, len(SIZES), dtype=torch.long)
    assert tree.complete(tree.calibrate(theta)[0], rows, {0}, rng=rng()).shape == (1000, len(SIZES))
    assert not rows.any()  # what was given is left as it was


def test_the_factors_that_fit_counts_are_of_largest_entropy():
    """Of pairs (0, 1) and (1, 2) that is p(a, b) p(b, c) / p(b)."""
    stream = rng(1)
    joint = torch.rand(2, 3, 4, dtype=torch.double, generator=stream)
    joint /= joint.sum()
    tree = JunctionTree([2, 3, 4], [(0, 1), (1, 2)])
    measured = [Measured((0, 1), 1e8 * joint.sum(2), 0.0), Measured((1, 2), 1e8 * joint.sum(0), 0.0)]
    _, beliefs = fitted(tree, [torch.zeros_like(m.y) for m in measured], measured, 1e8, 2000)
    rows = torch.cartesian_prod(*[torch.arange(k) for k in (2, 3, 4)])
    expected = joint.sum(2)[:, :, None] * joint.sum(0)[None] / joint.sum((0, 2))[None, :, None]
    torch.testing.assert_close(tree.log_prob(beliefs, rows).exp().reshape(2, 3, 4), expected, atol=1e-5, rtol=1e-3)


def test_noisy_counts_are_missed_by_as_much_as_they_move_the_model():
    """Where the objective is least, y - N M = (DAMPING sd + FLOOR) theta for every count, whatever their noise and however little they agree."""
    stream, n = rng(2), 1000.0
    tree = JunctionTree([2, 3, 4], [(0, 1), (1, 2)])
    shapes = {(0, 1): (2, 3), (1, 2): (3, 4), (1,): (3,)}
    measured = [
        Measured(of, 300 * torch.rand(k, dtype=torch.double, generator=stream) - 30, sd) for (of, k), sd in zip(shapes.items(), (0.0, 5.0, 50.0), strict=True)
    ]
    theta, beliefs = fitted(tree, [torch.zeros_like(m.y) for m in measured], measured, n, 2000)
    for m, t in zip(measured, theta, strict=True):
        torch.testing.assert_close(m.y - n * tree.marginal(beliefs, m.of), (DAMPING * m.sd + FLOOR) * t, atol=0.05, rtol=1e-3)


def test_along_the_bins_of_a_number_slow_cosines_are_believed_first():
    """Where the objective is least, B' (y - N M) = (DAMPING sd + FLOOR) a; and what changes slowly from bin to bin is found in the same noise sooner."""
    stream, n, k = rng(4), 1000.0, 12
    basis = slowly(1 + k, slice(1, 1 + k))
    assert torch.equal(basis[0], torch.eye(1 + k)[0].double()) and torch.equal(basis[:, 0], torch.eye(1 + k)[0].double())
    assert torch.allclose((basis.t() @ basis).diagonal()[2:], 1 + SLOW * k / torch.arange(1, k).double() ** 2)
    tree = JunctionTree([1 + k, 3], [(0, 1)])
    y = 60 * torch.rand(1 + k, 3, dtype=torch.double, generator=stream)
    plain, bases = Measured((0, 1), y, 20.0), (basis, torch.eye(3, dtype=torch.double))
    smooth = Measured((0, 1), y, 20.0, bases)
    (a,), beliefs = fitted(tree, [torch.zeros_like(y)], [smooth], n, 2000)
    torch.testing.assert_close(smooth.back(y - n * tree.marginal(beliefs, (0, 1))).view_as(a), (DAMPING * 20 + FLOOR) * a, atol=0.05, rtol=1e-3)
    torch.testing.assert_close(smooth.theta(a), basis @ a)
    truth = torch.linspace(-1.5, 1.5, 1 + k).exp()[:, None] * torch.tensor([1.0, 0.7, 0.2])
    truth, off = (n * truth / truth.sum()).double(), {}
    for name, own in (("plain", ()), ("smooth", bases)):
        told = [truth + 20 * torch.randn(truth.shape, dtype=torch.double, generator=rng(i)) for i in range(20)]
        made = [tree.marginal(fitted(tree, [torch.zeros_like(y)], [Measured((0, 1), t, 20.0, own)], n, 500)[1], (0, 1)) * n for t in told]
        off[name] = float(torch.stack([(m - truth).square().sum() for m in made]).mean())
    assert off["smooth"] < 0.9 * off["plain"], off
    assert plain.bases == ()
