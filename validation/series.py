"""Do series run as the real ones do? Judges of what a table does not have: an order in time.

autocorrelation = 1 - mean over numbers and lags 1 .. 12 of |r_train - r_synthetic|, r the mean over series of a series' correlation
                  with itself so many steps before
crosscorrelation = 1 - mean over pairs of numbers a, b of |r_train - r_synthetic|, r the correlation of a with b at the same step and one step
                  before, of all steps
timing          = 1 - the largest of the Kolmogorov-Smirnov distances of the numbers of steps, of the distances between steps, of first times,
                  and of times of day; and of the total variation distance of days of the week, where 50 or more days are seen
course          = 1 - mean over columns and quarters of a series' steps of the distance of the values there (as in fidelity.shape)
No unit; 1 is equal. Intervals by bootstrap over subjects; the yardstick is the holdout in place of the synthetic series.

Time-series generative adversarial networks; J. Yoon, D. Jarrett, M. van der Schaar; 2019; https://papers.nips.cc/paper/2019/hash/c9efe5f26cd17ba6216bbe2a7d26d490-Abstract.html
Conditional Sig-Wasserstein GANs for time series generation; S. Liao et al.; 2024; https://arxiv.org/abs/2006.05421 (both for the choice of statistics)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from generators.data import Table, to_local
from validation.courses import lines, mean_of
from validation.features import labels, numbers
from validation.histograms import bins_of
from validation.marginals import ks, tv
from validation.resampling import MOST, at_most, interval, too_few
from validation.score import Score
from validation.summary import gaps

LAGS, DRAWS, QUARTERS = 12, 40, 4
DAYS = 50  # different ones, from which days of the week are looked at
FEW = 10  # real series that a lag is looked at by, at least
Measure = Callable[[np.ndarray, np.ndarray], float]  # weights of train's subjects and of the other's -> distance


def judged(
    name: str, train: Table, holdout: Table, synthetic: Table, seed: int, measures: Callable[[Table, Table], dict[str, Measure]], worst: bool = False,
    shown: Callable[[Table, Table], dict] = lambda train, synthetic: {},
) -> Score:  # fmt: skip
    """1 - the mean, or the largest, of named distances. shown: what else a report is to draw."""
    rng = np.random.default_rng(seed)
    (train, holdout, synthetic), seen = at_most(MOST, rng, train=train, holdout=holdout, synthetic=synthetic)
    whole = np.max if worst else np.mean

    def value(found: dict[str, Measure], a: np.ndarray, b: np.ndarray) -> float:
        each = [m(a, b) for m in found.values()]
        return 1 - float(whole([v for v in each if np.isfinite(v)] or [0.0]))

    def ones(table: Table) -> np.ndarray:
        return np.ones(len(table.lengths))

    found, real = measures(train, synthetic), measures(train, holdout)
    got = value(found, ones(train), ones(synthetic))
    drawn = [value(found, _again(train, rng), _again(synthetic, rng)) for _ in range(DRAWS)]
    figures = {key: (m(ones(train), ones(synthetic)), real[key](ones(train), ones(holdout)) if key in real else np.nan) for key, m in found.items()}
    each = {key: {"distance": a if np.isfinite(a) else None, "yardstick": b if np.isfinite(b) else None} for key, (a, b) in figures.items()}
    details = {"each": each, "looked_at": seen, **shown(train, synthetic)}
    if worst and each:
        details["worst"] = max(each, key=lambda key: each[key]["distance"] or 0.0)
    power = too_few(train, holdout, synthetic)
    return Score(name, got, *interval(got, drawn, 0, 1), value(real, ones(train), ones(holdout)), "high", power, details)


def _again(table: Table, rng: np.random.Generator) -> np.ndarray:
    """How often each subject is in a bootstrap sample."""
    n = len(table.lengths)
    return np.bincount(rng.integers(n, size=n), minlength=n).astype(float)


def autocorrelations(table: Table, name: str) -> np.ndarray:
    """(subjects, LAGS): of each series, NaN where it is too short, infinite where it does not move."""
    x, whose, n = numbers(table, name), table.subjects, len(table.lengths)
    there = ~np.isnan(x)
    x, whose = x[there], whose[there]
    held = np.bincount(whose, minlength=n)
    away = x - (np.bincount(whose, x, n) / np.maximum(held, 1))[whose]
    power = np.bincount(whose, away**2, n)
    out = np.full((n, LAGS), np.nan)
    for lag in range(1, min(LAGS, len(x) - 1) + 1):
        pair = whose[lag:] == whose[:-lag]
        product = np.bincount(whose[lag:][pair], (away[lag:] * away[:-lag])[pair], n) / np.maximum(held - lag, 1)
        use = (held > lag + 2) & (power > 1e-12 * np.maximum(held, 1))
        out[(held > lag + 2) & ~use, lag - 1] = np.inf
        out[use, lag - 1] = product[use] / (power / np.maximum(held, 1))[use]
    return out


def autocorrelation(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    def measures(a: Table, b: Table) -> dict[str, Measure]:
        return {name: _of_means(autocorrelations(a, name), autocorrelations(b, name)) for name in a.schema.changing("numeric", "datetime")}

    def shown(train: Table, synthetic: Table) -> dict:
        curves = {}
        for name in train.schema.changing("numeric", "datetime"):
            real, fake = (autocorrelations(t, name) for t in (train, synthetic))
            curves[name] = {"real": mean_of(real, rare_below), "synthetic": mean_of(fake, 1)}
        return {"curves": curves}

    return judged("fidelity.autocorrelation", train, holdout, synthetic, seed, measures, shown=shown)


def _of_means(a: np.ndarray, b: np.ndarray) -> Measure:
    """Mean difference of the weighted means of the rows of two matrices (subjects, figures) with gaps, of figures that FEW of a's rows have:
    1 where none of b's has, and more where far fewer of one's rows have any."""

    def distance(wa: np.ndarray, wb: np.ndarray) -> float:
        real, other = mean(a, wa), mean(b, wb)
        apart = np.minimum(np.where(np.isnan(other), 1.0, np.abs(real - other)), 1.0)[wa @ np.isfinite(a) >= FEW]
        return 1 - held_alike(a, wa, b, wb) * (1 - float(apart.mean())) if len(apart) else float("nan")

    return distance


def mean(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(figures,): weighted means of the columns of x (subjects, figures), NaN where nobody has one."""
    there = np.isfinite(x)
    held = weight @ there
    return np.divide(weight @ np.where(there, x, 0.0), held, out=np.full(x.shape[1], np.nan), where=held > 0)


