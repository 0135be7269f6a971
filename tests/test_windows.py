"""Mixtures over windows against exact oracles: densities with gaps, classes as intervals, conditions, EM, cosines."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from longitudinal import MIXED, SIGNAL, WORDS, sequences
from scipy import stats
from tables import rng

from generators.layout import Field, Layout, Sequences, SeriesLayout
from generators.series.climb import Climbed, Task
from generators.series.factors import FIRM, Known, Parts, _gate, binary, held_out, posterior, sums, update
from generators.series.gmm import WindowMixture, _cosines
from generators.series.windows import Told, Windows

NONE = torch.zeros(0, dtype=torch.long)
LITTLE = torch.full((3,), 1e-9, dtype=torch.double)


def parts(columns: int = 5, factors: int = 2, components: int = 1, seed: int = 0) -> Parts:
    rng = torch.Generator().manual_seed(seed)
    lines = torch.randn(components, columns, 1 + factors, generator=rng, dtype=torch.double)
    noise = 0.2 + torch.rand(components, columns, generator=rng, dtype=torch.double)
    return Parts(torch.zeros(components, 1, dtype=torch.double), lines, noise)


def known(x: np.ndarray, mask: np.ndarray | None = None, low=None, high=None, told=None) -> Known:
    x = torch.from_numpy(np.asarray(x, float))
    mask = torch.ones_like(x, dtype=torch.bool) if mask is None else torch.from_numpy(mask)
    told = torch.ones(len(x), 1, dtype=torch.double) if told is None else torch.from_numpy(told)
    none = torch.empty(len(x), 0, dtype=torch.double)
    return Known(x, mask, told, none if low is None else low, none if high is None else high)


def dense(p: Parts, k: int = 0) -> tuple[np.ndarray, np.ndarray]:
    load = p.lines[k, :, 1:].numpy()
    return p.lines[k, :, 0].numpy(), load @ load.T + np.diag(p.noise[k].numpy())


@pytest.mark.parametrize("gaps", [False, True])
def test_the_density_is_that_of_a_normal_over_what_is_seen(gaps):
    p, rng = parts(), np.random.default_rng(0)
    x, mask = rng.normal(size=(20, 5)), np.ones((20, 5), bool)
    if gaps:
        mask = rng.random((20, 5)) < 0.6
        mask[:, 0] = True
    found = posterior(known(x, mask), p.lines[0], p.noise[0])[0]
    mean, covariance = dense(p)
    wanted = [stats.multivariate_normal(mean[m], covariance[np.ix_(m, m)]).logpdf(row[m]) for row, m in zip(x, mask, strict=True)]
    assert np.allclose(found, wanted)


def test_factors_are_those_of_bayes_rule():
    p = parts()
    x = np.random.default_rng(1).normal(size=(3, 5))
    _, mean, root = posterior(known(x), p.lines[0], p.noise[0])
    m, covariance = dense(p)
    load = p.lines[0, :, 1:].numpy()
    assert np.allclose(mean, (x - m) @ np.linalg.inv(covariance) @ load)
    assert np.allclose(np.linalg.inv(root[0] @ root[0].T), np.eye(2) - load.T @ np.linalg.inv(covariance) @ load)


def test_em_never_lowers_the_likelihood_but_for_its_prior():
    true, rng_ = parts(6, 2, 2, seed=3), np.random.default_rng(2)
    x = np.vstack([rng_.multivariate_normal(*dense(true, k), size=150) for k in (0, 1)])
    mask = rng_.random(x.shape) < 0.85
    data, none = known(x, mask), torch.zeros(6, dtype=torch.bool)
    p, likely = parts(6, 2, 2, seed=4), []
    for _ in range(15):
        likely.append(float(held_out(data, NONE, p, rng()).sum()))
        p = update(sums(data, NONE, p, rng()), p, LITTLE, none)
    assert all(b >= a - 1e-6 * abs(a) for a, b in pairwise(likely)) and likely[-1] > likely[0] + 50


def test_one_component_recovers_a_covariance():
    true = parts(8, 2, seed=5)
    x = np.random.default_rng(3).multivariate_normal(*dense(true), size=4000)
    task = Task(known(x[:3000]), known(x[3000:]), NONE, torch.zeros(8, dtype=torch.bool), [], torch.arange(8), 60, rng())
    found = dense(Climbed.one(task, 2).parts)[1]
    wanted = dense(true)[1]
    assert np.abs(found - wanted).max() < 0.12 * np.abs(wanted).max()


def test_classes_are_weighed_by_their_intervals():
    """Two columns of two and three classes and one number: the bound against an integral over the one factor."""
    p, at = parts(3, 1, seed=6), torch.tensor([0, 1])
    low = torch.tensor([[-math.inf, -0.3]], dtype=torch.double)
    high = torch.tensor([[0.2, 0.9]], dtype=torch.double)
    data = known([[0.0, 0.1, 0.7]], None, low, high)
    f = np.linspace(-8, 8, 4001)
    line, scale = p.lines[0].numpy(), p.noise[0].sqrt().numpy()
    mean = line[:, :1] + line[:, 1:] * f
    inside = [stats.norm.cdf((float(high[0, j]) - mean[j]) / scale[j]) - stats.norm.cdf((float(low[0, j]) - mean[j]) / scale[j]) for j in (0, 1)]
    exact = math.log(np.trapezoid(stats.norm.pdf(f) * inside[0] * inside[1] * stats.norm.pdf(0.7, mean[2], scale[2]), f))
    found = [float(held_out(data, at, p, rng(s))[0]) for s in range(200)]
    assert abs(np.log(np.mean(np.exp(found))) - exact) < 0.03 and np.mean(found) <= exact + 0.01
    assert binary(data, at).tolist() == [True, False, False]


@pytest.mark.parametrize("layout", [MIXED, SIGNAL, WORDS])
def test_windows_there_and_back(layout):
    x = sequences(layout, 50)
    windows = Windows(layout).fit(x)
    rows, mask = windows.rows(x)
    assert rows.shape == mask.shape == (50, len(windows))
    low, high = windows.interval(rows[:, windows.discrete])
    z = rows.clone()
    z[:, windows.discrete] = (low.clamp_min(-9) + high.clamp_max(9)) / 2
    assert torch.allclose(windows.steps_of(z, x.lengths), x.steps, atol=1e-6)
    assert int(mask.sum()) == int(layout.step.active(x.steps).sum())


def test_cosines_are_a_turn():
    c = _cosines(9)
    assert torch.allclose(c @ c.t(), torch.eye(9, dtype=torch.double))


def test_classes_that_come_with_like_numbers_are_neighbours():
    rng_ = np.random.default_rng(0)
    code = rng_.integers(0, 4, 800)
    middle = np.array([0.0, 3.0, 1.0, 2.0])[code]
    layout = SeriesLayout(Layout((Field(1),)), Layout((Field(4), Field())), ((4, 4),))
    steps = torch.from_numpy(np.column_stack([code, middle + 0.1 * rng_.normal(size=800)])).float()
    windows = Windows(layout).fit(Sequences(torch.zeros(200, 1), torch.full((200,), 4), steps))
    rank = windows.ranks[0].tolist()
    assert rank in ([0, 3, 1, 2], [3, 0, 2, 1])


def test_components_are_told_apart_by_what_stays_as_by_bayes_rule():
    """Two Gaussians of one covariance over what is told: the gate is p(component | told)."""
    rng_ = np.random.default_rng(4)
    which = rng_.random(200_000) < 0.3
    told = np.column_stack([np.ones(len(which)), rng_.normal([4.0, -3.0], size=(len(which), 2)) + np.outer(which, [1.5, -0.5])])
    share = torch.from_numpy(np.column_stack([~which, which]).astype(float))
    told = torch.from_numpy(told)
    gate = _gate(torch.einsum("nk,ni,nj->kij", share, told, told), 1e-9)
    own = torch.tensor([[4.0, -3.0], [5.5, -3.5]], dtype=torch.double)
    wanted = (-0.5 * ((told[:200, None, 1:] - own) ** 2).sum(2) / (1 + FIRM) + torch.tensor([0.7, 0.3]).log()).softmax(1)
    assert torch.allclose((told[:200] @ gate.t()).softmax(1), wanted, atol=0.02)


def test_many_classes_that_stay_are_told_by_those_combinations_that_matter():
    rng_ = np.random.default_rng(5)
    group = rng_.integers(0, 80, 4000)
    layout = Layout((Field(1), Field(80)))
    effect = rng_.normal(size=80)[group]
    rows = torch.from_numpy(effect[:, None] * np.ones((1, 6)) + 0.1 * rng_.normal(size=(4000, 6)))
    static = torch.from_numpy(np.column_stack([np.zeros(4000), group])).float()
    told = Told(layout).fit(static, rows, torch.ones_like(rows, dtype=torch.bool))
    found = told(static)
    assert found.shape == (4000, 1 + 6)  # as many as there are numbers to be told of
    left = rows - found @ torch.linalg.lstsq(found, rows).solution
    assert float(left.var() / rows.var()) < 0.05


@pytest.mark.parametrize("basis", ["steps", "cosines"])
def test_one_coefficient_of_many_that_what_stays_tells_of_is_found(basis):
    """Sixty classes of five series each say the level of thirty steps, and nothing else."""
    rng_ = np.random.default_rng(6)
    group, level = np.repeat(np.arange(60), 5), rng_.normal(size=60)
    steps = level[group, None] + 0.3 * rng_.normal(size=(300, 1)) + 0.3 * rng_.normal(size=(300, 30))
    static = torch.from_numpy(np.column_stack([np.zeros(300), group])).float()
    layout = SeriesLayout(Layout((Field(1), Field(60))), Layout((Field(),)), ((30, 30),))
    x = Sequences(static, torch.full((300,), 30), torch.from_numpy(steps.reshape(-1, 1) / steps.std()).float())
    order = torch.randperm(300, generator=rng())
    model = WindowMixture(layout, basis=basis).fit(x[order[:250]], x[order[250:]], rng=rng())
    made = model.sample(static.repeat(10, 1), torch.full((3000,), 30), rng=rng(1)).view(10, 300, 30).mean((0, 2)).view(60, 5).mean(1)
    assert np.corrcoef(made, level)[0, 1] > 0.9


def test_what_stays_tells_of_the_steps():
    """One static class of two, one number a step: the mean of the steps given the class is that of the source."""
    rng_ = np.random.default_rng(0)
    group = rng_.integers(0, 2, 1500)
    layout = SeriesLayout(Layout((Field(1), Field(2))), Layout((Field(),)), ((6, 6),))
    level = (1.2 * (2 * group - 1) + 0.5 * rng_.normal(size=1500))[:, None] + 0.5 * rng_.normal(size=(1500, 6))
    level = level / level.std()
    x = Sequences(torch.from_numpy(np.column_stack([np.zeros(1500), group])).float(), torch.full((1500,), 6), torch.from_numpy(level.reshape(-1, 1)).float())
    model = WindowMixture(layout).fit(x[torch.arange(1200)], x[torch.arange(1200, 1500)], rng=rng())
    for g in (0, 1):
        made = model.sample(torch.tensor([[0.0, g]]).repeat(2000, 1), torch.full((2000,), 6), rng=rng(g)).view(2000, 6)
        real = torch.from_numpy(level[group == g])
        assert (made.mean(0) - real.mean(0)).abs().max() < 0.1
        assert (torch.corrcoef(made.t().double()) - torch.corrcoef(real.t())).abs().max() < 0.12
