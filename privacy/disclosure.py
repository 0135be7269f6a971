"""What every column is, from its values: learned, issued anew, invented, or not to be published at all.

It fails closed: text that is almost unique and not recognised is an error, which says how to declare the column.
No error holds a value of the data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import KINDS, LEARNED, Column, DataError
from privacy import recognise
from privacy.personal import FEW, advice, hinted, personal, sentences, snake, which

SAMPLED = 4000  # distinct strings looked at in a column; the rest are counted only
MOST_CATEGORIES = 10_000  # more distinct strings than this are no category
TOO_LARGE = ("binary", "image", "json_bytes", "tar", "zip")  # files of Faker's
HELD = 10  # a value that so many rows hold is common

KEY = re.compile(r"(^|_)(ids?|uid|mrn|patient|subject|person|customer|user)(_?(no|nr|num|number|key))?$")
TIMED = re.compile(r"(^|_)(year|date|day|week|month|hour|minute|second|time|step|age|count)s?(_|$)")
NAMED_ID = re.compile(r"(^|_)(ids?|uid|uuid|guid|key|pk|mrn|sno|no|nr|num|number|code|index|idx|ref|reference|rownum|record|serial)(_|$)|^unnamed|^$")


def detect(values: pa.Table, declared: Mapping[str, Mapping[str, Any]], subject: str | None = None, target: str | None = None) -> tuple[Column, ...]:
    """The kind of every column, in order, those to drop among them. What is declared wins, unless the values say otherwise."""
    known = values.column_names
    for role, name in [("subject", subject), ("target", target), *(("columns", name) for name in declared)]:
        if name is not None and name not in known:
            raise DataError(f"{role}: no column {name!r}; the columns are {', '.join(known)}")
    if subject is not None and (kind := declared.get(subject, {}).get("kind", "id")) not in ("id", "pii", "drop"):
        raise DataError(f"columns.{subject}.kind: found {kind}, expected id or pii: it is the subject, of which new ones are invented")
    columns = tuple(detect_one(name, values.column(name), declared.get(name, {}), name == subject, name == target) for name in known)
    for column in columns:
        if (column.name == target and column.kind not in LEARNED) or (column.name == subject and column.kind == "drop"):
            role = "target" if column.name == target else "subject"
            raise DataError(f"{role}: column {column.name!r} is of kind {column.kind}, expected one that is kept" + " and learned" * (role == "target"))
    return columns


def detect_one(name: str, values: pa.ChunkedArray, declared: Mapping[str, Any] | None = None, subject: bool = False, target: bool = False) -> Column:
    """One column: its declared kind, checked, or what its values say."""
    options = dict(declared or {})
    kind = options.pop("kind", None)
    if kind == "drop":
        return Column(name, "drop")
    where = f"column {name!r}"
    _storable(values.type, where)
    plain = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
    if kind is None:
        kind, found = _found(name, plain, where, subject, target, pa.types.is_dictionary(values.type))
        options = found | options
    elif kind == "pii" and "faker" not in options:
        looked = [str(v) for v in pc.unique(plain.drop_null())[:SAMPLED].to_pylist()]
        options = {"faker": which(name, looked, where), **options}
    _check(kind, options, plain, where)
    return Column(name, kind, options)


def _storable(kind: pa.DataType, where: str) -> None:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    right = (
        is_text,
        pa.types.is_boolean,
        pa.types.is_integer,
        lambda kind: pa.types.is_floating(kind) and not pa.types.is_float16(kind),
        pa.types.is_decimal,
        pa.types.is_date,
        pa.types.is_timestamp,
        pa.types.is_null,
    )
    if not any(check(plain) for check in right):
        raise DataError(f"{where}: of type {kind}, which is not supported; declare it: columns: {{{where.removeprefix('column ')}: {{kind: drop}}}}")


def is_text(kind: pa.DataType) -> bool:
    """Whether strings of any width."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _found(name: str, values: pa.ChunkedArray, where: str, subject: bool, target: bool, dictionary: bool) -> tuple[str, dict]:
    kind, values = values.type, values.drop_null()
    if pa.types.is_floating(kind):
        values = values.filter(pc.is_finite(values))
    if pa.types.is_boolean(kind):
        return "boolean", {}
    if pa.types.is_null(kind) or not len(values):
        return ("id" if subject else "category"), {}
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "datetime", {}
    if is_text(kind):
        return _text(name, values, where, subject)
    if subject:
        return "id", {}
    distinct = pc.count_distinct(values).as_py()
    if dictionary or distinct <= 2 or (target and distinct <= 10):
        return "category", {}
    return _number(name, values, distinct)


