"""How long a stage will take, from the most similar attempt of this home."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flows.differences import flat
from flows.method import Node
from tasks.records import attempts
from tasks.stage_key import canonical_config

STAGES = ("data", "teacher", "augment", "student", "depth", "width", "one-step", "assess", "export")
# What a completed attempt counted that its time grows with.
UNITS = {"augment": "rows_original"} | dict.fromkeys(
    ("teacher", "student", "depth", "width", "one-step"), "steps"
)
# Whose artifact leads back to the pretrained model.
LINEAGE = ("teacher", "source", "student")


@dataclass(frozen=True)
class Estimate:
    """A guess of a stage's seconds.

    Attributes:
        seconds: None where nothing like it has run.
        source: where the number comes from, or why there is none.
    """

    seconds: float | None
    source: str


class Estimator:
    """Looks at the attempts of a home; each stage's records are read once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._completed = lru_cache(maxsize=None)(self._read)
        self._makers = lru_cache(maxsize=1)(self._read_makers)

    def estimate(self, node: Node, model: str, units: float | None) -> Estimate:
        """The most similar completed attempt, scaled to `units`.

        Args:
            node: the stage.
            model: digest of the pretrained model that everything starts from.
            units: optimizer steps or rows that it will have; None where that is unknown or its
                time depends on nothing of the kind.
        """
        wanted = flat(canonical_config(node.config))
        candidates = [
            (_alike(wanted, flat(record["components"]["config"])), record["number"], record)
            for record in self._completed(node.name)
            if node.name in ("data", "augment") or self._model(record) == model
        ]
        if not candidates:
            return Estimate(None, f"{node.name} has not run here on this model")
        _, number, record = max(candidates, key=lambda entry: entry[:2])
        seconds = float(record["result"]["seconds"])
        unit = UNITS.get(node.name)
        counted = record["result"]["metrics"].get(unit) if unit else None
        if unit is None or units is None or not counted:
            return Estimate(seconds, f"attempt {number} of {node.name}")
        word = "step" if unit == "steps" else "row"
        each = seconds / float(counted)
        return Estimate(
            each * units,
            f"attempt {number} of {node.name}: {each:.3g} s a {word}, {units:,.0f} {word}s",
        )

    def _read(self, stage: str) -> list[dict[str, Any]]:
        return [
            record
            for record in attempts(self.home, stage)
            if record["status"] == "completed" and "result" in record
        ]

    def _model(self, record: dict[str, Any]) -> str | None:
        """The pretrained model that an attempt goes back to, through the attempts before it."""
        seen = 0
        while seen < len(STAGES):
            config, inputs = record["components"]["config"], record["components"]["inputs"]
            if "pretrained" in config:
                return str(config["pretrained"]["digest"])
            artifacts = [inputs[role] for role in LINEAGE if role in inputs]
            found = next((self._makers()[a] for a in artifacts if a in self._makers()), None)
            if found is None:
                return None
            record, seen = found, seen + 1
        return None

    def _read_makers(self) -> dict[str, dict[str, Any]]:
        return {
            record["result"]["artifact"]: record
            for stage in STAGES
            for record in self._completed(stage)
        }


def _alike(wanted: dict[str, str], had: dict[str, str]) -> int:
    """How many settings agree."""
    return sum(had.get(name) == value for name, value in wanted.items())
