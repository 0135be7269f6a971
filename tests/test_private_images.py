"""Images under differential privacy: nothing but answers reaches the model, one picture changes them by no more than they say, and it learns."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from deaf import Deaf, Lone, farthest
from tables import rng

from generators.building import beside, build, private
from generators.data import DataError, Schema, Table
from generators.images import noisy
from generators.images.noisy import cosines, kinds_of
from generators.layout import Field, ImageLayout, Layout, Pictures
from generators.synthesizer import Synthesizer
from pipelines import mechanism, read
from pipelines.config import load_entry
from pipelines.sources import load_split
from privacy.accounting import epsilon_of
from privacy.audit import lower_bound
from privacy.mechanism import Private

SHAPE, MUCH = (1, 12, 10), 1e7
RHO, DELTA = 0.02, 1e-5
LAYOUT = ImageLayout(Layout((Field(1), Field(3))), SHAPE, 256)


def pictures(n: int, seed: int = 0, shape: tuple = SHAPE) -> Pictures:
    """Of three kinds, each a wave of its own, two directions in which all vary, and grain."""
    stream, which = rng(seed), torch.randint(3, (n,), generator=rng(seed + 100))
    rows, columns = torch.linspace(0, 3, shape[1])[:, None], torch.linspace(0, 3, shape[2])[None]
    wave = torch.stack([(rows + 0 * columns).sin(), (rows * columns).cos(), (columns + 0 * rows).sin()])[which]
    vary = torch.randn(n, 2, 1, 1, generator=stream) * torch.tensor([0.3, 0.2])[:, None, None]
    x = 0.3 * wave + vary[:, 0] * (rows - columns).cos() + vary[:, 1] * (columns / 2).sin() + 0.05 * torch.randn(n, *shape[1:], generator=stream)
    pixels = ((x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8)[:, None].expand(-1, shape[0], -1, -1).contiguous()
    return Pictures(torch.stack([torch.zeros(n), which.float()], 1), pixels)


def learned(x: Pictures, ask, layout: ImageLayout = LAYOUT):
    return build("gmm", layout, beside(ImageLayout, {})).fit(x, x[:0], rng=rng(), mechanism=ask)


def test_nothing_but_answers_reaches_the_model():
    one, other = (learned(pictures(n, seed), Deaf()) for n, seed in ((60, 0), (41, 1)))
    assert one.curve == other.curve
    states = [m.state_dict() for m in (one, other)]
    assert states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    drawn = [m.sample(20, rng=rng()) for m in (one, other)]
    assert torch.equal(drawn[0].pixels, drawn[1].pixels)


def moved() -> dict[str, float]:
    """By one that is white, black or a chess board, as the last one: how far each kind of question moves, by what it says."""
    x, worst = pictures(50), {}
    board = (torch.arange(12)[:, None] + torch.arange(10)[None]) % 2 * 255
    for odd in (torch.full((12, 10), 255), torch.zeros(12, 10), board):
        more = Pictures(torch.cat([x.static, torch.tensor([[0.0, 2.0]])]), torch.cat([x.pixels, odd.to(torch.uint8)[None, None]]))
        heard = [Lone(), Lone()]
        for ask, rows in zip(heard, (x, more), strict=True):
            learned(rows, ask)
        for what, far in farthest(*heard).items():
            worst[what] = max(worst.get(what, 0.0), far)
    return worst


def test_one_picture_more_changes_no_question_by_more_than_it_says(monkeypatch):
    """Counts, sums and squares; and where nothing is cut to the norm that is said, that shows."""
    worst = moved()
    assert worst["counts"] == 1 and 0.9 < worst["sums"] <= 1 + 1e-5, worst
    monkeypatch.setattr(noisy, "_within", lambda away, radius: away)
    assert moved()["sums"] > 1.2


@pytest.mark.parametrize("layout", [LAYOUT, ImageLayout(LAYOUT.static, (3, 8, 9), 256), ImageLayout(Layout((Field(1), Field())), SHAPE, 256)])
def test_with_hardly_any_noise_it_learns(layout):
    """Means of kinds, of all where kinds cannot be told apart, and how pixels vary and go together."""
    x = pictures(3000, shape=layout.shape)
    drawn = learned(x, Private(MUCH, 1, 1e-9), layout).sample(6000, rng=rng())
    assert drawn.pixels.shape[1:] == layout.shape and drawn.pixels.dtype == torch.uint8
    kinds = layout.static.fields[1].classes or 1
    real, made = (v.pixels.float().flatten(1) for v in (x, drawn))
    for k in range(kinds):
        own, drawn_own = (v.static[:, 1] == k if kinds > 1 else torch.ones(len(v), dtype=torch.bool) for v in (x, drawn))
        assert abs(float(own.float().mean() - drawn_own.float().mean())) < 0.04
        assert (real[own].mean(0) - made[drawn_own].mean(0)).abs().max() < 5  # of 255
        assert (real[own].std(0) / made[drawn_own].std(0)).log().abs().mean() < 0.15
    corr = [torch.corrcoef(v.t()) for v in (real, made)]
    assert (corr[0] - corr[1]).abs().mean() < 0.06


def test_noise_alone_is_hardly_ever_a_direction():
    """Pictures that do not vary together, and much noise, in eight models; what is drawn is finite."""
    x, found = pictures(400), 0
    still = Pictures(x.static, torch.randint(120, 136, (400, 1, 12, 10), generator=rng(), dtype=torch.uint8))
    for _ in range(8):
        model = learned(still, Private(0.3, 1, 1e-9))
        found += int(model.curve[-1]["model"].split(", ")[1].split()[0])
        assert torch.isfinite(model.rest.drawn(still.static[:50], rng())).all()
    assert found <= 3


@pytest.mark.parametrize("planted", [False, True])
def test_a_white_picture_among_grey_ones_is_not_found_out(planted):
    """By how much pictures vary, of a hundred models with it and a hundred without. Planted: hardly any noise."""
    grey = Pictures(torch.zeros(30, 2), torch.full((30, 1, 12, 10), 127, dtype=torch.uint8))
    white = Pictures(torch.zeros(1, 2), torch.full((1, 1, 12, 10), 255, dtype=torch.uint8))
    more = Pictures(torch.cat([grey.static, white.static]), torch.cat([grey.pixels, white.pixels]))

    def varied(x: Pictures) -> float:
        model = learned(x, Private(MUCH if planted else RHO, 1, 1e-9)).rest
        return float(model.main.root[0].square().sum() + model.normal.spread[model.grain.main :].square().sum())

    found = [np.array([varied(x) for _ in range(100)]) for x in (more, grey)]
    assert (lower_bound(*found, DELTA, 0.999) > epsilon_of(DELTA, RHO, [])) == planted


def test_cosines_are_orthonormal_and_known_to_everybody():
    for shape in ((1, 28, 28), (3, 9, 40), (1, 4, 4)):
        turn, ring = cosines(shape)
        assert torch.allclose(turn.t() @ turn, torch.eye(turn.shape[1]), atol=1e-5)
        assert len(ring) == turn.shape[1] and (ring.diff() >= 0).all()
    assert len(kinds_of(Layout((Field(1), Field(3), Field(2))))) == 6
    assert kinds_of(Layout((Field(1), Field()))).tolist() == [[-1.0, -1.0]] == kinds_of(Layout((Field(1), Field(500)))).tolist()


def test_a_notebook_learns_images_under_a_promise(tmp_path):
    """By a Synthesizer, saved and loaded; what stands beside is learned by a family that can keep it."""
    digits = read("digits", images=True, label="digit")
    model = Synthesizer("gmm")
    model.fit(digits, mechanism=mechanism(model, epsilon=8, delta=1e-5))
    model.save(tmp_path)
    again = Synthesizer.load(tmp_path)
    assert again.arguments == {"static": "marginals"}
    made = again.sample(50, balance="digit")
    assert made.values.equals(model.sample(50, balance="digit").values) and len(made) == 50
    assert np.isfinite(again.anomaly_scores(digits)).all()
    assert model.arguments == {} and mechanism(Synthesizer("gmm", static="marginals"), 3, 1e-6).rest == 1


def test_who_cannot_keep_it_says_who_can():
    assert private(ImageLayout) == ["gmm"]
    with pytest.raises(DataError, match="diffusion does not learn images under differential privacy, expected one that does: gmm"):
        private(ImageLayout, "diffusion")
    with pytest.raises(DataError, match="static: gan does not learn from noisy sums and counts, expected one that does: gmm, marginals"):
        beside(ImageLayout, {"static": "gan"})


def test_an_entry_of_images_takes_the_family_that_can(tmp_path):
    config = tmp_path / "flows.yaml"
    source = "{images: digits, label: digit, columns: {digit: {values: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}}}"
    config.write_text(f"p: {{source: {source}, privacy: {{epsilon: 3, delta: 1.0e-6}}}}")
    entry = load_entry(config, "p")
    assert entry.family == "gmm"
    train, holdout = load_split(entry)
    assert train.schema["digit"].kind == "category"
    held = set(holdout.column("image").to_pylist())
    assert len(train) + len(holdout) == 1797 and not held & set(train.column("image").to_pylist())


def test_where_nothing_stands_beside_pictures_nothing_is_spent_on_it():
    digits = read("digits", images=True)
    image = digits.schema.image
    digits = Table.of(digits.values.select([image.name]), Schema(pa.schema([digits.schema.arrow.field(image.name)]), (image,)))
    model = Synthesizer("gmm")
    ask = mechanism(model, epsilon=3, delta=1e-5)
    model.fit(digits, mechanism=ask)
    shares = dict(ask.answers)
    assert shares["the values of each column"] < 0.01 and sum(shares.values()) == pytest.approx(1)
    assert len(model.sample(20)) == 20
