"""Charts as inline SVG: pure functions from figures to markup. Every word from outside is escaped, colours are CSS classes.

Classes: real (blue), fake (orange, synthetic), axis, grid, mute (small grey text), heat, chosen, other, bound, out. The page that
shows a chart defines them, so one chart is right on paper, in the light and in the dark. A figure that is None is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from markupsafe import Markup, escape

Figure = float | None


def known(values: Iterable[Figure]) -> list[float]:
    """The figures that are numbers."""
    return [v for v in values if isinstance(v, int | float) and math.isfinite(v)]


def scale(values: Iterable[Figure], start: float, stop: float, pad: float = 0.0) -> Callable[[float], float]:
    """A linear map of the range of the figures, widened by `pad` on both sides, to [start, stop]."""
    found = known(values) or [0.0, 1.0]
    low, high = min(found), max(found)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    low, high = low - pad * (high - low), high + pad * (high - low)
    return lambda v: round(start + (stop - start) * (v - low) / (high - low), 1)


def tag(name: str, body: object = None, **attributes: object) -> Markup:
    """One element; `kind` is its class, _ in a name is -, what is None is left out, and all is escaped."""
    words = "".join(f' {"class" if k == "kind" else k.replace("_", "-")}="{escape(v)}"' for k, v in attributes.items() if v is not None)
    return Markup(f"<{name}{words}/>" if body is None else f"<{name}{words}>{escape(body)}</{name}>")


def drawing(width: float, height: float, label: str, parts: Iterable[Markup], kind: str = "chart") -> Markup:
    """The SVG as a picture with a spoken label; it scales with the room it is given."""
    body = Markup("").join(parts)
    return tag("svg", body, kind=kind, viewBox=f"0 0 {width:g} {height:g}", width=f"{width:g}", height=f"{height:g}", role="img", aria_label=label)


def write(x: float, y: float, words: object, kind: str = "mute", anchor: str = "start", most: int = 99, **more: object) -> Markup:
    """Text of at most so many characters; what is longer is cut, and whole in its tooltip."""
    words = str(words)
    body = words if len(words) <= most else Markup("{}…{}").format(words[: most - 1].rstrip(), tag("title", words))
    return tag("text", body, x=f"{x:g}", y=f"{y:g}", kind=kind, text_anchor=anchor if anchor != "start" else None, **more)


def line(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """A line through points."""
    return tag("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in points), kind=f"line {kind}")


def percent(share: Figure) -> str:
    """A share in words."""
    if share is None:
        return "fewer people than may be shown"
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"


def figure(value: float) -> str:
    """A number on an axis: 12.5, 40k, 3.2M."""
    for unit, power in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= max(power, 1e4):
            return f"{value / power:.4g}{unit}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten, about so many steps."""
    width = max(high - low, 1e-9) / about
    power = 10.0 ** math.floor(math.log10(width))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= width * (1 - 1e-9))
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def interval(
    value: Figure, low: Figure, high: Figure, yardstick: Figure, bounds: tuple = (None, None), ends: Sequence = (), words: str = "", kind: str = "fake"
) -> Markup:
    """A dot for the figure, a bar for its interval, a tick for the yardstick; what lies past a bound (least, most) is shaded."""
    width, middle, (least, most) = 240, 14, bounds
    value, low, high, yardstick = (v if known([v]) else None for v in (value, low, high, yardstick))
    x = scale([value, low, high, yardstick, least, most, *(ends or ())], 8, width - 8, 0.04)
    parts = [tag("line", x1=0, x2=width, y1=middle, y2=middle, kind="grid")]
    for bound, past in ((least, lambda at: (0, at)), (most, lambda at: (at, width - at))):
        if bound is not None:
            start, wide = past(x(bound))
            parts.append(tag("rect", x=f"{start:g}", y=3, width=f"{wide:g}", height=22, kind="out"))
            parts.append(tag("line", x1=x(bound), x2=x(bound), y1=3, y2=25, kind="bound"))
    if low is not None and high is not None:
        parts.append(tag("rect", x=x(low), y=middle - 3, width=f"{max(1, x(high) - x(low)):.1f}", height=6, rx=3, kind="span"))
    if yardstick is not None:
        parts.append(tag("rect", x=f"{x(yardstick) - 1.25:g}", y=middle - 8, width=2.5, height=16, kind="real"))
    if value is not None:
        parts.append(tag("circle", cx=x(value), cy=middle, r=4.5, kind=f"{kind} dot"))
    return drawing(width, 28, words, parts, f"chart interval of-{kind}")


