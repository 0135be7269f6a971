"""Leaves: what a mixture model says of some of the fields within each of its components.

Each leaf adds log p(its fields | component) to the E step, keeps sums of responsibilities for the M step, and can be
asked for its marginal under a condition. K components, n rows.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.codes import Codes
from generators.layout import Given

CHUNK = 4096  # rows whose responsibilities (rows, K) are in memory at once
NEVER = 1e-37  # least probability that a table states
FLOOR = 1e-5  # least variance of a number whose variance over all data is 1
STRENGTHS = torch.tensor([0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 1e4])


class Tables(nn.Module):
    """One table of probabilities per component and block of codes, with a hierarchical Dirichlet prior.

    theta_kv = (count_kv + strength_b parent_kv) / (count_kb + strength_b): a component is drawn toward its parent, a
    component of a coarser mixture whose counts are the sum of its children's, and that toward the margins. The strengths
    are chosen block by block by the likelihood of held-out rows (empirical Bayes), so that a block that a component says
    nothing about (an id-like number, say) is not memorised.
    A hierarchical Dirichlet language model; D. MacKay, L. Peto; 1995; https://doi.org/10.1017/S1351324900000218
    """

    def __init__(self, codes: Codes, components: int):
        super().__init__()
        self.codes = codes
        V, B = codes.size, len(codes.blocks)
        self.register_buffer("log_theta", torch.zeros(V + 2, components))  # row V: a combination never seen; V + 1: switched off
        self.register_buffer("strength", torch.ones(B))
        self.margins, self.parents, self.upper = torch.empty(0), None, torch.ones(B)
        self.pure: int | None = None  # a block of which each component keeps to the codes that it started with

    def start(self, rows: Tensor, margins: Tensor, parents: Tensor | None, upper: Tensor | None) -> None:
        """Each component starts as one row, codes (K, B), half margins. parents (K,): under which coarser component it is."""
        self.margins, self.parents = margins, parents
        self.upper = self.upper if upper is None else upper
        counts = torch.zeros(self.codes.size + 2, len(rows)).scatter_add_(0, rows.t(), torch.ones(rows.t().shape))[:-2]
        self._set(counts, margins[:, None].expand_as(counts))

    def prepare(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Rows x (n, fields), in chunks: codes (m, B), and the rows that hold each code, as an index and offsets (V,)."""
        out = []
        for codes in self.codes.encode(x).split(CHUNK):
            flat = codes.t().reshape(-1)
            held = torch.bincount(flat, minlength=self.codes.size + 2)[:-2]
            rows = torch.argsort(flat, stable=True)[: int(held.sum())] % len(codes)
            out.append((codes, rows, held.cumsum(0) - held))
        return out

    def log_prob(self, chunk) -> Tensor:
        """(m, K)."""
        return F.embedding_bag(chunk[0], self.log_theta, mode="sum")

    def sums(self, chunk, r: Tensor) -> Tensor:
        """Responsibilities r (m, K) -> expected counts (V, K)."""
        return F.embedding_bag(chunk[1], r, chunk[2], mode="sum")

    def update(self, counts: Tensor) -> None:
        self._set(counts, self._prior(counts))

    def _set(self, counts: Tensor, prior: Tensor) -> None:
        self.log_theta[:-2] = self._smooth(counts, prior, self.strength).clamp_min(NEVER).log()
        unseen = 1 / (self._per_block(counts).sum(1) + 1)  # as if one more row had held it
        self.log_theta[-2] = float(unseen.log().mean())

    def _per_block(self, counts: Tensor) -> Tensor:
        """(V, K) -> (B, K)."""
        return torch.zeros(len(self.codes.blocks), counts.shape[1]).index_add_(0, self.codes.block_of, counts)

    def _smooth(self, counts: Tensor, prior: Tensor, strength: Tensor) -> Tensor:
        raised = counts + strength[self.codes.block_of][:, None] * prior
        return raised / self._per_block(raised).clamp_min(1e-30)[self.codes.block_of]

    def _prior(self, counts: Tensor) -> Tensor:
        if self.parents is None:
            return self.margins[:, None].expand_as(counts)
        parents = torch.zeros(len(counts), int(self.parents.max()) + 1).index_add_(1, self.parents, counts)
        return self._smooth(parents, self.margins[:, None], self.upper)[:, self.parents]

    def tune(self, counts: Tensor, chunks: list, r: list[Tensor], top: int = 4) -> None:
        """Chooses the strengths under which held-out chunks, with responsibilities r, are most likely."""
        prior, total = self._prior(counts), self._per_block(counts)
        score = torch.zeros(len(STRENGTHS), len(total))
        for (codes, *_), weight in zip(chunks, r, strict=True):
            weight, k = weight.topk(min(top, weight.shape[1]), 1)  # (m, top)
            for b in range(len(total)):
                seen = codes[:, b] < self.codes.size
                v, kk, w = codes[seen, b][:, None], k[seen], weight[seen]
                c, p, n = counts[v, kk], prior[v, kk], total[b][kk]
                s = STRENGTHS[:, None, None]
                score[:, b] += (w * ((c + s * p).clamp_min(1e-30) / (n + s)).log()).sum((1, 2))
        self.strength.copy_(torch.where((score != 0).any(0), STRENGTHS[score.argmax(0)], self.strength))  # of what none holds, as it was
        if self.pure is not None:
            self.strength[self.pure] = 0.0
        self._set(counts, self._prior(counts))

    def _theta(self) -> Tensor:
        """(V, K): probabilities, zero where they are as good as zero."""
        theta = self.log_theta[:-2].exp()
        return torch.where(theta > 2 * NEVER, theta, 0.0)

    def keep(self, k: Tensor) -> None:
        self.log_theta = self.log_theta[:, k].contiguous()

    def log_given(self, given: Given) -> Tensor:
        """(K,): log probability, in each component, of what one row of values fixes."""
        mass = self._theta() * self.codes.allowed(given)[:, None]
        return self._per_block(mass).clamp_min(0).log().sum(0)

    def sample(self, k: Tensor, given: Given | None, x: Tensor, *, rng: torch.Generator) -> None:
        """Writes this leaf's fields of the rows x (n, fields), drawn in components k (n,): evenly spread within each component."""
        allowed = torch.ones(self.codes.size, dtype=torch.bool) if given is None else self.codes.allowed(given)
        theta, codes = self._theta(), torch.empty(len(k), len(self.codes.blocks), dtype=torch.long)
        for b, (first, last) in enumerate(zip(self.codes.offsets[:-1].tolist(), self.codes.offsets[1:].tolist(), strict=True)):
            codes[:, b] = first + spread_within((theta[first:last] * allowed[first:last, None]).t(), k, rng)
        written(self.codes, codes, x, rng)


