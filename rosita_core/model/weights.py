"""Which tensors of a checkpoint's files are those of our model, and what the files lack.

Only the headers are read, so that a checkpoint is checked before anything is computed. Whoever
loads one reads what was found here and nothing else: no gap is filled with random numbers in
silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from rosita_core.model.families import Config, Family, family_of

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaConfig

SINGLE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# In front of every name where a model was saved inside a wrapper: DataParallel, torch.compile,
# trainers, adapters.
WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|model|base_model|auto_model)\.)+")
FLOATS = ("F64", "F32", "F16", "BF16")
BODY, POOLER, CLASSIFIER = "bert.", "bert.pooler.", "classifier."
BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
SHOWN = 3


@dataclass(frozen=True)
class Tensor:
    """A tensor of a checkpoint, by the header of its file.

    Attributes:
        file: that holds it.
        name: in that file.
        shape: its sizes.
        kind: of its numbers, as safetensors calls them: F32.
        skipped: rows at its start that have no place in our model.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    kind: str
    skipped: int = 0

    @property
    def our_shape(self) -> tuple[int, ...]:
        return (self.shape[0] - self.skipped, *self.shape[1:]) if self.skipped else self.shape


@dataclass(frozen=True)
class Weights:
    """What a checkpoint has of our model.

    Attributes:
        tensors: by their names in our model.
        fresh: parts that it does not have, which may be drawn at random: "pooler", "classifier".
        outputs: of its trained classifier; 0 where it has none.
    """

    tensors: Mapping[str, Tensor]
    fresh: tuple[str, ...]
    outputs: int


def check_weights(folder: Path, config: Config, outputs: int) -> Weights:
    """What a checkpoint has of the model that its configuration describes; all of it must be there.

    A missing classifier, or one of another size, may be drawn at random. So may the missing pooler
    of an encoder, which is what has no classifier.

    Args:
        folder: the checkpoint.
        config: see `rosita_core.model.locate.read_config`.
        outputs: C.

    Raises:
        ValueError: naming the first tensors that are missing, have another shape or no place in
            our model, and where a file is damaged.
    """
    family = family_of(config, str(folder))
    found = _by_our_names(folder, family, config)
    expected = _shapes(family, config, outputs, folder)
    head = found.get(f"{CLASSIFIER}weight") if family.is_classifier(config) else None
    classifies = head.shape[0] if head is not None and head.shape else 0
    fresh = [] if classifies == outputs else [CLASSIFIER]
    if head is None and not any(name.startswith(POOLER) for name in found):
        fresh.append(POOLER)
    wanted = {n: shape for n, shape in expected.items() if not n.startswith(tuple(fresh))}
    _check_names(found, wanted, expected, folder)
    for name, shape in wanted.items():
        if found[name].our_shape != shape:
            raise ValueError(
                f"model must have the weights of its config, {name} of {list(shape)}, "
                f"got {list(found[name].our_shape)} in {folder}"
            )
        if found[name].kind not in FLOATS:
            raise ValueError(
                f"model must have weights of {', '.join(FLOATS)}, got {name} of "
                f"{found[name].kind} in {folder}"
            )
    parts = tuple(part.removeprefix(BODY).rstrip(".") for part in sorted(fresh))
    return Weights({name: found[name] for name in wanted}, parts, classifies)


def read_weights(weights: Weights) -> dict[str, torch.Tensor]:
    """The tensors that were found, in float32, by their names in our model.

    Raises:
        ValueError: see `check_finite`.
    """
    return dict(_read(weights))


def check_finite(weights: Weights) -> None:
    """Whether all weights are finite numbers in float32: a model with others answers nothing.

    Raises:
        ValueError: naming the first tensor with another, and its file.
    """
    for _ in _read(weights):
        pass


def _read(weights: Weights) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted({tensor.file for tensor in weights.tensors.values()}):
        with safe_open(path, framework="pt") as file:
            for name, tensor in weights.tensors.items():
                if tensor.file != path:
                    continue
                # A copy: what safetensors hands out is the file itself, mapped into memory.
                read = file.get_tensor(tensor.name)[tensor.skipped :].to(torch.float32, copy=True)
                if not torch.isfinite(read).all():
                    wrong = read[~torch.isfinite(read)][0].item()
                    raise ValueError(
                        f"model must have finite weights, got {wrong} in {tensor.name} of {path}"
                    )
                yield name, read


def check_classifier(weights: Weights, outputs: int) -> None:
    """Whether a checkpoint has a trained classifier already, as it must to skip training.

    Raises:
        ValueError: where it has none, or one of another size.
    """
    if weights.outputs != outputs:
        raise ValueError(
            f"model must be a classifier with {outputs} outputs to be used without training, "
            f"got {weights.outputs or 'none'}"
        )


def _shapes(
    family: Family, config: Config, outputs: int, folder: Path
) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of our model; none of them is made."""
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

    try:
        ours: RositaConfig = family.config(config, outputs)
        with torch.device("meta"):
            model = RositaForSequenceClassification(ours)
    # transformers and torch have many errors for a value that they cannot use.
    except Exception as error:
        cause = " ".join(str(error).split())
        raise ValueError(
            f"model must have a config.json of values that can be used, got {folder}: "
            f"{type(error).__name__}: {cause}"
        ) from None
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _check_names(
    found: Mapping[str, Tensor],
    wanted: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    folder: Path,
) -> None:
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(
            f"model must have the weights of its config, got no {_first(missing)} in {folder}"
        )
    known = {*expected, *BUFFERS}
    if others := [name for name in found if name.startswith(BODY) and name not in known]:
        raise ValueError(
            f"model must have the weights of its config and no others, got {_first(others)} "
            f"in {folder}"
        )


def _first(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _by_our_names(folder: Path, family: Family, config: Config) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for tensor in _headers(folder):
        name = family.name(WRAPPERS.sub("", tensor.name))
        if name in found:
            raise ValueError(
                f"model must have one tensor for {name}, got {found[name].name} and "
                f"{tensor.name} in {folder}"
            )
        found[name] = replace(tensor, skipped=family.skipped_rows(name, config))
    return found


def _headers(folder: Path) -> list[Tensor]:
    """Every tensor of a checkpoint; see `check_weights` for errors."""
    tensors: list[Tensor] = []
    for name in _file_names(folder):
        try:
            with safe_open(folder / name, framework="np") as file:
                for key in file.keys():  # noqa: SIM118  (the file is no mapping)
                    part = file.get_slice(key)
                    shape = tuple(part.get_shape())
                    tensors.append(Tensor(folder / name, key, shape, part.get_dtype()))
        except FileNotFoundError:
            raise ValueError(f"model must have all files of its {INDEX}, got no {name}") from None
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"model must have whole safetensors files, got {folder / name}: {error}"
            ) from None
    return tensors


def _file_names(folder: Path) -> list[str]:
    """The files of weights, chosen as transformers chooses them."""
    if (folder / SINGLE_FILE).is_file():
        return [SINGLE_FILE]
    if not (folder / INDEX).is_file():
        raise ValueError(
            f"model must have its weights in {SINGLE_FILE}, or an {INDEX}, got neither in {folder}"
        )
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = {str(name) for name in index["weight_map"].values()}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(
            f"model must have an {INDEX} with a weight_map, got {folder}: {error}"
        ) from None
    if outside := [name for name in sorted(names) if Path(name).name != name]:
        raise ValueError(f"model must have its files beside its {INDEX}, got {outside[0]!r}")
    return sorted(names)
