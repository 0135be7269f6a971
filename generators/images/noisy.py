"""A normal density for each kind of picture, from sums over pictures that a mechanism tells: how many, their means, and how all lie about them.

    v = B'(x - m_kind) min(1, r / |x - m_kind|),  B cosines of low frequency, known to everybody
    E = sum over pictures of |v|^2, ring of frequency by ring,     S = sum of v_1..q v_1..q':   one picture adds vectors of norm r^2 at most
The noise of S is a symmetric matrix of independent normal entries of sd s, off the diagonal, whose eigenvalues reach 2 t, t = s sqrt(q). What rises
out of it is a direction in which pictures vary together: an eigenvalue l is seen as l + t^2 / l, and a part t^2 / l^2 of what is seen lies elsewhere.
What is left of E is spread evenly over each ring. Both are as much larger again as squares of distances were cut, by a noisy histogram of those.
Nothing is chosen by how well it does.

Analyze Gauss: optimal bounds for privacy-preserving PCA; C. Dwork, K. Talwar, A. Thakurta, L. Zhang; 2014; https://doi.org/10.1145/2591796.2591883
On the distribution of the largest eigenvalue in principal components analysis; I. Johnstone; 2001; https://doi.org/10.1214/aos/1009210544
The eigenvalues and eigenvectors of finite, low rank perturbations of large random matrices; F. Benaych-Georges, R. Nadakuditi; 2011; https://arxiv.org/abs/0910.2120
Discrete cosine transform; N. Ahmed, T. Natarajan, K. Rao; 1974; https://doi.org/10.1109/T-C.1974.223784
Estimation with quadratic loss; W. James, C. Stein; 1961; https://projecteuclid.org/euclid.bsmsp/1200512173
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from generators.base import Mechanism
from generators.images.apart import MOST_KINDS, Apart
from generators.images.directions import KEPT, Directions
from generators.images.grain import Grain
from generators.layout import ImageLayout, Layout, Pictures, shades

# shares of what may be told: how many of each kind, the middle of all, how far from it they are, means of kinds, rings; how they vary together gets the rest
COUNTS, MIDDLE, RADIUS, MEANS, RINGS = 0.02, 0.05, 0.05, 0.3, 0.1
RADII, NEARLY = 32, 0.9  # that are tried, from a hundredth of the farthest, and the share of the pictures that are within
SURE = 3.5  # standard deviations of noise above which somebody is taken to be in one of few cells
MAIN = 256  # directions that are looked at together
SIDE = 32  # cosines along a side, at most
LEAST = 1e-4  # that a pixel varies, of the range from -1 to 1


def kinds_of(static: Layout) -> Tensor:
    """(kinds, fields): all that may stand beside a picture, where that is of few kinds; else one row that nothing is equal to, so that all are of one kind."""
    sizes = [f.classes for f in static.fields]
    if not all(sizes) or math.prod(sizes) > MOST_KINDS:
        return torch.full((1, len(sizes)), -1.0)
    return torch.tensor(list(product(*map(range, sizes))), dtype=torch.float32)


def cosines(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """(pixels, kept) orthonormal: of each channel those of low frequency, the lowest first; and of each its ring, (kept,), half an octave wide."""
    channels, *sides = shape
    waves = []
    for n in sides:
        k, i = torch.arange(n)[:, None], torch.arange(n)[None]
        waves.append(torch.cos(math.pi * k * (i + 0.5) / n) * torch.where(k == 0, 1 / n, 2 / n).sqrt())
    height, width = (min(SIDE, n) for n in sides)
    both = torch.einsum("ai,bj->abij", waves[0][:height], waves[1][:width]).reshape(height * width, -1)
    far = (torch.arange(height)[:, None] ** 2 + torch.arange(width)[None] ** 2).flatten().double().sqrt()
    order = far.argsort(stable=True)[: KEPT // channels]
    turn = torch.zeros(len(order), channels, channels, both.shape[1])
    for c in range(channels):
        turn[:, c, c] = both[order]
    ring = torch.unique((2 * (far[order] + 1).log2()).long(), return_inverse=True)[1]
    return turn.reshape(len(order) * channels, -1).t().contiguous(), ring.repeat_interleave(channels)


def normals(layout: ImageLayout, x: Pictures, directions: int | None, ask: Mechanism) -> tuple[Directions, Grain, Apart, dict]:
    """What a mixture of pictures consists of, with one component of each kind, and what was made of what. directions: instead of MAIN"""
    kinds, (turn, ring) = kinds_of(layout.static), cosines(layout.shape)
    flat = shades(x.pixels, layout.levels).flatten(1)
    which = (x.static[:, None] == kinds).all(2).float().argmax(1)  # 0 where all are of one kind
    held = ask.counts(torch.bincount(which, minlength=len(kinds)).double(), COUNTS).clamp_min(1.0)
    n, pixels, bound = float(held.sum()), flat.shape[1], flat.shape[1] ** 0.5
    middle = (ask.sums(flat.double().sum(0), bound, MIDDLE) / n).float()
    middle = turn @ _shrunk((middle @ turn)[None], torch.tensor([bound * ask.sd(MIDDLE) / n]), ring)[0]
    radius, lost = _radius((flat - middle).norm(dim=1), 2 * bound, ask)
    sums = torch.zeros(len(kinds), pixels, dtype=torch.double).index_add_(0, which, _within(flat - middle, radius).double())
    told = (ask.sums(sums, radius, MEANS) / held[:, None]).float() @ turn
    shift = _shrunk(told, radius * ask.sd(MEANS) / held.float(), ring)
    v = _within(flat - (middle + shift @ turn.t())[which], radius)
    z, whole = (v @ turn).double(), v.double().square().sum(1)
    share, q = ask.rest - RINGS, min(directions or MAIN, len(ring))
    rings = torch.zeros(len(flat), int(ring[-1]) + 2, dtype=torch.double).index_add_(1, ring, z.square())
    rings[:, -1] = (whole - z.square().sum(1)).clamp_min(0)  # beyond the cosines
    energy = ask.sums(rings.sum(0), radius**2, RINGS) / n * lost
    together = _symmetric(z[:, :q].t() @ z[:, :q], lambda entries: ask.sums(entries, radius**2, min(share, ask.rest))) / n * lost
    kept, risen = _risen(together, radius**2 * ask.sd(share) / n * lost / 2**0.5)
    energy[:-1] -= torch.zeros(len(energy) - 1, dtype=torch.double).index_add_(0, ring[:q], kept.diagonal())
    level = (energy / torch.cat([ring.bincount(), torch.tensor([pixels - len(ring)])]).clamp_min(1)).clamp_min(LEAST**2)
    root = torch.linalg.cholesky(kept + level[ring[:q]].diag()).float()
    spread = torch.cat([torch.ones(q), level[ring[q:]].sqrt(), level[-1:].sqrt()]).float()
    note = {"rows": round(n), "model": f"a normal density of each of {len(kinds)} kinds, {risen} directions in which pictures vary together"}
    return *_put(kinds, held.float(), middle, turn, spread, shift, root), note | {"held_out": [], "unit": "nothing: no picture is held out", "chosen": True}


def _put(
    kinds: Tensor, held: Tensor, middle: Tensor, turn: Tensor, spread: Tensor, shift: Tensor, root: Tensor
) -> tuple[Directions, Grain, Apart]:  # fmt: skip
    """As parts of a mixture of pictures. Of what is not looked at together, a picture has as much in each band as a normal density has."""
    q, normal = len(root), Directions(*turn.shape)
    normal.mean, normal.turn, normal.spread = middle, turn, spread
    grain = Grain(q, turn.shape[1], len(turn))
    sizes = grain.sizes[grain.learned].float()
    grain.middle, grain.spread = -1 / sizes, (2 / sizes).sqrt()  # of log of the mean of so many squares
    main = Apart(kinds.shape[1], q + grain.places)
    main.hold(len(kinds), len(kinds))
    main.kinds, main.share, main.of = kinds, held / held.sum(), torch.arange(len(kinds))
    main.mean[:, :q] = shift[:, :q]
    main.root[:] = torch.block_diag(root, torch.eye(grain.places))
    return normal, grain, main


def _symmetric(matrix: Tensor, asked: Callable[[Tensor], Tensor]) -> Tensor:
    """The same matrix by its upper half, of which those off the diagonal count sqrt(2) times: its norm is that of the matrix."""
    rows, columns = torch.triu_indices(len(matrix), len(matrix))
    weight = torch.where(rows == columns, 1.0, 2**0.5).double()
    out = torch.zeros_like(matrix)
    out[rows, columns] = asked(matrix[rows, columns] * weight) / weight
    return out + out.triu(1).t()


def _within(away: Tensor, radius: float) -> Tensor:
    """Each cut to that norm, and a little below, as floating-point numbers are rounded."""
    return away * ((1 - 1e-6) * radius / away.norm(dim=1, keepdim=True).clamp_min(1e-9)).clamp_max(1.0)


def _radius(away: Tensor, farthest: float, ask: Mechanism) -> tuple[float, float]:
    """About as far from the middle as so many are, the end of a cell whatever the data are; and how much larger squares are than of what is cut to it."""
    ends = farthest * torch.logspace(-2, 0, RADII, dtype=torch.double)
    held = torch.bincount(torch.searchsorted(ends, away.double()).clamp_max(RADII - 1), minlength=RADII)
    told = ask.counts(held.double(), RADIUS)
    told = told * (told > SURE * ask.sd(RADIUS))
    radius = ends[int((told.cumsum(0) < NEARLY * told.sum()).sum().clamp_max(RADII - 1))]
    squares = (ends * ends[0].div(ends[1]).sqrt()) ** 2  # in the middle of each cell
    return float(radius), float(((told * squares).sum() / (told * squares.clamp_max(radius**2)).sum()).nan_to_num(1.0))


def _shrunk(shift: Tensor, off: Tensor, ring: Tensor) -> Tensor:
    """(kinds, kept), off by (kinds,): in each ring of frequency as much of a mean as is more than noise."""
    out = torch.zeros_like(shift)
    for r in ring.unique():
        own = ring == r
        noise = off**2 * int(own.sum())
        size = shift[:, own].square().sum(1)
        out[:, own] = shift[:, own] * (1 - noise / size.clamp_min(1e-12)).clamp_min(0)[:, None]
    return out


def _risen(matrix: Tensor, off: float) -> tuple[Tensor, int]:
    """What rises out of the noise of a matrix (q, q), of that sd off its diagonal, and how many directions do."""
    t = off * len(matrix) ** 0.5
    values, vectors = torch.linalg.eigh(matrix)
    up = values > t * (2 + 4 * len(matrix) ** (-2 / 3))  # noise alone is hardly ever beyond
    risen = (values[up] + (values[up] ** 2 - 4 * t * t).sqrt()) / 2
    sure = (1 - t * t / risen**2).clamp_min(0)  # squared cosine of the angle between what is seen and what is there
    return (vectors[:, up] * (risen * sure)) @ vectors[:, up].t(), int(up.sum())
