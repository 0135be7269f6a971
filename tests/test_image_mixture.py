"""The parts of the mixture over pictures against oracles: normal densities, and bands of which only the energy is learned."""

import math

import numpy as np
import pictures
import pytest
import torch
from tables import rng

from generators.data import pixels_of
from generators.images.apart import Apart
from generators.images.directions import Directions
from generators.images.grain import Grain, beyond
from generators.synthesizer import Synthesizer


def kinds(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two kinds of 3 numbers that lie otherwise about other means: (n, 1), (n, 3)."""
    stream, which = rng(seed), (torch.arange(n) % 2)[:, None].float()
    x = torch.randn(n, 3, generator=stream)
    bent = torch.tensor([[1.0, 0.8, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 0.2]])
    return which, torch.where(which > 0, x @ bent + 2, x * torch.tensor([0.3, 1.0, 0.5]))


def test_a_kind_of_one_component_is_that_kinds_normal_density():
    static, z = kinds(20_000)
    made = Apart(1, 3, components=1).fit(static, z, *kinds(2000, 1), rng())
    for kind in (0, 1):
        own = z[static[:, 0] == kind]
        assert torch.allclose(made.mean[kind], own.mean(0), atol=1e-4)
        assert torch.allclose(made.root[kind] @ made.root[kind].t(), own.t().cov(), atol=0.01)
    held_static, held = kinds(500, 2)
    of = [torch.distributions.MultivariateNormal(m, scale_tril=r) for m, r in zip(made.mean, made.root, strict=True)]
    wanted = torch.stack([of[int(s)].log_prob(x) for s, x in zip(held_static[:, 0], held, strict=True)])
    assert torch.allclose(made.log_prob(held_static, held), wanted, atol=1e-4)
    never = torch.full((500, 1), 7.0)  # a kind that was never seen is any of them
    wanted = torch.stack([d.log_prob(held) for d in of], 1).logsumexp(1) - math.log(2)
    assert torch.allclose(made.log_prob(never, held), wanted, atol=1e-4)


def test_components_are_found_and_drawn_as_they_were():
    stream = rng()
    middle = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    z = middle[torch.randint(3, (3000,), generator=stream)] + 0.3 * torch.randn(3000, 2, generator=stream)
    none = torch.zeros(3000, 0)
    made = Apart(0, 2).fit(none[:2000], z[:2000], none[2000:], z[2000:], stream)
    drawn = made.sample(none, stream)
    assert torch.cdist(drawn, middle).min(1).values.quantile(0.99) < 1.2
    assert (torch.cdist(drawn, middle).argmin(1).bincount() / 3000 - 1 / 3).abs().max() < 0.05
    again = Apart(0, 2).restore(made.structure(), made.state_dict())
    assert torch.equal(again.log_prob(none, z), made.log_prob(none, z)) and torch.equal(again.sample(none, rng()), made.sample(none, rng()))


def test_few_pictures_have_the_shape_of_all():
    """A component of few pictures is not as narrow as those."""
    static, z = kinds(400)
    few = torch.cat([torch.arange(0, 400, 2), torch.arange(1, 17, 2)])  # 200 of one kind, 8 of another
    made = Apart(1, 3).fit(static[few], z[few], *kinds(200, 1), rng())
    assert Apart.can(static[few]) and Apart.can(static[few[:205]]) and not Apart.can(static[few[170:205]])
    eight = (z[1:17:2] - z[1:17:2].mean(0)).square().mean(0).sqrt()
    assert (made.root[1].norm(dim=1) > eight).any() and made.root[1].norm(dim=1).min() > 0.1


def test_a_normal_density_in_bands_is_that_normal_density():
    """Energies of independent normals are logs of chi squares over their number: with those densities, bands are exact."""
    stream, n, kept, pixels = rng(), 50, 38, 47
    turn = torch.linalg.qr(torch.randn(pixels, kept, generator=stream))[0]
    normal = Directions(pixels, kept)
    normal.mean, normal.turn, normal.spread = torch.randn(pixels, generator=stream), turn, torch.linspace(3, 0.2, kept + 1)
    x = normal.pictures(torch.randn(n, kept, generator=stream), stream)
    z, grain = normal.along(x), Grain(4, kept, pixels)
    grain.middle, grain.spread = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.5, 2.0, 1.5])
    e = grain.energies(z, beyond(normal, x))
    sizes = torch.tensor([8.0, 16.0, 9.0])  # that are learned
    assert grain.bands == [(4, 8), (8, 16), (16, 32), (32, 38)] and grain.sizes.tolist() == [4, 8, 16, 6, 9]
    e, every = e[:, grain.learned], e
    chi = torch.distributions.Chi2(sizes).log_prob(sizes * e.exp()) + sizes.log() + e + grain.spread.log()  # of the places
    found = torch.distributions.Normal(0, 1).log_prob(z[:, :4]).sum(1) + chi.sum(1) + grain.log_volume(every) + normal.units()
    cov = turn @ torch.diag(normal.spread[:-1] ** 2) @ turn.t() + normal.spread[-1] ** 2 * (torch.eye(pixels) - turn @ turn.t())
    assert torch.allclose(found, torch.distributions.MultivariateNormal(normal.mean, cov).log_prob(x), atol=1e-2)


def test_what_is_drawn_has_the_energies_asked_for():
    grain = Grain(8, 36, 46)
    held = torch.randn(300, 4, generator=rng()) * torch.tensor([0.5, 1.0, 0.3, 0.2]) + 1
    grain.fit(held + 0.5, held)  # pictures that the directions were found in have more along them
    places = grain.placed(held).clamp(-3, 3)
    z, gains = grain.drawn(places, rng())
    e = grain.energies(torch.cat([torch.zeros(300, 8), z], 1), gains[:, 0] ** 2)
    assert grain.bands == [(8, 16), (16, 32), (32, 36)] and torch.allclose(grain.placed(e), places, atol=1e-3)
    assert grain.placed(held).mean(0).abs().max() < 1e-5 and grain.placed(held).std(0).sub(1).abs().max() < 0.01
    assert z[:, 24:].std() == pytest.approx(1, abs=0.1)  # four are too few to learn how much there is along them


@pytest.mark.parametrize("kept", [2, 3])
def test_bands_may_be_few_or_none(kept):
    grain = Grain(2, kept, 5)
    z, gains = grain.drawn(torch.zeros(4, 0), rng())
    assert grain.places == 0 and z.shape == (4, kept - 2) and gains is None


def test_pictures_that_were_learned_from_are_as_usual_as_others_of_their_kind():
    """Fewer pictures than pixels: what lies beyond directions that were found in them is not taken for what lies there in others."""
    seen, fresh = pictures.stripes(150, side=20), pictures.stripes(150, seed=5, side=20)
    model = Synthesizer("gmm").fit(seen)
    damaged = pictures.table(
        np.random.default_rng(0).permuted(pixels_of(fresh).reshape(150, -1), axis=1).reshape(150, 20, 20), fresh.column("label").to_numpy(zero_copy_only=False)
    )
    usual, other, odd = (np.median(model.anomaly_scores(t)) for t in (seen, fresh, damaged))
    assert abs(usual - other) < 0.25 * (odd - other)
    rough = [np.abs(np.diff(pixels_of(t).astype(float), n=2, axis=1)).mean((1, 2, 3)) for t in (seen, model.sample(300, seed=0))]
    assert 0.7 < rough[1].mean() / rough[0].mean() < 1.4
