"""How many steps series have: near those of the data where that is likelier, exactly those where steps are a design."""

import itertools
import json

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from tables import rng

from generators.autoregressive import Autoregressive
from generators.encoding.series import _spans
from generators.layout import Field, Layout, Sequences, SeriesLayout
from generators.series.hmm import HMM
from generators.series.lengths import Lengths
from generators.series.panel import Panel

SHORT = SeriesLayout(Layout((Field(2), Field(2))), Layout((Field(2),)), ((1, 1), (2, 3)))


def of(lengths: np.ndarray, k: int = 10) -> Lengths:
    layout = SeriesLayout(Layout((Field(1),)), Layout((Field(2),)), _spans(lengths, k))
    return Lengths(layout).fit(torch.from_numpy(lengths))


def drawn(lengths: np.ndarray, times: int = 1, k: int = 10) -> np.ndarray:
    """So many times as many numbers as there are."""
    found = of(lengths, k)
    return found.sample(found.layout.span(torch.from_numpy(lengths).repeat(times)), rng()).numpy()


def test_of_few_series_it_is_nearer_to_all_of_their_kind_than_they_are_themselves():
    stream, everybody = np.random.default_rng(0), np.random.default_rng(1).poisson(12, 50_000) + 1
    own, made = [], []
    for _ in range(20):
        few = stream.poisson(12, 100) + 1
        own.append(ks_2samp(few, everybody).statistic)
        made.append(ks_2samp(drawn(few, 5, k=1), everybody).statistic)
    assert np.mean(made) < 0.9 * np.mean(own)


@pytest.mark.parametrize("held", [(12, 24, 36), (7,), (3, 4)])
def test_numbers_of_a_design_stay(held):
    lengths = np.repeat(held, 60)
    assert (np.sort(drawn(lengths)) == np.sort(lengths)).all()


def test_multiples_stay_multiples_and_a_span_of_many_is_filled():
    even = 2 * np.random.default_rng(0).poisson(8, 300) + 2
    assert not (drawn(even, 10) % 2).any()
    wide = np.random.default_rng(0).integers(100, 2000, 300)
    assert len(np.unique(drawn(wide, 10))) > 1000


def test_nothing_beyond_what_so_many_reach_is_drawn():
    lengths = np.r_[1, 2, np.random.default_rng(2).poisson(20, 300) + 5, 90, 400]
    ordered, found = np.sort(lengths), drawn(lengths, 20)
    assert found.min() >= ordered[9] and found.max() <= ordered[-10]


@pytest.fixture(scope="module")
def panel() -> Panel:
    """Three numbers of steps, two words; near numbers are drawn too."""
    stream = np.random.default_rng(0)
    lengths = stream.choice([1, 2, 3], 400, p=[0.5, 0.3, 0.2])
    static = np.column_stack([lengths > 1, stream.random(400) < 0.3 * lengths])
    steps = stream.random((lengths.sum(), 1)) < 0.3
    x = Sequences(torch.from_numpy(static).float(), torch.from_numpy(lengths), torch.from_numpy(steps).float())
    made = Panel(SHORT, Autoregressive(SHORT.static, passes=5, width=16), HMM(SHORT, states=2, passes=3))
    made.fit(x[torch.arange(300)], x[torch.arange(300, 400)], rng=rng())
    made.lengths.restore([0.5, 0.6, 1])
    return made


def every() -> Sequences:
    """Every series that there is."""
    all_of = [(a, steps) for n in (1, 2, 3) for a in (0, 1) for steps in itertools.product((0, 1), repeat=n)]
    static = torch.tensor([(len(steps) > 1, a) for a, steps in all_of]).float()
    return Sequences(static, torch.tensor([len(s) for _, s in all_of]), torch.tensor([v for _, s in all_of for v in s]).float()[:, None])


def test_probabilities_of_series_sum_to_one_and_draws_are_as_probable(panel):
    x, n = every(), 40_000
    p = panel.log_prob(x).double().exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-4)
    made, found = panel.sample(n, rng=rng(3)), {}
    for static, steps in zip(made.static.tolist(), made.steps.split(made.lengths.tolist()), strict=True):
        key = (static[1], *steps[:, 0].tolist())
        assert static[0] == (len(steps) > 1)
        found[key] = found.get(key, 0) + 1 / n
    shares = [found.get((static[1], *steps[:, 0].tolist()), 0) for static, steps in zip(x.static.tolist(), x.steps.split(x.lengths.tolist()), strict=True)]
    assert max(abs(a - b) for a, b in zip(shares, p.tolist(), strict=True)) < 4 * (0.25 / n) ** 0.5


def test_restored_it_draws_the_same():
    found = of(np.random.default_rng(0).poisson(12, 200) + 1)
    assert found.share > 0
    again = Lengths(found.layout).restore(json.loads(json.dumps(found.state())))
    assert torch.equal(again.near, found.near)
