"""Charts of a report page as SVG in the page's own colours: the camera's way from above, and its height over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recon4d.view.axes import round_ticks, tick_texts
from recon4d.view.report_parts import Html, tag

WIDTH, HEIGHT = 520, 360
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 44
LINES_OF_SIGHT = 14


@dataclass(frozen=True)
class Way:
    """Where the camera was, in axes whose last one is up."""

    points: np.ndarray  # (N, 3), right, ahead, up; in `unit`
    looks: np.ndarray  # (N, 3) unit vectors, the same axes
    times_s: np.ndarray  # (N,)
    evidence: np.ndarray  # (N,) bool: measured or imported, not filled in
    unit: str  # "m" or "units"
    levelled: bool  # up is known


def way_from_above(way: Way) -> Html:
    """The way seen from above with equal axes: where it starts and ends, and which way the camera looks."""
    low, high = way.points[:, :2].min(axis=0), way.points[:, :2].max(axis=0)
    middle, inside = (low + high) / 2, np.array([WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM])
    scale = float(np.max(np.maximum(high - low, 1e-9) / inside)) * 1.25
    if not np.ptp(way.points[:, :2]) > 0:  # one pose
        scale = 1.0 / float(inside.min())
    half = inside * scale / 2
    x_range, y_range = ((float(middle[k] - half[k]), float(middle[k] + half[k])) for k in (0, 1))
    chart = _Chart(x_range, y_range)
    parts = chart.frame(f"across ({way.unit})", f"ahead ({way.unit})")
    step = max(1, len(way.points) // LINES_OF_SIGHT)
    reach = 26 * scale
    for i in range(0, len(way.points), step):
        ahead = way.looks[i, :2] / max(float(np.linalg.norm(way.looks[i])), 1e-9)
        start, end = chart.at(*way.points[i, :2]), chart.at(*(way.points[i, :2] + reach * ahead))
        parts.append(_line(start, end, stroke="var(--bar)", stroke_width=1.4, opacity=0.75))
    parts.append(chart.path(way.points[:, 0], way.points[:, 1]))
    parts += [chart.dot(*way.points[i, :2], hollow=True) for i in np.flatnonzero(~way.evidence)]
    parts += [chart.dot(*way.points[0, :2], name="start"), chart.dot(*way.points[-1, :2], name="end")]
    return _svg(parts, "the way of the camera from above")


def height_over_time(way: Way) -> Html:
    """Height of the camera against time."""
    up = way.points[:, 2]
    # A camera carried level must not look like a mountain: at least a tenth of the way is shown.
    room = max(float(np.ptp(up)), 0.1 * float(np.linalg.norm(np.ptp(way.points, axis=0))), 1e-6)
    middle = float(up.max() + up.min()) / 2
    first, last = float(way.times_s[0]), float(way.times_s[-1])
    chart = _Chart((first, max(last, first + 1e-3)), (middle - 0.6 * room, middle + 0.6 * room))
    parts = chart.frame("time (s)", f"height ({way.unit})")
    parts.append(chart.path(way.times_s, up))
    parts += [chart.dot(way.times_s[i], up[i], hollow=True) for i in np.flatnonzero(~way.evidence)]
    return _svg(parts, "height of the camera over time")


class _Chart:
    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float]) -> None:
        self.x_range, self.y_range = x_range, y_range

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        up = (y - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def frame(self, x_name: str, y_name: str) -> list[Html]:
        """Grid, numbers and names of the axes."""
        parts = []
        xs, ys = round_ticks(*self.x_range, most=6), round_ticks(*self.y_range, most=5)
        for x, text in zip(xs, tick_texts(xs)):
            column = self.at(x, self.y_range[0])[0]
            parts.append(_line((column, TOP), (column, HEIGHT - BOTTOM), stroke="var(--line)"))
            parts.append(_text(text, column, HEIGHT - BOTTOM + 18, "middle"))
        for y, text in zip(ys, tick_texts(ys)):
            row = self.at(self.x_range[0], y)[1]
            parts.append(_line((LEFT, row), (WIDTH - RIGHT, row), stroke="var(--line)"))
            parts.append(_text(text, LEFT - 7, row + 4, "end"))
        parts.append(_text(x_name, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle"))
        parts.append(_text(y_name, LEFT + 6, TOP + 14, "start"))
        return parts

    def path(self, x: np.ndarray, y: np.ndarray) -> Html:
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in (self.at(*each) for each in zip(x, y)))
        return tag("polyline", points=points, fill="none", stroke="var(--accent)", stroke_width=2.4)

    def dot(self, x: float, y: float, name: str | None = None, hollow: bool = False) -> Html:
        column, row = self.at(x, y)
        fill = "var(--card)" if hollow else "var(--accent)"
        mark = tag(
            "circle", cx=f"{column:.1f}", cy=f"{row:.1f}", r=3 if hollow else 5, fill=fill, stroke="var(--accent)"
        )
        return mark if name is None else Html(mark + _text(name, column + 9, row - 7, "start"))


def _line(start: tuple[float, float], end: tuple[float, float], **style: object) -> Html:
    (x1, y1), (x2, y2) = ([f"{value:.1f}" for value in point] for point in (start, end))
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, **style)


def _text(text: str, x: float, y: float, anchor: str) -> Html:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _svg(parts: list[Html], name: str) -> Html:
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=name)
