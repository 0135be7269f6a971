"""On which side of the holdout somebody stands depends on nobody else, from the file on, whatever one more brings with him."""

from collections import Counter
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from generators.data import Column, DataError, Schema, Table
from pipelines.config import Source, load_entry
from pipelines.pictures import _png
from pipelines.sides import _written, split_by_content
from pipelines.sources import load_split, read

ROWS, DRAW = 600, np.random.default_rng(0)
PEOPLE = pa.table(
    {
        "pid": [f"p{i}" for i in range(ROWS)],
        "mrn": np.arange(ROWS),
        "age": DRAW.integers(0, 100, ROWS),
        "bmi": DRAW.integers(18, 40, ROWS).astype(float),
        "ward": DRAW.choice(["a", "b", "c"], ROWS).tolist(),
        "seen": pa.array(np.datetime64("2020-01-01") + DRAW.integers(0, 900, ROWS), pa.timestamp("ns")),
        "smoker": DRAW.random(ROWS) < 0.3,
    }
)
ONE = {"pid": "new", "mrn": ROWS, "age": 50, "bmi": 20.0, "ward": "a", "seen": datetime(2020, 2, 2), "smoker": True}
ODD = [{name: None} for name in list(ONE)[1:]] + [
    {"bmi": 20.123456}, {"bmi": 1e100}, {"seen": datetime(2020, 2, 2, 10, 30)}, {"seen": datetime(2020, 2, 2, 10, 30, 0, 500)}, {"ward": "\\n"},
    {"ward": "x" * 500},
]  # fmt: skip
KINDS = "pid: {kind: id}, mrn: {kind: id}, age: {kind: numeric}, bmi: {kind: numeric}, ward: {kind: category}, seen: {kind: datetime}, smoker: {kind: boolean}"


def sides(folder, values: pa.Table, subject: str = "", kind: str = "parquet") -> tuple[set, set]:
    (pq.write_table if kind == "parquet" else pa.csv.write_csv)(values, folder / f"t.{kind}")
    entry = f"e:\n  source: {{table: t.{kind}, columns: {{{KINDS}}}{subject}}}\n  privacy: {{epsilon: 1, delta: 1.0e-6}}\n"
    (folder / "flows.yaml").write_text(entry)
    one, other = (set(part.column("pid").to_pylist()) for part in load_split(load_entry(folder / "flows.yaml", "e")))
    return one, other


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("subject", ["", ", subject: mrn"])
def test_one_more_moves_nobody_whatever_he_is_like(odd, subject, tmp_path):
    more = pa.concat_tables([PEOPLE, pa.Table.from_pylist([ONE | odd], PEOPLE.schema)])
    before, after = sides(tmp_path, PEOPLE, subject), sides(tmp_path, more, subject)
    assert all(len(side) > 100 for side in before)
    assert [len(a ^ b) for a, b in zip(before, after, strict=True)] in ([0, 1], [1, 0]) and before[0] ^ after[0] | before[1] ^ after[1] == {"new"}


@pytest.mark.parametrize("odd", [{"age": None}, {"bmi": 20.5}, {"seen": datetime(2020, 2, 2, 10, 30)}], ids=str)
def test_nor_where_a_text_file_reads_otherwise_with_him(odd, tmp_path):
    """A whole number is a fraction then, a day a time of day."""
    more = pa.concat_tables([PEOPLE, pa.Table.from_pylist([ONE | odd], PEOPLE.schema)])
    before, after = sides(tmp_path, PEOPLE, kind="csv"), sides(tmp_path, more, kind="csv")
    assert before[0] ^ after[0] | before[1] ^ after[1] == {"new"}


TEXTS = {
    "flag": ["True", "False", "1", "0", "false"], "dose": ["1.0", "2.50", ".5", "-3", " 5", "5", "1.0e-300", "0.300000000000000044"],
    "code": ["1000000000000001", "36028797018963968", "123456789012345678"], "seen": ["2020-01-05", "2021-12-31", "9999-12-31", "1600-02-03"],
    "at": ["2020-01-05 10", "2021-12-31 23:59:59"], "when": ["2020-01-05T10:30:00Z", "2021-12-31T23:59:59.250+02"], "none": ["", "NA", "NAN", "nan", "3"],
}  # fmt: skip
ODDS = [*((name, "n.k.") for name in TEXTS), ("dose", "1e100"), ("code", "0.5"), ("code", "12345678901234567890"), ("seen", "2020-01-05 10:30"), ("flag", "2")]


