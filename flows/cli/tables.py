"""Results as tables on stdout."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from tasks.home import home_directory
from tasks.host.console import console
from tasks.host.wording import counted, size

if TYPE_CHECKING:
    from flows.maintenance.gc import Garbage

EXAMPLES = {False: '"A film to remember."', True: '"Is it good?" --text-b "It is fine."'}
"""Texts for a model of texts, and for one of pairs."""
NOT_SENT = "MLflow does not answer: `rosita sync` sends what is kept"


def show_comparison(summary: dict[str, Any], path: Path) -> None:
    """Teacher against student, and where everything is. The last line names the summary."""
    # Here, because measuring brings torch, which the other tables do without.
    from flows.engine.cuts import cut_rows
    from flows.engine.pages import pages
    from flows.engine.summary import comparison_rows, format_rows, left_out, method_said
    from rosita_core.data.sharing import shared

    numerics = summary["numerics"]
    table = Table(
        title=f"{summary['recipe']} (task {summary['task']}, {method_said(summary)}, "
        f"seed {summary['seed']})"
    )
    table.add_column("")
    for name in ("teacher", "student", "change"):
        table.add_column(name, justify="right")
    for row in comparison_rows(summary):
        table.add_row(*row.values())
    out = console()
    out.print(table)
    out.print(
        f"Scores on {summary['dev_rows']:,} dev rows ({_chosen_by(summary)}); "
        f"{numerics['device']}, {numerics['precision']}, {numerics['threads']} threads."
    )
    if len(formats := format_rows(summary)) > 1:
        threads = f"{numerics['threads']} threads"
        written = Table(title=f"the exported model in float32 on the CPU, {threads}")
        for name in formats[0]:
            written.add_column(name, justify="left" if name == "format" else "right")
        for row in formats:
            written.add_row(*row.values())
        out.print(written)
    for note in (*left_out(summary), *shared(summary["rows"]), *cut_rows(summary["cuts"])):
        out.print(Text(note))
    retention = summary["retention"]
    kept = "" if retention is None else f", {100 * retention:.1f} % of the {summary['score_name']}"
    print(f"{summary['compression']:.2f}x fewer parameters{kept}.")
    print()
    gate = summary["gate"]
    if gate["not_registered"] is not None:
        print(gate["not_registered"])
    print(f"compressed model: {summary['export_dir']}")
    registered, mlflow_run_id = summary["registered_model"], summary["mlflow_run_id"]
    if registered is not None:
        print(f"registered as:    {registered['uri']}")
    if mlflow_run_id is not None:
        print(f"MLflow run:       {mlflow_run_id} in {summary['mlflow_uri']}")
    found = pages(home_directory(), mlflow_run_id, summary["run_id"])
    for server, page in found.items():
        print(f"{f'at {server}:':<18}{page}")
    if (registered is None and gate["not_registered"] is None) or mlflow_run_id is None:
        print(NOT_SENT)
    for said in (gate["weak_student"], gate["weak_teacher"]):
        if said is not None:
            print(said)
    run_id = summary["run_id"]
    print()
    print("next:")
    look = () if found else (("rosita ui", "see the runs"),)
    for command, does in (
        (f"rosita predict --model {run_id} {EXAMPLES[summary['pair']]}", "use it"),
        (f"rosita export --model {run_id} model", "copy it out of the store"),
        (f"rosita benchmark {run_id}", "time it on this machine"),
        *look,
    ):
        print(f"  {command}  # {does}")
    print(f"summary: {path}")


def _chosen_by(summary: dict[str, Any]) -> str:
    """Whether the reported rows chose checkpoints."""
    if summary["select_on_dev"]:
        return "the same rows chose checkpoints"
    chose = summary["rows"]["dev_in_select"]
    return f"{chose:,} of them chose checkpoints" if chose else "they chose nothing"


def show_stage(document: dict[str, Any]) -> None:
    """What one stage left when it ran alone."""
    stage = document["stage"]
    table = Table(title=f"{document['recipe']}: stage {stage['name']}, attempt {stage['attempt']}")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in stage["metrics"].items():
        table.add_row(name, _number(value) if isinstance(value, float) else str(value))
    table.add_row("seconds", f"{stage['seconds']:,.1f}")
    out = console()
    out.print(table)
    print(f"artifact:   {document['folder']}")
    run_id = document["mlflow_run_id"]
    print(NOT_SENT if run_id is None else f"MLflow run: {run_id}")
    from flows.engine.pages import pages

    for server, page in pages(home_directory(), run_id, document["run_id"]).items():
        print(f"{f'at {server}:':<12}{page}")
    print("The stages after it follow with the next `rosita compress`.")


def _number(value: float) -> str:
    """Counts in full, anything else to four digits."""
    return f"{value:,.0f}" if value.is_integer() else f"{value:,.4g}"


def show_catalogue(entries: list[dict[str, Any]]) -> None:
    """A line per recipe."""
    table = Table(title="recipes")
    for name in ("recipe", "task", "KD", "teacher", "student"):
        table.add_column(name)
    table.add_column("parameters", justify="right")
    table.add_column("", justify="right")
    for entry in entries:
        teacher, student = entry["teacher"], entry["student"]
        table.add_row(
            entry["name"],
            entry["task"],
            entry["kd_setting"],
            f"{entry['model']} {teacher['shape']}",
            student["shape"],
            f"{teacher['params']:,} -> {student['params']:,}",
            f"{entry['compression']:.2f}x",
        )
    console().print(table)


def show_grids(entries: list[dict[str, Any]]) -> None:
    """A line per grid."""
    table = Table(title="grids")
    for name in ("grid", "asks", "usage"):
        table.add_column(name)
    for entry in entries:
        table.add_row(entry["name"], entry["description"], f"rosita grid {entry['usage']}")
    console().print(table)


def show_garbage(garbage: tuple[Garbage, ...], home: Path, days: float) -> None:
    """What can be freed, with its sizes and a total."""
    out = console()
    if not garbage:
        out.print(Text(f"nothing to free in {home}: all of it was used within {days:g} days"))
        return
    table = Table(title=f"not in use for {days:g} days, or left behind", title_justify="left")
    for name in ("kind", "name"):
        table.add_column(name, overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("last used (UTC)", no_wrap=True)
    for one in garbage:
        used = f"{datetime.fromtimestamp(one.last_used, UTC):%Y-%m-%d %H:%M}"
        table.add_row(one.kind, Text(one.name), size(one.size), used)
    out.print(table)
    out.print(Text(f"{counted(len(garbage), 'item')}, {size(_total(garbage))} in {home}"))


def show_freed(garbage: tuple[Garbage, ...], kept: tuple[Garbage, ...], dry_run: bool) -> None:
    """What became of it."""
    out = console()
    if dry_run:
        out.print("Nothing was freed.")
        return
    gone = tuple(one for one in garbage if one not in kept)
    out.print(Text(f"Freed {size(_total(gone))}."))
    if kept:
        names = ", ".join(one.name for one in kept)
        out.print(Text(f"Kept {counted(len(kept), 'item')}, in use again: {names}"))


def _total(garbage: tuple[Garbage, ...]) -> int:
    return sum(one.size for one in garbage)
