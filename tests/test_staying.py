"""A category that stays for long, stays in what is drawn: by tables of what follows what, held random numbers, and states that keep it."""

import numpy as np
import pytest
import torch
from tables import rng

from generators.codes import Codes
from generators.layout import Field, Layout, Sequences, SeriesLayout
from generators.registry import OF_SERIES
from generators.series.gmm import WindowMixture
from generators.series.hmm import HMM
from generators.series.holds import Holds, changes
from generators.series.ties import Ties

STEPS, KEPT = 8, 0.85
SHARES = np.array([0.5, 0.3, 0.15, 0.05])
STAGES = SeriesLayout(Layout((Field(1),)), Layout((Field(4), Field(cuts=()))), ((STEPS, STEPS),))
RATE = (1 - KEPT) * float(1 - (SHARES**2).sum())  # at which a stage is another than before: 0.095
TINY = {
    "hmm": {"passes": 8}, "gmm": {"passes": 15}, "autoregressive": {"passes": 20, "width": 48}, "vae": {"passes": 20, "width": 48},
    "gan": {"passes": 30, "width": 32, "depth": 1}, "diffusion": {"passes": 150, "width": 64, "depth": 2}, "marginals": {},
}  # fmt: skip


def stages(n: int, seed: int = 0) -> Sequences:
    """A stage that is kept, or drawn anew from SHARES; and a number that has nothing to do with it."""
    r = np.random.default_rng(seed)
    new, kept = r.choice(4, (n, STEPS), p=SHARES), r.random((n, STEPS)) < KEPT
    kept[:, 0] = False
    at = np.maximum.accumulate(np.where(kept, 0, np.arange(STEPS)), axis=1)
    steps = np.stack([np.take_along_axis(new, at, 1), r.normal(size=(n, STEPS))], 2)
    return Sequences(torch.zeros(n, 1), torch.full((n,), STEPS), torch.from_numpy(steps.reshape(-1, 2)).float())


def test_the_data_change_as_often_as_they_should():
    x = stages(20_000)
    assert float(changes(STAGES.step, x.steps, x.lengths)[0]) == pytest.approx(RATE, abs=0.003)


@pytest.mark.parametrize("family", OF_SERIES)
def test_what_stays_for_long_stays_in_what_is_drawn_from_few_series(family):
    """Of 150 series. Independent draws would change in 0.635 of the steps."""
    x = stages(150)
    model = OF_SERIES[family](STAGES, **TINY[family]).fit(x, stages(40, 1), rng=rng())
    many = stages(1000, 2)
    made = model.sample(many.static, many.lengths, rng=rng(1))
    assert float(changes(STAGES.step, made, many.lengths)[0]) == pytest.approx(RATE, abs=0.06)
    share = torch.bincount(made[:, 0].long(), minlength=4) / len(made)
    assert (share - torch.bincount(x.steps[:, 0].long(), minlength=4) / len(x.steps)).abs().max() < 0.06


def test_one_value_of_many_stays_where_no_random_number_could_keep_it():
    """Thirty intervals of a hidden number are so thin that a series' own course crosses them; so the class itself is kept."""
    layout = SeriesLayout(STAGES.static, Layout((Field(30), Field(cuts=()))), STAGES.spans)
    x = stages(300)
    wide = Sequences(x.static, x.lengths, torch.cat([(x.steps[:, :1] * 7 + torch.arange(300).repeat_interleave(STEPS)[:, None] % 7), x.steps[:, 1:]], 1))
    model = WindowMixture(layout, passes=15).fit(wide[torch.arange(240)], wide[torch.arange(240, 300)], rng=rng())
    many = torch.zeros(1000, 1), torch.full((1000,), STEPS)
    made = model.sample(*many, rng=rng(1))
    assert float(changes(layout.step, made, many[1])[0]) == pytest.approx(RATE, abs=0.04)


def test_ties_are_what_follows_what_beyond_what_is_frequent():
    x = stages(20_000)
    codes = Codes.single(STAGES.step, 8)
    now = codes.within(codes.encode(x.steps))
    before = torch.where((torch.arange(len(now)) % STEPS > 0)[:, None], now.roll(1, 0), -1)
    ties = Ties(codes)
    ties.start(now, before)
    p = torch.from_numpy(SHARES).float()
    wanted = KEPT * torch.eye(4) + (1 - KEPT) * p
    assert ties.fields == [0] and torch.allclose(ties.of(0, torch.arange(4)).exp() * p, wanted, atol=0.02)
    assert torch.allclose(ties.of(0, torch.tensor([-1])).exp()[0] * p, p, atol=0.02)  # first steps are as all others
    assert (ties.of(1, torch.tensor([3, -1])) == 0).all()
    few = Ties(codes)
    few.start(now[: 2 * STEPS], before[: 2 * STEPS])  # two series: what was never seen to follow is possible all the same
    assert torch.isfinite(few.tie_0).all()
    still = Ties(codes)  # and so it is where nobody ever changed: the first who does is not impossible
    stays = (torch.arange(400) // STEPS % 4)[:, None].expand(-1, 2)
    still.start(stays, torch.where((torch.arange(400) % STEPS > 0)[:, None], stays.roll(1, 0), -1))
    assert torch.isfinite(still.tie_0).all() and float(still.of(0, torch.tensor([0]))[0, 1].exp() * 0.25) < 0.01


def test_held_numbers_change_no_step_by_itself():
    layout = SeriesLayout(Layout((Field(1),)), Layout((Field(2),)), ((STEPS, STEPS),))
    chance = torch.linspace(0.1, 0.8, STEPS)

    def sample(static, lengths, rng):
        u = holds(torch.rand(len(lengths), STEPS, generator=rng), 0, rng)
        return (u < chance).float().reshape(-1, 1)

    holds = Holds(layout)
    holds.kept.fill_(0.6)
    n = 40_000
    many = torch.zeros(n, 1), torch.full((n,), STEPS)
    wanted = sample(*many, rng())
    holds.fit(Sequences(*many, wanted), sample, rng(1), 20_000)
    assert float(holds.kept[0]) == pytest.approx(0.6, abs=0.02)
    assert torch.allclose(sample(*many, rng(2)).view(n, STEPS).mean(0), chance, atol=0.01)


def test_a_state_tells_what_it_draws_from_what_was_kept():
    model = HMM(STAGES, states=1, chains=1, numbers="gaussian", passes=30).fit(stages(4000), stages(400, 1), rng=rng())
    leaf = model.leaves[0]
    assert float(leaf.kept[0]) == pytest.approx(KEPT, abs=0.02)
    assert torch.allclose(leaf.log_theta[:4, 0].exp(), torch.from_numpy(SHARES).float(), atol=0.02)