def histogram(edges: Sequence[float], real: Sequence[Figure], synthetic: Sequence[Figure], name: str, said: Callable[[float], str] = figure) -> Markup:
    """Shares in bins, the outermost open: real as an area, synthetic as a line. A grey foot marks what may not be shown of the real."""
    width, top, floor, bins, edges = 260, 6, 104, max(len(real), len(synthetic)), known(edges)
    if not bins or not known([*real, *synthetic]):
        return drawing(width, 60, f"{name}: no values", [write(width / 2, 34, "no values to show", anchor="middle")])
    step, y = (width - 2) / bins, scale([0, *real, *synthetic], floor, top)
    parts, outline = [], []
    for i in range(bins):
        ours, theirs = (s[i] if i < len(s) else None for s in (real, synthetic))
        x, height = 1 + i * step, 9 if ours is None else floor - y(ours)
        kind = "hidden" if ours is None else "real area"
        parts.append(tag("rect", x=f"{x:.1f}", width=f"{step:.1f}", y=f"{floor - height:.1f}", height=f"{height:.1f}", kind=kind))
        if theirs is not None:
            outline += [(round(x, 1), y(theirs)), (round(x + step, 1), y(theirs))]
        tip = f"{between(edges, i, said)}: real {percent(ours)}, synthetic {percent(theirs) if theirs is not None else 'none'}"
        parts.append(tag("rect", tag("title", tip), x=f"{x:.1f}", y=0, width=f"{step:.1f}", height=floor, kind="tip"))
    parts.append(tag("line", x1=0, x2=width, y1=floor, y2=floor, kind="axis"))
    for i in sorted({0, len(edges) // 2, len(edges) - 1}) if edges else []:
        x = 1 + (i + 1) * step
        parts.append(tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=floor, y2=floor + 4, kind="axis"))
        at, anchor = (0, "start") if x < 28 else (width, "end") if x > width - 28 else (round(x, 1), "middle")
        parts.append(write(at, floor + 16, said(edges[i]), anchor=anchor))
    return drawing(width, floor + 22, f"{name}: shares of real and synthetic rows in {bins} bins", [*parts, line(outline, "fake")])


def between(edges: Sequence[float], i: int, said: Callable[[float], str]) -> str:
    """A bin in words."""
    if not edges:
        return "all"
    return f"below {said(edges[0])}" if i == 0 else f"{said(edges[-1])} and more" if i >= len(edges) else f"{said(edges[i - 1])} to {said(edges[i])}"


def bars(values: Sequence[str], real: Sequence[Figure], synthetic: Sequence[Figure], name: str, most: int = 6) -> Markup:
    """Shares of values, two bars each, the most frequent ones; all others are added up. A grey bar may not be shown."""
    rows = [(str(v), r, s or 0.0) for v, r, s in zip(values, real, synthetic, strict=False) if r != 0 or s or v not in ("(rare)", "(null)")]
    if len(rows) > most:
        rows = sorted(rows, key=lambda row: -max(known(row[1:])))
        rest = rows[most - 1 :]
        rows = [*rows[: most - 1], (f"{len(rest)} others", sum(known(r for _, r, _ in rest)), sum(s for *_, s in rest))]
    if not rows:
        return drawing(260, 60, f"{name}: no values", [write(130, 34, "no values to show", anchor="middle")])
    x, parts = scale([0, 0.05, *(v for row in rows for v in row[1:])], 0, 112), []
    for i, (value, ours, theirs) in enumerate(rows):
        y = 4 + 23 * i
        parts.append(write(100, y + 12, value, "label", "end", 15))
        for share, top, kind in ((ours, y, "real"), (theirs, y + 9, "fake")):
            parts.append(tag("rect", x=106, y=top, width=8 if share is None else max(0.8, x(share)), height=8, kind="hidden" if share is None else kind, rx=1))
            parts.append(write(260, top + 7.5, "too few" if share is None else percent(share), f"mute small {kind}", "end"))
    return drawing(260, 8 + 23 * len(rows), f"{name}: shares of {len(rows)} values, real and synthetic", parts)


def dumbbells(rows: Sequence[tuple[str, Figure, Figure]], top: float, of: str = "missing values by column") -> Markup:
    """One line a row: the real share as a blue dot, the synthetic as an orange one, on a scale from 0 to `top`."""
    x, parts = scale([0, top], 130, 350), []
    for tick in (0, top / 2, top):
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=18, y2=18 + 20 * len(rows), kind="grid"))
        parts.append(write(x(tick), 11, percent(tick), anchor="middle"))
    for i, (name, real, fake) in enumerate(rows):
        y, ends = 29 + 20 * i, known([real, fake])
        row = [tag("title", f"{name}: real {percent(real)}, synthetic {percent(fake)}"), write(118, y + 4, name, "label", "end", 18)]
        if len(ends) == 2:
            row.append(tag("line", x1=x(ends[0]), x2=x(ends[1]), y1=y, y2=y, kind="join"))
        row += [tag("circle", cx=x(v), cy=y, r=r, kind=kind) for v, kind, r in ((real, "real", 5), (fake, "fake", 3.5)) if v is not None]
        parts.append(tag("g", Markup("").join(row)))
    return drawing(372, 26 + 20 * len(rows), f"share of {of}, real and synthetic", parts, "chart capped")


