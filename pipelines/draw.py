"""`likeness sample`: rows from a saved model, outside a run. Of a model in runs/ the ledger counts the draw."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from generators.data import DataError
from generators.synthesizer import Synthesizer
from pipelines.house import digest
from pipelines.pictures import published
from pipelines.progress import each
from pipelines.spending import drawn
from privacy.disclosure import is_text


def draw(model: Path, rows: int, out: Path, where: list[str], balance: str | None, seed: int | None) -> str:
    """Writes so many rows, or series, as Parquet parts into the new folder `out`, whole or not at all. where: COLUMN=VALUE, values as in YAML."""
    if out.exists():
        raise DataError(f"--out {out}: found something there, expected a folder that does not exist yet")
    synthesizer = Synthesizer.load(model)
    conditions = {}
    for text in where:
        name, equals, value = text.partition("=")
        if not equals:
            raise DataError("--where: found no '=', expected COLUMN=VALUE")
        try:
            conditions[name] = _meant(value, synthesizer, name)
        except yaml.YAMLError:
            raise DataError(f"--where {name}=…: the value is not YAML, expected a word, a number, true, false or null") from None
        if isinstance(conditions[name], dict | list | set) or conditions[name] in (math.inf, -math.inf) or conditions[name] != conditions[name]:
            raise DataError(f"--where {name}=…: expected a word, a finite number, a date, true, false or null")
    synthesizer.check(conditions, balance, rows)
    staging = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        try:
            staging.mkdir(parents=True)
        except OSError as problem:
            raise DataError(f"--out {out}: cannot be made ({problem.strerror}), expected a folder that may be written") from None
        request = conditions, balance, synthesizer.seed if seed is None else seed
        drawn(model, rows, digest(str(rows), *map(repr, request))[:12])  # made again, the same rows: it counts once
        provenance = {"likeness.synthetic": "true", "likeness.generator": synthesizer.family}
        parts = synthesizer.parts(rows, where=conditions, balance=balance, seed=seed)
        for i, part in enumerate(each(parts, "sampling", -(-rows // synthesizer.each))):
            values = published(part) if part.schema.image else part.values.replace_schema_metadata(None)
            pq.write_table(values.replace_schema_metadata({**(values.schema.metadata or {}), **provenance}), staging / f"part-{i:05d}.parquet")
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return f"{rows} {'series' if synthesizer.encoder.schema.time else 'rows'} in {out}"


def _meant(value: str, synthesizer: Synthesizer, name: str) -> Any:
    """What is written on a command line, as YAML; in a column of words a word is a word, and `no` is not false."""
    meant = yaml.safe_load(value)
    schema = synthesizer.encoder.schema
    if name in schema.arrow.names and meant is not None and not isinstance(meant, dict | list | set):
        kind = schema.arrow.field(name).type
        if is_text(kind.value_type if pa.types.is_dictionary(kind) else kind) and not isinstance(meant, str):
            return value.strip()
    return meant
