"""Bytes to Arrow: the parts of a path, glob, folder or URL, CSV and Parquet, and the tables inside scikit-learn.

No error holds a value of the data: where a library quotes one, it is cut.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from generators.data import DataError

DATASETS = {
    "breast_cancer": {"target": "diagnosis"},
    "diabetes": {"target": "progression"},
    "digits": {"target": "digit"},
    "iris": {"target": "species"},
    "wine": {"target": "cultivar"},
    "fertility": {"subject": "country", "time": "year"},
}  # and which column plays which part; those with a time are series
ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".pq")
NULLS = ["", "#N/A", "#N/A N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"]
BLOCK = 4 << 20  # bytes of a CSV parsed at a time; a record cannot be longer


def dataset(name: str) -> pa.Table:
    """A table that ships inside scikit-learn, in real units, its target named and spelt out; or series that ship inside statsmodels."""
    if name == "fertility":
        return _fertility()
    import sklearn.datasets

    found = getattr(sklearn.datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    columns = {str(k).replace(" (cm)", ""): pa.array(v) for k, v in zip(found.feature_names, found.data.T, strict=True)}
    if name == "digits":
        columns = {key: value.cast(pa.int8()) for key, value in columns.items()}
    words = [str(word) for word in getattr(found, "target_names", ())]
    target = [words[i] for i in found.target] if words else found.target
    return pa.table({**columns, DATASETS[name]["target"]: target})


def _fertility() -> pa.Table:
    """Births per woman, by country and every fifth year, 1960 to 2010 (World Bank; the years between are largely interpolated); a row for
    each that is known or lies between such."""
    import pandas as pd
    from statsmodels.datasets import fertility

    wide = fertility.load_pandas().data.set_index("Country Name").filter(regex=r"^\d{4}$").apply(pd.to_numeric, errors="coerce")
    long = wide.rename_axis("country").reset_index().melt("country", var_name="year", value_name="births").astype({"year": "int64"})
    long = long[long.year % 5 == 0].sort_values(["country", "year"])
    by = long.groupby("country").births
    long = long[by.ffill().notna() & by.bfill().notna()]
    return pa.Table.from_pandas(long, preserve_index=False)


def parts(location: str, root: Path = Path()) -> list[tuple[Any, str]]:
    """(file system, path) of every part, in order of name."""
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(location if "://" in location else str(root / Path(location).expanduser()))
    except (ImportError, ValueError) as error:
        raise DataError(f"{location}: cannot be opened ({error}), expected a path or a URL that fsspec knows") from None
    if fs.isfile(path):
        found = [path]
    elif fs.isdir(path):
        found = [p for p in fs.find(path) if p.lower().endswith(ENDINGS) and not re.search(r"/[._]", p[len(path.rstrip("/")) :])]
        if any("=" in p[len(path) :].rsplit("/", 1)[0] for p in found):
            raise DataError(f"{location}: parts lie in key=value folders, expected the key as a column inside the files")
    else:
        found = fs.glob(path) if set("*?[") & set(path) else []
        if not found:
            raise DataError(f"{location}: no such file or folder, expected one of {', '.join(ENDINGS)}")
    found = sorted(p for p in found if p.lower().endswith(ENDINGS))
    if not found:
        raise DataError(f"{location}: no part found, expected files that end in {', '.join(ENDINGS)}")
    return [(fs, p) for p in found]


def fingerprint(location: str, root: Path = Path()) -> str:
    """sha256 of the bytes of each part, in order of name. Names and times do not count."""
    total = hashlib.sha256()
    for fs, path in parts(location, root):
        with problems(path), fs.open(path, "rb") as file:
            part = hashlib.sha256()
            while block := file.read(1 << 20):
                part.update(block)
        total.update(part.digest())
    return total.hexdigest()


def read(location: str, root: Path = Path(), numeric: Collection[str] = (), subject: str | None = None, letters: bool = False) -> pa.Table:
    """All parts as one table. Columns named in `numeric` are read as numbers even where they have leading zeros.

    subject: the column that says whose a row is: where it is text, each word of a text file is somebody's name, NA too. letters: of text files
    it always is text."""
    files = parts(location, root)
    as_text = {name for fs, path in files if not _parquet(path) for name in _padded(fs, path)} - set(numeric)
    if letters and subject is not None and not any(_parquet(path) for _, path in files):
        as_text.add(subject)
    tables = []
    for fs, path in files:
        with problems(path):
            tables.append(_read_parquet(fs, path) if _parquet(path) else _read_csv(fs, path, as_text))
    if any(subject in t.column_names and pa.types.is_string(t.schema.field(subject).type) for t in tables):
        tables = [t if _parquet(path) else _named(fs, path, t, subject) for (fs, path), t in zip(files, tables, strict=True)]
    first = tables[0].schema
    for (_, path), table in zip(files[1:], tables[1:], strict=True):
        odd = set(table.schema.names) ^ set(first.names)
        if odd:
            name = min(odd)
            here, there = (path, files[0][1]) if name in table.schema.names else (files[0][1], path)
            raise DataError(f"{_short(there)}: no column {name!r}, which {_short(here)} has; expected the same in every part")
    tables = _agreed([t.select(first.names) for t in tables], [_short(path) for _, path in files])
    return storable(pa.concat_tables(tables).unify_dictionaries())


def words(location: str, root: Path = Path()) -> pa.Table | None:
    """Of text files, what stands in each cell, letter by letter, in the order of `read`; None where a part is none."""
    files, tables = parts(location, root), []
    for fs, path in files:
        if _parquet(path):
            return None
        with problems(path):
            import pyarrow.csv

            names = pyarrow.csv.open_csv(_beginning(fs, path), **_dialect(fs, path, threads=False)).schema.names
            tables.append(_parsed(fs, path, _convert(names, nulls=[]), threads=True))
    return pa.concat_tables([t.select(tables[0].column_names) for t in tables])


def storable(values: pa.Table) -> pa.Table:
    """Timestamps of whole seconds in milliseconds: Parquet has none coarser."""
    for i, field in enumerate(values.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "s":
            kind = pa.timestamp("ms", field.type.tz)
            values = values.set_column(i, field.with_type(kind), values.column(i).cast(kind))
    return values


def fit(values: pa.Table, column: pa.Field, label: str) -> pa.Table:
    """The table with this column in this type; only steps that change no value (nulls, wider numbers) are taken."""
    i = values.schema.get_field_index(column.name)
    found = values.schema.field(i).type
    whole = pa.types.is_integer(found) and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
    if found != column.type and not (pa.types.is_null(found) or whole):
        raise DataError(f"{label}: column {column.name!r}: found {found}, expected {column.type} as elsewhere")
    try:
        return values.set_column(i, column.with_nullable(True), values.column(i).cast(column.type))
    except pa.ArrowInvalid:
        raise DataError(f"{label}: column {column.name!r}: numbers too large for {column.type}") from None


@contextmanager
def problems(path: str) -> Iterator[None]:
    """What goes wrong with one file, as one line without a value of it. Troubles of a network pass through, to be retried."""
    short = _short(path)
    try:
        yield
    except DataError as error:
        raise DataError(f"{short}: {error}") from None
    except PermissionError:
        raise DataError(f"{short}: no permission to read it") from None
    except (pa.ArrowException, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{short}: {_reason(str(error), path)}") from None
    except OSError as error:
        if error.errno:
            raise
        raise DataError(f"{short}: {_reason(str(error), path)}") from None


def _short(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _parquet(path: str) -> bool:
    return path.lower().endswith((".parquet", ".pq"))


def _reason(message: str, path: str) -> str:
    """What a library said, less what it quotes."""
    if _parquet(path):
        return "not a whole Parquet file (truncated, damaged or another format), expected Parquet"
    ragged = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", message)
    if ragged:
        row = f"row {ragged[1]}" if ragged[1] else "a row"
        return f"{row} has {ragged[3]} fields, expected {ragged[2]} as in the header (ragged CSV)"
    if "straddling" in message or "out of sync" in message:
        return f"a record longer than {BLOCK >> 20} MB, expected CSV; is a quote left open?"
    if path.lower().endswith(".gz"):
        return "not a whole gzip file (truncated or another format), expected gzipped CSV"
    return "cannot be parsed as CSV, expected UTF-8 text with a header line"


def _read_parquet(fs: Any, path: str) -> pa.Table:
    import pyarrow.parquet as pq

    if fs.size(path) == 0:
        raise DataError("empty file, expected Parquet")
    with fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        _names(parquet.schema_arrow.names)
        table = parquet.read()
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return table.cast(pa.schema([f.with_type(plain.get(f.type, f.type)).remove_metadata() for f in table.schema]))


def _open(fs: Any, path: str) -> Any:
    return fs.open(path, "rb", compression="gzip" if path.lower().endswith(".gz") else None)


def _beginning(fs: Any, path: str) -> pa.BufferReader:
    """The first block and what comes after it, as Arrow's own: it reads ahead, and must not ask for more of a file when this program ends."""
    with _open(fs, path) as file:
        return pa.BufferReader(file.read(2 * BLOCK))


