"""The recipes that ship, each a function that returns a complete one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from flows.recipes.changes import Changes, applied, fields_of, merged
from flows.recipes.files import SUFFIXES, Document, beside, is_there, read_document
from flows.recipes.paper import paper, paper_name, paper_settings
from flows.recipes.schema import (
    Augment,
    Data,
    Depth,
    Export,
    Gate,
    Recipe,
    Student,
    Teacher,
    Width,
    validated,
)
from rosita_core.data.task_spec import GLUE
from tasks.host.wording import meant


def demo() -> Recipe:
    """MiniLM-L6 on film-review sentences, setting 4, 7.5 times smaller, in minutes on a laptop."""
    recipe = _minilm("film-reviews", _Passes(teacher=3, student=1, depth=1, width=8), 64, 32)
    return recipe.model_copy(update={"name": "demo"})


def smoke() -> Recipe:
    """A tiny random BERT on a few hundred sentences: every stage of setting 4 in under a minute."""
    short: dict[str, Any] = {"learning_rate": 1e-3, "epochs": 1, "evaluations_per_epoch": 1}
    return Recipe(
        name="smoke",
        problem="smoke",
        task="film-reviews",
        data=Data(source="packaged", dev_rows=1500, limit_rows=256),
        teacher=Teacher(model="tiny-random", **short),
        augment=Augment(copies=1, vocabulary=5_000),
        student=Student(**short),
        depth=Depth(keep_layers=2, **short),
        width=Width(keep_heads=2, ffn_units=32, embedding_rank=8, prune_fraction=0.5, **short),
        export=Export(formats=("hugging-face",)),
        # Its teacher has random weights.
        gate=Gate(weak_teacher="warn", weak_student="warn"),
    )


FAMILIES = ("roberta", "distilbert", "electra")
"""Those that have a smoke recipe beside BERT's."""


def smoke_family(family: str) -> Recipe:
    """`smoke` with a tiny random model of another family."""
    recipe = smoke()
    teacher = recipe.teacher.model_copy(update={"model": f"tiny-{family}"})
    return recipe.model_copy(update={"name": f"smoke-{family}", "teacher": teacher})


class _Passes(NamedTuple):
    """How often each training sees every original row (its variants count as the row)."""

    teacher: float
    student: float
    depth: float
    width: float


# Passes by the size of the training data: CoLA, MRPC, STS-B, RTE and WNLI have at most 9,000 rows,
# SST-2 and QNLI about 100,000, QQP and MNLI almost 400,000.
_MINILM_SMALL = _Passes(teacher=3, student=1, depth=1, width=10)
_MINILM_PASSES = {
    "sst2": _Passes(teacher=2, student=1, depth=1, width=12),
    "qnli": _Passes(teacher=2, student=1, depth=1, width=12),
    "qqp": _Passes(teacher=2, student=1, depth=1, width=4),
    "mnli": _Passes(teacher=2, student=1, depth=1, width=4),
}


def minilm(task: str) -> Recipe:
    """MiniLM-L6 on a GLUE task or own data, 7.5 times smaller."""
    passes = _MINILM_PASSES.get(task, _MINILM_SMALL)
    single = task != "custom" and not GLUE[task].pair
    batch_size = 64 if task in _MINILM_PASSES else 32
    return _minilm(task, passes, 64 if single else 128, batch_size)


def _minilm(task: str, passes: _Passes, max_length: int, batch_size: int) -> Recipe:
    """`batch_size` is that of the last stage, where sequences per second count most."""
    copies = 2
    own = task == "custom"

    def epochs(count: float) -> float:
        return round(count / (1 + copies), 4)

    common: dict[str, Any] = {"max_length": max_length, "warmup": 0.1}
    # Scores of a pass; an epoch of a stage has 1 + copies of them.
    scored: dict[str, Any] = {**common, "evaluations_per_epoch": 2.0 * (1 + copies)}
    return Recipe(
        name=f"minilm-{task}",
        task=task,
        data=Data(
            source="files" if own else "packaged" if task == "film-reviews" else "hub",
            train="train.csv" if own else None,
            dev_rows=1500 if task == "film-reviews" else 1000 if own else None,
        ),
        teacher=Teacher(model="minilm-l6", learning_rate=5e-5, epochs=passes.teacher, **common),
        augment=Augment(copies=copies, replace_probability=0.3),
        student=Student(
            learning_rate=5e-5, epochs=epochs(passes.student), start="teacher", **scored
        ),
        depth=Depth(
            keep_layers=5,
            learning_rate=5e-5,
            epochs=epochs(passes.depth),
            prune_fraction=0.2,
            **scored,
        ),
        width=Width(
            keep_heads=2,
            ffn_units=180,
            embedding_rank=48,
            learning_rate=1e-3,
            epochs=epochs(passes.width),
            batch_size=batch_size,
            prune_fraction=0.2,
            dropout=0.0,
            **scored,
        ),
    )


OWN = "custom"
"""What a recipe is called that comes from no file."""

RECIPES: dict[str, Callable[[], Recipe]] = {
    "smoke": smoke,
    **{f"smoke-{family}": partial(smoke_family, family) for family in FAMILIES},
    "demo": demo,
    **{f"minilm-{task}": partial(minilm, task) for task in (*GLUE, "custom")},
    **{paper_name(task, kd): partial(paper, task, kd) for task, kd in paper_settings()},
}


def load_recipe(source: str | Path | Mapping[str, Any], changes: Changes) -> Recipe:
    """A complete recipe, with some of its fields changed.

    Args:
        source: a shipped recipe, a YAML, TOML or JSON file, or what such a file holds.
        changes: `a.b=c` as texts, or dotted field -> value.

    Raises:
        ValueError: one line naming what is wrong.
    """
    fields = fields_of(changes)
    if isinstance(source, Mapping):
        return validated(applied(_with_base(OWN, dict(source)), fields))
    name = str(source)
    if name in RECIPES:
        return validated(applied(RECIPES[name]().model_dump(mode="json"), fields))
    document = _from_file(Path(name))
    with document.named(fields):
        values = beside(document.path.parent, document.values)
        return validated(applied(_with_base(document.path.stem, values), fields))


def _from_file(path: Path) -> Document:
    if path.suffix not in SUFFIXES and not is_there(path):
        raise ValueError(
            f"recipe must be one of {', '.join(n for n in RECIPES if '-kd-' not in n)} "
            f"or a YAML, TOML or JSON file, got {str(path)!r}{meant(str(path), RECIPES)}"
        )
    return read_document(path, "recipe")


def _with_base(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """What a recipe holds that is called `name` unless it says otherwise, with its `base`."""
    base = values.pop("base", None)
    if base is None:
        return {"name": name, **values}
    if not isinstance(base, str) or base not in RECIPES:
        raise ValueError(f"base must be a shipped recipe, got {base!r}{meant(str(base), RECIPES)}")
    start = RECIPES[base]().model_dump(mode="json") | {"name": name, "problem": None}
    found: dict[str, Any] = merged(start, values)
    return found
