"""The recipes of the paper: BERT-base on GLUE, with the numbers of the authors' scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flows.recipes.schema import Augment, Depth, Proposers, Recipe, Student, Teacher, Width

# Per task: batch size, length, copies; then (rate, schedule, epochs) of BERT(student), the same
# with p of depth, and (rate, schedule, epochs, p, patience) of the last stage by KD setting.
_LIN, _CONST, _DECAY = ("linear", 0.1), ("constant", 0.0), ("linear", 0.0)
_PAPER: dict[str, dict[str, Any]] = {
    "cola": {
        "size": (32, 64, 30),
        "student": (2e-5, _LIN, 5),
        "depth": (1e-5, _CONST, 10, 0.2),
        "last": {
            "none": (2e-5, _DECAY, 20, 1.0, None),
            "1": (5e-5, _LIN, 50, 1.0, 10),
            "2": (5e-5, _LIN, 50, 1.0, 10),
            "3": (1e-5, _CONST, 50, 0.1, 10),
            "4": (1e-5, _CONST, 50, 0.01, 10),
        },
    },
    "sst2": {
        "size": (32, 64, 20),
        "student": (2e-5, _LIN, 5),
        "depth": (2e-5, _CONST, 5, 0.5),
        "last": {
            "none": (2e-5, _DECAY, 5, 1.0, None),
            "1": (5e-5, _LIN, 10, 1.0, None),
            "2": (5e-5, _LIN, 10, 1.0, None),
            "3": (1e-5, _CONST, 10, 0.1, None),
            "4": (1e-5, _CONST, 10, 0.01, None),
        },
    },
    "qnli": {
        "size": (64, 128, 20),
        "student": (2e-5, _LIN, 3),
        "depth": (3e-5, _CONST, 3, 0.2),
        "last": {
            "none": (2e-5, _DECAY, 5, 1.0, None),
            "4": (3e-5, _CONST, 7, 0.1, None),
        },
    },
    "qqp": {
        "size": (64, 128, 10),
        "student": (2e-5, _LIN, 3),
        "depth": (2e-5, _CONST, 2, 0.2),
        "last": {
            "none": (2e-5, _DECAY, 5, 1.0, None),
            "4": (3e-5, _CONST, 5, 0.1, None),
        },
    },
    "mnli": {
        "size": (64, 128, 10),
        "student": (5e-5, _LIN, 3),
        "depth": (2e-5, _CONST, 2, 0.2),
        "last": {
            "none": (2e-5, _DECAY, 5, 1.0, None),
            "1": (5e-5, _LIN, 5, 1.0, None),
            "2": (5e-5, _LIN, 5, 1.0, None),
            "3": (5e-5, _DECAY, 5, 0.1, None),
            "4": (5e-5, _DECAY, 5, 0.1, None),
        },
    },
}


def paper_settings() -> Iterator[tuple[str, str]]:
    """Every (task, KD setting) that the authors' scripts give hyper-parameters for."""
    for task, facts in _PAPER.items():
        for kd_setting in reversed(facts["last"]):
            yield task, kd_setting


def paper_name(task: str, kd_setting: str) -> str:
    """What a recipe of the paper is called."""
    return f"paper-{task}" + ("" if kd_setting == "4" else f"-kd-{kd_setting}")


def paper(task: str, kd_setting: str) -> Recipe:
    """BERT-base to a2_l8_f512_e128 with the hyper-parameters of the authors' scripts."""
    facts = _PAPER[task]
    batch, length, copies = facts["size"]
    student_rate, (student_schedule, student_warmup), student_epochs = facts["student"]
    depth_rate, (depth_schedule, depth_warmup), depth_epochs, depth_p = facts["depth"]
    rate, (schedule, warmup), epochs, p, patience = facts["last"][kd_setting]
    # The authors score every 500 steps (100 for CoLA's BERT(student)); per epoch of augmented rows:
    rows = {"cola": 213_080, "sst2": 1_118_455, "qnli": 4_246_837, "qqp": 7_621_089}
    evaluations = rows.get(task, 8_049_121) / batch / 500
    hard_labels = kd_setting == "none"
    last_batch = 32 if hard_labels else batch
    common: dict[str, Any] = {"max_length": length, "evaluations_per_epoch": evaluations}
    return Recipe(
        name=paper_name(task, kd_setting),
        task=task,
        kd_setting=kd_setting,
        teacher=Teacher(
            model="bert-base", learning_rate=2e-5, epochs=5, batch_size=32, max_length=128
        ),
        augment=Augment(copies=copies, proposers=Proposers(mlm="bert-base")),
        student=Student(
            learning_rate=student_rate,
            epochs=student_epochs,
            schedule=student_schedule,
            warmup=student_warmup,
            batch_size=batch,
            max_length=length,
            evaluations_per_epoch=evaluations * (5 if task == "cola" else 1),
        ),
        depth=Depth(
            keep_layers=8,
            learning_rate=depth_rate,
            epochs=depth_epochs,
            schedule=depth_schedule,
            warmup=depth_warmup,
            batch_size=batch,
            prune_fraction=depth_p,
            **common,
        ),
        width=Width(
            keep_heads=2,
            ffn_units=512,
            embedding_rank=128,
            learning_rate=rate,
            epochs=epochs,
            schedule=schedule,
            warmup=warmup,
            batch_size=last_batch,
            prune_fraction=p,
            patience=patience,
            **(common | ({"evaluations_per_epoch": 2.0} if hard_labels else {})),
        ),
    )
