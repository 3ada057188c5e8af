"""The method: which stages a recipe has, what each learns from, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from flows.recipes.presets import ROSITA
from flows.recipes.request import Request
from flows.recipes.settings import (
    assess_settings,
    augment_settings,
    cut_settings,
    data_settings,
    depth_settings,
    export_settings,
    further_settings,
    measure_settings,
    one_step_settings,
    recover_settings,
    student_settings,
    targets_settings,
    teacher_settings,
    width_settings,
)
from tasks.stages.catalogue import targets_of


@dataclass(frozen=True)
class Node:
    """One stage of a recipe's DAG.

    Attributes:
        name: of the stage.
        config: the kernel's settings.
        inputs: role -> name of the node whose artifact it is.
    """

    name: str
    config: Any
    inputs: dict[str, str]


def method(request: Request) -> tuple[Node, ...]:
    """The stages of the recipe, each after everything that it reads."""
    data = Node("data", data_settings(request), {})
    teacher = Node("teacher", teacher_settings(request), {"data": "data"})
    nodes = _rosita(request) if request.recipe.method == ROSITA else _at_once(request)
    compression = tuple(one for node in nodes for one in _with_targets(request, node))
    models = {"data": "data", "teacher": "teacher", "student": compression[-1].name}
    further = _further(request)
    read = models | {node.name: node.name for node in further}
    assess = Node("assess", assess_settings(request), read)
    export = Node("export", export_settings(request), models | {"assess": "assess"})
    return (data, *further, teacher, *compression, assess, export)


def _further(request: Request) -> tuple[Node, ...]:
    """The stage that reads rows beside the task's own, where some are asked for."""
    asked = request.recipe.assess
    if not (asked.domains or asked.people):
        return ()
    return (Node("further", further_settings(request), {"data": "data"}),)


def _rosita(request: Request) -> tuple[Node, ...]:
    """The stages of ROSITA, in the recipe's KD setting."""
    augment = Node("augment", augment_settings(request), {"data": "data"})
    rows = {"data": "data", "rows": "augment"}
    student = Node("student", student_settings(request), rows | {"teacher": "teacher"})
    depth = Node("depth", depth_settings(request), rows | {"teacher": "student"})
    match request.recipe.kd_setting:
        case "none":
            cut = {"data": "data", "rows": "data", "source": "teacher", "teacher": "teacher"}
            ranks = cut | {"ranking_teacher": "teacher"}
            return (Node("one-step", one_step_settings(request, "labels"), ranks),)
        case "1":
            cut = rows | {"source": "teacher", "teacher": "teacher"}
            ranks = cut | {"ranking_teacher": "teacher"}
            one_step = Node("one-step", one_step_settings(request, "labels"), ranks)
            return (augment, one_step)
        case "2":
            cut = rows | {"source": "student", "teacher": "student"}
            ranks = cut | {"ranking_teacher": "teacher"}
            one_step = Node("one-step", one_step_settings(request, "distillation"), ranks)
            return (augment, student, one_step)
        case "3":
            width = Node("width", width_settings(request, True), rows | {"teacher": "student"})
            return (augment, student, width)
        case _:
            width = Node("width", width_settings(request, False), rows | {"teacher": "depth"})
            return (augment, student, depth, width)


def _at_once(request: Request) -> tuple[Node, ...]:
    """The stages of every other method: measure once, cut, and maybe train what is left."""
    of = {"data": "data", "teacher": "teacher"}
    measure = Node("measure", measure_settings(request), of)
    cut = Node("cut", cut_settings(request), of | {"statistics": "measure"})
    left = of | {"source": "cut"}
    match request.recipe.compress.recover:
        case "none":
            return (measure, cut)
        case "labels":
            recover = Node("recover", recover_settings(request), left | {"rows": "data"})
            return (measure, cut, recover)
        case _:
            # As in KD setting 1, the teacher's word goes for variants of the rows as well.
            augment = Node("augment", augment_settings(request), {"data": "data"})
            recover = Node("recover", recover_settings(request), left | {"rows": "augment"})
            return (augment, measure, cut, recover)


def _with_targets(request: Request, node: Node) -> tuple[Node, ...]:
    """A stage, after the one that keeps what its teacher says where it asks often for it."""
    shallow = node.inputs.get("teacher") == "depth"
    settings = targets_settings(request, node.config, shallow)
    if settings is None:
        return (node,)
    name = targets_of(node.name)
    read = {role: node.inputs[role] for role in ("data", "rows", "teacher")}
    return (
        Node(name, settings, read),
        replace(node, inputs=node.inputs | {"targets": name}),
    )


def check_stage(request: Request, stage: str) -> None:
    """Whether the recipe has such a stage.

    Raises:
        ValueError: naming those that it has.
    """
    names = [node.name for node in method(request)]
    if stage not in names:
        recipe = request.recipe
        rosita = recipe.method == ROSITA
        where = f"in KD setting {recipe.kd_setting}" if rosita else f"of method {recipe.method}"
        raise ValueError(f"stage must be one of {', '.join(names)} {where}, got {stage!r}")
