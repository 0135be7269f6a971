"""Shadow models: the generator itself learns again and again, with some people and without them, and what it makes tells which.

Targets are training subjects, half of them those farthest from everybody else. Each is in half of the shadow models' training data, by a coin of its
own; all others always are. Every attack of membership.py says of each target and each shadow's synthetic table how much the target seems to be in it,
and `queries` does as well. A target's figures are taken relative to what it gets from all other shadows, which it gets anyhow for being who it is; a
linear discriminant that learned from those shadows puts attacks together. So an attacker is measured who knows the generator, all
other people, and what it makes of them again and again: nobody knows more, save who has the model.

Two controls: what the same attacks find of verbatim copies of what the shadows learned from (they should find all), and what they find where a coin
that nobody acted on says who was there (nothing).

"Membership inference attacks from first principles", Carlini, Chien, Nasr, Song, Terzis and Tramer, 2022, https://arxiv.org/abs/2112.03570
"TAPAS: a toolbox for adversarial privacy auditing of synthetic data", Houssiau, Jordon, Cohen and others, 2022, https://arxiv.org/abs/2211.06550
"On the importance of difficulty calibration in membership inference attacks", Watson, Guo, Cormode and Sablayrolles, 2022, https://arxiv.org/abs/2111.08440
"Achilles' Heels: vulnerable record identification in synthetic data publishing", Meeus, Guepin, Cretu and de Montjoye, 2023, https://arxiv.org/abs/2306.10308
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from generators.data import Table
from privacy.membership import mean_by
from privacy.membership_attacks import ATTACKS, NEIGHBOURS, look
from privacy.membership_learned import LEARNED, View
from privacy.nearness import nearest
from validation.features import Features
from validation.pictures import look as look_at
from validation.resampling import auc, count, interval
from validation.summary import Summary

FEWEST = 8  # shadows: each target is in half of them
QUERIES, TOGETHER = 200, 4  # sets of columns whose values are counted, and columns of a set, at most
DRAWS = 300
ALARMS = 0.01  # rate of false alarms at which targets are counted that are found
NAMES, ALL = (*ATTACKS, *LEARNED, "queries"), "together"
COMPARED = 20_000  # rows that each is compared with, at most, to see who is far from everybody


def queries(x: View, synthetic: View, rng: np.random.Generator) -> np.ndarray:
    """sum over sets of columns of log(rows that hold what the target holds in all of them): what a generator counts, whatever it counts. "TAPAS", as above."""
    columns, total = x.levels.shape[1], np.zeros(len(x.levels))
    for _ in range(QUERIES):
        of = rng.choice(columns, rng.integers(1, min(TOGETHER, columns) + 1), replace=False)
        keys, at = np.unique(np.concatenate([synthetic.levels[:, of], x.levels[:, of]]), axis=0, return_inverse=True)
        held = np.bincount(at.reshape(-1)[: len(synthetic.levels)], minlength=len(keys))
        total += np.log(held[at.reshape(-1)[len(synthetic.levels) :]] + 0.5)
    return total


def chosen(train: Table, targets: int, rng: np.random.Generator, rare_below: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the subjects of `train` to look for, sorted, and which of them are far from everybody else: half of them, the others are any."""
    see, features = _eyes(train, train, rare_below)
    rows = see(train)
    space, subjects = features.space(rows), rows.subjects if len(rows) == len(train) else np.arange(len(rows))
    some = rng.permutation(len(space))[:COMPARED]
    alone = mean_by(subjects, nearest(space, space[some], 2)[0][:, -1], np.ones(len(subjects), bool))
    far = np.argsort(-alone, kind="stable")[: targets // 2]
    others = rng.choice(np.setdiff1d(np.arange(len(alone)), far), targets - len(far), replace=False)
    whom = np.sort(np.concatenate([far, others]))
    return whom, np.isin(whom, far)


def _eyes(train: Table, synthetic: Table, rare_below: int) -> tuple[Callable[[Table], Table], Features]:
    """How attackers see tables, rows for each subject of series or images, and how they compare rows."""
    if not (train.schema.time or train.schema.image):
        return lambda table: table, Features.of(train, rare_below)
    see = Summary.of(train) if train.schema.time else look_at(synthetic, 0)
    return see.table, Features.of(see.table(train), rare_below)


def told(train: Table, reference: Table, targets: Table, synthetic: Table, rare_below: int) -> np.ndarray:
    """(targets, attacks): what each attack says of each target subject, from one synthetic table."""
    see, features = _eyes(train, synthetic, rare_below)
    x, known, made = (View.of(see(table), features) for table in (targets, reference, synthetic))
    whose = targets.subjects if len(x.space) == len(targets) else np.arange(len(x.space))
    near = nearest(x.space, known.space, NEIGHBOURS)
    width = float(max(np.quantile(near[0][:, 0], 0.02), 1e-6))
    seen = look(x.space, near, made.space, known.space, width)
    each = [f(seen) for f in ATTACKS.values()] + [f(x, made, known) for f in LEARNED.values()] + [queries(x, made, np.random.default_rng(0))]
    return np.stack([mean_by(whose, values, np.ones(len(values), bool)) for values in each], 1)


def shadows(
    train: Table, reference: Table, make: Callable[[Table, int], Table], count_of: int, targets: int, *, seed: int = 0, rare_below: int = 10,
    done: Callable[[int], None] = lambda i: None,
) -> dict:  # fmt: skip
    """{attacks: {name: {auc, interval, tpr_at_1_fpr, of_a_copy}}, exposed, nobody: {auc, interval, tpr_at_1_fpr} of all together, shadows, targets}

    make: (rows to learn from, number of the shadow) -> synthetic table; reference: real rows that nothing learns from; done: called after each shadow.
    Raises ValueError for fewer than FEWEST shadows, or more targets than half the subjects."""
    if count_of < FEWEST or not 2 <= targets <= count(train) // 2:
        raise ValueError(f"found {count_of} shadows and {targets} targets of {count(train)} subjects, expected {FEWEST} or more, and at most half of them")
    rng = np.random.default_rng(seed)
    whom, far = chosen(train, targets, rng, rare_below)
    there, coin = (np.array([rng.permutation(np.arange(count_of) % 2 == 0) for _ in whom]).T for _ in range(2))  # (shadows, targets)
    place = np.full(count(train), -1)
    place[whom] = np.arange(targets)
    mine = place[train.subjects]  # which target's row it is, -1 of nobody's
    people, looked, copies = train.take(mine >= 0), [], []
    for i, inside in enumerate(there):
        kept = train.take((mine < 0) | inside[mine])
        looked.append(told(train, reference, people, make(kept, i), rare_below))
        copies.append(told(train, reference, people, kept, rare_below))
        done(i)
    found, copied = (_each(np.stack(v), there) for v in (looked, copies))
    attacks = {name: _figures(scores, there, rng) | {"of_a_copy": _figures(copied[name], there, rng)["auc"]} for name, scores in found.items()}
    apart = _figures(found[ALL][:, far], there[:, far], rng)
    return {"shadows": count_of, "targets": targets, "attacks": attacks, "exposed": apart, "nobody": _figures(_each(np.stack(looked), coin)[ALL], coin, rng)}


def _each(scores: np.ndarray, there: np.ndarray) -> dict[str, np.ndarray]:
    """(shadows, targets, attacks) -> for each attack, and all together, (shadows, targets): what is said of a shadow by who knows all others."""
    out = np.zeros((*there.shape, len(NAMES) + 1))
    for k in range(len(scores)):
        others = np.arange(len(scores)) != k
        middle, spread = scores[others].mean(0), scores[others].std(0)
        relative = (scores - middle) / np.where(spread > 1e-9, spread, 1.0)
        out[k, :, :-1] = relative[k]
        flat = relative[others].reshape(-1, len(NAMES))
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5]).fit(flat, there[others].reshape(-1))
        out[k, :, -1] = model.decision_function(relative[k])
    return {name: out[:, :, i] for i, name in enumerate((*NAMES, ALL))}


def _figures(scores: np.ndarray, there: np.ndarray, rng: np.random.Generator) -> dict:
    """The area under the ROC curve with an interval, by bootstrapped shadows and targets; and the share of targets found at few false alarms."""
    area, (k, t) = auc(scores.reshape(-1), there.reshape(-1)), there.shape
    drawn = []
    for _ in range(DRAWS):
        often = [np.bincount(rng.integers(n, size=n), minlength=n).astype(float) for n in (k, t)]
        drawn.append(area(np.outer(*often).reshape(-1)))
    bar = np.quantile(scores[~there], 1 - ALARMS, method="higher")
    return {"auc": area(), "interval": list(interval(area(), drawn, 0, 1)), "tpr_at_1_fpr": float((scores[there] > bar).mean())}
