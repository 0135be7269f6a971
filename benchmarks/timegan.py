"""TimeGAN's scores on its stocks: `python benchmarks/timegan.py [--only gmm autoregressive] [--repeat 3]`.

Needs LIKENESS_DATA, a folder with stocks.csv. The protocol and the definitions are those that papers compare by, their weakness included:
windows of 24 days, one starting every day, scaled to [0, 1]; a generator learns from all of them and draws as many.

    discriminative  |accuracy - 0.5| of a recurrent network with 3 hidden units that learned in 2,000 steps to tell four fifths of the
                    windows from four fifths of the synthetic ones, on the last fifth
    predictive      mean absolute error, on real windows, of a like network that learned in 5,000 steps from synthetic ones to
                    say the last column of the next day from the others of this day

At 24 days the first is saturated: copies and a plain mixture score as low as anything, and below 0.015 all is a tie. So there are controls
in the table: real windows themselves, windows with 2 % of noise, pieces of other windows put together (block bootstrap), a mixture of 8
Gaussians over whole windows, and the first half of the years against the second.

Time-series generative adversarial networks; J. Yoon, D. Jarrett, M. van der Schaar; 2019; https://papers.nips.cc/paper/2019/hash/c9efe5f26cd17ba6216bbe2a7d26d490-Abstract.html
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from generators.data import Table
from generators.registry import OF_SERIES
from generators.synthesizer import Synthesizer
from generators.threads import single_thread
from pipelines import sources
from pipelines.config import Source

WINDOW, BATCH, BLOCK = 24, 128, 6


class Cell(nn.Module):
    """The gated recurrent unit as the published scores run it: gates open at first, the reset gate before the product."""

    def __init__(self, inside: int, hidden: int):
        super().__init__()
        self.hidden, self.gates, self.candidate = hidden, nn.Linear(inside + hidden, 2 * hidden), nn.Linear(inside + hidden, hidden)
        for layer, bias in ((self.gates, 1.0), (self.candidate, 0.0)):
            nn.init.xavier_uniform_(layer.weight), nn.init.constant_(layer.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (n, steps, inside) -> states (n, steps, hidden)."""
        h, out = x.new_zeros(len(x), self.hidden), []
        for step in x.unbind(1):
            reset, keep = torch.sigmoid(self.gates(torch.cat([step, h], 1))).chunk(2, 1)
            h = keep * h + (1 - keep) * torch.tanh(self.candidate(torch.cat([step, reset * h], 1)))
            out.append(h)
        return torch.stack(out, 1)


class Net(nn.Module):
    def __init__(self, inside: int, hidden: int):
        super().__init__()
        self.cell, self.out = Cell(inside, hidden), nn.Linear(hidden, 1)
        nn.init.xavier_uniform_(self.out.weight), nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(x))[:, :, 0]


def trained(net: Net, steps: int, loss: Callable[[], Tensor]) -> Net:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return net.eval()