def heatmap(names: Sequence[str], matrix: Sequence[Sequence[Figure]], top: float) -> Markup:
    """The lower triangle of a table of pairs; the stronger the colour, the larger the figure, full at `top`."""
    count = len(names)
    cell, left = (30 if count <= 14 else 21 if count <= 34 else 14.5), 150
    size, parts = left + cell * count, []
    for i, row in enumerate(matrix[:count]):
        parts.append(write(left - 6, i * cell + cell / 2 + 4, names[i], "label", "end", 23))
        for j in range(min(i, len(row))):
            value = row[j]
            tip = tag("title", f"{names[i]} × {names[j]}: {'not defined' if value is None else f'{value:.3f}'}")
            look = {"kind": "undefined"} if value is None else {"kind": "heat", "fill_opacity": f"{0.04 + 0.96 * min(1.0, value / top):.2f}"}
            parts.append(tag("rect", tip, x=f"{left + j * cell:g}", y=f"{i * cell:g}", width=f"{cell - 1:g}", height=f"{cell - 1:g}", **look))
    for j, name in enumerate(names):
        x, y = left + j * cell + cell / 2 + 3, count * cell + 8
        parts.append(write(x, y, name, "label", "end", 21, transform=f"rotate(-90 {x:g} {y:g})"))
    return drawing(size, count * cell + 140, f"difference of dependence between each two of {count} columns", parts, "chart fixed")


