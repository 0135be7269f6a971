"""Checks of one value of flows.yaml each: (value, where it stands) -> the value, or a DataError that says what was expected."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from generators.data import DataError

MANY = 16  # keys that are no longer all listed where one of them is near


def name_of(value: Any) -> str:
    """What was found, in few words: a scalar as it was written, anything larger by its kind."""
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "nothing" if value is None else repr(value) if len(repr(value)) < 60 else f"{repr(value)[:56]}…"


def closest(word: Any, known: Iterable[str]) -> str:
    """A question, where something known is near: ", did you mean 'seed'?"."""
    near = difflib.get_close_matches(str(word), [str(k) for k in known], 1)
    return f", did you mean {near[0]!r}?" if near else ""


def text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: found {name_of(value)}, expected text")
    return value


def number(value: Any, where: str, low=-1e300, high=1e300, whole: bool = False, also: str = "") -> float:
    right = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not right or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        bounds = f" from {low:g} to {high:g}" if high < 1e18 else f" of at least {low:g}" if low > -1e300 else ""
        raise DataError(f"{where}: found {name_of(value)}, expected {kind}{bounds}{also}")
    return value


def choice(value: Any, where: str, among: Iterable[str], listed: str = "") -> str:
    if not isinstance(value, str) or value not in among:
        expected = listed or f"one of {', '.join(among)}"
        raise DataError(f"{where}: found {name_of(value)}{closest(value, among)}, expected {expected}")
    return value


def mapping(value: Any, where: str, sheet: Mapping[str, Callable] | None = None, required=(), hint: str = "") -> dict:
    """A mapping whose keys all stand in the sheet, each value checked by its own line of it."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: found {name_of(value)}, expected a mapping of keys to values")
    if sheet is None:
        return dict(value)
    for key in value:
        if key not in sheet:
            near, more = closest(key, sheet), f" ({hint})" if hint else ""
            listed = "" if near and len(sheet) > MANY else f"; expected one of {', '.join(sheet)}"
            raise DataError(f"{where}: unknown key {key!r}{near}{listed}{more}")
    for key in required:
        if key not in value:
            raise DataError(f"{where}: no {key!r}, which is needed")
    return {key: sheet[key](inner, f"{where}.{key}") for key, inner in value.items()}


def pick(found: Mapping, keys: tuple[str, ...], where: str) -> str:
    """The one of these keys that is there."""
    there = [key for key in keys if key in found]
    if len(there) != 1:
        raise DataError(f"{where}: found {' and '.join(there) or 'none'}, expected exactly one of {', '.join(keys)}")
    return there[0]


def arguments(given: Mapping, where: str, family: type) -> dict:
    """Keyword arguments for a family's constructor, each of the type and sign that its default has."""
    taken = inspect.signature(family).parameters
    known = {k: p for k, p in taken.items() if p.default is not p.empty}
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()):  # how it is trained
        from generators.train import Plan

        known |= {k: p.replace(default=None) for k, p in inspect.signature(Plan).parameters.items()}
    for key, value in given.items():
        if key not in known:
            listed = ", ".join(known) or "no arguments"
            raise DataError(f"{where}: unknown argument {key!r}{closest(key, known)}; expected one of {listed}")
        _like(value, f"{where}.{key}", known[key])
    return dict(given)


def _like(value: Any, where: str, parameter: inspect.Parameter) -> None:
    default, kinds = parameter.default, set(re.findall(r"\w+", str(parameter.annotation)))
    if value is None and default is None:
        return
    if isinstance(default, bool) or "bool" in kinds:
        if not isinstance(value, bool):
            raise DataError(f"{where}: found {name_of(value)}, expected true or false")
    elif isinstance(default, int | float) or kinds & {"int", "float"}:
        whole = isinstance(default, int) or (default is None and "float" not in kinds)
        low = -1e9 if default is not None and default < 0 else 1 if whole and default != 0 else 0
        number(value, where, low, 1e9, whole)
    elif isinstance(default, str):
        text(value, where)
