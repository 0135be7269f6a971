"""Bad input: one clear line that names file, column or key, what was found and what was expected; never a value of the data.

CASES are (name, make(folder) -> path of a flows.yaml, words that the error must hold); the pipeline is called `p`.
The command line is tested with the same list.
"""

import gzip
import os
import random
import string
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from generators.data import DataError
from pipelines.config import load_entry
from pipelines.sources import load_split

ROWS = 200
SECRET = "Xylander"  # stands in the data: must not stand in an error
GOOD = "age,sex,dead\n" + "".join(f"{20 + i % 60},{'fm'[i % 2]},{i % 2}\n" for i in range(ROWS))


def flows(folder: Path, entry: str = "source: {table: t.csv}", csv: str | bytes | None = GOOD, name: str = "t.csv") -> Path:
    """A flows.yaml with one pipeline `p`, and its table beside it."""
    if csv is not None:
        (folder / name).write_bytes(csv.encode() if isinstance(csv, str) else csv)
    path = folder / "flows.yaml"
    path.write_text(f"p:\n  {entry}\n" if not entry.startswith("RAW") else entry[3:])
    return path


def parquet(folder: Path, table: pa.Table, entry: str = "source: {table: t.parquet}") -> Path:
    pq.write_table(table, folder / "t.parquet")
    return flows(folder, entry, None)


