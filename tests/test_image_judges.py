"""Judges of images: exact figures by hand, order (real before mixture before noise), and copies that must be caught."""

import json

import numpy as np
import pictures
import pytest
from scipy.linalg import sqrtm
from tables import rng

from generators.building import build
from generators.data import pixels_of
from generators.encoding.image import ImageEncoder
from generators.synthesizer import Synthesizer
from pipelines.gates import DEFAULTS, METRICS, gates, past, verdict
from pipelines.words import WORDS
from validation.images import alike, dense, distance, kernel_distance
from validation.pictures import Look

ORDER = np.random.default_rng(0).permutation(1797)
TRAIN, HOLDOUT, FRESH = (pictures.digits(1797).take(ORDER[a:b]) for a, b in ((0, 700), (700, 1100), (1100, 1797)))


def noisy(data, spread: float, seed: int = 0):
    x = pixels_of(data).astype(float)
    x += np.random.default_rng(seed).normal(0, spread, x.shape)
    return pictures.table(x.round().clip(0, 255).astype(np.uint8), data.column("label").to_numpy())


def swapped(data):
    """Every label of another picture."""
    return pictures.table(pixels_of(data), np.roll(data.column("label").to_numpy(), 1))


def judged(metric: str, synthetic, **more) -> tuple[float, bool]:
    found = METRICS[metric](TRAIN, HOLDOUT, synthetic, **more)
    assert found.power is None and found.low <= found.value <= found.high
    return found.value, past(found.value, DEFAULTS[metric])


def test_distances_by_hand():
    a, b = np.random.default_rng(0).normal(size=(500, 4)), np.random.default_rng(1).normal(1, 2, (500, 4))
    c, d = np.cov(a.T), np.cov(b.T)
    assert distance(a, b) == pytest.approx(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c + d - 2 * sqrtm(c @ d).real), rel=1e-6)
    assert distance(a, a) == pytest.approx(0, abs=1e-9) and abs(kernel_distance(a[:250], a[250:])) < 0.3 < kernel_distance(a, b)
    line = np.arange(20.0)[:, None]
    assert (dense(line, np.array([[10.2], [900.0]])) == [1.2, 0.0]).all()  # 8 to 13 have it within their 3


def test_the_judges_network_is_the_same_for_the_same_seed_and_sees_shapes():
    a, b = Look.of(TRAIN, 0), Look.of(TRAIN, 0)
    assert a.digest == b.digest != Look.of(TRAIN, 1).digest
    assert np.array_equal(a.features(HOLDOUT), b.features(HOLDOUT)) and a.table(HOLDOUT).values.num_columns == 1 + 64 + 32


@pytest.mark.parametrize("metric", ["fidelity.frechet", "fidelity.density", "fidelity.agreement", "fidelity.coverage"])
def test_real_images_are_better_than_noise(metric):
    (fresh, fails), (worse, noise_fails) = judged(metric, FRESH), judged(metric, noisy(FRESH, 120))
    assert not fails and noise_fails
    assert worse > 2 * fresh if metric == "fidelity.frechet" else worse < fresh


def test_how_far_images_are_depends_little_on_the_networks_seed():
    away = [judged("fidelity.frechet", noisy(FRESH, 40), seed=seed)[0] for seed in range(4)]
    assert max(away) < 1.5 * min(away)


def test_every_direction_of_features_counts_alike():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 3)) * [1, 3, 0] @ rng.normal(size=(3, 3))
    seen = np.cov(features @ alike(features), rowvar=False)
    assert np.allclose(np.sort(np.diag(seen)), [0, 1, 1], atol=0.01) and np.allclose(seen, np.diag(np.diag(seen)), atol=1e-6)


def test_wrong_labels_are_seen():
    assert judged("fidelity.agreement", swapped(FRESH))[0] < 0.3
    assert judged("utility.target", swapped(FRESH))[0] < 0.5 < 0.9 < judged("utility.target", FRESH)[0]


