"""Fitting: EM never lowers the likelihood, finds what is there, memorises nobody, and is the same everywhere."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mixtures import CATEGORIES, SOME_CUTS, em_step, mixture
from tables import rng

from generators.gmm import GMM
from generators.layout import Field, Layout
from generators.leaves import Gaussian, Tables

ROOT = Path(__file__).parents[1]


# EM


@pytest.mark.parametrize("kind", ["tables", "blocks", "gaussian", "both"])
def test_em_never_lowers_the_likelihood(kind):
    layout = Layout((Field(2), Field(3), Field(cuts=SOME_CUTS), Field(cuts=SOME_CUTS)))
    stream = np.random.default_rng(0)
    group = stream.integers(0, 3, 5000)
    x = np.stack(
        [stream.random(5000) < 0.3 + 0.2 * group, (group + stream.integers(0, 2, 5000)) % 3, stream.normal(group - 1, 0.5), stream.normal(1 - group, 0.7)], 1
    )
    x = torch.from_numpy(x.astype(np.float32))
    blocks = {"tables": [[0], [1], [2], [3]], "blocks": [[0, 2], [1, 3]], "gaussian": None, "both": [[0], [1]]}[kind]
    model = mixture(layout, [0.25] * 4, blocks, {"gaussian": [2, 3], "both": [2, 3]}.get(kind))
    for leaf in model.leaves:
        if isinstance(leaf, Tables):
            leaf.margins = torch.full((leaf.codes.size,), 0.1)
    history = [float(model.log_prob(x).mean())]
    for _ in range(25):
        model.log_pi = em_step(model.leaves, model.log_pi, x)
        history.append(float(model.log_prob(x).mean()))
    assert history[-1] > history[0] + 0.1
    assert (np.diff(history) > -1e-5).all()


def test_incremental_em_reaches_what_batch_em_does():
    """Its sums stay those of all rows: a fit with the strengths found is a fixed point of one more step over everything."""
    layout = Layout((Field(4), Field(3), Field(3)))
    stream = np.random.default_rng(1)
    group = stream.integers(0, 2, 4000)
    x = torch.from_numpy(
        np.stack(
            [(group * 2 + stream.integers(0, 2, 4000)) % 4, (group + (stream.random(4000) < 0.3)) % 3, (group + (stream.random(4000) < 0.2)) % 3], 1
        ).astype(np.float32)
    )
    truth = mixture(layout, [0.5, 0.5], [[0], [1], [2]], seed=4)
    truth.leaves[0].margins = torch.full((10,), 0.1)
    for _ in range(300):
        truth.log_pi = em_step(truth.leaves, truth.log_pi, x[:3600])
    fitted = GMM(layout, components=6, join=9.0, passes=40).fit(x[:3600], x[3600:], rng=rng())
    assert float(fitted.log_prob(x).mean()) > float(truth.log_prob(x).mean()) - 0.02


# Draws


def test_shares_are_as_exact_as_the_number_of_rows_allows():
    """Three components, each with a class of its own: within one row of n pi. One component: within one row of n theta."""
    for pi in ([0.5, 0.3, 0.2], [0.998, 0.001, 0.001]):
        model = mixture(Layout((Field(3),)), pi, [[0]])
        model.leaves[0].log_theta[:3] = torch.eye(3).clamp_min(1e-37).log()
        for n in (10, 777, 5000):
            counts = torch.bincount(model.sample(n, rng=rng(n))[:, 0].long(), minlength=3)
            assert (counts - n * torch.tensor(pi)).abs().max() <= 1 + 1e-3
    single = mixture(Layout((Field(7),)), [1.0], [[0]])
    counts = torch.bincount(single.sample(1000, rng=rng())[:, 0].long(), minlength=7)
    assert (counts - 1000 * single.leaves[0].log_theta[:7, 0].exp()).abs().max() <= 1 + 1e-3


def test_rows_are_in_no_order():
    """Systematic draws are sorted by component inside; what comes out is not."""
    model = mixture(Layout((Field(2), Field(2))), [0.5, 0.5], [[0], [1]])
    model.leaves[0].log_theta[:2] = torch.eye(2).clamp_min(1e-37).log()
    x = model.sample(4000, rng=rng())[:, 0]
    assert abs(float((x[1:] == x[:-1]).float().mean()) - 0.5) < 0.04
    assert abs(float(x[:2000].mean()) - 0.5) < 0.05


def test_a_known_mixture_is_recovered():
    """Held-out rows are as likely under what was learned from 6,000 rows as under the truth, to a twentieth of a nat."""
    layout = Layout((Field(3), Field(2), Field(), Field()))
    truth = mixture(layout, [0.5, 0.3, 0.2], [[0], [1]], gaussian=[2, 3], seed=8)
    x, fresh = truth.sample(6000, rng=rng(1)), truth.sample(4000, rng=rng(2))
    scale = x[:, 2:].std(0)
    x[:, 2:] /= scale
    fresh[:, 2:] /= scale
    model = GMM(layout, numbers="gaussian").fit(x[:5400], x[5400:], rng=rng())
    before = fresh.clone()
    before[:, 2:] *= scale
    exact = float(truth.log_prob(before).mean() + scale.log().sum())
    assert float(model.log_prob(fresh).mean()) == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("numbers", ["binned", "gaussian"])
def test_as_many_components_as_rows_do_not_memorise(numbers):
    """Strengths chosen on held-out rows keep the fit from its own rows; a kernel at each row is far off on fresh ones."""
    cuts = tuple(torch.special.ndtri(torch.arange(1, 100) / 100).tolist())
    layout, x, fresh = Layout((Field(cuts=cuts),) * 5), torch.randn(800, 5, generator=rng(1)), torch.randn(2000, 5, generator=rng(2))
    model = GMM(layout, components=800, numbers=numbers).fit(x[:640], x[640:], rng=rng())
    gap = float(model.log_prob(x).mean() - model.log_prob(fresh).mean())
    naive = torch.distributions.Normal(0, 0.15)
    kernel = [float((naive.log_prob(rows[:, None] - x).sum(2).logsumexp(1) - math.log(800)).mean()) for rows in (x, fresh)]
    assert kernel[0] - kernel[1] > 5
    assert gap < 0.6
    near = torch.cdist(model.sample(2000, rng=rng()), x).min(1).values.median() / torch.cdist(fresh, x).min(1).values.median()
    assert near > 0.95


def test_columns_that_are_copies_of_each_other():
    """Twenty of twelve classes: one number for each combination of all would not fit into 64 bits, so there are two blocks."""
    stream = np.random.default_rng(0)
    x = torch.from_numpy(stream.integers(0, 12, 2000).astype(np.float32))[:, None].repeat(1, 20)
    model = GMM(Layout((Field(12),) * 20), passes=3).fit(x[:1800], x[1800:], rng=rng())
    drawn = model.sample(500, rng=rng())
    assert len(model.leaves[0].codes.blocks) == 2
    assert max(len(set(row.tolist())) for row in drawn) <= 2


SCRIPT = """
import hashlib, sys, torch
sys.path.insert(0, "tests")
from tables import patients
from generators.synthesizer import Synthesizer
torch.set_num_threads(int(sys.argv[1]))
out = hashlib.sha256()
for numbers in ("binned", "gaussian"):
    model = Synthesizer("gmm", numbers=numbers, seed=3).fit(patients(500))
    for value in model.generator.state_dict().values():
        out.update(value.contiguous().numpy().tobytes())
    for column in model.sample(3000, balance="ward").values.columns:
        out.update(str(column.to_pylist()).encode())
