"""The tables of a report: results over seeds, the paper's layouts, where the time went."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from flows.reports.parts import (
    ABSENT,
    Shown,
    Table,
    count,
    millions,
    milliseconds,
    number_column,
    percent,
    rows_of,
    score,
    spread_column,
    text_column,
    times,
)
from flows.reports.records import AXIS, KD_TITLES, Records
from rosita_core.measuring.significance.comparison import spread
from tasks.host.wording import whole_duration
from tasks.stages.catalogue import REGISTER, catalogue

TEACHER = "teacher"
COSTS = ("params", "params_embedding", "params_encoder", "macs", "compression", "seconds")
LATENCIES = ("latency_ms_p50_b1", "latency_ms_p50_b32")


def results(records: Records) -> Table:
    """A row per configuration, and one for each teacher."""
    rows = []
    for family in records.families:
        for name in records.configurations:
            cells = records.of(name, family)
            if len(cells):
                rows.append({"configuration": name, **_measured(cells)})
        cells = records.cells[records.cells["family"] == family]
        several = cells["teachers"].nunique() > 1
        for _, taught in cells.groupby("teachers", sort=False):
            whose = list(dict.fromkeys(taught["configuration"]))
            more = f" and {len(whose) - 1} more" if len(whose) > 1 else ""
            name = f"{TEACHER} of {whose[0]}{more}" if several else TEACHER
            rows.append({"configuration": name, **_teacher(taught)})
    frame = pd.DataFrame(rows)
    shown = [text_column("configuration", "configuration")]
    if len(records.families) > 1:
        shown.insert(0, text_column("grid and task", "family"))
    names = list(dict.fromkeys(frame["score_name"]))
    shown.append(spread_column(" / ".join(names), "score", "score_sd", score))
    for column in frame.columns:
        metric = column.removeprefix("metric.")
        if column.startswith("metric.") and metric not in names and not column.endswith("_sd"):
            shown.append(spread_column(metric, column, f"{column}_sd", score))
    shown += [
        number_column("seeds", "seeds", count),
        Shown("kept", "retention", kept_share),
    ]
    # Not twice, where the shape is what the configurations are called by.
    if any(row["shape"] != row["configuration"] for row in rows if not is_teacher(row)):
        shown.append(text_column("shape", "shape"))
    shown += [
        number_column("parameters", "params", count),
        number_column("smaller", "compression", times),
        number_column("multiply-adds", "macs", millions),
        number_column("batch 1", LATENCIES[0], milliseconds),
        number_column("batch 32", LATENCIES[1], milliseconds),
        number_column("time", "seconds", whole_duration),
    ]
    note = (
        "Mean ± sample standard deviation over the seeds; means elsewhere. Kept: the score as a "
        "share of the same seed's teacher. Batch 1 and 32: median latency. Time: of the stages "
        "that lead to a cell, shared ones in full."
    )
    return Table("results", "Results", note, frame, tuple(shown))


def is_teacher(row: Mapping[str, Any]) -> bool:
    """Whether a row of the results is about a teacher: those have no KD setting."""
    return bool(pd.isna(row.get("kd_setting")))


def kept_share(row: Mapping[str, Any]) -> str:
    """The share of the teacher's score; of how many seeds, where a teacher scored nothing."""
    if pd.isna(row["retention"]):
        return ABSENT
    of, seeds = row["retention_seeds"], row["seeds"]
    return percent(row["retention"]) + (f" ({of} of {seeds} seeds)" if of < seeds else "")


def _measured(cells: pd.DataFrame) -> dict[str, Any]:
    first = cells.iloc[0]
    row: dict[str, Any] = {name: first[name] for name in ("family", "task", "kd_setting")}
    shapes = cells["shape"].nunique()
    row["shape"] = first["shape"] if shapes == 1 else f"{shapes} shapes"
    row |= {column: first[column] for column in cells.columns if column.startswith(AXIS)}
    over_seeds = spread(cells["score"].tolist())
    row |= {"seeds": over_seeds.count, "score_name": first["score_name"]}
    row |= {"score": over_seeds.mean, "score_sd": over_seeds.sd}
    row["teacher_score"] = float(cells["teacher_score"].mean())
    for column in cells.columns:
        if column.startswith("metric.") and cells[column].notna().all():
            found = spread(cells[column].tolist())
            row |= {column: found.mean, f"{column}_sd": found.sd}
    kept = cells["retention"].dropna()
    row["retention"] = float(kept.mean()) if len(kept) else None
    row["retention_seeds"] = len(kept)
    for column in (*COSTS, *LATENCIES):
        row[column] = float(cells[column].mean()) if column in cells else None
    return row


