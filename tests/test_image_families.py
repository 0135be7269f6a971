"""What every family of images promises: one contract over a table of (family, tiny arguments), and the exact parts against oracles."""

import json
from copy import deepcopy

import numpy as np
import pictures
import pyarrow as pa
import pytest
import torch
from tables import rng

from generators.base import Density
from generators.data import DataError, pixels_of
from generators.encoding.image import ImageEncoder
from generators.images.album import Album
from generators.images.autoregressive import PixelCNN
from generators.images.flow import PictureFlow
from generators.images.gan import _changed
from generators.images.gmm import PictureMixture
from generators.layout import Field, ImageLayout, Layout, Pictures
from generators.registry import OF_IMAGES
from generators.streams import stream
from generators.synthesizer import Synthesizer

FAMILIES = {
    "gmm": {"directions": 8},
    "autoregressive": {"width": 16, "depth": 3, "passes": 25, "batch": 8, "rate": 4e-3, "mixtures": 3, "dropout": 0.0},
    "flow": {"width": 16, "depth": 4, "passes": 10, "batch": 8, "rate": 4e-3, "components": 2, "dropout": 0.0},
    "vae": {"width": 8, "latent": 8, "modes": 4, "passes": 30, "batch": 16, "rate": 4e-3, "dropout": 0.0},
    "gan": {"width": 8, "noise": 16, "passes": 40, "batch": 16, "rate": 2e-3},
    "diffusion": {"width": 16, "depth": 2, "passes": 20, "batch": 16, "rate": 4e-3, "steps": 8},
}
EACH = pytest.mark.parametrize("family", FAMILIES)
_fitted: dict = {}


def model(family: str, **of) -> Synthesizer:
    key = (family, *of.items())
    if key not in _fitted:
        _fitted[key] = Synthesizer(family, static="gmm", **FAMILIES[family]).fit(pictures.stripes(**of))
    return _fitted[key]


def steepness(pixels: np.ndarray) -> np.ndarray:
    """(n,) by how much pixels differ more from those beside them than from those above them."""
    x = pixels.astype(float)
    return np.abs(np.diff(x, axis=2)).mean((1, 2, 3)) - np.abs(np.diff(x, axis=1)).mean((1, 2, 3))


def test_every_family_is_in_the_table():
    assert set(FAMILIES) == set(OF_IMAGES)


@EACH
def test_pictures_are_of_their_kind(family):
    made = model(family).sample(200, seed=1)
    steep = np.array(made.column("label").to_pylist()) == "steep"
    assert 60 < steep.sum() < 140 and made.values.schema.equals(pictures.stripes().values.schema)
    assert ((steepness(pixels_of(made)) > 0) == steep).mean() > 0.97
    real = pixels_of(pictures.stripes())
    assert abs(real.mean() - pixels_of(made).mean()) < 12 and abs(real.std() - pixels_of(made).std()) < 12


@EACH
def test_pictures_are_drawn_while_it_learns(family):
    grown = model(family).grown
    shares = [done for done, _ in grown]
    assert family == "gmm" or (grown and shares == sorted(set(shares)) and shares[0] >= 1 / 16 and shares[-1] < 1)
    assert all(pixels.shape == (12, 12, 12, 1) and pixels.dtype == np.uint8 for _, pixels in grown)
    assert len({pixels.tobytes() for _, pixels in grown}) == len(grown) <= 4


@EACH
def test_colour_and_sixteen_bits(family):
    made = model(family, channels=3, bits=16, side=9).sample(60, seed=1)
    pixels = pixels_of(made)
    assert pixels.shape == (60, 9, 9, 3) and pixels.dtype == np.uint16 and 20_000 < pixels.mean() < 45_000
    assert ((steepness(pixels) > 0) == (np.array(made.column("label").to_pylist()) == "steep")).mean() > 0.9


@EACH
def test_same_seed_same_pictures_and_parts_are_parts(family):
    made = model(family).sample(40, seed=3)
    assert made.values.equals(model(family).sample(40, seed=3).values) and not made.values.equals(model(family).sample(40, seed=4).values)


