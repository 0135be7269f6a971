"""Kinds are found from values, whatever the columns are called; what is not recognised stops the run."""

import decimal
import os
import string
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from faker import Faker

from generators.data import DataError
from pipelines import sources
from pipelines.config import Source
from privacy.disclosure import detect

ROWS = 2000


def nhs_numbers(n: int, rng: np.random.Generator) -> list[str]:
    made = []
    while len(made) < n:
        nine = rng.integers(0, 10, 9)
        nine[0] = rng.integers(4, 8)
        check = 11 - int(nine @ np.arange(10, 1, -1)) % 11
        if check != 10:
            made.append("".join(map(str, nine)) + str(check % 11))
    return made


def invented(rng: np.random.Generator) -> dict[str, tuple[list, str, set]]:
    """What a hospital holds: column -> (values, kind, Faker providers that will do)."""
    fake = Faker(["en_GB", "en_US"])
    fake.seed_instance(1)
    surnames = [fake.unique.last_name() for _ in range(300)]
    full = [f"{fake.last_name()}, {fake.first_name()}" if i % 2 else f"Dr. {fake.first_name()} {fake.last_name()}" for i in range(ROWS)]
    notes = [f"Seen by {fake.name()}, {fake.sentence(9)}" for _ in range(ROWS)]
    nhs = nhs_numbers(ROWS, rng)
    return {
        "mrn": ([f"MRN-{i:06d}" for i in rng.choice(10**6, ROWS, replace=False)], "id", {None}),
        "nhs_number": ([f"{v[:3]} {v[3:6]} {v[6:]}" for v in nhs], "pii", {"ssn"}),
        "nhs_plain": (nhs, "pii", {"ssn"}),
        "surname": ([surnames[int(i)] for i in rng.zipf(1.5, ROWS) % 300], "pii", {"last_name"}),
        "upper": ([surnames[i].upper() for i in rng.integers(0, 300, ROWS)], "pii", {"last_name"}),
        "given": ([fake.first_name() for _ in range(ROWS)], "pii", {"first_name"}),
        "full_name": (full, "pii", {"name"}),
        "e_mail": ([fake.email() for _ in range(ROWS)], "pii", {"email"}),
        "repeated_mail": (list(rng.choice([fake.email() for _ in range(40)], ROWS)), "pii", {"email"}),
        "phone": ([fake.phone_number() for _ in range(ROWS)], "pii", {"phone_number"}),
        "ssn": ([fake["en_US"].ssn() for _ in range(ROWS)], "pii", {"ssn"}),
        "nino": ([fake["en_GB"].ssn() for _ in range(ROWS)], "pii", {"ssn"}),
        "note": (notes, "text", {None}),
        "address": ([fake.address() for _ in range(ROWS)], "pii", {"address"}),
        "remarks": ([f"{a} {b}" for a, b in zip(WORDLIKE, WORDLIKE[::-1], strict=True)], "text", {None}),
        "uid": ([str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(ROWS)], "id", {None}),
        "digest": ([rng.bytes(16).hex() for _ in range(ROWS)], "id", {None}),
        "ip": ([fake.ipv4() for _ in range(ROWS)], "pii", {"ipv4"}),
        "iban": ([fake.iban() for _ in range(ROWS)], "pii", {"iban"}),
    }


@pytest.fixture(scope="module")
def hospital():
    return invented(np.random.default_rng(0))


@pytest.mark.parametrize("odd_names", [False, True])
def test_invented_columns_are_recognised_by_their_values(hospital, odd_names):
    hospital = {k: v for k, v in hospital.items() if not odd_names or k != "remarks"}  # short remarks are told by their name
    names = list(string.ascii_lowercase[: len(hospital)]) if odd_names else list(hospital)
    columns = detect(pa.table(dict(zip(names, (v for v, *_ in hospital.values()), strict=True))), {})
    for column, (label, (_, kind, fakers)) in zip(columns, hospital.items(), strict=True):
        assert (label, column.kind) == (label, kind)
        assert column.options.get("faker") in fakers, label


