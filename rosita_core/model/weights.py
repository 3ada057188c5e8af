"""What a checkpoint's weights are, from the headers of its files: nothing large is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rosita_core.model.families import family_of

INDEX = "model.safetensors.index.json"
CLASSIFIER = "classifier.weight"

Shapes = Mapping[str, tuple[int, ...]]


def tensor_shapes(folder: Path) -> Shapes:
    """The shape of every tensor of a checkpoint, by its name there.

    Raises:
        ValueError: where a file is truncated or no safetensors, or one of several is missing.
    """
    names = [path.name for path in sorted(folder.glob("*.safetensors"))]
    if (folder / INDEX).is_file():
        try:
            names = sorted(
                set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values())
            )
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                f"model must have an {INDEX} with a weight_map, got {folder}: {error}"
            ) from None
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        try:
            with safe_open(folder / name, framework="np") as file:
                for key in file.keys():  # noqa: SIM118  (the file is no mapping)
                    shapes[key] = tuple(file.get_slice(key).get_shape())
        except FileNotFoundError:
            raise ValueError(f"model must have all files of its {INDEX}, got no {name}") from None
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"model must have whole safetensors files, got {folder / name}: {error}"
            ) from None
    return shapes


def check_weights(folder: Path, config: Mapping[str, Any]) -> Shapes:
    """Whether the weights of a checkpoint are those that its configuration describes.

    Args:
        config: see `rosita_core.model.locate.read_config`.

    Returns:
        What `tensor_shapes` returns, by the names of our model without a leading "bert.".

    Raises:
        ValueError: naming the first tensor that is missing or has another shape.
    """
    family = family_of(config, str(folder))
    shapes = {family.name(name): shape for name, shape in tensor_shapes(folder).items()}
    expected = family.tensors(config)
    for name, shape in expected.items():
        if name not in shapes:
            raise ValueError(
                f"model must have the weights of its config, got no {name} in {folder}"
            )
        if shapes[name] != shape:
            raise ValueError(
                f"model must have the weights of its config, {name} of {list(shape)}, "
                f"got {list(shapes[name])} in {folder}"
            )
    return shapes


def check_classifier(
    shapes: Shapes, config: Mapping[str, Any], outputs: int, labels: tuple[str, ...]
) -> None:
    """Whether a checkpoint is a classifier of this task already, as it must be to skip training.

    Raises:
        ValueError: where it has no classifier, one of another size, or one that names the task's
            classes in another order.
    """
    found = shapes.get(CLASSIFIER, (0,))[0]
    classifier = family_of(config, "config.json").is_classifier(config)
    if not classifier or found != outputs:
        raise ValueError(
            f"model must be a classifier with {outputs} outputs to be used without training, "
            f"got {found if classifier else 'none'}"
        )
    names = config.get("id2label") or {}
    order = tuple(str(names.get(str(index), "")).casefold() for index in range(outputs))
    wanted = tuple(label.casefold() for label in labels)
    if order != wanted and sorted(order) == sorted(wanted):
        raise ValueError(
            f"model must have the classes {', '.join(labels)} in this order to be used without "
            f"training, got {', '.join(names.values())}"
        )


def check_masked_lm(config_file: Path) -> None:
    """Whether a checkpoint has a masked language model's head, and not one drawn at random.

    Raises:
        ValueError: naming the architectures that it has.
    """
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        architectures = [str(name) for name in config.get("architectures") or ()]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"model must have a config.json that is JSON, got: {error}") from None
    if not any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in architectures):
        raise ValueError(
            f"model must be a masked language model, got {', '.join(architectures) or 'none'} "
            f"in {config_file.parent}"
        )