def people(name: str, odd: str) -> list[dict[str, str]]:
    """Somebody odd after all others."""
    some = [{"pid": f"p{i}"} | {k: v[DRAW.integers(len(v))] for k, v in TEXTS.items()} for i in range(ROWS)]
    return [*some, {"pid": "new"} | {k: v[0] for k, v in TEXTS.items()} | {name: odd}]


def written(folder, rows: list[dict[str, str]], columns: str, subject: str = "") -> tuple[list[str], list[str]]:
    (folder / "t.csv").write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]))
    (folder / "flows.yaml").write_text(f"e:\n  source: {{table: t.csv, columns: {{{columns}}}{subject}}}\n  privacy: {{epsilon: 1, delta: 1.0e-6}}\n")
    one, other = (part.column(part.schema.arrow.names[0]).to_pylist() for part in load_split(load_entry(folder / "flows.yaml", "e")))
    return one, other


@pytest.mark.parametrize(("name", "odd"), ODDS)
def test_nor_where_a_column_of_a_text_file_reads_otherwise_with_him(name, odd, tmp_path):
    rows, kinds = people(name, odd), ", ".join(["pid: {kind: id}", *(f"{k}: {{kind: category}}" for k in TEXTS)])
    (a, b), (c, d) = (map(set, written(tmp_path, some, kinds)) for some in (rows[:-1], rows))
    assert a ^ c | b ^ d == {"new"} and min(len(a), len(b)) > 100


def test_nor_among_equal_rows_of_a_text_file(tmp_path):
    """Two that are written in two ways are not equal, though they may read so."""
    rows = [{"x": str(x), "y": str(y)} for x in ("5", "5.0", "05", "7") for y in ("True", "TRUE", "1.50", "1.5") for _ in range(30)]
    parted = [written(tmp_path, some, "x: {kind: category}, y: {kind: category}") for some in (rows, [*rows, {"x": "n.k.", "y": "n.k."}])]
    assert sorted(len(after) - len(before) for before, after in zip(*parted, strict=True)) == [0, 1]


