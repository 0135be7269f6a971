"""Patients that never were, and leaks planted on purpose: what the judges are measured against."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_breast_cancer

from generators.data import Column, Schema, Table
from validation.features import Features, numbers

KINDS = {
    "pid": "id", "age": "numeric", "stay": "numeric", "lactate": "numeric", "creatinine": "numeric", "visits": "numeric",
    "ward": "category", "diagnosis": "category", "smoker": "boolean", "admitted": "datetime", "died": "boolean",
}  # fmt: skip
START = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def patients(n: int, seed: int) -> Table:
    """n draws of one known distribution with every kind of column, dependence between all, and joint nulls."""
    rng = np.random.default_rng(seed)
    sick = rng.normal(size=n)
    age = np.clip(np.round(60 + 14 * rng.normal(size=n) + 6 * sick), 18, 99).astype(int)
    stay = np.exp(1 + 0.5 * sick + 0.6 * rng.normal(size=n))
    lactate, creatinine = 2 + 0.8 * sick + 0.5 * rng.normal(size=n), np.exp(0.1 + 0.3 * sick + 0.02 * (age - 60) + 0.3 * rng.normal(size=n))
    visits = rng.poisson(np.exp(0.3 * sick)) * (rng.random(n) > 0.3)
    ward = np.array(["medicine", "surgery", "icu", "heart"])[np.clip(np.digitize(sick + 0.7 * rng.normal(size=n), [-0.8, 0.3, 1.0]), 0, 3)]
    diagnosis = rng.choice(["sepsis", "stroke", "fracture", "cancer", "other"], n, p=[0.15, 0.2, 0.25, 0.15, 0.25])
    smoker, died = rng.random(n) < 0.3, rng.random(n) < 1 / (1 + np.exp(2 - 1.8 * sick - 0.03 * (age - 60)))
    admitted = [START + dt.timedelta(seconds=float(s)) for s in rng.random(n) * 3e7]
    untested, unknown = rng.random(n) < 0.15 + 0.1 * (ward == "surgery"), rng.random(n) < 0.08
    values = {
        "pid": pa.array([f"P{seed:05d}-{i:06d}" for i in range(n)]),
        "age": pa.array(age, pa.int32()),
        "stay": pa.array(stay),
        "lactate": pa.array(lactate, mask=untested),
        "creatinine": pa.array(creatinine, mask=untested),
        "visits": pa.array(visits, pa.int64()),
        "ward": pa.array(ward).dictionary_encode(),
        "diagnosis": pa.array(diagnosis, mask=unknown),
        "smoker": pa.array(smoker, mask=unknown),
        "admitted": pa.array(admitted, pa.timestamp("us", tz="Europe/Berlin")),
        "died": pa.array(died),
    }
    return table(values, KINDS, target="died")


def table(values: dict, kinds: dict[str, str], subject: str | None = None, target: str | None = None) -> Table:
    """A Table of Arrow arrays (or lists) and kinds."""
    arrow = pa.table(values)
    return Table.of(arrow, Schema(arrow.schema, tuple(Column(n, kinds[n]) for n in arrow.column_names), subject, target))


def put(source: Table, **columns) -> Table:
    """The table with these columns replaced, their types kept."""
    values = source.values
    for name, data in columns.items():
        at = values.schema.get_field_index(name)
        data = data if isinstance(data, pa.Array | pa.ChunkedArray) else pa.array(data, from_pandas=True)
        values = values.set_column(at, values.schema.field(at), data.cast(values.schema.field(at).type))
    return Table(values, source.schema)


def reissued(source: Table) -> Table:
    """The same rows under new ids: what is left to find is the rows themselves."""
    return put(source, pid=[f"S-{i:06d}" for i in range(len(source))]) if "pid" in source.schema.arrow.names else source


def stacked(*tables: Table) -> Table:
    return Table(pa.concat_tables([t.values for t in tables]).unify_dictionaries(), tables[0].schema)


def copied(train: Table, fresh: Table, share: float, seed: int) -> Table:
    """A fresh sample of which a share are training rows instead."""
    rng, k = np.random.default_rng(seed), round(share * len(fresh))
    return reissued(stacked(train.take(rng.choice(len(train), k, replace=False)), fresh.take(np.arange(k, len(fresh)))))


def one_component_a_row(train: Table, seed: int, noise: float = 0.02, swap: float = 0.02) -> Table:
    """A mixture that memorised: a training row, its numbers within `noise` standard deviations, few categories drawn anew."""
    rng = np.random.default_rng(seed)
    base = train.take(rng.integers(len(train), size=len(train)))
    features, new = Features.of(train), {}
    for name in features.numeric:
        values, whole = numbers(base, name), not pa.types.is_floating(train.schema.arrow.field(name).type)
        values = values + noise * np.nanstd(values) * rng.normal(size=len(values))
        new[name] = pa.array(np.round(values) if whole else values, from_pandas=True).cast(pa.int64() if whole else pa.float64())
    for name in features.category:
        other = rng.integers(len(base), size=len(base))
        at = np.where(rng.random(len(base)) < swap, other, np.arange(len(base)))
        new[name] = base.column(name).take(pa.array(at))
    return reissued(put(base, **new))


def smote(train: Table, seed: int) -> Table:
    """SMOTE-NC of imbalanced-learn over all training rows; a null is a category of its own, put back afterwards."""
    from imblearn.over_sampling import SMOTENC

    features, n = Features.of(train), len(train)
    raw = np.column_stack([numbers(train, c) for c in features.numeric])
    gone, p = np.isnan(raw), raw.shape[1]
    centre, scale = np.nanmedian(raw, 0), np.nanstd(raw, 0)
    codes = [features.codes(train, c) for c in features.category]
    x = np.column_stack([np.where(gone, 0, (raw - centre) / scale), gone, *codes])
    x, y = np.vstack([x, x, x]), np.repeat([1, 0, 0], n)
    made = SMOTENC(categorical_features=list(range(p, x.shape[1])), random_state=seed).fit_resample(x, y)[0][len(x) :]
    made[:, :p] = made[:, :p] * scale + centre
    new = {}
    for i, name in enumerate(features.numeric):
        whole = not pa.types.is_floating(train.schema.arrow.field(name).type)
        new[name] = pa.array(np.where(made[:, p + i] > 0.5, np.nan, np.round(made[:, i]) if whole else made[:, i]), from_pandas=True)
        new[name] = new[name].cast(pa.int64()) if whole else new[name]
    for i, name in enumerate(features.category):
        words = pa.array([None, None, *features.vocabulary[name].to_pylist()])
        new[name] = words.take(pa.array(made[:, 2 * p + i].astype(int)))
    return reissued(put(train.take(np.arange(len(made))), **new))


def tumours(seed: int = 0) -> list[Table]:
    """Breast-cancer patients (569, Wisconsin, shipped with scikit-learn) in three random parts."""
    data = load_breast_cancer(as_frame=True).frame
    values = pa.Table.from_pandas(data, preserve_index=False)
    kinds = {c: "category" if c == "target" else "numeric" for c in values.column_names}
    whole = table({c: values[c] for c in values.column_names}, kinds, target="target")
    part = np.random.default_rng(seed).permutation(np.arange(len(whole)) % 3)
    return [whole.take(part == i) for i in range(3)]


def visits(people: int, seed: int, each: int = 4) -> Table:
    """Several rows a person, alike within the person."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), each)
    level, sex = rng.normal(size=people)[who], rng.random(people)[who] < 0.5
    values = {
        "id": pa.array([f"{seed}-{w}" for w in who]),
        "bilirubin": pa.array(level + 0.1 * rng.normal(size=len(who))),
        "albumin": pa.array(-level + 0.3 * rng.normal(size=len(who))),
        "platelets": pa.array(np.round(200 + 50 * rng.normal(size=people)[who] + 10 * rng.normal(size=len(who)))),
        "female": pa.array(sex),
    }
    return table(values, {"id": "id", "bilirubin": "numeric", "albumin": "numeric", "platelets": "numeric", "female": "boolean"}, "id", "female")


def measured(train: Table, holdout: Table, synthetic: Table, seed: int = 0, only: str = ""):
    """All scores that have a gate by default, by name."""
    from pipelines.gates import METRICS, gates

    return {m: METRICS[m](train, holdout, synthetic, seed=seed) for m in gates(train.schema) if m.startswith(only)}
