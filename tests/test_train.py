"""The one training loop: it finds the minimum, keeps the best, resumes to the same weights, and says when it diverges."""

import time
from dataclasses import replace

import pytest
import torch
from tables import rng
from torch import nn

from generators.data import DataError
from generators.train import Plan, train

ROWS = 512


class Line(nn.Module):
    """y = w x + b, with dropout on x so that the random stream matters."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 1)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, x):
        return self.line(nn.functional.dropout(x, 0.1, self.training))[:, 0]


X = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, -2.0, 0.5]) + 0.3
PLAN = Plan(passes=30, batch=64, rate=0.05, patience=100)


def fit(plan: Plan = PLAN, **options) -> tuple[Line, list[float]]:
    model = Line()
    scores = train(model, {"": lambda i, done: ((model(X[i]) - Y[i]) ** 2).mean()}, ROWS, plan, rng=rng(7), score=lambda: -((model(X) - Y) ** 2), **options)
    return model, scores


def weights(model: nn.Module) -> list[float]:
    return [v.tolist() for v in model.state_dict().values()]


def test_finds_the_minimum_and_ends_with_the_best_averaged_weights():
    model, scores = fit()
    assert scores[-1] > scores[0] and max(scores) > -0.05 and not model.training
    kept = -((model(X) - Y) ** 2).mean().item()
    assert any(kept == pytest.approx(score) for score in scores) and kept > max(scores) - 1e-3


def test_same_stream_same_weights_and_nothing_left_outside():
    assert weights(fit()[0]) == weights(fit()[0])
    model, before = Line(), torch.get_rng_state()
    train(model, {"": lambda i, done: ((model(X[i]) - Y[i]) ** 2).mean()}, ROWS, PLAN, rng=rng())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("after", [1, 7, 29])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, after):
    path = tmp_path / "checkpoint.safetensors"

    class Killed(BaseException):
        pass

    def kill(line: str) -> None:
        if line.startswith(f"round {after} "):
            raise Killed

    with pytest.raises(Killed):
        fit(log=kill, checkpoint=path)
    assert path.is_file()
    lines: list[str] = []
    model, scores = fit(log=lines.append, checkpoint=path)
    whole, expected = fit()
    assert weights(model) == weights(whole) and scores == expected
    assert lines[0].startswith(f"round {after + 1} of 30") and not path.exists()


def test_a_checkpoint_of_another_training_is_not_taken(tmp_path):
    path = tmp_path / "checkpoint.safetensors"

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(log=stop, checkpoint=path)
    model = Line()
    train(model, {"": lambda i, done: ((model(X[i]) - Y[i]) ** 2).mean()}, ROWS, PLAN, rng=rng(8), checkpoint=path)
    fresh = Line()
    train(fresh, {"": lambda i, done: ((fresh(X[i]) - Y[i]) ** 2).mean()}, ROWS, PLAN, rng=rng(8))
    assert weights(model) == weights(fresh)


def test_stops_when_nothing_gets_better():
    model = Line()
    scores = train(
        model, {"": lambda i, done: (model(X[i]) ** 2).mean()}, ROWS, Plan(passes=50, batch=64, rate=0.01, patience=3), rng=rng(), score=lambda: torch.ones(5)
    )
    assert len(scores) == 4


def test_keeps_to_a_time_budget():
    _, scores = fit(Plan(passes=10**6, batch=64, rate=0.05, minutes=0.02, patience=10**6))
    assert 1 < len(scores) < 10_000 and max(scores) > -0.05  # the rate has come down by then


def test_two_players_learn_their_own_parts_only():
    model = nn.ModuleDict({"one": nn.Linear(3, 1), "other": nn.Linear(3, 1)})
    before = model["other"].weight.detach().clone()
    train(model, {"one": lambda i, done: (model["one"](X[i]) + model["other"](X[i])).square().mean()}, ROWS, PLAN, rng=rng())
    assert torch.equal(model["other"].weight, before)


def test_divergence_is_named():
    model = Line()
    with pytest.raises(DataError, match=r"diverged: the loss is nan in round 1, step 1; try a rate below 0\.05"):
        train(model, {"": lambda i, done: model(X[i]).mean() * float("nan")}, ROWS, PLAN, rng=rng())


def test_minutes_end_a_training_in_the_middle_of_a_round():
    """A round of a thousand slow steps is not waited for."""
    model, steps = Line(), []

    def slow(i, done):
        steps.append(time.sleep(0.002))
        return ((model(X[i]) - Y[i]) ** 2).mean()

    train(model, {"": slow}, ROWS, replace(PLAN, batch=1, minutes=0.05 / 60), rng=rng())
    assert len(steps) < 40 < ROWS


def test_divergence_that_stays_a_number_is_named():
    """The loss is told nothing of it, but held-out rows score far worse than before."""
    model = Line()
    scores = iter([-2.0, -90.0, -50.0, -40.0, -30.0, -20.0, -10.0, *[-9.0] * 100])
    with pytest.raises(DataError, match=r"diverged: held-out rows score -9 at best, and -2 before the training; try a rate below"):
        train(model, {"": lambda i, done: model(X[i]).square().mean()}, ROWS, PLAN, rng=rng(), score=lambda: torch.full((5,), next(scores)))
    with pytest.raises(DataError, match=r"diverged: held-out rows score nan in round 1"):
        train(Line(), {"": lambda i, done: model(X[i]).square().mean()}, ROWS, PLAN, rng=rng(), score=lambda: torch.full((5,), float("nan")))
