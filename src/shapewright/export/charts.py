"""Line charts as inline SVG."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float

from shapewright.export.report import Curve, shown

WIDTH, HEIGHT = 440, 230
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 34
MAX_POINTS = 400

Values = Float[np.ndarray, " points"]


@dataclass(frozen=True)
class _Axis:
    """Map values to pixels, by their logarithm if asked."""

    low: float
    high: float
    start_px: float
    end_px: float
    is_log: bool = False

    def pixels(self, values: Values) -> Values:
        """Return where values lie along the axis."""
        share = (self._scaled(values) - self._scaled(self.low)) / (self._scaled(self.high) - self._scaled(self.low))
        return self.start_px + share * (self.end_px - self.start_px)

    def _scaled(self, values: Values | float) -> Values:
        return np.log10(values) if self.is_log else np.asarray(values, dtype=np.float64)

    def ticks(self) -> Values:
        """Return round values inside the range."""
        if self.is_log:
            exponents = np.arange(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            ticks = 10.0 ** exponents[:: max(1, len(exponents) // 5)]
            return ticks if len(ticks) >= 2 else _round_steps(self.low, self.high)
        return _round_steps(self.low, self.high)


def _round_steps(low: float, high: float) -> Values:
    """Return about five multiples of 1, 2 or 5 times a power of ten between two values."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return step * np.arange(first, math.floor(high / step + 1e-9) + 1)


def line_chart(curve: Curve) -> str:
    """Return a figure with the curve: raw values faint, a running mean bold, and its last value in the caption.

    Positive values that span more than a factor of 50 get a logarithmic axis.
    """
    x, y = np.asarray(curve.x, dtype=np.float64), np.asarray(curve.y, dtype=np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if not len(x):
        return ""
    smooth = _running_mean(y)
    x, y, smooth = (_thinned(values) for values in (x, y, smooth))
    across = _Axis(*_widened(x.min(), x.max()), LEFT, WIDTH - RIGHT)
    is_log = bool(y.min() > 0 and y.max() > 50 * y.min())
    low, high = (y.min() / 1.1, y.max() * 1.1) if is_log else _widened(y.min(), y.max(), 0.06)
    up = _Axis(low, high, HEIGHT - BOTTOM, TOP, is_log)
    body = _grid(across, up, curve.x_label) + _lines(across, up, x, y, smooth)
    points = json.dumps([[round(float(v), 2) for v in across.pixels(x)], [shown(float(v)) for v in x],
                         [shown(float(v)) for v in smooth]])  # fmt: skip
    unit = f" {escape(curve.unit)}" if curve.unit else ""
    return (
        f'<figure class="chart" data-points="{escape(points)}" data-unit="{unit.strip()}">'
        f"<figcaption><span>{escape(curve.name)}</span><output>{shown(float(smooth[-1]))}{unit}</output></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(curve.name)}">{body}'
        f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/></svg></figure>'
    )


def _widened(low: float, high: float, share: float = 0.0) -> tuple[float, float]:
    """Return a range that is not empty, wider by a share on both sides."""
    margin = share * (high - low) or (1e-3 * max(abs(low), 1.0) if high == low else 0.0)
    return float(low - margin), float(high + margin)


def _running_mean(values: Values) -> Values:
    """Return the mean over a window of a thirtieth of the points around each, shorter at the ends."""
    reach = len(values) // 60
    sums = np.concatenate([[0.0], values.cumsum()])
    index = np.arange(len(values))
    first, last = np.maximum(index - reach, 0), np.minimum(index + reach, len(values) - 1) + 1
    return (sums[last] - sums[first]) / (last - first)


def _thinned(values: Values) -> Values:
    """Return at most 400 of the values, the first and the last among them."""
    if len(values) <= MAX_POINTS:
        return values
    return values[np.linspace(0, len(values) - 1, MAX_POINTS).round().astype(int)]


def _grid(across: _Axis, up: _Axis, x_label: str) -> str:
    parts = []
    for tick, y in zip(up.ticks(), up.pixels(up.ticks()), strict=True):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_tick_text(tick)}</text>')
    for tick, x in zip(across.ticks(), across.pixels(across.ticks()), strict=True):
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_tick_text(tick)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x_label)}</text>')
    return "".join(parts)


def _tick_text(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value / 1000:.4g}k"
    return f"{round(value, 12):.4g}"


def _lines(across: _Axis, up: _Axis, x: Values, y: Values, smooth: Values) -> str:
    raw, bold = (
        " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across.pixels(x), up.pixels(v), strict=True)) for v in (y, smooth)
    )
    return f'<polyline class="raw" points="{raw}"/><polyline class="mean" points="{bold}"/>'
