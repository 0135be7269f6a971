"""Small projects for the tests: a table of invented patients, and the command line run on it."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from generators.data import DataError
from pipelines.cli import main
from pipelines.config import load_entry
from pipelines.sources import load_split
from privacy.ledger import Ledger, Record

ROOT = Path(__file__).parents[1]


def patients(rows: int = 1200, seed: int = 0) -> pa.Table:
    """Age, two laboratory values that depend on it, a ward, a date, a flag with nulls and an outcome."""
    rng = np.random.default_rng(seed)
    age = np.clip(rng.normal(60, 15, rows), 18, 95).round()
    crea = np.exp(rng.normal(0.01 * age - 0.6, 0.3)).round(2)
    urea = (crea * 30 + rng.normal(0, 4, rows)).round(1)
    ward = rng.choice(["surgery", "medicine", "cardiology"], rows, p=[0.3, 0.5, 0.2])
    dead = rng.random(rows) < 1 / (1 + np.exp(-(0.06 * (age - 65) + 1.5 * (crea - 1.2))))
    days = rng.integers(0, 365, rows)
    return pa.table(
        {
            "age": pa.array(age.astype(np.int64)),
            "crea": pa.array(crea),
            "urea": pa.array(urea, mask=rng.random(rows) < 0.15),
            "ward": pa.array(ward),
            "admitted": pa.array(np.datetime64("2025-01-01") + days),
            "smoker": pa.array(rng.random(rows) < 0.3, mask=rng.random(rows) < 0.1),
            "dead": pa.array(dead),
        }
    )


ENTRY = "ward:\n  source: {table: patients.parquet, target: dead}\n  gates: {utility.target: {min: 0.5}}\n"


GATES = "{fidelity.shape: null, fidelity.dependence: null, fidelity.coverage: null, fidelity.missingness: null, fidelity.detection: null, utility.target: null}"
COLUMNS = (
    "{age: {kind: numeric, low: 18, high: 95}, crea: {kind: numeric}, urea: {kind: numeric}, ward: {kind: category, values: [surgery, medicine, cardiology]}, "
    "admitted: {kind: datetime}, smoker: {kind: boolean}, dead: {kind: boolean}}"
)
PRIVATE = f"""ward:
  source:
    table: patients.parquet
    target: dead
    columns: {COLUMNS}
  privacy: {{epsilon: 5, delta: 1.0e-5}}
  generator: {{marginals: {{rounds: 4}}}}
  gates: {GATES}
"""


def lay(folder: Path, entry: str = ENTRY, table: pa.Table | None = None) -> Path:
    """A project in a folder: flows.yaml and patients.parquet. Returns the flows.yaml."""
    pq.write_table(patients() if table is None else table, folder / "patients.parquet")
    (folder / "flows.yaml").write_text(entry)
    return folder / "flows.yaml"


def run(config: Path, *more: str, name: str = "ward") -> tuple[int, dict | None]:
    """`likeness run` within this process: (exit code, the JSON of --json or None)."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(["run", name, "--config", str(config), "--json", *more])
    return code, json.loads(out.getvalue().strip().splitlines()[-1]) if code in (0, 1) else None


def refused(config: Path, name: str) -> str:
    """What is said of an entry that is refused before anything is read or learned."""
    with pytest.raises(DataError) as stopped:
        load_split(load_entry(config, name))
    return str(stopped.value)


def spawn(config: Path, *more: str, name: str = "ward", env: dict | None = None) -> subprocess.Popen:
    """`likeness run` as a process of its own."""
    command = [sys.executable, "-m", "pipelines", "run", name, "--config", str(config), "--json", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=config.parent)


def whole(shelf: Path) -> bool:
    """Whether everything under published/NAME is a version with all its parts, and the pointer points to one."""
    from pipelines.house import hash_of

    if not shelf.exists():
        return True
    for folder in (f for f in shelf.iterdir() if f.is_dir() and not f.name.startswith(".")):
        manifest = json.loads((folder / "manifest.json").read_text())
        if any(hash_of(folder / part["file"]) != part["sha256"] for part in manifest["parts"]) or not (folder / "card.md").is_file():
            return False
    pointer = shelf / "latest.json"
    return not pointer.exists() or (shelf / json.loads(pointer.read_text())["path"] / "manifest.json").is_file()


def fits(folder: Path) -> list[Record]:
    """Of all populations, what the ledger says was learned."""
    return [r for r in Ledger(folder / "runs" / "ledger.jsonl").records() if r.kind == "fit"]
