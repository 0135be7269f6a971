"""Sources: every way to name one, the exact Arrow schema of each, splits by subject, fingerprints."""

import datetime
import decimal
import gzip

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generators.data import DataError
from pipelines import reading, sources
from pipelines.config import Entry, Source

ROWS = 240


def awkward() -> pa.Table:
    """A column of every type that a publisher may have, nulls in most."""
    day = datetime.date(2020, 1, 1)
    stamps = [datetime.datetime(2020, 1, 1) + datetime.timedelta(hours=i) for i in range(ROWS)]
    two = ["yes", "no", None] * (ROWS // 3)
    numbers = [None if i % 7 == 0 else i % 50 for i in range(ROWS)]
    return pa.table(
        {
            **{str(t): pa.array(numbers, t) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64(), pa.float32(), pa.float64())},
            "flag": pa.array([True, False, None] * (ROWS // 3)),
            "day": pa.array([day + datetime.timedelta(i) for i in range(ROWS)]),
            "stamp": pa.array(stamps, pa.timestamp("ms")),
            "zoned": pa.array(stamps, pa.timestamp("us", "Europe/Berlin")),
            "money": pa.array([decimal.Decimal(i) / 100 for i in range(ROWS)], pa.decimal128(9, 2)),
            "word": two,
            "large word": pa.array(two, pa.large_string()),
            "dictionary": pa.array(two).dictionary_encode(),
            "nothing": pa.nulls(ROWS),
            "d.o-t_ é": pa.array(numbers, pa.int64()),
            "_lead": pa.array(numbers, pa.int64()),
        }
    )


def test_parquet_keeps_the_exact_schema(tmp_path):
    t = awkward()
    t = t.cast(t.schema.with_metadata({"secret": "raw"}).set(0, pa.field("int8", pa.int8(), metadata={"a": "raw"})))
    pq.write_table(t, tmp_path / "t.parquet")
    table = sources.load(Source("table", "t.parquet"), root=tmp_path)
    assert table.schema.arrow.remove_metadata().equals(awkward().schema) and table.values.equals(awkward())
    assert not table.schema.arrow.metadata and not any(f.metadata for f in table.schema.arrow)
    assert table.schema["money"].kind == "numeric" and table.schema["zoned"].kind == "datetime"


def test_a_column_that_may_not_be_null_stays_so(tmp_path):
    field = pa.field("a", pa.int64(), nullable=False)
    pq.write_table(pa.table([[1, 2, 3] * 40], schema=pa.schema([field])), tmp_path / "t.parquet")
    assert sources.load(Source("table", "t.parquet"), root=tmp_path).schema.arrow.field("a") == field


def test_csv_types_and_null_words(tmp_path):
    lines = ["i,f,b,d,t,z,s,n,zip"]
    for i in range(ROWS):
        words = ["NA", "", "n/a", "NULL", "nan"]
        number, share, word = [words[i % 5]] * 3 if i % 3 == 0 else (i % 9, i / 4, "w")
        stamp = f"2020-01-{i % 28 + 1:02d},2020-01-01 {i % 24:02d}:00:00,2020-01-01T00:00:00Z"
        lines.append(f"{number},{share},{i % 2 == 0},{stamp},{word},,{i % 9:05d}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    table = sources.load(Source("table", "t.csv"), root=tmp_path)
    assert list(map(str, table.schema.arrow.types)) == [
        "int64",
        "double",
        "bool",
        "date32[day]",
        "timestamp[ms]",
        "timestamp[ms, tz=UTC]",
        "string",
        "null",
        "string",
    ]
    assert table.column("i").null_count == table.column("f").null_count == table.column("s").null_count == ROWS // 3
    assert table.column("zip")[1].as_py() == "00001"


def ways(folder):
    """The same rows, in every way that a source can be named."""
    t = pa.table({"a": [i % 9 for i in range(ROWS)], "b": ["x", "y"] * (ROWS // 2)})
    pyarrow.csv.write_csv(t, folder / "t.csv")
    (folder / "t.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes()))
    (folder / "t.tsv").write_text((folder / "t.csv").read_text().replace(",", "\t"))
    pq.write_table(t, folder / "t.parquet")
    for name in ("pq", "csv"):
        (folder / name / "sub").mkdir(parents=True)
        (folder / name / "_SUCCESS").write_text("")
    for i in range(3):
        part = t.slice(i * 80, 80)
        pq.write_table(part, folder / "pq" / "sub" / f"part-{i}.parquet")
        pyarrow.csv.write_csv(part, folder / "csv" / f"part-{i}.csv")
    with fsspec.open("memory://likeness/t.parquet", "wb") as file:
        file.write((folder / "t.parquet").read_bytes())
    return [
        "t.csv",
        "t.csv.gz",
        "t.tsv",
        "t.parquet",
        "pq",
        "pq/",
        "csv",
        "csv/*.csv",
        "csv/part-[0-9].csv",
        f"file://{folder}/t.csv",
        "memory://likeness/t.parquet",
        str(folder / "t.csv"),
    ], t


def test_every_way_to_name_a_source(tmp_path):
    locations, expected = ways(tmp_path)
    for location in locations:
        table = sources.load(Source("table", location), root=tmp_path)
        assert table.values.equals(expected), location


def test_fingerprints_follow_content_only(tmp_path):
    ways(tmp_path)
    mark = lambda name: sources.fingerprint(Source("table", name), root=tmp_path)  # noqa: E731
    before = mark("csv")
    (tmp_path / "csv").rename(tmp_path / "moved")
    assert mark("moved") == before != mark("t.csv") != mark("t.csv.gz")
    (tmp_path / "moved" / "part-1.csv").write_text((tmp_path / "moved" / "part-1.csv").read_text() + "1,x\n")
    assert mark("moved") != before
    assert sources.fingerprint(Source("dataset", "iris")) == sources.fingerprint(Source("dataset", "iris"))


def test_parts_whose_types_give_way(tmp_path):
    for i, column in enumerate((["1", "2"], ["", ""], ["1.5", "2"])):
        (tmp_path / f"{i}.csv").write_text("a,b\n" + "".join(f"{v},{v}\n" for v in column) * 40)
    table = sources.load(Source("table", "*.csv"), root=tmp_path)
    assert table.column("a").null_count == 80
    assert table.schema.arrow.types == [pa.float64(), pa.float64()]


def test_parts_with_dictionaries_of_their_own(tmp_path):
    (tmp_path / "d").mkdir()
    for i, words in enumerate((["a", "b"], ["c", "a"])):
        pq.write_table(pa.table({"x": pa.array(words * 60).dictionary_encode()}), tmp_path / "d" / f"{i}.parquet")
    table = sources.load(Source("table", "d"), root=tmp_path)
    assert pa.types.is_dictionary(table.schema.arrow.field("x").type)
    assert table.column("x").to_pylist() == ["a", "b"] * 60 + ["c", "a"] * 60


def test_partition_folders_are_refused(tmp_path):
    (tmp_path / "d" / "year=2020").mkdir(parents=True)
    (tmp_path / "d" / "year=2020" / "a.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="key=value folders"):
        sources.load(Source("table", "d"), root=tmp_path)


def test_nan_is_null_and_dropped_columns_leave(tmp_path):
    pq.write_table(pa.table({"a": [float("nan"), 1.5, 2.5, 7.25] * 60, "b": [[1]] * 240, "c": [float("inf")] * 240}), tmp_path / "t.parquet")
    source = Source("table", "t.parquet", columns={"b": {"kind": "drop"}, "c": {"kind": "drop"}})
    table = sources.load(source, root=tmp_path)
    assert table.schema.arrow.names == ["a"] and table.column("a").null_count == 60


def entry(folder, source, **kwargs):
    return Entry("p", source, folder, **kwargs)


def test_splits_keep_subjects_together_and_follow_the_seed(tmp_path):
    rows = [(s, v) for s in range(150) for v in range(1 + s % 4)]
    (tmp_path / "t.csv").write_text("who,v\n" + "".join(f"{s},{v}\n" for s, v in rows))
    source = Source("table", "t.csv", subject="who")
    train, holdout = sources.load_split(entry(tmp_path, source))
    people, others = (set(t.column("who").to_pylist()) for t in (train, holdout))
    assert not people & others and len(people | others) == 150 and len(others) == 38
    assert len(train) + len(holdout) == len(rows)
    again, _ = sources.load_split(entry(tmp_path, source))
    other, _ = sources.load_split(entry(tmp_path, source, seed=1))
    assert again.values.equals(train.values) and not other.values.equals(train.values)


def test_a_holdout_of_its_own_takes_the_schema_of_the_source(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n" + "1.5,x,1\n2,y,0\n" * 60)
    (tmp_path / "h.csv").write_text("c,extra,b,a\n" + ",7,x,1\n,7,y,2\n" * 20)
    train, holdout = sources.load_split(entry(tmp_path, Source("table", "t.csv"), holdout=Source("table", "h.csv")))
    assert (len(train), len(holdout)) == (120, 40) and holdout.schema == train.schema
    assert holdout.values.schema.types == train.schema.arrow.types and holdout.column("c").null_count == 40
    (tmp_path / "h.csv").write_text("a,b,c\n" + "young,x,1\n" * 40)
    with pytest.raises(DataError, match=r"holdout: h\.csv: column 'a': found string, expected double"):
        sources.load_split(entry(tmp_path, Source("table", "t.csv"), holdout=Source("table", "h.csv")))


@pytest.mark.parametrize("name", [name for name, parts in reading.DATASETS.items() if "target" in parts])
def test_what_ships_with_scikit_learn(name):
    table = sources.load(Source("dataset", name))
    assert table.schema.target == reading.DATASETS[name]["target"] == table.schema.arrow.names[-1]
    assert table.schema[table.schema.target].kind == ("numeric" if name == "diabetes" else "category")
    assert not table.schema.kinds("id", "pii", "text")


def test_no_subject_value_is_lost_to_null_words(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{i % 9},{'None' if i % 2 else 'mild'}\n" for i in range(ROWS)))
    assert sources.load(Source("table", "t.csv"), root=tmp_path).column("b").null_count == 0


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=6)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(-(2**62), 2**62) | st.none(), st.floats(allow_infinity=False, allow_nan=False) | st.none(), texts), min_size=1, max_size=20)
)
def test_what_goes_out_as_csv_comes_back(tmp_path, rows):
    i, f, s = ([row[k] for row in rows] for k in range(3))
    before = pa.table({"number of things": pa.array(i, pa.int64()), "x.y": pa.array(f, pa.float64()), "text, quoted": s})
    pyarrow.csv.write_csv(before, tmp_path / "t.csv")
    after = reading.read("t.csv", tmp_path)
    assert after.num_rows == len(rows) and after.column_names == before.column_names
    if any(v is not None for v in i):
        assert after.column(0).to_pylist() == i
    if any(v is not None for v in f):
        assert np.allclose([v for v in after.column(1).to_pylist() if v is not None], [v for v in f if v is not None])
