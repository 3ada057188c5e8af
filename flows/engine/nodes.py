"""From a node of the method to a stage with a key, without Prefect and MLflow."""

from __future__ import annotations

from collections.abc import Mapping

from flows.method import Node
from flows.recipes.schema import Recipe
from tasks.cache.stage_key import PROCESSES, Stage
from tasks.host.hardware import ResolvedNumerics, divided, resolve_numerics

KERNELS: Mapping[str, str] = {
    "data": "rosita_core.stages.data",
    "teacher": "rosita_core.stages.teacher",
    "augment": "rosita_core.stages.augment",
    "student": "rosita_core.stages.student",
    "depth": "rosita_core.stages.depth",
    "width": "rosita_core.stages.width",
    "one-step": "rosita_core.stages.one_step",
    "assess": "rosita_core.stages.assess",
    "export": "rosita_core.stages.export",
}
"""Stage name -> module of the kernel that its task calls."""


def numerics_of(recipe: Recipe) -> ResolvedNumerics:
    """The recipe's numerics on this machine.

    Raises:
        ValueError: where this machine does not have what the recipe asks for.
    """
    wanted = recipe.numerics
    try:
        numerics = resolve_numerics(
            wanted.device, wanted.precision, wanted.threads, wanted.deterministic
        )
        return divided(numerics, wanted.processes)
    except ValueError as error:
        raise ValueError(f"numerics.{error}") from None


def stage_of(node: Node, artifacts: Mapping[str, str], numerics: ResolvedNumerics) -> Stage:
    """The node as a stage, given the artifacts of the nodes before it."""
    return Stage(
        name=node.name,
        kernel=KERNELS[node.name],
        config=node.config,
        inputs={role: artifacts[name] for role, name in node.inputs.items()},
        numerics={
            "device": numerics.device,
            "precision": numerics.precision,
            "deterministic": numerics.deterministic,
            PROCESSES: processes_of(node, numerics),
        },
    )


def processes_of(node: Node, numerics: ResolvedNumerics) -> int:
    """How many processes compute the stage: of trainings alone more than one."""
    trains = hasattr(node.config, "training") and node.config.training.epochs > 0
    return numerics.processes if trains else 1