print(out.hexdigest())
"""


def test_same_bytes_in_any_process_on_any_number_of_threads():
    runs = [subprocess.Popen([sys.executable, "-c", SCRIPT, n], cwd=ROOT, stdout=subprocess.PIPE, text=True) for n in "12"]
    first, second = (run.communicate()[0] for run in runs)
    assert len(first.strip()) == hashlib.sha256().digest_size * 2
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"numbers": "bined"}, "found 'bined', expected auto, binned or gaussian"),
        ({"components": 0}, "components: found 0, expected a whole number"),
        ({"components": -3}, "components: found -3"),
        ({"bins": 2.5}, "bins: found 2.5"),
        ({"passes": 0}, "passes: found 0"),
        ({"passes": 10**9}, "passes: found 1000000000"),
        ({"join": -1}, "join: found -1, expected a number from 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GMM(CATEGORIES, **arguments)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("numbers", ["auto", "binned", "gaussian"])
def test_few_rows(n, numbers):
    layout = Layout((Field(2), Field(cuts=SOME_CUTS), Field(cuts=SOME_CUTS)))
    x = torch.randn(n, 3, generator=rng())
    x[:, 0] = torch.arange(n) % 2
    model = GMM(layout, numbers=numbers).fit(x[: n - 1], x[n - 1 :], rng=rng())
    assert torch.isfinite(model.sample(20, rng=rng())).all()
    assert torch.isfinite(model.log_prob(x)).all()
    assert isinstance(model.leaves[-1], Gaussian | Tables)
