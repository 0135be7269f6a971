"""Series as dense tensors: what is carried on where a number is missing, masks, points of classes, margins that are set right."""

import pytest
import torch
from longitudinal import MIXED, SIGNAL, WORDS, sequences
from tables import rng

from generators.layout import Field, Layout, Sequences, SeriesLayout, moments
from generators.nets import Stays
from generators.series.margins import Margins
from generators.series.tracks import Tracks, Trunk
from generators.streams import stream


def test_missing_numbers_are_carried_on_within_their_series():
    layout = SeriesLayout(Layout((Field(1),)), Layout((Field(2), Field(gate=0))), ((1, 4),))
    gone, x = [0, 1, 1, 0, 1, 0, 1, 1], [5.0, 0, 0, 6, 0, 7, 0, 0]
    steps = torch.tensor([gone, x]).t().contiguous()
    filled = Tracks(layout).filled(Sequences(torch.zeros(3, 1), torch.tensor([4, 2, 2]), steps))
    assert filled[:, 1].tolist() == [5, 5, 5, 6, 7, 7, 0, 0]  # from before, from after, and where there is nothing
    assert torch.equal(filled[:, 0], steps[:, 0])


@pytest.mark.parametrize("layout", [MIXED, SIGNAL, WORDS])
def test_tracks_there_and_back(layout):
    with stream(0):
        tracks = Tracks(layout)
    x = sequences(layout, 40)
    dense, mask = tracks.dense(x.steps, x.lengths)
    assert dense.shape == (40, layout.longest, len(layout.step)) and torch.equal(mask.sum((1, 2)).long(), x.lengths)
    assert torch.equal(tracks.steps_of(dense, x.lengths), x.steps)
    placed = tracks.placed(dense).split(tracks.widths, 2)
    for j, k in enumerate(tracks.sizes):
        if k:
            assert torch.equal(torch.cdist(placed[j].flatten(0, 1), tracks.points(j)).argmin(1).view(40, -1), dense[:, :, j].long())
            assert torch.allclose(tracks.points(j).square().mean(1), torch.ones(k))


@pytest.mark.parametrize("longest", [7, 40, 140])
def test_nothing_behind_the_end_or_of_another_series_is_looked_at(longest):
    with stream(0):
        trunk = Trunk(longest, 2, 3, 16, 2, 0.0).eval()
        for p in trunk.parameters():
            torch.nn.init.normal_(p, std=0.2)
    x, condition = torch.randn(4, longest, 2), torch.randn(4, 16)
    lengths = torch.tensor([longest, 5, 3, 1])
    mask = (torch.arange(longest) < lengths[:, None])[:, :, None].float()
    before = trunk(x, mask, condition)
    other = torch.where(mask.bool(), x, torch.full_like(x, 99.0))
    other[0] = 7.0
    after = trunk(other, mask, condition)
    assert torch.allclose((before * mask)[1:], (after * mask)[1:], atol=1e-5) and not torch.allclose(before[0], after[0])
    assert not torch.allclose(before[1, :5], trunk(x, mask, condition + 1)[1, :5])


def test_what_stays_is_a_vector():
    x = sequences(MIXED, 30).static
    with stream(0):
        stays = Stays(MIXED.static, 8)
    found = stays(x)
    assert found.shape == (30, 8)
    assert all(torch.equal(found[i], found[j]) == torch.equal(x[i], x[j]) for i in range(10) for j in range(10))


def test_margins_are_set_right():
    x = sequences(MIXED, 400)

    def sample(static, lengths, rng):
        steps = torch.randn(int(lengths.sum()), len(MIXED.step), generator=rng)
        steps[:, 0], steps[:, 2] = 1, (steps[:, 2] > 0.5).float()
        return steps * MIXED.step.active(steps)

    margins = Margins(MIXED)
    assert torch.allclose(margins(x.steps.clone()), x.steps, atol=1e-6)  # as they are, before anything is learned
    margins.fit(x, sample, rng())
    made = margins(sample(x.static, x.lengths, rng(5)))
    for i in MIXED.step.continuous:
        a, b = x.steps[MIXED.step.active(x.steps)[:, i], i], made[MIXED.step.active(made)[:, i], i]
        shares = torch.linspace(0.05, 0.95, 19)
        assert (torch.quantile(a, shares) - torch.quantile(b, shares)).abs().max() < 0.15
    assert moments(x.lengths).max() + 1 == MIXED.longest
