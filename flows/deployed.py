"""The flows as deployments run them; their parameters are the forms in Prefect's UI.

Prefect makes a JSON schema from the types of the parameters, shows it as a form, and refuses values
that do not fit it. What no schema can say is checked as the run starts, by the same functions as on
the command line. A whole recipe as a form would have a hundred fields, so a form names a recipe and
what to change in it. No field may be null: Prefect shows a choice of types in place of a field
then. What is left as it is says so by a value of its own.

Nothing heavy is imported before a run starts: `prefect deploy` and whoever serves a deployment load
this module, too. The command line and `flows.api` run these flows as well, with what they have
checked already (`prepared`), so that each flow is defined once and a run of theirs can be retried.
"""

# No annotations from __future__: `serve` sends a flow to the process of a run without the names of
# this module, and the types of its parameters would be missing there.

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from prefect import flow, runtime
from pydantic import Field

from flows.grids.shipped import SMOKE_GRID, TEMPLATES
from flows.recipes.shipped import RECIPES
from flows.services.deployed_run import deployed_run, given_name, request_before
from tasks.stages.catalogue import catalogue

if TYPE_CHECKING:
    from flows.grid import GridRequest
    from flows.recipes.request import Request

GRIDS = (*TEMPLATES, str(SMOKE_GRID["name"]))
FILE_PATTERN = r"^$|\.(ya?ml|toml|json)$"
SETTING_PATTERN = r"^[a-z_]+(\.[^=]+)?=.*$"
AS_IT_IS = 0
"""A size that the recipe decides."""
OWN_SEED = -1
"""The recipe decides."""
NO_RECIPE = "-"
ALL_CELLS = 0

RecipeName = Annotated[str, Field(json_schema_extra={"enum": list(RECIPES)})]
RecipeOrNone = Annotated[str, Field(json_schema_extra={"enum": [NO_RECIPE, *RECIPES]})]
GridName = Annotated[str, Field(json_schema_extra={"enum": list(GRIDS)})]
StageName = Annotated[str, Field(json_schema_extra={"enum": list(catalogue())})]
File = Annotated[str, Field(pattern=FILE_PATTERN)]
Setting = Annotated[str, Field(pattern=SETTING_PATTERN)]
Seed = Annotated[int, Field(ge=OWN_SEED, lt=2**32)]
GridSeed = Annotated[int, Field(ge=0, lt=2**32)]
Size = Annotated[int, Field(ge=AS_IT_IS)]
Processes = Annotated[int, Field(ge=1)]
Cluster = Annotated[str, Field(pattern=r"^$|^(tcp|tls)://")]
Preflight = Literal["auto", "yes", "no"]
Scope = Literal["follow", "only", "downstream"]
Format = Literal["markdown", "html", "tables"]

HOUR = 3600.0
PREFLIGHT: dict[str, bool | None] = {"auto": None, "yes": True, "no": False}


SIZES = {
    "keep_layers": "depth.keep_layers",
    "keep_heads": "width.keep_heads",
    "ffn_units": "width.ffn_units",
    "embedding_rank": "width.embedding_rank",
}
"""Fields of the form of `compress`, and of a recipe."""


def _changes(form: Mapping[str, Any]) -> tuple[str, ...]:
    """What a form changes in its recipe."""
    sizes = [(field, form.get(name, AS_IT_IS)) for name, field in SIZES.items()]
    changes = [f"{field}={size}" for field, size in sizes if size != AS_IT_IS]
    seed = form.get("seed", OWN_SEED)
    changes += [] if seed == OWN_SEED else [f"seed={seed}"]
    return (*changes, *form["settings"])


def _recipe_name() -> str:
    from flows.recipes.methods import run_name
    from flows.recipes.shipped import load_recipe

    if (request := request_before()) is not None:
        return run_name(request.recipe)
    form = runtime.flow_run.parameters
    source = form["recipe_file"] or form["recipe"]
    try:
        return run_name(load_recipe(source, _changes(form)))
    except (OSError, ValueError):
        # What is wrong with it is said when the run has begun.
        return Path(source).stem


def _compress_name() -> str:
    return given_name() or _recipe_name()


def _grid_name() -> str:
    if (name := given_name()) is not None:
        return name
    given = runtime.flow_run.parameters
    name = Path(given["grid_file"]).stem if given["grid_file"] else str(given["grid"])
    base = "" if given["recipe"] == NO_RECIPE else f"-{given['recipe']}"
    return name + base + "".join(f" {cell}" for cell in given["only"])


def _stage_name() -> str:
    return given_name() or f"{_recipe_name()}: {runtime.flow_run.parameters['stage']}"