def spread_within(p: Tensor, group: Tensor, rng: torch.Generator) -> Tensor:
    """p (groups, values), what each group's values weigh -> values (n,) of rows of groups (n,), drawn systematically within each group."""
    held, cdf = torch.bincount(group, minlength=len(p)), p.double().cumsum(1)
    cdf = cdf / cdf[:, -1:].clamp_min(1e-300)
    order = torch.argsort(group + torch.rand(len(group), generator=rng, dtype=torch.double) * 0.999999)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(group))) - (held.cumsum(0) - held)[group]
    u = (rank + torch.rand(len(held), generator=rng, dtype=torch.double)[group]) / held[group]
    ladder = (cdf + torch.arange(len(held))[:, None]).reshape(-1)
    return (torch.searchsorted(ladder, u.clamp(1e-12, 1 - 1e-9) + group) - group * p.shape[1]).clamp(0, p.shape[1] - 1)


def written(codes: Codes, drawn: Tensor, x: Tensor, rng: torch.Generator) -> None:
    """Writes codes drawn (n, B) into rows x (n, fields), a number anywhere in its bin."""
    inside = torch.zeros(x.shape, dtype=torch.double)
    for i in (i for fields in codes.blocks for i in fields if len(codes.edges[i])):
        inside[:, i] = torch.rand(len(x), generator=rng, dtype=torch.double)
    codes.decode(drawn, x, inside)


