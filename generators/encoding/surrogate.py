"""Surrogate: ids, personal data and text are never learned. They are invented anew; only their nulls are learned.

Ids, phone numbers and national numbers are issued by a Template: the same look (length, letters, digits, fixed parts),
each number once, and none that the source holds. Names, addresses and text come from a pool made with Faker, from which
everything that the source holds was taken out.
"""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.base import Mechanism
from generators.data import Column, DataError
from generators.encoding.told import there
from generators.layout import Field

POOL = 3000
HEXADECIMAL = ("0123456789abcdef", "0123456789ABCDEF")
CLASSES = (string.digits, string.ascii_uppercase, string.ascii_lowercase)
ISSUED = ("ssn", "phone_number")  # kinds of personal data that are numbers to be issued
ROOM = 10  # times as many ids as the source has must be left to issue
BEGINNINGS = 1000  # of ids, at most
LEAST = 100_000  # and, where a look is made up, room for at least so many
BLIND = 10**11  # or so many where it is made up without a look at the source: more than one has, and few of them anybody's
COMMON = 10  # a fixed part of an id is kept only if at least so many values share it
FORMULA = "=+-@\t\r"  # with which a text starts that a spreadsheet takes for a formula
DOMAINS = ("example.com", "example.org", "example.net")  # of invented e-mail addresses


@dataclass(frozen=True)
class Template:
    """The look of ids, and which of all ids of that look are issued.

    places: what may stand at each place, the first of them beginnings that no value of the source has; they number all
            strings of the look 0, 1, ... (mixed radix)
    Row i gets number (a i + b) mod size: each once.
    """

    places: tuple[tuple[str, ...], ...]
    a: int
    b: int

    @classmethod
    def of(cls, values: set[str], rng: np.random.Generator, most: int | None = None, least: int = LEAST) -> Template:
        """The look of the values: those of the commonest length, position by position. `most`: the largest number allowed; `least`: how many there
        is to be room for where a look is made up.

        Raises ValueError if all numbers up to `most` are used.
        """
        length, held = Counter(map(len, values)).most_common(1)[0] if values else (0, 0)
        alike = [v for v in values if len(v) == length] if held >= COMMON else []
        look = [_allowed({v[i] for v in alike}) for i in range(length)] if alike else []
        found, need = [], ROOM * max(len(values), 1)
        for places in (look, [string.digits if p in string.digits else p for p in look]):  # then with fixed digits let go
            if places and most is not None:
                places = _within([places[0].replace("0", "") or "1", *places[1:]], most)
            if _size(found) < need:
                found = _unused(places, alike, max(need, least))
        if _size(found) < need:
            found = _longer(look, values, most, least)
        size = _size(found)
        a, b = (int.from_bytes(rng.bytes(40)) % size for _ in "ab")
        while math.gcd(a, size) != 1:
            a += 1
        return cls(tuple(map(tuple, found)), a, b)

    @cached_property
    def size(self) -> int:
        return _size(self.places)

    def issue(self, i: int) -> str:
        number, out = (self.a * i + self.b) % self.size, []
        for place in reversed(self.places):
            number, digit = divmod(number, len(place))
            out.append(place[digit])
        return "".join(reversed(out))


def _size(places: Sequence[Sequence[str]]) -> int:
    """How many ids a look has."""
    return math.prod(map(len, places)) if places else 0


def _within(places: list[str], most: int) -> list[str]:
    """Cuts the leading places of a number so that none is larger than `most`; nothing if all are."""
    lead = ""
    for i, place in enumerate(places):
        fits = "".join(c for c in place if int((lead + c).ljust(len(places), "9")) <= most)
        if fits:
            return [*lead, fits, *places[i + 1 :]]
        lead += place[0]
    return []


