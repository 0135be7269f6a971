"""What else a fitted model can do: inpainting, super-resolution, paths between synthetic images, anomaly scores."""

import numpy as np
import pictures
import planted
import pytest
from test_image_families import model, steepness

from generators.data import DataError, pixels_of
from generators.synthesizer import Synthesizer

FRESH = pictures.stripes(24, seed=7)
SOME = np.ones((12, 12), bool)
SOME[:, :6] = False  # the right half is hidden


def small(data, times: int = 2):
    """The same images, each square of pixels as its mean."""
    x = pixels_of(data).astype(float)
    n, height, width, channels = x.shape
    x = x.reshape(n, height // times, times, width // times, times, channels).mean((2, 4))
    return pictures.table(x.round().astype(np.uint8), np.array(data.column("label").to_pylist()))


def test_what_is_hidden_is_painted_to_suit_what_is_seen():
    made = model("diffusion").inpaint(FRESH, SOME, seed=1)
    before, after = pixels_of(FRESH).astype(float), pixels_of(made).astype(float)
    assert np.array_equal(before[:, :, :6], after[:, :, :6]) and made.schema == FRESH.schema and made.column("label").equals(FRESH.column("label"))
    flat = np.array(FRESH.column("label").to_pylist()) == "flat"
    wrong = np.abs(before - after)[flat][:, :, 6:].mean()  # stripes across go on as they began
    chance = np.abs(before[flat] - np.roll(after[flat], 1, 0))[:, :, 6:].mean()
    assert wrong < 0.4 * chance
    assert model("diffusion").inpaint(FRESH, SOME, seed=1).values.equals(made.values)
    assert not model("diffusion").inpaint(FRESH, SOME, seed=2).values.equals(made.values)
    each = np.zeros((24, 12, 12), bool)
    assert model("diffusion").inpaint(FRESH, each).values.equals(FRESH.values)


def test_small_images_become_large_ones_that_are_the_same_when_made_small():
    made = model("diffusion").enlarge(small(FRESH), seed=0)
    wrong = np.abs(pixels_of(small(made)).astype(float) - pixels_of(small(FRESH)))
    assert pixels_of(made).shape == (24, 12, 12, 1) and np.median(wrong) <= 1 and wrong.mean() < 3
    plain = np.abs(pixels_of(small(FRESH)).repeat(2, 1).repeat(2, 2).astype(float) - pixels_of(FRESH)).mean()
    assert np.abs(pixels_of(made).astype(float) - pixels_of(FRESH)).mean() < plain  # nearer to the truth than squares are


def test_a_path_leads_from_one_synthetic_image_to_another():
    made = model("vae").interpolate(3, 6, where={"label": "steep"}, seed=0)
    x = pixels_of(made).astype(float).reshape(3, 6, -1)
    assert set(made.column("label").to_pylist()) == {"steep"} and (steepness(pixels_of(made))[[0, 5, 6, 11, 12, 17]] > 0).all()
    step, whole = np.abs(np.diff(x, axis=1)).mean(), np.abs(x[:, -1] - x[:, 0]).mean()
    assert whole > 10 and step < 0.6 * whole


@pytest.mark.parametrize("family", ["gmm", "autoregressive", "flow"])
def test_images_of_another_kind_are_unusual(family):
    noise = pictures.table(np.random.default_rng(0).integers(0, 256, (24, 12, 12)).astype(np.uint8), np.array(["flat", "steep"] * 12))
    usual, unusual = (model(family).anomaly_scores(d) for d in (FRESH, noise))
    assert usual.shape == (24,) and usual.max() < unusual.min()


def test_rows_of_a_table_are_scored_too():
    fitted = Synthesizer("gmm").fit(planted.patients(600, 1))
    rows = planted.patients(100, 2)
    odd = planted.put(rows, **{n: rows.column(n).take(np.random.default_rng(i).permutation(100)) for i, n in enumerate(rows.schema.arrow.names)})
    assert fitted.anomaly_scores(rows).mean() < fitted.anomaly_scores(odd).mean()


BAD = [
    ("gmm", lambda m: m.inpaint(FRESH, SOME), "inpaint: found a model of another family or of other data, expected diffusion of images"),
    (
        "diffusion",
        lambda m: m.inpaint(FRESH, SOME[:5]),
        r"inpaint: mask: found bool of shape \(5, 12\), expected booleans of shape \(12, 12\), or \(24, 12, 12\)",
    ),
    ("diffusion", lambda m: m.inpaint(FRESH, SOME * 1), "mask: found int64"),
    ("diffusion", lambda m: m.inpaint(small(FRESH), SOME), "found images of 6 x 6 pixels, 1 channel of 8 bits, expected 12 x 12 pixels"),
    ("diffusion", lambda m: m.enlarge(pictures.stripes(3, side=5)), "expected a whole part of 12 x 12 pixels, 1 channel of 8 bits in height and width"),
    ("diffusion", lambda m: m.enlarge(pictures.stripes(3, channels=3)), "found images of 12 x 12 pixels, 3 channels of 8 bits"),
    ("diffusion", lambda m: m.enlarge(planted.patients(5, 0)), "enlarge: found columns"),
    ("gmm", lambda m: m.enlarge(small(FRESH)), "enlarge: found a model of another family"),
    ("gmm", lambda m: m.interpolate(2), "interpolate: found a model of another family or of other data, expected vae of images"),
    ("vae", lambda m: m.interpolate(0), "pairs: found 0"),
    ("vae", lambda m: m.interpolate(2, 1), "steps: found 1"),
    ("vae", lambda m: m.interpolate(2, where={"label": "bent"}), "where on label: column 'label': the value asked for cannot be met"),
    ("vae", lambda m: m.anomaly_scores(FRESH), "anomaly_scores: vae knows no density, expected a model that does, such as gmm, autoregressive or flow"),
    ("gmm", lambda m: m.anomaly_scores(planted.patients(5, 0)), "anomaly_scores: found columns"),
    ("gmm", lambda m: m.anomaly_scores(small(FRESH)), "anomaly_scores: found images of 6 x 6 pixels, 1 channel of 8 bits, expected 12 x 12 pixels"),
    ("gmm", lambda m: m.anomaly_scores(pictures.stripes(3, bits=16)), "found images of 12 x 12 pixels, 1 channel of 16 bits"),
    ("gmm", lambda m: m.anomaly_scores(pictures.table(pixels_of(FRESH), np.arange(len(FRESH)) % 2)), "found column 'label' of type int64, expected string"),
    ("gmm", lambda m: m.anomaly_scores(pixels_of(FRESH)), "anomaly_scores: found ndarray, expected a Table"),
    ("diffusion", lambda m: m.inpaint(pixels_of(FRESH), SOME), "inpaint: found ndarray, expected a Table"),
    ("diffusion", lambda m: m.enlarge(None), "enlarge: found NoneType, expected a Table"),
    ("gmm", lambda m: Synthesizer("gmm").anomaly_scores(FRESH), "this model has learned nothing yet"),
]


def test_nothing_is_not_unusual():
    assert model("gmm").anomaly_scores(FRESH.take(np.arange(0))).shape == (0,)


@pytest.mark.parametrize(("family", "asked", "words"), BAD)
def test_what_cannot_be_done_is_said(family, asked, words):
    with pytest.raises(DataError, match=words):
        asked(model(family))
