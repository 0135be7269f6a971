"""The contract: a Great Expectations suite inferred from the source, plus what the user writes, run on source and synthetic.

Nothing raw is stored: ranges stand on a coarse grid with at least `rare_below` subjects at or beyond each end, sets hold
only values of at least `rare_below` subjects, and results are true or false (BOOLEAN_ONLY).
An expectation is {name: arguments}, as a user writes it. `type_` of expect_column_values_to_be_of_type is an Arrow type.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import Column, DataError, Schema, Table

BATCH = 200_000  # rows validated at a time: every k-th row of the table, so that order does not matter
MOST_ALLOWED = 10_000  # distinct values from which on there is no set of those that are allowed: new ones are to be expected
OF_TYPE = "expect_column_values_to_be_of_type"
Expectation = Mapping[str, Mapping[str, Any]]


def infer(train: Table, rare_below: int = 10, *, limits: bool = True) -> list[dict]:
    """What the source promises: columns, types, null shares, ranges and allowed sets (limits), unique ids. JSON-able."""
    people = int(train.subjects.max(initial=-1)) + 1
    alone = people == len(train)  # each row its own subject: rows are counted, which is quicker
    suite: list[dict] = [{"expect_table_columns_to_match_ordered_list": {"column_list": train.schema.arrow.names}}]
    for field, column in zip(train.schema.arrow, train.schema.columns, strict=True):
        values = train.column(field.name)
        if column.kind == "image":
            continue
        suite.append({OF_TYPE: {"column": field.name, "type_": str(field.type)}})
        suite += _nulls(field.name, values, people)
        subjects = None if alone else train.subjects[pc.is_valid(values).to_numpy()]
        values = _plain(values.drop_null())
        if not len(values):
            continue
        if not limits and column.kind != "id":
            continue
        if column.kind in ("category", "boolean"):
            suite += _allowed(field.name, values, subjects, rare_below)
        elif column.kind in ("numeric", "datetime"):
            suite += _range(field.name, values, subjects, rare_below)
        elif column.kind == "id" and pc.count_distinct(values).as_py() == len(values):
            suite.append({"expect_column_values_to_be_unique": {"column": field.name}})
    return suite


def known(table: Table, expectations: Sequence[Expectation]) -> None:
    """Raises DataError for a name that Great Expectations does not know, or wrong arguments."""
    with _quiet():
        import great_expectations as gx

        for i, item in enumerate(expectations):
            _build(gx, table, item, i)
            _sensible(*next(iter(item.items())))


def _without(table: Table, at: int) -> tuple[pa.Table, Schema]:
    """The table with nothing in the column at this place."""
    column = table.schema.columns[at]
    values = table.values.set_column(at, pa.field(column.name, pa.null()), pa.nulls(len(table)))
    return values, Schema(values.schema, (*table.schema.columns[:at], Column(column.name, "category"), *table.schema.columns[at + 1 :]))


def _sensible(name: str, given: Mapping[str, Any]) -> None:
    """Arguments that Great Expectations takes and then breaks on."""
    try:
        for pattern in [given[k] for k in given if k == "regex"] + list(given.get("regex_list", ())):
            re.compile(pattern)
    except (re.error, TypeError):
        raise DataError(f"contract: {name}: regex: found what is no regular expression") from None
    low, high = given.get("min_value"), given.get("max_value")
    if low is not None and high is not None and type(low) is type(high) and low > high:
        raise DataError(f"contract: {name}: min_value is above max_value, which nothing can meet")
    if name == OF_TYPE and not isinstance(given.get("type_"), str):
        raise DataError(f"contract: {name}: type_: expected the name of an Arrow type, such as int64")


def check(table: Table, expectations: Sequence[Expectation]) -> dict:
    """Runs the expectations. {success, rows, batches, expectations: [{expectation, column, success, crashed}]}.

    Expectations on single rows run in batches of at most BATCH rows, each every k-th row; all others on the whole table.
    One that crashes (on a column that is not there, say) counts as failed.
    """
    if table.schema.image:  # no expectation looks at one; its column stays, empty
        at = table.schema.arrow.names.index(table.schema.image.name)
        table = Table.of(*_without(table, at))
    with _quiet():
        import great_expectations as gx

        built = [_build(gx, table, item, i) for i, item in enumerate(expectations)]
        batches = max(1, math.ceil(len(table) / BATCH))
        passed, crashed = np.ones(len(built), dtype=bool), np.zeros(len(built), dtype=bool)
        for chosen, frame in _runs(table, expectations, [scope for scope, _ in built], batches):
            found = _validate(gx, frame, [built[i][1] for i in chosen])
            for i in chosen:
                passed[i] &= i in found and bool(found[i].success)
                crashed[i] |= i not in found or any(e.get("raised_exception") for e in _exceptions(found[i].exception_info))
    results = [
        {"expectation": next(iter(item)), "column": _column(item), "success": bool(ok), "crashed": bool(bad)}
        for item, ok, bad in zip(expectations, passed, crashed, strict=True)
    ]
    return {"success": bool(passed.all()), "rows": len(table), "batches": batches, "expectations": results}


def _runs(table: Table, expectations: Sequence[Expectation], scopes: list[str], batches: int) -> Iterator[tuple[list[int], Any]]:
    """(numbers of the expectations, frame to run them on), one frame at a time."""
    by_scope = {scope: [i for i, s in enumerate(scopes) if s == scope] for scope in ("types", "row", "whole")}
    yield by_scope["types"], pa.table({field.name: [str(field.type)] for field in table.schema.arrow}).to_pandas()
    for k in range(batches if by_scope["row"] else 0):
        yield by_scope["row"], _frame(table.values.take(pa.array(np.arange(k, len(table), batches))))
    for i in by_scope["whole"]:
        yield [i], _frame(table.values.select(_columns(table, expectations[i])))


def _nulls(name: str, values: pa.ChunkedArray, people: int) -> list[dict]:
    """Null shares within 5 points, or as far as chance takes a sample of a quarter of the subjects."""
    share, quarter = values.null_count / max(len(values), 1), max(people / 4, 1)
    tolerance = max(0.05, 4 * math.sqrt(max(share * (1 - share), 1 / quarter) / quarter))
    bounds = {"expect_column_values_to_not_be_null": 1 - share - tolerance, "expect_column_values_to_be_null": share - tolerance}
    return [{k: {"column": name, "mostly": round(v, 4)}} for k, v in bounds.items() if v > 0]


def _mostly(inside: float, people: int) -> float:
    """The share that must hold, when this share of the source does: less what chance takes from a quarter of the subjects."""
    quarter, out = max(people / 4, 1), 1 - inside
    share = min(1 - out - 4 * math.sqrt(out / quarter) - 6 / quarter, 0.999 - out)
    return max(math.floor(share * 1e4) / 1e4, 0.0)


def _allowed(name: str, values: pa.ChunkedArray, subjects: np.ndarray | None, rare_below: int) -> list[dict]:
    codes = values.combine_chunks().dictionary_encode()
    if len(codes.dictionary) > MOST_ALLOWED:
        return []
    held = pa.table({"v": codes.indices, "who": codes.indices if subjects is None else subjects})
    held = held.group_by("v").aggregate([("who", "count"), ("who", "count" if subjects is None else "count_distinct")])
    held = held.rename_columns(["v", "rows", "people"])
    kept = held.filter(pc.greater_equal(held["people"], rare_below))
    share = (pc.sum(kept["rows"]).as_py() or 0) / len(values)
    allowed = sorted((_jsonable(v) for v in codes.dictionary.take(kept["v"]).to_pylist()), key=str)
    people = len(values) if subjects is None else len(np.unique(subjects))
    return [{"expect_column_values_to_be_in_set": {"column": name, "value_set": allowed, "mostly": _mostly(share, people)}}]


def _range(name: str, values: pa.ChunkedArray, subjects: np.ndarray | None, rare_below: int) -> list[dict]:
    """Ends on a grid of about 100 steps, moved outwards from the number that `rare_below` subjects lie at or beyond."""
    x = _numbers(values)
    lowest = highest = x
    if subjects is not None:
        each = pa.table({"x": x, "who": subjects}).group_by("who").aggregate([("x", "min"), ("x", "max")])
        lowest, highest = each["x_min"].to_numpy(), each["x_max"].to_numpy()
    people = len(lowest)
    k = min(rare_below, (people + 1) // 2) - 1
    ends = float(np.partition(lowest, k)[k]), float(np.partition(highest, people - 1 - k)[people - 1 - k])
    low, high = min(ends), max(ends)
    step = 10.0 ** math.floor(math.log10(max(high - low, abs(high) * 1e-2, 1e-12)) - 1)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    inside = float(((x >= low) & (x <= high)).mean())
    if pa.types.is_temporal(values.type):
        bounds = [str(np.datetime64(int(v), "s")) for v in (low, high)]
    else:
        bounds = [float(f"{v:.12g}") for v in (low, high)]
    return [{"expect_column_values_to_be_between": {"column": name, "min_value": bounds[0], "max_value": bounds[1], "mostly": _mostly(inside, people)}}]


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    """Numbers as floats, dates and timestamps as seconds since 1970."""
    if pa.types.is_temporal(values.type):
        return values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False).cast(pa.int64()).to_numpy() / 1e6
    return values.cast(pa.float64(), safe=False).to_numpy()


def _jsonable(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, str | bool | int | float) else str(value)


def _frame(values: pa.Table):
    """A pandas frame in which numbers are numbers, dates and timestamps naive UTC, and all else objects."""
    columns = []
    for column in values.columns:
        column, kind = _plain(column), _plain(column).type
        if pa.types.is_decimal(kind):
            column = column.cast(pa.float64())
        elif pa.types.is_temporal(kind):
            column = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.timestamp("us"))
        columns.append(column)
    return pa.table(columns, names=values.column_names).to_pandas()


def _column(item: Expectation) -> str | None:
    given = next(iter(item.values()))
    return given.get("column") or given.get("column_A")


def _columns(table: Table, item: Expectation) -> list[str]:
    """The columns that an expectation on the whole table needs."""
    given = next(iter(item.values()))
    named = [v for key in given if key.startswith("column") for v in ([given[key]] if isinstance(given[key], str) else given[key])]
    return [n for n in table.schema.arrow.names if n in named] if named and "column_list" not in given else table.schema.arrow.names


def _build(gx: Any, table: Table, item: Expectation, number: int) -> tuple[str, Any]:
    """(scope, Great Expectations' own object, numbered in its meta); scope is types, row or whole."""
    name, given = next(iter(item.items()))
    kind = getattr(gx.expectations, "".join(word.capitalize() for word in name.split("_")), None)
    if kind is None:
        raise DataError(f"contract: {name!r} is no expectation of Great Expectations {gx.__version__}")
    of_type = name == OF_TYPE
    row = re.match(r"expect_(column(_pair)?_values|multicolumn|select_column_values)_", name)
    scope = "types" if of_type else "row" if row and not re.search(r"unique|increasing|decreasing|z_score", name) else "whole"
    try:
        if of_type:
            kind, given = gx.expectations.ExpectColumnValuesToBeInSet, {"column": given["column"], "value_set": [given["type_"]]}
        return scope, kind(**_parsed(table, given) if not of_type else given, meta={"number": number})
    except (ValueError, TypeError, KeyError) as error:
        fields = sorted({str(e["loc"][0]) for e in error.errors()}) if hasattr(error, "errors") else []
        raise DataError(f"contract: {name}: wrong or missing arguments{': ' * bool(fields)}{', '.join(fields)}") from None


def _parsed(table: Table, given: Mapping[str, Any]) -> dict:
    """Bounds and sets of a date column, written as ISO strings, as timestamps."""
    import pandas as pd

    name = given.get("column")
    if name not in table.schema.arrow.names or not pa.types.is_temporal(table.schema.arrow.field(name).type):
        return dict(given)

    def stamp(value: Any) -> Any:
        return pd.Timestamp(value).tz_localize(None) if isinstance(value, str) and value[:4].isdigit() else value

    dates = ("min_value", "max_value", "value_set")
    return {k: ([stamp(x) for x in v] if isinstance(v, list) else stamp(v)) if k in dates else v for k, v in given.items()}


def _validate(gx: Any, frame: Any, built: list) -> dict[int, Any]:
    """The result of each expectation, by its number. Nothing is written, printed or sent."""
    if not built:
        return {}
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    suite = gx.ExpectationSuite(name="contract", expectations=built)
    results = batch.validate(suite, result_format="BOOLEAN_ONLY").results
    return {r.expectation_config.meta["number"]: r for r in results}


def _exceptions(info: Mapping[str, Any]) -> list[Mapping]:
    return [info] if "raised_exception" in info else [v for v in info.values() if isinstance(v, Mapping)]


@contextmanager
def _quiet():
    """No analytics, no log lines (they quote values), no warnings, no progress bars."""
    import logging

    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    os.environ.setdefault("TQDM_DISABLE", "1")
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