def truncated(folder: Path) -> Path:
    path = parquet(folder, pa.table({"a": range(5000)}))
    whole = (folder / "t.parquet").read_bytes()
    (folder / "t.parquet").write_bytes(whole[: len(whole) // 2])
    return path


def damaged(folder: Path) -> Path:
    path = parquet(folder, pa.table({"a": np.random.default_rng(0).random(5000)}))
    whole = bytearray((folder / "t.parquet").read_bytes())
    whole[10:2000] = bytes(1990)
    (folder / "t.parquet").write_bytes(bytes(whole))
    return path


def parts(folder: Path, second: str) -> Path:
    (folder / "parts").mkdir()
    (folder / "parts" / "a.csv").write_text(GOOD)
    (folder / "parts" / "b.csv").write_text(second)
    return flows(folder, "source: {table: parts}", None)


def strings(n: int) -> list[str]:
    letters = random.Random(0)
    return ["".join(letters.choices(string.ascii_lowercase, k=8)) for _ in range(n)]


def column(values) -> str:
    return "x,dead\n" + "".join(f"{v},{i % 2}\n" for i, v in enumerate(values))


def case(entry: str):
    return lambda folder: flows(folder, entry)


def with_key(line: str):
    return case(f"source: {{table: t.csv, target: dead}}\n  {line}")


CASES = [
    ("no such file", lambda f: flows(f, csv=None), ["t.csv", "no such file"]),
    ("no such glob", lambda f: flows(f, "source: {table: 'x*.csv'}"), ["x*.csv", "no such file"]),
    ("no such protocol", case("source: {table: 'wat://x/t.csv'}"), ["wat://x/t.csv", "cannot be opened"]),
    ("unknown ending", lambda f: flows(f, "source: {table: t.json}", "{}", "t.json"), ["t.json", ".parquet"]),
    ("folder without parts", lambda f: ((f / "d").mkdir(), flows(f, "source: {table: d}"))[1], ["d", "no part found"]),
    ("empty file", lambda f: flows(f, csv=""), ["t.csv", "empty file"]),
    ("empty parquet", lambda f: flows(f, "source: {table: t.parquet}", b"", "t.parquet"), ["t.parquet", "empty file"]),
    ("header only", lambda f: flows(f, csv="age,sex\n"), ["t.csv", "found 0 rows", "at least 100"]),
    ("too few rows", lambda f: flows(f, csv="\n".join(GOOD.splitlines()[:60])), ["t.csv", "found 59 rows", "at least 100"]),
    ("too few subjects", case("source: {table: t.csv, subject: sex}"), ["t.csv", "found 2 subjects", "at least 100"]),
    ("ragged", lambda f: flows(f, csv=GOOD + f"{SECRET},1\n"), ["t.csv", "2 fields", "expected 3", "row 202"]),
    ("ragged far down", lambda f: flows(f, csv=GOOD + "33,f,0\n" * 700_000 + f"{SECRET},1\n"), ["t.csv", "2 fields", "expected 3", "row 700202"]),
    ("open quote", lambda f: flows(f, csv=GOOD + '"' + "y" * (5 << 20)), ["t.csv", "expected 3"]),
    ("binary named csv", lambda f: flows(f, csv=random.Random(0).randbytes(4000)), ["t.csv", "binary"]),
    (
        "parquet named csv",
        lambda f: (parquet(f, pa.table({"a": [1] * 900})), (f / "t.parquet").rename(f / "t.csv"), flows(f, csv=None))[2],
        ["t.csv", "binary"],
    ),
    ("latin-1", lambda f: flows(f, csv=(GOOD.replace("f", "é")).encode("latin-1")), ["t.csv", "UTF-8"]),
    ("latin-1 far down", lambda f: flows(f, csv=("a,b\n" + "x,1\n" * 40_000 + "é,1\n").encode("latin-1")), ["t.csv", "'a'", "UTF-8"]),
    ("utf-16", lambda f: flows(f, csv=GOOD.encode("utf-16")), ["t.csv", "binary"]),
    ("not gzip", lambda f: flows(f, "source: {table: t.csv.gz}", GOOD, "t.csv.gz"), ["t.csv.gz", "gzip"]),
    ("truncated gzip", lambda f: flows(f, "source: {table: t.csv.gz}", gzip.compress(GOOD.encode() * 900)[:-400], "t.csv.gz"), ["t.csv.gz", "gzip"]),
    ("truncated parquet", truncated, ["t.parquet", "Parquet"]),
    ("damaged parquet", damaged, ["t.parquet", "Parquet"]),
    ("csv named parquet", lambda f: flows(f, "source: {table: t.parquet}", GOOD, "t.parquet"), ["t.parquet", "Parquet"]),
    ("no header", lambda f: flows(f, csv=GOOD.split("\n", 1)[1]), ["t.csv", "header"]),
    ("mixed types", lambda f: flows(f, csv=column([SECRET if i == 77 else i % 60 for i in range(ROWS)])), ["'x'", "mixed types", "numbers", "declare"]),
    (
        "words where numbers are declared",
        lambda f: flows(f, "source: {table: t.csv, columns: {x: {kind: numeric}}}", column([SECRET] + [i % 60 for i in range(ROWS)])),
        ["'x'", "declared numeric", "string"],
    ),
    ("infinities", lambda f: flows(f, csv=column(["inf" if i == 9 else i / 7 for i in range(ROWS)])), ["'x'", "infinite", "finite"]),
    ("infinities in parquet", lambda f: parquet(f, pa.table({"x": [*range(ROWS), float("-inf")]})), ["'x'", "infinite", "finite"]),
    (
        "300,000 distinct strings",
        lambda f: flows(f, csv=column(f"{w}{i % 9}" for i, w in enumerate(strings(300_000)))),
        ["'x'", "distinct strings", "kind: id | pii | text | category | drop"],
    ),
    ("almost unique strings", lambda f: flows(f, csv=column(strings(ROWS))), ["'x'", "almost unique", "declare"]),
    ("duplicate column names", lambda f: flows(f, csv=GOOD.replace("sex", "age", 1)), ["t.csv", "'age'", "2 times"]),
    ("nested column", lambda f: parquet(f, pa.table({"x": [[1]] * ROWS, "y": [1, 2] * 100})), ["'x'", "list", "kind: drop"]),
    (
        "nothing to learn",
        lambda f: flows(f, "source: {table: t.csv, columns: {age: {kind: drop}, sex: {kind: drop}, dead: {kind: id}}}"),
        ["t.csv", "no column to learn"],
    ),
    ("parts of other columns", lambda f: parts(f, GOOD.replace("sex", "gender", 1)), ["b.csv", "a.csv", "'gender'"]),
    ("parts of other types", lambda f: parts(f, GOOD.replace("20,", "young,")), ["b.csv", "'age'", "string", "int64"]),
    ("target does not exist", case("source: {table: t.csv, target: ded}"), ["target", "'ded'", "dead"]),
    ("subject does not exist", case("source: {table: t.csv, subject: who}"), ["subject", "'who'", "age"]),
    ("declared column does not exist", case("source: {table: t.csv, columns: {agee: {kind: numeric}}}"), ["columns", "'agee'", "age"]),
    ("target is an id", lambda f: flows(f, "source: {table: t.csv, target: x}", column(range(ROWS))), ["target", "'x'", "kind id"]),
    ("balance column does not exist", with_key("sample: {balance: ded}"), ["sample.balance", "'ded'", "'dead'"]),
    ("balance over a number", with_key("sample: {balance: age}"), ["sample.balance", "'age'", "category"]),
    ("condition on a missing column", with_key("sample: {where: {ded: 1}}"), ["sample.where", "'ded'", "'dead'"]),
    (
        "contract on a missing column",
        with_key("contract: [{expect_column_values_to_be_between: {column: agee, min_value: 0}}]"),
        ["contract", "'agee'", "'age'"],
    ),
    ("condition that no row meets", with_key("sample: {where: {dead: 7}}"), ["sample.where.dead", "fewer than 10"]),
    ("condition that is infinite", with_key("sample: {where: {age: .inf}}"), ["sample.where.age", "inf", "a number"]),
    ("condition that is no number", with_key("sample: {where: {age: .nan}}"), ["sample.where.age", "nan", "a number"]),
    ("truth asked of a number", with_key("sample: {where: {dead: true}}"), ["sample.where.dead", "True", "int64"]),
    (
        "date that no row can have",
        lambda f: flows(f, "source: {table: t.csv}\n  sample: {where: {x: 1999-01-01}}", column([f"2024-01-{i % 28 + 1:02d}" for i in range(ROWS)])),
        ["sample.where.x", "1999-01-01", "within the column's range"],
    ),
    ("number that no row can have", with_key("sample: {where: {age: -4}}"), ["sample.where.age", "no row can meet"]),
    ("conditions that no row meets together", with_key("sample: {where: {dead: 1, sex: f}}"), ["sample.where", "together"]),
    ("condition of another type", with_key("sample: {where: {sex: 1}}"), ["sample.where.sex", "string"]),
    ("holdout too small", with_key("holdout: 0.05"), ["holdout", "at least 20"]),
    ("holdout source does not exist", with_key("holdout: {table: h.csv}"), ["h.csv", "no such file"]),
    (
        "holdout is the source, shuffled",
        lambda f: (f / "h.csv").write_text("\n".join([GOOD.split("\n")[0], *sorted(GOOD.strip().split("\n")[1:])])) and with_key("holdout: {table: h.csv}")(f),
        ["holdout: h.csv", "very rows"],
    ),
    ("holdout is the source", with_key("holdout: {table: t.csv}"), ["holdout: t.csv", "very rows"]),
    ("dataset that does not exist", case("source: {dataset: breast_cancr}"), ["source.dataset", "'breast_cancr'", "did you mean 'breast_cancer'"]),
    ("no flows.yaml", lambda f: f / "none.yaml", ["none.yaml", "no such file"]),
    ("empty flows.yaml", lambda f: flows(f, "RAW"), ["flows.yaml", "expected pipelines by name"]),
    ("flows.yaml is a list", lambda f: flows(f, "RAW- p"), ["flows.yaml", "a list", "expected pipelines by name"]),
    ("pipeline does not exist", lambda f: flows(f, "RAWq: {source: {table: t.csv}}"), ["flows.yaml", "no pipeline 'p'"]),
    ("does not parse", lambda f: flows(f, "RAWp:\n  source: {table: t.csv\n  seed: 1\n"), ["flows.yaml", "line 3", "YAML"]),
    ("tab in YAML", lambda f: flows(f, "RAWp:\n\tsource: 1\n"), ["flows.yaml", "line 2", "YAML"]),
    ("python object in YAML", lambda f: flows(f, "RAWp: !!python/object/apply:os.system [true]\n"), ["flows.yaml", "line 1", "YAML"]),
    ("same key twice", with_key("seed: 1\n  seed: 2"), ["flows.yaml", "line 4", "'seed'", "twice"]),
    ("same pipeline twice", lambda f: flows(f, "RAWp: {source: {table: t.csv}}\np: {source: {table: t.csv}}\n"), ["flows.yaml", "line 2", "'p'", "twice"]),
    ("no source", case("seed: 1"), ["p", "no 'source'"]),
    ("two sources", case("source: {table: t.csv, dataset: iris}"), ["source", "exactly one of table, dataset"]),
    ("images that are not there", case("source: {images: scans.npz}"), ["scans.npz: no such file, expected a .npz"]),
    ("images that are a table", case("source: {images: t.csv}"), ["t.csv", "expected"]),
    ("unknown key", with_key("sed: 1"), ["flows.yaml", "p", "'sed'", "did you mean 'seed'"]),
    ("unknown key within", with_key("sample: {row: 5}"), ["p.sample", "'row'", "did you mean 'rows'"]),
    ("unknown column option", case("source: {table: t.csv, columns: {age: {kin: id}}}"), ["source.columns.age", "'kin'", "did you mean 'kind'"]),
    ("unknown kind", case("source: {table: t.csv, columns: {age: {kind: number}}}"), ["source.columns.age.kind", "'number'", "numeric"]),
    ("epsilon without delta", with_key("privacy: {epsilon: 3}"), ["p.privacy", "epsilon: without delta:", "expected both"]),
    ("epsilon and undeclared kinds", with_key("privacy: {epsilon: 3, delta: 1.0e-6}"), ["p.source.columns.age", "no kind is declared", "likeness init"]),
    ("holdout too large", with_key("holdout: 1.5"), ["holdout", "1.5", "0.05 to 0.9"]),
    ("holdout is text", with_key("holdout: some"), ["holdout", "'some'", "number"]),
    ("holdout is not a number", with_key("holdout: .nan"), ["holdout", "nan", "number"]),
    ("negative seed", with_key("seed: -1"), ["seed", "-1", "at least 0"]),
    ("seed with decimals", with_key("seed: 1.5"), ["seed", "1.5", "whole number"]),
    ("seed is true", with_key("seed: true"), ["seed", "True", "whole number"]),
    ("no rows", with_key("sample: {rows: 0}"), ["sample.rows", "0", "from 1"]),
    ("fewer rows than can be judged", with_key("sample: {rows: 1}"), ["sample.rows", "1", "at least 100"]),
    ("protection of everybody", with_key("privacy: {rare_below: 150}"), ["privacy.rare_below", "150", "half of the 200 subjects"]),
    ("target of one value", lambda f: flows(f, "source: {table: t.csv, target: x}", column([4] * ROWS)), ["target", "'x'", "at least two"]),
    ("target of nulls", lambda f: flows(f, "source: {table: t.csv, target: x}", column([""] * ROWS)), ["target", "'x'", "at least two"]),
    ("numbers that cannot be squared", lambda f: parquet(f, pa.table({"a": [1.7e308, 5e-324] * ROWS})), ["column 'a'", "beyond 1e+150"]),
    (
        "dates beyond the calendar",
        lambda f: parquet(f, pa.table({"a": pa.array([3_000_000, 4] * ROWS, pa.int32()).cast(pa.date32())})),
        ["column 'a'", "years 1 to 9999"],
    ),
    (
        "dates and a word",
        lambda f: flows(f, csv=column([f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}" if i % 10 else SECRET for i in range(ROWS)])),
        ["column 'x'", "mixed types", "dates"],
    ),
    ("Faker's seed", lambda f: flows(f, "source: {table: t.csv, columns: {sex: {kind: pii, faker: seed}}}"), ["'seed'", "no provider"]),
    ("Faker's files", lambda f: flows(f, "source: {table: t.csv, columns: {sex: {kind: pii, faker: binary}}}"), ["'binary'", "no provider"]),
    ("Faker's own parts", lambda f: flows(f, "source: {table: t.csv, columns: {sex: {kind: pii, faker: __class__}}}"), ["'__class__'", "no provider"]),
    ("a schedule that never comes", with_key('schedule: {cron: "0 0 31 2 *"}'), ["schedule.cron", "31 2"]),
    ("a schedule in seconds", with_key('schedule: {cron: "0 0 2 * * *"}'), ["schedule.cron", "five cron fields"]),
    ("a date that does not exist", with_key("seed: 2020-13-41"), ["flows.yaml", "month must be in 1..12", "quotes"]),
    ("absurdly many rows", with_key("sample: {rows: 1000000000000}"), ["sample.rows", "from 1 to 1e+09"]),
    ("rare_below 0", with_key("privacy: {rare_below: 0}"), ["privacy.rare_below", "0", "from 1"]),
    ("publish is a number", with_key("publish: 3"), ["publish", "3", "expected text"]),
    ("cron", with_key("schedule: {cron: every day}"), ["schedule.cron", "'every day'", "0 2 * * *"]),
    ("no cron", with_key("schedule: {timezone: UTC}"), ["schedule", "'cron'"]),
    ("time zone", with_key("schedule: {cron: 0 2 * * *, timezone: Europe/Berlim}"), ["schedule.timezone", "did you mean 'Europe/Berlin'"]),
    ("contract is a mapping", with_key("contract: {a: 1}"), ["contract", "a mapping", "expected a list"]),
    ("more rows than can be judged", with_key("sample: {rows: 1000000000}"), ["sample.rows", "1000000000", "GB to judge", "expected at most"]),
    (
        "contract of an unknown expectation",
        with_key("contract: [{expect_column_values_to_be_betwixt: {column: age}}]"),
        ["contract", "expect_column_values_to_be_betwixt", "no expectation"],
    ),
    ("contract with a broken pattern", with_key("contract: [{expect_column_values_to_match_regex: {column: sex, regex: '('}}]"), ["contract", "regex"]),
    (
        "contract upside down",
        with_key("contract: [{expect_column_values_to_be_between: {column: age, min_value: 5, max_value: 1}}]"),
        ["contract", "min_value is above max_value"],
    ),
    (
        "contract on a type that is none",
        with_key("contract: [{expect_column_values_to_be_of_type: {column: sex, type_: 5}}]"),
        ["contract", "type_", "Arrow type"],
    ),
    ("contract of no expectation", with_key("contract: [{column: age}]"), ["contract, item 1", "expect_"]),
    ("unknown family", with_key("generator: gmn"), ["generator", "'gmn'", "did you mean 'gmm'"]),
    ("two families", with_key("generator: {gmm: {}, vae: {}}"), ["generator", "2 keys", "one family"]),
    ("unknown argument", with_key("generator: {gmm: {componentz: 3}}"), ["generator.gmm", "'componentz'"]),
    ("negative argument", with_key("generator: {gmm: {components: -3}}"), ["generator.gmm.components", "-3", "whole number"]),
    ("argument out of range", with_key("generator: {vae: {rate: 0}}"), ["flows.yaml", "generator.vae: rate: found 0, expected a number above 0"]),
    ("argument of another type", with_key("generator: {gmm: {components: many}}"), ["generator.gmm.components", "'many'", "whole number"]),
    ("unknown metric", with_key("gates: {fidelity.shap: {min: 0.9}}"), ["gates", "'fidelity.shap'", "fidelity.shape"]),
    ("gate without a bound", with_key("gates: {fidelity.shape: {}}"), ["gates.fidelity.shape", "no bound"]),
    ("gate of another type", with_key("gates: {fidelity.shape: {min: high}}"), ["gates.fidelity.shape.min", "'high'", "number"]),
    ("gate upside down", with_key("gates: {fidelity.shape: {min: 1, max: 0}}"), ["gates.fidelity.shape", "min is above max"]),
]


@pytest.mark.parametrize(("name", "make", "words"), CASES, ids=[name for name, *_ in CASES])
def test_bad_input_is_one_clear_line(name, make, words, tmp_path):
    with pytest.raises(DataError) as stopped:
        load_split(load_entry(make(tmp_path), "p"))
    text = str(stopped.value)
    assert all(word in text for word in words), text
    assert "\n" not in text and len(text) < 600
    assert SECRET not in text and "Traceback" not in text


ALLOWED = [
    ("all null", column([""] * ROWS)),
    ("constant", column(["same"] * ROWS)),
    ("constant number", column([4] * ROWS)),
    ("names with dots, spaces and so on", GOOD.replace("age,sex,dead", "d.time,Größe in cm,_x")),
    ("quoted names", GOOD.replace("age,sex,dead", '"a,b","a""b",日本')),
    ("byte order mark", "\ufeff" + GOOD),
    ("Windows line ends", GOOD.replace("\n", "\r\n")),
    ("semicolons", GOOD.replace(",", ";")),
]


@pytest.mark.parametrize(("name", "csv"), ALLOWED, ids=[name for name, _ in ALLOWED])
def test_odd_input_that_is_allowed(name, csv, tmp_path):
    train, holdout = load_split(load_entry(flows(tmp_path, csv=csv), "p"))
    assert len(train) + len(holdout) == ROWS
    assert len(train.schema.columns) == csv.splitlines()[0].count(",") + csv.splitlines()[0].count(";") + 1 - ("quoted" in name)


def test_all_null_stays_all_null(tmp_path):
    train, _ = load_split(load_entry(flows(tmp_path, csv=ALLOWED[0][1]), "p"))
    assert train.schema["x"].kind == "category" and train.column("x").null_count == len(train)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_to_read(tmp_path):
    path = flows(tmp_path)
    (tmp_path / "t.csv").chmod(0)
    with pytest.raises(DataError, match=r"t\.csv: no permission"):
        load_split(load_entry(path, "p"))