@EACH
def test_balance_and_where(family):
    made = model(family).sample(50, balance="label", seed=0)
    assert sorted(made.column("label").to_pylist()) == ["flat"] * 25 + ["steep"] * 25
    asked = model(family).sample(30, where={"label": "steep"}, seed=0)
    assert set(asked.column("label").to_pylist()) == {"steep"} and (steepness(pixels_of(asked)) > 0).mean() > 0.9
    with pytest.raises(DataError, match="where: column 'image' holds the images, expected one that stands beside them: label"):
        model(family).sample(3, where={"image": 1})


@EACH
def test_saved_and_loaded_it_draws_the_same(family, tmp_path):
    pytest.importorskip("safetensors")
    model(family).save(tmp_path)
    assert Synthesizer.load(tmp_path).sample(20, seed=5).values.equals(model(family).sample(20, seed=5).values)


@EACH
def test_pictures_without_a_label(family):
    plain = pictures.table(pixels_of(pictures.stripes(120)))
    made = Synthesizer(family, **FAMILIES[family] | ({"passes": 2} if family != "gmm" else {})).fit(plain).sample(7, seed=0)
    assert made.schema.arrow.names == ["image"] and pixels_of(made).shape == (7, 12, 12, 1)


def test_classes_of_few_are_not_learned_and_not_drawn():
    data = pictures.stripes(200)
    labels = data.column("label").to_pylist()
    labels[:5] = ["mrs doe"] * 5
    data = pictures.table(pixels_of(data), np.array(labels))
    made = Synthesizer("gmm", static="gmm", **FAMILIES["gmm"]).fit(data).sample(500, seed=0)
    assert set(made.column("label").to_pylist()) == {"flat", "steep"}


def test_pixels_come_back_as_they_were():
    for data in (pictures.stripes(30, channels=3), pictures.stripes(30, bits=16, side=7), pictures.digits(30)):
        encoder = ImageEncoder(1).fit(data, rng=rng())
        back = encoder.decode(encoder.encode(data, rng=rng()), rng=rng())
        assert back.column("image").equals(data.column("image"))
        again = ImageEncoder.restore(json.loads(json.dumps(encoder.state())))
        assert again.layout == encoder.layout


def test_a_normal_density_of_pictures_is_exactly_that():
    """One component over all directions but one, against the density of the normal that it is."""
    stream = np.random.default_rng(0)
    turn = np.linalg.qr(stream.normal(size=(4, 4)))[0]
    x = 128 + (stream.normal(size=(4000, 4)) * [30, 12, 6, 3]) @ turn
    layout = ImageLayout(Layout((Field(1),)), (1, 2, 2))
    seen = Pictures(torch.zeros(len(x), 1), torch.from_numpy(x.round().clip(0, 255).astype(np.uint8)).view(-1, 1, 2, 2))
    fitted = PictureMixture(layout, directions=3, components=1).fit(seen[torch.arange(3500)], seen[torch.arange(3500, 4000)], rng=rng())
    flat = (seen.pixels[:100].flatten(1).double() + 0.5) / 128 - 1
    exact = torch.distributions.MultivariateNormal(torch.from_numpy(x.mean(0) + 0.5) / 128 - 1, torch.from_numpy(np.cov(x.T)) / 128**2).log_prob(flat)
    assert isinstance(fitted, Density) and (fitted.log_prob(seen[torch.arange(100)]) - exact).abs().mean() < 0.05


LAYOUT = ImageLayout(Layout((Field(1), Field(2))), (3, 5, 6))
SOME = Pictures(torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), torch.randint(0, 256, (3, 3, 5, 6), generator=rng(3)).to(torch.uint8))


