"""Building: which families there are for what a layout says, and a generator of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from generators.data import DataError, Schema
from generators.descent import Descent
from generators.images.album import Album
from generators.layout import ImageLayout, Layout, SeriesLayout
from generators.registry import FAMILIES, OF_IMAGES, OF_SERIES
from generators.series.panel import Panel

# what data of a layout are called, which families generate them, and what joins a family with one that says what stays
BUILT = {Layout: ("tables", FAMILIES, None), SeriesLayout: ("series", OF_SERIES, Panel), ImageLayout: ("images", OF_IMAGES, Album)}

MARGINS = "marginals"  # the family of tables that follows data best at the same privacy


def build(family: str, layout: Layout | SeriesLayout | ImageLayout, arguments: Mapping[str, Any]) -> Any:
    """A generator of this family. Raises DataError where its constructor refuses an argument, or the family is for other data.

    Of series and images, `static:` among the arguments is the family that says what stays, or what stands beside a picture: without it
    `autoregressive`, which follows few rows best, or `gmm` where there is nothing of the kind."""
    what, families, joint = BUILT[type(layout)]
    if family not in families:
        raise DataError(f"generator: {family} does not generate {what}, expected one of {', '.join(families)}")
    own = dict(arguments)
    try:
        if joint is None:
            return families[family](layout, **own)
        static = own.pop("static", "autoregressive" if len(layout.static) > 1 else "gmm")
        if static not in FAMILIES:
            raise ValueError(f"static: unknown family {static!r}, expected one of {', '.join(FAMILIES)}")
        return joint(layout, FAMILIES[static](layout.static), families[family](layout, **own))
    except (TypeError, ValueError) as problem:
        raise DataError(f"generator.{family}: {problem}") from None


def kind_of(schema: Schema) -> type:
    """The kind of layout that data of this schema have."""
    return SeriesLayout if schema.time else ImageLayout if schema.image else Layout


def private(kind: type, family: str | None = None) -> list[str]:
    """The families that learn under differential privacy what a layout of this kind says. Raises DataError where `family` is none of them."""
    what, families, _ = BUILT[kind]
    able = [name for name, of in families.items() if getattr(of, "private", False) or getattr(of, "descent", None)]
    if family is not None and family not in able:
        raise DataError(f"generator: {family} does not learn {what} under differential privacy, expected one that does: {', '.join(able)}")
    return able


def beside(kind: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments under differential privacy: with the family that says what stands beside a picture. Raises DataError for one that cannot keep it."""
    if BUILT[kind][2] is None:
        return dict(arguments)
    able = [name for name, of in FAMILIES.items() if getattr(of, "private", False)]
    if arguments.get("static", MARGINS) not in able:
        raise DataError(f"generator: static: {arguments['static']} does not learn from noisy sums and counts, expected one that does: {', '.join(able)}")
    return {"static": MARGINS} | dict(arguments)


NOTHING = {Layout: Layout(()), SeriesLayout: SeriesLayout(Layout(()), Layout(()), ((1, 1),)), ImageLayout: ImageLayout(Layout(()), (1, 8, 8))}


def descent_of(kind: type, family: str, arguments: Mapping[str, Any]) -> Descent | None:
    """How such a model, of what a layout of this kind says, is trained through a mechanism, if it is by steps."""
    model = build(family, NOTHING[kind], arguments)
    model = getattr(model, "rest", model)
    return model.how if getattr(model, "descent", None) else None
