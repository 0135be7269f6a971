"""`privacy:` of flows.yaml: what is kept back of rare values, what differential privacy promises, and what all runs together may spend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from generators.data import DataError
from pipelines.series import LONGEST
from pipelines.sheet import mapping, number, text

if TYPE_CHECKING:
    from generators.descent import Descent
    from generators.synthesizer import Synthesizer
    from privacy.mechanism import Private

SMALLEST = 0.01  # epsilon below which nothing can be learned, and accountants do not reach
LARGEST = 10.0  # epsilon beyond which next to nothing is promised
TENFOLD = 10  # times a run's delta is a budget's, unless it says so itself
VALUES = 0.1  # share of delta that goes to values which nobody knew beforehand


@dataclass(frozen=True)
class Promise:
    """(epsilon, delta): whatever anybody sees of what is published is at most e^epsilon times as likely, but for delta, than without a subject's rows.

    rows: of one subject that are learned from, at most; steps: of series, the first so many of a subject
    """

    epsilon: float
    delta: float
    rows: int = 1
    steps: int | None = None

    def mechanism(self, training: Descent | None = None) -> Private:
        """What may be told in all, not yet shared out. training: of the model, if it is trained by steps; it says what counts then take."""
        from privacy.accounting import Steps, noise_of, rho_of
        from privacy.mechanism import Private

        curve, values = (1 - VALUES) * self.delta, VALUES * self.delta
        rho = rho_of(self.epsilon, curve)
        if training is None:
            return Private(rho, self.rows, values, steps=self.steps)
        noise = noise_of(self.epsilon, curve, training.counted * rho, training.chance, training.steps)
        return Private(training.counted * rho, self.rows, values, Steps(noise, training.chance, training.steps), self.steps)

    def kept(self, mechanism: Private) -> dict[str, Any]:
        """How it was kept, for report and manifest."""
        return {
            "epsilon": self.epsilon, "delta": self.delta, "rows_of_a_subject": self.steps or self.rows, "neighbours": "one subject more, or one less",
            "accountant": "Renyi differential privacy (Opacus)", "rho": mechanism.rho, "delta_of_unknown_values": mechanism.delta,
            "shares": dict(mechanism.answers), "training": mechanism.training and mechanism.training._asdict(),
            "reproducible": False, "why": "the noise comes from the operating system, and no seed controls it: who could draw it again could take it away",
            "decided_by": "subjects who were held out, of whom nothing was learned",
        }  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """(epsilon, delta) that all models of one population may spend together."""

    epsilon: float
    delta: float


def mechanism(model: Synthesizer, epsilon: float, delta: float, rows: int = 1, steps: int | None = None) -> Private:
    """What a model is fitted through to keep (epsilon, delta), in a notebook: `model.fit(table, mechanism=mechanism(model, 1, 1e-6))`.

    rows: of one subject, at most; or of series, which this says that they are, steps of one, at most: the first so many are learned from. It is
    spent by one fit. Kinds of columns, what is declared of them, and which ones stay (`read(..., static=[...])`) are to be known without the data.
    Raises DataError for what cannot be promised, or a family that cannot keep it."""
    from generators.building import descent_of, private
    from generators.layout import Layout, SeriesLayout

    if steps is not None and rows > 1:
        raise DataError(f"mechanism: rows: found {rows} beside steps, expected steps alone: a series is one row")
    kind, bound = (Layout, {"rows": rows}) if steps is None else (SeriesLayout, {"steps": steps})
    privacy({"epsilon": epsilon, "delta": delta} | bound, "mechanism")
    private(kind, model.family)
    training = descent_of(kind, model.family, model.arguments if steps else {k: v for k, v in model.arguments.items() if k != "static"})
    if training and rows > 1:
        raise DataError(f"mechanism: rows: found {rows}, expected 1: {model.family} is trained by steps, which know rows, and not whose they are")
    return Promise(epsilon, delta, rows, steps).mechanism(training)


def privacy(raw: Any, where: str) -> dict[str, Any]:
    """The fields of an Entry that stand under `privacy:`."""
    found = mapping(raw, where, SHEET)
    if ("epsilon" in found) != ("delta" in found):
        there, missing = ("epsilon", "delta") if "epsilon" in found else ("delta", "epsilon")
        raise DataError(f"{where}: found {there}: without {missing}:, expected both, such as {{epsilon: 3, delta: 1.0e-6}}")
    for key in ("rows", "steps", "budget"):
        if key in found and "epsilon" not in found:
            raise DataError(f"{where}.{key}: found without epsilon:, expected both: without differential privacy nothing can be added up")
    if {"rows", "steps"} <= set(found):
        raise DataError(f"{where}: found rows: and steps:, expected one of the two: steps: is for series, rows: for all else")
    promised = {key: found.pop(key) for key in ("epsilon", "delta", "rows", "steps") if key in found}
    if promised:
        found["promise"] = Promise(**promised)
        if "budget" in found:
            found["budget"] = Budget(**{"delta": min(TENFOLD * promised["delta"], DELTA)} | found["budget"])
            if found["budget"].epsilon < promised["epsilon"] or found["budget"].delta < promised["delta"]:
                raise DataError(f"{where}.budget: below what one run spends, expected at least epsilon {promised['epsilon']:g} and delta {promised['delta']:g}")
    return found


def _population(value: Any, where: str) -> str:
    if not text(value, where).isprintable() or len(value) > LONGEST_NAME:
        raise DataError(f"{where}: found letters that cannot be printed, or more than {LONGEST_NAME}, expected a name")
    return value


LONGEST_NAME = 100
DELTA = 1e-2  # at most
_EPSILON, _DELTA = partial(number, low=SMALLEST, high=LARGEST), partial(number, low=1e-15, high=DELTA)
SHEET = {
    "rare_below": partial(number, low=1, high=1e6, whole=True),
    "population": _population,
    "epsilon": _EPSILON,
    "delta": _DELTA,
    "rows": partial(number, low=1, high=1e6, whole=True),
    "steps": partial(number, low=2, high=LONGEST, whole=True),
    "budget": partial(mapping, sheet={"epsilon": partial(number, low=1e-3, high=1e6), "delta": _DELTA}, required=("epsilon",)),
}
