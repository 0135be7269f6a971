"""What every family promises, whatever it is: one contract over a table of (family, layout, tiny arguments)."""

import json
import math

import numpy as np
import pytest
import torch
from tables import rng
from torch import nn

from generators.autoregressive import Autoregressive
from generators.base import Density
from generators.baselines import SDV
from generators.diffusion import Diffusion
from generators.flow import Flow
from generators.gan import GAN
from generators.gmm import GMM
from generators.layout import Field, Given, Layout
from generators.marginals import Marginals
from generators.registry import FAMILIES
from generators.vae import VAE

CUTS = tuple(torch.special.ndtri(torch.arange(1, 200) / 200).tolist())
MIXED = Layout((Field(3), Field(cuts=CUTS), Field(2), Field(gate=2, cuts=CUTS), Field(cuts=CUTS)))
DISCRETE = Layout((Field(3), Field(2), Field(5)))
CONTINUOUS = Layout((Field(cuts=CUTS), Field(cuts=CUTS), Field(cuts=CUTS)))
STEPS = Layout((Field(cuts=(-1.0, 0.0, 0.5, 1.0)), Field(2)))
SINGLE = Layout((Field(4),))
ALONE = Layout((Field(cuts=CUTS),))

TINY = {"passes": 60, "width": 64, "dropout": 0.2, "decay": 2.0, "rate": 0.008, "batch": 128}
CONTRACT = {
    "gmm mixed": (GMM, MIXED, {"passes": 4}),
    "gmm mixed, binned": (GMM, MIXED, {"numbers": "binned", "components": 12, "bins": 20, "passes": 4}),
    "gmm mixed, Gaussian": (GMM, MIXED, {"numbers": "gaussian", "components": 6, "passes": 4}),
    "gmm discrete": (GMM, DISCRETE, {"passes": 4}),
    "gmm continuous": (GMM, CONTINUOUS, {"passes": 4}),
    "gmm whole numbers": (GMM, STEPS, {}),
    "gmm one of k": (GMM, SINGLE, {}),
    "gmm one number": (GMM, ALONE, {}),
}
LAYOUTS = {"mixed": MIXED, "discrete": DISCRETE, "continuous": CONTINUOUS, "whole numbers": STEPS, "one of k": SINGLE, "one number": ALONE}
EVERYWHERE = {
    "autoregressive": (Autoregressive, TINY),
    "flow": (Flow, TINY | {"decay": 0.3}),
    "vae": (VAE, {"passes": 60, "width": 64, "latent": 8, "modes": 16, "batch": 128}),
    "gan": (GAN, {"passes": 300, "width": 64, "depth": 1, "noise": 16, "modes": 16, "batch": 256, "memory": 20}),
    "diffusion": (Diffusion, {"passes": 60, "width": 64, "depth": 1, "steps": 20, "batch": 64, "dropout": 0.0}),
    "marginals": (Marginals, {}),
    "sdv": (SDV, {}),
}
CONTRACT |= {f"{name} {kind}": (family, layout, tiny) for name, (family, tiny) in EVERYWHERE.items() for kind, layout in LAYOUTS.items()}
CONTRACT |= {f"sdv {model}": (SDV, MIXED, {"model": model, "epochs": 5}) for model in ("ctgan", "tvae")}
ROOM = {SDV: 4}  # how much less a baseline need be like the data
N = 1500


def data(layout: Layout, n: int = N, seed: int = 0) -> torch.Tensor:
    """Rows of a layout whose fields depend on one hidden group."""
    stream = np.random.default_rng(seed)
    group, x = stream.integers(0, 2, n), np.zeros((n, len(layout)), dtype=np.float32)
    for i, field in enumerate(layout.fields):
        if field.classes:
            p = np.arange(1, field.classes + 1) / sum(range(field.classes + 1))
            x[:, i] = np.where(group, stream.choice(field.classes, n, p=p), stream.choice(field.classes, n, p=p[::-1]))
        else:
            x[:, i] = stream.normal(1.6 * group - 0.8, 0.6)
    x = torch.from_numpy(x)
    return x * layout.active(x)


@pytest.fixture(scope="module", params=CONTRACT, ids=list(CONTRACT))
def case(request):
    """(fitted model, its class, layout, arguments): fitted once for the whole contract."""
    family, layout, arguments = CONTRACT[request.param]
    if family is SDV:
        pytest.importorskip("ctgan")
    return fit(family, layout, arguments), family, layout, arguments


def fit(family, layout, arguments, seed: int = 0):
    return family(layout, **arguments).fit(data(layout), data(layout, 300, seed=1), rng=rng(seed))


def bytes_of(model) -> bytes:
    return b"".join(k.encode() + v.contiguous().numpy().tobytes() for k, v in model.state_dict().items())


def test_every_family_is_under_contract():
    assert {family for family, *_ in CONTRACT.values()} == set(FAMILIES.values())


