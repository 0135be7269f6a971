"""What a string is, from its look: e-mail, phone, national number, person name, address, and so on.

Each recogniser is a function of one string. A column is of a kind when most of its distinct values are.
Check digits follow the numbers' own rules, so that a column of any other digits passes them about once in ten values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache

EMAIL = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+\.[A-Za-z]{2,}")
UUID = re.compile(r"[{]?[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}[}]?")
NUMBER = re.compile(r"[-+]?[$€£]?(\d{1,3}(,\d{3})+(\.\d+)?|\d+([.,]\d+)?|\.\d+)([eE][-+]?\d+)?%?")
DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/. ](\d{1,2}|[A-Za-z]{3,9})[-/. ]\d{2,4}|[A-Za-z]{3,9} \d{1,2},? \d{4})"
    r"([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?(Z|[+-]\d{2}:?\d{2})?)?"
)
PHONE = re.compile(r"(\+|00|0|\(|1[-. ])?[\d().\-/ ]{6,22}\d(\s*(x|ext\.?)\s*\d{1,6})?")
IPV4 = re.compile(r"((25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(25[0-5]|2[0-4]\d|1?\d?\d)")
URL = re.compile(r"(https?://|www\.)\S+")
POSTCODE = re.compile(r"\b([A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}|[A-Z]\d[A-Z] \d[A-Z]\d|[A-Z]{2} \d{5}(-\d{4})?|\d{5}(-\d{4})?|\d{4} [A-Z]{2})\b")


def _sum(digits: str, weights: Iterable[int]) -> int:
    return sum(int(d) * w for d, w in zip(digits, weights, strict=False))


def _luhn(d: str) -> bool:
    return sum(sum(divmod(int(c) * (1 + i % 2), 10)) for i, c in enumerate(reversed(d))) % 10 == 0


def _nhs(d: str) -> bool:
    return 11 - _sum(d, range(10, 1, -1)) % 11 in (int(d[9]), int(d[9]) + 11)


def _cpf(d: str) -> bool:
    first, second = (_sum(d, range(n, 1, -1)) * 10 % 11 % 10 for n in (10, 11))
    return (first, second) == (int(d[9]), int(d[10]))


def _norwegian(d: str) -> bool:
    return _sum(d, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0 and _sum(d, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def _verhoeff(d: str) -> bool:
    turn, state = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4), 0
    for i, c in enumerate(reversed(d)):
        n = int(c)
        for _ in range(i % 8):
            n = turn[n]
        state = (state + n) % 5 + 5 * (n > 4) if state < 5 else (state - n) % 5 + 5 * (n < 5)
    return state == 0


CHECKS: dict[str, Callable[[str], bool]] = {
    "NHS number": lambda d: len(d) == 10 and _nhs(d),
    "Dutch BSN": lambda d: len(d) == 9 and _sum(d, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0,
    "Polish PESEL": lambda d: len(d) == 11 and _sum(d, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0,
    "Brazilian CPF": lambda d: len(d) == 11 and _cpf(d),
    "Norwegian number": lambda d: len(d) == 11 and _norwegian(d),
    "French NIR": lambda d: len(d) == 15 and (97 - int(d[:13]) % 97) == int(d[13:]),
    "Aadhaar": lambda d: len(d) == 12 and _verhoeff(d),
    "Luhn number": lambda d: len(d) in (9, 10, 12) and _luhn(d[-10:]),  # Canadian SIN, NPI, Swedish personnummer
    "Swiss AHV": lambda d: len(d) == 13 and d.startswith("756") and -_sum(d, (1, 3) * 6) % 10 == int(d[12]),
    "Belgian number": lambda d: len(d) == 11 and int(d[9:]) in (97 - int(d[:9]) % 97, 97 - int("2" + d[:9]) % 97),
}
SHAPES = {
    "US SSN": re.compile(r"(?!000|666)\d{3}-\d{2}-\d{4}"),
    "UK NINO": re.compile(r"[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-Z]", re.IGNORECASE),
    "Italian codice fiscale": re.compile(r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]", re.IGNORECASE),
    "Chinese number": re.compile(r"\d{17}[\dXx]"),
    "Finnish number": re.compile(r"\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]"),
    "Danish or Swedish number": re.compile(r"(?:19|20)?\d\d(0[1-9]|1[0-2])[0-3]\d[-+]\d{4}|[0-3]\d(0[1-9]|1[0-2])\d\d-\d{4}"),
}


def _nif(value: str) -> bool:
    found = re.fullmatch(r"([XYZ]?)(\d{7,8})-?([A-Z])", value.strip().upper())
    return bool(found) and "TRWAGMYFPDXBNJZSQVHLCKE"[int(str("XYZ".find(found[1])) * bool(found[1]) + found[2]) % 23] == found[3]


def _iban(value: str) -> bool:
    plain = value.replace(" ", "").upper()
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", plain):
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _card(value: str) -> bool:
    digits = re.sub(r"[ -]", "", value)
    return digits.isascii() and digits.isdigit() and len(digits) in (14, 15, 16) and digits[0] in "23456" and _luhn(digits)


def _dialled(value: str) -> bool:
    """Whether all of it could be a phone number, though it could be any other number too."""
    value = value.strip()
    digits = re.sub(r"\D", "", re.split(r"x|ext", value)[0])
    return 7 <= len(digits) <= 15 and bool(PHONE.fullmatch(value)) and not (DATE.fullmatch(value) or IPV4.fullmatch(value))


def _phone(value: str) -> bool:
    marks = re.findall(r"[-. /)]+", re.split(r"x|ext", value.strip())[0])
    return _dialled(value) and (value.strip().startswith(("+", "(", "0")) or (len(marks) >= 2 and len(value) >= 9))


@cache
def _street_words() -> re.Pattern:
    from faker.providers.address import en_GB, en_US

    ours = "st ave av rd ln dr ct blvd pl sq hwy pkwy cir apt apartment suite flat studio box apo fpo dpo close row mews hill crescent terrace"
    abroad = "rue avenue boulevard chemin via viale vicolo piazza borgo calle avenida plaza paseo rua travessa alameda platz allee weg gasse ulica ul aleja"
    suffixes = {w.lower() for en in (en_US, en_GB) for w in en.Provider.street_suffixes}
    compound = "strasse|straße|str\\.|weg|gasse|allee|platz|straat|laan|dreef|gatan|vägen|gränd|katu|polku|tie|gata|veien|stien|vej|vejen"
    words = "|".join(sorted(suffixes | set(ours.split()) | set(abroad.split())))
    return re.compile(rf"\b({words})\b|({compound})\b", re.IGNORECASE)


def address(value: str) -> bool:
    """A house number and a street, or four words with a post code among them."""
    words = len(value.split())
    if sum(w[:1].islower() for w in value.split()) > max(words / 2, 3):  # a sentence
        return False
    return bool(re.search(r"\d", value)) and words >= 2 and bool(_street_words().search(value) or (POSTCODE.search(value) and words >= 4))


PERSONAL: dict[str, Callable[[str], bool]] = {
    "email": lambda v: bool(EMAIL.fullmatch(v.strip())),
    "ipv4": lambda v: bool(IPV4.fullmatch(v.strip())),
    "url": lambda v: bool(URL.fullmatch(v.strip())),
    "iban": _iban,
    "credit_card_number": _card,
}


def national(values: list[str]) -> float:
    """The largest share of these that are national numbers of one and the same country."""
    digits = [re.sub(r"[ .\-/]", "", v) for v in values]
    plain = [d if d.isascii() and d.isdigit() and len(set(d)) > 1 else "" for d in digits]
    shares = [share(check, plain) for check in CHECKS.values()]
    return max(*shares, *(share(lambda v, p=p: bool(p.fullmatch(v.strip())), values) for p in SHAPES.values()), share(_nif, values))


def personal(values: list[str]) -> tuple[str, float]:
    """(what Faker calls it, share) of the personal detail that most of these are; names and addresses apart."""
    shares = {"ssn": national(values)}
    if shares["ssn"] >= 0.95:
        return "ssn", shares["ssn"]
    shares |= {kind: share(check, values) for kind, check in PERSONAL.items()}
    shares["phone_number"] = share(_phone, values)
    if shares["phone_number"] >= 0.3:  # some are written as digits only
        shares["phone_number"] = share(_dialled, values)
    best = max(shares, key=shares.get)
    return best, shares[best]


def share(check: Callable[[str], bool], values: list[str]) -> float:
    return sum(map(check, values)) / max(len(values), 1)
