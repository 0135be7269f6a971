"""Learning from noisy counts: what nobody declared comes from many or not at all, and one person more changes no question by more than he may."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from tables import rng

from generators.data import Column, Schema, Table
from generators.encoding.surrogate import Surrogate
from generators.encoding.table import TableEncoder
from generators.exact import Exact
from generators.synthesizer import Synthesizer
from privacy.mechanism import Private

N = 20_000
MUCH = 1e4  # rho with which noise is next to none


def table(n: int = N, seed: int = 0) -> Table:
    """Numbers of every kind, dates, times, categories, a truth and an id."""
    draw = np.random.default_rng(seed)
    values = pa.table(
        {
            "age": draw.integers(17, 91, n),
            "wage": np.exp(draw.normal(10, 1, n)),
            "fever": np.round(draw.normal(37, 0.7, n), 1),
            "gain": np.where(draw.random(n) < 0.92, 0, draw.choice([7298, 15024], n)),
            "score": pa.array(draw.normal(0, 1, n), mask=draw.random(n) < 0.3),
            "day": draw.integers(10_000, 18_000, n).astype("datetime64[D]"),
            "hour": (draw.integers(10**9, 16 * 10**8, n) // 3600 * 3600).astype("datetime64[s]"),
            "ward": pa.array(draw.choice(list("abcd"), n, p=[0.6, 0.3, 0.0999, 0.0001]), mask=draw.random(n) < 0.1),
            "alive": draw.random(n) < 0.4,
            "mrn": [f"M{i:07}" for i in range(n)],
        }
    )
    kinds = {"day": "datetime", "hour": "datetime", "ward": "category", "alive": "boolean", "mrn": "id"}
    return Table.of(values, Schema(values.schema, tuple(Column(name, kinds.get(name, "numeric")) for name in values.column_names))).open()


def encoder(data: Table, mechanism, **options) -> TableEncoder:
    columns = tuple(Column(c.name, c.kind, options.get(c.name, c.options)) for c in data.schema.columns)
    schema = Schema(data.schema.arrow, columns, data.schema.subject)
    return TableEncoder(10).fit(Table(data.values, schema), rng=rng(), mechanism=mechanism)


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    plain = column.drop_null()
    return np.array(plain.cast(pa.timestamp("s")).cast(pa.int64()) if pa.types.is_temporal(plain.type) else plain).astype(float)


@pytest.mark.parametrize(("rho", "far"), [(MUCH, 0.004), (0.1, 0.04)])
def test_values_come_back_from_counts_alone(rho, far):
    """Quantiles of what comes back lie where those of the data do, by so much of the range in between."""
    data = table()
    learned = encoder(data, Private(rho, delta=1e-7))
    back = learned.decode(learned.encode(data, rng=rng(1)), rng=rng(2))
    for name in ("age", "wage", "fever", "gain", "score", "day", "hour"):
        real, made = (numbers(t.column(name)) for t in (data, back))
        levels = np.linspace(0.02, 0.98, 25)
        gap = np.abs(
            np.quantile(np.log(np.maximum(real, 1)) if name == "wage" else real, levels)
            - np.quantile(np.log(np.maximum(made, 1)) if name == "wage" else made, levels)
        )
        assert gap.max() <= far * np.ptp(np.log(real) if name == "wage" else real), name
    assert set(back.column("ward").unique().to_pylist()) == {"a", "b", "c", None}
    assert [learned.columns[n].scale.step for n in ("age", "wage", "fever", "hour")] == [1, 0, 1, 3600]
    assert learned.columns["fever"].scale.digits == 1
    assert learned.columns["gain"].codes[1:] == [0.0]
    assert [learned.columns[n].missing for n in ("ward", "alive")] == [True, False]
    assert not set(back.column("mrn").to_pylist()) & set(data.column("mrn").to_pylist())


def test_what_is_declared_is_known_to_everybody():
    data = table(500)
    learned = encoder(data, Private(0.001, delta=1e-9), ward={"values": ["a", "b", "z"]}, age={"low": 20, "high": 60}, wage={"low": 1000.5})
    assert sorted(learned.columns["ward"].values) == ["a", "b", "z"]  # however much noise there is, and whether anybody has it
    assert sorted(learned.columns["alive"].values) == [False, True]
    made = learned.decode(torch.randn(5000, len(learned.layout), generator=rng()) * 3, rng=rng(1))
    age = numbers(made.column("age"))
    assert not len(age) or 20 <= age.min() <= age.max() <= 60
    assert not len(wage := numbers(made.column("wage"))) or wage.min() >= 1000.5
    exact = encoder(data, None, ward={"values": ["a", "b"]})
    assert sorted(exact.columns["ward"].values) == ["a", "b"]
    assert exact.columns["ward"].rare


def test_a_declared_value_is_of_the_type_of_its_column():
    with pytest.raises(ValueError, match="column 'ward': values: found one that is no string"):
        encoder(table(500), None, ward={"values": [pa.scalar(1).as_py(), "a"]})


class Heard(Exact):
    """Answers the same whatever is asked, and keeps what was asked."""

    rows = 1

    def __init__(self, asked: list | None = None):
        self.asked = [] if asked is None else asked

    def sd(self, share: float) -> float:
        return 5.0

    def counts(self, exact, share):
        self.rest -= share
        self.asked.append(("counts", exact.double().clone()))
        return torch.linspace(0, 100, exact.numel(), dtype=torch.double).reshape(exact.shape)

    def kept(self, people, least, share):
        self.rest -= share
        self.asked.append(("kept", people.double().sort(descending=True).values))
        return torch.zeros_like(people)

    def choose(self, scores, sensitivity, share):
        self.rest -= share
        self.asked.append(("choice", scores / sensitivity))
        return 0

    def part(self, share, name):
        self.rest -= share
        one = Heard(self.asked)
        one.rows = self.rows
        return one


def test_nothing_but_answers_reaches_the_encoder():
    """Of two quite different tables the same is learned where the same is answered."""
    states = [json.dumps(encoder(table(n, seed), Heard()).state(), sort_keys=True) for n, seed in ((3000, 0), (500, 1))]
    assert states[0] == states[1]


def owned(rows: list[int], seed: int = 0) -> Table:
    """So many rows of each subject; categories alone, with which nothing is spread at random."""
    draw, n = np.random.default_rng(seed), sum(rows)
    names = ["whose", "ward", "drug", "dead"]
    values = pa.table([np.repeat(np.arange(len(rows)), rows), draw.choice(list("abc"), n), draw.choice(list("uvwxyz"), n), draw.random(n) < 0.3], names=names)
    kinds = ("id", "category", "category", "boolean")
    return Table.of(values, Schema(values.schema, tuple(map(Column, names, kinds)), "whose"))


@pytest.mark.parametrize("most", [1, 3])
def test_one_person_more_changes_no_question_by_more_than_he_may(most, monkeypatch):
    """Of one who has 200 rows the questions hear of `most`: counts move by at most that (in the Euclidean norm), numbers of people by one in at
    most so many places, scores by at most their sensitivity for each. The system's draws are the same, as in the proof; then nothing else differs."""
    monkeypatch.setattr("os.urandom", lambda n: bytes(range(n)))
    whole, asked = owned([most] * 150 + [200]), []
    for data in (whole, whole.take(whole.subjects < 150)):
        heard = Heard()
        heard.rows = most
        Synthesizer("marginals", seed=0, rounds=3).fit(data, mechanism=heard)
        asked.append(heard.asked)
    assert [what for what, _ in asked[0]] == [what for what, _ in asked[1]]
    moved = {"counts": [], "kept": [], "choice": []}
    for (what, one), (_, other) in zip(*asked, strict=True):
        gap = (one - torch.nn.functional.pad(other, (0, one.numel() - other.numel())) if what == "kept" else one - other).abs()
        moved[what].append(float(gap.square().sum().sqrt() if what == "counts" else gap.max()))
    assert 0 < max(moved["counts"]) <= most
    assert max(moved["kept"]) == 1
    assert 0 < max(moved["choice"]) <= most


