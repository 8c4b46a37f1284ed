"""Figures as inline SVG: no picture files, no script, colours from the page's style sheet, so
that they follow light and dark.

Why not matplotlib: its import alone takes longer than the whole page, and its pictures know one colour scheme only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 232
MAP = 720, 520  # width, height
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 24, 36
MOST_POINTS = 120
COLOURS = 8  # classes c0 … c7 of the style sheet; "other" is grey


@dataclass(frozen=True)
class Series:
    """One line: x and y of equal length; `colour` is a class of the style sheet (c0 … c7, muted)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dashed: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Axis:
    """Label, range (None: the data's own), and how a tick is written."""

    label: str
    low: float | None = None
    high: float | None = None
    tick: Callable[[float], str] = lambda value: f"{value:g}"


def as_percent(value: float) -> str:
    return f"{100 * value:g}%"


def as_short_count(value: float) -> str:
    """2500 → 2.5k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def line_chart(summary: str, series: Sequence[Series], x: Axis, y: Axis, diagonal: bool = False) -> Markup | None:
    """Lines over two linear axes; None where no series has a finite point. `summary` is what a screen reader says."""
    cleaned = [(s, *_clean(s)) for s in series]
    cleaned = [(s, xs, ys) for s, xs, ys in cleaned if xs.size]
    if not cleaned:
        return None
    frame = _Frame(_range([xs for _, xs, _ in cleaned], x), _range([ys for _, _, ys in cleaned], y))
    parts = [frame.axes(x, y)]
    if diagonal:
        low, high = max(frame.x[0], frame.y[0]), min(frame.x[1], frame.y[1])
        ends = np.array([low, high])
        parts.append(Markup('<path class="diagonal" d="{}"/>').format(frame.path(ends, ends)))
    for one, xs, ys in cleaned:
        parts.append(_line(frame, one, xs, ys))
    return _svg("chart", WIDTH, HEIGHT, summary, parts)


def _line(frame: _Frame, one: Series, xs: np.ndarray, ys: np.ndarray) -> Markup:
    style = f"line {one.colour}" + (" dashed" if one.dashed else "")
    result = Markup('<path class="{}" d="{}"><title>{}</title></path>').format(style, frame.path(xs, ys), one.name)
    if one.dots or xs.size == 1:
        for px, py in zip(frame.horizontal(xs), frame.vertical(ys), strict=True):
            result += Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.6"/>').format(one.colour, px, py)
    return result


def column_chart(
    summary: str, values: Sequence[float], labels: Sequence[str], edges: Sequence[float], x: Axis, y: Axis
) -> Markup | None:  # fmt: skip
    """Upright columns side by side, each with its label as a tooltip; of the edges between them (one more) the first,
    middle and last stand below."""
    heights = np.nan_to_num(np.asarray(values, np.float64))
    if not heights.size:
        return None
    frame = _Frame((0.0, float(heights.size)), (0.0, float(max(heights.max(), 1e-12)) * 1.05))
    parts = [frame.axes(x, y, x_ticks=False)]
    step = (WIDTH - LEFT - RIGHT) / heights.size
    for i, (height, label) in enumerate(zip(heights, labels, strict=True)):
        top = float(frame.vertical(np.array([height]))[0])
        left, width = LEFT + i * step + step * 0.08, max(step * 0.84, 0.5)
        place = Markup('x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:.1f}"').format(
            left, top, width, HEIGHT - BOTTOM - top)
        parts.append(Markup('<rect class="column c0" {}><title>{}: {}</title></rect>').format(
            place, label, f"{height:,.6g}"))
    for i in sorted({0, heights.size // 2, heights.size}):
        parts.append(_tick_below(LEFT + i * step, x.tick(edges[i])))
    return _svg("chart", WIDTH, HEIGHT, summary, parts)


def scatter(summary: str, points: np.ndarray, colours: Sequence[str], names: Sequence[str]) -> Markup:
    """points (n, 2) to fill the picture, one colour class and one tooltip group each; no axes, since
    a map of this kind has none."""
    (width, height), low, high = MAP, points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1) * [width - 24, height - 24] + 12
    parts = []
    for colour in sorted(set(colours), key=lambda c: (c != "other", c)):  # grey ones below the others
        chosen = [i for i, c in enumerate(colours) if c == colour]
        dots = Markup("").join(Markup('<circle cx="{:.0f}" cy="{:.0f}" r="4"/>').format(*scaled[i]) for i in chosen)
        parts.append(Markup('<g class="cloud {}"><title>{}</title>{}</g>').format(colour, names[chosen[0]], dots))
    return _svg("map", width, height, summary, parts)


def _svg(kind: str, width: int, height: int, summary: str, parts: Sequence[Markup]) -> Markup:
    opening = Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        kind, width, height, summary)
    return opening + Markup("").join(parts) + Markup("</svg>")


def _tick_below(at: float, value: str) -> Markup:
    """A number below the horizontal axis."""
    tick = Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
    return tick.format(at, HEIGHT - BOTTOM + 13, value)


@dataclass(frozen=True)
class _Frame:
    """Ranges of the data; turns data into pixels."""

    x: tuple[float, float]
    y: tuple[float, float]

    def horizontal(self, values: np.ndarray) -> np.ndarray:
        return LEFT + (values - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)

    def vertical(self, values: np.ndarray) -> np.ndarray:
        return HEIGHT - BOTTOM - (values - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - TOP - BOTTOM)

    def path(self, xs: np.ndarray, ys: np.ndarray) -> str:
        points = zip(self.horizontal(xs), self.vertical(ys), strict=True)
        return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)

    def axes(self, x: Axis, y: Axis, x_ticks: bool = True) -> Markup:
        right = WIDTH - RIGHT
        line = Markup('<path class="grid" d="M{} {:.1f}H{}"/>')
        tick = Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>')
        below = Markup('<text class="label" x="{}" y="{}" text-anchor="end">{}</text>')
        parts = []
        for value in ticks(*self.y):
            at = float(self.vertical(np.array([value]))[0])
            parts += [line.format(LEFT, at, right), tick.format(LEFT - 6, at + 3.5, y.tick(value))]
        for value in ticks(*self.x) if x_ticks else ():
            parts.append(_tick_below(float(self.horizontal(np.array([value]))[0]), x.tick(value)))
        parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, HEIGHT - BOTTOM, right))
        parts.append(below.format(right, HEIGHT - 6, x.label))
        parts.append(Markup('<text class="label" x="0" y="10">{}</text>').format(y.label))
        return Markup("").join(parts)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from low to high, about so many."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _range(values: Sequence[np.ndarray], axis: Axis) -> tuple[float, float]:
    everything = np.concatenate(values)
    low = float(everything.min()) if axis.low is None else axis.low
    high = float(everything.max()) if axis.high is None else axis.high
    if high - low > 1e-12 * max(1.0, abs(low)):
        return low, high
    return low - max(abs(low), 1.0) * 0.05, high + max(abs(high), 1.0) * 0.05


def _clean(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Finite points only, and no more of them than can be seen."""
    xs, ys = (np.array([np.nan if v is None else v for v in values], np.float64) for values in (series.x, series.y))
    n = min(xs.size, ys.size)
    kept = np.flatnonzero(np.isfinite(xs[:n]) & np.isfinite(ys[:n]))
    if kept.size > MOST_POINTS:
        kept = kept[np.unique(np.linspace(0, kept.size - 1, MOST_POINTS).round().astype(int))]
    return xs[kept], ys[kept]


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """(colour class, name) as a list below a figure."""
    item = Markup('<li><span class="swatch {}"></span>{}</li>')
    items = Markup("").join(item.format(c, escape(n)) for c, n in entries)
    return Markup('<ul class="legend">{}</ul>').format(items)
