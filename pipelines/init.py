"""`likeness init SOURCE`: the flows.yaml entry for a source, with what was found in it, for a person to correct.

Nothing of the data stands in it but the names and types of its columns.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from generators.data import Column, DataError, Schema, Table
from pipelines import images, reading, series, sources
from pipelines.config import Source, names
from privacy.membership import SUBJECTS

HOLDOUT = 0.25
COLUMNS = "    columns:             # what was found; correct it here. Kinds: numeric, category, boolean, datetime, id, pii, text, drop"
LABELS = ("label", "labels", "class", "target", "category", "y")  # names of a column that says which class an image is of
LAST = ["  privacy: {rare_below: 10}   # values of fewer subjects than this are not learned", "  publish: published", ""]


def entry_for(source: str, *, root: Path = Path(), name: str | None = None, subject: str | None = None, time: str | None = None) -> str:
    """The text of an entry for a path, glob, folder, URL or library dataset; the path is relative to `root`. With a time, of series; a .npz or a folder of
    image files is images."""
    if images.found(source, root):
        return _of_images(source, root, name, subject or time)
    kind = "dataset" if source in reading.DATASETS and not (root / source).exists() else "series" if time else "table"
    asked = Source(kind, source, subject=subject, time=time)
    values, is_series = sources.read(asked, root=root), asked.is_series
    target, subject, time = (asked.role(key) for key in ("target", "subject", "time"))
    for key, column in (("subject", subject), ("time", time)):
        if column is not None and column not in values.column_names:
            raise DataError(f"--{key}: {source}: no column {column!r}; the columns are {', '.join(values.column_names)}")
    stays = _stays(values, subject, time, source) if is_series else ()
    lines = [f"{name or name_of(source)}:", "  source:", f"    {kind}: {_yaml(source)}"]
    told = f"what the utility check predicts{'; one that stays' if is_series else ''}"
    lines.append(f"    target: {_yaml(target)}" if target else f"    # target: COLUMN   # {told}")
    if kind != "dataset" and subject:
        lines.append(f"    subject: {_yaml(subject)}")
    elif kind != "dataset":
        lines.append(f"    # subject: {_guess(values)}   # whose row it is; without it each row is its own subject")
    if kind == "series":
        lines.append(f"    time: {_yaml(time)}")
    if is_series:
        lines.append(f"    # static: [{', '.join(map(_yaml, stays))}]   # columns that stay; said beside epsilon:, else found")
    lines.append(COLUMNS)
    roles = {subject: "whose step it is", time: "when it is"} if is_series else {}
    for column, held in zip(values.column_names, values.columns, strict=True):
        if column not in roles:
            lines.append(_line(column, held, column == target) + ("; stays" if column in stays else ""))
    family = "autoregressive" if is_series else "gmm"
    return "\n".join([*lines, _holdout(values, subject), "  seed: 0", f"  generator: {family}", *LAST])


def _of_images(source: str, root: Path, name: str | None, role: str | None) -> str:
    if role:
        raise DataError(f"{source}: found images and --subject or --time, expected neither: every image is somebody else's")
    try:
        values, column = images.read(source, root)
    except DataError as error:
        raise DataError(str(error) if source in str(error) else f"{source}: {error}") from None
    of, beside = column.options, [n for n in values.column_names if n != column.name]
    lines = [f"{name or name_of(source)}:", "  source:", f"    images: {_yaml(source)}"]
    lines[-1] += f"     # {of['height']} x {of['width']} pixels, {of['channels']} of {of['bits']} bits; size: [HEIGHT, WIDTH] brings them to another size"
    label = next((n for n in beside if n.lower() in LABELS), beside[0] if len(beside) == 1 else None)
    which = "which class an image is of"
    lines.append(
        f"    label: {_yaml(label)}     # {which}" if label else f"    # label: COLUMN   # {which}{'' if beside else '; there is nothing beside them'}"
    )
    if beside:
        lines.append(
            "    columns:             # what was found beside the images; correct it here. Kinds: numeric, category, boolean, datetime, id, pii, text, drop"
        )
        lines += [_line(n, values.column(n), n == label) for n in beside]
    return "\n".join([*lines, _holdout(values, None), "  seed: 0", "  generator: gmm      # seconds; vae, diffusion and others take minutes", *LAST])


def _holdout(values: pa.Table, subject: str | None) -> str:
    """The line that says how much is kept apart: of few subjects more, so that privacy.membership can tell."""
    people = values.num_rows if subject is None else pc.count_distinct(values.column(subject)).as_py()
    share = max(HOLDOUT, math.ceil(100 * SUBJECTS / max(people, 1)) / 100)
    if share > 0.5:
        return f"  holdout: {HOLDOUT}          # kept apart to judge with; LOOK HERE: no verdict without {2 * SUBJECTS} subjects, found {people}"
    return f"  holdout: {share}          # kept apart to judge with" + f"; privacy.membership needs {SUBJECTS} subjects" * (share > HOLDOUT)


def _stays(values: pa.Table, subject: str | None, time: str | None, source: str) -> tuple[str, ...]:
    """Columns that are the same in all steps of each subject."""
    if subject is None:
        raise DataError(f"--time: {source}: found without --subject, expected both: whose step it is, and when; one long series is written with window:")
    try:
        series.timed(values, time)
        columns = tuple(Column(n, "id" if n == subject else "text") for n in values.column_names)
        return series.arranged(Table.of(values, Schema(values.schema, columns, subject)), time).schema.static
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def write_entry(config_path: str | Path, text: str) -> str:
    """Adds an entry to a flows.yaml, made where there is none. A name that it already holds is refused. Returns the name."""
    path = Path(config_path)
    name = next(iter(yaml.safe_load(text)))
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before.strip() and name in names(path):
        raise DataError(f"{path}: already holds a pipeline {name!r}; choose another name, or take that entry out first")
    if before.strip():
        text = before.rstrip("\n") + "\n\n" + text
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None
    return name


def name_of(source: str) -> str:
    """A pipeline's name from a path: `data/adult train.csv.gz` is adult-train; a glob takes its folder's."""
    steps = [s for s in re.split(r"[/\\]", source.split("://")[-1]) if s and not set("*?[") & set(s)]
    stem = re.sub(r"(\.(csv|tsv|parquet|pq|gz|npz))+$", "", steps[-1]) if steps else ""
    return re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-")[:100] or "table"


def _guess(values: pa.Table) -> str:
    """The first column that looks like the id of people with several rows each."""
    from privacy.disclosure import KEY
    from privacy.personal import snake

    for name, column in zip(values.column_names, values.columns, strict=True):
        if KEY.search(snake(name)) and not pa.types.is_nested(column.type) and 20 < pc.count_distinct(column).as_py() < len(column):
            return _yaml(name)
    return "COLUMN"


def _line(name: str, values: pa.ChunkedArray, target: bool) -> str:
    from privacy.disclosure import coded, detect_one

    try:
        column = detect_one(name, values, target=target)
        declared, comment = {"kind": column.kind, **column.options}, str(values.type)
    except DataError as error:
        declared = {"kind": "id" if coded(values) else "drop"}
        comment = f"{values.type}; LOOK HERE: {str(error).split(': ', 1)[-1].split('; declare it')[0]}"
    flow = ", ".join(f"{key}: {_yaml(value)}" for key, value in declared.items())
    return f"      {_yaml(name)}: {{{flow}}}  # {comment}"


def _yaml(value: str) -> str:
    """A string as one YAML scalar, quoted only where it must be."""
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10**6).strip()
    return text[1:-1]
