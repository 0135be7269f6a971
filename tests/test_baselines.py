"""The SDV baselines draw what their own libraries draw, and what is kept of them holds no row."""

import numpy as np
import pytest
import torch
from tables import rng
from test_generators import MIXED, data

from generators.baselines import SDV
from generators.layout import Given

ctgan = pytest.importorskip("ctgan")


@pytest.mark.parametrize("name", ["ctgan", "tvae"])
def test_samples_are_those_of_the_library(name, monkeypatch):
    kind, kept = {"ctgan": ctgan.CTGAN, "tvae": ctgan.TVAE}[name], []
    fit = kind.fit
    monkeypatch.setattr(kind, "fit", lambda self, *given: (kept.append(self), fit(self, *given))[1])
    model = SDV(MIXED, model=name, epochs=30).fit(data(MIXED), data(MIXED, 300, seed=1), rng=rng())
    (model.net).eval()
    theirs = torch.tensor(np.asarray(kept[0].sample(20_000), dtype=float)).float()
    theirs[~MIXED.active(theirs)] = 0
    ours = model.sample(20_000, rng=rng())
    for i in MIXED.discrete:
        share = [torch.bincount(v[:, i].long(), minlength=MIXED.fields[i].classes) / len(v) for v in (ours, theirs)]
        assert (share[0] - share[1]).abs().max() < 0.02
    levels = torch.linspace(0.05, 0.95, 19)
    for i in MIXED.continuous:
        assert (torch.quantile(ours[:, i], levels) - torch.quantile(theirs[:, i], levels)).abs().mean() < 0.05


def test_the_copula_has_the_margins_and_ranks_of_the_library():
    real, model = data(MIXED), SDV(MIXED).fit(data(MIXED), data(MIXED, 300, seed=1), rng=rng())
    made = model.sample(20_000, rng=rng())
    for i in MIXED.discrete:
        share = [torch.bincount(v[:, i].long(), minlength=MIXED.fields[i].classes) / len(v) for v in (real, made)]
        assert (share[0] - share[1]).abs().max() < 0.03
    assert (torch.corrcoef(real.t()) - torch.corrcoef(made.t())).abs().max() < 0.2


@pytest.mark.parametrize("arguments", [{}, {"model": "ctgan", "epochs": 2}, {"model": "tvae", "epochs": 2}], ids=lambda a: a.get("model", "copula"))
def test_nothing_of_a_row_is_kept(arguments):
    """No tensor that is saved is as long as the training rows, and none holds a number of one."""
    rows = data(MIXED, 997)
    model = SDV(MIXED, **arguments).fit(rows, rows[:50], rng=rng())
    numbers = set(rows[:, 1].tolist())
    for value in model.state_dict().values():
        assert 997 not in value.shape and not numbers & set(value.float().flatten().tolist())


def test_rows_with_a_number_that_is_asked_for_are_many():
    model = SDV(MIXED).fit(data(MIXED), data(MIXED, 300, seed=1), rng=rng())
    x = model.sample(100, Given(torch.full((100, 5), 0.3), torch.tensor([False, True, False, False, False])), rng=rng())
    assert len(torch.unique(x, dim=0)) > 50 and (x[:, 1] == 0.3).all()


def test_what_cannot_be_met_is_counted():
    model = SDV(MIXED).fit(data(MIXED), data(MIXED, 300, seed=1), rng=rng())
    never = torch.zeros(3, 5)
    never[2, 0] = 7
    with pytest.raises(ValueError, match="2 of 3 rows can be as asked"):
        model.sample(3, Given(never, torch.tensor([True, False, False, False, False])), rng=rng())


def test_bad_arguments():
    with pytest.raises(ValueError, match="model: found 'ctgam', expected one of gaussian-copula, ctgan, tvae"):
        SDV(MIXED, model="ctgam")
