"""flows.yaml: what each pipeline does, as frozen Entries. Anything it cannot mean is a DataError that names file and key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from generators.data import DataError
from pipelines.flowfile import names, overridden, read
from pipelines.origin import Source, place, source
from pipelines.promise import Budget, Promise, privacy
from pipelines.sheet import arguments, choice, closest, mapping, name_of, number, text

__all__ = ["Entry", "Sample", "Schedule", "Source", "load", "load_entry", "names"]


@dataclass(frozen=True)
class Sample:
    """How many rows, or series of how many subjects, to publish (None: as many as were trained on), levelled over a column or under a condition."""

    rows: int | None = None
    balance: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    subjects: int | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The columns of which something is asked."""
        return (*self.where, *([self.balance] if self.balance and self.balance not in self.where else []))


@dataclass(frozen=True)
class Schedule:
    cron: str
    timezone: str = "UTC"


@dataclass(frozen=True)
class Entry:
    """One pipeline of flows.yaml. Relative paths in it are relative to `root`, the folder of that file."""

    name: str
    source: Source
    root: Path
    file: str = "flows.yaml"
    holdout: float | Source = 0.25
    seed: int = 0
    family: str = "gmm"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sample: Sample = Sample()
    rare_below: int = 10
    population: str | None = None
    promise: Promise | None = None
    budget: Budget | None = None
    gates: Mapping[str, Mapping[str, float] | None] = field(default_factory=dict)
    contract: tuple[Mapping[str, Mapping[str, Any]], ...] = ()
    publish: str = "published"
    schedule: Schedule | None = None

    @property
    def where(self) -> str:
        """Where it stands, for what is said of it."""
        return f"{self.root / self.file}: {self.name}"

    @property
    def people(self) -> str:
        """What the ledger calls those whose data these are: `privacy.population`, or else the pipeline's own name."""
        return self.population or self.name

    def to_json(self) -> dict:
        """Everything that decides what is made, JSON-able and the same wherever the folder lies."""
        state = asdict(self)
        del state["root"], state["file"]
        return json.loads(json.dumps(state, sort_keys=True, default=str))

    @property
    def digest(self) -> str:
        """sha256 of to_json, for keys and manifests."""
        return _digest(self.to_json())

    @property
    def learned(self) -> str:
        """sha256 of what decides which model is learned, so that entries that differ in the rest share it."""
        return _digest({key: value for key, value in self.to_json().items() if key in LEARNED})


LEARNED = ("source", "holdout", "seed", "family", "arguments", "rare_below", "promise")


def _digest(state: dict) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def load(path: str | Path) -> dict[str, Entry]:
    """Every pipeline of a flows.yaml, each checked."""
    path = Path(path)
    return {name: _entry(path, name, raw) for name, raw in read(path).items()}


def load_entry(path: str | Path, name: str, overrides: list[str] | tuple[str, ...] = ()) -> Entry:
    """One pipeline, after overrides such as `generator.gmm.components=50`; the other entries are not looked at."""
    path = Path(path)
    entries = read(path)
    if name not in entries:
        raise DataError(f"{path}: no pipeline {name!r}{closest(name, entries)}; it holds {', '.join(entries)}")
    raw = entries[name]
    for override in overrides:
        raw = overridden(raw, override)
    return _entry(path, name, raw)


def _entry(path: Path, name: Any, raw: Any) -> Entry:
    where = f"{path}: {name}"
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise DataError(f"{where}: a pipeline's name holds other than letters, digits, dots, dashes and underscores")
    try:
        found = mapping(raw, where, SHEET, required=("source",))
        series, nothing = found["source"].is_series, _nothing(found["source"])
        found.update(found.pop("privacy", {}))
        family, given = found.pop("generator", (_default(type(nothing), "promise" in found), {}))
        found["family"], found["arguments"] = family, _arguments(family, given, f"{where}.generator.{family}", nothing)
        if "promise" in found:
            _private(found, where, nothing)
        unit, wrong = ("subjects", "rows") if series else ("rows", "subjects")
        if "sample" in found and getattr(found["sample"], wrong) is not None:
            raise DataError(f"{where}.sample.{wrong}: found beside a source of {'series' if wrong == 'rows' else 'rows'}, expected {unit}:")
        return Entry(name=name, root=path.parent, file=path.name, **found)
    except RecursionError:
        raise DataError(f"{where}: an alias that holds itself, expected plain YAML") from None


