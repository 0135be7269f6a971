"""`source:` of flows.yaml: where rows, series or images come from, what is a role among their columns, and which keys belong together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from generators.data import KINDS, DataError
from pipelines.sheet import choice, mapping, name_of, number, pick, text

PLACES = ("table", "dataset", "series", "images")
SPLITS = ("train", "val", "test")  # of a .npz as MedMNIST names them


@dataclass(frozen=True)
class Source:
    """Where rows come from. `kind` is "table", "series" or "images" (a path, glob, folder or URL), or "dataset" (a name within scikit-learn).

    time: of series, the column that says when a step is; window, stride: steps of the pieces that one long series is cut
    into, and from the start of one to that of the next; static: the columns that stay, None to find them
    size: of images, (height, width) to which all are brought; split: the parts of a .npz that are taken, none for all. Their label is the target
    """

    kind: str
    location: str
    target: str | None = None
    subject: str | None = None
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    time: str | None = None
    window: int | None = None
    stride: int | None = None
    static: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None
    split: tuple[str, ...] = ()

    def role(self, name: str) -> str | None:
        """The column that is its target, subject or time; data that ship inside libraries come with them."""
        from pipelines.reading import DATASETS

        default = DATASETS[self.location].get(name) if self.kind == "dataset" else None
        return getattr(self, name) or default

    @property
    def is_series(self) -> bool:
        """Whether rows are steps in time."""
        return self.kind == "series" or self.role("time") is not None


def place(raw: Any, where: str) -> Source:
    """A place that is read as another one is, such as a holdout: without roles of its own."""
    return _source(raw, where, {})


def source(raw: Any, where: str) -> Source:
    """Raises DataError with the key for what no source can be, or keys that do not go together."""
    found = _source(raw, where, ROLES)
    _timed(found, where)
    return found


def _source(raw: Any, where: str, roles: Mapping) -> Source:
    found = mapping(raw, where, {**dict.fromkeys(PLACES, text), "dataset": _dataset, "label": text, "size": _size, "split": _split, **roles})
    kind = pick(found, PLACES, where)
    for key in ("target", "subject") if kind == "images" else ("label", "size", "split"):
        if key in found:
            expected = "label:" if key == "target" else "no such key" if kind == "images" else "it beside images: alone"
            raise DataError(f"{where}.{key}: found beside {kind}:, expected {expected}")
    if "split" in found and not found[kind].lower().endswith(".npz"):
        raise DataError(f"{where}.split: found beside {found[kind]}, expected it beside a .npz, which alone has parts")
    if "label" in found:
        found["target"] = found.pop("label")
    return Source(kind, found.pop(kind), **found)


def _timed(found: Source, where: str) -> None:
    """Series say whose steps they are and when, or how one long series is cut."""
    if found.static is not None and not found.is_series:
        raise DataError(f"{where}.static: found beside {found.kind}:, expected it beside series: alone")
    if found.kind != "series":
        for key in ("time", "window", "stride"):
            if getattr(found, key) is not None:
                raise DataError(f"{where}.{key}: found beside {found.kind}:, expected it beside series: alone")
    elif found.window and found.subject:
        raise DataError(f"{where}.window: found beside subject:, expected one of the two: a window cuts one long series")
    elif found.stride and not found.window:
        raise DataError(f"{where}.stride: found without window:, expected both")
    elif not found.window and not (found.subject and found.time):
        missing = "time" if found.subject else "subject"
        raise DataError(f"{where}: found series: without {missing}:, expected subject: and time:, or window: for one long series")


def _dataset(raw: Any, where: str) -> str:
    from pipelines.reading import DATASETS

    return choice(raw, where, DATASETS)


def _size(raw: Any, where: str) -> tuple[int, int]:
    """Pixels a side, or [height, width]."""
    sides = raw if isinstance(raw, list | tuple) else [raw, raw]
    if len(sides) != 2:
        raise DataError(f"{where}: found {len(sides)} numbers, expected one, or [height, width]")
    height, width = (int(number(side, where, 4, 128, whole=True)) for side in sides)
    return height, width


def _split(raw: Any, where: str) -> tuple[str, ...]:
    """A part, or a list of parts."""
    parts = raw if isinstance(raw, list | tuple) and raw else [raw]
    return tuple(choice(part, where, SPLITS) for part in parts)


def _values(raw: Any, where: str) -> list:
    """Those that a category may have, each once."""
    if not isinstance(raw, list) or not raw or any(isinstance(v, dict | list) or v is None for v in raw):
        raise DataError(f"{where}: found {name_of(raw)}, expected a list of values")
    if len({(type(v), v) for v in raw}) < len(raw):
        raise DataError(f"{where}: found a value twice, expected each once")
    return list(raw)


def _names(raw: Any, where: str) -> tuple[str, ...]:
    """Of columns, each once."""
    if not isinstance(raw, list | tuple) or any(isinstance(v, dict | list) or v is None for v in raw):
        raise DataError(f"{where}: found {name_of(raw)}, expected a list of columns")
    names = list(map(str, raw))
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{where}: found {twice[0]!r} twice, expected each column once")
    return tuple(names)


def _columns(raw: Any, where: str) -> dict:
    sheet = {"kind": partial(choice, among=KINDS), "low": number, "high": number, "values": _values, "faker": text, "locale": text}
    raw = {str(key): value for key, value in mapping(raw, where).items()}
    return {key: mapping(value, f"{where}.{key}", sheet) for key, value in raw.items()}


ROLES = {
    "target": text,
    "subject": text,
    "columns": _columns,
    "time": text,
    "window": partial(number, low=3, high=10_000, whole=True),
    "stride": partial(number, low=1, high=1e6, whole=True),
    "static": _names,
}
