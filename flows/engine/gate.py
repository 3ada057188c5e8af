"""The gate of a recipe: when a teacher is too weak to be used, and a student to be registered."""

from __future__ import annotations

import json

from flows.engine.agreement import DEV, agreement, majority_score
from flows.recipes.request import Request
from rosita_core.measuring.assessment import STUDENT, Assessment
from rosita_core.measuring.metrics import LEAST_VARIATION, variation
from rosita_core.measuring.weakness import Weakness, from_document
from rosita_core.stages.teacher import SELECTION
from tasks.cache.records import StageResult
from tasks.store.artifacts import Store

SHOWN = 3
WITHOUT = "the most frequent class alone"


def weak_teacher(request: Request, result: StageResult) -> str | None:
    """What is wrong with the teacher that a recipe's stage `teacher` came to, in a sentence."""
    path = Store(request.home).path(result.artifact) / f"{SELECTION}.json"
    found = from_document(json.loads(path.read_text(encoding="utf-8")))
    if found.order is not None:
        return _mixed_up(found, request.spec.labels)
    if not found.weak:
        return None
    if found.better:
        assert found.variation is not None
        trained = request.recipe.teacher.epochs > 0
        helps = (
            "; more teacher.epochs or a higher teacher.learning_rate may help" if trained else ""
        )
        return _hardly_vary("teacher", found.variation, f"{found.rows:,} selection rows") + helps
    chance = "the most frequent class alone has" if found.metric == "accuracy" else "chance has"
    return (
        f"the teacher is not better than chance: its {found.metric} on {found.rows:,} selection "
        f"rows is {found.value:.4f}, with 95 % confidence at least {found.bound:.4f}, and {chance} "
        f"{found.chance:.4f}"
    )


def stops(request: Request) -> bool:
    """Whether a weak teacher ends the run of a recipe."""
    return request.recipe.gate.weak_teacher == "stop"


def stopped(request: Request, weak: str) -> str:
    """What is said where it does."""
    return (
        f"recipe {request.recipe.name} stops after its stage teacher: {weak}; "
        "gate.weak_teacher=warn goes on all the same"
    )


def weak_student(assessment: Assessment) -> str | None:
    """What is wrong with a student that is not better than no model at all, in a sentence."""
    student, chance = assessment.models[STUDENT], majority_score(assessment)
    score, numbers = student.score, agreement(assessment) is None
    if score > chance:
        labels_N = assessment.labels[DEV]
        varied = variation(student.logits[DEV][:, 0], labels_N) if numbers else None
        if varied is None or varied >= LEAST_VARIATION:
            return None
        return _hardly_vary("student", varied, f"{len(labels_N):,} dev rows")
    name = assessment.score_name
    without = "a constant answer" if numbers else WITHOUT
    return (
        f"the student is not better than {without}: its {name} is {score:.4f}, and that has "
        f"{chance:.4f}"
    )


def not_registered(request: Request, assessment: Assessment) -> str | None:
    """Why the recipe's gate keeps the student out of the registry, in a sentence."""
    gate = request.recipe.gate
    if gate.weak_student == "refuse" and (weak := weak_student(assessment)) is not None:
        return f"the student is not registered: {weak}"
    least, kept = gate.retention, assessment.retention
    if least is None or (kept is not None and kept >= least):
        return None
    has = "nothing" if kept is None else f"{100 * kept:.1f} %"
    return (
        f"the student is not registered: it keeps {has} of the teacher's {assessment.score_name}, "
        f"and gate.retention asks for {100 * least:.1f} %"
    )


def _hardly_vary(model: str, varied: float, rows: str) -> str:
    return (
        f"the {model}'s answers hardly vary: on {rows} their standard deviation is "
        f"{100 * varied:.2g} % of the labels', and at least {100 * LEAST_VARIATION:g} % "
        "is needed"
    )


def _mixed_up(found: Weakness, labels: tuple[str, ...]) -> str:
    assert found.order is not None and found.reordered is not None
    changed = [index for index, other in enumerate(found.order) if index != other]
    pairs = [f"{labels[found.order[index]]} meant {labels[index]}" for index in changed]
    more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    return (
        f"the teacher's classes are mixed up: its accuracy on {found.rows:,} selection rows would "
        f"be {found.reordered:.4f} if {', '.join(pairs[:SHOWN])}{more}; teacher.labels says "
        "which class is which"
    )
