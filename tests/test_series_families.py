"""What every family of series promises: one contract over a table of (family, layout, tiny arguments)."""

import json

import numpy as np
import pytest
import torch
from longitudinal import MIXED, SIGNAL, WORDS, sequences
from tables import rng

from generators.base import Density
from generators.layout import Sequences
from generators.registry import OF_SERIES
from generators.series.autoregressive import Recurrent
from generators.series.diffusion import Denoised
from generators.series.gan import Adversarial
from generators.series.gmm import WindowMixture
from generators.series.hmm import HMM
from generators.series.marginals import Markov
from generators.series.vae import Latent

LAYOUTS = {"mixed": MIXED, "signal": SIGNAL, "words": WORDS}
FAMILIES = {
    "hmm": (HMM, {"passes": 6}), "gmm": (WindowMixture, {"passes": 15}), "autoregressive": (Recurrent, {"passes": 25, "width": 48, "rate": 0.01}),
    "vae": (Latent, {"passes": 40, "width": 48, "rate": 0.01}), "gan": (Adversarial, {"passes": 40, "width": 48, "depth": 1}),
    "diffusion": (Denoised, {"passes": 60, "width": 48, "depth": 2, "rate": 0.005}), "marginals": (Markov, {}),
}  # fmt: skip
CONTRACT = {f"{name} {kind}": (family, layout, tiny) for name, (family, tiny) in FAMILIES.items() for kind, layout in LAYOUTS.items()}
CONTRACT |= {f"hmm {numbers}": (HMM, MIXED, {"numbers": numbers, "states": 8, "chains": 2, "passes": 6}) for numbers in ("binned", "gaussian", "regression")}
EACH = pytest.mark.parametrize("case", CONTRACT)
_fitted: dict = {}


def model(case: str):
    if case not in _fitted:
        family, layout, arguments = CONTRACT[case]
        _fitted[case] = family(layout, **arguments).fit(sequences(layout), sequences(layout, 80, seed=1), rng=rng())
    return _fitted[case]


def drawn(case: str, n: int = 300, seed: int = 0) -> Sequences:
    like = sequences(CONTRACT[case][1], n, seed=5)
    return Sequences(like.static, like.lengths, model(case).sample(like.static, like.lengths, rng=rng(seed)))


def test_every_family_is_in_the_table():
    assert {family for family, *_ in CONTRACT.values()} == set(OF_SERIES.values())


@EACH
def test_draws_are_of_the_layout_and_what_is_switched_off_is_0(case):
    layout, x = CONTRACT[case][1], drawn(case)
    assert x.steps.shape == (int(x.lengths.sum()), len(layout.step)) and torch.isfinite(x.steps).all()
    for i, field in enumerate(layout.step.fields):
        if field.classes:
            assert x.steps[:, i].min() >= 0 and x.steps[:, i].max() < field.classes and (x.steps[:, i] == x.steps[:, i].round()).all()
        if field.gate is not None:
            assert (x.steps[x.steps[:, field.gate] != 0, i] == 0).all()


@EACH
def test_same_seed_same_draws(case):
    assert torch.equal(drawn(case).steps, drawn(case).steps)
    assert not torch.equal(drawn(case).steps, drawn(case, seed=1).steps)


@EACH
def test_draws_are_like_the_data(case):
    """Margins, what a step has to do with the one before, and with what stays."""
    layout, real = CONTRACT[case][1], sequences(CONTRACT[case][1])  # what was learned from: another sample has other groups
    x = Sequences(real.static, real.lengths, model(case).sample(real.static, real.lengths, rng=rng()))
    whose = torch.repeat_interleave(torch.arange(len(real)), real.lengths)
    same = whose[1:] == whose[:-1]
    group = real.static[whose, -1]
    for i, field in enumerate(layout.step.fields):
        if field.classes:
            shares = [torch.bincount(t.steps[:, i].long(), minlength=field.classes) / len(t.steps) for t in (real, x)]
            assert (shares[0] - shares[1]).abs().max() < 0.08
            continue
        on = layout.step.active(real.steps)[:, i], layout.step.active(x.steps)[:, i]
        a, b = real.steps[on[0], i], x.steps[on[1], i]
        assert abs(float(a.mean() - b.mean())) < 0.2 and abs(float(a.std() - b.std())) < 0.2
        if field.gate is None:
            lag = [np.corrcoef(t.steps[1:, i][same], t.steps[:-1, i][same])[0, 1] for t in (real, x)]
            assert abs(lag[0] - lag[1]) < 0.2
            if len(layout.static) > 1:
                apart = [float(t.steps[group == 1, i].mean() - t.steps[group == 0, i].mean()) for t in (real, x)]
                assert abs(apart[0] - apart[1]) < 0.45