def _teacher(cells: pd.DataFrame) -> dict[str, Any]:
    seeds = cells.drop_duplicates("seed")
    first, over_seeds = seeds.iloc[0], spread(seeds["teacher_score"].tolist())
    row: dict[str, Any] = {
        "family": first["family"],
        "task": first["task"],
        "shape": first.get("teacher_shape"),
        "seeds": over_seeds.count,
        "score_name": first["score_name"],
        "score": over_seeds.mean,
        "score_sd": over_seeds.sd,
        "teacher_score": over_seeds.mean,
        # Of a teacher that scores nothing, nothing can be kept.
        "retention": 1.0 if (kept := int((seeds["teacher_score"] > 0).sum())) else None,
        "retention_seeds": kept,
        "params": float(first["teacher_params"]),
        "macs": float(first["teacher_macs"]) if "teacher_macs" in first else None,
        "compression": 1.0,
    }
    for column in LATENCIES:
        name = f"{TEACHER}_{column}"
        row[column] = float(cells[name].mean()) if name in cells else None
    return row


def paper_tables(records: Records) -> list[Table]:
    """The paper's tables, those that the grid has the cells for."""
    made = (_kd_strategies(records), _architectures(records), _crossed(records))
    return [table for table in made if table is not None]


def _varying(records: Records) -> list[str]:
    """Axes that have more than one value among the finished cells."""
    return [axis for axis in records.axes if records.cells[AXIS + axis].nunique() > 1]


def _by_task(records: Records, rows: list[tuple[dict[str, Any], pd.DataFrame]]) -> pd.DataFrame:
    """Leading columns, then mean and sd of the score for each task."""
    made = []
    for leading, cells in rows:
        row = dict(leading)
        for task in records.tasks:
            scores = cells.loc[cells["task"] == task, "score"].tolist()
            found = spread(scores) if scores else None
            row |= {
                task: found.mean if found else None,
                f"{task}_sd": found.sd if found else None,
                f"{task}_seeds": found.count if found else 0,
            }
        made.append(row)
    return pd.DataFrame(made)


def _task_columns(records: Records) -> list[Shown]:
    named = dict(zip(records.cells["task"], records.cells["score_name"], strict=True))
    return [
        spread_column(f"{task} ({named[task]})", task, f"{task}_sd", score)
        for task in records.tasks
    ]


def _kd_strategies(records: Records) -> Table | None:
    varying = _varying(records)
    # A column per task has room for one grid of each.
    if len(records.families) > len(records.tasks):
        return None
    if len(varying) != 1 or records.kd_axis not in varying:
        return None
    settings = sorted(set(records.cells["kd_setting"]), key=list(KD_TITLES).index)
    rows = [
        ({"kd_setting": kd}, records.cells[records.cells["kd_setting"] == kd]) for kd in settings
    ]
    teacher = records.cells.drop_duplicates(["family", "teachers", "seed"])
    rows.append(({"kd_setting": TEACHER}, teacher.assign(score=teacher["teacher_score"])))
    frame = _by_task(records, rows)
    shown = [
        Shown("KD setting", "kd_setting", lambda r: KD_TITLES.get(r["kd_setting"], TEACHER)),
        *_task_columns(records),
    ]
    if len(records.tasks) > 1:
        frame["mean"] = frame[list(records.tasks)].mean(axis=1, skipna=False)
        shown.append(number_column("mean of tasks", "mean", score))
    note = "Settings as rows and tasks as columns, as in the paper's comparison of KD strategies."
    return Table("kd_strategies", "KD strategies", note, frame, tuple(shown))


def _architectures(records: Records) -> Table | None:
    shapes = records.cells.drop_duplicates("shape")
    if len(records.families) > len(records.tasks):
        return None
    pairs = records.cells.groupby(["shape", "configuration"], observed=True).ngroups
    # Each shape is one configuration, and the other way round.
    if len(shapes) < 2 or not len(shapes) == len(records.configurations) == pairs:
        return None
    rows = []
    for first in rows_of(shapes):
        cells = records.cells[records.cells["shape"] == first["shape"]]
        rows.append(({**_sizes(first["shape"]), **_means(cells)}, cells))
    frame = _by_task(records, rows).sort_values("layers", ascending=False, kind="stable")
    shown = (
        text_column("heads", "heads"),
        number_column("layers", "layers", count),
        text_column("FFN units", "ffn_units"),
        number_column("rank", "embedding_rank", count),
        number_column("parameters", "params", count),
        number_column("multiply-adds", "macs", millions),
        number_column("batch 32", LATENCIES[1], milliseconds),
        *_task_columns(records),
    )
    note = "From deep and narrow to wide and shallow. Heads and FFN units per layer."
    return Table("architectures", "Architectures", note, frame.reset_index(drop=True), shown)


