"""The one gradient loop: AdamW under a cosine, a moving average of the weights, early stopping, a time budget, checkpoints.

Averaging weights leads to wider optima and better generalization; P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov, A. G. Wilson; 2018; https://arxiv.org/abs/1803.05407
Decoupled weight decay regularization; I. Loshchilov, F. Hutter; 2019; https://arxiv.org/abs/1711.05101
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.data import DataError
from generators.streams import drawn, stream

ROUND = 2**18  # rows after which the held-out loss is looked at, where a pass is longer
WARM = 0.02  # share of the training in which the rate rises
LOST = 1.0  # what held-out rows score before the training, as a share of which the best score may be worse
DECAYS = 100  # of the weights, above which that is what made a training diverge, perhaps
CLIP = 1.0  # norm of a gradient that is let through


@dataclass(frozen=True)
class Plan:
    """passes: over the rows at most; batch: rows a step; rate: of AdamW at its top; decay: of the weights, decoupled; momentum: of AdamW
    memory: passes that the moving average of the weights looks back on; patience: rounds without a better held-out score
    minutes: a time budget, under which the rate falls to zero in time; None sets none
    """

    passes: float
    batch: int
    rate: float
    decay: float = 0.0
    momentum: float = 0.9
    memory: float = 1.0
    patience: int = 10
    minutes: float | None = None

    def __post_init__(self):
        number(1e-9, passes=self.passes, rate=self.rate, memory=self.memory, minutes=self.minutes)
        number(decay=self.decay), number(high=0.9999, momentum=self.momentum), whole(batch=self.batch, patience=self.patience)


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def fast_products(where: torch.device) -> Iterator[None]:
    """Products of matrices in TF32 on a GPU, in bf16 on a CPU that has tiles for it (AMX); as they were afterwards."""
    before = torch.get_float32_matmul_precision()
    tiles = where.type == "cpu" and torch.cpu._is_amx_tile_supported()
    torch.set_float32_matmul_precision("high" if where.type == "cuda" else "medium" if tiles else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def train(
    model: nn.Module,
    losses: dict[str, Callable[[Tensor, float], Tensor]],
    rows: int,
    plan: Plan,
    *,
    rng: torch.Generator,
    score: Callable[[], Tensor] | None = None,
    log: Callable[[str], None] = lambda line: None,
    look: Callable[[float], None] = lambda done: None,
    checkpoint: Path | None = None,
) -> list[float]:
    """Minimises each loss over the parameters of the part of the model that it is named after ("" is the whole), in turn.

    A loss gets the numbers of a batch's rows, (batch,) int64, and which share of the training is over. After each round (a
    pass, or ROUND rows) `score` is asked how good the averaged weights are on each held-out row, (m,), higher is better.
    The model ends with weights that no later ones surely beat (by a standard error of the difference: the first of equals
    has memorised least), or with the last if there is no score. Returns the mean scores. `look` is called after each round, with the
    averaged weights and the share of the training that is over. With a checkpoint, a training that
    was killed goes on after its last round and ends with the same weights. Raises DataError if a loss or a score is no number, or
    if held-out rows score far worse than before the training.
    """
    run = _Run(model, list(losses), rows, plan, drawn(rng), checkpoint)
    run.resume()
    if score and run.start is None:
        model.eval()
        with torch.no_grad(), fast_products(next(model.parameters()).device):
            run.start = float(score().mean())
    spent, started = run.spent, time.monotonic()
    while not run.over():
        shown = 0.0
        with stream(run.seed, run.round), fast_products(next(model.parameters()).device):
            model.train()
            for batch in run.batches():
                run.spent = spent + time.monotonic() - started
                rate = run.rate()
                for part, loss in losses.items():
                    shown = run.step(part, loss(batch, run.done()), rate)
                run.average()
                if run.late():
                    break
            model.eval()
            with run.averaged(), torch.no_grad():
                run.note(score().cpu() if score else None)
                look(run.done())
        run.round += 1
        run.spent = spent + time.monotonic() - started
        run.save()
        log(run.line(shown))
    run.finish()
    return run.scores


class _Run:
    """What there is to know in the middle of a training."""

    def __init__(self, model: nn.Module, parts: list[str], rows: int, plan: Plan, seed: int, checkpoint: Path | None):
        self.model, self.plan, self.rows, self.seed, self.path = model, plan, rows, seed, checkpoint
        self.size = min(rows, ROUND)  # rows of a round
        self.batch = min(plan.batch, rows)
        self.steps = max(self.size // self.batch, 1)
        self.rounds = max(math.ceil(plan.passes * rows / self.size), 1)
        self.round, self.spent, self.scores = 0, 0.0, []
        self.start: float | None = None  # the score before the training
        self.held: Tensor | None = None  # the scores of `best` on each held-out row
        self.optimizers = {p: torch.optim.AdamW(_groups(model.get_submodule(p), plan.decay), lr=plan.rate, betas=(plan.momentum, 0.99)) for p in parts}
        self.mean = {k: v.detach().clone() for k, v in model.named_parameters() if v.requires_grad}
        self.best = {k: v.clone() for k, v in self.mean.items()}
        self.keep = 1 - 1 / max(plan.memory * rows / self.batch, 1)
        self.taken = 0

    def over(self) -> bool:
        since = len(self.scores) - 1 - max(range(len(self.scores)), key=self.scores.__getitem__) if self.scores else 0
        return self.round >= self.rounds or self.late() or since >= self.plan.patience

    def late(self) -> bool:
        return self.plan.minutes is not None and self.spent >= 60 * self.plan.minutes

    def done(self) -> float:
        """The share of the training that is over, 0 to 1, by steps or by time, whichever is more."""
        by_time = self.spent / (60 * self.plan.minutes) if self.plan.minutes else 0.0
        return min(max(self.taken / (self.rounds * self.steps), by_time), 1.0)

    def rate(self) -> float:
        done = self.done()
        return self.plan.rate * min(done / WARM, 1.0) * 0.5 * (1 + math.cos(math.pi * done)) + 1e-9

    def batches(self) -> Iterator[Tensor]:
        """Rows in an order of this pass."""
        where, first = next(self.model.parameters()).device, self.round * self.size
        order = torch.randperm(self.rows, generator=torch.Generator().manual_seed((self.seed + first // self.rows) % 2**62))
        start = first % self.rows
        chosen = order[start : start + self.size].to(where)
        for i in range(self.steps):
            yield chosen[i * self.batch : (i + 1) * self.batch]

    def step(self, part: str, loss: Tensor, rate: float) -> float:
        found = float(loss.detach())
        if not math.isfinite(found):
            raise self.diverged(f"the loss is {found} in round {self.round + 1}, step {self.taken + 1}")
        optimizer = self.optimizers[part]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], CLIP)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return found

    def diverged(self, how: str) -> DataError:
        decay = f", or a decay below {self.plan.decay:g}" if self.plan.decay > DECAYS else ""
        return DataError(f"training diverged: {how}; try a rate below {self.plan.rate:g}{decay}")

    @torch.no_grad()
    def average(self) -> None:
        """The mean of the weights so far, then a moving one."""
        self.taken += 1
        share = max(1 / (self.taken + 1), 1 - self.keep)
        now = dict(self.model.named_parameters())
        torch._foreach_lerp_(list(self.mean.values()), [now[k].detach() for k in self.mean], share)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights."""
        now = {k: v.detach().clone() for k, v in self.model.named_parameters() if k in self.mean}
        self._set(self.mean)
        try:
            yield
        finally:
            self._set(now)

    def note(self, scores: Tensor | None) -> None:
        if scores is not None:
            self.scores.append(float(scores.mean()))
            if not math.isfinite(self.scores[-1]):
                raise self.diverged(f"held-out rows score {self.scores[-1]} in round {self.round + 1}")
            better = scores - self.held if self.held is not None else scores.new_ones(1)
            if better.mean() <= (better.std() / len(better) ** 0.5 if len(better) > 1 else 0):
                return
            self.held = scores.cpu()
        self.best = {k: v.clone() for k, v in self.mean.items()}

    def finish(self) -> None:
        if self.scores and max(self.scores) < self.start - LOST * (1 + abs(self.start)):
            raise self.diverged(f"held-out rows score {max(self.scores):.4g} at best, and {self.start:.4g} before the training")
        self._set(self.best)
        self.model.eval()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    @torch.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        now = dict(self.model.named_parameters())
        for k, v in values.items():
            now[k].copy_(v)

    def line(self, loss: float) -> str:
        left = (1 - self.done()) / max(self.done(), 1e-9) * self.spent
        held = f", held out {self.scores[-1]:.3f}" if self.scores else ""
        return f"round {self.round} of {self.rounds}: loss {loss:.3f}{held}, {self.spent:.0f} s, at most {left:.0f} s left"

    def save(self) -> None:
        """The state after a round, whole or not at all."""
        if self.path is None:
            return
        from safetensors.torch import save_file

        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"mean.{k}": v for k, v in self.mean.items()} | {f"best.{k}": v for k, v in self.best.items()}
        for part, optimizer in self.optimizers.items():
            for i, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{part}.{i}.{k}": v for k, v in state.items()}
        if self.held is not None:
            tensors["held"] = self.held
        facts = {"seed": self.seed, "round": self.round, "taken": self.taken, "spent": self.spent, "scores": self.scores, "start": self.start}
        beside = self.path.with_name(f".{self.path.name}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, beside, metadata={"facts": json.dumps(facts)})
        os.replace(beside, self.path)

    def resume(self) -> None:
        """Takes up a checkpoint of this very training, if there is one."""
        if self.path is None or not self.path.is_file():
            return
        from safetensors import safe_open

        with safe_open(self.path, "pt") as file:
            facts, tensors = json.loads(file.metadata()["facts"]), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        if facts.pop("seed") != self.seed:
            return
        self.model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        for name in ("mean", "best"):
            held = getattr(self, name)
            for k in held:
                held[k].copy_(tensors[f"{name}.{k}"])
        self.held = tensors.get("held")
        for part, optimizer in self.optimizers.items():
            start, state = f"optimizer.{part}.", {}
            for k, v in tensors.items():
                if k.startswith(start):
                    i, name = k.removeprefix(start).split(".")
                    state.setdefault(int(i), {})[name] = v
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        for name, value in facts.items():
            setattr(self, name, value)


def _groups(part: nn.Module, decay: float) -> list[dict]:
    """Matrices decay, all else does not."""
    trained = [p for p in part.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
