"""From a recipe to a request that can run: places, sizes and data checked before any compute."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.recipes.files import FILE_FIELDS, MODEL_FIELDS
from flows.recipes.method_checks import check_method
from flows.recipes.methods import augments, goal
from flows.recipes.schema import Recipe
from flows.recipes.sizes import shapes
from flows.recipes.teacher import check_teacher
from rosita_core.data.task_spec import FILM_REVIEWS, GLUE, TaskSpec
from rosita_core.model.families import Family, family_of
from rosita_core.model.locate import (
    CHECKPOINT_FILES,
    TOKENIZER_FILES,
    files_digest,
    locate,
    locate_vectors,
    place_of,
    read_config,
    tokenizer_digest,
    weights_digest,
)
from rosita_core.model.shape import Shape
from tasks.cache.facts import code_and_libraries, fact
from tasks.home import HOME_VARIABLE, Home
from tasks.host.wording import shortened
from tasks.store.artifacts import free_bytes, is_writable

if TYPE_CHECKING:
    import pandas as pd

    from rosita_core.data.sources import SourceSettings

BYTES_PER_PARAMETER = 4
# Teacher, BERT(student), the shallow and the final model, each at most as large as the teacher,
# and room for a temporary copy of one of them.
MODELS_ON_DISK = 5
FIRST_WORDS = 1_000
"""Of word vectors, that are read before anything is computed."""
# Of each split, to be tokenized in a moment.
SAMPLED_ROWS = 2_000
SAMPLED_LETTERS = 1_000_000


@dataclass(frozen=True)
class Found:
    """Files that a recipe names.

    Attributes:
        path: where they are.
        digest: sha256 of what is in them, as it was when the request was made.
    """

    path: Path
    digest: str


@dataclass(frozen=True)
class Request:
    """A recipe whose every name has been looked up on this machine, once.

    Attributes:
        recipe: as given.
        home: where everything is kept.
        spec: the task.
        teacher: shape of the teacher.
        student: shape of the compressed model; None where a method's cut decides.
        model: weights and configuration of the pretrained model.
        family: which kind of encoder it is.
        tokenizer: of the pretrained model.
        mlm, vectors: what proposes words for the augmentation; None where nothing does.
        source: which data.
        order: the pretrained model's outputs in the order of the task's classes.
        labels: what the compressed model calls these classes; empty for regression.
        notes: sentences that a plan says about it.
    """

    recipe: Recipe
    home: Path
    spec: TaskSpec
    teacher: Shape
    student: Shape | None
    model: Found
    family: Family
    tokenizer: Found
    mlm: Found | None
    vectors: Found | None
    source: SourceSettings
    order: tuple[int, ...]
    labels: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def outputs(self) -> int:
        return self.spec.outputs

    @property
    def goal(self) -> str:
        """The student's shape, or what of the teacher shall be left."""
        return goal(self.recipe) if self.student is None else str(self.student)


@dataclass(frozen=True)
class Rows:
    """What the rows of a source say before any of them is used.

    Attributes:
        spec: the task.
        counts: see `rosita_core.data.sharing.row_counts`.
        samples: split -> some of its rows, from everywhere in it.
    """

    spec: TaskSpec
    counts: Mapping[str, int]
    samples: Mapping[str, pd.DataFrame]


def check(recipe: Recipe, home: Path) -> Request:
    """Everything that can be known to be wrong before the first stage, but for the data's rows.

    Own data is read here, because its classes decide the model's outputs.

    Raises:
        ValueError: one line naming the field, the bound and the value.
    """
    spec = FILM_REVIEWS if recipe.task == "film-reviews" else GLUE.get(recipe.task)
    teacher, _ = shapes(recipe, 1 if spec is None else spec.outputs)
    _check_lengths(recipe, teacher.frame.max_positions)
    mlm, vectors = _proposers(recipe)
    with naming("teacher."):
        model_path = locate(recipe.teacher.model)
        config = read_config(recipe.teacher.model)
    source = source_settings(recipe, home)
    if spec is None:
        spec = read_rows(source).spec
    teacher, student = shapes(recipe, spec.outputs)
    if recipe.assess.baselines and spec.kind == "regression":
        raise ValueError(
            f"assess.baselines must be left out where a number is predicted, "
            f"got {', '.join(recipe.assess.baselines)}"
        )
    said = check_method(recipe, teacher, student, spec.kind == "regression")
    tokenizer = Found(model_path, tokenizer_digest(recipe.teacher.model))
    with naming("teacher."):
        checked = check_teacher(recipe, spec, model_path, tokenizer.digest)
    return Request(
        recipe=recipe,
        home=home,
        spec=spec,
        teacher=teacher,
        student=student,
        model=Found(model_path, weights_digest(recipe.teacher.model)),
        family=family_of(config, recipe.teacher.model),
        tokenizer=tokenizer,
        mlm=mlm,
        vectors=vectors,
        source=source,
        order=checked.order,
        labels=checked.labels,
        notes=(*checked.notes, *said),
    )


@lru_cache(maxsize=4)
def read_rows(source: SourceSettings) -> Rows:
    """Read and check the data itself, once per process.

    Raises:
        ValueError: one line naming what is wrong with it.
        ConnectionError: where it cannot be downloaded.
    """
    from rosita_core.data.sharing import row_counts
    from rosita_core.data.sources import read_splits
    from rosita_core.data.table import spread

    try:
        spec, splits = read_splits(source)
    except RuntimeError as error:
        raise ConnectionError(f"data.source {source.source} cannot be fetched: {error}") from None
    samples = {
        name: spread(frame, SAMPLED_ROWS, SAMPLED_LETTERS)
        for name, frame in splits.frames().items()
    }
    return Rows(spec, row_counts(splits), samples)


