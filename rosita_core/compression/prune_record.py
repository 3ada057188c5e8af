"""What a prune removed, in the numbering of the model that the stage started from.

A later prune numbers what an earlier one left; here heads and layers keep the number that they had
at the start, so that a reader can tell which of them survived.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rosita_core.compression.importance import Importance
from rosita_core.compression.kept import Kept
from rosita_core.model.shape import Shape
from rosita_core.training.hooks import ActiveHook, Hook

if TYPE_CHECKING:
    from rosita_core.model.modeling_rosita import RositaForSequenceClassification

DOCUMENT = "prunes"


@dataclass(frozen=True)
class PruneRecord:
    """One prune.

    Attributes:
        step: optimizer step after which it happened; 0 before training.
        shape: afterwards, such as a2_l5_f180_e48.
        layers: numbers of the layers that are left.
        heads: per such layer, numbers of the heads that are left.
        head_importance: per such layer, the importance of each head before the prune, of those that
            went too; empty where whole layers went and nothing was ranked.
        ranked_heads: per such layer, the numbers of the heads that `head_importance` is of.
        ffn_importance_kept: per such layer, share of the FFN importance in the units that are left.
    """

    step: int
    shape: str
    layers: tuple[int, ...]
    heads: tuple[tuple[int, ...], ...]
    head_importance: tuple[tuple[float, ...], ...]
    ranked_heads: tuple[tuple[int, ...], ...]
    ffn_importance_kept: tuple[float, ...]


def untouched(shape: Shape) -> PruneRecord:
    """The numbering of a model that nothing has been cut from."""
    heads = tuple(tuple(range(count)) for count in shape.layer_heads)
    return PruneRecord(0, str(shape), tuple(range(shape.layers)), heads, (), (), ())


def prune_record(
    before: PruneRecord, step: int, target: Shape, kept: Kept, ranking: Importance | None
) -> PruneRecord:
    """The record of a prune that keeps `kept` of the model that `before` describes."""
    heads_before = [before.heads[layer] for layer in kept.layers]
    importance: tuple[tuple[float, ...], ...] = ()
    ranked: tuple[tuple[int, ...], ...] = ()
    shares: tuple[float, ...] = ()
    if ranking is not None:
        importance = tuple(_floats(ranking.heads[layer]) for layer in kept.layers)
        ranked = tuple(heads_before)
        shares = tuple(
            _share(ranking.ffn_units[layer], units)
            for layer, units in zip(kept.layers, kept.ffn_units, strict=True)
        )
    return PruneRecord(
        step=step,
        shape=str(target),
        layers=tuple(before.layers[layer] for layer in kept.layers),
        heads=tuple(
            tuple(names[index] for index in indices.tolist())
            for names, indices in zip(heads_before, kept.heads, strict=True)
        ),
        head_importance=importance,
        ranked_heads=ranked,
        ffn_importance_kept=shares,
    )


def to_json(records: tuple[PruneRecord, ...]) -> list[dict[str, Any]]:
    """JSON-able values."""
    return [asdict(entry) for entry in records]


def from_json(values: list[dict[str, Any]]) -> tuple[PruneRecord, ...]:
    """What `to_json` gave, also after a way through JSON."""
    return tuple(PruneRecord(**{name: _tuples(v) for name, v in entry.items()}) for entry in values)


def documented(records: tuple[PruneRecord, ...]) -> dict[str, Any]:
    """The document that is kept beside the weights; none where nothing was cut."""
    return {DOCUMENT: to_json(records)} if records else {}


@dataclass(frozen=True)
class CutBefore(Hook):
    """Keeps the records of what was cut before a training through its stops.

    Attributes:
        records: they are not read where the training goes on from a checkpoint, which has them.
    """

    records: tuple[PruneRecord, ...]

    def begin(self, model: RositaForSequenceClassification, steps: int) -> ActiveHook:
        return _CutBefore(self.records)


class _CutBefore(ActiveHook):
    def __init__(self, records: tuple[PruneRecord, ...]) -> None:
        self.records = records

    def write(self, folder: Path) -> dict[str, Any]:
        return {"records": to_json(self.records)}

    def read(self, folder: Path, values: dict[str, Any], device: str) -> None:
        self.records = from_json(values["records"])

    def documents(self) -> Mapping[str, Any]:
        return documented(self.records)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _floats(scores: torch.Tensor) -> tuple[float, ...]:
    return tuple(float(score) for score in scores.tolist())


def _share(scores: torch.Tensor, indices: torch.Tensor) -> float:
    total = scores.double().sum().item()
    return scores.double()[indices].sum().item() / total if total > 0 else 1.0
