"""A distribution function from counts alone, which may be noisy: nothing of a number is used but the class into which it falls.

First comes how finely numbers are written. Then numbers that many people hold become atoms, as in quantiles.py, by the rule for values
that nobody knew beforehand. The rest falls into cells whose ends are known whatever the data are: parts of the bounds that were declared,
or else powers of two. Cells with enough in them are divided, again and again, and counted anew each time; what noise alone may have put
there is taken for empty. So the lowest and the highest number that can come out are ends of cells.

PrivTree: a differentially private algorithm for hierarchical decompositions; J. Zhang, X. Xiao, X. Xie; 2016; https://arxiv.org/abs/1601.03229
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from generators.base import Mechanism
from generators.encoding.quantiles import Quantiles, subjects_in
from generators.encoding.scale import Scale, is_null, plain_type, raw_numbers

THERE = 0.1  # share of what may be told of a column that goes to whether anything is missing
DIGITS = 10  # so many after the point, and more, are told apart no further
UNFIT = 0.02  # of the numbers may be written more finely: they are rounded
LEVELS, PARTS, FIRST = 5, 8, 64  # how often cells are counted, into how many one is divided, and how many there are at first between declared bounds
# standard deviations of noise above which somebody is taken to be in one of very many cells, in a kind by itself, in one of a few cells
SURE, CLEAR, LIKELY = 4.5, 3.0, 2.0
ENOUGH = 16  # standard deviations of noise that a cell must hold to be divided
GROUPS = 256  # a cell with no more than this part of all is not divided
POWERS = np.arange(-40.0, 63.0)  # of two, where cells begin


def there(ask: Mechanism, people: int, share: float = 1.0) -> bool:
    """Whether there is anybody of a kind, as far as noise lets one tell: once in 700 where there is nobody."""
    return bool(ask.counts(torch.tensor([people], dtype=torch.double), share)[0] > CLEAR * ask.sd(share))


def scale(values: pa.ChunkedArray, ask: Mechanism) -> Scale:
    """The lattice that nearly all values lie on: so many digits after the point, or whole days, hours, minutes or seconds."""
    kind, null = plain_type(values.type), is_null(values)
    raw = raw_numbers(values)[~null]
    if pa.types.is_timestamp(kind):
        second = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[kind.unit]
        steps = sorted({second * 86400, second * 3600, second * 60, second, 1}, reverse=True)
        return Scale(kind, 0, steps[_first(np.array([raw % s == 0 for s in steps]), ask)])
    if not pa.types.is_floating(kind):
        return Scale(kind, 0, 86_400_000 if kind == pa.date64() else 1)
    narrow = kind.to_pandas_dtype()
    written = [np.round(raw, d).astype(narrow) == raw.astype(narrow) for d in range(DIGITS)]
    digits = _first(np.array([*written, np.ones(len(raw), dtype=bool)]), ask)
    return Scale(kind, 0, 1, digits) if digits < DIGITS else Scale(kind)


def _first(fits: np.ndarray, ask: Mechanism) -> int:
    """fits (ways, rows) bool, all of the last way: the first that does for nearly all rows."""
    which = fits.argmax(0) if fits.size else np.zeros(0, dtype=int)
    told = ask.counts(torch.from_numpy(np.bincount(which, minlength=len(fits))).double(), 1.0).numpy()
    beyond = np.append(told[::-1].cumsum()[::-1][1:], 0.0)
    return int(np.argmax(beyond <= max(UNFIT * told.sum(), LIKELY * ask.sd(1.0) * len(fits) ** 0.5) + 1e-9))


def atoms(x: np.ndarray, subjects: np.ndarray, k: int, ask: Mechanism) -> tuple[np.ndarray, np.ndarray]:
    """Numbers that many people hold, and how many, of x (n,) and whose they are."""
    values, which = np.unique(x, return_inverse=True)
    held = ask.kept(torch.from_numpy(subjects_in(which, subjects, len(values))), k, 1.0).numpy()
    return values[held > 0], held[held > 0].astype(float)


def cells(x: np.ndarray, subjects: np.ndarray, low: float, high: float, whole: bool, ask: Mechanism) -> np.ndarray:
    """(cells, 3): where each begins and ends, and how many people have a number in it; of x (n,) within low and high, infinite where none was declared.

    whole: all are whole numbers"""
    ends = _ends(low, high, whole)
    begin, end, done, total = ends[:-1], ends[1:], [], 0.0
    for level in range(LEVELS):
        place = np.maximum(np.searchsorted(begin, x, side="right") - 1, 0)
        inside = (x >= begin[place]) & (x <= end[place])
        people = subjects_in(place[inside], subjects[inside], len(begin))
        told, sd = ask.counts(torch.from_numpy(people).double(), 1 / LEVELS).numpy(), ask.sd(1 / LEVELS)
        there = told > (SURE if level == 0 and np.isinf([low, high]).any() else LIKELY) * sd
        begin, end, told = begin[there], end[there], told[there]
        total = total or told.sum()  # of the first level
        more = (told > max(ENOUGH * sd, total / GROUPS)) & ((end - begin > 1) if whole else (end > begin)) & (level + 1 < LEVELS)
        done += [*zip(begin[~more], end[~more], told[~more], strict=True)]
        if not more.any():
            break
        parts = [_parts(a, b, whole) for a, b in zip(begin[more], end[more], strict=True)]
        begin, end = np.concatenate([p[:-1] for p in parts]), np.concatenate([p[1:] for p in parts])
    return np.array(sorted(done)).reshape(-1, 3)


def _ends(low: float, high: float, whole: bool) -> np.ndarray:
    """Where cells begin and end at first."""
    if np.isfinite([low, high]).all():
        if whole:
            low, high = np.ceil(low) - 0.5, np.floor(high) + 0.5
        return _parts(low, high, whole, FIRST)
    power = 2.0 ** (POWERS[POWERS >= 0] if whole else POWERS)
    power = power - 0.5 if whole else np.concatenate([[0.0], power])
    ends = np.unique(np.concatenate([-power, power]))
    return np.unique(np.clip(ends, low - 0.5 * whole, high + 0.5 * whole))


def _parts(low: float, high: float, whole: bool, parts: int = PARTS) -> np.ndarray:
    """Where parts of a cell begin and end: those of whole numbers between them."""
    at = np.linspace(low, high, parts + 1)
    return np.unique(np.floor(at) + 0.5).clip(low, high) if whole else np.unique(at)


def joined(exact: np.ndarray, held: np.ndarray, among: np.ndarray, whole: bool) -> Quantiles | None:
    """Atoms (a,), how many hold each, and cells (c, 3), which are cut where an atom lies within; None where there is neither."""
    room, parts = 0.5 * whole, [[v, v, m] for v, m in zip(exact, held, strict=True)]
    for begin, end, people in among:
        inner = exact[(exact > begin) & (exact < end)]
        cut = np.stack([np.append(begin, inner + room), np.append(inner - room, end)], 1)
        cut = cut[cut[:, 1] > cut[:, 0]]
        width = (cut[:, 1] - cut[:, 0]).sum()
        parts += [[a, b, people * (b - a) / width] for a, b in cut]
    if not parts:
        return None
    low, high, count = np.array(sorted(parts)).T
    return Quantiles(low, high, np.concatenate([[0.0], np.cumsum(count)]) / count.sum())
