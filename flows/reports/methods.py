"""Methods of compression beside each other: what each scores at what cost, and what it needs."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flows.recipes.presets import DEFAULT_SHARE, METHODS, ROSITA
from flows.reports.parts import (
    Plot,
    Table,
    count,
    millions,
    number_column,
    score,
    spread_column,
    text_column,
)
from flows.reports.records import Records
from rosita_core.measuring.significance.comparison import spread
from tasks.host.wording import whole_duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What comes before a compression, and what only measures or writes it.
BESIDE = ("data", "teacher", "further", "assess", "export")
# A share of the plot's width, for the methods of one cost.
BESIDE_EACH_OTHER = 0.06
NEEDS_LABELS = ("taylor", "fisher")


def method_table(records: Records) -> Table | None:
    """A row per configuration, by method and size; None where there is one method alone."""
    cells = _with_methods(records)
    if cells["method"].nunique() < 2:
        return None
    seconds = records.stages[~records.stages["stage"].isin(BESIDE)]
    took = seconds.groupby("cell")["seconds"].sum()
    rows = []
    for (family, method, name), chosen in cells.groupby(
        ["family", "method", "configuration"], sort=False
    ):
        over_seeds = spread(chosen["score"].tolist())
        rows.append(
            {
                "family": family,
                "method": method,
                "configuration": name,
                "recovered": chosen["recovered"].iloc[0],
                "score": over_seeds.mean,
                "score_sd": over_seeds.sd,
                "seeds": over_seeds.count,
                "params_encoder": float(chosen["params_encoder"].mean()),
                "macs": float(chosen["macs"].mean()),
                "seconds": float(chosen["cell"].map(took).fillna(0.0).mean()),
                "labels": chosen["labels"].iloc[0],
                "rows": chosen["rows"].iloc[0],
            }
        )
    frame = pd.DataFrame(rows)
    several = cells["family"].nunique() > 1
    names = " / ".join(dict.fromkeys(cells["score_name"]))
    shown = (
        *([text_column("grid and task", "family")] if several else []),
        text_column("configuration", "configuration"),
        text_column("method", "method"),
        text_column("then trained", "recovered"),
        spread_column(names, "score", "score_sd", score),
        number_column("seeds", "seeds", count),
        number_column("encoder parameters", "params_encoder", count),
        number_column("multiply-adds", "macs", millions),
        number_column("compression took", "seconds", whole_duration),
        text_column("labels", "labels"),
        text_column("rows", "rows"),
    )
    note = (
        "Mean ± sample standard deviation over the seeds. Compression took: all stages between the "
        "teacher and the assessment; the measurement that methods share is in each. Labels and "
        "rows: what the compression reads beside the teacher."
    )
    return Table("methods", "Methods", note, frame, shown)


def comparable(records: Records, family: str) -> list[tuple[str, str]]:
    """Pairs of configurations of different methods by one budget, both trained afterwards (or
    while they were cut) or neither; none where there is one method alone."""
    cells = _several(records, family)
    pairs = []
    for _, alike in cells.groupby(["budget", cells["recovered"] != "no"], sort=False):
        names = alike.drop_duplicates("configuration")
        said = list(zip(names["configuration"], names["method"], strict=True))
        pairs += [(a, b) for (a, one), (b, other) in combinations(said, 2) if one != other]
    return pairs


def method_plots(records: Records, family: str, suffix: str) -> list[Plot]:
    """Score over multiply-adds, a line per method; none where there is one method alone."""
    cells = _several(records, family)
    if cells.empty:
        return []
    return [
        Plot(
            f"methods_macs{suffix}",
            "Score against multiply-adds, by method",
            "Mean and standard deviation over seeds. Lines join what nothing was trained after; "
            "filled points were trained afterwards, or while they were cut (rosita). Methods of "
            "one cost stand side by side. The dashed line is the teacher's mean.",
            partial(_by_method, cells),
        )
    ]


def _several(records: Records, family: str) -> pd.DataFrame:
    """The cells of a family where it has several methods, else none of them."""
    cells = _with_methods(records)
    cells = cells[cells["family"] == family]
    return cells if cells["method"].nunique() > 1 else cells.iloc[:0]


def _with_methods(records: Records) -> pd.DataFrame:
    """The cells with what their recipes say of methods."""
    recipes = {name: one for doc in records.documents for name, one in doc["recipes"].items()}
    said = pd.DataFrame([_said(recipes[cell]) for cell in records.cells["cell"]])
    return pd.concat([records.cells.reset_index(drop=True), said], axis=1)


def _said(recipe: dict[str, Any]) -> dict[str, str]:
    # Records from before there were methods have none.
    method, compress = recipe.get("method", ROSITA), recipe.get("compress", {})
    budget = _budget(method, compress.get("budget", {}))
    if method == ROSITA:
        trained = {"method": ROSITA, "recovered": "while cut", "budget": budget}
        kd, rank = recipe.get("kd_setting"), compress.get("rank") or "taylor"
        # Setting 1 learns from the teacher alone, and ranks by the labels.
        labels = kd == "none" or (kd == "1" and rank in NEEDS_LABELS)
        return trained | {"labels": "yes" if labels else "no", "rows": "all"}
    rank = compress["rank"] or METHODS[method].rank
    rearranged = compress["rearrange"]
    if rearranged is None:
        rearranged = METHODS[method].rearrange
    read = compress["calibration"]["labels"]
    labels = rank in NEEDS_LABELS or rearranged or (rank == "attribution" and read)
    recovered, rows = compress["recover"], compress["calibration"]["rows"]
    some = f"{rows:,}" if rows is not None else "at most 2,048"
    return {
        "method": method,
        "budget": budget,
        "recovered": {"none": "no", "kd": "by the teacher", "labels": "on labels"}[recovered],
        "labels": "yes" if labels or recovered == "labels" else "no",
        "rows": some if recovered == "none" else "all",
    }


def _budget(method: str, budget: dict[str, Any]) -> str:
    """What a compression may cost, the same words for the same; rosita has none of itself."""
    share = budget.get("share")
    if share is None and budget.get("at_most") is None and method != ROSITA:
        share = DEFAULT_SHARE
    return f"{budget.get('count')} {share} {budget.get('at_most')}"


def _by_method(cells: pd.DataFrame) -> Figure:
    from flows.reports.plots import score_label, teacher_line
    from flows.reports.style import MARKERS, PALETTE, new_figure

    figure = new_figure(3.9)
    axes = figure.subplots()
    methods = list(cells.groupby("method", sort=False))
    step = BESIDE_EACH_OTHER * float(np.ptp(cells["macs"])) / len(methods)
    for number, (method, chosen) in enumerate(methods):
        colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
        points = chosen.groupby(["configuration", "recovered"], sort=False).agg(
            cost=("macs", "mean"), score=("score", "mean"), sd=("score", "std")
        )
        points = points.reset_index().sort_values("cost")
        points["cost"] += (number - (len(methods) - 1) / 2) * step
        plain = points[points["recovered"] == "no"]
        axes.plot(plain["cost"] / 1e6, plain["score"], color=colour, linewidth=1.2, zorder=2)
        for label, some, filled in (
            (str(method), plain, False),
            ("", points[points["recovered"] != "no"], True),
        ):
            if len(some):
                axes.errorbar(
                    some["cost"] / 1e6,
                    some["score"],
                    yerr=some["sd"].fillna(0.0),
                    fmt=marker,
                    color=colour,
                    mfc=colour if filled else "white",
                    mew=1.4,
                    ms=7,
                    elinewidth=1,
                    label=label or (None if len(plain) else str(method)),
                    zorder=3,
                )
    teacher_line(axes, cells, vertical=False)
    axes.margins(x=0.08, y=0.12)
    axes.set_xlabel("multiply-adds per sequence (millions)")
    axes.set_ylabel(score_label(cells))
    figure.legend(loc="outside lower center", ncols=4)
    return figure