def curves(lines: Sequence[tuple[str, Sequence[Figure], bool]], unit: str) -> Markup:
    """One line a candidate over its steps, the chosen one in colour. The scale leaves out the first figures of a steep start."""
    width, left, floor = 430, 48, 220
    drawn = [(words, [v if v in known([v]) else None for v in values], chosen) for words, values, chosen in lines if known(values)]
    ends = [known(values) for _, values, _ in drawn]
    if not drawn:
        return drawing(width, 60, "no training curve", [write(width / 2, 34, "no curve was kept", anchor="middle")])
    best = known(v for _, values, chosen in drawn if chosen for v in values) or ends[0]
    high, low = max(v for e in ends for v in e), min(*best, *(e[-1] for e in ends if e[-1] >= min(best) - 3 * (max(best) - min(best) + 0.1)))
    x, y = scale([0, max(2, *(len(v) for _, v, _ in drawn)) - 1], left + 8, width - 10), scale([low, high], floor - 8, 12)
    parts = [tag("title", f"{unit}, by step")]
    for at in ticks(low, high):
        parts += [tag("line", x1=left, x2=width, y1=y(at), y2=y(at), kind="grid"), write(left - 8, y(at) + 4, figure(at), anchor="end")]
    for words, values, chosen in sorted(drawn, key=lambda one: one[2]):
        points = [(x(i), y(v)) for i, v in enumerate(values) if v is not None and v >= low - 0.02 * (high - low)]
        body = [line(points, "chosen" if chosen else "other")] if points else []
        body += [tag("circle", cx=points[-1][0], cy=points[-1][1], r=4 if chosen else 2.5, kind="chosen" if chosen else "other")] if points else []
        parts.append(tag("g", Markup("").join([tag("title", words), *body])))
    longest = max(len(v) for _, v, _ in drawn)
    parts += [write(x(i), floor + 14, i + 1, anchor="middle") for i in sorted({0, (longest - 1) // 2, longest - 1})]
    return drawing(width, floor + 22, f"{unit} of {len(drawn)} candidates", parts, "chart capped")


def overlaid(
    series: Sequence[Sequence[Sequence[float]]], times: Sequence[float], band: Mapping[str, Sequence[Figure]], name: str, said: Callable[[float], str]
) -> Markup:
    """Synthetic series as thin lines, [time, value] each; behind them the real ones' quantiles (low, middle, high) over time as a band."""
    width, left, floor, top = 430, 48, 178, 8
    points = [p for one in series for p in one if len(known(p)) == 2]
    if not points:
        return drawing(width, 60, f"{name}: no values", [write(width / 2, 34, "no values to show", anchor="middle")])
    ends = known(v for key in ("low", "high") for v in band.get(key) or [])
    x, y = scale([0, *times, *(p[0] for p in points)], left + 4, width - 4), scale([*ends, *(p[1] for p in points)], floor - 4, top)
    parts = []
    for at in ticks(min(p[1] for p in points), max(p[1] for p in points)):
        parts += [tag("line", x1=left, x2=width, y1=y(at), y2=y(at), kind="grid"), write(left - 6, y(at) + 4, said(at), anchor="end")]
    shown = [row for row in zip(times, *(band.get(k) or [] for k in ("low", "middle", "high")), strict=False) if len(known(row)) == 4]
    if len(shown) > 1:
        around = [*((x(t), y(low)) for t, low, _, _ in shown), *((x(t), y(high)) for t, _, _, high in reversed(shown))]
        parts += [tag("polygon", points=" ".join(f"{a:g},{b:g}" for a, b in around), kind="real area"), line([(x(t), y(m)) for t, _, m, _ in shown], "real")]
    parts += [line([(x(t), y(v)) for t, v in one], "fake thin") for one in series if one]
    parts.append(tag("line", x1=left, x2=width, y1=floor, y2=floor, kind="axis"))
    for at in ticks(0, max(p[0] for p in points)):
        parts.append(write(x(at), floor + 14, figure(at), anchor="middle"))
    return drawing(width, floor + 20, f"{name}: {len(series)} synthetic series over the middle 80 % of the real ones", parts, "chart capped")


def beside(real: Sequence[Figure], synthetic: Sequence[Figure], marks: Sequence[str], words: str, low: float, high: float) -> Markup:
    """Two lines over the same places, which marks (first, last) name: real and synthetic."""
    width, left, floor = 260, 34, 104
    count, found = max(len(real), len(synthetic)), known([*real, *synthetic])
    if not found:
        return drawing(width, 60, words, [write(width / 2, 34, "no values to show", anchor="middle")])
    x, y = scale([0, max(count - 1, 1)], left + 6, width - 6), scale([low, high, *found], floor - 4, 8)
    parts = []
    for at in ticks(min(low, *found), max(high, *found), 3):
        parts += [tag("line", x1=left, x2=width, y1=y(at), y2=y(at), kind="grid"), write(left - 5, y(at) + 4, figure(at), anchor="end")]
    for values, kind in ((real, "real"), (synthetic, "fake")):
        some = [(x(i), y(v)) for i, v in enumerate(values) if known([v])]
        parts += [line(some, kind)] if len(some) > 1 else [tag("circle", cx=a, cy=b, r=3, kind=kind) for a, b in some]
    parts += [write(left + 6, floor + 14, marks[0]), write(width - 6, floor + 14, marks[-1], anchor="end")]
    return drawing(width, floor + 20, words, parts)
