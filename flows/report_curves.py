"""Plots of the course of trainings: learning curves with their prunes, and which heads survive."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.report_parts import Plot
from flows.report_records import Records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOSS, SCORE = "train/loss", "dev/score"
LAST_STAGES = ("width", "one-step")
TRAININGS = ("teacher", "student", "depth", *LAST_STAGES)
SEEDS_SHOWN = 3
# So few observations are dots as well: a line of one point would be invisible.
FEW = 12


def curve_plots(records: Records, family: str, suffix: str) -> list[Plot]:
    """A plot per stage that was trained; stages that all configurations share are one line."""
    present = set(records.curves.loc[records.curves["name"].isin([LOSS, SCORE]), "stage"])
    plots = []
    for stage in [s for s in TRAININGS if s in present]:
        lines = _lines(records, family, stage)
        if lines:
            plots.append(
                Plot(
                    f"curves_{stage.replace('-', '_')}{suffix}",
                    f"Learning curves of stage {stage}",
                    "Training loss and the score on the selection rows by optimizer step; means "
                    "over seeds (thin lines: seeds). Ticks in the bottom panel are prunes.",
                    partial(_curves, records, lines),
                )
            )
    return plots


def _lines(records: Records, family: str, stage: str) -> dict[str, list[str]]:
    """Name of a line -> keys of its seeds. Configurations with the same keys are one line."""
    by_keys: dict[tuple[str, ...], list[str]] = {}
    known = set(records.curves["key"])
    for name in records.configurations:
        cells = records.of(name, family)["cell"].tolist()
        keys = tuple(key for key in records.keys(cells, stage) if key in known)
        if keys:
            by_keys.setdefault(keys, []).append(name)
    alone = len(by_keys) == 1
    return {
        ("all configurations" if alone and len(names) > 2 else ", ".join(names)): list(keys)
        for keys, names in by_keys.items()
    }


def _curves(records: Records, lines: dict[str, list[str]]) -> Figure:
    from flows.report_style import colours, line_style, new_figure, quiet_axis

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
            for series in seeds if len(seeds) > 1 else []:
                axes.plot(series.index, series, linewidth=0.7, alpha=0.28, **look)
            mean = _mean(seeds)
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


def _prune_records(records: Records, key: str) -> list[dict[str, Any]]:
    chosen = records.prunes[records.prunes["key"] == key]
    return sorted((json.loads(text) for text in chosen["record"]), key=lambda r: r["step"])


def _prune_steps(records: Records, keys: list[str]) -> list[int]:
    return sorted({record["step"] for key in keys for record in _prune_records(records, key)})


def head_plots(records: Records, family: str, suffix: str) -> list[Plot]:
    """Which heads survive, for the configuration that was pruned in the most steps."""
    best: tuple[tuple[int, float], str, list[str]] | None = None
    for name in records.configurations:
        cells = records.of(name, family)
        keys = [k for stage in LAST_STAGES for k in records.keys(cells["cell"].tolist(), stage)]
        ranked = {
            key: sum(bool(r["head_importance"]) for r in _prune_records(records, key))
            for key in keys
        }
        keys = [key for key in keys if ranked[key]][:SEEDS_SHOWN]
        if keys:
            rank = (max(ranked[key] for key in keys), float(cells["score"].mean()))
            if best is None or rank > best[0]:
                best = (rank, name, keys)
    if best is None:
        return []
    _, name, keys = best
    return [
        Plot(
            f"heads{suffix}",
            f"Attention heads of {name}",
            "Top: how many prunes each head survives, by layer (bottom layer below) and the head's "
            "original number; dots mark heads that are kept. Below: importance at the first "
            "ranking, as a share of the layer's. A column per seed.",
            partial(_heads, {_seed(records, key): _prune_records(records, key) for key in keys}),
        )
    ]


def _seed(records: Records, key: str) -> int:
    cell = records.stages.loc[records.stages["key"] == key, "cell"].iloc[0]
    return int(records.cells.loc[records.cells["cell"] == cell, "seed"].iloc[0])


def _heads(by_seed: dict[int, list[dict[str, Any]]]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from flows.report_style import PALETTE, SEQUENCE, new_figure

    seeds = list(by_seed.values())
    survived = [_survived(records) for records in seeds]
    importance = [_first_importance(records) for records in seeds]
    layers = [records[0]["layers"] for records in seeds]
    most = max(float(np.nanmax(values)) for values in survived)
    share = max(float(np.nanmax(values)) for values in importance)
    figure = new_figure(1.6 + 0.36 * max(map(len, layers)) * 2)
    grid = figure.subplots(2, len(seeds), squeeze=False, sharex=True, sharey="col")
    for row, (matrices, highest, title) in enumerate(
        ((survived, most, "prunes survived"), (importance, share, "share of importance"))
    ):
        mesh = None
        for column, values in enumerate(matrices):
            axes = grid[row][column]
            mesh = axes.pcolormesh(
                values, cmap=SEQUENCE, vmin=0, vmax=highest, edgecolors="white", linewidth=0.6
            )
            axes.grid(False)
            if row == 0:
                kept = _kept(seeds[column], values.shape)
                at_layer, at_head = np.nonzero(kept)
                axes.plot(at_head + 0.5, at_layer + 0.5, "o", color=PALETTE[1], ms=3.2, mew=0)
                axes.set_title(f"seed {list(by_seed)[column]}")
            axes.set_yticks(
                np.arange(len(layers[column])) + 0.5, [str(n + 1) for n in layers[column]]
            )
            heads = values.shape[1]
            step = 1 if heads <= 4 else 5
            axes.set_xticks(
                np.arange(0, heads, step) + 0.5, [str(n + 1) for n in range(0, heads, step)]
            )
            axes.tick_params(length=0)
            for side in ("left", "bottom"):
                axes.spines[side].set_visible(False)
            if column == 0:
                axes.set_ylabel("layer")
            if row == 1:
                axes.set_xlabel("head")
        assert mesh is not None
        bar = figure.colorbar(mesh, ax=list(grid[row]), pad=0.02, aspect=12)
        bar.set_label(title)
        bar.outline.set_visible(False)
        bar.locator = MaxNLocator(4, integer=row == 0)
        bar.update_ticks()
    return figure


def _size(records: list[dict[str, Any]]) -> tuple[int, int]:
    """Layers, and heads at the start."""
    first = next(r for r in records if r["head_importance"])
    heads = 1 + max(head for layer in first["ranked_heads"] for head in layer)
    return len(records[0]["layers"]), heads


def _survived(records: list[dict[str, Any]]) -> NDArray[np.float64]:
    found = np.zeros(_size(records))
    for record in records:
        found += _left(record, records[0]["layers"], found.shape)
    return found


def _kept(records: list[dict[str, Any]], shape: tuple[int, ...]) -> NDArray[np.float64]:
    return _left(records[-1], records[0]["layers"], shape)


def _left(record: dict[str, Any], layers: list[int], shape: tuple[int, ...]) -> NDArray[np.float64]:
    found = np.zeros(shape)
    for layer, heads in zip(record["layers"], record["heads"], strict=True):
        found[layers.index(layer), heads] = 1
    return found


def _first_importance(records: list[dict[str, Any]]) -> NDArray[np.float64]:
    """(layers, heads) summing to 1 in each layer."""
    first = next(r for r in records if r["head_importance"])
    found = np.full(_size(records), np.nan)
    rows = zip(first["layers"], first["ranked_heads"], first["head_importance"], strict=True)
    for layer, heads, scores in rows:
        total = sum(scores)
        shares = [s / total for s in scores] if total > 0 else [0.0] * len(scores)
        found[records[0]["layers"].index(layer), heads] = shares
    return found
