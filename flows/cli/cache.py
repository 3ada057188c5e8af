"""Commands about what was computed before: why a stage is not cached, and freeing space."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flows.cli.options import JsonOption, RecipeOption, SetOption, checked_request, print_json
from tasks.host.put_off import looks

OLDER_THAN_DAYS = 30.0
MOST_DAYS = 100_000


@looks
def explain(
    stage: Annotated[str, typer.Argument(help="A stage of the recipe; see `rosita plan`.")],
    recipe: RecipeOption,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Say in full why a stage is not cached, down to the root causes. Runs nothing.

    It is compared with its last completed attempt: fields with both values, the functions whose
    code changed, library versions, numerics, and inputs with the stage that they come from.
    """
    request = checked_request(recipe, set_, download=False)
    from flows.cli.plan_tables import show_explanation
    from flows.planning.explain import as_document
    from flows.planning.explain import explain as find_reasons

    explained = find_reasons(request, stage)
    if json_:
        print_json(as_document(explained, request.recipe.name))
        return
    show_explanation(explained, request.recipe.name)


def gc(
    older_than: Annotated[
        float, typer.Option("--older-than", help="Days without use after which a result may go.")
    ] = OLDER_THAN_DAYS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List only; free nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json_: JsonOption = False,
) -> None:
    """Free what no recent run refers to: old results, damaged copies, leftovers, checkpoints.

    Lists it with its size and asks. What a running stage holds is never freed.
    """
    from flows.cli.tables import show_freed, show_garbage
    from flows.maintenance.gc import as_document, find_garbage, free
    from tasks.home import home_directory

    if not 0 <= older_than <= MOST_DAYS:
        raise ValueError(f"--older-than must be in [0, {MOST_DAYS:,}] days, got {older_than:g}")
    asks = not (dry_run or yes)
    if asks and (json_ or not sys.stdin.isatty()):
        raise ValueError("gc must be given --yes or --dry-run where it cannot ask, got neither")
    home = home_directory()
    garbage = find_garbage(home, older_than)
    if not json_:
        show_garbage(garbage, home, older_than)
    if asks and garbage:
        dry_run = not typer.confirm("Free it?", err=True)
    kept = () if dry_run else free(garbage, home, older_than)
    if json_:
        print_json(as_document(garbage, kept, home, older_than, dry_run))
    elif garbage:
        show_freed(garbage, kept, dry_run)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(explain)
    app.command()(gc)
