"""The `rosita` command. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import functools
import gc
import io
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.exceptions import TyperException

from flows.cli.options import (
    INTERRUPTED,
    SIGNALLED,
    STAGE_FAILED,
    WRONG_REQUEST,
    JsonOption,
    PreflightOption,
    RecipeOption,
    SetOption,
    checked_request,
    print_json,
)
from tasks.home import home_directory
from tasks.host.environment import keep_prefect_in, prepare_environment, stand_in_for_a_user
from tasks.host.failure import Failure
from tasks.host.private_files import private_files
from tasks.host.put_off import looks
from tasks.host.redaction import redacted
from tasks.host.signals import heeded
from tasks.host.terminal import silence
from tasks.host.wording import shortened

IMPORTED_OBJECTS = 50_000

app = typer.Typer(
    name="rosita",
    help=(
        "Compress a BERT classifier by ROSITA: structured pruning, low-rank factorization and "
        "multi-stage distillation, as a resumable pipeline.\n\n"
        "Start with `rosita compress --recipe demo`. Everything is kept under ROSITA_HOME "
        "(default .rosita)."
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"rosita {version('rosita')}")
        raise typer.Exit


@app.callback()
def _main(
    version_: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def compress(
    recipe: RecipeOption,
    set_: SetOption = None,
    preflight: PreflightOption = None,
    json_: JsonOption = False,
) -> None:
    """Run the whole method and compare the student with its teacher.

    Stages that were computed before are taken from the cache. Progress goes to stderr, the result
    to stdout; the last line names summary.json.
    """
    from flows.api import compress as run

    _show_summary(run(recipe, set_ or (), preflight=preflight), json_)


@app.command()
def rerun(
    stage: Annotated[str, typer.Argument(help="A stage, as `rosita plan` names it.")],
    recipe: RecipeOption,
    only: Annotated[bool, typer.Option("--only", help="Run that stage and nothing else.")] = False,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="Run everything that depends on it again, too.")
    ] = False,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Run a stage again, whatever the cache says; every attempt stays visible in MLflow.

    The rest of the recipe follows where its inputs have changed. With --only it follows in the
    next run; with --downstream it runs again in any case.
    """
    if only and downstream:
        raise ValueError("rerun must have one of --only and --downstream, got both")
    request = checked_request(recipe, set_, download=True)
    from flows.api import form, run_prepared
    from flows.deployed import rerun as flow
    from flows.engine.recording import StageError
    from flows.method import check_stage
    from flows.rerun import cached_inputs

    check_stage(request, stage)
    if only:
        cached_inputs(request, stage)
    scope = "only" if only else "downstream" if downstream else "follow"
    given = {**form(recipe, set_ or (), request.recipe), "stage": stage, "scope": scope}
    found = run_prepared(request, flow, given, (StageError,))
    if not only:
        _show_summary(found, json_)
    elif json_:
        print_json(found)
    else:
        from flows.cli.tables import show_stage

        show_stage(found)


