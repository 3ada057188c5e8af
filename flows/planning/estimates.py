"""How long a stage will take, from the most similar attempt of this home."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flows.engine.checks import is_here
from flows.engine.graph import Vertex
from flows.recipes.changes import flat
from flows.recipes.request import read_rows
from rosita_core.stages.measure import MeasureSettings
from rosita_core.stages.targets import TargetsSettings
from rosita_core.training.loop import total_steps
from tasks.cache.records import StageResult, attempts, makers
from tasks.cache.stage_key import PROCESSES, canonical_config
from tasks.stages.catalogue import catalogue

DATA, KEPT = "data", "targets"
DECIDING = (
    *("training.batch_size", "training.accumulate", "training.max_length"),
    *("training.pad_to_max_length", "source.digest", "source.limit_rows", "variants.copies"),
    *("mlm_digest", "vectors_digest", "max_length", "states"),
    *("calibration.batch_size", "calibration.max_length"),
)
"""Settings without which the time of a step, or of the rows, says nothing about another one's."""


@dataclass(frozen=True)
class Estimate:
    """A guess of a stage's seconds.

    Attributes:
        seconds: None where nothing like it has run.
        source: where the number comes from, or why there is none.
        measured_on: the device of that attempt, such as "cuda: NVIDIA L4".
        each: seconds a unit, where the time grows with units.
        unit: "step" or "row".
        units: that it will have.
    """

    seconds: float | None
    source: str
    measured_on: str | None = None
    each: float | None = None
    unit: str | None = None
    units: float | None = None