def _holdout(raw: Any, where: str) -> float | Source:
    return place(raw, where) if isinstance(raw, dict) else number(raw, where, 0.05, 0.9, also=" or a source, {table: …}")


def _generator(raw: Any, where: str) -> tuple[str, dict]:
    from generators.registry import FAMILIES, OF_IMAGES, OF_SERIES

    known = list(dict.fromkeys([*FAMILIES, *OF_SERIES, *OF_IMAGES]))
    if isinstance(raw, dict) and len(raw) != 1:
        raise DataError(f"{where}: found {len(raw)} keys, expected one family: {', '.join(known)}")
    family, given = next(iter(raw.items())) if isinstance(raw, dict) else (raw, {})
    choice(family, where, known)
    return family, mapping(given or {}, f"{where}.{family}")


def families_for(source: Source, promised: bool = False) -> tuple[str, ...]:
    """The names of those that generate what the source holds; promised: and learn it under differential privacy."""
    from generators.building import BUILT, private

    kind = type(_nothing(source))
    return tuple(private(kind) if promised else BUILT[kind][1])


def _default(kind: type, promised: bool) -> str:
    """The family where none is named."""
    from generators.building import MARGINS, private
    from generators.layout import SeriesLayout

    if promised and (able := private(kind)):
        return MARGINS if MARGINS in able else able[0]
    return "autoregressive" if kind is SeriesLayout else Entry.family


def _nothing(source: Source) -> Any:
    """A layout of what the source holds, without a column."""
    from generators.building import NOTHING
    from generators.layout import ImageLayout, Layout, SeriesLayout

    return NOTHING[ImageLayout if source.kind == "images" else SeriesLayout if source.is_series else Layout]


def _arguments(family: str, given: dict, where: str, nothing: Any) -> dict:
    """Keyword arguments of the family that generates what the source holds; of series and images also `static`, which says what stays or stands beside."""
    from generators.building import BUILT, build
    from generators.registry import FAMILIES

    what, families, joint = BUILT[type(nothing)]
    if family not in families:
        raise DataError(f"{where}: generates no {what}, expected one of {', '.join(families)}")
    static = {"static": choice(given["static"], f"{where}.static", FAMILIES)} if joint and "static" in given else {}
    found = arguments({k: v for k, v in given.items() if k not in static}, where, families[family]) | static
    try:
        build(family, nothing, found)
    except DataError as problem:
        raise DataError(f"{where}: {str(problem).removeprefix(f'generator.{family}: ')}") from None
    return found


def training_of(entry: Entry) -> Any:
    """How the entry's model is trained under differential privacy, if it is by steps: a generators.descent.Descent, or None."""
    from generators.building import descent_of

    return descent_of(type(_nothing(entry.source)), entry.family, entry.arguments)


def _private(found: dict, where: str, nothing: Any) -> None:
    """Raises DataError for what does not go together with differential privacy."""
    from generators.building import beside, descent_of, private

    try:
        private(type(nothing), found["family"])
        beside(type(nothing), found["arguments"])
        how = descent_of(type(nothing), found["family"], found["arguments"])
    except DataError as problem:
        raise DataError(f"{where}.{problem}") from None
    _bounded(found["promise"], found["source"], f"{where}.privacy")
    if (rows := found["promise"].rows) > 1 and how:
        raise DataError(f"{where}.privacy.rows: found {rows}, expected 1: {found['family']} is trained by steps, which know rows, and not whose they are")
    for metric in found.get("gates", {}):
        if metric.startswith("privacy."):
            raise DataError(
                f"{where}.gates.{metric}: found beside epsilon:, expected none: it looks at the very people who are protected, so that to publish or "
                "not would tell of them; it is measured, and stays in the report"
            )


