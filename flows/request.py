"""From a recipe to a request that can run: places, sizes and data checked before any compute."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flows.recipe import Recipe
from rosita_core.data.sources import SourceSettings, source_digest
from rosita_core.data.task_spec import FILM_REVIEWS, GLUE, TaskSpec
from rosita_core.model.shape import Shape, count_parameters, narrowed, shallower
from rosita_core.model.sources import (
    locate,
    locate_vectors,
    read_config,
    shape_from,
    tokenizer_digest,
)

HOME_VARIABLE = "ROSITA_HOME"
BYTES_PER_PARAMETER = 4
# Teacher, BERT(student), the shallow and the final model, each at most as large as the teacher,
# and room for a temporary copy of one of them.
MODELS_ON_DISK = 5


@dataclass(frozen=True)
class Request:
    """A recipe whose every name has been looked up.

    Attributes:
        recipe: as given.
        home: where everything is kept.
        spec: the task.
        teacher: shape of the teacher.
        student: shape of the compressed model.
        model_path: directory of the pretrained model.
        source: which data.
    """

    recipe: Recipe
    home: Path
    spec: TaskSpec
    teacher: Shape
    student: Shape
    model_path: Path
    source: SourceSettings

    @property
    def outputs(self) -> int:
        return len(self.spec.labels) or 1


def home_directory() -> Path:
    """`ROSITA_HOME`, or `.rosita` in the working directory."""
    return Path(os.environ.get(HOME_VARIABLE) or ".rosita").absolute()


def shapes(recipe: Recipe, outputs: int) -> tuple[Shape, Shape]:
    """Shapes of teacher and student, from configurations alone.

    Raises:
        ValueError: where the target does not fit the teacher.
    """
    try:
        teacher = shape_from(read_config(recipe.teacher.model), outputs)
    except ValueError as error:
        raise ValueError(f"teacher.{error}") from None
    keep = recipe.depth.keep_layers
    try:
        shallow = shallower(teacher, keep)
    except ValueError as error:
        raise ValueError(f"depth.{error}") from None
    width = recipe.width
    try:
        return teacher, narrowed(shallow, width.keep_heads, width.ffn_units, width.embedding_rank)
    except ValueError as error:
        raise ValueError(f"width.{error}") from None


def check(recipe: Recipe, home: Path) -> Request:
    """Everything that can be known to be wrong before the first stage.

    Raises:
        ValueError: one line naming the field, the bound and the value.
    """
    from rosita_core.data.sources import read_splits
    from rosita_core.model.checkpoint import read_source_config

    source = source_settings(recipe, home)
    spec = _spec(recipe)
    if spec is None:
        spec, _ = read_splits(source)
    teacher, student = shapes(recipe, len(spec.labels) or 1)
    for section in ("teacher", "student", "depth", "width"):
        length = getattr(recipe, section).max_length
        positions = teacher.frame.max_positions
        if length > positions:
            raise ValueError(
                f"{section}.max_length must be at most {positions} for {recipe.teacher.model}, "
                f"got {length}"
            )
    if recipe.assess.latency_tokens > teacher.frame.max_positions:
        raise ValueError(
            f"assess.latency_tokens must be at most {teacher.frame.max_positions}, "
            f"got {recipe.assess.latency_tokens}"
        )
    check_home(home, count_parameters(teacher).total)
    try:
        model_path = locate(recipe.teacher.model)
        read_source_config(str(model_path))
    except ValueError as error:
        raise ValueError(f"teacher.{error}") from None
    proposers = recipe.augment.proposers
    if recipe.augment.copies and proposers.mlm is None and proposers.vectors is None:
        raise ValueError(
            "augment.proposers must name mlm or vectors where augment.copies is above 0, got none"
        )
    if recipe.augment.copies and proposers.vectors is not None:
        try:
            locate_vectors(proposers.vectors)
        except ValueError as error:
            raise ValueError(f"augment.proposers.{error}") from None
    return Request(recipe, home, spec, teacher, student, model_path, source)


def check_data(request: Request) -> None:
    """Read and check the data itself.

    Raises:
        ValueError: one line naming what is wrong with it.
    """
    from rosita_core.data.sources import read_splits

    read_splits(request.source)


def check_home(home: Path, parameters: int) -> None:
    """Whether results can be written and there is room for them.

    Raises:
        ValueError: naming the place and what is missing.
    """
    from tasks.store import free_bytes, is_writable

    if not is_writable(home):
        raise ValueError(f"{HOME_VARIABLE} must be a directory that can be written, got {home}")
    needed = parameters * BYTES_PER_PARAMETER * MODELS_ON_DISK
    free = free_bytes(home)
    if free < needed:
        raise ValueError(
            f"{HOME_VARIABLE} must have at least {needed / 1e6:,.0f} MB free for five models, "
            f"got {free / 1e6:,.0f} MB in {home}"
        )


def source_settings(recipe: Recipe, home: Path) -> SourceSettings:
    """Which data the recipe means."""
    data = recipe.data
    files = tuple(name for name in (data.train, data.dev) if name is not None)
    return SourceSettings(
        task=recipe.task,
        kind=data.kind,
        source=data.source,
        digest=source_digest(data.source, recipe.task, data.path, files),
        text_a=data.columns.text_a,
        text_b=data.columns.text_b,
        label=data.columns.label,
        select_fraction=data.select_fraction,
        dev_rows=data.dev_rows,
        limit_rows=data.limit_rows,
        seed=recipe.seed,
        path=data.path,
        train=data.train,
        dev=data.dev,
        cache=str(home / "downloads"),
    )


def tokenizer_of(request: Request) -> str:
    """The digest of the tokenizer that cuts the data."""
    return tokenizer_digest(request.recipe.teacher.model)


def _spec(recipe: Recipe) -> TaskSpec | None:
    if recipe.task == "film-reviews":
        return FILM_REVIEWS
    return GLUE.get(recipe.task)
