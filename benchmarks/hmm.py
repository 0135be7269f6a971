"""`hmm` beside hmmlearn: `python benchmarks/hmm.py` prints the log likelihood after each EM iteration of both, and the seconds of one.

1,000 series of 200 steps, 6 numbers, drawn from a hidden Markov model of 16 states; full covariances; both start from the same
parameters and smooth nothing. One thread each; the median of the iterations.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from generators.layout import Field, Layout, Sequences, SeriesLayout
from generators.series.chains import Chain, Shared

SERIES, STEPS, NUMBERS, STATES, ITERATIONS = 1000, 200, 6, 16, 8


def series(rng: np.random.Generator) -> np.ndarray:
    """(series, steps, numbers)."""
    move = rng.dirichlet(np.full(STATES, 0.3), STATES) * 0.5 + np.eye(STATES) * 0.5
    mean, root = rng.normal(0, 1.5, (STATES, NUMBERS)), rng.normal(0, 0.5, (STATES, NUMBERS, NUMBERS))
    state, out = rng.integers(0, STATES, SERIES), np.empty((SERIES, STEPS, NUMBERS))
    for t in range(STEPS):
        out[:, t] = mean[state] + np.einsum("nij,nj->ni", root[state], rng.normal(size=(SERIES, NUMBERS))) + 0.2 * rng.normal(size=(SERIES, NUMBERS))
        state = (move[state].cumsum(1) > rng.random((SERIES, 1))).argmax(1)
    return out


def ours(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray, start: np.ndarray, move: np.ndarray) -> tuple[list[float], list[float]]:
    """(log likelihood before each iteration, seconds of each)."""
    layout = SeriesLayout(Layout((Field(1),)), Layout((Field(),) * NUMBERS), ((STEPS, STEPS),))
    data = Sequences(torch.zeros(SERIES, 1), torch.full((SERIES,), STEPS), torch.from_numpy(x).float().reshape(-1, NUMBERS))
    shared = Shared(layout, data, data[torch.arange(50)], numbers="gaussian", bins=None, join=0.06, passes=1, seed=0)
    chain = Chain(shared, 1, STATES, "what hmmlearn starts from")
    (leaf,) = chain.emissions
    chain.loose, chain.start_p, chain.step_p = 0.0, torch.from_numpy(start).float()[None], torch.from_numpy(move).float()[None]
    leaf.strength.zero_()
    leaf._set(torch.from_numpy(mean).double(), torch.linalg.cholesky(torch.from_numpy(covariance).double()))
    likely, seconds = [], []
    for _ in range(ITERATIONS):
        begin = time.perf_counter()
        sums, total = None, 0.0
        for part in shared.parts:
            found = chain.beliefs(part)
            new, total = chain._gathered(part, found.state, found.moves), total + float(found.log_p.double().sum())
            sums = new if sums is None else [a + b for a, b in zip(sums, new, strict=True)]
        chain.total = sums
        chain._update()
        seconds.append(time.perf_counter() - begin)
        likely.append(total)
    return likely, seconds


def theirs(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray, start: np.ndarray, move: np.ndarray) -> tuple[list[float], list[float]]:
    from hmmlearn.hmm import GaussianHMM

    model = GaussianHMM(STATES, covariance_type="full", min_covar=0.0, covars_prior=0.0, init_params="", n_iter=1, tol=-np.inf)
    model.startprob_, model.transmat_, model.means_, model.covars_ = start, move, mean, covariance
    rows, lengths, likely, seconds = x.reshape(-1, NUMBERS), [STEPS] * SERIES, [], []
    for _ in range(ITERATIONS):
        begin = time.perf_counter()
        model.fit(rows, lengths)
        seconds.append(time.perf_counter() - begin)
        likely.append(model.monitor_.history[-1])
    return likely, seconds


def main() -> None:
    try:
        import hmmlearn
    except ImportError:
        sys.exit("hmmlearn is not installed; pip install hmmlearn")
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = series(rng).astype(np.float32).astype(np.float64)
    mean = x.reshape(-1, NUMBERS)[rng.choice(SERIES * STEPS, STATES, replace=False)]
    covariance = np.repeat(np.cov(x.reshape(-1, NUMBERS).T)[None], STATES, 0)
    begin = np.full(STATES, 1 / STATES), rng.dirichlet(np.full(STATES, 5.0), STATES)
    (a, fast), (b, slow) = (run(x, mean, covariance, *begin) for run in (ours, theirs))
    print("| iteration | hmm, nats a step | hmmlearn, nats a step | difference |\n|---|---|---|---|")
    for i, (p, q) in enumerate(zip(a, b, strict=True)):
        print(f"| {i + 1} | {p / (SERIES * STEPS):.6f} | {q / (SERIES * STEPS):.6f} | {abs(p - q) / abs(q):.1e} of the log likelihood |")
    one, other = statistics.median(fast), statistics.median(slow)
    print(f"\nhmm {one:.3f} s an iteration, hmmlearn {hmmlearn.__version__} {other:.3f} s: {other / one:.1f} times as fast")


if __name__ == "__main__":
    main()
