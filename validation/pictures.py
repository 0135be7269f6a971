"""Pictures as rows: what a small network and the main directions see in each, so that judges of tables can look at them.

The network learns to tell the kinds of pictures (their label), of real training pictures for judges of fidelity, of synthetic ones for attacks;
without a label, by how many quarter turns a picture was turned. What its last hidden layer says of a picture are features; so are the
picture's places along the main directions. The network is the judges' own: generators never see it.

"Are GANs created equal? A large-scale study" (features of a network that was trained for the data at hand), Lucic, Kurach, Michalski, Gelly and Bousquet, 2018,
https://arxiv.org/abs/1711.10337; "Unsupervised representation learning by predicting image rotations", Gidaris, Singh and Komodakis, 2018,
https://arxiv.org/abs/1803.07728
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor, nn

from generators.data import Column, Schema, Table, pixels_of
from validation.features import labels

WIDTH, STEPS, BATCH, RATE = 64, 600, 128, 4e-3
SIDE = 32  # cells a side that are looked at, at most
DIRECTIONS = 32  # places along which are features
TRIED = 5  # steps in which a network's cost is measured
CHUNK = 512  # pictures that are looked at together


class Cells(nn.Module):
    """(n, channels, height, width) -> (n, channels side^2, height / side, width / side): the pixels of a cell as channels."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(F.pad(x, (0, -x.shape[3] % self.side, 0, -x.shape[2] % self.side)), self.side)


class Net(nn.Module):
    """Three convolutions, each halving the picture, and a hidden layer of WIDTH. Of pictures of more than SIDE a side, cells are looked at."""

    def __init__(self, channels: int, side: int, kinds: int):
        super().__init__()
        cell = -(-side // SIDE)
        sizes = (channels * cell**2, WIDTH // 4, WIDTH // 2, WIDTH)
        parts = [(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(4, b), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)) for a, b in pairwise(sizes)]
        self.body = nn.Sequential(
            Cells(cell), *[layer for part in parts for layer in part], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, WIDTH), nn.ReLU()
        )
        self.head = nn.Linear(WIDTH, kinds)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def shown(table: Table) -> Tensor:
    """(n, channels, height, width) within -1 and 1."""
    pixels = pixels_of(table)
    return torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2) / (np.iinfo(pixels.dtype).max / 2) - 1


def kinds(table: Table, names: list[str] | None = None) -> tuple[Tensor, list[str]]:
    """The label of each picture as a number, -1 of one that is none of the names, and the names."""
    words = labels(table, table.schema.target).to_pylist()
    names = names or sorted({w for w in words if w is not None})
    at = {name: i for i, name in enumerate(names)}
    return torch.tensor([at.get(w, -1) for w in words]), names


def trained(x: Tensor, y: Tensor, count: int, seed: int, steps: int = STEPS) -> Net:
    """A network that tells count kinds, learned in so many steps; the same for the same seed, whatever else is drawn."""
    rng = torch.Generator().manual_seed(seed)
    with torch.device("meta"):  # nothing is drawn from torch's own stream
        net = Net(x.shape[1], max(x.shape[2:]), count)
    net = net.to_empty(device="cpu")
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                least = layer.weight[0].numel() ** -0.5
                layer.weight.uniform_(-least, least, generator=rng), layer.bias.uniform_(-least, least, generator=rng)
            elif isinstance(layer, nn.GroupNorm):
                layer.weight.fill_(1), layer.bias.zero_()
    optimizer = torch.optim.AdamW(net.parameters(), RATE / 2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        i = torch.randint(len(x), (min(BATCH, len(x)),), generator=rng)
        loss = F.cross_entropy(net(x[i]), y[i])
        optimizer.zero_grad(), loss.backward(), optimizer.step(), schedule.step()
    return net.eval()


def cost(some: Table) -> float:
    """Seconds that such a network takes to learn, from a few steps on some pictures."""
    x, spent = shown(some), []
    for _ in range(3):
        start = time.monotonic()
        trained(x, torch.arange(len(x)) % 2, 2, 0, TRIED)
        spent.append((time.monotonic() - start) / TRIED)
    return STEPS * min(spent)


@torch.no_grad()
def through(module: nn.Module, x: Tensor) -> np.ndarray:
    return torch.cat([module(part) for part in x.split(CHUNK)]).numpy()


@dataclass(frozen=True)
class Look:
    """Learned from pictures: the network, its kinds, and the main directions."""

    net: Net
    names: list[str] | None  # None: there are no two kinds, it learned how pictures were turned
    mean: np.ndarray
    turn: np.ndarray

    @classmethod
    def of(cls, pictures: Table, seed: int = 0) -> Look:
        x, (y, names) = shown(pictures), kinds(pictures) if pictures.schema.target else (None, [])
        if len(names) > 1:
            net = trained(x[y >= 0], y[y >= 0], len(names), seed)
        else:
            side = min(x.shape[2:])
            turned = torch.cat([x[:, :, :side, :side].rot90(k, (2, 3)) for k in range(4)])
            net = trained(turned, torch.arange(4).repeat_interleave(len(x)), 4, seed)
        flat = x.flatten(1).numpy()
        main = PCA(min(DIRECTIONS, *flat.shape), svd_solver="randomized", random_state=seed).fit(flat)
        return cls(net, names if len(names) > 1 else None, main.mean_, main.components_.T)

    @property
    def digest(self) -> str:
        """sha256 of the network's weights, for the record."""
        return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in self.net.parameters())).hexdigest()

    def features(self, images: Table) -> np.ndarray:
        """(n, WIDTH) what the network's last hidden layer says."""
        return through(self.net.body, shown(images))

    def places(self, images: Table) -> np.ndarray:
        """(n, DIRECTIONS) along the main directions."""
        return (shown(images).flatten(1).numpy() - self.mean) @ self.turn

    def table(self, images: Table) -> Table:
        """One row for each picture: features, places, and what stands beside it."""
        schema, name = images.schema, images.schema.image.name
        beside = [n for n in schema.arrow.names if n != name]
        seen = {f"feature {i}": v for i, v in enumerate(self.features(images).T)} | {f"direction {i}": v for i, v in enumerate(self.places(images).T)}
        values = pa.table({n: images.column(n) for n in beside} | {n: pa.array(v.astype(np.float64)) for n, v in seen.items()})
        columns = (*(schema[n] for n in beside), *(Column(n, "numeric", {"seen": True}) for n in seen))
        return Table(values, Schema(values.schema, columns, schema.subject, schema.target))


_last: list[tuple[pa.Table, int, Look]] = []


def look(pictures: Table, seed: int) -> Look:
    """What `Look.of` learns; the judges of a run ask for two, by real pictures and by synthetic ones, so the last two are kept."""
    for values, number, kept in _last:
        if values is pictures.values and number == seed:
            return kept
    _last[:] = [*_last[-1:], (pictures.values, seed, Look.of(pictures, seed))]
    return _last[-1][2]