@EACH
def test_saved_and_restored_it_draws_the_same(case):
    family, layout, arguments = CONTRACT[case]
    before = model(case)
    again = family(layout, **arguments).restore(json.loads(json.dumps(before.structure())), {k: v.clone() for k, v in before.state_dict().items()})
    like = sequences(layout, 20, seed=6)
    assert torch.equal(*(m.sample(like.static, like.lengths, rng=rng(3)) for m in (before, again)))


@pytest.mark.parametrize("case", [case for case, (family, *_) in CONTRACT.items() if family in (HMM, Recurrent)])
def test_a_density_tells_series_of_the_kind_from_shuffled_ones(case):
    fitted = model(case)
    assert isinstance(fitted, Density)
    x = sequences(CONTRACT[case][1], 200, seed=7)
    likely = fitted.log_prob(x)
    assert likely.shape == (200,) and torch.isfinite(likely).all()
    shuffled = Sequences(x.static, x.lengths, x.steps[torch.randperm(len(x.steps), generator=rng())])
    assert likely.mean() > fitted.log_prob(shuffled).mean() + 0.5


@EACH
def test_one_series_and_none(case):
    layout = CONTRACT[case][1]
    like = sequences(layout, 1, seed=8)
    assert len(model(case).sample(like.static, like.lengths, rng=rng())) == int(like.lengths)


def test_a_killed_training_goes_on_to_the_same_series(tmp_path):
    class Killed(BaseException):
        pass

    def fit(log=lambda line: None, path=None):
        return Recurrent(MIXED, passes=6, width=16).fit(sequences(MIXED, 80), sequences(MIXED, 30, seed=1), rng=rng(), log=log, checkpoint=path)

    lines = []

    def kill(line):
        lines.append(line)
        if len(lines) == 3:
            raise Killed

    path = tmp_path / "c.safetensors"
    with pytest.raises(Killed):
        fit(kill, path)
    assert path.is_file()
    whole, resumed = fit(), fit(path=path)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)) and not path.exists()


def test_futures_begin_alike_and_go_on_as_the_data_do():
    """Of series that begin high the next step is high, as in the data; and none of the kept steps is touched."""
    from generators.autoregressive import Autoregressive
    from generators.series.panel import Panel

    panel = Panel(MIXED, Autoregressive(MIXED.static, passes=5), model("autoregressive mixed"))
    panel.static.fit(sequences(MIXED).static, sequences(MIXED, 80, seed=1).static, rng=rng())
    x = panel.futures(300, 3, 4, rng=rng())
    assert len(x) == 1200
    moment = torch.cat([torch.arange(n) for n in x.lengths.tolist()])
    series = torch.repeat_interleave(torch.arange(1200), x.lengths)
    kept = x.steps[moment < 3]
    of = series[moment < 3] // 4
    first = torch.searchsorted(of, of)
    rank = torch.arange(len(of)) - first
    size = torch.bincount(of)[of] // 4
    assert torch.equal(kept, kept[first + rank % size])
    later = (moment == 3).nonzero()[:, 0]
    assert len(torch.unique(x.steps[later, 1])) > 0.6 * len(later)
    real = sequences(MIXED, 600, seed=5)
    at = (torch.cat([torch.arange(n) for n in real.lengths.tolist()]) == 3).nonzero()[:, 0]
    lag = [np.corrcoef(t[i, 1], t[i - 1, 1])[0, 1] for t, i in ((real.steps, at), (x.steps, later))]
    assert abs(lag[0] - lag[1]) < 0.15
    whole = Panel(MIXED, panel.static, model("gmm mixed"))
    with pytest.raises(TypeError, match="draws whole series"):
        whole.futures(3, 1, 2, rng=rng())
