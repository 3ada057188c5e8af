"""Plots of scores, costs and times, each where the records have what it needs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from flows.reports.parts import Plot
from flows.reports.records import AXIS, SHORT_AXES, Records
from rosita_core.measuring.significance.comparison import pareto_front
from tasks.stages.catalogue import TARGETS, catalogue

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS = {
    "params": ("parameters", "parameters (millions)", 1e6),
    "macs": ("multiply-adds", "multiply-adds per sequence (millions)", 1e6),
    "latency_ms_p50_b32": ("latency", "median latency of a batch of 32 (ms)", 1.0),
}
# Costs closer than this are one budget and no axis of a plot.
SAME_BUDGET = 1.03
FREQUENCY_AXES = ("width.prune_fraction", "depth.prune_fraction")


def score_plots(records: Records, family: str, suffix: str) -> list[Plot]:
    """Of one grid and task; `suffix` keeps the names of several apart."""
    cells = records.cells[records.cells["family"] == family]
    made = [
        Plot(
            f"scores{suffix}",
            "Score by configuration",
            "Dots are seeds, the bar is their mean; the dashed line is the teacher's mean.",
            partial(_scores, cells),
        )
    ]
    for axis in FREQUENCY_AXES:
        lines = _frequency_lines(cells, axis, records.axes)
        if lines:
            part = axis.partition(".")[0]
            made.append(
                Plot(
                    f"frequency_{part}{suffix}",
                    f"Score against pruning frequency of {part}",
                    f"p is the part of training in which {part} is pruned; one-step removes "
                    "everything at once. Mean and standard deviation over seeds; dots are seeds.",
                    partial(_frequency, cells, axis, lines),
                )
            )
    for column, (name, _, _) in COSTS.items():
        if column in cells and cells[column].notna().all():
            means = cells.groupby("configuration")[column].mean()
            # Of one shape, a latency differs by what else the machine did.
            differ = cells["shape"].nunique() > 1
            if differ and means.max() > SAME_BUDGET * means.min():
                made.append(
                    Plot(
                        f"pareto_{column}{suffix}",
                        f"Score against {name}",
                        "Mean and standard deviation over seeds. Filled points and the line are "
                        f"the Pareto front: none has fewer {name} and scores as much. The dashed "
                        "line is the teacher's mean."
                        if column != "latency_ms_p50_b32"
                        else "Mean and standard deviation over seeds. Filled points and the line "
                        "are the Pareto front: none is faster and scores as much. The dashed line "
                        "is the teacher's mean.",
                        partial(_pareto, cells, column),
                    )
                )
    return made


def time_plot(records: Records) -> Plot:
    """Where the time went."""
    return Plot(
        "stage_times",
        "Time per stage",
        "All seeds together. A stage that several configurations use is counted once, in the top "
        "bar.",
        partial(_stage_times, records),
    )


def score_label(cells: pd.DataFrame) -> str:
    """What the axis of scores is called."""
    return f"{cells['score_name'].iloc[0]} on the dev rows"


def teacher_line(axes: Axes, cells: pd.DataFrame, vertical: bool) -> None:
    """The mean over the seeds of each teacher's score, dashed."""
    for _, taught in cells.groupby("teachers"):
        _line_at(axes, float(taught.drop_duplicates("seed")["teacher_score"].mean()), vertical)


