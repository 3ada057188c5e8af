"""Which configurations differ: pairs of them on the same rows, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.reports.methods import comparable
from flows.reports.parts import Table, number_column, p_value, points, text_column
from flows.reports.records import Records
from flows.reports.tables import TEACHER
from rosita_core.data.task_spec import CLASS_METRICS
from rosita_core.measuring.significance.comparison import holm, mcnemar, paired_bootstrap

SPLIT = "dev"
RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 20210311
ALPHA = 0.05
ALL_PAIRS_UP_TO = 6

METHOD = (
    f"Differences are in points (hundredths of the metric) between means over seeds, on the same "
    f"dev rows, with the {100 * CONFIDENCE:.0f} % interval and the two-sided p by Student's t. "
    f"Their variance has two parts: that of the rows, by a bootstrap ({RESAMPLES:,} resamples, "
    f"seed {SEED}, each of which draws the same rows with replacement for all models), and that of "
    f"the trainings, the sample variance over the seeds, of differences where both have the same "
    f"ones. Each counts by Student's t of its own degrees of freedom (Banerjee 1960): where the "
    f"trainings vary more than the rows do, three seeds have a wide interval, and five a much "
    f"narrower one. So it speaks of new rows and new trainings, but with one seed of both of new "
    f"rows alone. p is corrected by Holm's method within a table and task. Two configurations are "
    f"told apart where the corrected p is below {ALPHA}. McNemar: the exact test of equal "
    f"accuracy, seed by seed, not corrected."
)


@dataclass(frozen=True)
class _Predicted:
    """What the cells of one configuration predicted: seeds, labels (N,), predictions (S, N)."""

    seeds: tuple[int, ...]
    labels: NDArray[Any]
    predictions: NDArray[Any]


def differences(records: Records) -> Table | None:
    """Pairs of configurations; None where there are none whose predictions were recorded."""
    rows = []
    for family in records.families:
        made = {
            name: found
            for name in records.configurations
            if (found := _students(records, name, family)) is not None
        }
        rows += _corrected(list(_pairs(records, family, made)))
    if not rows:
        return None
    otherwise = "each against the first of the grid"
    if any(comparable(records, family) for family in records.families):
        otherwise = (
            "every two methods by one budget, both trained afterwards (or while they were cut) or "
            "neither"
        )
    note = f"Every pair where there are at most {ALL_PAIRS_UP_TO} configurations, else {otherwise}."
    return _table("differences", "Which differ", note, rows, len(records.families) > 1)


def against_teacher(records: Records) -> Table | None:
    """Each configuration against its teachers, seed by seed the same; None without predictions."""
    rows = []
    for family in records.families:
        family_rows = []
        for name in records.configurations:
            student = _students(records, name, family)
            teacher = _teachers(records, name, family) if student is not None else None
            if student is not None and teacher is not None:
                compared = _compared(records, family, (name, student), (TEACHER, teacher))
                family_rows.append(compared)
        rows += _corrected(family_rows)
    if not rows:
        return None
    return _table("against_teacher", "Against the teacher", "", rows, len(records.families) > 1)


def _pairs(records: Records, family: str, made: dict[str, _Predicted]) -> Iterator[dict[str, Any]]:
    names = list(made)
    if len(names) > ALL_PAIRS_UP_TO and (wanted := comparable(records, family)):
        pairs = [(a, b) for a, b in wanted if a in made and b in made]
    elif len(names) > ALL_PAIRS_UP_TO:
        pairs = [(name, names[0]) for name in names[1:]]
    else:
        pairs = list(combinations(names, 2))
    for a, b in pairs:
        # The better one first, so that words like "above" fit.
        if _score(records, a, family) < _score(records, b, family):
            a, b = b, a
        if (
            made[a].labels.shape == made[b].labels.shape
            and (made[a].labels == made[b].labels).all()
        ):
            yield _compared(records, family, (a, made[a]), (b, made[b]))


def _score(records: Records, name: str, family: str) -> float:
    return float(records.of(name, family)["score"].mean())


def _compared(
    records: Records, family: str, a: tuple[str, _Predicted], b: tuple[str, _Predicted]
) -> dict[str, Any]:
    (name_a, first), (name_b, second) = a, b
    cells = records.cells[records.cells["family"] == family]
    metric = str(cells["score_name"].iloc[0])
    same_seeds = first.seeds == second.seeds
    found = paired_bootstrap(
        metric,
        first.labels,
        first.predictions,
        second.predictions,
        same_seeds=same_seeds,
        resamples=RESAMPLES,
        confidence=CONFIDENCE,
        seed=SEED,
    )
    exact = ""
    if metric in CLASS_METRICS and same_seeds:
        tests = (
            mcnemar(first.labels, one, other).p
            for one, other in zip(first.predictions, second.predictions, strict=True)
        )
        exact = ", ".join(p_value(p) for p in tests)
    return {
        "family": family,
        "a": name_a,
        "b": name_b,
        "seeds_a": len(first.seeds),
        "seeds_b": len(second.seeds),
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "mcnemar": exact,
    }


def _corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    corrected = holm([row["p"] for row in rows])
    done = []
    for row, p in zip(rows, corrected, strict=True):
        apart = p < ALPHA
        done.append({**row, "p_holm": p, "told_apart": apart, "in_words": _words(row, apart)})
    return done


def _words(row: dict[str, Any], apart: bool) -> str:
    side = "above" if row["difference"] >= 0 else "below"
    interval = f"95 % {points(row['low'])} to {points(row['high'])}"
    verdict = "they differ" if apart else "not told apart"
    distance = points(abs(row["difference"]))
    return f"{row['a']} is {distance} points {side} {row['b']} ({interval}): {verdict}"


def _table(name: str, title: str, note: str, rows: list[dict[str, Any]], several: bool) -> Table:
    frame = pd.DataFrame(rows)
    shown = [
        text_column("", "a"),
        text_column("against", "b"),
        number_column("points", "difference", points),
        number_column("from", "low", points),
        number_column("to", "high", points),
        number_column("p", "p", p_value),
        number_column("p (Holm)", "p_holm", p_value),
        number_column(
            "verdict", "told_apart", lambda apart: "differ" if apart else "not told apart"
        ),
    ]
    if frame["mcnemar"].any():
        shown.append(text_column("McNemar, by seed", "mcnemar"))
    if several:
        shown.insert(0, text_column("grid and task", "family"))
    return Table(name, title, note, frame, tuple(shown))


def _students(records: Records, name: str, family: str) -> _Predicted | None:
    cells = records.of(name, family)
    return _predicted(records, cells["cell"].tolist(), cells["seed"].tolist(), family)


def _teachers(records: Records, name: str, family: str) -> _Predicted | None:
    cells = records.of(name, family)
    return _predicted(records, cells["taught_by"].tolist(), cells["seed"].tolist(), family)


def _predicted(
    records: Records, cells: list[str], seeds: list[int], family: str
) -> _Predicted | None:
    """None where a cell has no predictions."""
    table = records.predictions
    if not cells or not set(cells) <= set(table["cell"]):
        return None
    metric = records.cells.loc[records.cells["family"] == family, "score_name"].iloc[0]
    kind = np.int64 if metric in CLASS_METRICS else np.float64
    predictions, labels = [], None
    for cell in cells:
        rows = table[(table["cell"] == cell) & (table["split"] == SPLIT)].sort_values("row")
        predictions.append(rows["prediction"].to_numpy(dtype=kind))
        if labels is None:
            labels = rows["label"].to_numpy(dtype=kind)
        elif not np.array_equal(labels, rows["label"].to_numpy(dtype=kind)):
            raise ValueError(f"cells of one configuration must have the same rows, got {cell}")
    if labels is None or not len(labels):
        return None
    return _Predicted(tuple(seeds), labels, np.stack(predictions))