def test_a_mixture_is_between():
    made = Synthesizer("gmm", directions=32).fit(TRAIN).sample(700, seed=0)
    assert judged("fidelity.agreement", made)[0] > 0.9 and judged("utility.target", made)[0] > 0.9
    for metric in ("privacy.copies", "privacy.membership"):
        assert not judged(metric, made)[1]


@pytest.mark.parametrize("spread", [0, 5, 20])
def test_images_that_were_copied_are_caught_and_fresh_ones_are_not(spread):
    assert judged("privacy.membership", noisy(TRAIN, spread))[1]
    assert not judged("privacy.membership", noisy(FRESH, spread))[1]
    if not spread:
        assert judged("privacy.copies", TRAIN)[1] and not judged("privacy.copies", FRESH)[1]


def test_which_gates_images_have():
    found = set(gates(TRAIN.schema))
    assert {"fidelity.frechet", "fidelity.density", "fidelity.agreement", "utility.target", "privacy.membership", "privacy.copies"} <= found
    assert not {"privacy.attribute", "fidelity.autocorrelation", "fidelity.dependence", "privacy.passages"} & found
    plain = pictures.table(pixels_of(TRAIN))
    assert not {"fidelity.agreement", "utility.target", "privacy.attribute"} & set(gates(plain.schema))
    assert METRICS["fidelity.frechet"](plain, pictures.table(pixels_of(HOLDOUT)), pictures.table(pixels_of(FRESH))).value < 3


def test_what_judges_say_is_json_and_holds_no_picture():
    for metric in ("fidelity.frechet", "fidelity.density", "fidelity.agreement", "utility.target"):
        said = json.dumps(METRICS[metric](TRAIN, HOLDOUT, FRESH).to_json())
        assert len(said) < 3000


def overfitted(few, **arguments):
    """A VAE that learned these images by heart: nothing that it did not learn from said when to stop."""
    fitted = Synthesizer("vae", static="gmm", **arguments)
    fitted.encoder = ImageEncoder().fit(few, rng=rng())
    x = fitted.encoder.encode(few, rng=rng())
    fitted.generator = build("vae", fitted.encoder.layout, fitted.arguments).fit(x, x, rng=rng())
    return fitted


def test_a_model_that_memorised_its_images_is_blocked():
    """Fifty are too few to tell, and that blocks too; of 150 an attacker tells who was among them."""
    few = TRAIN.take(np.arange(150))
    made = overfitted(few, width=16, latent=48, beta=0.01, dropout=0.0, passes=150, batch=32, rate=4e-3).sample(700, seed=0)
    asked = {"privacy.membership": DEFAULTS["privacy.membership"]}
    for count, expected in ((50, "NO-VERDICT"), (150, "FAIL")):
        found = verdict([METRICS["privacy.membership"](few.take(np.arange(count)), HOLDOUT, made)], asked)
        assert found.verdict == expected, found.reasons


def test_fifty_images_learned_by_heart_do_not_pass_the_gates():
    two = lambda some: some.take(np.flatnonzero(np.isin(some.column("label").to_numpy(), (0, 1))))  # noqa: E731
    few, others = two(TRAIN).take(np.arange(50)), two(HOLDOUT)
    made = overfitted(few, width=16, latent=48, beta=0.01, dropout=0.0, passes=300, batch=16, rate=4e-3).sample(400, seed=0)
    asked = gates(few.schema)
    found = verdict([METRICS[metric](few, others, made) for metric in asked], asked)
    assert found.verdict != "PASS"
    assert any(row.metric.startswith("privacy.") and row.verdict != "PASS" for row in found.rows), found.reasons


def test_a_generator_that_draws_the_same_few_pictures_again_and_again_is_found_out():
    fresh, (collapsed, fails) = judged("fidelity.coverage", FRESH)[0], judged("fidelity.coverage", noisy(FRESH.take(np.tile(np.arange(30), 23)), 8))
    assert fails and collapsed < 0.5 * fresh and "mode collapse" in WORDS["fidelity.coverage"].wrong
