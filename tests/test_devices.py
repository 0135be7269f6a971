"""Trained on a GPU, drawn on a CPU: on a real GPU where there is one, and everywhere on a CPU that passes for one (see pretend)."""

import contextlib

import longitudinal
import pytest
import torch
from pretend import GPU, Pretend
from tables import rng
from test_generators import MIXED, data

from generators import neural
from generators.base import Density
from generators.layout import Sequences
from generators.neural import Neural
from generators.registry import FAMILIES, OF_SERIES

NEURAL = [name for name, family in FAMILIES.items() if issubclass(family, Neural)]
NEURAL_SERIES = [name for name, family in OF_SERIES.items() if issubclass(family, Neural)]
REAL = pytest.param("real", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))


@pytest.fixture(params=["pretended", REAL])
def gpu(request, monkeypatch):
    """The context in which there is a GPU."""
    if request.param == "real":
        return contextlib.nullcontext()
    monkeypatch.setattr(neural, "device", lambda: GPU)
    return Pretend()


def test_what_a_gpu_refuses_is_refused():
    with Pretend():
        far, near = torch.ones(3, device="cuda"), torch.ones(3)
        assert (far * 2 + torch.ones(())).device.type == "cuda" and far.cpu().device.type == near.device.type == "cpu"
        assert far[torch.tensor([0, 1])].device.type == "cuda"  # places may stand on the CPU
        for wrong in (
            lambda: far + near, lambda: torch.cat([far, near]), lambda: near[far.long()], lambda: far.add_(near), lambda: torch.nn.Linear(3, 2)(far),
            lambda: torch.randn(2, generator=rng(), device="cuda"), lambda: far.__setitem__(slice(None), near),
        ):  # fmt: skip
            with pytest.raises(RuntimeError):
                wrong()
        with pytest.raises(TypeError):
            far.numpy()
        assert torch.nn.Linear(3, 2).to("cuda")(far).device.type == "cuda"


@pytest.mark.parametrize("family", NEURAL)
def test_a_table_learned_on_a_gpu_is_drawn_on_a_cpu(family, gpu):
    with gpu:
        rows = data(MIXED, 300)
        model = FAMILIES[family](MIXED, passes=1).fit(rows, data(MIXED, 60, seed=1), rng=rng())
        drawn = model.sample(50, rng=rng(1))
        assert model.device == "cuda" and {v.device.type for v in (*model.state_dict().values(), drawn)} == {"cpu"}
        assert drawn.isfinite().all()
        if isinstance(model, Density):
            here, there = model.log_prob(rows), model.to("cuda").log_prob(rows.to("cuda"))
            assert there.device.type == "cuda" and torch.allclose(here, there.cpu(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("family", NEURAL_SERIES)
def test_series_learned_on_a_gpu_are_drawn_on_a_cpu(family, gpu):
    with gpu:
        layout = longitudinal.MIXED
        x = longitudinal.sequences(layout, 60)
        model = OF_SERIES[family](layout, passes=1).fit(x, longitudinal.sequences(layout, 20, seed=1), rng=rng())
        steps = model.sample(x.static, x.lengths, rng=rng(1))
        assert model.device == "cuda" and {v.device.type for v in (*model.state_dict().values(), steps)} == {"cpu"}
        assert steps.isfinite().all() and steps.shape == x.steps.shape
        if isinstance(model, Density):
            here, there = model.log_prob(x), model.to("cuda").log_prob(Sequences(x.static.to("cuda"), x.lengths.to("cuda"), x.steps.to("cuda")))
            assert there.device.type == "cuda" and torch.allclose(here, there.cpu(), rtol=1e-4, atol=1e-3)