@pytest.mark.parametrize("form", ["{}", " {}", "0x{:X}", "1{:014d}"])
def test_nor_subjects_of_a_text_file(form, tmp_path):
    rows = [{"x": str(i), "who": form.format(i // 2 + 10)} for i in range(ROWS)]
    parted = [written(tmp_path, some, "x: {kind: numeric}, who: {kind: id}", ", subject: who") for some in (rows, [*rows, {"x": "-1", "who": "A-1"}])]
    (a, b), (c, d) = (map(set, sides) for sides in parted)
    assert a ^ c | b ^ d == {-1} and min(len(a), len(b)) > 100


@pytest.mark.parametrize("other", [" {}", "{}.0", "0x{:X}", "{}e0", "0000{}"])
def test_nor_who_is_written_in_two_ways(other, tmp_path):
    """Numbers would make one of them, and words two."""
    rows = [{"x": str(i), "who": (other if i % 2 else "{}").format(i // 2 + 100)} for i in range(ROWS)]
    parted = [written(tmp_path, some, "x: {kind: numeric}, who: {kind: id}", ", subject: who") for some in (rows, [*rows, {"x": "-1", "who": "A-1"}])]
    (a, b), (c, d) = (map(set, sides) for sides in parted)
    assert a ^ c | b ^ d == {-1}


def test_subjects_that_fractions_cannot_tell_apart_are_refused(tmp_path):
    rows = [{"x": str(i), "who": f"{10**17 + i}"} for i in range(ROWS)] + [{"x": "-1", "who": "0.5"}]
    assert all(len(side) > 100 for side in written(tmp_path, rows, "x: {kind: numeric}, who: {kind: id}", ", subject: who"))
    (tmp_path / "flows.yaml").write_text("e:\n  source: {table: t.csv, subject: who}\n")
    with pytest.raises(DataError, match=r"t\.csv: subject: column 'who' reads as fractions, and holds longer numbers than these can tell apart"):
        load_split(load_entry(tmp_path / "flows.yaml", "e"))


def test_held_out_people_are_read_as_the_others_are(tmp_path):
    rows = [{"x": str(i), "who": str(i)} for i in range(2 * ROWS)]
    for name, some in (("t", rows[:ROWS]), ("h", rows[ROWS:])):
        (tmp_path / f"{name}.csv").write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in some)]))
        pq.write_table(pa.csv.read_csv(tmp_path / f"{name}.csv"), tmp_path / f"{name}.parquet")
    for one, other in (("t.csv", "h.csv"), ("t.csv", "h.parquet"), ("t.parquet", "h.csv"), ("t.parquet", "h.parquet")):
        kinds = "columns: {who: {kind: id}, x: {kind: numeric}}, subject: who"
        (tmp_path / "flows.yaml").write_text(
            f"e:\n  source: {{table: {one}, {kinds}}}\n  holdout: {{table: {other}}}\n  privacy: {{epsilon: 1, delta: 1.0e-6}}\n"
        )
        train, holdout = load_split(load_entry(tmp_path / "flows.yaml", "e"))
        assert (len(train), len(holdout)) == (ROWS, ROWS) and train.schema == holdout.schema


@pytest.mark.parametrize("privacy", ["{rare_below: 10}", "{epsilon: 1, delta: 1.0e-6}"], ids=["rare values", "epsilon"])
def test_who_is_called_as_what_stands_for_nothing_is_somebody(privacy, tmp_path):
    """An initial NA or a country NA is a name; an empty cell is none. Of numbers NA is none either, unless letters count."""
    names = [*(f"P{i}" for i in range(200)), *["NA"] * 40, *["null"] * 40, *[""] * 40, *['""'] * 40]
    for name, some in (("t", names), ("n", [n.replace("P", "") for n in names])):
        (tmp_path / f"{name}.csv").write_text("x,who\n" + "\n".join(f"{i},{who}" for i, who in enumerate(some)))
        columns = "columns: {x: {kind: numeric}, who: {kind: id}}"
        (tmp_path / "flows.yaml").write_text(f"e:\n  source: {{table: {name}.csv, {columns}, subject: who}}\n  privacy: {privacy}\n")
        sides = load_split(load_entry(tmp_path / "flows.yaml", "e"))
        held = [Counter(side.column("who").to_pylist()) for side in sides]
        words = name == "t" or "epsilon" in privacy
        for odd in ("NA", "null"):
            assert sorted(side[odd] for side in held) == ([0, 40] if words else [0, 0])
        assert sum(side[None] for side in held) == (80 if words else 160)
        assert sum(int(side.subjects.max()) + 1 for side in sides) == (282 if words else 360)


def test_names_are_words_in_every_part_where_they_are_in_one(tmp_path):
    """Whatever cells are empty there."""
    for name, some in (("a", ["anna", "NA"] * 60), ("b", ["1", "01"] * 60), ("c", ["2", ""] * 60), ("d", ["null"] * 120)):
        (tmp_path / f"{name}.csv").write_text("x,who\n" + "\n".join(f"{i},{who}" for i, who in enumerate(some)))
    found = read(Source("table", "*.csv", subject="who"), root=tmp_path).column("who")
    assert Counter(found.to_pylist()) == {"anna": 60, "NA": 60, "1": 60, "01": 60, "2": 60, None: 60, "null": 120}


def test_nor_is_one_of_that_name_on_both_sides(tmp_path):
    for name, first in (("t", 0), ("h", 200)):
        (tmp_path / f"{name}.csv").write_text("x,who\n1,NA\n" + "\n".join(f"{i},P{i}" for i in range(first, first + 200)))
    (tmp_path / "flows.yaml").write_text("e:\n  source: {table: t.csv, columns: {who: {kind: id}}, subject: who}\n  holdout: {table: h.csv}\n")
    with pytest.raises(DataError, match=r"holdout: h\.csv: 1 subjects stand in the source too"):
        load_split(load_entry(tmp_path / "flows.yaml", "e"))


def test_who_has_no_name_stands_where_his_row_says():
    values = pa.table({"who": pa.array([None if i % 2 else i for i in range(600)], pa.int64()), "x": DRAW.integers(0, 50, 600)})
    schema = Schema(values.schema, (Column("who", "id"), Column("x", "numeric")), "who")
    one, other = (part.values.filter(pa.compute.is_null(part.values["who"])) for part in split_by_content(Table.of(values, schema), 0.5, seed=0))
    assert min(len(one), len(other)) > 100
    more = split_by_content(Table.of(pa.concat_tables([pa.table({"who": pa.array([None], pa.int64()), "x": [7]}), values]), schema), 0.5, seed=0)
    assert sorted(len(part) - len(before) for part, before in zip(more, split_by_content(Table.of(values, schema), 0.5, seed=0), strict=True)) == [0, 1]


@pytest.mark.parametrize("label", [None, 2])
def test_one_image_more_moves_no_other(label, tmp_path):
    files = [_png(one) for one in DRAW.integers(0, 256, (301, 8, 8, 1), dtype=np.uint8)]
    labels, found = [*(np.arange(300) % 3).tolist(), label], []
    for n in (300, 301):
        pq.write_table(pa.table({"image": files[:n], "label": pa.array(labels[:n], pa.int64())}), tmp_path / "i.parquet")
        (tmp_path / "flows.yaml").write_text("e:\n  source: {images: i.parquet, label: label}\n  privacy: {epsilon: 1, delta: 1.0e-6}\n")
        found.append([Counter(part.column("image").combine_chunks().to_pylist()) for part in load_split(load_entry(tmp_path / "flows.yaml", "e"))])
    (a, b), (c, d) = found
    assert sum((c - a).values()) + sum((d - b).values()) == 1 and not (a - c or b - d)


def test_one_subject_more_moves_no_other():
    """By name, or by row where there are no names, equal rows too."""
    draw = np.random.default_rng(0)
    values = pa.table({"who": draw.integers(0, 300, 2000), "x": draw.integers(0, 5, 2000)})
    for subject in ("who", None):
        schema = Schema(values.schema, (Column("who", "id"), Column("x", "numeric")), subject)
        sides = [
            split_by_content(Table.of(v, schema), 0.25, seed=3)
            for v in (values, pa.concat_tables([values, values.slice(7, 1), values]).slice(1) if subject else pa.concat_tables([values.slice(7, 1), values]))
        ]
        if subject:
            assert all(set(a.column("who").to_pylist()) == set(b.column("who").to_pylist()) for a, b in zip(*sides, strict=True))
            assert not set(sides[0][0].column("who").to_pylist()) & set(sides[0][1].column("who").to_pylist())
        else:
            assert sorted(abs(len(a) - len(b)) for a, b in zip(*sides, strict=True)) == [0, 1]
        assert 0.2 < len(sides[0][1]) / 2000 < 0.3
    moved = [split_by_content(Table.of(values, schema), 0.25, seed=s)[1].values for s in (1, 2)]
    assert not moved[0].equals(moved[1])


def test_rows_are_written_so_that_no_two_are_alike():
    rows = [("a\\s", "b"), ("a", "\\sb"), ("a\\", "sb"), (None, "b"), ("\\n", "b"), ("", "b"), ("a", None), ("a\\s\\n", ""), ("a", "")]
    assert len(set(_written(pa.table({"x": [r[0] for r in rows], "y": [r[1] for r in rows]})))) == len(rows)
    moments = pa.array([0, 1, 1000, 1001, -1], pa.timestamp("ns"))
    for values in (moments, pa.array([0.0, -0.0, 0.1, 1e15, 2.0**53, 1e300]), pa.array(["9007199254740993", "9007199254740992", "2020-13-45", "007x"])):
        assert len(set(_written(pa.table({"x": values})))) == len(values)


def test_numbers_and_times_are_written_alike_whatever_their_type():
    whole = [0, -7, 2**53, 10**18, -(2**62)]
    times = ["2020-01-05 10:30:00.250", "1969-12-31"]
    typed = pa.chunked_array([pa.array(np.array(times, "datetime64[ms]"))])
    for a, b in [
        (pa.array(whole), pa.array(np.array(whole, float))), (pa.array([1.5, 2], pa.float16()), pa.array([1.5, 2])),
        (typed, typed.cast(pa.timestamp("us", "UTC"))), (typed, typed.cast(pa.timestamp("ns"))), (pa.array([5, 7]), pa.array([5.0, 7.0])),
    ]:  # fmt: skip
        assert _written(pa.table({"x": a})) == _written(pa.table({"x": b}))
