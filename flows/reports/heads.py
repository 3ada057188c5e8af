"""Plots of the attention heads: which survive the prunes, and what they were worth at first."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flows.reports.curves import prune_records
from flows.reports.parts import Plot
from flows.reports.records import Records
from tasks.stages.catalogue import trainings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEDS_SHOWN = 3


def head_plots(records: Records, family: str, suffix: str) -> list[Plot]:
    """Which heads survive, for the configuration that was pruned in the most steps."""
    best: tuple[tuple[int, float], str, list[str]] | None = None
    for name in records.configurations:
        cells = records.of(name, family)
        keys = [k for stage in trainings() for k in records.keys(cells["cell"].tolist(), stage)]
        ranked = {
            key: sum(bool(r["head_importance"]) for r in prune_records(records, key))
            for key in keys
        }
        keys = [key for key in keys if ranked[key]]
        if keys:
            rank = (max(ranked[key] for key in keys), float(cells["score"].mean()))
            if best is None or rank > best[0]:
                best = (rank, name, keys)
    if best is None:
        return []
    _, name, keys = best
    shown = keys[:SEEDS_SHOWN]
    which = f", the first {len(shown)} of {len(keys)}" if len(keys) > len(shown) else ""
    return [
        Plot(
            f"heads{suffix}",
            f"Attention heads of {name}",
            "Top: how many prunes each head survives, by layer (bottom layer below) and the head's "
            "original number; dots mark heads that are kept. Below: importance at the first "
            f"ranking, as a share of the layer's. A column per seed{which}.",
            partial(_heads, {_seed(records, key): prune_records(records, key) for key in shown}),
        )
    ]


def _seed(records: Records, key: str) -> int:
    cell = records.stages.loc[records.stages["key"] == key, "cell"].iloc[0]
    return int(records.cells.loc[records.cells["cell"] == cell, "seed"].iloc[0])


def _heads(by_seed: dict[int, list[dict[str, Any]]]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    from flows.reports.style import PALETTE, SEQUENCE, new_figure

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
