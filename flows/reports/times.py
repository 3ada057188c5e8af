"""Where the time of a grid went, as a table."""

from __future__ import annotations

import pandas as pd

from flows.reports.parts import Table, count, duration, number_column, text_column
from flows.reports.records import Records
from tasks.stages.catalogue import REGISTER, catalogue


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
        number_column("time", "seconds", duration),
        number_column("without sharing", "seconds_unshared", duration),
    )
    return Table("stages", "Stages", "", frame, shown)


def _place(stage: str) -> tuple[int, str]:
    """Where in the method a stage stands; unknown ones come last."""
    order = [*catalogue(), REGISTER]
    return (order.index(stage) if stage in order else len(order), stage)
