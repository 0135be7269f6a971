"""Audits of what is promised: for every family the measured lower bound of epsilon is below the claim, and bugs that are planted are found out.

Measured are the models themselves, a hundred or so with a person and as many without; batches, which accounting takes to be drawn by chance, by
how they are drawn.
"""

import numpy as np
import pictures
import pyarrow as pa
import pytest
import torch
from tables import rng

import generators.synthesizer
from generators.building import beside, build, private
from generators.data import Column, Schema, Table
from generators.gmm import GMM
from generators.layout import Field, ImageLayout, Layout, Sequences, SeriesLayout
from generators.registry import FAMILIES
from generators.synthesizer import Synthesizer
from pipelines.promise import Promise, mechanism
from privacy.accounting import Steps, epsilon_of
from privacy.audit import by_chance, lower_bound
from privacy.mechanism import Private

LAYOUT = Layout((Field(3), Field(4), Field(5)))
CANARY = torch.tensor([[2.0, 3.0, 4.0]])  # of which nobody else has anything
OTHERS = torch.stack([torch.randint(0, 2, (30,), generator=rng(i)).float() for i in range(3)], 1)
MODELS, DELTA = 100, 1e-5
CONFIDENCE = 0.999  # so that one run in a thousand of an honest mechanism is accused, at most
TRAINED = {"width": 8, "bins": 4, "passes": 1.0}
FAMILY = {"marginals": {"rounds": 2}, "gmm": {"components": 2}, **dict.fromkeys(("autoregressive", "vae", "diffusion"), TRAINED)}


def audited(score, models: int = MODELS) -> float:
    """score(whether the person is there, number) -> a figure of one model; the epsilon that is surely lost."""
    return lower_bound(*(np.array([score(there, i) for i in range(models)]) for there in (True, False)), DELTA, CONFIDENCE)


