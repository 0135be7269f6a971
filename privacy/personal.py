"""Whether a column holds personal details, and which: from its values, with its name as a hint only.

Person names are told by Faker's own lists of names, of every locale: a column is one of names when enough of its
distinct values are made of words on those lists. Many surnames are also words and places, so few values prove nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

from generators.data import DataError
from privacy import recognise

TITLES = frozenset(
    re.split(
        " ",
        "mr mrs ms miss dr prof sir dame rev fr frau herr hr mme mlle m sig sra srta don mx dott ing jr sr ii iii iv md dds phd dvm esq obe",
    )
)
PARTICLES = frozenset(
    re.split(
        " ",
        "de da do dos das del della di du der den des van von vom zu zur ten ter la le las los y e i el al bin ibn abu st san mac mc o d l آل",
    )
)
NAMED = {  # hints only: the values must look right too
    "name": r"(^|_)(full|patient|person|customer|client|employee|contact|display)_?names?$"
    r"|^(patient|doctor|physician|surgeon|consultant|nurse|gp|clinician|author|owner|contact|name)$",
    "last_name": r"(sur|last|family|maiden|second)_?name|nachname|familienname|apellidos?|cognome|^nom$|^lname$|sobrenome",
    "first_name": r"(first|given|fore|christian|middle)_?name|vorname|prenom|^nombre$|^fname$",
    "phone_number": r"phone|mobile|(^|_)(tel|cell|fax|msisdn)(_|$)|telefon",
    "address": r"address|adresse|(^|_)(addr|street|strasse|residence)(_|$)",
    "ssn": r"(^|_)(ssn|nhs|nino|bsn|pesel|cpf|nif|nie|dni|aadhaar|sin|tin|npi|personnummer|cpr|passport)(_|$)"
    r"|social_?security|national_?(id|insurance|number)|nhs_?(no|number)",
    "place": r"(^|_)(city|town|village|county|state|country|region|province|district|nation|place|location|race|ethnic\w*|colou?r"
    r"|product|brand|month|language|species|site|ward|hospital|department|school|team)s?(_|$)",
    "text": r"(^|_)(notes?|comments?|remarks?|descriptions?|text|message|summary|narrative|free_?text|history|findings?)(_|$)",
}
COMPANY = re.compile(r"\b(ltd|inc|llc|plc|gmbh|ag|corp|group|and sons|s\.?a|spa|srl|b\.?v|ab|oy|as|kg|limited|company)\b\.?$", re.IGNORECASE)
EAST_ASIAN = re.compile(r"[\u3400-\u9fff\uac00-\ud7af]{2,4}")
FEW = 20  # a column with so few distinct values says little by its look


def personal(name: str, looked: list[str], unique: bool, where: str) -> str | None:
    """What Faker calls the personal detail that these distinct values are, or None. A part of them only is an error."""
    best, share = recognise.personal(looked)
    if share >= 0.8 and (best not in ("ssn", "phone_number") or len(looked) >= FEW or hinted(name, best)):
        return best
    if share >= 0.1 and best in ("email", "iban") and not sentences(looked):
        raise DataError(f"{where}: {share:.0%} of its distinct values look like {best} values, the rest do not; {advice(where)}")
    digits = recognise.share(lambda v: sum(c.isdigit() for c in v) >= 5 and len(v) < 30, looked)
    numbered = next((kind for kind in ("ssn", "phone_number") if hinted(name, kind)), None)
    if unique and numbered and digits >= 0.8:
        return numbered
    return _person(name, looked) or _place(name, looked, unique)


def _person(name: str, looked: list[str]) -> str | None:
    kind, share = names(looked)
    hint = next((h for h in ("last_name", "first_name", "name") if hinted(name, h)), None)
    if hint in ("last_name", "first_name"):
        return hint if kind != "name" or share < 0.3 else "name"
    if hint is None and (len(looked) < FEW or hinted(name, "place")):
        return None
    many = len(looked)
    enough = 0.3 if hint and snake(name) != "name" else 0.9 if many < 30 else 0.75 if many < 100 else 0.35
    if share < enough:
        return None
    return "company" if recognise.share(lambda v: bool(COMPANY.search(v)), looked) >= 0.2 else kind


def _place(name: str, looked: list[str], unique: bool) -> str | None:
    hint = hinted(name, "address")
    if hinted(name, "text") and not hint and sentences(looked):
        return None
    if recognise.share(recognise.address, looked) >= (0.4 if hint else 0.6) and (len(looked) >= FEW or hint):
        return "address"
    if unique and hint:
        return "street_address"
    return "city" if unique and re.search(r"(^|_)(city|town|village)(_|$)", snake(name)) else None


def which(name: str, looked: list[str], where: str) -> str:
    """The Faker provider for a column that is declared pii and no more."""
    found = personal(name, looked, True, where) if looked else None
    found = found or next((hint for hint in NAMED if hint not in ("place", "text") and hinted(name, hint)), None)
    if found is None:
        raise DataError(f"{where}: declared pii, but of which sort cannot be told; add faker: name, email, phone_number, address, ssn, …")
    return found


def hinted(name: str, kind: str) -> bool:
    """Whether the column's name speaks of this kind."""
    return bool(re.search(NAMED[kind], snake(name)))