class Estimator:
    """Looks at the attempts of a home; each stage's records are read once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._completed = lru_cache(maxsize=None)(self._read)
        self._makers = lru_cache(maxsize=1)(self._read_makers)

    def of(self, vertex: Vertex, results: Mapping[str, StageResult]) -> Estimate:
        """How long a stage will take, by the most similar completed attempt.

        It is scaled to the steps or rows that this one has. Attempts on another kind of device, or
        on another number of them, say nothing of it, nor do those that start from another model. A
        stage whose time depends on neither steps nor rows is compared on the same rows alone.

        Args:
            vertex: the stage.
            results: id -> result of the stages before it that are cached.
        """
        node, model, processes = vertex.node, vertex.request.model.digest, vertex.processes
        units, kind = _units(vertex, results), vertex.numerics.device.partition(":")[0]
        data = results.get(vertex.needs.get(DATA, ""))
        wanted = flat(canonical_config(node.config))
        alike = [
            record
            for record in self._completed(node.name)
            if not starts_from_model(node.name) or self._model(record) == model
        ]
        unit, counts = catalogue()[node.name].unit, catalogue()[node.name].counted
        same_rows = data.artifact if data is not None and unit is None else None
        candidates = [
            (
                # A step that computes its teacher takes longer.
                (KEPT in record["components"]["inputs"]) == (KEPT in node.inputs),
                _alike(wanted, flat(record["components"]["config"])),
                record["number"],
                record,
            )
            for record in alike
            if record["components"]["numerics"].get("device") == kind
            and record["components"]["numerics"].get("precision") == vertex.numerics.precision
            and record["components"]["numerics"].get(PROCESSES, 1) == processes
            and _comparable(wanted, flat(record["components"]["config"]))
            and same_rows in (None, record["components"]["inputs"].get(DATA, same_rows))
        ]
        if not candidates:
            if alike:
                many = f" in {processes} processes" if processes > 1 else ""
                like = "" if kind in self._devices(alike, processes) else f" on {kind}{many}"
                return Estimate(
                    None, f"{node.name} has not run here{like or ' on such rows and batches'}"
                )
            return Estimate(None, f"{node.name} has not run here on this model")
        *_, number, record = max(candidates, key=lambda entry: entry[:3])
        seconds = float(record["result"]["seconds"])
        measured_on = self._hardware(record, kind)
        counted = record["result"]["metrics"].get(counts) if counts else None
        if unit is None or not isinstance(counted, int | float) or not counted > 0:
            return Estimate(seconds, f"attempt {number} of {node.name}", measured_on)
        if units is None:
            return Estimate(None, f"how many {unit}s {node.name} has is known with its data only")
        each = seconds / counted
        return Estimate(
            each * units,
            f"attempt {number} of {node.name}: {each:.3g} s a {unit}, {units:,.0f} {unit}s",
            measured_on,
            each,
            unit,
            units,
        )

    @staticmethod
    def _devices(records: list[dict[str, Any]], processes: int) -> set[str]:
        """Kinds of devices that these attempts ran on, in so many processes."""
        numerics = [record["components"]["numerics"] for record in records]
        return {str(n.get("device")) for n in numerics if n.get(PROCESSES, 1) == processes}

    def _hardware(self, record: dict[str, Any], kind: str) -> str:
        """What the attempt ran on, as far as the note beside its artifact still says."""
        notes = makers(self.home, record["result"]["artifact"])
        known = notes.get(record["key"], {}).get("hardware", {})
        name = (known.get("gpus") or [None])[0] if kind == "cuda" else known.get("cpu")
        return f"{kind}: {name}" if name else kind

    def _read(self, stage: str) -> list[dict[str, Any]]:
        return [
            record
            for record in attempts(self.home, stage)
            if record["status"] == "completed" and "result" in record
        ]

    def _model(self, record: dict[str, Any]) -> str | None:
        """The pretrained model that an attempt goes back to, through the attempts before it."""
        for _ in catalogue():
            config, inputs = record["components"]["config"], record["components"]["inputs"]
            if isinstance(pretrained := config.get("pretrained"), dict):
                return str(pretrained.get("digest"))
            origin = inputs.get(catalogue()[record["stage"]].origin)
            if origin not in self._makers():
                return None
            record = self._makers()[origin]
        return None

    def _read_makers(self) -> dict[str, dict[str, Any]]:
        return {
            record["result"]["artifact"]: record
            for stage in catalogue()
            for record in self._completed(stage)
        }


def starts_from_model(stage: str) -> bool:
    """Whether the stage computes with a model that goes back to the pretrained one."""
    kind = catalogue()[stage]
    return kind.trains or kind.origin is not None


def _comparable(wanted: dict[str, str], had: dict[str, str]) -> bool:
    """Whether a step or a row of both takes about as long."""
    return all(had.get(name) == wanted[name] for name in DECIDING if name in wanted)


def _alike(wanted: dict[str, str], had: dict[str, str]) -> int:
    """How many settings agree."""
    return sum(had.get(name) == value for name, value in wanted.items())


def _units(vertex: Vertex, results: Mapping[str, StageResult]) -> float | None:
    """Optimizer steps of a training, or rows of another stage, as far as they are known."""
    config = vertex.node.config
    if isinstance(config, TargetsSettings):
        return rows_read(vertex, results)
    if isinstance(config, MeasureSettings):
        rows = rows_read(vertex, results)
        return None if rows is None else config.calibration.count(rows)
    if vertex.name != "augment" and not hasattr(config, "training"):
        return None
    rows = rows_read(vertex, results)
    if rows is None or vertex.name == "augment":
        return rows
    return float(total_steps(rows, config.training))


def rows_read(vertex: Vertex, results: Mapping[str, StageResult]) -> int | None:
    """Training rows that a stage reads, as far as they are known; of variants at most.

    Args:
        vertex: the stage.
        results: id -> result of the stages before it that are cached.
    """
    request, original = vertex.request, None
    if (data := results.get(vertex.needs.get("data", ""))) is not None:
        original = int(data.metrics["rows_train"])
    elif is_here(request):
        original = read_rows(request.source).counts["train"]
    if original is None or vertex.node.inputs.get("rows") != "augment":
        return original
    augmented = results.get(vertex.needs["augment"])
    if augmented is not None:
        return int(augmented.metrics["rows_train"])
    return original * (1 + request.recipe.augment.copies)