def test_is_a_module_without_gradients_left(case):
    model, family, layout, _ = case
    assert isinstance(model, nn.Module)
    assert isinstance(model, family)
    assert model.layout == layout
    assert all(torch.isfinite(v).all() for k, v in model.state_dict().items() if k.split(".")[-2:-1] != ["edges"])


def test_samples_are_rows_of_the_layout(case):
    model, _, layout, _ = case
    for n in (0, 1, 7, 1000):
        x = model.sample(n, rng=rng())
        assert x.shape == (n, len(layout))
        assert x.dtype == torch.float32
        assert torch.isfinite(x).all()
        assert (x[~layout.active(x)] == 0).all()
        for i in layout.discrete:
            assert ((x[:, i] == x[:, i].round()) & (x[:, i] >= 0) & (x[:, i] < layout.fields[i].classes)).all()


def test_samples_are_like_the_data(case):
    """Margins, and correlations, which the hidden group makes."""
    model, family, layout, arguments = case
    if "epochs" in arguments:
        pytest.skip("a baseline of a few epochs; test_baselines.py compares it with its library")
    real, x, room = data(layout, 20_000, seed=2), model.sample(20_000, rng=rng()), ROOM.get(family, 1)
    for i in layout.discrete:
        share = [torch.bincount(v[:, i].long(), minlength=layout.fields[i].classes) / len(v) for v in (real, x)]
        assert (share[0] - share[1]).abs().max() < 0.05 * room
    for i in layout.continuous:
        levels = torch.linspace(0.05, 0.95, 19)
        assert (torch.quantile(real[:, i], levels) - torch.quantile(x[:, i], levels)).abs().max() < 0.25 * room
    if len(layout) > 1:
        assert (torch.corrcoef(real.t()) - torch.corrcoef(x.t())).abs().max() < 0.12 * room


def test_same_stream_same_bytes(case):
    model, family, layout, arguments = case
    assert bytes_of(fit(family, layout, arguments)) == bytes_of(model)
    assert model.sample(300, rng=rng(3)).numpy().tobytes() == model.sample(300, rng=rng(3)).numpy().tobytes()
    assert model.sample(300, rng=rng(3)).numpy().tobytes() != model.sample(300, rng=rng(4)).numpy().tobytes()


def test_leaves_no_trace_outside(case):
    """Neither the global random streams, nor the number of threads, nor the data that it learned from."""
    _, family, layout, arguments = case
    short = {SDV: {"epochs": 1}, Marginals: {"rounds": 1}}.get(family, {"passes": 1})
    x, held_out = data(layout), data(layout, 300, seed=1)
    before = x.clone(), held_out.clone(), torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    model = family(layout, **arguments | short).fit(x, held_out, rng=rng())
    model.sample(10, rng=rng())
    after = x, held_out, torch.get_rng_state(), np.random.get_state()[1], torch.get_num_threads()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_saves_as_json_and_tensors(case):
    model, family, layout, arguments = case
    again = family(Layout.from_json(json.loads(json.dumps(layout.to_json()))), **arguments)
    again.restore(json.loads(json.dumps(model.structure())), {k: v.clone() for k, v in model.state_dict().items()})
    assert bytes_of(again) == bytes_of(model)
    assert torch.equal(again.sample(200, rng=rng()), model.sample(200, rng=rng()))


def test_what_is_given_is_held(case):
    """A condition on each field alone, and a different one in each row."""
    model, _, layout, _ = case
    rows = data(layout, 40, seed=5)
    for i in range(len(layout)):
        mask = torch.zeros(len(layout), dtype=torch.bool)
        mask[[i] if layout.fields[i].gate is None else [layout.fields[i].gate, i]] = True
        x = model.sample(len(rows), Given(rows * mask, mask), rng=rng())
        assert torch.equal(x[:, mask], rows[:, mask])
        assert (x[~layout.active(x)] == 0).all()
    everything = torch.ones(len(layout), dtype=torch.bool)
    assert torch.equal(model.sample(1, Given(model.sample(1, rng=rng()), everything), rng=rng())[0], model.sample(1, rng=rng())[0])


def test_a_density_knows_the_data(case):
    """Finite on all rows, more on rows like the data than on rows whose fields were shuffled apart."""
    model, _, layout, _ = case
    if not isinstance(model, Density):
        pytest.skip("not a density")
    real = data(layout, 2000, seed=3)
    log_p = model.log_prob(real)
    assert log_p.shape == (2000,)
    assert torch.isfinite(log_p).all()
    if len(layout) > 1:
        order = [torch.randperm(2000, generator=rng(i)) for i in range(len(layout))]
        apart = torch.stack([real[o, i] for i, o in enumerate(order)], 1)
        apart = apart * layout.active(apart)
        assert log_p.mean() > model.log_prob(apart).mean() + 0.02
    again = torch.cat([model.log_prob(part) for part in real.split(123)])
    assert torch.allclose(again, log_p, atol=1e-4)


def test_tells_its_training(case):
    model, *_ = case
    assert model.curve
    for tried in model.curve:
        assert all(math.isfinite(v) for v in tried["held_out"])
    json.dumps(model.curve)