def untrained(family, layout=LAYOUT, **arguments):
    """Networks at random, none of whose layers says nothing."""
    made = family(layout, **arguments)
    with stream(0):
        made.build()
        for weights in made.parameters():
            if weights.requires_grad and not weights.abs().sum():
                torch.nn.init.normal_(weights, std=0.2)
    return made.eval()


def test_a_pixel_knows_all_pixels_before_it_and_none_after():
    made, condition = untrained(PixelCNN, width=8, depth=4).double(), torch.zeros(1, 8).double()
    x = torch.randn(1, 3, 5, 6, dtype=torch.double, generator=rng(), requires_grad=True)
    v, h = made._start(x, condition)
    for layer in made.layers:
        v, h = layer(v, h, condition)
    found = made._mixture(h)
    (gradient,) = torch.autograd.grad((found.mean[0, 2, 3].sum() + found.weight[0, 2, 3, 0] + found.scale[0, 2, 3].sum()), x)
    assert torch.equal(gradient[0].abs().sum(0).flatten() > 0, torch.arange(30) < 2 * 6 + 3)


def test_probabilities_of_all_pictures_sum_to_one():
    """Of two pixels in four levels, one colour and two."""
    for channels in (1, 2):
        layout = ImageLayout(Layout((Field(1),)), (channels, 1, 2), levels=4)
        made = untrained(PixelCNN, layout, width=8, depth=2, mixtures=3)
        every = torch.cartesian_prod(*[torch.arange(4)] * 2 * channels).view(-1, channels, 1, 2)
        assert torch.logsumexp(-made._nats(every, torch.zeros(len(every), 1)), 0).abs() < 1e-4


