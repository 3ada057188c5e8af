"""A compressed model as a Hugging Face checkpoint that loads without this project."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from rosita_core.data.framing import check_tokenizer, load_tokenizer
from rosita_core.export import CLASSES, COLUMNS
from rosita_core.export.model_card import CardFacts, render_card
from rosita_core.model.checkpoint import build, save, shape_of
from rosita_core.model.locate import TOKENIZERS, has_tokenizer

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification

MODEL_SOURCE = "modeling_rosita.py"
CARD_FILE = "README.md"
REGRESSION_OUTPUT = "score"
LENGTH_SETTINGS = ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of")


def export_checkpoint(
    model: RositaForSequenceClassification,
    tokenizer_dir: Path,
    labels: tuple[str, ...],
    card: CardFacts,
    folder: Path,
) -> None:
    """Write `model` into `folder` with all that is needed to use it.

    That is config.json, model.safetensors, the model's source (modeling_rosita.py, named in
    config.json's auto_map), the tokenizer, and a model card. Auto classes load it with
    `trust_remote_code=True` where there are only torch and transformers, and without it after
    `import rosita_core.model.register`. The same arguments give the same bytes.

    Args:
        model: it is not changed.
        tokenizer_dir: where the tokenizer's files lie; its maximum length becomes the model's.
        labels: class names in index order, empty for regression.
        card: what the model card says.
        folder: made where it is missing; files in it are replaced.

    Raises:
        ValueError: where labels do not fit the model's outputs or repeat, or the tokenizer is
            missing or does not fit the model (see `check_tokenizer`).
    """
    _check_labels(labels, model.config)
    folder.mkdir(parents=True, exist_ok=True)
    kind = _write_tokenizer(tokenizer_dir, model.config, card.pair, folder)
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    save(build(_config_to_export(model.config, labels, card, kind), state), folder)
    source = files("rosita_core.model").joinpath(MODEL_SOURCE).read_text(encoding="utf-8")
    (folder / MODEL_SOURCE).write_text(source, encoding="utf-8")
    text = render_card(card, shape_of(model.config), labels)
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    # safetensors makes files that their owner alone can read, and a checkpoint is for others.
    (folder / "model.safetensors").chmod((folder / CARD_FILE).stat().st_mode)


def _config_to_export(
    source: RositaConfig, labels: tuple[str, ...], card: CardFacts, tokenizer_class: str
) -> RositaConfig:
    from rosita_core.model.modeling_rosita import (
        RositaConfig,
        RositaForSequenceClassification,
        RositaModel,
    )

    config = RositaConfig.from_dict(source.to_dict())
    module = MODEL_SOURCE.removesuffix(".py")
    classes = {
        "AutoConfig": RositaConfig,
        "AutoModel": RositaModel,
        "AutoModelForSequenceClassification": RositaForSequenceClassification,
    }
    config.auto_map = {name: f"{module}.{kind.__name__}" for name, kind in classes.items()}
    names = labels or (REGRESSION_OUTPUT,)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    config.text_pair = card.pair
    # Those of an exported model that was the teacher are not this one's.
    for name, said in ((COLUMNS, dict(card.columns)), (CLASSES, list(card.classes))):
        vars(config).pop(name, None)
        if said:
            setattr(config, name, said)
    # Pipelines of transformers 4 look for a tokenizer where the configuration names its class.
    config.tokenizer_class = tokenizer_class
    config.problem_type = "single_label_classification" if labels else "regression"
    return config


def _check_labels(labels: tuple[str, ...], config: RositaConfig) -> None:
    if (config.problem_type == "regression") != (not labels):
        raise ValueError(
            f"labels must be empty for regression and only then, "
            f"got {len(labels)} for a model of problem_type {config.problem_type}"
        )
    expected = config.num_labels
    if len(labels or (REGRESSION_OUTPUT,)) != expected:
        raise ValueError(
            f"labels must have one entry for each of the model's {expected} outputs, "
            f"got {len(labels)}"
        )
    repeated = [label for label in labels if labels.count(label) > 1]
    if repeated:
        raise ValueError(f"labels must differ from each other, got {repeated[0]!r} twice")


def _write_tokenizer(tokenizer_dir: Path, config: RositaConfig, pair: bool, folder: Path) -> str:
    """Write the tokenizer; returns the name of its class, as its own file gives it."""
    # Checked here because transformers would look for a missing directory on the hub.
    if not has_tokenizer(tokenizer_dir):
        raise ValueError(
            f"tokenizer must be a directory with one of {', '.join(TOKENIZERS)}, "
            f"got {tokenizer_dir}"
        )
    tokenizer = load_tokenizer(tokenizer_dir)
    check_tokenizer(tokenizer, config.vocab_size, config.type_vocab_size, pair)
    # A checkpoint for sentence vectors may cut and pad every text to a length of its own.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for name in LENGTH_SETTINGS:
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.model_max_length = config.max_position_embeddings
    # Positions are counted from the left, and so the model has learned.
    tokenizer.padding_side = "right"
    tokenizer.save_pretrained(folder)
    said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    return str(said["tokenizer_class"])
