"""Can somebody who knows the rest of a person's row learn a secret column from the synthetic table?

For each secret column the attacker finds the synthetic row that is nearest in all other columns and takes its secret.
He is right where the category is the same, or the number is within 0.05 quantiles of the training table.
Members are training subjects, the control is holdout subjects: what he gets right about strangers is statistics.
value = the larger of: the residual risk (attack - control) / (1 - control) of all secrets pooled; and the residual risk
of a single secret that is certain (its lower limit at 99.5 %, of the target, and of all others together, Bonferroni). 0 =
nothing learned.
"A unified framework for quantifying privacy risk in synthetic data" (Anonymeter), Giomi, Boenisch, Wehmeyer and
Tasnádi, 2023, https://arxiv.org/abs/2211.10459
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from generators.data import Table
from privacy.nearness import nearest
from privacy.rates import residual, residual_interval, wilson
from validation.features import Features
from validation.resampling import count, interval, looked_at, sample, split, too_few, weights
from validation.score import Score

SECRETS, MOST, WITHIN, POWER, DRAWS = 32, 1_500, 0.05, 0.9, 200
NO_POWER = (
    "the attack does not find secrets in a verbatim copy: the columns do not single anybody out; "
    "where that is meant to be so, lift the gate (privacy.attribute: null)"
)
CERTAIN = 0.005  # the risk of the target, or of another single secret, counts if it is there with this error at most


def secrets(train: Table, features: Features, rng: np.random.Generator) -> list[str]:
    """The target first, then learned columns at random, SECRETS at most; a column of one value is no secret, nor is what
    an image shows, its label."""
    names = [n for n in (*features.numeric, *features.category) if len(features.knots.get(n, ())) > 1 or len(features.vocabulary.get(n, ())) > 1]
    if any(c.options.get("seen") for c in train.schema.columns):
        names = [n for n in names if n != train.schema.target and not train.schema[n].options.get("seen")]
    order = [names[i] for i in rng.permutation(len(names))]
    return sorted(order, key=lambda n: n != train.schema.target)[:SECRETS]


def answer(table: Table, features: Features, name: str) -> np.ndarray:
    """(rows,) what is to be guessed: a training quantile, or a code; NaN where it is unknown or rare."""
    if name in features.numeric:
        return features.rank(table, name)
    codes = features.codes(table, name).astype(float)
    return np.where(codes < 2, np.nan, codes)


def right(people: Table, source: Table, features: Features, name: str) -> np.ndarray:
    """(rows,) 1 where the nearest source row gives the secret away, 0 where not, NaN where there is no secret."""
    at = nearest(features.space(people, name), features.space(source, name), digits=np.float32)[1][:, 0]
    truth, guess = answer(people, features, name), answer(source, features, name)[at]
    hit = np.abs(truth - guess) <= (WITHIN if name in features.numeric else 0)
    return np.where(np.isnan(truth), np.nan, hit)


def rate(hits: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The share of right guesses among those with a secret."""
    known = ~np.isnan(hits)
    w = known if weight is None else known * weight
    return float((np.nan_to_num(hits) * w).sum() / max(1e-9, w.sum()))


def pooled(attack: list[np.ndarray], control: list[np.ndarray], a=None, b=None) -> float:
    """sum (attack - control) / sum (1 - control) over the secrets; `a`, `b` are row weights."""
    rates = np.array([(rate(x, a), rate(y, b)) for x, y in zip(attack, control, strict=True)])
    return float((rates[:, 0] - rates[:, 1]).sum() / max(1e-9, (1 - rates[:, 1]).sum()))


def effective(hits: np.ndarray, subjects: np.ndarray) -> tuple[float, float]:
    """(hits, trials) as if every subject were one trial: rows of one person are not independent."""
    people = len(np.unique(subjects[~np.isnan(hits)]))
    return rate(hits) * people, people


def attribute(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """The residual risk of attribute inference; interval by bootstrap over members and controls.

    Yardstick: one half of the holdout in place of the synthetic table, the other as the control.
    Power: against a verbatim copy of the training table the attack must be right about nine in ten members.
    """
    rng = np.random.default_rng(seed)
    few = too_few(train, holdout, synthetic)
    features = Features.of(train, rare_below)
    names = secrets(train, features, rng)
    few = few or (None if len(names) and len(features.numeric) + len(features.category) > 1 else "no column can be a secret beside another")
    if few:
        return Score("privacy.attribute", 0.0, -1.0, 1.0, 0.0, "low", few, {})
    there = {"synthetic": len(synthetic), "members": count(train), "strangers": count(holdout)}
    train, synthetic, holdout = (sample(t, features.rows, rng) for t in (train, synthetic, holdout))
    members, strangers = sample(train, MOST, rng), sample(holdout, MOST, rng)
    looked = {"synthetic": len(synthetic), "members": count(members), "strangers": count(strangers)}
    attack, control = ([right(t, synthetic, features, n) for n in names] for t in (members, strangers))
    value = pooled(attack, control)
    draws = zip(weights(members.subjects, DRAWS, rng), weights(strangers.subjects, DRAWS, rng), strict=True)
    low, high = interval(value, [pooled(attack, control, a, b) for a, b in draws], -1, 1)
    others = max(sum(n != train.schema.target for n in names), 1)
    columns, certain = {}, []
    for name, hits, base in zip(names, attack, control, strict=True):
        a, c = effective(hits, members.subjects), effective(base, strangers.subjects)
        z = NormalDist().inv_cdf(1 - CERTAIN / (1 if name == train.schema.target else others))
        certain.append(residual_interval(a, c, z)[0])
        columns[name] = {
            "attack": {"value": rate(hits), "interval": list(wilson(*a))},
            "control": {"value": rate(base), "interval": list(wilson(*c))},
            "residual": {"value": residual(rate(hits), rate(base)), "interval": list(residual_interval(a, c))},
        }
    fresh, rest = split(holdout, 2, rng)
    yardstick = pooled([right(members, fresh, features, n) for n in names], [right(sample(rest, MOST, rng), fresh, features, n) for n in names])
    few_members = sample(members, MOST // 6, rng)
    copied = rate(np.concatenate([right(few_members, train, features, n) for n in names]))
    power = None if copied > POWER else NO_POWER
    worst = max([value, *certain])
    details = {
        "members": len(members),
        "control": len(strangers),
        "pooled": value,
        "copy_rate": copied,
        "secrets": columns,
        "looked_at": looked_at(looked, there),
    }
    return Score("privacy.attribute", worst, min(worst, low), max(worst, high), yardstick, "low", power, details)
