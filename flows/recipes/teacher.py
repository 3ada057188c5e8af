"""Whether a checkpoint can be the teacher of a recipe, and which of its outputs is which class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flows.recipes.presets import ROSITA
from flows.recipes.schema import Recipe
from rosita_core.data.task_spec import TaskSpec
from rosita_core.messages import brief
from rosita_core.model.families import family_of
from rosita_core.model.labels import class_names, order_of, telling_names
from rosita_core.model.locate import RANDOM_MODELS, config_of, read_config, weights_digest
from rosita_core.model.weights import Weights, check_classifier, check_finite, check_weights
from tasks.cache.facts import code_and_libraries, fact

BERT_DROPOUT = 0.1  # where a config.json does not say


@dataclass(frozen=True)
class Checked:
    """What is known of a teacher before it is loaded.

    Attributes:
        order: its outputs in the order of the data's classes.
        labels: what the compressed model calls these classes; empty for regression.
        notes: sentences that a plan says about it.
    """

    order: tuple[int, ...]
    labels: tuple[str, ...]
    notes: tuple[str, ...]


def check_teacher(recipe: Recipe, spec: TaskSpec, folder: Path, tokenizer_digest: str) -> Checked:
    """Whether the checkpoint that a recipe names can be its teacher, for whatever stage needs it.

    Args:
        recipe: that names the checkpoint.
        spec: the task.
        folder: where the checkpoint is.
        tokenizer_digest: of its tokenizer's files.

    Raises:
        ValueError: where its dropout, weights, tokenizer or classes do not fit the recipe.
    """
    config = read_config(recipe.teacher.model)
    _check_dropout(recipe, config)
    weights = _weights(recipe, folder, spec.outputs)
    if recipe.teacher.epochs == 0:
        check_classifier(weights, spec.outputs)
        _check_pair(config, spec.pair)
    sizes = (config["vocab_size"], config["type_vocab_size"])
    _check_tokenizer(folder, tokenizer_digest, *sizes, spec.pair)
    order, labels = _classes(recipe, weights, folder, spec.labels)
    return Checked(order, labels, _notes(weights))


@lru_cache(maxsize=4)
def _check_tokenizer(
    folder: Path, digest: str, vocab_size: int, token_types: int, pair: bool
) -> None:
    def depends_on() -> dict[str, Any]:
        asked = [digest, vocab_size, token_types, pair]
        return {"asked": asked, **code_and_libraries("rosita_core.data.framing")}

    def fits() -> bool:
        from rosita_core.data.framing import check_tokenizer, load_tokenizer

        check_tokenizer(load_tokenizer(folder), vocab_size, token_types, pair)
        return True

    fact("tokenizer-fits", depends_on, fits, harmless=True)


def _weights(recipe: Recipe, folder: Path, outputs: int) -> Weights:
    """What the checkpoint has of the teacher, but for the tensors; nothing of random weights."""
    if recipe.teacher.model in RANDOM_MODELS:
        return Weights({}, (), 0)
    config = config_of(folder)

    def depends_on() -> dict[str, Any]:
        family = type(family_of(config, str(folder))).__module__
        asked = [weights_digest(recipe.teacher.model), outputs]
        return {"asked": asked, **code_and_libraries("rosita_core.model.weights", family)}

    def has() -> list[Any]:
        found = check_weights(folder, config, outputs)
        return [list(found.fresh), found.outputs]

    def finite() -> bool:
        check_finite(check_weights(folder, config, outputs))
        return True

    fresh, trained = fact("weights", depends_on, has)
    fact("finite-weights", depends_on, finite, harmless=True)
    return Weights({}, tuple(fresh), trained)


def _classes(
    recipe: Recipe, weights: Weights, folder: Path, labels: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The checkpoint's outputs in the order of the data's classes, and what these are called."""
    outputs, given = len(labels) or 1, recipe.teacher.labels
    as_it_is = recipe.teacher.epochs == 0
    if given and not labels:
        said = ", ".join(f"{own}: {name}" for own, name in given.items())
        raise ValueError(f"labels must be left out where a number is predicted, got {brief(said)}")
    if given and weights.outputs != outputs:
        raise ValueError(
            f"labels must be left out for a checkpoint without {outputs} classes, "
            f"got {weights.outputs or 'none'} in {folder}"
        )
    if not labels or weights.outputs != outputs:
        return tuple(range(outputs)), labels
    config = config_of(folder)
    names = class_names(config, str(folder))
    try:
        order = order_of(labels, config, given or {}, str(folder))
    except ValueError:
        if as_it_is or given:
            raise
        # Training teaches it which class is which.
        return tuple(range(outputs)), labels
    if not as_it_is:
        return order, labels
    return order, telling_names(labels, tuple(names[output] for output in order))


def _check_pair(config: Mapping[str, Any], pair: bool) -> None:
    """Whether a model that notes how many texts it reads, as those of this project do, fits."""
    if config.get("text_pair") not in (None, pair):
        wanted, reads = ("pairs", "single texts") if pair else ("single texts", "pairs")
        raise ValueError(
            f"model must read {wanted}, as the data has them, to be used without training, "
            f"got one that reads {reads}"
        )


def _notes(weights: Weights) -> tuple[str, ...]:
    """What is drawn at random, in a sentence."""
    if not weights.fresh:
        return ()
    parts = " and ".join(weights.fresh)
    has = f"one of {weights.outputs} outputs" if weights.outputs else "none"
    return (f"teacher.model: a new {parts}, drawn at random; the checkpoint has {has}",)


def _check_dropout(recipe: Recipe, config: Mapping[str, Any]) -> None:
    """Until its first prune a student equals its teacher but for dropout, and has no gradient."""
    rates = [
        config.get(name, BERT_DROPOUT)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")
    ]
    iterative = recipe.method == ROSITA and recipe.kd_setting in ("3", "4")
    if iterative and not any(rates):
        raise ValueError(
            f"model must have dropout above 0 in its config.json for KD setting "
            f"{recipe.kd_setting}, whose first prune ranks by the gradient that it makes, got 0"
        )