def _unused(places: list[str], alike: list[str], need: int) -> list[Sequence[str]]:
    """The look with its first places as a choice of beginnings that no value has; long enough ones that `need` ids fit."""
    beginnings, best = [""], []
    for i, place in enumerate(places):
        used = {v[: i + 1] for v in alike}
        beginnings = _thin([b + c for b in beginnings for c in place])
        found = [_thin([b for b in beginnings if b not in used], BEGINNINGS), *places[i + 1 :]]
        best = max(best, found, key=_size)
        if _size(best) >= need and len(best[0]) >= COMMON:
            break
    return best


def _thin(some: list[str], most: int = 10_000) -> list[str]:
    """At most so many, evenly spread."""
    return some[:: -(-len(some) // most) or 1]


def _longer(places: list[str], values: set[str], most: int | None, room: int) -> list[str]:
    """A look longer than any value of the source: fixed signs as they were, then as many digits as give room."""
    longest, digits = max(map(len, values), default=0), len(str(max(ROOM * len(values), room) + 1))
    if most is not None:
        least = longest + 1  # 1 and then digits: more digits than any of the source
        places = ["1", *[string.digits] * max(digits, least - 1)]
        while 2 * 10 ** (len(places) - 1) - 1 > most:
            places.pop()
        if len(places) < least:
            raise ValueError("no unused numbers")
        return places
    fixed = [p for p in places if len(p) == 1 and not p.isdigit()]
    return [*fixed, *[string.digits] * max(digits, longest + 1 - len(fixed))]


def _allowed(seen: set[str]) -> str:
    """The characters that may stand where these were seen: whole classes, or the one fixed character."""
    if len(seen) == 1:
        return next(iter(seen))
    hexadecimal = next((h for h in HEXADECIMAL if seen <= set(h) and seen & set(h[10:]) and seen & set(string.digits)), None)
    classes = hexadecimal or "".join(c for c in CLASSES if seen & set(c))
    return classes + "".join(sorted(seen - set(string.ascii_letters + string.digits)))


class Surrogate:
    def __init__(self, column: Column, arrow: pa.Field, rare_below: int):
        self.name, self.type, self.kind = column.name, arrow.type, column.kind
        self.plain = self.type.value_type if pa.types.is_dictionary(self.type) else self.type
        self.faker, self.locale = column.options.get("faker"), column.options.get("locale")
        self.template: Template | None = None
        self.pool: list[str] = []

    def fit(self, values: pa.ChunkedArray, rng: np.random.Generator, avoid: Sequence[pa.Array] = (), ask: Mechanism | None = None) -> Surrogate:
        """values: of which the look and the nulls are taken; avoid: more real values that must not come out.

        ask: a mechanism with noise is asked whether there are nulls, and nothing else of either is looked at"""
        blind, real = ask is not None and ask.sd(1.0) > 0, set()
        self.missing = there(ask, values.null_count) if blind else bool(values.null_count)
        if not blind:
            real = {str(v) for v in pc.unique(pa.chunked_array([*values.chunks, *avoid], values.type)).to_pylist() if v is not None}
        least = BLIND if blind else LEAST
        number = pa.types.is_integer(self.plain) or pa.types.is_floating(self.plain) or pa.types.is_decimal(self.plain)
        if not number and not pa.types.is_string(self.plain) and not pa.types.is_large_string(self.plain):
            raise DataError(f"column {self.name!r}: kind {self.kind} is of type {self.type}, expected text or whole numbers; declare its kind as drop")
        if number:
            try:
                self.template = Template.of({str(abs(int(Decimal(v)))) for v in real}, rng, _most(self.plain), least)
            except ValueError:
                raise DataError(f"column {self.name!r}: no unused {self.type} numbers are left to issue; declare its kind as drop") from None
        elif self.kind == "id" or self.faker in ISSUED:
            self.template = Template.of(real, rng, least=least)
        else:
            self.pool = self._invent({v.casefold().strip() for v in real}, int(rng.integers(2**32)))
        return self

    def _invent(self, real: set[str], seed: int) -> list[str]:
        try:
            from faker import Faker
        except ImportError:
            raise DataError(f"column {self.name!r}: kind {self.kind} needs the package faker; install it, or declare the kind as drop") from None
        try:
            fake = Faker(self.locale)
        except AttributeError:
            raise DataError(f"column {self.name!r}: locale: Faker has no {self.locale!r}, expected en_GB, de_DE, ...") from None
        fake.seed_instance(seed)
        method = getattr(fake, self.faker or ("sentence" if self.kind == "text" else "name"), None)
        if not callable(method):
            raise DataError(f"column {self.name!r}: faker: {self.faker!r} is no provider of Faker; expected name, email, address, phone_number, ...")
        begun = "".join(set(FORMULA) - {v[:1] for v in real})
        made = [m for m in (str(method()).replace("\n", ", ").lstrip(begun) for _ in range(POOL)) if m]
        if self.faker == "email":  # at a domain of its own
            domain = next((d for d in DOMAINS if not any(v.endswith(d) for v in real)), "invented.example")
            made = [f"{v.split('@')[0]}@{domain}" for v in made]
        kept = [v for v in dict.fromkeys(made) if v.casefold().strip() not in real]
        return kept or [f"{self.faker or 'text'} {i}" for i in range(POOL) if f"{self.faker or 'text'} {i}" not in real]

    @property
    def fields(self) -> list[Field]:
        return [Field(classes=2)] if self.missing else []

    def encode(self, values: pa.ChunkedArray, rng: np.random.Generator) -> np.ndarray:
        if not self.missing:
            return np.zeros((len(values), 0), dtype=np.float32)
        return values.is_null().to_numpy()[:, None].astype(np.float32)

    def decode(self, x: np.ndarray, rng: np.random.Generator, start: int) -> pa.Array:
        null = np.rint(x[:, 0]) >= 1 if self.missing else np.zeros(len(x), dtype=bool)
        if self.template is not None:
            if (asked := start + len(x)) > (room := self.template.size):
                raise DataError(
                    f"column {self.name!r}: only {room} of this look can be issued, {asked} were asked for; ask for fewer rows, or declare its kind as drop"
                )
            made = [self.template.issue(i) for i in range(start, start + len(x))]
        else:
            made = [self.pool[i] for i in rng.integers(len(self.pool), size=len(x))]
            if self.faker == "email":  # unique by its number
                made = [v.replace("@", f"{start + i}@") for i, v in enumerate(made)]
        if pa.types.is_integer(self.plain):
            made = [int(v) for v in made]
        elif pa.types.is_decimal(self.plain):
            made = [Decimal(v) for v in made]
        elif pa.types.is_floating(self.plain):
            made = np.array(made).astype(self.plain.to_pandas_dtype())
        array = pa.array(made, self.plain, mask=null)
        return array.dictionary_encode().cast(self.type) if pa.types.is_dictionary(self.type) else array

    def request(self, value) -> np.ndarray:
        if value is None and self.missing:
            return np.array([1], dtype=np.float32)
        raise DataError(f"column {self.name!r}: kind {self.kind} is invented anew, so no value of it can be asked for")

    @property
    def protected(self) -> dict:
        return {"invented anew": True, "by": "template" if self.template else f"Faker ({self.faker or 'sentence'})"}

    def state(self) -> dict:
        return {"missing": self.missing, "template": self.template and asdict(self.template), "pool": self.pool}

    def restore(self, state: dict) -> Surrogate:
        self.missing, self.pool, template = state["missing"], state["pool"], state["template"]
        self.template = template and Template(**template | {"places": tuple(map(tuple, template["places"]))})
        return self


def _most(kind: pa.DataType) -> int:
    """The largest number up to which a type holds every whole number."""
    if pa.types.is_decimal(kind):
        return 10 ** (kind.precision - kind.scale) - 1
    if pa.types.is_floating(kind):
        return {16: 2**11, 32: 2**24, 64: 2**53}[kind.bit_width]
    return 2 ** (kind.bit_width - (not pa.types.is_unsigned_integer(kind))) - 1
