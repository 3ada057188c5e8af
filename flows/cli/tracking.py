"""The command `rosita sync`: journals that MLflow did not take in time are sent now."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer


def sync(
    uri: Annotated[
        str | None,
        typer.Option(help="Send to this MLflow instead, e.g. where the server has moved."),
    ] = None,
    refused: Annotated[
        bool,
        typer.Option("--refused", help="Ask MLflow again for what it did not accept before."),
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Send to MLflow what waits under ROSITA_HOME/outbox.

    Runs go on while MLflow does not answer; this sends what they have kept, to the MLflow that they
    were started with. Sending twice does no harm. Names and passwords are not kept: set
    MLFLOW_TRACKING_URI as for the run. Ends with exit code 1 where something is left.
    """
    from tasks.home import Home, home_directory
    from tasks.host.wording import counted
    from tasks.tracking.outbox.sync import sync as send

    report = send(home_directory(), uri, refused_too=refused)
    if json_:
        print(json.dumps(asdict(report), indent=2))
    else:
        _show(report)
    left = [run for run in report.runs if run.problem is not None]
    if left:
        from flows.engine.prefect_loss import Failure

        operations = counted(sum(run.left for run in left), "operation")
        uris = {run.uri for run in left}
        place = f" to {left[0].uri}" if len(uris) == 1 else ""
        raise Failure(
            f"{operations} of {counted(len(left), 'run')} could not be sent{place}: "
            f"{left[0].problem}"
        )
    if refused and report.refused:
        from flows.engine.prefect_loss import Failure

        raise Failure(
            f"MLflow refuses {counted(report.refused, 'operation')}; the reasons are in "
            f"{Home(home_directory()).refused}"
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
        for name in ("run", "MLflow run"):
            table.add_column(name, overflow="fold")
        for name in ("operations sent", "left"):
            table.add_column(name, justify="right")
        for run in report.runs:
            table.add_row(Text(run.name), run.run_id or "-", str(run.sent), str(run.left))
        console().print(table)
    elif not report.in_use:
        print("nothing waits")
    if report.refused:
        print(f"MLflow has refused {counted(report.refused, 'operation')}; --refused asks again")
    if report.in_use:
        runs = counted(report.in_use, "run")
        print(f"in use by a process that sends what it keeps itself: {runs}")
