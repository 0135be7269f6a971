"""Where a pipeline keeps what: runs/NAME/VERSION stays inside and is readable by its owner only; real rows live in it shortly."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from generators.data import DataError, Schema, Table
from pipelines.config import Entry
from privacy.ledger import DRAW, Ledger

RUNS = "runs"
REAL = "work"  # real rows of a run in progress, removed when it ends
LOCK = ".lock"
LEDGER = "ledger.jsonl"
SECRET = ".secret"
UNSAVED = ".model"  # a model until all of it is there
FACTS = "fit.json"  # in a model's folder: how it was fitted, what it spent, and a hash of what lies beside
PACKAGES = ("generators", "validation", "privacy", "pipelines")


@dataclass(frozen=True)
class Run:
    """One run: an entry, and its version, which names everything that decides what is made. Same version, same bytes."""

    entry: Entry
    version: str

    @property
    def home(self) -> Path:
        return home(self.entry)

    @property
    def folder(self) -> Path:
        return self.home / self.version

    @property
    def real(self) -> Path:
        return self.folder / REAL

    def write(self, name: str, value: Any) -> Path:
        """Writes a JSON file of the run, whole or not at all."""
        path = self.folder / name
        replace(path, json.dumps(value, indent=1, sort_keys=True, default=str))
        return path

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def unsaved(self) -> Path:
        return self.folder / UNSAVED

    def fitted(self, key: str) -> Path | None:
        """The model of this version, in its place or beside it, or else of another of this pipeline, that was fitted under this key."""
        models = [self.model, self.unsaved, *sorted(self.home.glob("*/model"))]
        return next((m for m in models if fit_of(m, key)), None)


def clean(root: Path, held: Path | None = None) -> None:
    """Removes real rows that killed runs left behind: of all pipelines that nobody runs, and of that whose lock is held, by its home."""
    for folder in (root / RUNS).iterdir() if (root / RUNS).is_dir() else ():
        if folder == held:
            _without_rows(folder)
        elif (folder / LOCK).is_file():
            with open(folder / LOCK, "w") as lock, contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _without_rows(folder)


def _without_rows(home: Path) -> None:
    for left in home.glob(f"*/{REAL}"):
        shutil.rmtree(left, ignore_errors=True)


def home(entry: Entry) -> Path:
    return entry.root / RUNS / entry.name


def ledger(root: Path) -> Ledger:
    """Of all pipelines of the flows.yaml in this folder; inside, for the owner's eyes only."""
    return Ledger(root / RUNS / LEDGER)


def fit_of(model: Path, key: str | None = None) -> dict[str, Any]:
    """FACTS of a model, under this key or any, that is as it was when it was fitted; of none, or a damaged one, nothing."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        facts = json.loads((model / FACTS).read_text())
        if key in (None, facts["key"]) and facts["charge"]["name"] and facts["files"] == hash_of(model, but=FACTS):
            return facts
    return {}


def key_of(entry: Entry, fingerprint: str) -> str:
    """What decides which model is learned."""
    return digest(entry.learned, hidden(entry, fingerprint), code())


def version_of(entry: Entry, fingerprint: str) -> str:
    """What names the run of this entry on a source with this fingerprint, by this program.

    Noise has no seed: where a table was drawn under a name, from a model that is no longer there, another model's tables get another name."""
    parts, again = [entry.digest, hidden(entry, fingerprint), code()], 0
    drawn = [r.name.split() for r in ledger(entry.root).records() if r.kind == DRAW] if entry.promise else []
    while True:
        run = Run(entry, digest(*parts, *[str(again)] * bool(again))[:12])
        charges = {" ".join(name[2:3]) for name in drawn if name[:2] == [entry.name, run.version]}
        if not charges or ((fit := fit_of(run.model, key_of(entry, fingerprint))) and charges == {fit["charge"]["name"]}):
            return run.version
        again += 1


def named(name: str, version: str, fit: dict[str, Any]) -> str:
    """What the ledger calls the table of a version, drawn from the model that was fitted so."""
    return f"{name} {version} {fit['charge']['name']}"


def hidden(entry: Entry, fingerprint: str) -> str:
    """The fingerprint; under differential privacy one that says nothing to who does not have the secret of this house, since versions are published."""
    if entry.promise is None:
        return fingerprint
    path = entry.root / RUNS / SECRET
    if not path.is_file():
        _closed(path.parent)
        beside = path.with_name(f"{SECRET}.{os.urandom(8).hex()}")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(os.urandom(32).hex())
        with contextlib.suppress(FileExistsError):  # another run was first: its secret counts
            os.link(beside, path)
        beside.unlink()
    return hmac.digest(path.read_bytes(), fingerprint.encode(), "sha256").hex()


def open_run(entry: Entry, version: str) -> Run:
    """A run, its folder made for the owner's eyes only; one that was there, and open to others, is closed to them."""
    run = Run(entry, version)
    _closed(entry.root / RUNS, run.home, run.folder)
    return run


def _closed(*folders: Path) -> None:
    for folder in folders:
        if not folder.is_dir() and (folder.exists() or folder.is_symlink()):
            raise DataError(f"{folder}: found a file, or a link to nothing, expected a folder: what runs leave inside is kept there")
        folder.mkdir(exist_ok=True, mode=0o700)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)


@contextmanager
def alone(entry: Entry, waiting) -> Iterator[None]:
    """One run of a pipeline at a time: a second one waits. The lock goes with the process, however that ends."""
    folder = home(entry)
    _closed(entry.root / RUNS, folder)
    with open(folder / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest(*parts: str) -> str:
    """sha256 over strings."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def code() -> str:
    """sha256 of the program itself: another program is another version."""
    root = Path(__file__).parents[1]
    files = sorted(f for package in PACKAGES for f in (root / package).rglob("*") if f.suffix in (".py", ".html", ".md"))
    return digest(*(hashlib.sha256(f.read_bytes()).hexdigest() for f in files))


def hash_of(path: Path, but: str = "") -> str:
    """sha256 of a file, or of all files of a folder by name, but for one."""
    if path.is_dir():
        return digest(*(f"{f.relative_to(path)} {hash_of(f)}" for f in sorted(path.rglob("*")) if f.is_file() and f.name != but))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace(path: Path, text: str) -> None:
    """Writes a file beside and, when it is on the disk, moves it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(beside, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def move(beside: Path, folder: Path) -> None:
    """Moves a folder into its place when all of it is on the disk: whatever happens, it is there whole or not at all."""
    for path in [*beside.rglob("*"), beside]:
        _settle(path)
    beside.rename(folder)
    _settle(folder.parent)


def _settle(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_table(table: Table, path: Path) -> None:
    """A table as it is, Arrow types and all, with its schema beside it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.values.schema) as writer:
        writer.write_table(table.values)
    replace(path.with_suffix(".json"), json.dumps(table.schema.to_json()))


def read_table(path: Path) -> Table:
    if not path.is_file():
        raise DataError(f"{path}: no such table")
    with pa.memory_map(str(path)) as source:
        values = pa.ipc.open_file(source).read_all()
    return Table(values, Schema.from_json(json.loads(path.with_suffix(".json").read_text())))