def discriminative(real: Tensor, fake: Tensor) -> float:
    """real, fake (n, steps, columns) in [0, 1]."""
    net, parts = Net(real.shape[2], real.shape[2] // 2), []
    for x in (real, fake):
        order = torch.randperm(len(x))
        parts += [x[order[: int(len(x) * 0.8)]], x[order[int(len(x) * 0.8) :]]]
    a, a_test, b, b_test = parts
    batch = lambda x: net(x[torch.randperm(len(x))[:BATCH]])[:, -1]  # noqa: E731

    def loss() -> Tensor:
        yes, no = batch(a), batch(b)
        return F.binary_cross_entropy_with_logits(yes, torch.ones_like(yes)) + F.binary_cross_entropy_with_logits(no, torch.zeros_like(no))

    trained(net, 2000, loss)
    with torch.no_grad():
        right = torch.cat([net(a_test)[:, -1] > 0, net(b_test)[:, -1] <= 0])  # a probability above one half
    return abs(float(right.float().mean()) - 0.5)


def predictive(real: Tensor, fake: Tensor) -> float:
    columns = real.shape[2]
    net = Net(columns - 1, columns // 2)
    said = lambda x: torch.sigmoid(net(x[:, :-1, : columns - 1]))  # noqa: E731

    def loss() -> Tensor:
        some = fake[torch.randperm(len(fake))[:BATCH]]
        return (said(some) - some[:, 1:, -1]).abs().mean()

    trained(net, 5000, loss)
    with torch.no_grad():
        return float((said(real) - real[:, 1:, -1]).abs().mean())


def windows(table: Table, low: np.ndarray, high: np.ndarray) -> Tensor:
    """(windows, WINDOW, columns), in [0, 1] by the least and most of the source's columns."""
    names = [n for n in table.schema.arrow.names if n not in (table.schema.subject, table.schema.time)]
    values = np.column_stack([table.column(n).to_numpy().astype(float) for n in names])
    return torch.from_numpy((values - low) / (high - low + 1e-7)).float().reshape(-1, WINDOW, len(names))


def controls(real: Tensor, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs of real and other windows."""
    rng, half = np.random.default_rng(seed), len(real) // 2
    blocks = torch.stack([real[rng.integers(len(real), size=len(real)), i : i + BLOCK] for i in range(0, WINDOW, BLOCK)], 1).flatten(1, 2)
    mixture = GaussianMixture(8, random_state=seed, reg_covar=1e-6).fit(real.flatten(1).numpy().astype(float))
    order = torch.from_numpy(rng.permutation(len(real)))
    return {
        "real windows, copied": (real, real), "copied, with 2 % of noise": (real, real + 0.02 * torch.randn(real.shape)),
        "half of the windows, and the other half": (real[order[:half]], real[order[half:]]),
        "first half of the years, and the second": (real[:half], real[half:]),
        "pieces of other windows": (real, blocks), "8 Gaussians over windows": (real, torch.from_numpy(mixture.sample(len(real))[0]).float().view_as(real)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(OF_SERIES), choices=list(OF_SERIES))
    parser.add_argument("--repeat", type=int, default=3, help="times that each score is taken, of which the median is shown")
    parser.add_argument("--no-controls", action="store_true", help="families alone")
    asked = parser.parse_args()
    if not os.environ.get("LIKENESS_DATA"):
        sys.exit("LIKENESS_DATA is not set, expected a folder with stocks.csv")
    table = sources.load(Source("series", "stocks.csv", None, None, {}, None, WINDOW, 1), root=Path(os.environ["LIKENESS_DATA"]))
    names = [n for n in table.schema.arrow.names if n not in (table.schema.subject, table.schema.time)]
    values = np.column_stack([table.column(n).to_numpy().astype(float) for n in names])
    low, high = values.min(0), values.max(0)
    real = windows(table, low, high)
    print(f"\nstocks: {len(real)} windows of {WINDOW} days, median of {asked.repeat}\n")
    print("| | discriminative | predictive | fit s | draw s |\n|---|---|---|---|---|", flush=True)

    def line(name: str, a: Tensor, b: Tensor, *seconds: float) -> None:
        scores = []
        for seed in range(asked.repeat):
            torch.manual_seed(seed)
            with single_thread():  # many small steps
                scores.append((discriminative(a, b), predictive(a, b)))
        found = [statistics.median(s) for s in zip(*scores, strict=True)]
        print(f"| {name} | {found[0]:.3f} | {found[1]:.4f} | " + " | ".join([f"{s:.0f}" for s in seconds] or ["", ""]) + " |", flush=True)

    for name, (a, b) in ({} if asked.no_controls else controls(real, 0)).items():
        line(name, a, b)
    for family in asked.only:
        begin = time.monotonic()
        model = Synthesizer(family).fit(table)
        fitted = time.monotonic()
        made = model.sample(len(real))
        line(family, real, windows(made, low, high), fitted - begin, time.monotonic() - fitted)


if __name__ == "__main__":
    main()
