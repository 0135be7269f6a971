"""SDV: the Gaussian copula, CTGAN and TVAE of the Synthetic Data Vault, with its defaults, as baselines to compare with.

Its libraries `copulas` and `ctgan` do the learning, imported when that is asked for. What is kept of it is what is needed to
draw: tensors and JSON, where SDV itself keeps a pickle. Conditions, which these models do not know, are met by choosing
among many rows.

The synthetic data vault; N. Patki, R. Wedge, K. Veeramachaneni; 2016; https://doi.org/10.1109/DSAA.2016.49
Modeling tabular data using conditional GAN; L. Xu, M. Skoularidou, A. Cuesta-Infante, K. Veeramachaneni; 2019; https://arxiv.org/abs/1907.00503
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import whole
from generators.layout import Given, Layout
from generators.streams import drawn, stream

MODELS = ("gaussian-copula", "ctgan", "tvae")
POOL = 20_000  # rows among which those that meet a condition are looked for
NEAREST, LEAST_NEAR = 100, 20  # of candidates for a number that is asked for, the nearest hundredth is drawn from, and at least so many
SPREAD = 4  # standard deviations of a mode that its numbers, in [-1, 1], span


class SDV(nn.Module):
    """layout: what a row is.

    model:  gaussian-copula, ctgan or tvae
    epochs: of ctgan and tvae
    """

    device = "cpu"

    def __init__(self, layout: Layout, model: str = "gaussian-copula", epochs: int = 300):
        super().__init__()
        if model not in MODELS:
            raise ValueError(f"model: found {model!r}, expected one of {', '.join(MODELS)}")
        whole(epochs=epochs)
        self.layout, self.model, self.epochs = layout, model, epochs
        self.curve: list[dict] = []
        self.facts: dict = {}

    def fit(self, x: Tensor, held_out: Tensor, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None, checkpoint: Path | None = None) -> SDV:
        """x (n, fields). held_out, log and checkpoint are not used: these models do not look at them."""
        with stream(drawn(rng)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (self._fit_copula if self.model == "gaussian-copula" else self._fit_network)(x)
        self.curve = [{"rows": len(x), "model": self.model, "held_out": [], "chosen": True}]
        return self.eval()

    def _fit_copula(self, x: Tensor) -> None:
        """Categories as numbers: class v is anywhere in its stretch of [0, 1], as long as v is frequent."""
        from copulas.multivariate import GaussianMultivariate
        from copulas.univariate import BetaUnivariate

        ends = torch.zeros(len(self.layout), max([f.classes for f in self.layout.fields]) + 1, dtype=torch.double)
        columns = x.double().clone()
        for i in self.layout.discrete:
            k = self.layout.fields[i].classes
            share = torch.bincount(x[:, i].long(), minlength=k).double() / len(x)
            ends[i, 1 : k + 1] = share.cumsum(0)
            columns[:, i] = ends[i][x[:, i].long()] + share[x[:, i].long()] * torch.rand(len(x), dtype=torch.double)
        found = GaussianMultivariate(distribution=BetaUnivariate)
        found.fit(columns.numpy())
        self.register_buffer("correlation", torch.tensor(np.asarray(found.correlation, dtype=float)))
        self.register_buffer("ends", ends)
        self.facts = {"margins": [{k: v if isinstance(v, str) else float(v) for k, v in u.to_dict().items()} for u in found.univariates]}

    def _fit_network(self, x: Tensor) -> None:
        from ctgan import CTGAN, TVAE

        found = (CTGAN if self.model == "ctgan" else TVAE)(epochs=self.epochs, enable_gpu=torch.cuda.is_available())
        found.fit(x.double().numpy(), self.layout.discrete)
        found.set_device("cpu")
        transformer, net = (found._transformer, found._generator) if self.model == "ctgan" else (found.transformer, found.decoder)
        columns, modes = [], []
        for info in transformer._column_transform_info_list:
            if info.column_type == "discrete":
                columns.append({"values": [int(v) for v in info.transform.dummies]})
                continue
            good, mixture = info.transform.valid_component_indicator, info.transform._bgm_transformer
            modes.append(torch.tensor(np.stack([mixture.means_.reshape(-1)[good], np.sqrt(mixture.covariances_).reshape(-1)[good]])))
            columns.append({"modes": int(good.sum())})
        self.facts = {"columns": columns, "sizes": [p.shape[0] for n, p in net.named_parameters() if n.endswith("weight") and p.ndim == 2]}
        self.register_buffer("modes", torch.cat(modes, 1) if modes else torch.zeros(2, 0))
        if self.model == "ctgan" and self.layout.discrete:
            share = found._data_sampler._discrete_column_category_prob
            share = share.flatten()[share.flatten() != 0]
            self.register_buffer("share", torch.tensor(share / share.sum()))
        self.net = net

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Tensor:
        """(n, fields). Raises ValueError where some rows cannot be as asked, with the number of those that can."""
        if given is None or not given.mask.any():
            return self._draw(n, rng)
        pool, whole_fields = self._draw(max(POOL, 4 * n), rng), [i for i in self.layout.discrete if given.mask[i]]
        numbers = [i for i in self.layout.continuous if given.mask[i]]
        x, can = torch.zeros(n, len(self.layout)), 0
        wanted = given.values[:, whole_fields]
        for asked in torch.unique(wanted, dim=0) if whole_fields and n else wanted[:1]:
            rows = (wanted == asked).all(1).nonzero()[:, 0]
            found = pool[(pool[:, whole_fields] == asked).all(1)]
            if len(found):
                can += len(rows)
                choice = torch.randint(len(found), (len(rows),), generator=rng)
                if numbers:  # one of those that come nearest
                    few = max(len(found) // NEAREST, min(LEAST_NEAR, len(found)))
                    near = torch.cdist(given.values[rows][:, numbers], found[:, numbers]).topk(few, 1, largest=False).indices
                    choice = near[torch.arange(len(rows)), torch.randint(few, (len(rows),), generator=rng)]
                x[rows] = found[choice]
        if can < n:
            raise ValueError(f"{can} of {n} rows can be as asked: among {len(pool)} rows the model made none like the others")
        return torch.where(given.mask, given.values, x)

    def _draw(self, n: int, rng: torch.Generator) -> Tensor:
        x = (self._draw_copula if self.model == "gaussian-copula" else self._draw_network)(n, rng)
        x[~self.layout.active(x)] = 0
        return x

    def _draw_copula(self, n: int, rng: torch.Generator) -> Tensor:
        from copulas.univariate import BetaUnivariate

        size = len(self.layout)
        values, vectors = torch.linalg.eigh(self.correlation)
        z = torch.randn(n, size, generator=rng, dtype=torch.double) * values.clamp_min(0).sqrt() @ vectors.t()
        u, x = torch.special.ndtr(z).clamp(1e-6, 1 - 1e-6).numpy(), torch.zeros(n, size)
        for i, (field, margin) in enumerate(zip(self.layout.fields, self.facts["margins"], strict=True)):
            value = torch.tensor(BetaUnivariate.from_dict(dict(margin)).percent_point(u[:, i])) if n else torch.zeros(0, dtype=torch.double)
            place = torch.searchsorted(self.ends[i, 1 : field.classes + 1].contiguous(), value.contiguous(), right=True) if field.classes else value
            x[:, i] = place.clamp(0, field.classes - 1) if field.classes else value.clamp(-6, 6)
        return x

    def _draw_network(self, n: int, rng: torch.Generator) -> Tensor:
        noise = torch.randn(n, self._noise(), generator=rng)
        if "share" in self._buffers:
            told = torch.multinomial(self.share, n, replacement=True, generator=rng) if n else torch.zeros(0, dtype=torch.long)
            noise = torch.cat([noise, F.one_hot(told, len(self.share)).float()], 1)
        out, sigma = (self.net(noise), None) if self.model == "ctgan" else self.net(noise)
        x, at, mode = torch.zeros(n, len(self.layout)), 0, 0
        for i, column in enumerate(self.facts["columns"]):
            values = column.get("values")
            if values is None:
                place, at = torch.tanh(out[:, at]), at + 1
                if sigma is not None:
                    place = place + sigma[at - 1] * torch.randn(n, generator=rng)
            width = len(values) if values is not None else column["modes"]
            logits, at = out[:, at : at + width], at + width
            if self.model == "ctgan":  # a choice as its training made them
                logits = logits - (-torch.rand(logits.shape, generator=rng).clamp(1e-20, 1 - 1e-7).log()).log()
            choice = logits.argmax(1)
            if values is not None:
                x[:, i] = torch.tensor(values)[choice]
            else:
                mean, deviation = self.modes[:, mode : mode + width][:, choice]
                x[:, i], mode = (place.clamp(-1, 1) * SPREAD * deviation + mean).clamp(-6, 6), mode + width
        return x

    def _noise(self) -> int:
        first = next(p for n, p in self.net.named_parameters() if p.ndim == 2)
        return first.shape[1] - (len(self.share) if "share" in self._buffers else 0)

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many rows."""
        return f"SDV's {self.model}" + (f", {self.epochs} epochs" if self.model != "gaussian-copula" else "")

    def cost(self, x: Tensor, n: int) -> tuple[float, float]:
        """(seconds that a fit to n rows takes, about, bytes that it holds beside its rows)."""
        size = len(self.layout)
        return (1e-4 * n * size if self.model == "gaussian-copula" else 3e-6 * n * size * self.epochs), 200.0 * n * size

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "facts": self.facts}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> SDV:
        self.curve, self.facts = structure["curve"], structure["facts"]
        for name in ("correlation", "ends", "modes", "share"):
            if name in tensors:
                self.register_buffer(name, tensors[name])
        if "sizes" in self.facts:
            from ctgan.synthesizers.ctgan import Generator
            from ctgan.synthesizers.tvae import Decoder

            *hidden, last = self.facts["sizes"]
            first = next(v for k, v in tensors.items() if k.startswith("net.") and v.ndim == 2).shape[1]
            with stream(0):
                self.net = (Generator if self.model == "ctgan" else Decoder)(first, hidden, last)
        self.load_state_dict(tensors)
        return self.eval()
