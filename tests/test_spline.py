"""The splines of the flow family against exact oracles: inverse, slope by autograd, mass, and the identity they start from."""

import torch
from tables import rng
from test_generators import CONTINUOUS, MIXED, data

from generators.flow import Flow, Knots, _forward, _inverse

N, K = 4000, 9


def knots() -> Knots:
    """N splines at random."""
    ends = lambda: torch.nn.functional.pad(torch.randn(N, K, generator=stream).softmax(1).cumsum(1)[:, :-1], (1, 1))  # noqa: E731
    stream = rng(1)
    x, y = ends().double(), ends().double()
    x[:, -1] = y[:, -1] = 1
    return Knots(x, y, torch.rand(N, K + 1, generator=stream, dtype=torch.double) * 3 + 0.05)


def test_inverse_undoes_forward_and_both_keep_order():
    spline, u = knots(), torch.rand(N, generator=rng(2), dtype=torch.double)
    v, _ = _forward(u, spline)
    assert ((v >= 0) & (v <= 1)).all()
    assert torch.allclose(_inverse(v, spline).double(), u, atol=1e-6)
    assert (_forward((u + 1e-3).clamp_max(1), spline)[0] >= v).all()


def test_slope_is_the_derivative():
    spline, u = knots(), torch.rand(N, generator=rng(3), dtype=torch.double).requires_grad_()
    v, log_slope = _forward(u, spline)
    (slope,) = torch.autograd.grad(v.sum(), u)
    assert torch.allclose(log_slope.exp(), slope, rtol=1e-6)


def test_starts_as_the_margins():
    """Before any training, a field of equal bins has density 1 in u: a standard normal."""
    model = Flow(CONTINUOUS).eval()
    model.build(width=16, bins=16)
    x = data(CONTINUOUS, 500)
    model.values.bias.data.copy_(torch.cat([torch.special.ndtr(e).diff().log() for e in model.codes.edges]))
    assert torch.allclose(model.log_prob(x), torch.distributions.Normal(0, 1).log_prob(x).sum(1), atol=2e-2)


def test_a_density_integrates_to_one():
    """Over classes and a fine grid of the one number, given nothing."""
    from generators.layout import Field, Layout

    layout = Layout((Field(3), Field(cuts=MIXED.fields[1].cuts)))
    model = Flow(layout, width=32, passes=5, dropout=0.1).fit(data(layout), data(layout, 300, seed=1), rng=rng())
    z = torch.linspace(-4.7, 4.7, 20_001)
    total = sum(model.log_prob(torch.stack([torch.full_like(z, c), z], 1)).exp().sum() * (z[1] - z[0]) for c in range(3))
    assert abs(float(total) - 1) < 2e-3


def test_samples_are_what_it_states():
    """The mean log density of its samples is minus its entropy, by a grid."""
    from generators.layout import Field, Layout

    layout = Layout((Field(3), Field(cuts=MIXED.fields[1].cuts)))
    model = Flow(layout, width=32, passes=5, dropout=0.1).fit(data(layout), data(layout, 300, seed=1), rng=rng())
    z = torch.linspace(-4.7, 4.7, 20_001)
    log_p = torch.cat([model.log_prob(torch.stack([torch.full_like(z, c), z], 1)) for c in range(3)]).double()
    entropy = -(log_p.exp() * log_p).sum() * (z[1] - z[0])
    assert abs(float(-model.log_prob(model.sample(50_000, rng=rng(5))).mean() - entropy)) < 0.01
