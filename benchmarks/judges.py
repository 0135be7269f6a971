"""What the benchmark measures a synthetic table by; it knows nothing of any generator.

shape_err, trend_err  100 (1 - SDMetrics' Column Shapes), 100 (1 - its Column Pair Trends), against the training rows
c2st_lr, c2st_gb      2 (1 - AUC), at most 1, of a logistic regression / boosted trees that tell synthetic from training rows
mle                   boosted trees that learned from synthetic rows, on held-out real ones: area under the ROC curve, or R2
dcr                   share of synthetic rows nearer to training rows than to as many held-out ones; 0.5 is chance
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, QuantileTransformer, StandardScaler

FIGURES = ("shape_err", "trend_err", "c2st_lr", "c2st_gb", "mle", "dcr")
FEW = 10  # numbers with so many values or fewer are taken as categories
ROWS, NEAR = 20_000, 5000  # rows of a side that classifiers and distances look at


class Table:
    """How a table is seen: which columns are numbers, learned from the training rows, and the rest as words."""

    def __init__(self, train: pd.DataFrame, target: str):
        self.target = target
        number = pd.api.types.is_numeric_dtype
        self.numbers = [c for c in train if number(train[c]) and train[c].dtype != bool and train[c].nunique() > FEW]
        self.words = [c for c in train if c not in self.numbers]

    def tidy(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Numbers as floats, everything else as words, and nothing as a word of its own."""
        numbers = {c: pd.to_numeric(frame[c], errors="coerce").astype(float) for c in self.numbers}
        words = {c: frame[c].astype(float) if pd.api.types.is_numeric_dtype(frame[c]) and frame[c].dtype != bool else frame[c] for c in self.words}
        return pd.DataFrame(numbers | {c: v.astype("string").fillna("(nothing)").astype(object) for c, v in words.items()})

    def model(self, learner, numbers, words, without: str | None = None) -> Pipeline:
        """A learner behind an encoding of numbers and of words."""
        fill = Pipeline([("fill", SimpleImputer(strategy="median")), ("scale", numbers)])
        parts = [("n", fill, [c for c in self.numbers if c != without]), ("w", words, [c for c in self.words if c != without])]
        return Pipeline([("see", ColumnTransformer(parts)), ("learn", learner)])


def figures(train: pd.DataFrame, holdout: pd.DataFrame, synthetic: pd.DataFrame, target: str) -> dict[str, float]:
    """All FIGURES of one synthetic table."""
    seen = Table(train, target)
    train, holdout, synthetic = (seen.tidy(frame) for frame in (train, holdout, synthetic))
    shape, trend = _reported(seen, train, synthetic)
    trees = seen.model(HistGradientBoostingClassifier(random_state=0), StandardScaler(), _ordinal())
    line = seen.model(LogisticRegression(max_iter=300), StandardScaler(), OneHotEncoder(handle_unknown="ignore", min_frequency=5, sparse_output=False))
    return {
        "shape_err": shape, "trend_err": trend, "c2st_lr": _told_apart(line, train, synthetic), "c2st_gb": _told_apart(trees, train, synthetic),
        "mle": _useful(seen, synthetic, holdout), "dcr": _nearer(seen, train, holdout, synthetic),
    }  # fmt: skip


def _ordinal() -> OrdinalEncoder:
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def _reported(seen: Table, train: pd.DataFrame, synthetic: pd.DataFrame) -> list[float]:
    from sdmetrics.reports import QualityReport

    kinds = {c: {"sdtype": "numerical" if c in seen.numbers else "categorical"} for c in (*seen.numbers, *seen.words)}
    report = QualityReport()
    report.generate({"t": train}, {"t": synthetic}, {"tables": {"t": {"columns": kinds}}}, verbose=False)
    found = dict(report.get_properties().itertuples(index=False))
    return [100 * (1 - found[name]) for name in ("Column Shapes", "Column Pair Trends")]


def _told_apart(model: Pipeline, train: pd.DataFrame, synthetic: pd.DataFrame) -> float:
    size = min(len(train), len(synthetic), ROWS)
    rows = pd.concat([train.sample(size, random_state=0), synthetic.sample(size, random_state=0)])
    which = np.repeat([0, 1], size)
    area = roc_auc_score(which, cross_val_predict(model, rows, which, cv=3, method="predict_proba")[:, 1])
    return 2 * (1 - max(area, 0.5))


def _useful(seen: Table, learned_from: pd.DataFrame, holdout: pd.DataFrame) -> float:
    number = seen.target in seen.numbers
    learner = (HistGradientBoostingRegressor if number else HistGradientBoostingClassifier)(random_state=0)
    if not number and learned_from[seen.target].nunique() < 2:
        return float("nan")
    model = seen.model(learner, StandardScaler(), _ordinal(), without=seen.target).fit(learned_from, learned_from[seen.target])
    if number:
        return r2_score(holdout[seen.target], model.predict(holdout))
    known = holdout[holdout[seen.target].isin(model.classes_)]
    p = model.predict_proba(known)
    if p.shape[1] == 2:
        return roc_auc_score(known[seen.target] == model.classes_[1], p[:, 1])
    return roc_auc_score(known[seen.target], p, multi_class="ovr", labels=model.classes_)


def _nearer(seen: Table, train: pd.DataFrame, holdout: pd.DataFrame, synthetic: pd.DataFrame) -> float:
    size = min(len(train), len(holdout))
    train, holdout = train.sample(size, random_state=0), holdout.sample(size, random_state=0)
    both = pd.concat([train, holdout])
    scale = QuantileTransformer(n_quantiles=min(200, size))
    see = seen.model("passthrough", scale, OneHotEncoder(handle_unknown="ignore", sparse_output=False)).fit(both)[:-1]
    rows = see.transform(synthetic.sample(min(NEAR, len(synthetic)), random_state=0)).astype(np.float32)
    near, far = (
        NearestNeighbors(n_neighbors=1, algorithm="brute").fit(see.transform(f).astype(np.float32)).kneighbors(rows)[0][:, 0] for f in (train, holdout)
    )
    equal = np.isclose(near, far)
    return float(np.mean((near < far) & ~equal) + equal.mean() / 2)
