"""What every family of images promises: one contract over a table of (family, tiny arguments), and the exact parts against oracles."""

import json

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
from generators.images.gmm import PictureMixture
from generators.layout import Field, ImageLayout, Layout, Pictures
from generators.registry import OF_IMAGES
from generators.synthesizer import Synthesizer

FAMILIES = {"gmm": {"directions": 8}, "diffusion": {"width": 16, "depth": 2, "passes": 20, "batch": 16, "rate": 4e-3, "steps": 8}}
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


def test_an_album_says_how_likely_pictures_are_only_where_both_parts_do():
    fitted, data = model("gmm").generator, pictures.stripes(40, seed=9)
    x = model("gmm").encoder.encode(data, rng=rng())
    assert isinstance(fitted, Album) and fitted.log_prob(x).shape == (40,)
    swapped = Pictures(x.static.flip(1) if x.static.shape[1] == 1 else torch.stack([x.static[:, 0], 1 - x.static[:, 1]], 1), x.pixels)
    assert fitted.log_prob(x).mean() > fitted.log_prob(swapped).mean() + 5
    with pytest.raises(TypeError, match="says nothing of how likely a picture is"):
        model("diffusion").generator.log_prob(x)


def test_families_that_generate_no_images_say_so():
    with pytest.raises(DataError, match="generator: hmm does not generate images, expected one of gmm, diffusion"):
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