def _line_at(axes: Axes, mean: float, vertical: bool) -> None:
    from flows.reports.style import QUIET

    draw = axes.axvline if vertical else axes.axhline
    draw(mean, color=QUIET, linestyle=(0, (4, 3)), linewidth=1.2, zorder=1)
    if vertical:
        axes.annotate(
            f"teacher {mean:.3f}",
            (mean, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=QUIET,
            fontsize=9,
        )
    else:
        axes.annotate(
            f"teacher {mean:.3f}",
            (1, mean),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            color=QUIET,
            fontsize=9,
        )


def _scores(cells: pd.DataFrame) -> Figure:
    from flows.reports.style import PALETTE, new_figure, quiet_axis

    names = list(dict.fromkeys(cells["configuration"]))
    figure = new_figure(0.95 + 0.3 * len(names))
    axes = figure.subplots()
    for place, name in enumerate(names):
        scores = cells.loc[cells["configuration"] == name, "score"]
        axes.plot(scores, [place] * len(scores), "o", color=PALETTE[0], alpha=0.5, ms=5, mew=0)
        axes.plot([scores.mean()], [place], "|", color=PALETTE[1], ms=16, mew=2.6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    quiet_axis(axes, "x")
    teacher_line(axes, cells, vertical=True)
    axes.set_xlabel(score_label(cells))
    return figure


def _pareto(cells: pd.DataFrame, column: str) -> Figure:
    from flows.reports.style import PALETTE, label_points, new_figure

    _, label, unit = COSTS[column]
    means = cells.groupby("configuration", sort=False).agg(
        cost=(column, "mean"), score=("score", "mean"), sd=("score", "std")
    )
    front = pareto_front(means["cost"].tolist(), means["score"].tolist())
    figure = new_figure(3.6)
    axes = figure.subplots()
    points = means.iloc[front]
    axes.plot(points["cost"] / unit, points["score"], color=PALETTE[0], linewidth=1.4, zorder=2)
    for place, (_, row) in enumerate(means.iterrows()):
        best = place in front
        axes.errorbar(
            [row["cost"] / unit],
            [row["score"]],
            yerr=None if pd.isna(row["sd"]) else [row["sd"]],
            fmt="o",
            color=PALETTE[0],
            mfc=PALETTE[0] if best else "none",
            mew=1.4,
            ms=7,
            elinewidth=1,
            alpha=1 if best else 0.75,
            zorder=3,
        )
    teacher_line(axes, cells, vertical=False)
    axes.margins(x=0.12, y=0.14)
    label_points(axes, list(means.index), (means["cost"] / unit).tolist(), means["score"].tolist())
    axes.set_xlabel(label)
    axes.set_ylabel(score_label(cells))
    return figure


def _position(label: Any) -> float:
    """p as a number; one-step, the extreme, before all of them."""
    try:
        return float(label)
    except ValueError:
        return 0.0


def _frequency_lines(
    cells: pd.DataFrame, axis: str, axes: tuple[str, ...]
) -> list[tuple[str, pd.DataFrame]]:
    """(name, cells) with at least two frequencies, everything else equal."""
    if axis not in axes or cells[AXIS + axis].nunique() < 2:
        return []
    others = [AXIS + other for other in axes if other != axis and cells[AXIS + other].nunique() > 1]
    if not others:
        return [("", cells)]
    lines = []
    for values, chosen in cells.groupby(others, sort=False):
        if chosen[AXIS + axis].nunique() > 1:
            names = (
                f"{SHORT_AXES.get(other.removeprefix(AXIS), '')} {value}".strip()
                for other, value in zip(others, values, strict=True)
            )
            lines.append((", ".join(names), chosen))
    return lines


def _frequency(cells: pd.DataFrame, axis: str, lines: list[tuple[str, pd.DataFrame]]) -> Figure:
    from flows.reports.style import MARKERS, PALETTE, new_figure, quiet_axis

    figure = new_figure(3.3)
    axes = figure.subplots()
    labels = sorted(dict.fromkeys(pd.concat([c for _, c in lines])[AXIS + axis]), key=_position)
    places = {label: place for place, label in enumerate(labels)}
    for number, (name, chosen) in enumerate(lines):
        colour = PALETTE[number % len(PALETTE)]
        shift = 0.09 * (number - (len(lines) - 1) / 2)
        at = chosen[AXIS + axis].map(places).astype(float) + shift
        axes.plot(at + 0.05, chosen["score"], "o", color=colour, alpha=0.4, ms=4, mew=0)
        over = chosen.assign(place=at).groupby("place")["score"].agg(["mean", "std"])
        axes.errorbar(
            over.index.to_numpy(),
            over["mean"],
            yerr=over["std"].fillna(0.0),
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            ms=6,
            linewidth=1.6,
            elinewidth=1.1,
            capsize=3,
            label=name or None,
        )
    axes.set_xticks(range(len(labels)), [str(label) for label in labels])
    quiet_axis(axes, "y")
    teacher_line(axes, cells, vertical=False)
    axes.margins(x=0.08, y=0.12)
    axes.set_xlabel(f"p of {axis.partition('.')[0]}: part of training in which it is pruned")
    axes.set_ylabel(score_label(cells))
    if any(name for name, _ in lines):
        axes.legend(loc="best")
    return figure


def _long_stages() -> tuple[str, ...]:
    """Stages with a colour of their own; the others take seconds. Those of targets have one."""
    kinds = [kind for kind in catalogue().values() if kind.unit or kind.name == "assess"]
    return (*(kind.name for kind in kinds if kind.kernel != TARGETS), TARGETS)


def _stage_times(records: Records) -> Figure:
    from flows.reports.style import GRID_LINE, QUIET, colours, new_figure, quiet_axis

    owner = records.cells.set_index("cell")["configuration"]
    stages = records.stages.assign(configuration=records.stages["cell"].map(owner))
    users = stages.groupby("key")["configuration"].nunique()
    once = stages.sort_values("seconds", ascending=False).drop_duplicates("key")
    shared = once["key"].map(users) > 1
    once = once.assign(bar=once["configuration"].mask(shared, "shared"))
    kept = once["stage"].str.endswith(f"-{TARGETS}")
    once = once.assign(stage=once["stage"].mask(kept, TARGETS))
    small = ~once["stage"].isin(_long_stages())
    once = once.assign(stage=once["stage"].mask(small, "other"))
    order = [stage for stage in (*_long_stages(), "other") if stage in set(once["stage"])]
    bars = [b for b in ("shared", *records.configurations) if b in set(once["bar"])]
    seconds = once.groupby(["bar", "stage"])["seconds"].sum()
    unit, scale = ("minutes", 60) if seconds.groupby("bar").sum().max() > 120 else ("seconds", 1)
    times = seconds / scale
    figure = new_figure(1.5 + 0.3 * len(bars))
    axes = figure.subplots()
    palette = {**colours([stage for stage in order if stage != "other"]), "other": QUIET}
    left = dict.fromkeys(bars, 0.0)
    for stage in order:
        values = [float(times.get((bar, stage), 0.0)) for bar in bars]
        axes.barh(
            range(len(bars)),
            values,
            left=[left[bar] for bar in bars],
            color=palette[stage],
            edgecolor=GRID_LINE,
            linewidth=0.6,
            height=0.66,
            label=stage,
        )
        left = {bar: left[bar] + value for bar, value in zip(bars, values, strict=True)}
    axes.set_yticks(range(len(bars)), bars)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    quiet_axis(axes, "x")
    axes.set_xlabel(f"{unit} of computing, all seeds")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(order))
    )
    return figure
