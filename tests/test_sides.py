"""On which side of the holdout somebody stands depends on nobody else, from the file on, whatever one more brings with him."""

from collections import Counter
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from generators.data import Column, Schema, Table
from pipelines.config import load_entry
from pipelines.pictures import _png
from pipelines.sides import _written, split_by_content
from pipelines.sources import load_split

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