def test_pixels_are_drawn_from_the_very_distribution_that_is_learned():
    """What is kept from pixel to pixel is what the whole network says of the picture that came out."""
    made, said = untrained(PixelCNN, width=8, depth=4), []
    whole_network = made._mixture
    made._mixture = lambda h: said.append(whole_network(h)) or said[-1]
    pixels = made.sample(SOME.static, rng=rng())
    v, h = made._start(made.scaled(pixels), made.stays(SOME.static))
    for layer in made.layers:
        v, h = layer(v, h, made.stays(SOME.static))
    full = whole_network(h)
    for i, step in enumerate(said):
        assert all(torch.allclose(a[:, 0, 0], b[:, i // 6, i % 6], atol=1e-5) for a, b in zip(step, full, strict=True))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (1, 5, 12)])
def test_a_flow_is_invertible_and_knows_its_jacobian(shape, monkeypatch):
    made = untrained(PictureFlow, ImageLayout(Layout((Field(1),)), shape), width=8, depth=4).double()
    x, beside = torch.randn(1, *shape, dtype=torch.double, generator=rng()), made.stays(torch.zeros(1, 1))
    noise, slope = made._noise(x, beside)
    jacobian = torch.autograd.functional.jacobian(lambda v: torch.cat([z.flatten() for z in made._noise(v.view(x.shape), beside)[0]]), x.flatten())
    jacobian = jacobian[jacobian.abs().sum(1) > 0]  # places that hold nothing
    assert jacobian.shape == (x.numel(), x.numel()) and torch.linalg.slogdet(jacobian)[1] == pytest.approx(float(slope.detach()), rel=1e-6)
    back = iter(noise[::-1])
    monkeypatch.setattr(torch, "randn", lambda *shape, **more: next(back))
    monkeypatch.setattr(made, "whole", lambda pixels: pixels)
    with torch.no_grad():
        assert torch.allclose(made.draw(torch.zeros(1, 1), rng()), x, atol=1e-5)


def test_densities_of_pictures_are_all_in_the_same_unit():
    """A mixture, a flow and an autoregressive model of the same pictures agree about how likely they are, nearly."""
    x = model("gmm").encoder.encode(pictures.stripes(200, seed=5), rng=rng())
    found = {f: float(model(f).generator.rest.log_prob(x).mean()) for f in ("gmm", "flow", "autoregressive")}
    plain = float(np.log(1 / 2) * 144)  # of a picture whose pixels may be anything
    assert all(isinstance(model(f).generator.rest, Density) for f in found) and min(found.values()) > plain + 100
    assert max(found.values()) - min(found.values()) < 60, found


def test_a_hidden_square_and_a_small_move_are_all_that_a_critic_does_not_see():
    x = torch.arange(1.0, 65).view(1, 1, 8, 8).repeat(500, 1, 1, 1)
    with stream(0):
        changed = _changed(x)
    assert ((changed == 0).sum((1, 2, 3)) <= 4).all() and (changed == 0).any() and set(changed.unique().tolist()) <= {0.0, *range(1, 65)}
    assert all((changed[:, 0, 4, 4] == v).any() for v in (28.0, 37.0, 46.0))  # moved up left, not at all, down right


def test_an_album_says_how_likely_pictures_are_only_where_both_parts_do():
    fitted, data = model("gmm").generator, pictures.stripes(40, seed=9)
    x = model("gmm").encoder.encode(data, rng=rng())
    assert isinstance(fitted, Album) and fitted.log_prob(x).shape == (40,)
    swapped = Pictures(x.static.flip(1) if x.static.shape[1] == 1 else torch.stack([x.static[:, 0], 1 - x.static[:, 1]], 1), x.pixels)
    assert fitted.log_prob(x).mean() > fitted.log_prob(swapped).mean() + 5
    with pytest.raises(TypeError, match="says nothing of how likely a picture is"):
        model("diffusion").generator.log_prob(x)


def test_families_that_generate_no_images_say_so():
    with pytest.raises(DataError, match="generator: hmm does not generate images, expected one of gmm, autoregressive, flow, vae, gan, diffusion"):
        Synthesizer("hmm").fit(pictures.stripes(100))
    with pytest.raises(DataError, match=r"generator\.diffusion: width: found 0"):
        Synthesizer("diffusion", width=0).fit(pictures.stripes(100))


def test_what_stands_beside_goes_with_the_pictures():
    """A number beside the pictures that says how bright they are."""
    stream = np.random.default_rng(0)
    bright = stream.uniform(40, 200, 400)
    pixels = (bright[:, None, None] + stream.normal(0, 8, (400, 6, 6))).clip(0, 255).astype(np.uint8)
    plain = pictures.table(pixels)
    values = plain.values.append_column("bright", pa.array(bright))
    from generators.data import Column, Schema, Table

    data = Table(values, Schema(values.schema, (*plain.schema.columns, Column("bright", "numeric"))))
    made = Synthesizer("gmm", directions=4).fit(data).sample(300, seed=0)
    assert np.corrcoef(pixels_of(made).mean((1, 2, 3)), made.column("bright").to_numpy())[0, 1] > 0.95


def test_what_diffusion_draws_is_put_right_along_the_main_directions():
    made, static = deepcopy(model("diffusion").generator.rest), model("diffusion").encoder.encode(pictures.stripes(32), rng=rng()).static
    with torch.no_grad():
        noise = made._noise(32, rng(7))
        drawn = made._drawn(torch.cat([static, static]), torch.cat([noise, -noise]), made.steps)
        along = drawn.flatten(1) @ made.turn
        wanted = along * torch.linspace(0.9, 1.1, made.turn.shape[1]) + 0.5
        wanted[:, 0] = 3 * along[:, 0]  # beyond what is put right
        made._aimed = wanted, static
        made.finish(rng(7))
        found = made._toned(drawn).flatten(1) @ made.turn
    assert made.turn.shape[0] == 144 and torch.allclose(found[:, 1:], wanted[:, 1:], atol=1e-3)
    assert float(found[:, 0].std()) == pytest.approx(1.25 * float(along[:, 0].std()), rel=1e-3)
    led = Synthesizer("diffusion", **FAMILIES["diffusion"] | {"passes": 1, "guidance": 1.0}).fit(pictures.stripes(100)).generator.rest
    assert torch.equal(led.gain, torch.ones_like(led.gain)) and not led.shift.any()
