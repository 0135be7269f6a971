"""Does a model trained on the synthetic rows work on real people?

Boosted trees are trained on synthetic and on training rows and tested on the same holdout rows. The metric is ROC AUC
for a class (mean over classes, one against the rest) and R2 for a number of more than 10 values.
value = 1 - (metric trained on real - metric trained on synthetic): 1 = nothing lost, 0.95 = 5 points of AUC or R2 lost.
"Real-valued (medical) time series generation with recurrent conditional GANs" (TSTR), Esteban, Hyland and Rätsch,
2017, https://arxiv.org/abs/1706.02633
"""

from __future__ import annotations

import numpy as np

from generators.data import DataError, Table
from validation.features import Features, flat, learnable, numbers
from validation.resampling import MOST, at_most, auc, interval, split, too_few, weights
from validation.score import Score

DRAWS, CLASSES, LEAST_OF_A_CLASS = 40, 10, 10  # a class of fewer subjects, in train or in the holdout, is not judged
Metric = dict  # class label (or "all") -> a function of holdout row weights


def is_class(train: Table, features: Features) -> bool:
    """Whether the target is predicted as a class: a category, a boolean, or a number of at most CLASSES values."""
    name = train.schema.target
    return name in features.category or len(np.unique(flat(train, name).drop_null())) <= CLASSES


def answers(table: Table, features: Features, classes: bool) -> np.ndarray:
    """(rows,) the target: its code, or its number; unknown is NaN."""
    name = table.schema.target
    if name not in features.category:
        return numbers(table, name)
    codes = features.codes(table, name).astype(float)
    return np.where(codes == 0, np.nan, codes)


def named(value: float, train: Table, features: Features) -> str:
    """How a class is called in details: its label if it is kept, a plain number, or (rare)."""
    if train.schema.target not in features.category:
        return f"{value:g}"
    return ["(null)", "(rare)", *features.vocabulary[train.schema.target].to_pylist()][int(value)]


def trained(source: Table, test: Table, features: Features, classes: bool, seed: int):
    """Predictions for `test` of trees trained on `source`: (rows, classes) with the classes, or (rows,) and None."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    y = answers(source, features, classes)
    known = ~np.isnan(y)
    if classes:  # a class of a single row cannot be learned
        found, held = np.unique(y[known], return_counts=True)
        known &= np.isin(y, found[held >= 2])
    x, y, unseen = features.trees(source, source.schema.target)[known], y[known], features.trees(test, source.schema.target)
    if len(np.unique(y)) < 2:
        return (np.zeros((len(test), 1)), np.array([-1.0])) if classes else (np.full(len(test), y.mean() if len(y) else 0.0), None)
    with threadpool_limits(1, "openmp"):  # as in detection
        if not classes:
            return HistGradientBoostingRegressor(random_state=seed).fit(learnable(x), y).predict(unseen), None
        model = HistGradientBoostingClassifier(random_state=seed).fit(learnable(x), y)
        return model.predict_proba(unseen), model.classes_


def r2(truth: np.ndarray, guess: np.ndarray):
    """The share of the variance that is explained, as a function of row weights; at least -1."""

    def explained(weight: np.ndarray | None = None) -> float:
        w = np.ones(len(truth)) if weight is None else weight
        total = (w * (truth - np.average(truth, weights=w)) ** 2).sum()
        return max(-1.0, 1 - float((w * (truth - guess) ** 2).sum() / total)) if total > 0 else np.nan

    return explained


def metrics(source: Table, test: Table, features: Features, classes: bool, judged: list[float], seed: int) -> tuple[Metric, np.ndarray]:
    """For each judged class (or the one number) the metric as a function of the weights of the known holdout rows."""
    truth = answers(test, features, classes)
    known = ~np.isnan(truth)
    guess, found = trained(source, test, features, classes, seed)
    if not classes:
        return {"all": r2(truth[known], guess[known])}, known
    column = {c: guess[known, i] for i, c in enumerate(found)}
    return {c: auc(column.get(c, np.zeros(known.sum())), truth[known] == c) for c in judged}, known


def fewest(label: float, *tables: tuple[Table, np.ndarray]) -> int:
    """The least number of subjects, of those of the class and those of another one, in any of the tables (each with its answers)."""
    known = [(t.subjects[~np.isnan(y)], y[~np.isnan(y)] == label) for t, y in tables]
    return min(len(np.unique(subjects[side])) for subjects, of in known for side in (of, ~of))


def overall(metric: Metric, weight: np.ndarray | None = None) -> float:
    """The mean over the classes."""
    return float(np.nanmean([m(weight) for m in metric.values()]))


def target(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """1 - the loss from training on synthetic rows; interval by bootstrap of the holdout subjects (trees not refitted).

    Yardstick: the same with one half of the holdout in place of the synthetic table, tested on the other, both ways.
    """
    if train.schema.target is None:
        raise DataError("utility.target: the schema names no target column")
    rng = np.random.default_rng(seed)
    (train, holdout, synthetic), seen = at_most(MOST, rng, train=train, holdout=holdout, synthetic=synthetic)
    features = Features.of(train, rare_below)
    classes = is_class(train, features)
    y, real_y = answers(holdout, features, classes), answers(train, features, classes)
    least = max(LEAST_OF_A_CLASS, rare_below)
    judged = [c for c in np.unique(real_y[~np.isnan(real_y)]) if fewest(c, (train, real_y), (holdout, y)) >= least] if classes else []
    few = too_few(train, holdout, synthetic)
    if classes and not judged:
        few = few or f"no class of the target has {least} people, and others {least}, in train and holdout"
    if few:
        return Score("utility.target", 1.0, 0.0, 1.0, 1.0, "high", few, {"task": "class" if classes else "number"})
    fake, known = metrics(synthetic, holdout, features, classes, judged, seed)
    real, _ = metrics(train, holdout, features, classes, judged, seed)
    drawn = [(overall(real, w), overall(fake, w)) for w in weights(holdout.subjects[known], DRAWS, rng)]
    best, got = overall(real), overall(fake)
    halves = split(holdout, 2, rng)
    control = np.nanmean([overall(metrics(a, b, features, classes, judged, seed)[0]) for a, b in (halves, halves[::-1])])
    details = {
        "task": "class" if classes else "number",
        "metric": "ROC AUC" if classes else "R2",
        "target": train.schema.target,
        "looked_at": seen,
    }
    for key, figure, column in (("real", best, 0), ("synthetic", got, 1)):
        details[key] = {"value": figure, "interval": list(interval(figure, [d[column] for d in drawn], -1, 1))}
    details["classes"] = {named(c, train, features): {"real": real[c](), "synthetic": fake[c](), "holdout_rows": int((y == c).sum())} for c in judged}
    value = 1 - best + got
    return Score("utility.target", value, *interval(value, [1 - a + b for a, b in drawn]), 1 - best + float(control), "high", None, details)
