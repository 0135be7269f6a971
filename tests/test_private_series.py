"""Series under differential privacy: nothing but answers reaches the model, one subject changes them by no more than they say, and it learns."""

import math
import os

import longitudinal
import numpy as np
import pyarrow as pa
import pytest
import torch
from deaf import Deaf, Lone, farthest
from longitudinal import MIXED, SIGNAL, sequences, visits
from projects import lay, refused, run
from tables import rng

from generators.building import beside, build, private
from generators.data import Column, DataError, Schema, Table, first_of_each
from generators.encoding.clock import Clock
from generators.encoding.numeric import _Middle
from generators.encoding.quantiles import Quantiles
from generators.encoding.series import SeriesEncoder
from generators.layout import Sequences, SeriesLayout
from generators.series import alone
from generators.series.autoregressive import Recurrent
from generators.synthesizer import Synthesizer
from pipelines import mechanism
from privacy.accounting import Steps
from privacy.mechanism import Private

MUCH = 1e6  # rho with which noise is next to none
SMALL = {"marginals": {"rounds": 3, "bins": 6}, "autoregressive": {"width": 8, "bins": 6, "passes": 0.2}}
ABLE = private(SeriesLayout)


def learned(family: str, x: Sequences, ask, layout: SeriesLayout = MIXED):
    return build(family, layout, beside(SeriesLayout, SMALL[family])).fit(x, x[:0], rng=rng(), mechanism=ask)


def test_which_families_can():
    assert ABLE == ["autoregressive", "marginals"] == sorted(SMALL)


@pytest.mark.parametrize("family", ABLE)
def test_nothing_but_answers_reaches_the_model(family):
    one, other = (learned(family, sequences(MIXED, n, seed), Deaf()) for n, seed in ((60, 0), (41, 1)))
    assert one.curve == other.curve
    states = [m.state_dict() for m in (one, other)]
    assert states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    drawn = [m.sample(20, rng=rng()) for m in (one, other)]
    assert torch.equal(drawn[0].steps, drawn[1].steps)


def moved(family: str) -> dict[str, float]:
    """By one subject more, who keeps a value for twelve steps, or changes all the time, or has one step alone."""
    x, worst = sequences(MIXED, 50), {}
    keeps, turns = (torch.tensor([[2.0, -3.0, 0.0, 3.0], [2.0, -3.0, 0.0, 3.0]]), torch.tensor([[2.0, -3.0, 0.0, 3.0], [0.0, 3.0, 1.0, 0.0]]))
    for steps, length in ((keeps.repeat(6, 1), 12), (turns.repeat(6, 1), 12), (keeps[:1], 1)):
        more = x.beside(Sequences(torch.tensor([[2.0 if length > 1 else 0.0, 1.0]]), torch.tensor([length]), steps))
        heard = [Lone(), Lone()]
        for ask, series in zip(heard, (x, more), strict=True):
            learned(family, series, ask)
        for what, far in farthest(*heard).items():
            worst[what] = max(worst.get(what, 0.0), far)
    return worst


@pytest.mark.parametrize("family", ABLE)
def test_one_subject_more_changes_no_question_by_more_than_it_says(family):
    """However many steps it has."""
    found = moved(family)
    assert found["counts"] == 1 and all(0 < far <= 1 + 1e-5 for far in found.values()), found
    assert {"autoregressive": {"sums", "step"}, "marginals": {"choice"}}[family] <= found.keys()


def test_steps_that_count_one_each_are_found_out(monkeypatch):
    """The bug: contributions that are not bounded. What a subject adds grows with its steps."""
    honest = moved("autoregressive")["sums"]
    monkeypatch.setattr(alone, "_each", lambda steps: torch.ones(len(steps), dtype=torch.double))
    assert moved("autoregressive")["sums"] > 1.5 > honest


