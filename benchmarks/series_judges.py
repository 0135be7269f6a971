"""What the benchmark measures synthetic series by; it knows nothing of any generator. Frames are long: a row for each subject and time.

c2st          1 - (2 AUC - 1) of boosted trees that tell synthetic series from held-out ones by summaries of them; 1: they cannot
c2st_train    the same of synthetic series and those learned from, which says more where the two differ, as prices of other years do
acf_err       mean difference of mean autocorrelations, lags 1 to 12
cross_err     mean difference of correlations between numbers at a step
marginal_err  mean Kolmogorov-Smirnov distance of the values of a number
length_err    Kolmogorov-Smirnov distance of the numbers of steps
gap_err       the same of the distances between steps
null_err      largest difference of a column's share of nothing
static_err    largest difference, from the training series, of the mixed-type correlations (Pearson's r, the correlation ratio, Cramer's V) of
              columns that stay with columns that change
tstr          balanced accuracy, on held-out series, of boosted trees that learned a label from summaries of synthetic ones
nearest       share of synthetic series nearer to a training series than to any of as many held-out ones; 0.5 is chance

A summary of a number: its moments, extremes and where they are, first and last, means of thirds, moves from step to step, crossings of
its mean, two figures of its spectrum, autocorrelations at lags 1, 2, 4 and 8; all in hundredths of its spread in the held-out series.
"""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, kurtosis, skew
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors

FIGURES = ("c2st", "c2st_train", "acf_err", "cross_err", "marginal_err", "length_err", "gap_err", "null_err", "static_err", "tstr", "nearest")
LAGS = 12
FOLDS = StratifiedKFold(4, shuffle=True, random_state=0)


class Panel:
    """Series of a long frame. label: a column that stays and is not looked at as a number."""

    def __init__(self, frame: pd.DataFrame, subject: str, time: str, label: str | None = None):
        self.frame = frame.sort_values([subject, time], kind="stable").reset_index(drop=True)
        self.subject, self.time, self.label = subject, time, label
        number = pd.api.types.is_numeric_dtype
        self.numbers = [c for c in frame if c not in (subject, time, label) and number(frame[c]) and frame[c].dtype != bool]
        self.groups = self.frame.groupby(subject, sort=True)
        self.lengths = self.groups.size().to_numpy()
        x = self.frame[self.numbers].to_numpy(dtype=float, na_value=np.nan)
        self.series = np.split(x, np.cumsum(self.lengths)[:-1])
        t = self.frame[time]
        self.times = (t if number(t) else pd.to_datetime(t, utc=True).astype("datetime64[us, UTC]").astype("int64")).to_numpy(float)

    @property
    def gaps(self) -> np.ndarray:
        return np.concatenate([np.diff(t) for t in np.split(self.times, np.cumsum(self.lengths)[:-1])])

    @property
    def labels(self) -> np.ndarray:
        return self.groups[self.label].first().astype(str).to_numpy()