@pytest.mark.parametrize("locale", ["de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "sv_SE", "tr_TR", "ru_RU", "zh_CN"])
@pytest.mark.parametrize("provider", ["name", "first_name", "last_name", "email"])
def test_people_of_other_countries(locale, provider):
    fake = Faker(locale)
    fake.seed_instance(0)
    values = pa.table({"x": [getattr(fake, provider)() for _ in range(ROWS)]})
    if (locale, provider) == ("pl_PL", "last_name"):  # Faker builds these from syllables: on no list, so it fails closed
        with pytest.raises(DataError, match="not recognised"):
            detect(values, {})
    else:
        (column,) = detect(values, {})
        assert column.kind == "pii" and column.options["faker"] == provider


def test_names_stay_personal_when_each_is_held_by_many_rows():
    fake = Faker("en_GB")
    fake.seed_instance(0)
    few = [fake.unique.last_name() for _ in range(40)]
    assert detect(pa.table({"q": few * 50}), {})[0].kind == "pii"
    assert detect(pa.table({"surname": few[:6] * 300}), {})[0].options == {"faker": "last_name"}


WORDS = {
    "city": ["Houston", "Dallas", "Austin", "Jackson", "Madison", "Lincoln", "Chicago", "Denver", "Boston", "Orlando"],
    "name": ["Widget A", "Widget B", "Gadget", "Gizmo", "Thing"],
    "state": ["Virginia", "Georgia", "Montana", "Dakota", "Washington", "Nevada", "Ohio", "Texas"],
    "colour": ["Brown", "Green", "Gray", "Hazel", "White", "Black", "Violet", "Amber", "Rose", "Olive"] + [f"{c} {d}" for c in "ab" for d in range(9)],
    "m": ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"],
    "icd": [f"{c}{n:02d}.{m}" for c in "ABC" for n in range(8) for m in range(3)],
    "score": ["1", "2", "3", "4", "5", "unknown"],
    "hour": [f"{i:02d}" for i in range(24)],
    "version": [f"1.{i}.{j}" for i in range(5) for j in range(8)],
    "band": ["under 10", "10-20", "20-30", "over 30"],
    "month": [f"2020-{m:02d}" for m in range(1, 13)],
    "edema": ["edema despite diuretics", "No edema", "edema no diuretics"],
}


@pytest.mark.parametrize("name", WORDS)
def test_few_repeated_values_are_a_category(name):
    values = np.random.default_rng(0).choice(WORDS[name], ROWS)
    for column in (pa.array(values), pa.array(values).dictionary_encode(), pa.array(values, pa.large_string())):
        assert detect(pa.table({name: column}), {})[0].kind == "category"


def numbers(rng):
    population = rng.choice(np.arange(1000, 5_000_000), ROWS, replace=False)
    return {
        "bools": (pa.array([True, None] * 1000), "boolean"),
        "zero_one": (pa.array(rng.integers(0, 2, ROWS)), "category"),
        "constant": (pa.array([7] * ROWS), "category"),
        "nothing": (pa.nulls(ROWS), "category"),
        "no_numbers": (pa.nulls(ROWS, pa.float64()), "category"),
        "population": (pa.array(population), "numeric"),
        "age": (pa.array(rng.integers(0, 90, ROWS), pa.int8()), "numeric"),
        "salary": (pa.array(rng.normal(3e4, 1e4, ROWS)), "numeric"),
        "price": (pa.array([decimal.Decimal(int(v)) / 100 for v in population], pa.decimal128(12, 2)), "numeric"),
        "seconds": (pa.array(1_600_000_000 + population), "numeric"),
        "row": (pa.array(rng.permutation(ROWS) + 1), "id"),
        "row_with_gaps": (pa.array(np.sort(rng.choice(3000, ROWS, replace=False))), "id"),
        "row_as_float": (pa.array(np.arange(ROWS, dtype=float)), "id"),
        "year": (pa.array(np.arange(ROWS)), "numeric"),
        "patient_id": (pa.array(population), "id"),
        "visit_of_patient_id": (pa.array(np.repeat(population[:400], 5)), "id"),
        "account": (pa.array(rng.choice(np.arange(10**7, 9 * 10**7), ROWS, replace=False)), "id"),
        "nhs": (pa.array([int(v) for v in nhs_numbers(ROWS, rng)]), "pii"),
        "mobile_phone": (pa.array(rng.choice(np.arange(7 * 10**9, 8 * 10**9, 1001), ROWS, replace=False)), "pii"),
        "day": (pa.array((population % 20000).astype("int32"), pa.date32()), "datetime"),
        "stamp": (pa.array(population, pa.timestamp("s", "Europe/Berlin")), "datetime"),
    }


def test_numbers_dates_and_booleans():
    made = numbers(np.random.default_rng(0))
    columns = detect(pa.table({k: v for k, (v, _) in made.items()}), {})
    assert {c.name: c.kind for c in columns} == {k: kind for k, (_, kind) in made.items()}


def test_a_subject_is_an_id_and_a_target_of_few_numbers_a_category():
    t = pa.table({"who": np.repeat(np.arange(500), 4) * 17 % 997, "grade": np.tile([1, 2, 3, 4], 500), "stage": np.tile([1, 2, 3, 4], 500)})
    assert [c.kind for c in detect(t, {}, subject="who", target="grade")] == ["id", "category", "numeric"]


RANDOM = np.random.default_rng(5)
WORDLIKE = ["".join(RANDOM.choice(list(string.ascii_lowercase), 7)) for _ in range(ROWS)]
STOPS = {
    "unrecognised": (WORDLIKE, "almost unique"),
    "sparse": ([*WORDLIKE[:30], *[None] * 1970], "almost unique"),
    "mixed": ([*map(str, range(18, 90)), "n.k."] * 20, "mixed types"),
    "numbers_as_text": ([f"{v:.2f}" for v in RANDOM.normal(50, 9, ROWS)], "numbers stored as text"),
    "dates_as_text": ([f"{d:02d}/{m:02d}/{y}" for y in range(1950, 2010) for m in (1, 5, 9) for d in range(1, 12)], "dates stored as text"),
    "half_mail": ([*WORDLIKE[:1000], *(f"{w}@example.org" for w in WORDLIKE[1000:])], "email"),
    "nested": (pa.array([[1]] * ROWS), "not supported"),
    "bytes": (pa.array([b"x"] * ROWS), "not supported"),
    "time": (pa.array([1] * ROWS, pa.time32("s")), "not supported"),
    "struct": (pa.array([{"a": 1}] * ROWS), "not supported"),
}


@pytest.mark.parametrize("name", STOPS)
def test_what_is_not_recognised_stops_the_run_and_says_how_to_go_on(name):
    values, words = STOPS[name]
    with pytest.raises(DataError, match=words) as stopped:
        detect(pa.table({name: values}), {})
    text = str(stopped.value)
    assert f"column {name!r}" in text and "declare it: columns: {" in text and "\n" not in text
    assert not any(str(v) in text for v in (values if isinstance(values, list) else []) if v and len(str(v)) > 4)
    assert detect(pa.table({name: values}), {name: {"kind": "drop"}})[0].kind == "drop"


def test_three_hundred_thousand_distinct_strings():
    t = pa.table({"x": [f"{i * 7919 % 300_007:x}~" for i in range(300_000)]})
    with pytest.raises(DataError, match="300000 distinct strings"):
        detect(t, {})
    with pytest.raises(DataError, match="declare id, text or drop"):
        detect(t, {"x": {"kind": "category"}})


DECLARED = {
    "numeric on text": (["a", "b"] * 50, {"kind": "numeric"}, "expected a column of numbers"),
    "boolean on 0 and 1": ([0, 1] * 50, {"kind": "boolean"}, "declare category"),
    "datetime on text": (["2020-01-01"] * 100, {"kind": "datetime"}, "expected dates or timestamps"),
    "text on numbers": ([1, 2] * 50, {"kind": "text"}, "expected a column of text"),
    "id on booleans": ([True, False] * 50, {"kind": "id"}, "expected text or whole numbers"),
    "no such provider": (["a", "b"] * 50, {"kind": "pii", "faker": "wizard"}, "no provider of Faker"),
    "pii of no sort": (["a", "b"] * 50, {"kind": "pii"}, "add faker"),
    "low above high": ([1, 2, 3] * 50, {"kind": "numeric", "low": 5, "high": 2}, "expected low below high"),
    "values below low": ([-1, 2, 3] * 50, {"low": 0, "kind": "numeric"}, "50 values lie outside"),
    "low of a category": (["a", "b"] * 50, {"kind": "category", "low": 0}, "option 'low'"),
    "no such kind": (["a", "b"] * 50, {"kind": "number"}, "expected one of numeric"),
}


@pytest.mark.parametrize("name", DECLARED)
def test_declared_kinds_that_the_values_contradict(name):
    values, options, words = DECLARED[name]
    with pytest.raises(DataError, match=words):
        detect(pa.table({"x": values}), {"x": options})


def test_declared_kinds_win():
    t = pa.table({"a": ["x", "y"] * 500, "b": WORDLIKE[:1000], "c": range(1000), "d": [f"{w}@x.org" for w in WORDLIKE[:1000]]})
    declared = {"a": {"kind": "text"}, "b": {"kind": "id"}, "c": {"kind": "numeric", "low": 0}, "d": {"kind": "pii"}}
    columns = detect(t, declared)
    assert [c.kind for c in columns] == ["text", "id", "numeric", "pii"]
    assert columns[2].options == {"low": 0} and columns[3].options == {"faker": "email"}


@pytest.mark.parametrize("role", ["subject", "target", "columns"])
def test_columns_that_do_not_exist(role):
    with pytest.raises(DataError, match=f"{role}: no column 'zz'"):
        detect(pa.table({"a": [1]}), {"zz": {"kind": "id"}} if role == "columns" else {}, **({} if role == "columns" else {role: "zz"}))


def test_a_target_that_is_not_learned():
    with pytest.raises(DataError, match="target: column 'a' is of kind id"):
        detect(pa.table({"a": range(ROWS)}), {}, target="a")


REAL = {
    "adult_train.csv": ({}, {"age": "numeric", "fnlwgt": "numeric", "capital_gain": "numeric", "race": "category", "native_country": "category"}),
    "support2.csv": ({}, {"sno": "id", "hospdead": "category", "charges": "numeric", "sfdm2": "category", "ca": "category", "edu": "numeric"}),
    "mammography.csv": ({}, {"attr1": "numeric", "malignant": "boolean"}),
    "pbc2.csv": ({"subject": "id"}, {"id": "id", "drug": "category", "edema": "category", "years": "numeric", "histologic": "numeric"}),
    "stocks.csv": ({}, {"Open": "numeric", "Volume": "numeric"}),
}


@pytest.mark.parametrize("file", REAL)
def test_real_tables(file):
    folder = os.environ.get("LIKENESS_DATA")
    if not folder:
        pytest.skip("LIKENESS_DATA is not set: the real tables are not tested")
    roles, expected = REAL[file]
    table = sources.load(Source("table", file, **roles), root=Path(folder))
    assert {name: table.schema[name].kind for name in expected} == expected
    assert set(table.schema.kinds("pii", "text")) == set()
