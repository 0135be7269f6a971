"""Membership: what all attacks together find of a copy, of nothing, and of a network that learned two hundred people by heart."""

from dataclasses import replace

import numpy as np
import planted
import pyarrow as pa
import pytest
import torch
from tables import rng

from generators.encoding.table import TableEncoder
from generators.registry import FAMILIES
from generators.synthesizer import Synthesizer
from pipelines.gates import DEFAULTS, FAIL, judged
from privacy import JUDGES
from privacy.membership import NAMES
from validation.resampling import split

METRIC = "privacy.membership"


@pytest.mark.parametrize("size", [300, 2000])
def test_a_copy_is_found_by_all_together(size):
    """The positive control, of a table like its own release and of the one that the judge makes for itself."""
    train, holdout = planted.patients(size, 0), planted.patients(max(size // 2, 200), 1)
    found = JUDGES[METRIC](train, holdout, train).details["attacks"]
    assert list(found) == list(NAMES) and len(NAMES) == 9
    assert found["ensemble"]["all"]["auc"] > 0.95 and found["ensemble"]["control_auc"] > 0.95
    assert found["ensemble"]["tpr_at_1_fpr"]["value"] > 0.5


def test_rates_of_one_in_a_thousand_are_told_where_there_are_strangers_enough():
    """Rows that are no one's own leave room for others: a quarter of all are the same."""
    train, holdout = (planted.patients(size, 1) for size in (3000, 3200))
    same = lambda t: planted.Table.of(t.values.take(np.where(np.arange(len(t)) % 4, np.arange(len(t)), 0)), replace(t.schema, subject=None))  # noqa: E731
    train, holdout = same(train), same(holdout)
    for made, least in ((train, 0.5), (same(planted.patients(2000, 2)), 0)):
        found = JUDGES[METRIC](train, holdout, made).details
        assert found["candidates"]["strangers"] > 1900 and found["ran"] == len(found["attacks"]) == 9
        assert all(one["tpr_at_01_fpr"]["value"] >= 0 for one in found["attacks"].values())
        assert found["attacks"]["ensemble"]["tpr_at_01_fpr"]["value"] >= least


def test_who_learned_from_strangers_finds_no_member():
    """The negative control: a model of one half of those held out knows nobody who is in the training table, nor of the other half."""
    outside = 0
    for seed in range(5):
        train, holdout = (planted.patients(1500, 10 + 2 * seed + i) for i in range(2))
        learned, strangers = split(holdout, 2, np.random.default_rng(seed))
        made = Synthesizer("gmm", seed=seed).fit(learned).sample(1500)
        of = JUDGES[METRIC](train, strangers, made).details["attacks"]["ensemble"]["all"]
        assert 0.44 < of["auc"] < 0.56
        outside += not of["interval"][0] <= 0.5 <= of["interval"][1]
    assert outside <= 1  # of five intervals of 95 %: two would come once in fifty


def with_noise(made: planted.Table, part: float, seed: int) -> planted.Table:
    """Every number moved by normal noise of this part of its column's spread; whole numbers stay whole."""
    stream, moved = np.random.default_rng(seed), {}
    for name in made.schema.kinds("numeric"):
        values, kind = made.values.column(name).to_numpy(zero_copy_only=False).astype(float), made.schema.arrow.field(name).type
        noisy = values + part * np.nanstd(values) * stream.normal(size=len(values))
        moved[name] = pa.array(np.rint(noisy) if pa.types.is_integer(kind) else noisy, from_pandas=True)
    return planted.put(made, **moved)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", ["autoregressive", "vae"])
def test_what_was_learned_by_heart_is_blocked_behind_noise(family):
    """200 people, thousands of epochs, and the training rows themselves in place of held-out ones, so that nothing stops it; then 1 % of noise."""
    train, holdout = planted.patients(200, 0), planted.patients(400, 1)
    encoder = TableEncoder(1).fit(train, rng=rng())
    x = encoder.encode(train, rng=rng(1))
    model = FAMILIES[family](encoder.layout, passes=2000, patience=2000, decay=0.0, batch=50).fit(x, x, rng=rng(2))
    with torch.no_grad():
        made = with_noise(encoder.decode(model.sample(400, rng=rng(3)), rng=rng(4)), 0.01, 5)
    found = JUDGES[METRIC](train, holdout, made)
    assert judged(METRIC, DEFAULTS[METRIC], found).verdict == FAIL
    assert found.low > 3 * DEFAULTS[METRIC]["max"]