def held_alike(a: np.ndarray, wa: np.ndarray, b: np.ndarray, wb: np.ndarray) -> float:
    """1, or less where the share of series that move, of those that are long enough, is not half of the other's; 0 where none of one's is."""
    shares = [w @ np.isfinite(x[:, 0]) / max(w @ ~np.isnan(x[:, 0]), 1e-9) for x, w in ((a, wa), (b, wb))]
    return float(min(2 * min(shares) / max(shares), 1.0)) if max(shares) > 0 else 1.0


def crosscorrelation(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    def products(table: Table, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """For each subject (columns, columns) sums of products, and of pairs that are there, of the numbers and those one step before."""
        x = np.column_stack([numbers(table, n) for n in names])
        whose, n = table.subjects, len(table.lengths)
        before = np.vstack([np.full((1, x.shape[1]), np.nan), x[:-1]])
        before[np.r_[True, whose[1:] != whose[:-1]]] = np.nan
        both = np.hstack([x, before])
        there = ~np.isnan(both)
        held = np.maximum(there.sum(0), 1)
        away = np.where(there, both - np.where(there, both, 0).sum(0) / held, 0)
        spread = np.sqrt((away**2).sum(0) / held)
        z = away / np.where(spread > 0, spread, 1)
        i, j = np.triu_indices(x.shape[1], 1)
        pairs = [(a, b) for a, b in zip(i, j, strict=True)] + [(a, b + x.shape[1]) for a in range(x.shape[1]) for b in range(x.shape[1]) if a != b]
        sums = np.column_stack([np.bincount(whose, z[:, a] * z[:, b], n) for a, b in pairs])
        held = np.column_stack([np.bincount(whose, there[:, a] & there[:, b], n) for a, b in pairs])
        return sums, held

    def measures(a: Table, b: Table) -> dict[str, Measure]:
        names = a.schema.changing("numeric", "datetime")
        if len(names) < 2:
            return {}
        (sa, ha), (sb, hb) = products(a, names), products(b, names)

        def distance(wa: np.ndarray, wb: np.ndarray) -> float:
            return float(np.abs((wa @ sa) / np.maximum(wa @ ha, 1) - (wb @ sb) / np.maximum(wb @ hb, 1)).mean())

        return {"all pairs": distance}

    return judged("fidelity.crosscorrelation", train, holdout, synthetic, seed, measures)


def timing(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    def parts(table: Table) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Values and whose they are."""
        own, first = np.arange(len(table.lengths)), np.cumsum(table.lengths) - table.lengths
        return {"steps": (table.lengths.astype(float), own), "distances": gaps(table), "first time": (numbers(table, table.schema.time)[first], own)}

    def measures(a: Table, b: Table) -> dict[str, Measure]:
        found, other = parts(a), parts(b)
        out = {key: _by_subject(ks(found[key][0], other[key][0]), found[key][1], other[key][1]) for key in found}
        kind = a.schema.arrow.field(a.schema.time).type
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            (day, since), (other_day, other_since) = (to_local(t.column(t.schema.time)) for t in (a, b))
            out["time of day"] = _by_subject(ks(since.astype(float), other_since.astype(float)), a.subjects, b.subjects)
            if len(np.unique(day)) >= DAYS:
                out["day of the week"] = _by_subject(tv(*(pa.array(d % 7).cast(pa.string()) for d in (day, other_day))), a.subjects, b.subjects)
        return out

    def shown(train: Table, synthetic: Table) -> dict:
        real, fake = parts(train), parts(synthetic)
        return {"histograms": {key: bins_of(*real[key], fake[key][0], rare_below, key == "steps") for key in ("steps", "distances")}}

    return judged("fidelity.timing", train, holdout, synthetic, seed, measures, worst=True, shown=shown)


def _by_subject(distance: Measure, mine: np.ndarray, theirs: np.ndarray) -> Measure:
    return lambda wa, wb: distance(wa[mine], wb[theirs])


def course(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    def quarters(table: Table) -> np.ndarray:
        first = np.cumsum(table.lengths) - table.lengths
        at = np.arange(len(table)) - first[table.subjects]
        return at * QUARTERS // table.lengths[table.subjects]

    def measures(a: Table, b: Table) -> dict[str, Measure]:
        mine, theirs, out = quarters(a), quarters(b), {}
        for q in range(QUARTERS):
            here, there = a.take(mine == q), b.take(theirs == q)
            if not len(here) or not len(there):
                continue  # no series is so long
            of, other = a.subjects[mine == q], b.subjects[theirs == q]
            for name in a.schema.changing("numeric", "datetime"):
                out[f"{name}, quarter {q + 1}"] = _by_subject(ks(numbers(here, name), numbers(there, name)), of, other)
            for name in a.schema.changing("category", "boolean"):
                out[f"{name}, quarter {q + 1}"] = _by_subject(tv(labels(here, name), labels(there, name)), of, other)
        return out

    def shown(train: Table, synthetic: Table) -> dict:
        return {"lines": {name: lines(train, synthetic, name, rare_below) for name in train.schema.changing("numeric", "datetime")}}

    return judged("fidelity.course", train, holdout, synthetic, seed, measures, shown=shown)