def _bounded(promise: Promise, source: Source, where: str) -> None:
    """How much of one subject is learned from stands beside the right kind of source."""
    if not source.is_series:
        if promise.steps:
            raise DataError(f"{where}.steps: found beside {source.kind}:, expected rows:, of one subject, or nothing; steps: is for series")
        return
    if source.window:
        raise DataError(f"{where}.epsilon: found beside window:, expected subject: and time:; pieces of one long series are all of one subject")
    if promise.rows > 1:
        raise DataError(f"{where}.rows: found beside series, expected steps:, of one subject, at most")
    if promise.steps is None:
        raise DataError(f"{where}: found epsilon: without steps:, expected how many steps of one subject are learned from, at most; the first ones are")
    if source.static is None:
        where = where.removesuffix(".privacy")
        raise DataError(f"{where}.source: found no static:, expected the columns that stay, or []: to find them in the data would tell of them")


def _conditions(raw: Any, where: str) -> dict:
    found = {str(key): value for key, value in mapping(raw, where).items()}
    for key, value in found.items():
        if isinstance(value, dict | list):
            raise DataError(f"{where}.{key}: found {name_of(value)}, expected one value")
    return found


def _gates(raw: Any, where: str) -> dict:
    from pipelines.gates import known_metrics

    return mapping(raw, where, {str(metric): _bound for metric in known_metrics()})


def _bound(raw: Any, where: str) -> dict | None:
    """{min, max} of a gate; null lifts the gate."""
    if raw is None:
        return None
    found = mapping(raw, where, {"min": number, "max": number})
    if not found:
        raise DataError(f"{where}: found no bound, expected {{min: NUMBER}} or {{max: NUMBER}}")
    if found.get("min", float("-inf")) > found.get("max", float("inf")):
        raise DataError(f"{where}: min is above max, which nothing can meet")
    return found


def _contract(raw: Any, where: str) -> tuple:
    if not isinstance(raw, list):
        raise DataError(f"{where}: found {name_of(raw)}, expected a list of `- expect_…: {{column: …}}`")
    for i, item in enumerate(raw, 1):
        item = mapping(item, f"{where}, item {i}")
        if len(item) != 1 or not str(next(iter(item))).startswith("expect_"):
            raise DataError(f"{where}, item {i}: expected one Great Expectations name (expect_…) and its arguments")
        name, given = next(iter(item.items()))
        mapping(given or {}, f"{where}, item {i}, {name}")
    return tuple({name: given or {}} for item in raw for name, given in item.items())


def _schedule(raw: Any, where: str) -> Schedule:
    from zoneinfo import available_timezones

    found = Schedule(**mapping(raw, where, {"cron": text, "timezone": text}, required=("cron",)))
    from prefect._vendor.croniter import croniter

    if len(found.cron.split()) != 5 or not croniter.is_valid(found.cron) or not _comes(croniter, found.cron):
        raise DataError(f'{where}.cron: found {found.cron!r}, expected five cron fields such as "0 2 * * *"')
    choice(found.timezone, f"{where}.timezone", available_timezones(), listed="a time zone such as UTC or Europe/Berlin")
    return found


def _comes(croniter: Any, cron: str) -> bool:
    """Whether there is such a time: there is no 31 February."""
    try:
        return bool(croniter(cron).get_next())
    except ValueError:
        return False


_SAMPLE = {
    "rows": partial(number, low=1, high=1e9, whole=True),
    "subjects": partial(number, low=1, high=1e9, whole=True),
    "balance": text,
    "where": _conditions,
}
SHEET = {
    "source": source,
    "holdout": _holdout,
    "seed": partial(number, low=0, high=2**63 - 1, whole=True),
    "generator": _generator,
    "sample": lambda raw, where: Sample(**mapping(raw, where, _SAMPLE)),
    "privacy": privacy,
    "gates": _gates,
    "contract": _contract,
    "publish": text,
    "schedule": _schedule,
}
