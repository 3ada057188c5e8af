"""The command `rosita sync`: runs that another MLflow did not take in time are copied now."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.cli.options import JsonOption, print_json


def sync(
    uri: Annotated[
        str | None,
        typer.Option(help="Send to this MLflow instead, e.g. where the server has moved."),
    ] = None,
    refused: Annotated[
        bool,
        typer.Option("--refused", help="Ask MLflow again for what it did not accept before."),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Send to the MLflow of MLFLOW_TRACKING_URI what it has not taken of the runs of this home.

    Runs go on while MLflow does not answer, and are kept in the home's own store; this sends them
    to the MLflow that they were started with. Sending twice does no harm. Names and passwords are
    not kept: set MLFLOW_TRACKING_URI as for the run. Ends with exit code 1 where something is left.
    """
    from tasks.home import home_directory
    from tasks.host.failure import Failure
    from tasks.host.wording import counted
    from tasks.tracking.sync import sync as send

    try:
        report = send(home_directory(), uri, refused_too=refused)
    except OSError as error:
        raise Failure(str(error)) from error
    if json_:
        print_json(asdict(report))
    else:
        _show(report)
    left = [run for run in report.runs if run.problem is not None]
    if left:
        place = f" to {left[0].uri}" if len({run.uri for run in left}) == 1 else ""
        raise Failure(f"{counted(len(left), 'run')} could not be sent{place}: {left[0].problem}")
    if refused and report.refused:
        raise Failure(
            f"MLflow refuses something of {counted(report.refused, 'run')}; the tag "
            "rosita.mirror_refused of each in the home's own store says what, and why"
        )


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sync)


def _show(report: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from tasks.host.console import console
    from tasks.host.wording import counted

    if report.runs:
        table = Table(title="sent to MLflow")
        for name in ("run", "MLflow run", "left"):
            table.add_column(name, overflow="fold")
        for run in report.runs:
            table.add_row(Text(run.name), run.run_id or "-", Text(run.problem or ""))
        console().print(table)
    elif not report.in_use and not report.elsewhere:
        print("nothing waits")
    for host in report.elsewhere:
        print(f"{host} records in this home now; what it keeps, it sends itself")
    if report.refused:
        runs = counted(report.refused, "run")
        print(f"MLflow has refused something of {runs}; --refused asks again")
    if report.in_use:
        runs = counted(report.in_use, "run")
        print(f"in use by a process that sends what it keeps itself: {runs}")