def _sizes(shape: str) -> dict[str, Any]:
    """The four numbers of a shape; heads and units stay text where layers differ in them."""
    found = re.fullmatch(r"a([\d-]+)_l(\d+)_f([\d-]+)_e(\d+)", shape)
    if found is None:
        raise ValueError(f"shape must be written as a2_l8_f512_e128, got {shape!r}")
    heads, layers, units, rank = found.groups()
    return {
        "shape": shape,
        "heads": heads,
        "layers": int(layers),
        "ffn_units": units,
        "embedding_rank": int(rank),
    }


def _means(cells: pd.DataFrame) -> dict[str, Any]:
    names = ("params", "macs", LATENCIES[1])
    return {name: float(cells[name].mean()) if name in cells else None for name in names}


def _crossed(records: Records) -> Table | None:
    varying = _varying(records)
    named = [AXIS + axis for axis in varying]
    # Two grids of one axis each are not crossed.
    if len(varying) != 2 or bool(records.cells[named].isna().any(axis=None)):
        return None
    down, across = varying
    values = list(dict.fromkeys(records.cells[AXIS + across]))
    made = []
    for family in records.families:
        cells = records.cells[records.cells["family"] == family]
        for value in dict.fromkeys(cells[AXIS + down]):
            row: dict[str, Any] = {"family": family, "row": str(value)}
            for other in values:
                both = cells[(cells[AXIS + down] == value) & (cells[AXIS + across] == other)]
                found = spread(both["score"].tolist()) if len(both) else None
                row |= {
                    str(other): found.mean if found else None,
                    f"{other}_sd": found.sd if found else None,
                }
            made.append(row)
    shown = [text_column(down, "row")]
    if len(records.families) > 1:
        shown.insert(0, text_column("grid and task", "family"))
    shown += [
        spread_column(f"{across} {value}", str(value), f"{value}_sd", score) for value in values
    ]
    title = f"{down} and {across}"
    note = "Mean ± standard deviation of the score over the seeds."
    return Table("crossed", title, note, pd.DataFrame(made), tuple(shown))


def every_cell(records: Records) -> Table:
    """A row per cell."""
    shown = (
        text_column("cell", "cell"),
        number_column("seed", "seed", lambda seed: f"{seed:.0f}"),
        number_column("score", "score", score),
        number_column("teacher", "teacher_score", score),
        number_column("kept", "retention", percent),
        number_column("parameters", "params", count),
        number_column("time", "seconds", whole_duration),
    )
    return Table(
        "cells", "Every cell", "", records.cells.drop(columns=["teachers", "taught_by"]), shown
    )


def stage_times(records: Records) -> Table:
    """What was computed, each distinct stage once however many cells need it."""
    stages = records.stages.sort_values("seconds", ascending=False).drop_duplicates("key")
    rows = []
    for name in sorted(set(records.stages["stage"]), key=_place):
        once, uses = stages[stages["stage"] == name], records.stages["stage"] == name
        rows.append(
            {
                "stage": name,
                "computed": len(once),
                "used_by": int(uses.sum()),
                "seconds": float(once["seconds"].sum()),
                "seconds_unshared": float(records.stages.loc[uses, "seconds"].sum()),
            }
        )
    frame = pd.DataFrame(rows)
    frame.loc[len(frame)] = {"stage": "all", **frame.drop(columns="stage").sum().to_dict()}
    shown = (
        text_column("stage", "stage"),
        number_column("computed", "computed", count),
        number_column("used by cells", "used_by", count),
        number_column("time", "seconds", whole_duration),
        number_column("without sharing", "seconds_unshared", whole_duration),
    )
    return Table("stages", "Stages", "", frame, shown)


def _place(stage: str) -> tuple[int, str]:
    """Where in the method a stage stands; unknown ones come last."""
    order = [*catalogue(), REGISTER]
    return (order.index(stage) if stage in order else len(order), stage)