@flow(name="compress", flow_run_name=_compress_name, timeout_seconds=48 * HOUR)
def compress(
    recipe: RecipeName = "demo",
    recipe_file: File = "",
    seed: Seed = OWN_SEED,
    keep_layers: Size = AS_IT_IS,
    keep_heads: Size = AS_IT_IS,
    ffn_units: Size = AS_IT_IS,
    embedding_rank: Size = AS_IT_IS,
    settings: tuple[Setting, ...] = (),
    preflight: Preflight = "auto",
) -> dict[str, Any]:
    """Compress a model by a recipe; returns what `rosita compress --json` prints.

    Args:
        recipe: a shipped recipe, see `rosita recipes`
        recipe_file: instead of it a recipe file on the worker's machine
        seed: of training, dropout and augmentation; -1: the recipe's own
        keep_layers: layers of the compressed model; 0: as in the recipe
        keep_heads: attention heads per layer; 0: as in the recipe
        ffn_units: FFN units per layer; 0: as in the recipe
        embedding_rank: rank of the word embedding; 0: as in the recipe
        settings: other fields of the recipe, each as field=value, such as width.epochs=3
        preflight: run every stage in miniature first; auto: before a long run
    """
    with deployed_run():
        from flows.compress import compress as body

        form = {"seed": seed, "keep_layers": keep_layers, "keep_heads": keep_heads}
        form |= {"ffn_units": ffn_units, "embedding_rank": embedding_rank}
        changes = _changes(form | {"settings": settings})
        request = request_before() or _request(recipe, recipe_file, changes)
        return body(request, PREFLIGHT[preflight])


@flow(name="rerun", flow_run_name=_stage_name, timeout_seconds=48 * HOUR)
def rerun(
    stage: StageName = "width",
    recipe: RecipeName = "demo",
    recipe_file: File = "",
    scope: Scope = "follow",
    settings: tuple[Setting, ...] = (),
) -> dict[str, Any]:
    """Compute one stage of a recipe again, whatever the cache says.

    Args:
        stage: as `rosita plan` names it
        recipe: whose stage; a shipped recipe
        recipe_file: instead of it a recipe file on the worker's machine
        scope: what else runs. follow: the stages whose inputs change by it; only: nothing;
            downstream: everything that depends on it
        settings: fields of the recipe, each as field=value
    """
    with deployed_run():
        from flows.rerun import rerun as body

        request = request_before() or _request(recipe, recipe_file, settings)
        return body(request, stage, scope)


@flow(name="grid", flow_run_name=_grid_name, timeout_seconds=14 * 24 * HOUR)
def grid(
    grid: GridName = "smoke-grid",
    grid_file: File = "",
    recipe: RecipeOrNone = NO_RECIPE,
    settings: tuple[Setting, ...] = (),
    seeds: tuple[GridSeed, ...] = (),
    only: tuple[str, ...] = (),
    max_cells: Size = ALL_CELLS,
    workers: Processes = 1,
    cluster: Cluster = "",
) -> dict[str, Any]:
    """Run many recipes as one DAG; a stage that several cells need runs once.

    Args:
        grid: a shipped grid, see `rosita recipes`
        grid_file: instead of it a grid file on the worker's machine
        recipe: what a shipped grid starts from; none for smoke-grid or a file
        settings: fields to change in all cells, each as field=value
        seeds: instead of the grid's own
        only: cells or labels to run; none: all of them
        max_cells: at most so many cells that have something to compute; 0: all of them
        workers: stages at a time, each in a process of its own
        cluster: address of a Dask scheduler on whose workers they run instead; empty: none
    """
    with deployed_run():
        from flows.grid import grid as body

        asked = request_before() or _grid_request(
            *(grid_file or grid, recipe, settings, seeds, only, max_cells, workers, cluster)
        )
        return body(asked)


@flow(name="report", flow_run_name="{grid}", timeout_seconds=2 * HOUR)
def report(
    grid: str = "smoke-grid",
    out: str = "",
    formats: tuple[Format, ...] = ("markdown", "html", "tables"),
) -> dict[str, Any]:
    """Write tables and plots of a grid that has run; nothing is trained.

    Args:
        grid: its name, such as kd-settings-minilm-sst2
        out: the folder to write into; empty: reports/<grid> in ROSITA_HOME
        formats: tables are CSV and Parquet
    """
    with deployed_run():
        from flows.report import write_report

        return write_report(grid, out, formats)


def _request(name: str, file: str, changes: tuple[str, ...]) -> "Request":
    from flows.engine.checks import prepare_request
    from flows.recipes.shipped import load_recipe

    return prepare_request(load_recipe(file or name, changes), download=True)


def _grid_request(
    source: str,
    recipe: str,
    settings: tuple[str, ...],
    seeds: tuple[int, ...],
    only: tuple[str, ...],
    max_cells: int,
    workers: int,
    cluster: str,
) -> "GridRequest":
    from flows.grid import grid_request
    from flows.grids.loading import load_grid

    base = None if recipe == NO_RECIPE else recipe
    definition = load_grid(source, base, settings, seeds or None)
    return grid_request(definition, only, max_cells or None, workers, cluster or None)
