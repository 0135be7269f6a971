"""Surrogate: ids, personal data and text are never learned. They are invented anew; only their nulls are learned.

Ids, phone numbers and national numbers are issued by a Template: the same look (length, letters, digits, fixed parts),
each number once, and none that the source holds. Names, addresses and text come from a pool made with Faker, from which
everything that the source holds was taken out.
"""

from __future__ import annotations

import math
import string
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import Column, DataError
from generators.layout import Field

POOL = 3000
CLASSES = (string.digits, string.ascii_uppercase, string.ascii_lowercase)
ISSUED = ("ssn", "phone_number")  # kinds of personal data that are numbers to be issued
COMMON = 10  # a fixed part of an id is kept only if at least so many values share it


@dataclass(frozen=True)
class Template:
    """places: the characters allowed at each position; row i gets the (a i + b mod size)-th string."""

    places: tuple[str, ...]
    a: int
    b: int

    @classmethod
    def of(cls, values: set[str], rng: np.random.Generator, most: int | None = None) -> Template:
        """The look of the values: those of the commonest length, position by position. `most`: the largest number allowed."""
        length, held = Counter(map(len, values)).most_common(1)[0] if values else (0, 0)
        alike = [v for v in values if len(v) == length]
        places = [_allowed({v[i] for v in alike}) for i in range(length)] if held >= COMMON else list("ID-") * (most is None)
        if most is not None and places:
            places[0] = "".join(c for c in places[0] if c != "0") or "1"
        places = _free(places, values, alike) if held >= COMMON else None
        if places is None or math.prod(map(len, places)) < 100 * len(values):  # too full: longer than any of the source
            longest, digits = max(map(len, values), default=0), len(str(100 * len(values) + 1))
            fixed = [p for p in (_allowed({v[i] for v in alike}) for i in range(length)) if len(p) == 1 and not p.isdigit()] if held >= COMMON else []
            fixed = [] if most is not None else fixed
            lead = "1" if most is not None else ""
            places = [*fixed, *lead, *[string.digits] * max(digits, longest + 1 - len(fixed) - len(lead))]
            if most is not None and 2 * 10 ** (len(places) - 1) > most:
                places = ["1", *[string.digits] * (longest + 1 - 1)]
                if 2 * 10**longest > most:
                    raise ValueError("no numbers left to issue")
        size = math.prod(map(len, places))
        a = int(rng.integers(1, min(size, 2**62))) | 1
        while math.gcd(a, size) != 1:
            a += 2
        return cls(tuple(places), a, int(rng.integers(min(size, 2**62))))

    def issue(self, i: int) -> str:
        number, out = (self.a * i + self.b) % self.size, []
        for place in reversed(self.places):
            number, digit = divmod(number, len(place))
            out.append(place[digit])
        return "".join(reversed(out))

    @property
    def size(self) -> int:
        return math.prod(map(len, self.places))


def _allowed(seen: set[str]) -> str:
    """The characters that may stand where these were seen: whole classes, or the one fixed character."""
    if len(seen) == 1:
        return next(iter(seen))
    hexadecimal = seen <= set("0123456789abcdef") and seen & set("abcdef") and seen & set(string.digits)
    classes = "0123456789abcdef" if hexadecimal else "".join(c for c in CLASSES if seen & set(c))
    return classes + "".join(sorted(seen - set(string.ascii_letters + string.digits)))


def _free(places: list[str], values: set[str], alike: list[str]) -> list[str] | None:
    """Fixes as few leading free positions as it takes so that no value of the source fits; None if there is no room."""
    prefixes = [""]
    for i, place in enumerate(places):
        used = {v[: i + 1] for v in alike}
        longer = [p + c for p in prefixes for c in place]
        unused = [p for p in longer if p not in used]
        if unused:
            return [*unused[len(unused) // 2], *places[i + 1 :]]
        prefixes = longer[:10_000]
    return None


class Surrogate:
    def __init__(self, column: Column, arrow: pa.Field, rare_below: int):
        self.name, self.type, self.kind = column.name, arrow.type, column.kind
        self.plain = self.type.value_type if pa.types.is_dictionary(self.type) else self.type
        self.faker, self.locale = column.options.get("faker"), column.options.get("locale")
        self.template: Template | None = None
        self.pool: list[str] = []

    def fit(self, values: pa.ChunkedArray, subjects: np.ndarray, rng: np.random.Generator) -> Surrogate:
        self.missing = bool(values.null_count)
        real = {str(v) for v in pc.unique(values.combine_chunks()).to_pylist() if v is not None}
        number = pa.types.is_integer(self.plain) or pa.types.is_floating(self.plain) or pa.types.is_decimal(self.plain)
        if not number and not pa.types.is_string(self.plain) and not pa.types.is_large_string(self.plain):
            raise DataError(f"column {self.name!r}: kind {self.kind} is of type {self.type}, expected text or whole numbers; declare its kind as drop")
        if number:
            most = 2 ** (self.plain.bit_width - (not pa.types.is_unsigned_integer(self.plain))) - 1 if pa.types.is_integer(self.plain) else 10**15
            if pa.types.is_decimal(self.plain):
                most = 10 ** (self.plain.precision - self.plain.scale) - 1
            real = {str(abs(int(float(v)))) if not pa.types.is_integer(self.plain) else v.lstrip("-") for v in real}
            try:
                self.template = Template.of(real, rng, most)
            except ValueError:
                raise DataError(f"column {self.name!r}: no unused {self.type} numbers are left to issue; declare its kind as drop") from None
        elif self.kind == "id" or self.faker in ISSUED:
            self.template = Template.of(real, rng)
        else:
            self.pool = self._invent({v.casefold().strip() for v in real}, int(rng.integers(2**32)))
        return self

    def _invent(self, real: set[str], seed: int) -> list[str]:
        try:
            from faker import Faker
        except ImportError:
            raise DataError(f"column {self.name!r}: kind {self.kind} needs the package faker; install it, or declare the kind as drop") from None
        fake = Faker(self.locale)
        fake.seed_instance(seed)
        method = getattr(fake, self.faker or ("sentence" if self.kind == "text" else "name"), None)
        if not callable(method):
            raise DataError(f"column {self.name!r}: faker: {self.faker!r} is no provider of Faker; expected name, email, address, phone_number, ...")
        made = [str(method()).replace("\n", ", ") for _ in range(POOL)]
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
            if start + len(x) > self.template.size:
                raise DataError(f"column {self.name!r}: only {self.template.size} numbers of this look can be issued, {start + len(x)} were asked for; declare its kind as drop")
            made = [self.template.issue(i) for i in range(start, start + len(x))]
        else:
            made = [self.pool[i] for i in rng.integers(len(self.pool), size=len(x))]
            if self.faker == "email":  # unique by its number
                made = [f"{v.split('@')[0]}{start + i}@example.com" for i, v in enumerate(made)]
        if pa.types.is_integer(self.plain):
            array = pa.array([int(v) for v in made], self.plain, mask=null)
        elif pa.types.is_floating(self.plain) or pa.types.is_decimal(self.plain):
            array = pa.array([int(v) for v in made], pa.int64(), mask=null).cast(self.plain)
        else:
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
        self.template = template and Template(tuple(template["places"]), template["a"], template["b"])
        return self
