"""What arguments of generators may be. Each raises ValueError with the name, what was found and what was expected."""

from __future__ import annotations

import math
from typing import Any

NEXT_TO_NOTHING, MOST = 1e-6, 1_000_000


def whole(least: int = 1, **named: Any) -> None:
    """Whole numbers, or None where it stands for a default."""
    for name, value in named.items():
        if value is not None and not (isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST):
            raise ValueError(f"{name}: found {value!r}, expected a whole number from {least} to {MOST:,}")


def number(low: float = 0.0, high: float = math.inf, **named: Any) -> None:
    """Numbers from low to high, or None where it stands for a default. A low of next to nothing stands for anything above 0."""
    least = "above 0" if 0 < low < NEXT_TO_NOTHING else f"from {low:g}"
    for name, value in named.items():
        fine = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high and math.isfinite(value)
        if value is not None and not fine:
            raise ValueError(f"{name}: found {value!r}, expected a number {least}" + (f" to {high:g}" if high < math.inf else ""))