def _head(fs: Any, path: str) -> bytes:
    with _open(fs, path) as file:
        head = file.read(1 << 16)
    if not head.strip():
        raise DataError("empty file, expected a header line and rows")
    if b"\0" in head:
        raise DataError("holds binary data, expected CSV as UTF-8 text")
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            raise DataError("not UTF-8 text, expected CSV in UTF-8; save it again in that encoding") from None
    return head


def _dialect(fs: Any, path: str, threads: bool) -> dict:
    """How to read; Arrow counts rows, and so names the one that is wrong, only without threads."""
    import pyarrow.csv

    header = re.sub(rb'"[^"]*"', b"", _head(fs, path).lstrip().splitlines()[0])
    separator = max(b",;\t|", key=lambda s: (header.count(s), s == ord(","))) if ".tsv" not in _short(path).lower() else ord("\t")
    parse = pyarrow.csv.ParseOptions(delimiter=chr(separator), newlines_in_values=True)
    return {"read_options": pyarrow.csv.ReadOptions(block_size=BLOCK, use_threads=threads), "parse_options": parse}


def _convert(as_text: Collection[str] = (), nulls: Collection[str] = NULLS, only: Collection[str] = ()) -> Any:
    import pyarrow.csv

    types = {name: pa.string() for name in as_text}
    return pyarrow.csv.ConvertOptions(null_values=nulls, strings_can_be_null=True, column_types=types, include_columns=only)


