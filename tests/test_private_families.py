"""Every family of tables that can be learned under differential privacy: nothing reaches it but answers, and what one row changes in them is bounded."""

import pytest
import torch
from deaf import Deaf, Lone, farthest
from tables import chained, rng

from generators.building import private
from generators.layout import Field, Layout
from generators.registry import FAMILIES
from privacy.accounting import Steps
from privacy.mechanism import Private

CUTS = tuple(torch.special.ndtri(torch.arange(1, 100) / 100).tolist())
MIXED = Layout((Field(3), Field(2), Field(gate=1, cuts=CUTS), Field(4), Field(cuts=CUTS)))
ABLE = private(Layout)
SMALL = {"marginals": {"rounds": 4}, "gmm": {"components": 4, "bins": 6}} | {
    f: {"width": 12, "bins": 6, "passes": 0.2} for f in ("autoregressive", "vae", "diffusion")
}
MUCH = 1e5  # rho with which noise is next to none


def learned(family: str, x: torch.Tensor, ask) -> torch.nn.Module:
    return FAMILIES[family](MIXED, **SMALL[family]).fit(x, x[:0], rng=rng(), mechanism=ask)


@pytest.mark.parametrize("family", ABLE)
def test_nothing_but_answers_reaches_the_model(family):
    """Two tables that have nothing to do with each other, and not even as many rows, give the same model where the same is answered."""
    one, other = (learned(family, chained(MIXED, n, seed), Deaf()) for n, seed in ((60, 0), (41, 1)))
    assert one.curve == other.curve
    states = [m.state_dict() for m in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert torch.equal(one.sample(50, rng=rng()), other.sample(50, rng=rng()))


@pytest.mark.parametrize("family", ABLE)
def test_one_row_more_changes_no_question_by_more_than_it_says(family):
    """A row that is unlike all others, as the last one: counts, sums and scores move by their norm at most, and what it adds to a step is no more."""
    x, heard = chained(MIXED, 50), []
    odd = torch.tensor([[2.0, 0.0, 3.0, 3.0, -3.5]])
    for rows in (x, torch.cat([x, odd])):
        heard.append(Lone())
        learned(family, rows, heard[-1])
    moved = farthest(*heard)
    assert all(0 < far <= 1 + 1e-5 for far in moved.values()), moved
    assert moved["counts"] == 1
    assert {"marginals": "choice", "gmm": "sums"}.get(family, "step") in moved


@pytest.mark.parametrize("family", ABLE)
def test_with_hardly_any_noise_it_learns(family):
    """Margins, and that a number is high where the class before it is."""
    x = chained(MIXED, 2000)
    trained = {"passes": 60 if family == "diffusion" else 30, "rate": 0.01, "width": 32, "bins": 8}
    many = {"marginals": {"rounds": 8}, "gmm": {"components": 12, "bins": 8}}.get(family, trained)
    training = Steps(1e-3, 0.1, 10 * many["passes"]) if many is trained else None
    model = FAMILIES[family](MIXED, **many)
    if training:
        model.descent = type(model.descent)(chance=0.1, norm=10.0)  # so that hardly any gradient is cut
    model.fit(x, x[:0], rng=rng(), mechanism=Private(MUCH, 1, 1e-9, training))
    drawn = model.sample(4000, rng=rng())
    for j in MIXED.discrete:
        share = [torch.bincount(v[:, j].long(), minlength=4) / len(v) for v in (x, drawn)]
        assert (share[0] - share[1]).abs().max() < 0.06, j
    real, made = (torch.corrcoef(torch.stack([v[:, 3], v[:, 4]]))[0, 1] for v in (x, drawn))
    assert abs(real - made) < 0.2


@pytest.mark.parametrize("family", [f for f in ABLE if f not in ("marginals", "gmm")])
def test_no_more_steps_are_taken_than_were_agreed_on(family):
    with pytest.raises(ValueError, match="after the last one of the training"):
        learned(family, chained(MIXED, 60), Private(1.0, 1, 1e-9, Steps(1.0, 0.02, 9)))
    with pytest.raises(ValueError, match="no training that was agreed on"):
        learned(family, chained(MIXED, 60), Private(1.0, 1, 1e-9))
    with pytest.raises(ValueError, match="expected one row: a step knows rows alone"):
        Private(1.0, 2, 1e-9, Steps(1.0, 0.02, 9))


def test_batches_are_drawn_by_chance():
    """Every row with the same chance, whatever else is in a batch: sizes are binomial, and a row comes as often as another."""
    ask, n, chance = Private(1.0, 1, 0.0, Steps(1.0, 0.1, 1)), 500, 0.1
    batches = [ask.batch(n) for _ in range(2000)]
    sizes = torch.tensor([float(len(b)) for b in batches])
    assert abs(float(sizes.mean()) - n * chance) < 1
    assert abs(float(sizes.var()) / (n * chance * (1 - chance)) - 1) < 0.15  # shuffled batches would all be of one size
    often = torch.bincount(torch.cat(batches), minlength=n).double() / 2000
    assert float((often - chance).abs().max()) < 5 * (chance * (1 - chance) / 2000) ** 0.5


def test_a_step_has_the_noise_that_was_agreed_on():
    ask = Private(1.0, 1, 0.0, Steps(2.5, 0.1, 1))
    noise = ask.step(torch.zeros(100_000), 3.0)
    assert abs(float(noise.std()) / 7.5 - 1) < 0.015