@pytest.mark.parametrize("n", [1, 40])
def test_a_value_of_one_person_never_comes_out(n):
    """So many values that one person each has, among 2,000, at epsilon 3 or so: none is kept in 50 encoders; those of 200 are."""
    draw = np.random.default_rng(0)
    ward = [*draw.choice(["x", "y"], 2000 - n).tolist(), *(f"lone {i}" for i in range(n))]
    values = pa.table({"ward": ward})
    data = Table.of(values, Schema(values.schema, (Column("ward", "category"),)))
    for _ in range(50):
        assert set(encoder(data, Private(0.1, delta=1e-7)).columns["ward"].values) == {"x", "y"}


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.decimal128(20, 0)])
def test_ids_made_up_without_a_look_are_nobodys(kind):
    """There is room for more than anybody asks for, and who has a number of six digits is not among them."""
    ids = pa.array([f"{i}" for i in range(100_000, 900_000)]).cast(kind)
    surrogate = Surrogate(Column("mrn", "id"), pa.field("mrn", kind), 10)
    surrogate.fit(pa.chunked_array([ids]), np.random.default_rng(0), ask=Private(0.1, delta=1e-6))
    width = len(surrogate.fields)
    issued = {v for start in (0, 10**7, 10**11 - 5000) for v in surrogate.decode(np.zeros((5000, width)), np.random.default_rng(0), start).to_pylist()}
    assert len(issued) == 15_000 and not issued & set(ids.to_pylist())
