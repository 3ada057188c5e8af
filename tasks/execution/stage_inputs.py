"""What a stage reads: its settings and the artifacts of the stages before it."""

from pathlib import Path

from rosita_core.training.progress import Progress
from tasks.cache.records import Context
from tasks.cache.stage_key import Stage
from tasks.store.artifacts import Store


class StageInputs:
    """A stage that is being computed, for whoever only reads; `Work` records it, too."""

    def __init__(self, stage: Stage, context: Context) -> None:
        self.stage = stage
        self.context = context
        self.store = Store(Path(context.home))

    def input(self, role: str) -> Path:
        """The files of an input artifact; read only.

        Raises ValueError when the stage has no such input, or the store no such artifact.
        """
        if role not in self.stage.inputs:
            known = ", ".join(sorted(self.stage.inputs)) or "none"
            raise ValueError(f"input of {self.stage.name} must be one of {known}, got {role!r}")
        digest = self.stage.inputs[role]
        path = None if digest is None else self.store.path(digest)
        if path is None or not path.is_dir():
            raise ValueError(
                f"input {role} of {self.stage.name} must be in the store, got {digest}"
            )
        return path

    def report(self, event: Progress) -> None:
        """Nobody listens here."""
