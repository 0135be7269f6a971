"""Does a passage of one person's series come out, that strangers would not share by chance?

A passage is some steps of a series one after another, in one view of them: one column alone (of a category the order of its
values, however long each lasts; of a number the sixteenths of all its values), or all columns and the distances of the steps,
coarsely, or finely and with what stays. One that fewer than `rare_below` people hold counts as much as it is surprising, in nats,
    -log p(first step) - sum over the later ones of log p(step | step before),
with p as it is of all other people. For every real subject the most surprising of its passages is looked for that some synthetic
series has too. Chance matches are surprising as well, where there are many series or where p says little of them; so the same is
done for the holdout, which no generator has seen, and the tail of its figures is drawn on as an exponential: how far would one of
the training subjects come by chance, once in a hundred times?
value = how many training subjects come farther in some view. A count, which must be 0. A copied patient is found by it, and an
order of common events that one patient alone has.

How often chance alone repeats so long a stretch: "An extreme value theory for long head runs", L. Gordon, M. Schilling, M. Waterman, 1986,
https://doi.org/10.1007/BF00699107; the tail: "Statistical inference using extreme order statistics", J. Pickands, 1975, https://doi.org/10.1214/aos/1176343003
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from generators.data import LEARNED, Table
from validation.features import labels, numbers
from validation.resampling import looked_at, sample, too_few
from validation.score import Score
from validation.summary import gaps

LOOK = 1_000_000  # rows of a table that are looked at, at most
BINS, FINE = 16, 256  # in which numbers are told apart
LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 19, 24, 30, 38, 48, 60, 75, 94, 118, 148, 185, 231, 289, 361, 451, 564, 705, 881)  # of passages, in steps
CHANCE = 0.01  # how often chance alone may reach the figure that is too much, over all views
TAIL, LEAST = 0.1, 10  # share of the holdout's figures, and how many at least, that tell how fast they fall off
SURE = 1.64  # standard deviations by which that may be worse than it looks
FEWER = 10  # training subjects for one of the holdout, beyond which what strangers share cannot be told from so few
B = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class View:
    """Steps as codes: (columns, steps) 0 .. sizes - 1, whose they are, and which columns are numbers, with codes in their order and 0 for none."""

    codes: np.ndarray
    subjects: np.ndarray
    ordered: tuple[bool, ...]

    def part(self, at: np.ndarray) -> View:
        return View(self.codes[:, at], self.subjects[at], self.ordered)

    def moves(self) -> View:
        """Only the steps at which something is other than before."""
        same = (self.subjects[1:] == self.subjects[:-1]) & (self.codes[:, 1:] == self.codes[:, :-1]).all(0)
        return self.part(np.r_[True, ~same] if len(self.subjects) else np.zeros(0, bool))

    @cached_property
    def _sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Sums of symbol i times B to the power of i, before each step and after the last; and those powers with the sign turned."""
        with np.errstate(over="ignore"):
            symbol = np.zeros(len(self.subjects), np.uint64)
            for code in self.codes:
                symbol = _mixed(symbol * B + code.astype(np.uint64))
            up, down = (np.cumprod(np.r_[np.uint64(1), np.full(len(symbol), b)]) for b in (B, np.uint64(pow(int(B), -1, 2**64))))
            return np.r_[np.uint64(0), np.cumsum(symbol * up[:-1])], down

    def hashes(self, length: int, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of these starts those of passages of so many steps of one subject, and a number for each passage, the same for equal ones."""
        start = start[start + length <= len(self.subjects)]
        start = start[self.subjects[start] == self.subjects[start + length - 1]]
        sums, down = self._sums
        with np.errstate(over="ignore"):
            return start, (sums[start + length] - sums[start]) * down[start]


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def words(tables: Sequence[Table], name: str) -> np.ndarray:
    """A category of all rows of some tables as codes, null being one."""
    every = pa.concat_arrays([labels(t, name) for t in tables]).dictionary_encode(null_encoding="encode").indices
    return every.to_numpy(zero_copy_only=False).astype(np.int32)


def binned(values: Sequence[np.ndarray], bins: int) -> np.ndarray:
    """Numbers of all rows of some tables as bins 1, 2, ... that are as likely as each other in the first one; 0 is NaN."""
    known = values[0][~np.isnan(values[0])]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])) if len(known) else np.zeros(0)
    return np.concatenate([np.where(np.isnan(v), 0, 1 + np.searchsorted(edges, v, side="right")).astype(np.int32) for v in values])


def distances(table: Table) -> np.ndarray:
    """(rows,) of steps from those before; first steps have none."""
    out = np.full(len(table), np.nan)
    out[1:][table.subjects[1:] == table.subjects[:-1]] = gaps(table)[0]
    return out


def surprise(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Of every step -log p(step) and -log p(step | step before), by all other subjects' steps, summed over columns.

    Where few others were at the step before, or steps from there are many, p is also that of as long a way between numbers, or of
    staying, or else of the value, anywhere (Witten, Bell; 1991; https://doi.org/10.1109/18.87000).
    What a person did before, from the same value, counts as much as all others together: going on as ever is no surprise.
    """
    whose, first, later = view.subjects, np.zeros(len(view.subjects)), np.zeros(len(view.subjects))
    follows = np.flatnonzero(whose[1:] == whose[:-1])
    own_steps = np.bincount(whose[follows])
    others = len(follows) - own_steps[whose[follows]] if len(follows) else np.zeros(0)
    for code, ordered in zip(view.codes, view.ordered, strict=True):
        code, size = code.astype(np.int64), int(code.max(initial=0)) + 1
        held, own = _counts(code, whose)
        share = (held - own + 0.5) / (len(code) - np.bincount(whose)[whose] + 0.5 * size)
        first -= np.log(share)
        before, now = code[follows], code[follows + 1]
        way = _ways(before, now, size) if ordered else (now != before).astype(np.int64)
        gone, own_gone = _counts(way, whose[follows])
        prior = (gone - own_gone + 0.5) / (others + 0.5 * max(len(np.unique(way)), 2))
        prior = np.where((before == 0) & (now > 0) if ordered else now != before, prior * share[follows + 1] / np.maximum(1 - share[follows], 1e-9), prior)
        pair, own_pair = _counts(before * size + now, whose[follows])
        left, own_left = _counts(before, whose[follows])
        ways = np.bincount(pd.unique(before * size + now) // size, minlength=size)[before]  # different steps from there
        anybody = (pair - own_pair + ways * prior) / (left - own_left + ways)
        done, been = _before(whose[follows] * size**2 + before * size + now), _before(whose[follows] * size + before)
        later[follows + 1] -= np.log((done + anybody) / (been + 1))
    return first, later


def _ways(before: np.ndarray, now: np.ndarray, size: int) -> np.ndarray:
    """How far it is from bin to bin; to, from, or still nothing there are ways of their own."""
    return np.select([now == 0, before == 0], [np.where(before == 0, 2 * size, 2 * size + 1), 2 * size + 2], now - before)


def _before(key: np.ndarray) -> np.ndarray:
    """For every step how many earlier ones have the same key."""
    return pd.Series(key).groupby(key, sort=False).cumcount().to_numpy()


def _counts(code: np.ndarray, whose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every step how often its code comes, in all and within its own subject."""
    code = pd.factorize(code)[0].astype(np.int64)
    mine = pd.factorize(whose * (code.max(initial=0) + 1) + code)[0]
    return np.bincount(code)[code], np.bincount(mine)[mine]


def farthest(real: View, synthetic: View, strangers: int, rare_below: int) -> np.ndarray:
    """(subjects of real,) surprise of the most surprising passage that few real and some synthetic series hold; 0 without one.

    strangers: from which subject on they are of the holdout. Steps of theirs meet synthetic ones more often than p says where columns
    hang together; every step is less surprising by as much.
    """
    first, later = surprise(real)
    held = real.subjects >= strangers
    ours, theirs = np.arange(len(real.subjects)), np.arange(len(synthetic.subjects))
    meets = _shared(real.hashes(1, ours)[1][held], synthetic.hashes(1, theirs)[1])
    over = max(np.log(max(meets, 1e-300) / np.exp(-first[held]).mean()), 0.0)
    first, later = np.maximum(first - over, 0.0), np.maximum(later - over, 0.0)
    so_far = np.cumsum(later)
    out = np.zeros(int(real.subjects.max(initial=-1)) + 1)
    for length in LENGTHS:  # what is shared no longer is not shared longer still
        (ours, passage), (theirs, other) = real.hashes(length, ours), synthetic.hashes(length, theirs)
        again, still = pd.Series(passage).isin(other).to_numpy(), pd.Series(other).isin(passage).to_numpy()
        ours, theirs = ours[again], theirs[still]
        if not len(ours):
            break
        passage = pd.factorize(passage[again])[0].astype(np.int64)
        holders = pd.unique(passage * len(out) + real.subjects[ours]) // len(out)
        at = ours[np.bincount(holders)[passage] < rare_below]
        np.maximum.at(out, real.subjects[at], first[at] + so_far[at + length - 1] - so_far[at])
    return out


def _shared(a: np.ndarray, b: np.ndarray) -> float:
    """How probably one of these values and one of those are equal."""
    n, m = pd.Series(a).value_counts(), pd.Series(b).value_counts()
    both = n.index.intersection(m.index)
    return float(n[both].to_numpy() @ m[both].to_numpy() / (len(a) * len(b)))


def chance(control: np.ndarray, people: int, pairs: float, views: int) -> float:
    """What one of so many people would exceed by chance once in 1 / CHANCE times, over so many views.

    By the tail of these figures of strangers, and, as these go up in leaps, at least what the most surprising of so many pairs of
    steps may reach where passages are as probable as they are said to be.
    """
    least = np.log(pairs * views / CHANCE)
    ordered = np.sort(control)[::-1]
    top = ordered[: max(LEAST, round(TAIL * len(ordered))) + 1]
    top = top[top > 0]
    if not len(top):
        return float(least)
    fall = max(float((top - top[-1]).mean()) * (1 + SURE / np.sqrt(len(top))), 1.0)  # a nat is what it is where p is right
    return float(max(top[-1] + fall * np.log(len(top) * people / len(ordered) * views / CHANCE), least))


def _views(tables: Sequence[Table]) -> list[tuple[str, list[tuple[str, int]], bool]]:
    """[(name, the columns that it shows, each with the number of bins if it is told in bins, or 0; whether only moves count)]."""
    schema = tables[0].schema
    told = [(name, 0) for name in schema.changing("category", "boolean")]
    numeric = schema.changing("numeric", "datetime")
    stays = [(n, FINE * (schema[n].kind in ("numeric", "datetime"))) for n in schema.static if schema[n].kind in LEARNED]
    alone = [*((name, [(name, 0)], True) for name, _ in told), *((name, [(name, BINS)], False) for name in numeric)]
    together = {bins: [*told, *((name, bins) for name in (*numeric, schema.time))] for bins in (BINS, FINE)}
    return [*alone, *((f"all columns, {b} bins", columns + stays * (b == FINE), False) for b, columns in together.items())]


def _codes(tables: Sequence[Table], name: str, bins: int) -> np.ndarray:
    """(rows of all tables,) of a column; of the time, of the distances of steps."""
    if not bins:
        return words(tables, name)
    return binned([distances(t) if name == t.schema.time else numbers(t, name) for t in tables], bins)


def passages(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """How many training subjects have a passage that came out. Yardstick: 0, which is what is asked for."""
    if few := too_few(train, holdout, synthetic):
        return Score("privacy.passages", 0.0, 0.0, 0.0, 0.0, "low", few, {})
    rng = np.random.default_rng(seed)
    tables = [sample(t, LOOK, rng) for t in (train, holdout, synthetic)]
    people, views, each = len(tables[0].lengths), _views(tables), {}
    whose, found = np.r_[tables[0].subjects, tables[1].subjects + people], np.zeros(people, bool)
    for key, columns, moves in views:
        codes, ordered = np.stack([_codes(tables, name, bins) for name, bins in columns]), tuple(bins > 0 for _, bins in columns)
        real, theirs = View(codes[:, : len(whose)], whose, ordered), View(codes[:, len(whose) :], tables[2].subjects, ordered)
        if moves:
            real, theirs = real.moves(), theirs.moves()
        far = farthest(real, theirs, people, rare_below)
        pairs = float((real.subjects < people).sum()) * len(theirs.subjects)
        too_far = far[:people] > chance(far[people:], people, pairs, len(views))
        each[key] = {"kind": train.schema[key].kind if key in train.schema.arrow.names else "together", "passages": int(too_far.sum())}
        found |= too_far
    value, held = float(found.sum()), len(tables[1].lengths)
    few = f"the holdout has {held} subjects for {people} to learn from, too few to tell what strangers share" if value and held * FEWER < people else None
    seen = looked_at({"train": len(tables[0]), "synthetic": len(tables[2])}, {"train": len(train), "synthetic": len(synthetic)})
    details = {"columns": each, "looked_at": seen}
    return Score("privacy.passages", value, value, value, 0.0, "low", few, details)
