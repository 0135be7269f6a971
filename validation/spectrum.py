"""Do series move as fast as the real ones do? Noise that is too faint or too strong, and smoothness, show in the spectrum.

spectrum = mean over numbers and bands of frequency of min(p_train, p_synthetic) / max(p_train, p_synthetic), p the mean over series of
           the share of a series' power in that band, a step counted as one unit of time. No unit; 1 is equal, 0.5: one has twice as much.
Interval by bootstrap over subjects; the yardstick is the holdout in place of the synthetic series.

The use of fast Fourier transform for the estimation of power spectra (averaged periodograms); P. Welch; 1967; https://doi.org/10.1109/TAU.1967.1161901
"""

from __future__ import annotations

import numpy as np

from generators.data import Table
from validation.courses import mean_of
from validation.features import numbers
from validation.score import Score
from validation.series import Measure, held_alike, judged, mean

BANDS, LEAST = 12, 8  # bands of frequency, and steps of a series that has a spectrum
FAINT = 1e-6  # share of a series' power that is none


def spectra(table: Table, name: str) -> np.ndarray:
    """(subjects, BANDS): the share of its power that each series has in equal bands of frequency up to half a turn a step; NaN where it
    has fewer than LEAST values, infinite where it does not move. Steps without a value are left out."""
    x, whose, n = numbers(table, name), table.subjects, len(table.lengths)
    there = ~np.isnan(x)
    x, whose = x[there], whose[there]
    held = np.bincount(whose, minlength=n)
    start, out = np.cumsum(held) - held, np.full((n, BANDS), np.nan)
    for length in np.unique(held[held >= LEAST]):
        chosen = np.flatnonzero(held == length)
        rows = x[start[chosen][:, None] + np.arange(length)]
        power = np.abs(np.fft.rfft(rows - rows.mean(1, keepdims=True))[:, 1:]) ** 2
        power[:, -1] /= 1 if length % 2 else 2  # half a turn a step has no negative twin
        total = power.sum(1)
        moving = total > 1e-12 * np.maximum((rows**2).sum(1), 1e-300) * length
        shares = power @ _bands(length)
        out[chosen[~moving]] = np.inf
        out[chosen[moving]] = shares[moving] / total[moving, None]
    return out


def _bands(length: int) -> np.ndarray:
    """(frequencies of a series so long, BANDS): the part of each band's power that is each frequency's; one stands for those around it, as
    far as half way to the next."""
    middle = np.arange(1, length // 2 + 1) / length
    low, high = middle - 0.5 / length, np.minimum(middle + 0.5 / length, 0.5)
    low[0] = 0.0
    ends = np.linspace(0, 0.5, BANDS + 1)
    shared = np.minimum(high[:, None], ends[1:]) - np.maximum(low[:, None], ends[:-1])
    return np.maximum(shared, 0) / (high - low)[:, None]


def spectrum(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    def measures(a: Table, b: Table) -> dict[str, Measure]:
        return {name: _of_ratios(spectra(a, name), spectra(b, name)) for name in a.schema.changing("numeric", "datetime")}

    def shown(train: Table, synthetic: Table) -> dict:
        names = train.schema.changing("numeric", "datetime")
        return {"curves": {name: {"real": mean_of(spectra(train, name), rare_below), "synthetic": mean_of(spectra(synthetic, name), 1)} for name in names}}

    return judged("fidelity.spectrum", train, holdout, synthetic, seed, measures, shown=shown)


def _of_ratios(a: np.ndarray, b: np.ndarray) -> Measure:
    """1 - mean ratio of the smaller to the larger of the weighted means of the rows of two matrices (subjects, bands) of shares, less where
    far fewer of one's rows have any."""

    def distance(wa: np.ndarray, wb: np.ndarray) -> float:
        p, q = (mean(x, w) for x, w in ((a, wa), (b, wb)))
        some = np.fmax(p, q) > FAINT
        if np.isnan(p).all():
            return float("nan")  # real series are too short, or do not move
        return 1 - held_alike(a, wa, b, wb) * float(np.mean(np.minimum(p, q)[some] / np.maximum(p, q)[some]) if not np.isnan(q).all() else 0.0)

    return distance
