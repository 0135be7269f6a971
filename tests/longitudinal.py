"""Small series for the tests: every kind of column, irregular times, lengths that vary. Needs no more than generators do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from generators.data import Column, Schema, Table
from generators.layout import Field, Layout, Sequences, SeriesLayout

CUTS = tuple(torch.special.ndtri(torch.arange(1, 200) / 200).tolist())
MIXED = SeriesLayout(Layout((Field(3), Field(2))), Layout((Field(3), Field(cuts=CUTS), Field(2), Field(gate=2, cuts=CUTS))), ((2, 4), (5, 9), (10, 12)))
SIGNAL = SeriesLayout(Layout((Field(1), Field(2))), Layout((Field(cuts=CUTS),)), ((30, 30),))
WORDS = SeriesLayout(Layout((Field(2),)), Layout((Field(4), Field(2))), ((3, 3), (6, 8)))


def of(columns: dict, kinds: dict, subject: str = "who", time: str = "when", static: tuple = (), target: str | None = None) -> Table:
    """columns: name -> values, in order of subject and time; kinds: name -> kind of those that are not numeric."""
    values = pa.table(columns)
    described = tuple(Column(n, kinds.get(n, "id" if n == subject else "numeric")) for n in values.column_names)
    return Table.of(values, Schema(values.schema, described, subject, target, time, static))


def visits(people: int = 200, seed: int = 0) -> Table:
    """Patients with one to nine visits at times of their own; the sick ones come oftener, and their marker rises."""
    rng = np.random.default_rng(seed)
    sick = rng.random(people) < 0.4
    lengths = 1 + rng.binomial(8, np.where(sick, 0.7, 0.4))
    who, first = np.repeat(np.arange(people), lengths), np.cumsum(lengths) - lengths
    gaps = np.round(rng.gamma(4, np.where(sick, 0.1, 0.25)[who]) + 0.01, 3)
    gaps[first] = 0
    total = np.cumsum(gaps)
    when = np.round(total - total[first][who], 3)
    level = rng.normal(size=people)[who]
    marker = np.round(level + 0.8 * when * sick[who] + rng.normal(0, 0.3, len(who)), 2)
    gone = rng.random(len(who)) < 0.15
    data = of(
        {
            "who": who, "when": when, "sick": sick[who], "age": np.round(rng.normal(50, 10, people))[who].astype(int),
            "marker": pa.array(marker, mask=gone), "stage": np.where(marker > 1, "late", "early"),
        },
        {"sick": "boolean", "stage": "category"}, static=("sick", "age"), target="sick",
    )  # fmt: skip
    return data


def signals(people: int = 120, steps: int = 40, seed: int = 0) -> Table:
    """Smooth waves of two classes, each series with mean 0 and spread 1."""
    rng = np.random.default_rng(seed)
    label, phase = rng.integers(0, 2, people), rng.uniform(0, 1.5, people)
    t = np.arange(steps) / steps
    x = np.sin(2 * np.pi * (1 + label[:, None]) * t + phase[:, None]) + rng.normal(0, 0.05, (people, steps))
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    columns = {"who": np.repeat(np.arange(people), steps), "label": np.repeat(label, steps), "when": np.tile(np.arange(steps), people), "x": x.reshape(-1)}
    return of(columns, {"label": "category"}, static=("label",), target="label")


def sequences(layout: SeriesLayout, n: int = 300, seed: int = 0) -> Sequences:
    """Series of a layout in which a hidden group, which what stays tells of, decides what the steps are like."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 2, n)
    spans = np.array(layout.spans)
    held = rng.integers(0, len(spans), n)
    lengths = rng.integers(spans[held, 0], spans[held, 1] + 1)
    static = np.column_stack([held, *(np.where(rng.random(n) < 0.9, group, rng.integers(0, f.classes, n)) % f.classes for f in layout.static.fields[1:])])
    whose = np.repeat(np.arange(n), lengths)
    level = np.zeros(len(whose))
    for i in range(len(whose)):
        same = i and whose[i] == whose[i - 1]
        level[i] = 0.8 * level[i - 1] + rng.normal(0, 0.6) if same else rng.normal()
    columns = []
    for f in layout.step.fields:
        if f.classes:
            columns.append(np.where(rng.random(len(whose)) < 0.7, group[whose], rng.integers(0, f.classes, len(whose))) % f.classes)
        else:
            columns.append(np.clip(0.7 * level + 0.5 * (2 * group[whose] - 1) + 0.1 * rng.normal(size=len(whose)), -3, 3))
    x = np.column_stack(columns)
    for i, f in enumerate(layout.step.fields):
        if f.gate is not None:
            x[:, i] *= x[:, f.gate] == 0
    return Sequences(torch.from_numpy(static).float(), torch.from_numpy(lengths), torch.from_numpy(x).float())


def without_target(data: Table) -> Table:
    return replace(data, schema=replace(data.schema, target=None))
