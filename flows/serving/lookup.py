"""Finished runs of a home, and the models they left in its store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.home import Home
from tasks.store.artifacts import Store


@dataclass(frozen=True)
class FoundModel:
    """A checkpoint directory, and the run that it belongs to.

    Attributes:
        folder: the checkpoint.
        run_id: the run, or None for a directory of the user's own.
        recipe: the run's recipe, or None.
    """

    folder: Path
    run_id: str | None
    recipe: str | None


def newest_summary(home: Path) -> dict[str, Any]:
    """The summary of the run that finished last.

    Raises:
        ValueError: where no run has finished in this home.
    """
    paths = Home(home).summaries()
    if not paths:
        raise ValueError(
            f"model must be given where no run has finished, got none and no run in {home}; "
            "`rosita compress --recipe demo` makes one"
        )
    return _read(max(paths, key=lambda path: path.stat().st_mtime_ns))


def compressed_model(model: str | None, home: Path) -> FoundModel:
    """The checkpoint that a user means by `--model`.

    Args:
        model: a checkpoint directory, the id of a finished run, or None for the newest run.
        home: where runs are.

    Raises:
        ValueError: where there is neither, or the store has lost the run's model.
    """
    if model is None:
        return _exported(newest_summary(home), home)
    if (folder := Path(model)).is_dir():
        return FoundModel(folder, None, None)
    path = Home(home).summary(model)
    # An absolute path as `model` would leave the home.
    if Path(model).name == model and path.is_file():
        return _exported(_read(path), home)
    raise ValueError(
        f"model must be a checkpoint directory or the id of a finished run in {home}, got {model}"
    )


def stage_folder(summary: dict[str, Any], stage: str, home: Path) -> Path:
    """The artifact that a stage of a finished run left in the store of `home`.

    Raises:
        ValueError: where the run had no such stage or the store has lost its artifact.
    """
    # Not the paths in the summary: a home may have been moved.
    artifacts = {entry["name"]: entry["artifact"] for entry in summary["stages"]}
    if stage not in artifacts:
        raise ValueError(
            f"run must have a stage {stage}, got {', '.join(artifacts)} in {summary['run_id']}"
        )
    folder = Store(home).path(artifacts[stage])
    if not folder.is_dir():
        raise ValueError(
            f"the artifact of stage {stage} of run {summary['run_id']} must be in the store, "
            f"got none in {folder}; `rosita compress --recipe {summary['recipe']}` makes it again"
        )
    return folder


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _exported(summary: dict[str, Any], home: Path) -> FoundModel:
    return FoundModel(
        folder=stage_folder(summary, "export", home),
        run_id=summary["run_id"],
        recipe=summary["recipe"],
    )