def _number(name: str, values: pa.ChunkedArray, distinct: int) -> tuple[str, dict]:
    """Whole numbers may be codes; all other numbers are numeric."""
    whole = pa.types.is_integer(values.type) or bool(pc.all(pc.equal(pc.floor(values), values)).as_py())
    low, high = (int(v.as_py()) for v in pc.min_max(values).values()) if whole else (-1, -1)
    if low < 0 or distinct < FEW:
        return "numeric", {}
    sequence = distinct >= (high - low + 1) / 2 and not TIMED.search(snake(name))
    if distinct == len(values) and (sequence or NAMED_ID.search(snake(name))):
        return "id", {}
    if KEY.search(snake(name)) and _repeated_key(distinct, len(values)):
        return "id", {}
    looked = [str(int(v)) for v in pc.unique(values)[:: max(1, distinct // SAMPLED)].to_pylist()]
    digits = len(str(high))
    for width in range(9, 14) if digits >= 8 else ():
        padded = [v.zfill(width) for v in looked]
        if digits <= width and recognise.national(padded) >= 0.95:
            return "pii", {"faker": "ssn"}
    if digits in (15, 16) and recognise.personal(looked)[1] >= 0.95:
        return "pii", {"faker": recognise.personal(looked)[0]}
    for hint in ("ssn", "phone_number"):
        if 7 <= digits <= 15 and distinct > len(values) / 2 and hinted(name, hint):
            return "pii", {"faker": hint}
    if distinct == len(values) and len(str(low)) == digits >= 7 and not _clock(low, high):
        return "id", {}
    return "numeric", {}


def _repeated_key(distinct: int, rows: int) -> bool:
    """Whether a column that is named as a key could be that of people with several rows each."""
    return distinct > FEW and distinct * 50 > rows


def _clock(low: int, high: int) -> bool:
    """Whether all could be seconds, or finer, since 1970."""
    return any(9e8 * unit <= low and high <= 2.3e9 * unit for unit in (1, 10**3, 10**6, 10**9))


def _text(name: str, values: pa.ChunkedArray, where: str, subject: bool) -> tuple[str, dict]:
    counts = pc.value_counts(values)
    words, held = counts.field("values"), counts.field("counts").to_numpy()
    distinct, rows = len(held), int(held.sum())
    looked = words.take(pa.array(np.arange(0, distinct, max(1, distinct // SAMPLED)))).to_pylist()
    common = held[held >= HELD].sum() / rows
    unique = distinct > 2 and (distinct > rows / 2 or (distinct > 100 and common < 0.2))

    faker = personal(name, looked, unique, where)
    if faker:
        return "pii", {"faker": faker}
    if subject or (distinct > 2 and recognise.share(lambda v: bool(recognise.UUID.fullmatch(v.strip())), looked) >= 0.95):
        return "id", {}
    if KEY.search(snake(name)) and _repeated_key(distinct, rows) and recognise.share(lambda v: any(c.isdigit() for c in v), looked) >= 0.9:
        return "id", {}
    numbers = recognise.share(lambda v: bool(recognise.NUMBER.fullmatch(v.strip())), looked)
    for what, part in (("numbers", numbers), ("dates", recognise.share(lambda v: bool(recognise.DATE.fullmatch(v.strip())), looked))):
        if 0.5 <= part < 1 and part * len(looked) > 12:
            raise DataError(f"{where}: mixed types, {part:.1%} of its distinct values are {what} and the rest are not; expected one type; {advice(where)}")
    if unique or distinct > MOST_CATEGORIES:
        return _unique(name, looked, distinct, rows, where)
    if numbers == 1 and distinct > FEW and not _same_width(looked):
        raise DataError(f"{where}: numbers stored as text, {distinct} distinct; expected a number column, or {advice(where)}")
    return "category", {}


def _unique(name: str, looked: list[str], distinct: int, rows: int, where: str) -> tuple[str, dict]:
    """Almost unique text: codes are ids, sentences are text, and what is neither stops the run."""
    if recognise.share(lambda v: bool(recognise.DATE.fullmatch(v.strip())), looked) >= 0.9:
        raise DataError(f"{where}: dates stored as text, {distinct} distinct; expected a date column, or {advice(where)}")
    if distinct >= 0.9 * rows and _coded(looked):
        return "id", {}
    if recognise.share(lambda v: bool(recognise.NUMBER.fullmatch(v.strip())), looked) >= 0.95:
        raise DataError(f"{where}: numbers stored as text, {distinct} distinct; expected a number column, or {advice(where)}")
    if sentences(looked) or hinted(name, "text"):
        return "text", {}
    if NAMED_ID.search(snake(name)) and recognise.share(lambda v: any(c.isdigit() for c in v) and len(v.split()) == 1, looked) >= 0.9:
        return "id", {}
    raise DataError(f"{where}: {distinct} distinct strings in {rows} rows, almost unique (or most held by few rows) and not recognised; {advice(where)}")


def coded(values: pa.ChunkedArray) -> bool:
    """Whether a column is one of text codes such as MRN-004532, repeated or not."""
    looked = pc.unique(values.drop_null())[:SAMPLED].to_pylist() if is_text(values.type) else []
    return bool(looked) and _coded(looked)


def _coded(looked: list[str]) -> bool:
    """Whether nearly all have one of a few looks, with digits, such as MRN-004532: the same letters, figures and marks."""
    looks: dict[str, int] = {}
    for value in looked:
        look = re.sub(r"[A-Z]+", "A", re.sub(r"[a-z]+", "a", re.sub(r"\d", "9", value)))
        looks[look] = looks.get(look, 0) + 1
    top = sorted(looks.items(), key=lambda kv: -kv[1])[:3]
    digits = [look.count("9") >= 3 and len(look.split()) <= 2 for look, _ in top]
    hexadecimal = recognise.share(lambda v: bool(re.fullmatch(r"[0-9a-fA-F]{12,128}", v)), looked) >= 0.95
    numbers = all(re.fullmatch(r"[-+]?9*[.,]?9*", look) for look, _ in top) and not _same_width(looked)
    return hexadecimal or (not numbers and all(digits) and sum(n for _, n in top) >= 0.9 * len(looked))


def _same_width(looked: list[str]) -> bool:
    """Whether digits alone, all equally many, and many or with a leading zero: codes such as 004532, not numbers."""
    width = len(looked[0])
    return all(len(v) == width and v.isdigit() for v in looked) and (width >= 5 or any(v[0] == "0" for v in looked))


def _check(kind: str, options: Mapping[str, Any], values: pa.ChunkedArray, where: str) -> None:
    """A kind that the type or the values contradict is an error; so are options that the kind does not have."""
    t, whole = values.type, pa.types.is_integer(values.type)
    number = whole or pa.types.is_floating(t) or pa.types.is_decimal(t)
    right = {
        "numeric": (number, "a column of numbers"),
        "boolean": (pa.types.is_boolean(t), "true and false (for 0 and 1 declare category)"),
        "datetime": (pa.types.is_date(t) or pa.types.is_timestamp(t), "dates or timestamps"),
        "text": (is_text(t), "a column of text"),
        "id": (is_text(t) or number, "text or whole numbers"),
        "pii": (is_text(t) or number, "text or whole numbers"),
        "category": (True, ""),
    }
    if kind not in right:
        raise DataError(f"{where}: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    if not (right[kind][0] or pa.types.is_null(t)):
        raise DataError(f"{where}: declared {kind}, but it holds type {t}; expected {right[kind][1]}")
    allowed = {"numeric": {"low", "high"}, "category": {"values"}, "pii": {"faker", "locale"}}.get(kind, set())
    if set(options) - allowed:
        raise DataError(f"{where}: option {min(set(options) - allowed)!r} is not one of kind {kind}; expected {', '.join(sorted(allowed)) or 'none'}")
    if kind == "category" and not pa.types.is_null(t) and pc.count_distinct(values).as_py() > max(5 * MOST_CATEGORIES, len(values) / 4):
        raise DataError(f"{where}: declared category, but most of its values stand in one row or few; declare id, text or drop")
    if kind == "numeric":
        _bounds(options, values, where)
    if kind == "pii":
        _provider(str(options["faker"]), where)


def _provider(name: str, where: str) -> None:
    """One of Faker's that invents a short text or a number when it is called without arguments."""
    from faker import Faker

    fake = Faker()
    known = not name.startswith("_") and any(hasattr(provider, name) for provider in fake.get_providers())
    try:
        right = known and name not in TOO_LARGE and isinstance(value := getattr(fake, name)(), str | int) and len(str(value)) <= 1000
    except Exception:
        right = False
    if not right:
        raise DataError(f"{where}: faker: {name!r} is no provider of Faker's that invents a text; expected name, email, phone_number, address, ssn, …")


def _bounds(options: Mapping[str, Any], values: pa.ChunkedArray, where: str) -> None:
    low, high = options.get("low", -np.inf), options.get("high", np.inf)
    if low >= high:
        raise DataError(f"{where}: low is {low} and high is {high}, expected low below high")
    numbers = values.drop_null().cast(pa.float64(), safe=False)
    outside = pc.sum(pc.or_(pc.less(numbers, low), pc.greater(numbers, high))).as_py() or 0
    if outside:
        raise DataError(f"{where}: {outside} values lie outside the declared low and high, expected none")
