"""What commands share: their options, the request of a recipe, and how a flow's failure is told."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

WRONG_REQUEST, STAGE_FAILED, INTERRUPTED, TERMINATED = 2, 1, 130, 143

RecipeOption = Annotated[
    str, typer.Option("--recipe", "-r", help="A shipped recipe (see `rosita recipes`) or a file.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", help="Change one field, e.g. `--set width.keep_heads=2`. Repeatable."
    ),
]
PreflightOption = Annotated[
    bool | None,
    typer.Option(
        "--preflight/--no-preflight",
        help="First run every stage in miniature, so that a mistake in the last one shows at "
        "once. Default: where at least 500 optimizer steps are left.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


class Failure(RuntimeError):
    """A stage failed, or a server could not be started: exit code 1."""


def checked_request(recipe: str, changes: list[str] | None, download: bool) -> Any:
    """The request of a recipe, everything checked that can be checked before computing."""
    from flows.recipes.shipped import load_recipe

    loaded = load_recipe(recipe, tuple(changes or ()))
    from flows.engine.checks import prepare_request

    return prepare_request(loaded, download)


def run_flow(
    home: Path, name: str, flow: Callable[[], Any], expected: tuple[type[Exception], ...]
) -> Any:
    """What a flow returns; a failure that it does not know of as one line.

    Args:
        name: of the file in the home's logs that has the traceback then.
        expected: failures that speak for themselves.
    """
    from flows.engine.prefect_loss import forget, has_begun, hidden, last_achieved, summarize_losses
    from tasks.home import Home

    forget()
    summarize_losses()
    try:
        return flow()
    except expected:
        raise
    except Exception as error:
        # Mostly a server of Prefect that cannot be reached; the trace tells the rest.
        trace = Home(home).logs / f"{name}.txt"
        # On a full disk the error itself says more than that its trace found no room.
        with contextlib.suppress(OSError):
            trace.parent.mkdir(parents=True, exist_ok=True)
            trace.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        cause = f"{type(error).__name__}: {error}"
        lost = f"Prefect was not told how it ended ({cause}); its traceback is {trace}"
        if (document := last_achieved()) is not None:
            print(f"rosita: the run is complete, but {lost}", file=sys.stderr)
            return document
        if (failure := hidden(error, expected)) is not None:
            raise Failure(f"{failure}; {lost}") from error
        came_to = "ended early" if has_begun() else "did not start"
        raise Failure(f"the run {came_to}: {cause}; its traceback is {trace}") from error


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=2))