@contextmanager
def naming(prefix: str) -> Iterator[None]:
    """Errors of the block with the section that they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None


def _check_lengths(recipe: Recipe, positions: int) -> None:
    lengths = {
        f"{name}.max_length": getattr(recipe, name).max_length
        for name in ("teacher", "student", "depth", "width")
    }
    lengths["assess.latency_tokens"] = recipe.assess.latency_tokens
    lengths["assess.macs_tokens"] = recipe.assess.macs_tokens
    for field, length in lengths.items():
        if length > positions:
            raise ValueError(
                f"{field} must be at most {positions}, the positions of {recipe.teacher.model}, "
                f"got {length}"
            )


def _proposers(recipe: Recipe) -> tuple[Found | None, Found | None]:
    """The masked language model and the word vectors, where they are read."""
    augment, proposers = recipe.augment, recipe.augment.proposers
    if augment.copies == 0 or not augments(recipe):
        return None, None
    if proposers.mlm is None and proposers.vectors is None:
        raise ValueError(
            "augment.proposers must name mlm or vectors where augment.copies is above 0, got none"
        )
    mlm = vectors = None
    if proposers.mlm is not None:
        try:
            folder = locate(proposers.mlm)
            mlm = Found(folder, files_digest(folder, CHECKPOINT_FILES + TOKENIZER_FILES))
            _check_proposer(mlm, augment.candidates)
        except ValueError as error:
            message = str(error).removeprefix("model ")
            raise ValueError(f"augment.proposers.mlm {message}") from None
    if proposers.vectors is not None:
        with naming("augment.proposers."):
            path = locate_vectors(proposers.vectors)
        vectors = Found(path, files_digest(*place_of(path)))
        try:
            _check_vectors(vectors, min(augment.vocabulary, FIRST_WORDS))
        except ValueError as error:
            raise ValueError(f"augment.proposers.vectors must be word vectors: {error}") from None
    return mlm, vectors


@lru_cache(maxsize=4)
def _check_proposer(mlm: Found, candidates: int) -> None:
    """Load the masked language model once, as the stage will; its digest has read it anyway."""

    def depends_on() -> dict[str, Any]:
        asked = [mlm.digest, candidates]
        return {"asked": asked, **code_and_libraries("rosita_core.augmentation.masked_lm")}

    def loads() -> bool:
        from transformers.utils import logging as transformers_logging

        from rosita_core.augmentation.masked_lm import load_proposer

        transformers_logging.disable_progress_bar()
        load_proposer(mlm.path, "cpu", 1, candidates)
        return True

    fact("proposer-loads", depends_on, loads)


@lru_cache(maxsize=4)
def _check_vectors(vectors: Found, words: int) -> None:
    """Read the first of the vectors once, as the stage will read all that it wants."""

    def depends_on() -> dict[str, Any]:
        asked = [vectors.digest, words]
        return {"asked": asked, **code_and_libraries("rosita_core.stages.augment")}

    def loads() -> bool:
        from rosita_core.stages.augment import load_vectors

        load_vectors(vectors.path, words)
        return True

    fact("vectors-load", depends_on, loads)


def check_home(home: Path, parameters: int) -> None:
    """Whether results can be written and there is room for them.

    Raises:
        ValueError: naming the place and what is missing.
    """
    if not is_writable(home):
        raise ValueError(f"{HOME_VARIABLE} must be a directory that can be written, got {home}")
    needed = parameters * BYTES_PER_PARAMETER * MODELS_ON_DISK
    free = free_bytes(home)
    if free < needed:
        raise ValueError(
            f"{HOME_VARIABLE} must have at least {needed / 1e6:,.0f} MB free for five models, "
            f"got {free / 1e6:,.0f} MB in {home}"
        )


def check_paths(recipe: Recipe) -> None:
    """Whether what the recipe names can be looked at and read, where it is there.

    What can only be a folder is not looked for on the hub, which would complain of its name.

    Raises:
        ValueError: naming the field, the path and what is wrong with it.
    """
    for field in (*FILE_FIELDS, *MODEL_FIELDS):
        name: Any = recipe
        for part in field.split("."):
            name = getattr(name, part)
        if name is None:
            continue
        path = Path(str(name))
        try:
            _read_something(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            got = f"{shortened(str(path))}: {error.strerror}"
            raise ValueError(f"{field} must be a path that can be read, got {got}") from None
        if field in MODEL_FIELDS and str(name).startswith((".", "/", "~")) and not path.is_dir():
            raise ValueError(f"{field} must be an existing directory, got {name}")


def _read_something(path: Path) -> None:
    """Open each file that it leads to. Raises OSError."""
    kind = path.stat().st_mode
    if stat.S_ISDIR(kind):
        for inner in path.iterdir():
            # Links that lead nowhere are not looked at by those who read the folder.
            if inner.is_file():
                inner.open("rb").close()
    elif stat.S_ISREG(kind):
        path.open("rb").close()


def source_settings(recipe: Recipe, home: Path) -> SourceSettings:
    """Which data the recipe means."""
    from rosita_core.data.sources import SourceSettings, source_digest

    data = recipe.data
    return SourceSettings(
        task=recipe.task,
        kind=data.kind,
        source=data.source,
        digest=source_digest(
            data.source, recipe.task, data.path, data.train, data.dev, data.domains
        ),
        text_a=data.columns.text_a,
        text_b=data.columns.text_b,
        label=data.columns.label,
        select_fraction=0.0 if recipe.fidelity.select_on_dev else data.select_fraction,
        dev_rows=data.dev_rows,
        limit_rows=data.limit_rows,
        seed=data.split_seed,
        path=data.path,
        train=data.train,
        dev=data.dev,
        score=data.score,
        cache=str(Home(home).downloads),
        domains=data.domains,
    )