def snake(name: str) -> str:
    """In lower case with underscores: `NHS Number` and `nhsNumber` are nhs_number."""
    return re.sub(r"[^0-9a-z]+", "_", folded(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name))).strip("_")


def sentences(looked: list[str]) -> bool:
    """Whether the middle one has three words of letters."""
    words = sorted(sum(bool(re.search(r"[^\W\d_]{2}", w)) for w in v.split()) for v in looked)
    return bool(words) and (words[len(words) // 2] >= 3 or bool(re.search(r"[\u3040-\u9fff]{12,}", max(looked, key=len))))


def advice(where: str) -> str:
    """How to declare the column, for the end of an error."""
    return f"declare it: columns: {{{where.removeprefix('column ')}: {{kind: id | pii | text | category | drop}}}}"


def folded(word: str) -> str:
    """Without accents and case."""
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c)).casefold()


@cache
def known_names() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """First names, surnames and titles of every locale of Faker, folded."""
    import importlib
    import pkgutil

    from faker.providers import person

    known: dict[str, set] = {"first": set(), "last": set(), "title": set()}
    sorts = {"first_name": "first", "last_name": "last", "prefix": "title", "suffix": "title"}
    for module in pkgutil.iter_modules(person.__path__):
        provider = importlib.import_module(f"{person.__name__}.{module.name}").Provider
        for name in dir(provider):
            sort, values = next((s for start, s in sorts.items() if name.startswith(start)), None), getattr(provider, name)
            if sort and isinstance(values, tuple | list | dict):
                words = {folded(w) for v in values if isinstance(v, str) for w in _words(v)}
                known[sort].update(w for w in words if len(w) > 1 or not w.isascii())
    titles = TITLES | (known["title"] - known["first"] - known["last"])
    return frozenset(known["first"] - PARTICLES), frozenset(known["last"] - PARTICLES), frozenset(titles)


def names(values: list[str]) -> tuple[str, float]:
    """("name", "first_name" or "last_name"; share): how many of these are made of words that are known as names."""
    first, last, _ = known_names()
    known, whole, spaced, starts = [], 0, 0, Counter()
    for value in values:
        words = _name_words(value)
        if 1 <= len(words) <= 5:
            inside = sum(w in first or w in last for w in words)
            known += [w for w in words if w in first or w in last] if inside * 2 >= len(words) else []
            starts.update(hit=inside * 2 >= len(words), first=words[0] in first, last=words[0] in last)
            whole += inside == len(words)
            spaced += len(words) > 1 and not re.fullmatch(r"\S*-\S*", value.strip())
    share = starts["hit"] / max(len(values), 1)
    if not known or Counter(known).most_common(1)[0][1] > max(starts["hit"] / 3, 2):  # one word in them all: no names
        return "name", 0.0
    if spaced > len(values) / 2:
        return "name", share if share >= 0.8 or whole >= len(values) / 4 else 0.0
    return ("first_name" if starts["first"] > starts["last"] else "last_name"), share


def _name_words(value: str) -> list[str]:
    """The words of a name, folded, less titles and initials; none where a person's name cannot look so."""
    value, (_, last, titles) = value.strip(), known_names()
    if EAST_ASIAN.fullmatch(value):
        cut = 1 if value[:1] in last else 2
        return [folded(value)] if len(value) < 2 or folded(value[:cut]) not in last else [folded(w) for w in (value[:cut], value[cut:]) if w]
    if len(value) > 60 or re.search(r"[\d@_/\\:;!?=<>+*%$#&\[\]{}|]", value):
        return []
    return [w for w in map(folded, _words(value)) if w not in titles and w not in PARTICLES and (len(w) > 1 or not w.isascii())]


def _words(value: str) -> list[str]:
    return [w for w in re.split(r"[\s,.\-'\u2019]+", value) if w]
