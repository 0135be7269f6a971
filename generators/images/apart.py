"""Pictures of several kinds: for each kind its own mixture of normal densities over the main directions, their covariances learned together.

    p(z | kind) = sum_c pi_c N(z; m_c, C_c),   C_c = (n_c S_c + worth W) / (n_c + worth)
c are components of that kind, n_c their pictures, S_c how those lie about m_c, and W how all pictures lie about the middle of their component:
a component of many pictures has its own shape, one of few that of all (the mode under an inverse Wishart prior of `worth` pictures).
How many components a kind has, and worth: whichever make held-out pictures likeliest.

Regularized discriminant analysis; J. Friedman; 1989; https://doi.org/10.1080/01621459.1989.10478752
Bayesian regularization for normal mixture estimation and model-based clustering; C. Fraley, A. Raftery; 2007; https://doi.org/10.1007/s00357-007-0004-5
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOST_KINDS, FEWEST = 64, 8  # kinds, and pictures of each
NEARLY = 0.9  # of the pictures, which are of such a kind
WORTH = (0.25, 1.0, 4.0, 16.0)  # of the common shape, in pictures for each direction
SIZES = (2, 4, 8, 16, 32, 64)  # components of a kind
ROWS = 100  # pictures that there are for each: an attacker can tell those of which there are fewer from others
MOST = 2**24  # numbers in all covariances
WORK = 2e10  # products that a pass takes, at most, about: a second
SEEN = 16  # directions by which components begin
ENOUGH = 0.01  # nats a picture by which a pass must be better than the one before


class Apart(nn.Module):
    """It has, as Together has: fit(static, z, held_static, held_z, rng), sample(static, rng) -> z, log_prob(static, z) -> (n,).

    A kind is a row of what stands beside; one that was never seen, or in hardly any picture, is drawn as any of them.
    """

    def __init__(self, fields: int, directions: int, components: int | None = None, passes: int = 12):
        super().__init__()
        self.fields, self.directions, self.components, self.passes = fields, directions, components, passes
        self.hold(0, 0)

    def hold(self, kinds: int, components: int) -> None:
        """Makes room: of each kind what it is and its share; of each component its kind, the log of its share there, mean and root of its covariance."""
        q = self.directions
        self.register_buffer("kinds", torch.zeros(kinds, max(self.fields, 1))), self.register_buffer("share", torch.zeros(kinds))
        self.register_buffer("of", torch.zeros(components, dtype=torch.long)), self.register_buffer("log_pi", torch.zeros(components))
        self.register_buffer("mean", torch.zeros(components, q)), self.register_buffer("root", torch.zeros(components, q, q))

    @staticmethod
    def can(static: Tensor) -> bool:
        """Whether nearly all pictures are of few kinds, of some pictures each."""
        counts = torch.unique(_beside(static), dim=0, return_counts=True)[1]
        many = counts[counts >= FEWEST]
        return 0 < len(many) <= MOST_KINDS and int(many.sum()) >= NEARLY * len(static)

    def fit(self, static: Tensor, z: Tensor, held_static: Tensor, held_z: Tensor, rng: torch.Generator) -> Apart:
        kinds, which, counts = torch.unique(_beside(static), dim=0, return_inverse=True, return_counts=True)
        many = (counts >= FEWEST).nonzero()[:, 0]
        self.kinds, self.share = kinds[many], counts[many].float() / counts[many].sum()
        parts = [z[which == i] for i in many]

        def tried(size: int, worths: Iterable[float]) -> tuple[float, tuple[Tensor, ...], float]:
            """(score, shapes, worth) of the best worth, with at most so many components of a kind."""
            return max(((*self._learned(parts, size, worth, held_static, held_z, rng), worth) for worth in worths), key=lambda found: found[0])

        best = tried(self.components or 1, WORTH)
        for size in [] if self.components else SIZES:
            at = WORTH.index(best[2])
            found = tried(size, WORTH[max(at - 1, 0) : at + 1])
            if found[0] <= best[0]:
                break
            best = found
        self._take(best[1])
        return self

    def _learned(
        self, parts: list[Tensor], size: int, worth: float, held_static: Tensor, held_z: Tensor, rng: torch.Generator
    ) -> tuple[float, tuple[Tensor, ...]]:
        """By passes over the pictures of each kind, while held-out ones become likelier: their mean log density, and what `_take` takes."""
        q, best = self.directions, None
        most = [max(min(size, len(x) // ROWS, MOST // q**2 // len(parts), int(WORK / (q**2 * sum(map(len, parts))))), 1) for x in parts]
        total, of = torch.tensor([len(x) for x in parts]), torch.arange(len(parts)).repeat_interleave(torch.tensor(most))
        shares = [_nearest(x[:, :SEEN], k, rng) for x, k in zip(parts, most, strict=True)]
        for _ in range(self.passes):
            count, mean, shape = (torch.cat(each) for each in zip(*(_moments(x, share) for x, share in zip(parts, shares, strict=True)), strict=True))
            common = (count[:, None, None] * shape).sum(0) / count.sum()
            common = (count.sum() * common + q * common.diagonal().mean() * torch.eye(q)) / (count.sum() + q)
            own, lent = count[:, None, None], worth * q
            root = torch.linalg.cholesky(((own * shape + lent * common) / (own + lent)).double()).float()
            shapes = (of, (count / total[of]).clamp_min(1e-9).log(), mean, root)
            self._take(shapes)
            score = float(self.log_prob(held_static, held_z).mean())
            if best is not None and score < best[0] + ENOUGH:
                break
            best = (score, shapes)
            if max(most) == 1:
                break
            shares = [self._each(x, of == i).softmax(1) for i, x in enumerate(parts)]
        return best

    def _take(self, shapes: tuple[Tensor, ...]) -> None:
        self.of, self.log_pi, self.mean, self.root = shapes

    def _each(self, z: Tensor, asked: Tensor) -> Tensor:
        """(n, components asked for), log of their share in their kind and density."""
        out = []
        for c in asked.nonzero()[:, 0]:
            away = torch.linalg.solve_triangular(self.root[c], (z - self.mean[c]).t(), upper=False)
            volume = self.root[c].diagonal().log().sum() + 0.5 * self.directions * math.log(2 * math.pi)
            out.append(self.log_pi[c] - 0.5 * away.square().sum(0) - volume)
        return torch.stack(out, 1)

    def _which(self, static: Tensor) -> Tensor:
        """(n,) the number of each row's kind, -1 of one never seen."""
        same = (_beside(static)[:, None] == self.kinds).all(2)
        return torch.where(same.any(1), same.float().argmax(1), -1)

    def sample(self, static: Tensor, rng: torch.Generator) -> Tensor:
        which, z = self._which(static), torch.randn(len(static), self.directions, generator=rng)
        which = torch.where(which < 0, torch.multinomial(self.share, len(static), True, generator=rng), which) if len(static) else which
        for kind in which.unique():
            rows, own = (which == kind).nonzero()[:, 0], (self.of == kind).nonzero()[:, 0]
            drawn = own[torch.multinomial(self.log_pi[own].exp(), len(rows), True, generator=rng)]
            for c in drawn.unique():
                some = rows[drawn == c]
                z[some] = self.mean[c] + z[some] @ self.root[c].t()
        return z

    def log_prob(self, static: Tensor, z: Tensor) -> Tensor:
        which, out = self._which(static), torch.zeros(len(z))
        for kind in which.unique():
            rows = which == kind
            if kind >= 0:
                out[rows] = self._each(z[rows], self.of == kind).logsumexp(1)
            else:
                out[rows] = (self._each(z[rows], self.of >= 0) + self.share.log()[self.of]).logsumexp(1)
        return out

    @property
    def size(self) -> str:
        return f"{' + '.join(str(int(k)) for k in self.of.bincount())} components"

    def structure(self) -> dict:
        return {"components": len(self.of), "kinds": len(self.kinds)}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> Apart:
        self.hold(structure["kinds"], structure["components"])
        self.load_state_dict(tensors)
        return self


def _beside(static: Tensor) -> Tensor:
    """A row for each picture, of one number where nothing stands beside."""
    return static if static.shape[1] else static.new_zeros(len(static), 1)


def _nearest(x: Tensor, components: int, rng: torch.Generator) -> Tensor:
    """(n, components): 1 where a picture, drawn at random, is nearest."""
    middle = x[torch.randperm(len(x), generator=rng)[:components]]
    return torch.nn.functional.one_hot(torch.cdist(x, middle).argmin(1), components).float()


def _moments(x: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each component how many pictures, (k,), their mean, (k, q), and how they lie about it, (k, q, q)."""
    count = share.sum(0)
    mean = (share.t() @ x) / count.clamp_min(1e-6)[:, None]
    shape = torch.stack([(away := (x - m) * s.sqrt()[:, None]).t() @ away for m, s in zip(mean, share.unbind(1), strict=True)])
    return count, mean, shape / count.clamp_min(1e-6)[:, None, None]
