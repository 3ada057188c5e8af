"""How figures look: one style, a palette that colour-blind readers can tell apart, PNG and SVG.

Figures are narrow, so that a phone shows them at the size of their text.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 5.4
"""Inches of every figure: 389 points, about the width of a phone."""
INK, QUIET, GRID_LINE = "#1b2330", "#5d6775", "#dfe3e8"
# Okabe and Ito, without their yellow and black.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d46")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
SEQUENCE = "YlGnBu"
PNG_DPI = 200

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.formatter.useoffset": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=PALETTE),
    "grid.color": GRID_LINE,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "figure.constrained_layout.use": True,
}
DARK = {INK: "#e6e9ee", QUIET: "#9aa5b3", GRID_LINE: "#333b47", "#0072b2": "#4a9fd8"}
"""Colours that a dark page needs lighter or darker."""


@contextmanager
def style() -> Iterator[None]:
    """The style, for the length of a block."""
    with mpl.rc_context():
        mpl.rcdefaults()
        for name, value in STYLE.items():
            mpl.rcParams[name] = value
        yield


def new_figure(height: float) -> Figure:
    """An empty figure of the common width; `height` in inches."""
    return Figure(figsize=(WIDTH, height))


def quiet_axis(axes: Axes, lines: str) -> None:
    """Grid lines along one axis only: "x", "y" or "none"."""
    axes.grid(False)
    if lines != "none":
        axes.grid(True, axis="x" if lines == "x" else "y")


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour per name, repeated where names are many."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def line_style(index: int) -> str:
    """Another dash for each round through the palette."""
    return ("-", "--", ":", "-.")[index // len(PALETTE) % 4]


def label_points(axes: Axes, names: Sequence[str], x: Sequence[float], y: Sequence[float]) -> None:
    """Write names beside points where they cover neither a point nor another name.

    Sizes are estimates in points; where every place is taken the last one is used. Call it when the
    limits of the axes are settled.
    """
    size = 8.5
    figure = axes.figure
    assert isinstance(figure, Figure)
    width, height = (72 * inches for inches in figure.get_size_inches() * (0.84, 0.84))
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    at = [
        ((px - left) / (right - left) * width, (py - low) / (high - low) * height)
        for px, py in zip(x, y, strict=True)
    ]
    taken = [(px - 5, py - 5, px + 5, py + 5) for px, py in at]
    for name, (px, py) in zip(names, at, strict=True):
        long = 0.58 * size * len(name)
        places = [
            (8, -4, "left", "top"),
            (8, 4, "left", "bottom"),
            (-8, 4, "right", "bottom"),
            (-8, -4, "right", "top"),
            (0, -12, "center", "top"),
            (0, 12, "center", "bottom"),
            (0, -24, "center", "top"),
        ]
        for dx, dy, across, along in places:
            begin = px + dx - {"left": 0.0, "center": long / 2, "right": long}[across]
            base = py + dy - (size * 1.2 if along == "top" else 0.0)
            box = (begin, base, begin + long, base + size * 1.2)
            inside = begin >= 0 and begin + long <= width and base >= 0
            if inside and not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        axes.annotate(
            name,
            (x[names.index(name)], y[names.index(name)]),
            xytext=(dx, dy),
            textcoords="offset points",
            ha=across,
            va=along,
            fontsize=size,
            color=INK,
        )


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def png(figure: Figure) -> bytes:
    """The figure on white, for print and for pages that show no SVG."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return out.getvalue()


def svg(figure: Figure) -> str:
    """The figure without ground, which follows a dark page by itself."""
    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "rosita"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    return _following_the_page(text[text.index("<svg") :])


def _following_the_page(text: str) -> str:
    light, dark = [], []
    for number, (colour, other) in enumerate(DARK.items()):
        text = text.replace(colour, f"var(--c{number})")
        light.append(f"--c{number}:{colour}")
        dark.append(f"--c{number}:{other}")
    rules = (
        f"<style>:root{{{';'.join(light)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{';'.join(dark)}}}}}</style>"
    )
    end_of_tag = text.index(">") + 1
    return text[:end_of_tag] + rules + text[end_of_tag:]
