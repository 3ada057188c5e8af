"""From a node of the method to a stage with a key, without Prefect and MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flows.method import Node
from flows.recipes.request import Request
from flows.recipes.schema import Recipe
from tasks.cache.facts import fact
from tasks.cache.records import Context
from tasks.cache.stage_key import PROCESSES, Stage
from tasks.host.hardware import ResolvedNumerics, divided, resolve_numerics, surroundings
from tasks.stages.catalogue import catalogue


def numerics_of(recipe: Recipe) -> ResolvedNumerics:
    """The recipe's numerics on this machine.

    Raises:
        ValueError: where this machine does not have what the recipe asks for.
    """
    wanted = recipe.numerics
    asked = (wanted.device, wanted.precision, wanted.threads, wanted.deterministic)

    def depends_on() -> dict[str, Any] | None:
        around = surroundings()
        return None if around is None else {"asked": asked, **around}

    try:
        said = fact("numerics", depends_on, lambda: asdict(resolve_numerics(*asked)))
        return divided(ResolvedNumerics(**said), wanted.processes)
    except ValueError as error:
        raise ValueError(f"numerics.{error}") from None


def stage_of(node: Node, artifacts: Mapping[str, str], numerics: ResolvedNumerics) -> Stage:
    """The node as a stage, given the artifacts of the nodes before it, as far as they are known."""
    return Stage(
        name=node.name,
        code=catalogue()[node.name].code,
        config=node.config,
        inputs={role: artifacts.get(name) for role, name in node.inputs.items()},
        numerics={
            "device": numerics.device,
            "precision": numerics.precision,
            "deterministic": numerics.deterministic,
            "hardware": numerics.hardware,
            PROCESSES: processes_of(node, numerics),
        },
    )


def context_of(node: Node, request: Request, numerics: ResolvedNumerics, **given: Any) -> Context:
    """Where and for whom the stage runs; `given` is what only the run knows, or has otherwise."""
    recipe = request.recipe
    known = {
        "home": str(request.home),
        "recipe_name": recipe.name,
        "task": recipe.of_problem,
        "seed": recipe.seed,
        "device": numerics.device,
        "precision": numerics.precision,
        "threads": numerics.threads,
        "all_cores": recipe.numerics.threads == "auto",
        "alone": catalogue()[node.name].timed,
        "checkpoint_seconds": recipe.checkpoint.every_seconds,
        "checkpoint_steps": recipe.checkpoint.every_steps,
    }
    return Context(**(known | given))


def takes_steps(node: Node) -> bool:
    """Whether the stage takes optimizer steps; a teacher of 0 epochs takes none."""
    return catalogue()[node.name].trains and node.config.training.epochs > 0


def processes_of(node: Node, numerics: ResolvedNumerics) -> int:
    """How many processes compute the stage: of trainings alone more than one."""
    return numerics.processes if takes_steps(node) else 1