def _padded(fs: Any, path: str) -> set[str]:
    """Columns of whole numbers some of which start with a zero, in the first block: codes, not numbers."""
    import pyarrow.csv

    with problems(path):
        dialect = _dialect(fs, path, threads=False)
        with pyarrow.csv.open_csv(_beginning(fs, path), convert_options=_convert(), **dialect) as stream:
            whole = [f.name for f in stream.schema if pa.types.is_integer(f.type)]
        with pyarrow.csv.open_csv(_beginning(fs, path), convert_options=_convert(whole), **dialect) as stream:
            block = next(iter(stream), None)
    if block is None or len(set(block.schema.names)) < len(block.schema.names):
        return set()
    return {n for n in whole if pc.any(pc.match_substring_regex(block.column(n), r"^0\d")).as_py()}


def _parsed(fs: Any, path: str, convert: Any, threads: bool = True) -> pa.Table:
    import pyarrow.csv

    try:
        with _open(fs, path) as file:
            return pyarrow.csv.read_csv(file, convert_options=convert, **_dialect(fs, path, threads))
    except pa.ArrowInvalid:
        if not threads:
            raise
        return _parsed(fs, path, convert, threads=False)


def _read_csv(fs: Any, path: str, as_text: Collection[str]) -> pa.Table:
    table = _parsed(fs, path, _convert(as_text))
    _names(table.column_names)
    for field in table.schema:
        if pa.types.is_binary(field.type):
            raise DataError(f"column {field.name!r}: not UTF-8 text, expected CSV in UTF-8; save it again in that encoding")
    _header(table)
    return table


def _named(fs: Any, path: str, table: pa.Table, subject: str) -> pa.Table:
    """The table of a text file, in which an empty cell alone is nobody's name."""
    if subject not in table.column_names or (pa.types.is_string(table.schema.field(subject).type) and not table.column(subject).null_count):
        return table
    with problems(path):
        named = _parsed(fs, path, _convert({subject}, nulls=[""], only=[subject]))
    return table.set_column(table.column_names.index(subject), subject, named.column(0))


def _names(names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"column {twice[0]!r} stands {Counter(names)[twice[0]]} times, expected each name once")
    if any(not name.strip() for name in names):
        raise DataError(f"column {[not n.strip() for n in names].index(True) + 1} has no name, expected one for each column")


def _header(table: pa.Table) -> None:
    """Without a header line the first record would become the column names, and be published."""
    held = 0
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            held += name != "" and pc.index(column, pa.scalar(name).cast(column.type)).as_py() >= 0
        except pa.ArrowException:
            continue
    if table.num_rows and held and held >= table.num_columns / 2:
        raise DataError("the first line looks like a record, expected a header line of column names")


def _agreed(tables: list[pa.Table], labels: list[str]) -> list[pa.Table]:
    """Every part in one schema: nulls and whole numbers give way to what other parts hold; anything else is an error."""
    for i, name in enumerate(tables[0].column_names):
        types = [t.schema.field(i).type for t in tables]
        if len(set(types)) > 1:
            known = [t for t in types if not pa.types.is_null(t)]
            best = next((t for t in known if pa.types.is_floating(t)), known[0])
            tables = [fit(t, pa.field(name, best), label) for t, label in zip(tables, labels, strict=True)]
    schema = pa.schema([f.with_nullable(any(t.schema.field(i).nullable for t in tables)) for i, f in enumerate(tables[0].schema)])
    return [t.cast(schema) for t in tables]