def drawn_of(model) -> float:
    """How often the canary's values come, among rows drawn from the model."""
    rows = model.sample(400, rng=rng(9))
    return float((rows == CANARY).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize("family", private(Layout))
def test_a_family_loses_no_more_than_it_says(family):
    """At epsilons that a hundred models on each side can show to be broken: what tells all of them apart shows 1.8."""
    training = Steps(2.0, 0.1, 10) if FAMILY[family] is TRAINED else None

    def score(there: bool, i: int) -> float:
        x = torch.cat([OTHERS, CANARY]) if there else OTHERS
        model = FAMILIES[family](LAYOUT, **FAMILY[family])
        if training:
            model.descent = type(model.descent)(chance=0.1)
        return drawn_of(model.fit(x, x[:0], rng=rng(i), mechanism=Private(0.05, 1, 1e-7, training)))

    measured, claimed = audited(score), epsilon_of(DELTA, 0.05, [training] if training else [])
    print(f"{family}: measured at least {measured:.2f}, claimed {claimed:.2f}")
    assert claimed < lower_bound(np.ones(MODELS), np.zeros(MODELS), DELTA, CONFIDENCE)
    assert measured < claimed


STEPS = SeriesLayout(Layout((Field(1), Field(2))), LAYOUT, ((1, 6),))


def series(there: bool) -> Sequences:
    """Thirty of three steps each, like OTHERS; and one of six, each of which is the canary's."""
    lengths = torch.tensor([3] * 30 + [6] * there)
    steps = torch.cat([OTHERS.repeat_interleave(3, 0), CANARY.repeat(6 * there, 1)])
    return Sequences(torch.tensor([[0.0, 0.0]] * 30 + [[0.0, 1.0]] * there), lengths, steps)


@pytest.mark.slow
@pytest.mark.parametrize("family", private(SeriesLayout))
def test_a_family_of_series_loses_no_more_of_a_subject_than_it_says(family):
    """However many steps of his tell of him."""
    training = Steps(2.0, 0.1, 10) if family == "autoregressive" else None

    def score(there: bool, i: int) -> float:
        model = build(family, STEPS, beside(SeriesLayout, TRAINED if training else {"rounds": 2}))
        if training:
            model.rest.descent = type(model.rest.descent)(chance=0.1)
        x = series(there)
        model.fit(x, x[:0], rng=rng(i), mechanism=Private(0.05, 1, 1e-7, training))
        return float((model.sample(150, rng=rng(9)).steps == CANARY).float().mean())

    measured, claimed = audited(score), epsilon_of(DELTA, 0.05, [training] if training else [])
    print(f"{family} of series: measured at least {measured:.2f}, claimed {claimed:.2f}")
    assert measured < claimed < lower_bound(np.ones(MODELS), np.zeros(MODELS), DELTA, CONFIDENCE)


def words(*values: str, **options) -> Table:
    table = pa.table({"ward": pa.array(values)})
    return Table.of(table, Schema(table.schema, (Column("ward", "category", options),)))


class Present(Private):
    """The bug: values are told if anybody has them."""

    def kept(self, people, least, share):
        self._take("values", share)
        return people.clamp_min(1) * (people > 0)


@pytest.mark.parametrize("planted", [False, True])
def test_a_vocabulary_chosen_among_values_that_are_present_is_found_out(planted):
    promise = Promise(1.0, DELTA)

    def score(there: bool, i: int) -> float:
        honest = promise.mechanism()
        ask = Present(honest.rho, 1, honest.delta) if planted else honest
        model = Synthesizer("gmm", components=1).fit(words(*["x"] * 60, *["y"] * 60, *["Fabry"] * there), mechanism=_through(ask))
        return float("Fabry" in model.encoder.columns["ward"].values)

    assert (audited(score) > promise.epsilon) == planted


def _through(ask: Private) -> Private:
    """Parts of a planted mechanism have the same bug."""
    kind = type(ask)
    ask.part = lambda share, name: _through(kind(*_taken(ask, share, name)))
    return ask


def _taken(ask: Private, share: float, name: str) -> tuple:
    ask._take(name, share)
    return ask.rho * share, ask.rows, ask.delta * share


class Seeded(Private):
    """The bug: noise follows from a seed that the user chose, and so an attacker knows."""

    def counts(self, exact, share):
        self._take("counts", share)
        return exact + torch.randn(exact.shape, generator=rng(7), dtype=torch.double) * self.sd(share)


@pytest.mark.parametrize("planted", [False, True])
def test_noise_that_follows_from_a_seed_is_found_out(planted):
    """Who knows everybody else's rows makes the model without the canary himself, and compares."""
    rho = 0.02

    def margin(x: torch.Tensor) -> torch.Tensor:
        ask = (Seeded if planted else Private)(rho)
        return ask.counts(torch.bincount(x[:, 0].long(), minlength=3).double(), 1.0)

    def score(there: bool, i: int) -> float:
        told = margin(torch.cat([OTHERS, CANARY]) if there else OTHERS)
        return -float((told - margin(OTHERS)).abs().sum())

    assert (audited(score) > epsilon_of(DELTA, rho)) == planted


@pytest.mark.parametrize("planted", [False, True])
def test_contributions_that_are_not_bounded_are_found_out(planted, monkeypatch):
    """A person with 60 rows where one is promised."""
    if planted:
        monkeypatch.setattr(generators.synthesizer, "some_of_each", lambda table, rows: table)
    promise = Promise(1.0, DELTA)

    def score(there: bool, i: int) -> float:
        whose = [*range(120), *[120] * (60 * there)]
        ward = ["x", "y"] * 60 + ["z"] * (60 * there)
        values = pa.table({"who": whose, "ward": ward})
        schema = Schema(values.schema, (Column("who", "id"), Column("ward", "category", {"values": ["x", "y", "z"]})), "who")
        model = Synthesizer("gmm", components=1).fit(Table.of(values, schema), mechanism=promise.mechanism())
        at = model.encoder.columns["ward"].values.index("z")
        return float((model.generator.sample(400, rng=rng(i))[:, -1] == at).float().mean())

    assert (audited(score) > promise.epsilon) == planted


ONE = Layout((Field(3),))


class Chosen(GMM):
    """The bug: of many models, each private, that is kept under which the rows themselves are likeliest."""

    def fit(self, x, held_out, *, mechanism, rng):
        each = [GMM(self.layout, components=1).fit(x, held_out, mechanism=mechanism.part(1 / 20, "one of them"), rng=rng) for _ in range(20)]
        return max(each, key=lambda m: float(m.log_prob(x).sum()))


@pytest.mark.parametrize("planted", [False, True])
def test_a_checkpoint_chosen_by_the_raw_loss_is_found_out(planted):
    rho = 0.001

    def score(there: bool, i: int) -> float:
        x = torch.tensor([[0.0], [0.0], [0.0], *([[2.0]] * there)])
        model = (Chosen if planted else GMM)(ONE, components=1).fit(x, x[:0], rng=rng(i), mechanism=Private(rho))
        return float(model.log_prob(torch.tensor([[2.0]])))

    measured, claimed = audited(score), epsilon_of(DELTA, rho)
    print(f"measured at least {measured:.2f}, claimed {claimed:.2f}")
    assert (measured > claimed) == planted


def shuffled(rows: int, chance: float, steps: int) -> list[torch.Tensor]:
    """The bug: rows in an order at random, cut into batches of one size, again and again."""
    size, out, stream = round(rows * chance), [], rng(0)
    while len(out) < steps:
        out += torch.randperm(rows, generator=stream).split(size)
    return out[:steps]


@pytest.mark.parametrize("planted", [False, True])
def test_shuffled_batches_that_are_accounted_as_poisson_are_found_out(planted):
    rows, chance, steps = 200, 0.05, 400
    ask = Private(1.0, 1, 0.0, Steps(1.0, chance, steps))
    batches = shuffled(rows, chance, steps) if planted else [ask.batch(rows) for _ in range(steps)]
    assert (by_chance(batches, rows, chance) < 1e-6) == planted


def test_batches_of_one_size_drawn_anew_are_found_out():
    """Neither shuffled nor by chance: a fixed number of rows, drawn afresh for each batch."""
    stream = rng(0)
    assert by_chance([torch.randperm(200, generator=stream)[:10] for _ in range(400)], 200, 0.05) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("family", private(Layout))
def test_values_that_one_patient_has_are_never_copied(family):
    """40 categories of one patient each among 2,000 rows, at epsilon 3, over 20 models: none comes out. (A peer copies 10 of 40.)"""
    draw, alone, copied = np.random.default_rng(0), [f"lone {i}" for i in range(40)], 0
    values = pa.table({"diagnosis": [*draw.choice(["sepsis", "stroke", "asthma"], 1960).tolist(), *alone], "age": draw.integers(18, 90, 2000)})
    data = Table.of(values, Schema(values.schema, (Column("diagnosis", "category"), Column("age", "numeric", {"low": 18, "high": 90}))))
    for run in range(20):
        model = Synthesizer(family, seed=run, **({"passes": 0.2} if FAMILY[family] is TRAINED else {}))
        training = FAMILIES[family](Layout(()), **model.arguments).how if FAMILY[family] is TRAINED else None
        made = model.fit(data, mechanism=Promise(3.0, 1e-6).mechanism(training)).sample(2000)
        copied += len(set(made.column("diagnosis").unique().to_pylist()) & set(alone))
    bound = 1 - 0.05 ** (1 / 800)
    print(f"{family}: {copied} of 800 copied, so at most {bound:.4f} of them at 95 %; promised is less than 1e-6 each")
    assert copied == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", private(SeriesLayout))
def test_values_that_one_patient_has_at_every_visit_are_never_copied(family):
    """40 diagnoses of one patient each among 2,000 patients of three visits, at epsilon 3, over 20 models: none comes out."""
    draw, alone, copied = np.random.default_rng(0), [f"lone {i}" for i in range(40)], 0
    who = np.repeat(np.arange(2000), 3)
    diagnosis = [*draw.choice(["sepsis", "stroke", "asthma"], 5880).tolist(), *(v for v in alone for _ in range(3))]
    values = pa.table({"who": who, "day": np.tile(np.arange(3), 2000), "diagnosis": diagnosis, "pulse": draw.integers(50, 120, 6000)})
    pulse = Column("pulse", "numeric", {"low": 30, "high": 200})
    schema = Schema(
        values.schema, (Column("who", "id"), Column("day", "numeric", {"low": 0, "high": 10}), Column("diagnosis", "category"), pulse), "who", time="day"
    )
    data = Table.of(values, schema)
    for run in range(20):
        model = Synthesizer(family, seed=run, **({"passes": 0.2, "width": 8} if family == "autoregressive" else {"rounds": 2}))
        made = model.fit(data, mechanism=mechanism(model, 3.0, 1e-6, steps=3)).sample(2000)
        found = set(made.column("diagnosis").unique().to_pylist())
        assert {"sepsis", "stroke", "asthma"} <= found  # values that many have do come out
        copied += len(found & set(alone))
    print(f"{family} of series: {copied} of 800 copied, so at most {1 - 0.05 ** (1 / 800):.4f} of them at 95 %; promised is less than 1e-6 each")
    assert copied == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", private(ImageLayout))
def test_labels_that_one_image_has_are_never_copied(family):
    """40 labels of one image each among 2,000 images, at epsilon 3, over 20 models: none comes out."""
    draw, alone, copied = np.random.default_rng(0), [f"lone {i}" for i in range(40)], 0
    labels = np.array([*draw.choice(["healthy", "pneumonia", "effusion"], 1960), *alone])
    data = pictures.table(draw.integers(0, 256, (2000, 8, 8, 1), dtype=np.uint8), labels)
    for run in range(20):
        model = Synthesizer(family, seed=run)
        found = set(model.fit(data, mechanism=mechanism(model, 3.0, 1e-6)).sample(2000).column("label").unique().to_pylist())
        assert {"healthy", "pneumonia", "effusion"} <= found
        copied += len(found & set(alone))
    print(f"{family} of images: {copied} of 800 copied, so at most {1 - 0.05 ** (1 / 800):.4f} of them at 95 %; promised is less than 1e-6 each")
    assert copied == 0