class Gaussian(nn.Module):
    """A full-covariance normal per component, over continuous fields that are always there.

    The covariance has an inverse-Wishart prior around the pooled one, S = (sums + strength pooled) / (n + strength), which
    keeps components of few rows from shrinking onto them; the strength is chosen on held-out rows.
    Bayesian regularization for normal mixture estimation; C. Fraley, A. Raftery; 2007; https://doi.org/10.1007/s00357-007-0004-5
    """

    def __init__(self, fields: list[int], components: int):
        super().__init__()
        d = len(fields)
        self.fields = fields
        self.register_buffer("mean", torch.zeros(components, d, dtype=torch.double))
        self.register_buffer("cholesky", torch.eye(d, dtype=torch.double).repeat(components, 1, 1))
        self.register_buffer("strength", torch.tensor(float(d + 2)))
        self.pooled, self.linear = torch.eye(d), None

    def start(self, rows: Tensor, pooled: Tensor) -> None:
        """Each component starts at one row, (K, all fields), as wide as all the data, pooled (d, d)."""
        self.pooled = pooled
        self._set(rows[:, self.fields].double(), torch.linalg.cholesky(pooled).expand_as(self.cholesky))

    def prepare(self, x: Tensor) -> list[Tensor]:
        return list(x[:, self.fields].double().split(CHUNK))

    @staticmethod
    def features(z: Tensor) -> Tensor:
        """z (m, d) -> [1 z]'[1 z], (m, (d + 1)^2): the log density and the sums of the M step are linear in these."""
        z = F.pad(z, (1, 0), value=1.0)
        return (z[:, :, None] * z[:, None, :]).view(len(z), -1)

    def log_prob(self, chunk: Tensor) -> Tensor:
        """(m, K)."""
        if self.linear is None:
            self.linear = _linear(self.mean, self.cholesky)
        return (self.features(chunk) @ self.linear.t()).float()

    def sums(self, chunk: Tensor, r: Tensor) -> Tensor:
        """Responsibilities r (m, K) -> weighted sums of the features, (K, (d + 1)^2)."""
        return r.t().double() @ self.features(chunk)

    def update(self, sums: Tensor) -> None:
        d = len(self.fields)
        sums = sums.view(-1, d + 1, d + 1)
        n = sums[:, 0, 0].clamp_min(1e-6)[:, None]
        mean = sums[:, 0, 1:] / n
        spread = sums[:, 1:, 1:] - n[:, :, None] * mean[:, :, None] * mean[:, None, :]
        covariance = (spread + self.strength * self.pooled) / (n + self.strength)[:, :, None]
        self._set(mean, torch.linalg.cholesky(covariance + FLOOR * torch.eye(d)))

    def _set(self, mean: Tensor, cholesky: Tensor) -> None:
        self.mean, self.cholesky, self.linear = mean, cholesky, None

    def tune(self, sums: Tensor, chunks: list, r: list[Tensor]) -> None:
        """The greatest strength that is no worse than the best one by a standard error: held-out rows may be few."""
        tried = STRENGTHS[STRENGTHS >= 1]
        rows = []
        for strength in tried:
            self.strength.copy_(strength)
            self.update(sums)
            rows.append(torch.cat([(w * self.log_prob(c)).sum(1) for c, w in zip(chunks, r, strict=True)]))
        score = torch.stack(rows)  # (strengths, held-out rows)
        loss = score[score.mean(1).argmax()] - score
        good = loss.mean(1) <= loss.std(1, correction=0) / loss.shape[1] ** 0.5
        self.strength.copy_(tried[good.nonzero()[-1, 0]])
        self.update(sums)

    def keep(self, k: Tensor) -> None:
        self._set(self.mean[k], self.cholesky[k])

    def log_given(self, given: Given) -> Tensor:
        fixed = [j for j, i in enumerate(self.fields) if given.mask[i]]
        if not fixed:
            return torch.zeros(len(self.mean))
        covariance = (self.cholesky @ self.cholesky.mT)[:, fixed][:, :, fixed]
        linear = _linear(self.mean[:, fixed], torch.linalg.cholesky(covariance))
        return (self.features(given.values[:1, [self.fields[j] for j in fixed]].double()) @ linear.t())[0].float()

    def sample(self, k: Tensor, given: Given | None, x: Tensor, *, rng: torch.Generator) -> None:
        noise = torch.randn(len(k), len(self.fields), generator=rng, dtype=torch.double)
        z = self.mean[k] + _each(self.cholesky, k, noise)
        fixed = [] if given is None else [j for j, i in enumerate(self.fields) if given.mask[i]]
        if fixed:  # Matheron's rule: z + S_o S_oo^-1 (given - z_o) is a draw from the conditional
            covariance = self.cholesky @ self.cholesky.mT
            gain = torch.linalg.solve(covariance[:, fixed][:, :, fixed], covariance[:, fixed]).mT  # (K, d, fixed)
            wanted = given.values[:1, [self.fields[j] for j in fixed]].double()
            z = z + _each(gain, k, wanted - z[:, fixed])
        x[:, self.fields] = z.float()


def _each(matrices: Tensor, k: Tensor, z: Tensor) -> Tensor:
    """(K, i, j) matrices, which one for each row k (n,), and rows z (n, j) -> (n, i), a few rows at a time."""
    parts = zip(k.split(CHUNK), z.split(CHUNK), strict=True)
    return torch.cat([torch.einsum("nij,nj->ni", matrices[k], z) for k, z in parts])


def _linear(mean: Tensor, cholesky: Tensor) -> Tensor:
    """What `Gaussian.features` is multiplied with to give the log density, (K, (d + 1)^2). mean (K, d), cholesky (K, d, d)."""
    d = mean.shape[1]
    precision = torch.cholesky_inverse(cholesky)
    slope = (precision @ mean[:, :, None])[:, :, 0]
    scale = cholesky.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * d * math.log(2 * math.pi) + 0.5 * (slope * mean).sum(1)
    out = torch.zeros(len(mean), d + 1, d + 1, dtype=torch.double)
    out[:, 0, 0], out[:, 0, 1:], out[:, 1:, 1:] = -scale, slope, -0.5 * precision
    return out.view(len(mean), -1)