def figures(
    train: pd.DataFrame, holdout: pd.DataFrame, synthetic: pd.DataFrame, subject: str, time: str, label: str | None = None, many: pd.DataFrame | None = None
) -> dict[str, float]:
    """All FIGURES of some synthetic series; tstr is nan where there is no label. many: more of them, so that static_err is not that of chance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # means of nothing, correlations of what is constant
        a, b, s = (Panel(frame[list(train)], subject, time, label) for frame in (train, holdout, synthetic))
        scale = np.maximum(np.nanstd(np.concatenate(b.series), 0), 1e-9)
        rows, real, fake = (np.stack([_summary(x / scale) for x in p.series]) for p in (a, b, s))
        steps = [np.concatenate(p.series) for p in (b, s)]
        stays = [c for c in train if c not in (subject, time) and train.groupby(subject)[c].nunique(dropna=False).max() == 1]
        return {
            "c2st": _told_apart(real, fake),
            "c2st_train": _told_apart(rows, fake),
            "acf_err": float(np.nanmean(np.abs(_mean_autocorrelation(b) - _mean_autocorrelation(s)))),
            "cross_err": float(np.abs(np.subtract(*(np.nan_to_num(pd.DataFrame(x).corr().to_numpy()) for x in steps))).mean()),
            "marginal_err": float(np.mean([ks_2samp(x[~np.isnan(x)], y[~np.isnan(y)]).statistic for x, y in zip(steps[0].T, steps[1].T, strict=True)])),
            "length_err": float(ks_2samp(b.lengths, s.lengths).statistic),
            "gap_err": float(ks_2samp(b.gaps, s.gaps).statistic),
            "null_err": float((b.frame.isna().mean() - s.frame.isna().mean()).abs().max()),
            "static_err": _goes_together(a, Panel(many[list(train)], subject, time, label) if many is not None else s, stays),
            "tstr": _useful(fake, s.labels, real, b.labels) if label else float("nan"),
            "nearest": _nearer(rows, real, fake),
        }


def _autocorrelation(x: np.ndarray, lags: int = LAGS) -> np.ndarray:
    """(lags,), NaN where x is too short or does not move."""
    x = x - x.mean() if len(x) else x
    power = (x * x).mean() if len(x) else 0.0
    return np.array([(x[:-k] * x[k:]).mean() / power if power > 1e-12 and len(x) > k + 2 else np.nan for k in range(1, lags + 1)])


def _mean_autocorrelation(p: Panel) -> np.ndarray:
    return np.nanmean([[_autocorrelation(x[~np.isnan(x)]) for x in s.T] for s in p.series], axis=0)


def _summary(series: np.ndarray) -> np.ndarray:
    out = [np.array([len(series)], float)]
    for x in series.T:
        x = x[~np.isnan(x)]
        if len(x) < 3:
            out.append(np.full(24, np.nan))
            continue
        moves, power = np.diff(x), np.abs(np.fft.rfft(x - x.mean())) ** 2
        power = power / max(power.sum(), 1e-12)
        high = x > x.mean()
        moments = [x.mean(), x.std(), x.min(), x.max(), np.median(x), *np.nan_to_num([skew(x), kurtosis(x)])]
        ends = [x[0], x[-1], x.argmax() / len(x), x.argmin() / len(x)]
        moved = [moves.std(), np.abs(moves).max(), np.abs(moves).mean(), (high[1:] != high[:-1]).mean()]
        turns = [power @ np.arange(len(power)) / len(power), power[: max(len(power) // 8, 1)].sum()]
        thirds, lags = [part.mean() for part in np.array_split(x, 3)], np.nan_to_num(_autocorrelation(x, 8)[[0, 1, 3, 7]])
        out.append(np.array([*moments, *ends, *moved, *turns, *thirds, *lags]))
    if series.shape[1] > 1:
        together = np.corrcoef(np.nan_to_num(series).T) if len(series) > 1 else np.zeros((series.shape[1],) * 2)
        out.append(np.nan_to_num(together[np.triu_indices(series.shape[1], 1)]))
    return np.round(np.concatenate(out), 2)


def _told_apart(real: np.ndarray, fake: np.ndarray) -> float:
    rng, k = np.random.default_rng(0), min(len(real), len(fake))
    rows = np.concatenate([x[rng.permutation(len(x))[:k]] for x in (real, fake)])
    which = np.repeat([0, 1], k)
    trees = HistGradientBoostingClassifier(max_iter=60, min_samples_leaf=int(np.clip(k // 5, 3, 20)), random_state=0)
    area = roc_auc_score(which, cross_val_predict(trees, rows, which, cv=FOLDS, method="predict_proba")[:, 1])
    return 2 * (1 - max(area, 0.5))


def _useful(rows: np.ndarray, labels: np.ndarray, held_out: np.ndarray, wanted: np.ndarray) -> float:
    if len(set(labels)) < 2:
        return float("nan")
    return balanced_accuracy_score(wanted, HistGradientBoostingClassifier(min_samples_leaf=5, random_state=0).fit(rows, labels).predict(held_out))


def _nearer(train: np.ndarray, holdout: np.ndarray, synthetic: np.ndarray) -> float:
    k, rng = min(len(train), len(holdout)), np.random.default_rng(0)
    sides = [x[rng.permutation(len(x))[:k]] for x in (train, holdout)]
    both = np.concatenate(sides)
    middle, spread = np.nanmean(both, 0), np.nanstd(both, 0)
    spread = np.where(spread > 1e-9, spread, np.inf)
    see = lambda x: np.nan_to_num((x - middle) / spread)  # noqa: E731
    near, far = (NearestNeighbors(n_neighbors=1).fit(see(x)).kneighbors(see(synthetic))[0][:, 0] for x in sides)
    equal = np.isclose(near, far)
    return float(np.mean((near < far) & ~equal) + equal.mean() / 2)


def _goes_together(a: Panel, b: Panel, stays: list[str]) -> float:
    """Largest difference of a correlation between a column that stays and one that changes, over steps; nan where there is no pair."""
    words = a.frame.select_dtypes(exclude="number").columns
    changes = [c for c in a.frame if c not in (a.subject, a.time, *stays)]
    pairs = list(product(stays, changes))
    found = [[_correlation(p.frame[i], p.frame[j], i in words, j in words) for i, j in pairs] for p in (a, b)]
    return float(np.nanmax(np.abs(np.subtract(*found)))) if pairs else float("nan")


def _correlation(x: pd.Series, y: pd.Series, x_words: bool, y_words: bool) -> float:
    """Pearson's r of numbers, the correlation ratio of a word with a number, Cramer's V of words; over rows that have both."""
    both = x.notna() & y.notna()
    x, y = x[both], y[both]
    if x_words and y_words:
        seen = pd.crosstab(x, y).to_numpy(float)
        expected = seen.sum(1, keepdims=True) * seen.sum(0) / max(seen.sum(), 1)
        least = min(seen.shape) - 1
        return float((((seen - expected) ** 2 / expected).sum() / (seen.sum() * least)) ** 0.5) if least > 0 else 0.0
    if x_words or y_words:
        words, number = (x, y) if x_words else (y, x)
        number = number.astype(float)
        total = ((number - number.mean()) ** 2).sum()
        middle = number.groupby(words.astype(str)).transform("mean")
        return float((((middle - number.mean()) ** 2).sum() / total) ** 0.5) if total > 0 else 0.0
    return float(np.nan_to_num(np.corrcoef(x.astype(float), y.astype(float))[0, 1])) if len(x) > 2 else 0.0
