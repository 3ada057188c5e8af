"""What commands share: their options, and the request of a recipe."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from tasks.host.put_off import with_libraries

WRONG_REQUEST, STAGE_FAILED, INTERRUPTED = 2, 1, 130
SIGNALLED = 128
"""And the number of the signal, as shells say it."""


def recipe_names(incomplete: str) -> list[str]:
    """The shipped recipes that a shell may complete a word to."""
    from flows.recipes.shipped import RECIPES

    return [name for name in RECIPES if name.startswith(incomplete)]


RecipeOption = Annotated[
    str,
    typer.Option(
        *("--recipe", "-r"),
        help="A shipped recipe (see `rosita recipes`) or a file.",
        autocompletion=recipe_names,
    ),
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
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, or one GPU such as cuda:1.")]
PrecisionOption = Annotated[str, typer.Option(help="fp32, bf16 or auto.")]
ModelOption = Annotated[
    str | None,
    typer.Option(help="A checkpoint directory, or a run (see `rosita runs`); else the newest."),
]
FirstOption = Annotated[
    str | None,
    typer.Option("--text-a", help="Its column of the (first) text; default as in training."),
]
SecondOption = Annotated[
    str | None,
    typer.Option("--text-b-column", help="Its column of the second text; default likewise."),
]
BatchOption = Annotated[int, typer.Option(help="Rows at a time.")]
LengthOption = Annotated[
    int | None, typer.Option(help="Tokens per text; default what the model can read.")
]
ThreadsOption = Annotated[str, typer.Option(help="CPU threads: a number, or auto for all cores.")]


def checked_request(recipe: str, changes: list[str] | None, download: bool) -> Any:
    """The request of a recipe, everything checked that can be checked before computing."""
    from flows.recipes.shipped import load_recipe

    loaded = load_recipe(recipe, tuple(changes or ()))
    if download:
        from flows.services.run_server import begin_api
        from tasks.home import home_directory

        begin_api(home_directory())
    elif loaded.task == "custom":
        # Its rows are read, whatever is known.
        with_libraries()
    from flows.engine.checks import prepare_request

    return prepare_request(loaded, download)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=2))
