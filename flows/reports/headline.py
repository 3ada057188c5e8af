"""The answer of a grid in a few sentences, and what a reader needs to judge it by."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from flows.grids.loading import SMOKE
from flows.grids.shipped import TEMPLATES
from flows.recipes.shipped import RECIPES
from flows.reports.differences import ALPHA, METHOD, SPLIT
from flows.reports.parts import Table, percent, points, rows_of, score
from flows.reports.records import Records
from flows.reports.tables import is_teacher
from rosita_core.measuring.significance.comparison import spread

NAMES_SHOWN = 12
"""Longer lists of missing cells are cut."""
LISTED = 15
"""Comparisons that are listed one by one: all pairs of six configurations."""


def headline(records: Records, results: Table, pairs: Table | None) -> tuple[str, ...]:
    """Which configuration is best and by how much; what is missing."""
    said = []
    for family in records.families:
        rows = [row for row in rows_of(results.frame) if row["family"] == family]
        students = [row for row in rows if not is_teacher(row)]
        best = max(students, key=lambda row: float(row["score"]))
        lead = f"{family}: " if len(records.families) > 1 else ""
        said.append(lead + _achieved(best))
        if pairs is not None:
            said += list(_compared(pairs, family, students, best))
    if records.missing:
        total = len(records.missing) + len(records.cells)
        unfinished = f"{len(records.missing)} of {total} cells have not finished"
        names = ", ".join(list(records.missing)[:NAMES_SHOWN])
        more = ", ..." if len(records.missing) > NAMES_SHOWN else ""
        said.append(f"Incomplete: {unfinished} ({names}{more}).")
    return tuple(said)


def _achieved(best: Mapping[str, Any]) -> str:
    name = str(best["configuration"])
    if name.split()[0].isalpha():
        name = name[0].upper() + name[1:]
    seeds = f"{best['seeds']} seed{'s' if best['seeds'] != 1 else ''}"
    kept = ""
    if pd.notna(best["retention"]):
        kept = f"keeps {percent(best['retention'])} of the teacher's {best['score_name']} "
        if best["retention_seeds"] < best["seeds"]:
            of = f"{best['retention_seeds']} of {best['seeds']}"
            kept += f"in the {of} seeds whose teacher is above 0 "
    else:
        kept = f"reaches {best['score_name']} {score(best['score'])} "
    return (
        f"{name} {kept}at {best['compression']:.1f}x fewer parameters "
        f"({score(best['score'])} against {score(best['teacher_score'])}, {seeds})."
    )


def _compared(
    pairs: Table, family: str, students: list[dict[str, Any]], best: Mapping[str, Any]
) -> Iterator[str]:
    rows = [row for row in rows_of(pairs.frame) if row["family"] == family]
    ranked = sorted(students, key=lambda row: -float(row["score"]))
    if len(ranked) > 1:
        second = ranked[1]["configuration"]
        names = {best["configuration"], second}
        for row in rows:
            if {row["a"], row["b"]} == names:
                verdict = "they differ" if row["told_apart"] else "not told apart"
                yield (
                    f"It is {points(abs(row['difference']))} points above {second}, the next "
                    f"(95 % {points(row['low'])} to {points(row['high'])}): {verdict}."
                )
    apart = sum(bool(row["told_apart"]) for row in rows)
    if len(rows) > 1:
        yield (
            f"{apart or 'None'} of {len(rows)} comparisons "
            f"show{'s' if apart <= 1 else ''} a difference (Holm-corrected p < {ALPHA})."
        )


def in_words(pairs: Table) -> tuple[str, ...]:
    """The comparisons as sentences: those that show a difference, and those that do not; where
    there are many, what each configuration is above."""
    texts: list[str] = []
    for family, frame in pairs.frame.groupby("family", sort=False):
        lead = f"{family}: " if pairs.frame["family"].nunique() > 1 else ""
        texts += [lead + text for text in _in_words(frame)]
    return tuple(texts)


def _in_words(pairs: pd.DataFrame) -> list[str]:
    if len(pairs) > LISTED:
        return [_above(str(name), rows) for name, rows in pairs.groupby("a", sort=False)]
    apart, alike = [], []
    for row in rows_of(pairs):
        interval = f"{points(row['low'])} to {points(row['high'])}"
        if row["told_apart"]:
            side = "above" if row["difference"] >= 0 else "below"
            distance = points(abs(row["difference"]))
            apart.append(f"{row['a']} {distance} {side} {row['b']} ({interval})")
        else:
            alike.append(f"{row['a']} and {row['b']} ({interval})")
    texts = []
    if apart:
        texts.append(f"Told apart, in points with the 95 % interval: {'; '.join(apart)}.")
    if alike:
        texts.append(f"Not told apart: {'; '.join(alike)}.")
    return texts


def _above(name: str, rows: pd.DataFrame) -> str:
    """What one configuration is told apart from, with points, and what not; all score less."""
    apart = rows[rows["told_apart"]].sort_values("difference")
    said = [
        f"{other} ({points(distance)})"
        for other, distance in zip(apart["b"], apart["difference"], strict=True)
    ]
    parts = [f"Above, by points: {'; '.join(said)}."] if said else []
    if alike := rows.loc[~rows["told_apart"], "b"].tolist():
        parts.append(f"Not told apart from: {'; '.join(alike)}.")
    return f"{name}. {' '.join(parts)}"


def methods(records: Records, compared: bool) -> tuple[str, ...]:
    """How the numbers came about."""
    scored = ", ".join(
        f"{name} on {_rows_of(records, task)}{task}"
        for task, name in dict.fromkeys(
            zip(records.cells["task"], records.cells["score_name"], strict=True)
        )
    )
    texts = [
        f"Scores: {scored}, which chose nothing unless a recipe says so; checkpoints are "
        "chosen on rows of the training data. Everything here is computed from the records of "
        "finished cells; nothing was trained again.",
    ]
    if compared:
        texts.append(METHOD)
    seeds = sorted(set(records.cells["seed"].tolist()))
    if spread([float(s) for s in seeds]).count < 3:
        texts.append("Fewer than three seeds: read the spread of the trainings as unknown.")
    return tuple(texts)


def _rows_of(records: Records, task: str) -> str:
    """How many dev rows of a task were scored, as `872 dev rows of `; nothing where unknown."""
    cells = records.cells.loc[records.cells["task"] == task, "cell"]
    known = records.predictions
    known = known[(known["split"] == SPLIT) & known["cell"].isin(cells)]
    rows = known.groupby("cell", observed=True).size()
    return f"{int(rows.max()):,} dev rows of " if len(rows) else "dev rows of "


def environment(records: Records) -> tuple[tuple[str, str], ...]:
    """Facts of the runs: (name, value)."""
    facts: dict[str, list[str]] = {}

    def note(name: str, value: Any) -> None:
        known = facts.setdefault(name, [])
        if str(value) not in known:
            known.append(str(value))

    for document in records.documents:
        note("command", _command(document["definition"], document["seeds"]))
        note("seeds", ", ".join(map(str, document.get("seeds", []))))
        if document.get("date"):
            note("date", document["date"])
        for commit in document.get("commits") or [document.get("commit")]:
            if commit:
                note("commit", commit)
        # Records of one environment were written before there could be several.
        for found in document.get("environments") or [document.get("environment", {})]:
            for field, value in _flat(found):
                note(field, value)
    return tuple((name, "; ".join(values)) for name, values in facts.items())


def _command(definition: Mapping[str, Any], seeds: Sequence[int]) -> str:
    """What runs these cells again. Only shipped grids have their recipe in their names."""
    name, base = definition["name"], definition["base"]
    shipped = base in RECIPES and name in {f"{template}-{base}" for template in TEMPLATES}
    if not shipped and name != SMOKE:
        return f"rosita grid --grid {name}.yaml, which holds `definition` of grid.json"
    changes = "".join(
        f" --set {shlex.quote(f'{field}={_as_yaml(value)}')}"
        for field, value in sorted(definition["set"].items())
    )
    return f"rosita grid --grid {name}{changes} --seeds {','.join(map(str, seeds))}"


def _as_yaml(value: Any) -> str:
    """A value as `--set` reads it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
    return text.removesuffix("...\n").strip()


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in sorted(values.items()):
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, value)) or "none"
        elif value is not None:
            yield f"{prefix}{name}", value
