"""Lines over steps as one SVG: in the page's colours, light and dark, and read out by screen readers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sdplay.ui.views.text import esc

WIDTH, HEIGHT = 380, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One series. kind: faint, line or dots, as style.css draws them; tone: one of its colours, run, other, third or good."""

    name: str
    points: Sequence[Point]
    tone: str = "run"
    kind: str = "line"


@dataclass(frozen=True)
class Frame:
    """What part of the plane is shown."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def place(self, point: Point) -> Point:
        """In the SVG's units; outside values lie on the border."""
        x = (point[0] - self.x_low) / (self.x_high - self.x_low or 1)
        y = (min(max(point[1], self.y_low), self.y_high) - self.y_low) / (self.y_high - self.y_low or 1)
        return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)


def line_chart(title: str, lines: Sequence[Line], *, mark: float | None = None, from_zero: bool = False) -> str:
    """A titled chart with the last value of each series in its legend. mark: a step that gets a vertical line. Empty: no series."""
    shown = [line for line in lines if line.points]
    if not shown:
        return ""
    frame = _frame(shown, from_zero=from_zero)
    marked = _mark(frame, mark) if mark is not None else ""
    body = "".join(_drawn(line, frame) for line in shown)
    said = "; ".join(f"{line.name} {_number(line.points[-1][1])} at step {line.points[-1][0]:g}" for line in shown)
    legend = "".join(
        f'<span class="sd-key sd-tone-{line.tone} sd-kind-{line.kind}"><i></i>{esc(line.name)} <b>{_number(line.points[-1][1])}</b></span>'
        for line in shown
    )
    return (
        f'<figure class="sd-chart"><figcaption><strong>{esc(title)}</strong>{legend}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{esc(f"{title}: {said}")}">{_axes(frame)}{marked}{body}</svg></figure>'
    )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between low and high, 1, 2 or 5 times a power of ten apart, about `count` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _frame(lines: Sequence[Line], *, from_zero: bool) -> Frame:
    """All of every line, but only the bulk of a faint one: single steps may be far off."""
    steps = [x for line in lines for x, _ in line.points]
    values: list[float] = []
    for line in lines:
        own = sorted(y for _, y in line.points if math.isfinite(y))
        cut = len(own) // 50 if line.kind == "faint" else 0
        values += own[cut : len(own) - cut]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Frame(min(steps), max(steps), 0.0 if from_zero else low - margin, high + margin)


def _axes(frame: Frame) -> str:
    rows = []
    for value in ticks(frame.y_low, frame.y_high):
        y = frame.place((frame.x_low, value))[1]
        rows.append(f'<path class="sd-rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        rows.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    for value in ticks(frame.x_low, frame.x_high, 6):
        x = frame.place((value, frame.y_low))[0]
        rows.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{value:g}</text>')
    return "".join(rows)


def _drawn(line: Line, frame: Frame) -> str:
    places = [frame.place(point) for point in line.points if math.isfinite(point[1])]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) if places else ""
    dots = ""
    if line.kind == "dots" or len(places) == 1:
        told = (f"step {x:g}: {line.name} {_number(y)}" for x, y in line.points if math.isfinite(y))
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2"><title>{esc(text)}</title></circle>'
            for (x, y), text in zip(places, told, strict=True)
        )
    return f'<g class="sd-tone-{line.tone} sd-kind-{line.kind}"><path d="{path}"/>{dots}</g>'


def _mark(frame: Frame, step: float) -> str:
    x = frame.place((step, frame.y_low))[0]
    return f'<path class="sd-chosen" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'


def _number(value: float) -> str:
    """Three digits that matter: `0.0412`, `1.25`, `2e-05`."""
    return f"{value:.3g}"