@pytest.mark.parametrize("family", ABLE)
@pytest.mark.parametrize("layout", [MIXED, SIGNAL], ids=["mixed", "signal"])
def test_with_hardly_any_noise_it_learns(family, layout):
    """Margins, and how steps go with those before."""
    x = sequences(layout, 2000)
    training = Steps(1e-3, 0.1, 100) if family == "autoregressive" else None
    model = build(family, layout, beside(SeriesLayout, {"passes": 10, "bins": 10, "width": 16} if training else {"bins": 10}))
    if training:
        model.rest.descent = type(model.rest.descent)(chance=0.1, norm=10.0, rate=0.01)
    model.fit(x, x[:0], rng=rng(), mechanism=Private(MUCH, 1, 1e-9, training))
    made = model.sample(2000, rng=rng())
    whose, own = (torch.repeat_interleave(torch.arange(len(v)), v.lengths) for v in (x, made))
    assert abs(float(x.lengths.double().mean() - made.lengths.double().mean())) < 0.3
    for i, field in enumerate(layout.step.fields):
        if field.classes:
            share = [torch.bincount(v.steps[:, i].long(), minlength=field.classes) / len(v.steps) for v in (x, made)]
            assert (share[0] - share[1]).abs().max() < 0.05, i
        elif field.gate is None:
            pairs = [torch.stack([v.steps[1:, i], v.steps[:-1, i]])[:, w[1:] == w[:-1]] for v, w in ((x, whose), (made, own))]
            assert abs(float(torch.corrcoef(pairs[0])[0, 1] - torch.corrcoef(pairs[1])[0, 1])) < 0.08
            assert abs(float(pairs[0].std() - pairs[1].std())) < 0.1


