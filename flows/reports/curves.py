"""Plots of learning curves, with their prunes."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flows.reports.parts import Plot
from flows.reports.records import Records
from tasks.stages.catalogue import trainings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOSS, SCORE = "train/loss", "dev/score"
# Of the observations of a loss, those that are averaged.
SMOOTHED = 0.05
# So many lines hide the seeds of each other.
MANY = 4
# Longer lists of configurations do not fit a legend.
NAME_LENGTH = 48
# So few observations are dots as well: a line of one point would be invisible.
FEW = 12


def curve_plots(records: Records, family: str, suffix: str) -> list[Plot]:
    """A plot per stage that was trained; stages that all configurations share are one line."""
    present = set(records.curves.loc[records.curves["name"].isin([LOSS, SCORE]), "stage"])
    plots = []
    for stage in [s for s in trainings() if s in present]:
        lines = lines_of(records, family, stage)
        if lines:
            plots.append(
                Plot(
                    f"curves_{stage.replace('-', '_')}{suffix}",
                    f"Learning curves of stage {stage}",
                    _caption(records, lines),
                    partial(_curves, records, lines),
                )
            )
    return plots


def _caption(records: Records, lines: dict[str, list[str]]) -> str:
    said = [
        f"Training loss (a running mean over {100 * SMOOTHED:.0f} % of the steps) and the score on "
        "the selection rows, by optimizer step."
    ]
    if any(len(keys) > 1 for keys in lines.values()):
        thin = "; thin lines: seeds" if len(lines) <= MANY else ""
        said.append(f"Means over seeds{thin}.")
    if any(_prune_steps(records, keys) for keys in lines.values()):
        said.append("Ticks in the bottom panel are prunes.")
    return " ".join(said)


def lines_of(records: Records, family: str, stage: str) -> dict[str, list[str]]:
    """Name of a line -> keys of its seeds. Configurations that share the stage are one line.

    They share it, too, where one of them has not finished with all seeds.
    """
    known = set(records.curves["key"])
    found: dict[str, list[str]] = {}
    for name in records.configurations:
        cells = records.of(name, family)["cell"].tolist()
        if keys := [key for key in records.keys(cells, stage) if key in known]:
            found[name] = keys
    groups: list[list[str]] = []
    for name in sorted(found, key=lambda name: -len(found[name])):
        for group in groups:
            if set(found[name]) <= set(found[group[0]]):
                group.append(name)
                break
        else:
            groups.append([name])
    order = list(found)
    groups = [sorted(group, key=order.index) for group in groups]
    lines = {}
    for group in sorted(groups, key=lambda group: order.index(group[0])):
        most = max((found[name] for name in group), key=len)
        lines[_line_name(group, len(records.configurations))] = most
    return lines


def _line_name(names: list[str], configurations: int) -> str:
    if len(names) == configurations > 2:
        return "all configurations"
    if len(", ".join(names)) > NAME_LENGTH and len(names) > 2:
        return f"{names[0]} and {len(names) - 1} others"
    return ", ".join(names)


def _curves(records: Records, lines: dict[str, list[str]]) -> Figure:
    from flows.reports.style import colours, line_style, new_figure, quiet_axis

    prunes = {name: _prune_steps(records, keys) for name, keys in lines.items()}
    pruned = [name for name in lines if prunes[name]]
    panel = 0.25 + 0.16 * len(pruned) if pruned else 0.0
    legend = 0.2 * len(lines) if len(lines) > 1 else 0.0
    figure = new_figure(4.3 + panel + legend)
    ratios = [2.0, 2.0] + ([panel] if pruned else [])
    rows = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    palette = colours(list(lines))
    for number, (name, keys) in enumerate(lines.items()):
        look = {"color": palette[name], "linestyle": line_style(number)}
        for axes, metric in zip(rows, (LOSS, SCORE), strict=False):
            seeds = [_series(records.curves, key, metric) for key in keys]
            seeds = [series for series in seeds if len(series)]
            if not seeds:
                continue
            for series in seeds if len(seeds) > 1 and len(lines) <= MANY else []:
                axes.plot(series.index, series, linewidth=0.7, alpha=0.28, **look)
            mean = _mean(seeds)
            if metric == LOSS:
                mean = _running(mean)
            dots = "o" if len(mean) <= FEW else ""
            axes.plot(mean.index, mean, marker=dots, ms=4, linewidth=1.7, label=name, **look)
    for axes, label in zip(rows, ("training loss", "score (selection)"), strict=False):
        quiet_axis(axes, "y")
        axes.set_ylabel(label)
    if pruned:
        axes = rows[-1]
        for place, name in enumerate(pruned):
            steps = prunes[name]
            axes.plot(steps, [place] * len(steps), "|", color=palette[name], ms=9, mew=1.6)
        axes.set_ylim(len(pruned) - 0.4, -0.6)
        axes.set_yticks([])
        axes.set_ylabel("prunes", rotation=0, ha="right", va="center")
        axes.spines["left"].set_visible(False)
        quiet_axis(axes, "none")
        if len(lines) == 1:
            for step in prunes[pruned[0]]:
                for above in rows[:2]:
                    above.axvline(step, color=palette[pruned[0]], alpha=0.35, linewidth=0.8)
    rows[-1].set_xlabel("optimizer step")
    if len(lines) > 1:
        handles, labels = rows[0].get_legend_handles_labels()
        columns = 2 if max(map(len, labels)) < 24 else 1
        figure.legend(handles, labels, loc="outside upper left", ncols=columns)
    return figure


def _series(curves: pd.DataFrame, key: str, metric: str) -> pd.Series:
    chosen = curves[(curves["key"] == key) & (curves["name"] == metric)]
    return chosen.drop_duplicates("step", keep="last").set_index("step")["value"].sort_index()


def _mean(seeds: list[pd.Series]) -> pd.Series:
    """Over the steps that all seeds have been through, between observed ones on a line."""
    end = min(series.index.max() for series in seeds)
    begin = max(series.index.min() for series in seeds)
    steps = np.unique(np.concatenate([series.index.to_numpy() for series in seeds]))
    steps = steps[(steps >= begin) & (steps <= end)]
    values = [np.interp(steps, series.index.to_numpy(), series.to_numpy()) for series in seeds]
    return pd.Series(np.mean(values, axis=0), index=steps)


def _running(series: pd.Series) -> pd.Series:
    """The running mean: single batches say little, and hide the other lines of a plot."""
    window = round(SMOOTHED * len(series)) // 2 * 2 + 1
    return series.rolling(window, center=True, min_periods=1).mean()


def prune_records(records: Records, key: str) -> list[dict[str, Any]]:
    """What a stage cut, in order of its steps."""
    chosen = records.prunes[records.prunes["key"] == key]
    return sorted((json.loads(text) for text in chosen["record"]), key=lambda r: r["step"])


def _prune_steps(records: Records, keys: list[str]) -> list[int]:
    return sorted({record["step"] for key in keys for record in prune_records(records, key)})
