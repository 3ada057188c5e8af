"""Where the time of one of this project's trainings goes, by torch.profiler:
`python -m tests.bench.training_split NAME FOLDER THREADS`, FOLDER with `profiled.arrow`.

The profiler itself takes time, the more the smaller the calls: shares, not seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from rosita_core.distillation.kept import KeptOutputs
from rosita_core.model import modeling_rosita
from rosita_core.model.modeling_rosita import RositaForSequenceClassification
from rosita_core.training import loop
from rosita_core.training.state import TrainingState
from tasks.host.hardware import resolve_numerics
from tests.bench.contenders import DEVICE, DROPOUT, contender, material
from tests.bench.contenders.watch import replaced

STEP, COLLATION, TEACHER, STUDENT, LOSSES, BACKWARD, UPDATE = (
    *("a step", "collation", "teacher: computed or read", "student: forward", "losses"),
    *("backward", "clipping and optimizer"),
)
# What this project does in place of torch's dropout; its way back is a product among others.
DROPPED = "dropped"
OPERATORS = {
    "of all: dropout": (DROPPED, "dropout", "bernoulli"),
    "of all: casts": ("aten::to", "_to_copy"),
    "of all: matrix products and attention": ("addmm", "::mm", "bmm", "scaled_dot_product"),
}


def named(name: str) -> Callable[[Any], Any]:
    """A function that shows in the profile under a name."""

    def made(function: Any) -> Any:
        @wraps(function)
        def recorded(*arguments: Any, **others: Any) -> Any:
            with record_function(name):
                return function(*arguments, **others)

        return recorded

    return made


def by_who_asks(function: Any) -> Any:
    """The forward pass: of the student where gradients are taken, else of the teacher."""
    as_student, as_teacher = named(STUDENT)(function), named(TEACHER)(function)

    @wraps(function)
    def forward(*arguments: Any, **others: Any) -> Any:
        chosen = as_student if torch.is_grad_enabled() else as_teacher
        return chosen(*arguments, **others)

    return forward


def operator_of(event: Any) -> str | None:
    """The kind of the outermost operator of a known kind that an event is part of."""
    kind, one = None, event
    while one is not None:
        found = (k for k, parts in OPERATORS.items() if any(p in one.name.lower() for p in parts))
        kind, one = next(found, kind), one.cpu_parent
    return kind


def split(name: str, folder: Path) -> dict[str, float]:
    """The share of each part in the time of all steps, and of some operators wherever they are."""
    chosen = contender(name)
    precision = chosen.precision(resolve_numerics(DEVICE, "auto", "auto", False).precision)
    watched = (
        (loop, "collate", named(COLLATION)),
        (loop, "_gradients", named(STEP)),
        (KeptOutputs, "__call__", named(TEACHER)),
        (RositaForSequenceClassification, "forward", by_who_asks),
        (modeling_rosita, "dropped", named(DROPPED)),
        (torch.Tensor, "backward", named(BACKWARD)),
        (TrainingState, "update", named(UPDATE)),
    )
    with TemporaryDirectory() as scratch, ExitStack() as stack:
        given = material(folder / "profiled.arrow", Path(scratch), precision, DROPOUT)
        for one in watched:
            stack.enter_context(replaced(*one))
        seen = stack.enter_context(profile(activities=[ProfilerActivity.CPU]))
        chosen.train(given)
    events = seen.events() or []
    parts = (COLLATION, TEACHER, STUDENT, LOSSES, BACKWARD, UPDATE)
    spent = dict.fromkeys((*parts, *OPERATORS), 0.0)
    step = update = 0.0
    for event in events:
        if event.name == STEP:
            step += event.cpu_time_total
        elif event.name == UPDATE:
            update += event.cpu_time_total
            spent[UPDATE] += event.cpu_time_total
        elif event.name in spent and inside(event, STEP):
            spent[event.name] += event.cpu_time_total
        if inside(event, STEP) or inside(event, UPDATE):
            kind = operator_of(event)
            if kind is not None:
                spent[kind] += event.self_cpu_time_total
    spent[LOSSES] = step - sum(spent[part] for part in parts if part != UPDATE)
    return {name: time / (step + update) for name, time in spent.items()}


def inside(event: Any, name: str) -> bool:
    """Whether an event is part of one of that name."""
    one = event.cpu_parent
    while one is not None and one.name != name:
        one = one.cpu_parent
    return one is not None


def main() -> None:
    name, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    print(json.dumps(split(name, Path(folder))))


if __name__ == "__main__":
    main()