@pytest.mark.parametrize("layout", [MIXED, SIGNAL], ids=["mixed", "signal"])
def test_the_loss_of_one_series_alone_is_what_the_model_says_of_it(layout):
    """Of series that are looked at whole; and the recurrent formula is torch's."""
    x = sequences(layout, 30)
    model = Recurrent(layout, width=8, bins=6, passes=0.2)
    model.fit(x, x[:0], rng=rng(), mechanism=Private(1.0, 1, 0.0, Steps(1.0, 0.02, 10)))
    coded = model.coded(x)
    side_by_side = alone.padded(model, coded)
    with torch.no_grad():
        each = torch.stack([alone.nats(model, side_by_side, torch.tensor([i])) for i in range(len(x))])
        steps = model._nats(coded, model.net.natural())
    whole = torch.zeros(len(x)).index_add_(0, coded.whose, steps)
    assert torch.allclose(each, whole, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_one_series_is_that_of_its_steps_whatever_its_length():
    """By torch itself, through its own recurrent network; of a series of one step as of one of twelve."""
    x = sequences(MIXED, 40)
    x = x[torch.arange(40)].beside(Sequences(torch.tensor([[0.0, 1.0]]), torch.tensor([1]), torch.tensor([[1.0, 0.5, 0.0, -0.5]])))
    model = Recurrent(MIXED, width=8, bins=6, passes=0.2)
    model.fit(x, x[:0], rng=rng(), mechanism=Private(1.0, 1, 0.0, Steps(1.0, 0.02, 10)))
    weights = [p for p in model.parameters() if p.requires_grad]
    side_by_side = alone.padded(model, model.coded(x))
    for i in range(len(x)):
        own = torch.autograd.grad(alone.nats(model, side_by_side, torch.tensor([i])), weights, allow_unused=True)
        known = torch.autograd.grad(model._nats(model.coded(x[torch.tensor([i])]), model.net.natural()).sum(), weights, allow_unused=True)
        for a, b in zip(own, known, strict=True):
            assert (a is None) == (b is None) and (a is None or torch.allclose(a, b, rtol=1e-3, atol=1e-4)), int(x.lengths[i])


def test_a_stretch_of_a_long_series_is_looked_at(monkeypatch):
    """Anywhere in it: the same series has another loss each time, and each is of some of its steps."""
    monkeypatch.setattr(alone, "STRETCH", 10)
    x = sequences(SIGNAL, 20)
    model = Recurrent(SIGNAL, width=8, bins=6, passes=0.2)
    model.fit(x, x[:0], rng=rng(), mechanism=Private(1.0, 1, 0.0, Steps(1.0, 0.02, 10)))
    side_by_side = alone.padded(model, model.coded(x))
    found = torch.stack([alone.nats(model, side_by_side, torch.tensor([0])) for _ in range(20)])
    assert len(found.unique()) > 5 and found.min() > 0


class Nothing(Deaf):
    """Of values that nobody knew beforehand none is told."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def kept(self, people, least, share):
        self.rest -= share
        return torch.zeros_like(people)


def test_nothing_but_answers_reaches_the_encoder():
    """Lengths, times, what stays and what changes: of 60 patients and of 41 others."""
    told = [SeriesEncoder(1).fit(visits(n, seed), rng=rng(), mechanism=Nothing(12)).state() for n, seed in ((60, 0), (41, 1))]
    assert told[0] == told[1]


class NobodyKnown(Lone):
    """A Lone that tells of no unknown value, and of whose trainings every batch is the last subject alone."""

    steps = 40

    def kept(self, people, least, share):
        self._same("kept", people.sum()[None], float(len(people) or 1), share)
        return torch.zeros_like(people)

    def sums(self, exact, norm, share):
        return self._same("sums", exact, norm, share) * 0 + 10.0


@pytest.mark.parametrize("family", ABLE)
def test_from_a_table_to_the_model_one_subject_more_changes_no_question_by_more_than_it_says(family, monkeypatch):
    """Forty steps at distances that nobody else has. What is drawn at random is the same with and without, so that what differs is the subject's own."""
    monkeypatch.setattr(os, "urandom", lambda n: bytes(range(n)))
    to_unit, any_distance = Quantiles.to_unit, Clock._any
    monkeypatch.setattr(Quantiles, "to_unit", lambda self, x, rng, step=0.0: to_unit(self, x, _Middle(), 0.0))
    monkeypatch.setattr(Clock, "_any", lambda self, n, rng: any_distance(self, n, np.random.default_rng(0)))
    draw, days = np.random.default_rng(0), np.tile([0, 1900], 80)
    ward = draw.choice(["a", "b", "c"], 160)

    def hospital(more: int) -> Table:
        who, when = np.r_[np.repeat(np.arange(80), 2), np.full(more, 80)], np.r_[days, 25 * np.arange(more)]
        values = pa.table({"who": who, "when": when, "ward": np.r_[ward, np.full(more, "c")]})
        known = Column("when", "numeric", {"low": 0, "high": 2000}), Column("ward", "category", {"values": ["a", "b", "c"]})
        return Table.of(values, Schema(values.schema, (Column("who", "id"), *known), "who", time="when"))

    heard = []
    for more in (0, 40):
        heard.append(NobodyKnown())
        Synthesizer(family, **SMALL[family]).fit(hospital(more), mechanism=heard[-1])
    found = farthest(*heard)
    assert found["counts"] <= 1 and all(far <= 1 + 1e-5 for what, far in found.items() if what != "kept"), found


def test_what_one_subject_is_encoded_as_depends_on_no_other():
    """Nobody's values reach another's row: a stranger with fifty distances of his own is nowhere in what others become."""
    few = visits(60)
    odd = longitudinal.of({n: [*few.column(n).to_pylist(), *more] for n, more in {
        "who": [99] * 50, "when": [float(999 * k) for k in range(50)], "sick": [True] * 50, "age": [50] * 50, "marker": [1.0] * 50, "stage": ["late"] * 50,
    }.items()}, {"sick": "boolean", "stage": "category"}, static=("sick", "age"))  # fmt: skip
    encoder = SeriesEncoder(1).fit(odd.open(), rng=rng(), mechanism=Private(MUCH, 1, 1e-3, steps=50))
    gap, far = encoder.encode(odd, rng=rng()), encoder.clock.gap.encode(encoder.clock._array(np.array([999.0])), np.random.default_rng(0))
    place = len(encoder.clock.gap.fields) - 1
    others = gap.steps[: len(few), place]
    own = others[torch.from_numpy(np.diff(few.subjects, prepend=-1) > 0)]
    assert len(own) == 60 and float(own.std()) > 0.5  # first steps have any distance,
    assert float((own > float(far[0, -1]) - 0.01).float().mean()) < 0.3  # and not his, which is four in ten of all distances


def test_the_encoder_learns_lengths_times_and_values():
    data = visits(3000)
    encoder = SeriesEncoder(1).fit(data.open(), rng=rng(), mechanism=Private(MUCH, 1, 1e-3, steps=12))
    assert [span for span in encoder.spans if span[0] == span[1]] == [(k, k) for k in range(1, 10)]
    x = encoder.encode(data, rng=rng())
    assert (x.lengths.numpy() == data.lengths).all() and torch.isfinite(x.steps).all()
    again = encoder.decode(x, rng=rng())
    marker, made = (t.column("marker").to_numpy(zero_copy_only=False) for t in (data, again))
    assert (np.isnan(marker) == np.isnan(made)).all()
    assert np.nanmedian(np.abs(marker - made)) < 0.05 and np.nanmax(np.abs(marker - made)) < 2
    gaps = [np.diff(t.column("when").to_numpy())[np.diff(t.subjects) == 0] for t in (data, again)]
    assert abs(np.median(gaps[0]) - np.median(gaps[1])) < 0.02 and gaps[1].min() > 0


def test_no_more_steps_are_learned_from_than_are_said():
    data = visits(400)
    short = first_of_each(data, 3)
    assert short.lengths.max() == 3 and len(short.lengths) == len(data.lengths)
    assert short.column("when")[0] == data.column("when")[0]
    model = Synthesizer("marginals", rounds=2)
    model.fit(data, mechanism=mechanism(model, 8, 1e-5, steps=3))
    made = model.sample(300)
    assert made.lengths.max() <= 3


@pytest.mark.parametrize("family", ABLE)
def test_a_notebook_learns_series_under_a_promise(tmp_path, family):
    data = visits(600)
    model = Synthesizer(family, **SMALL[family])
    model.fit(data, mechanism=mechanism(model, 8, 1e-5, steps=9))
    model.save(tmp_path)
    again = Synthesizer.load(tmp_path)
    assert again.arguments == SMALL[family] | {"static": "marginals"}
    made = again.sample(50, where={"sick": True})
    assert made.values.equals(model.sample(50, where={"sick": True}).values) and set(made.column("sick").to_pylist()) == {True}
    assert np.isfinite(again.anomaly_scores(data)).all()
    assert len(model.curve) and 500 < model.rows < 700


def test_spends_what_was_said_and_no_more():
    """Shares add up to all, and a training is told its steps."""
    data = visits(600)
    for family in ABLE:
        model = Synthesizer(family, **SMALL[family])
        ask = mechanism(model, 3, 1e-5, steps=9)
        model.fit(data, mechanism=ask)
        assert ask.rest == 0 and math.isclose(sum(share for _, share in ask.answers), 1.0)


def test_wrong_mechanisms_are_refused_in_a_notebook():
    data, model = visits(300), Synthesizer("marginals", rounds=1)
    with pytest.raises(DataError, match="found no steps=, expected it"):
        model.fit(data, mechanism=mechanism(model, 3, 1e-5))
    with pytest.raises(DataError, match="found 2 beside steps, expected steps alone"):
        mechanism(model, 3, 1e-5, rows=2, steps=5)
    ask = mechanism(model, 3, 1e-5, steps=5)
    model.fit(data, mechanism=ask)
    with pytest.raises(DataError, match="one that was spent, expected a new one for each fit"):
        model.fit(data, mechanism=ask)
    with pytest.raises(DataError, match="found no rows"):
        model.fit(data.take(np.arange(0)), mechanism=mechanism(model, 3, 1e-5, steps=5))


@pytest.mark.parametrize("kind", ["int64", "double", "date32[day]", "timestamp[us, tz=UTC]"])
def test_where_noise_drowns_times_they_are_times_all_the_same(kind):
    """And where nothing changes but the time."""
    day = pa.array(np.tile(np.arange(4), 100))
    when = day.cast(pa.int32()).cast(kind) if kind.startswith("date") else (day if kind == "int64" else pa.array(np.tile(np.arange(4), 100) * 86_400_000_000))
    when = when if kind.startswith("date") else when.cast(pa.float64() if kind == "double" else pa.int64() if kind == "int64" else pa.timestamp("us", "UTC"))
    values = pa.table({"who": np.repeat(np.arange(100), 4), "when": when, "sex": np.repeat(["f", "m"], 200)})
    time = Column("when", "numeric" if kind in ("int64", "double") else "datetime")
    sex = Column("sex", "category", {"values": ["f", "m"]})
    data = Table.of(values, Schema(values.schema, (Column("who", "id"), time, sex), "who", time="when", static=("sex",)))
    for epsilon in (0.05, 9):
        model = Synthesizer("marginals", rounds=1)
        model.fit(data, mechanism=mechanism(model, epsilon, 1e-5, steps=4))
        made = model.sample(50)
        assert made.column("when").null_count == 0 and made.values.schema.field("when").type == values.schema.field("when").type
        first = np.cumsum(made.lengths) - made.lengths
        raw = made.column("when").cast(pa.float64() if kind in ("int64", "double") else pa.int32() if kind.startswith("date") else pa.int64()).to_numpy()
        assert (np.delete(np.diff(raw), first[1:] - 1) > 0).all()


SERIES = """clinic:
  source:
    series: visits.parquet
    subject: who
    time: when
    target: sick
    static: [sick, age]
    columns:
      when: {low: 0, high: 20}
      sick: {kind: boolean}
      age: {kind: numeric, low: 0, high: 120}
      marker: {kind: numeric, low: -10, high: 30}
      stage: {kind: category, values: [early, late]}
  privacy: {epsilon: 5, delta: 1.0e-5, steps: 9}
"""


@pytest.fixture
def clinic(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(visits(1500).values, tmp_path / "visits.parquet")
    return tmp_path


def test_a_run_of_series_under_differential_privacy(clinic):
    """Judged by held-out subjects, and refused or published; the report says what was kept."""
    code, said = run(lay(clinic, SERIES), name="clinic")
    assert code in (0, 1), said
    folder = clinic / said["run"]
    report = (folder / "report.html").read_text()
    assert "Differential privacy" in report and "steps of one subject" in report
    facts = Synthesizer.load(folder / "model")
    assert facts.family == "marginals" and facts.rows > 800


REFUSED = [
    (", steps: 9", "", ["privacy", "epsilon: without steps:", "the first ones"]),
    ("steps: 9", "steps: 9, rows: 1", ["privacy", "rows: and steps:", "one of the two"]),
    ("steps: 9", "rows: 5", ["privacy.rows", "expected steps:"]),
    ("    static: [sick, age]\n", "", ["source", "no static:", "would tell of them"]),
    ("static: [sick, age]", "static: [sick, marker]", ["static", "'marker'", "changes within a subject"]),
    ("static: [sick, age]", "static: [sick, sick]", ["source.static", "'sick' twice", "each column once"]),
    ("static: [sick, age]", "static: [sick, nobody]", ["static", "no column 'nobody'"]),
    ("marker: {kind: numeric, low: -10, high: 30}", "marker: {low: -10, high: 30}", ["source.columns.marker", "no kind is declared"]),
    ("  privacy", "  generator: hmm\n  privacy", ["hmm does not learn series under differential privacy", "autoregressive, marginals"]),
    ("steps: 9", "steps: 1", ["privacy.steps", "found 1"]),
]


@pytest.mark.parametrize(("old", "new", "words"), REFUSED, ids=[new.strip() or old for old, new, _ in REFUSED])
def test_what_cannot_be_promised_of_series_is_refused(clinic, old, new, words):
    assert old in SERIES
    said = refused(lay(clinic, SERIES.replace(old, new)), "clinic")
    assert all(word in said for word in words), said
    assert not (clinic / "runs").exists()


def test_windows_and_tables_know_no_steps(tmp_path):
    from pipelines.config import load_entry

    config = lay(tmp_path, "p: {source: {series: a.csv, window: 24}, privacy: {epsilon: 3, delta: 1.0e-6, steps: 24}}")
    with pytest.raises(DataError, match="found beside window:, expected subject: and time:"):
        load_entry(config, "p")
    config.write_text("p: {source: {table: a.csv}, privacy: {epsilon: 3, delta: 1.0e-6, steps: 24}}")
    with pytest.raises(DataError, match=r"privacy\.steps: found beside table:"):
        load_entry(config, "p")
    config.write_text("p: {source: {table: a.csv, static: [b]}}")
    with pytest.raises(DataError, match=r"source\.static: found beside table:, expected it beside series:"):
        load_entry(config, "p")