@app.command()
@looks
def plan(recipe: RecipeOption, set_: SetOption = None, json_: JsonOption = False) -> None:
    """Show each stage, its key, and whether it is cached or why not. Runs nothing.

    `rosita explain STAGE` says in full why one of them is not cached.
    """
    request = checked_request(recipe, set_, download=False)
    from dataclasses import asdict

    from flows.cli.plan_tables import show_plan
    from flows.planning.plan import plan as make_plan
    from flows.planning.plan import totals

    planned = make_plan(request)
    if json_:
        parts = asdict(planned)
        document = {"recipe": request.recipe.name, "notes": list(request.notes)}
        document |= {"stages": parts["stages"], "keeping": parts["keeping"]}
        print_json(document | {"rows": parts["rows"]["counts"], "cuts": parts["rows"]["cuts"]})
        return
    show_plan(request, planned, totals(planned.stages))


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe in full, as YAML.")] = None,
    fields: Annotated[
        bool, typer.Option("--fields", help="Show every field of a recipe, as Markdown.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """List the recipes with the shapes and exact parameter counts, and the grids."""
    if fields:
        if name is not None:
            raise ValueError(f"recipes must have a name or --fields, got {name} and --fields")
        _show_fields(json_)
        return
    from flows.cli.tables import show_catalogue, show_grids
    from flows.grids.loading import grid_entries
    from flows.recipes.catalogue import catalogue
    from flows.recipes.shipped import load_recipe

    if name is not None:
        import yaml

        found = load_recipe(name, ()).model_dump(mode="json")
        if json_:
            print_json(found)
        else:
            print(yaml.safe_dump(found, sort_keys=False), end="")
        return
    entries = catalogue()
    if json_:
        print_json({"recipes": entries, "grids": grid_entries()})
    else:
        show_catalogue(entries)
        show_grids(grid_entries())


def _show_fields(json_: bool) -> None:
    from dataclasses import asdict

    from flows.recipes.fields import field_rows, fields_page

    if json_:
        print_json({"fields": [asdict(row) for row in field_rows()]})
    else:
        print(fields_page(), end="")


def _show_summary(summary: dict[str, Any], json_: bool) -> None:
    from flows.cli.tables import show_comparison
    from tasks.home import Home, home_directory

    path = Home(home_directory()).summary(summary["run_id"])
    if json_:
        print(path.read_text(encoding="utf-8"))
    else:
        show_comparison(summary, path)


@functools.cache
def _register_commands() -> None:
    """Commands that live in files of their own; once, however often `main` is called."""
    from flows.cli import cache, evaluate, export, grid, machine, model, report, schedule, tracking

    for group in (cache, model, evaluate, export, machine, tracking, grid, report, schedule):
        group.add_to(app)


def main() -> None:
    """Entry point: exit codes 0 done, 1 failed, 2 wrong request."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        # A terminal that lacks a letter gets its number, not an error after all was computed.
        out.reconfigure(errors="backslashreplace")
    try:
        _prepare(home_directory())
        with private_files():
            try:
                # Without arguments it shows its help, which Typer alone writes.
                code = app(standalone_mode=len(sys.argv) < 2)
            finally:
                out.flush()
        if code:
            raise SystemExit(code)
    except BrokenPipeError:
        _unread(out)
    except TyperException as error:
        _fail(error.format_message(), WRONG_REQUEST)
    except typer.Abort:
        _fail("aborted", STAGE_FAILED)
    except UnicodeEncodeError as error:
        _fail(f"text must be in UTF-8, got {shortened(ascii(error.object))}", WRONG_REQUEST)
    except ValueError as error:
        _fail(str(error), WRONG_REQUEST)
    except (Failure, OSError) as error:
        _fail(str(error), STAGE_FAILED)
    except SystemExit as ended:
        if sys.stdout is not out:
            # So Typer leaves it where nobody reads any more.
            _unread(out)
        # Typer turns Ctrl-C into this exit code and says nothing.
        if ended.code != INTERRUPTED:
            raise
        resumes = set(sys.argv[1:2]) & {"compress", "rerun", "grid"}
        goes_on = "; the same command goes on with the next unfinished stage" if resumes else ""
        _fail(f"interrupted{goes_on}", INTERRUPTED)
    finally:
        gc.freeze()


def _prepare(home: Path) -> None:
    """What has to be in place before anything is imported."""
    prepare_environment()
    stand_in_for_a_user(home)
    keep_prefect_in(home)
    # Imports make millions of objects that stay, and to look for garbage among them takes seconds.
    gc.set_threshold(IMPORTED_OBJECTS)
    _register_commands()
    # Python's own way to end at a signal leaves out what is to be done at the end.
    for number in set(heeded()) - {signal.SIGINT}:
        signal.signal(number, lambda number, _: sys.exit(SIGNALLED + number))
    # A working directory with own modules must not hide the project's.
    sys.path[:] = [path for path in sys.path if path not in ("", _own_flows())]


def _own_flows() -> str:
    try:
        return str(Path.cwd() / "flows")
    except FileNotFoundError:
        return ""


def _unread(out: TextIO) -> None:
    """End as other commands do whose reader, such as `head`, has seen enough."""
    silence(out)
    raise SystemExit(SIGNALLED + signal.SIGPIPE)


def _fail(message: str, code: int) -> None:
    print("rosita: " + redacted(" ".join(message.split())), file=sys.stderr)
    raise SystemExit(code)
