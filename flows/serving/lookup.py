"""Finished runs of a home, and the models they left in its store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tasks.cache.documents import RunSummary
from tasks.home import Home
from tasks.host.terminal import progress_display
from tasks.store.artifacts import Store
from tasks.store.json_files import read_file, read_json


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


def newest_summary(home: Path) -> RunSummary:
    """The summary of the run that finished last; one that cannot be read is named and left out.

    Raises:
        ValueError: where no run has finished in this home.
    """
    paths = sorted(Home(home).summaries(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in paths:
        try:
            return read_summary(path)
        except ValueError as error:
            progress_display().line(f"rosita: {error}; its run is left out")
    raise ValueError(
        f"model must be given where no run has finished, got none and no run in {home}; "
        "`rosita compress --recipe demo` makes one"
    )


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
        return _exported(read_summary(path), home)
    raise ValueError(
        f"model must be a checkpoint directory or the id of a finished run in {home}, got {model}"
    )


def stage_folder(summary: RunSummary, stage: str, home: Path) -> Path:
    """The artifact that a stage of a finished run left in the store of `home`, verified.

    Raises:
        ValueError: where the run had no such stage, or the store has lost or damaged its artifact.
    """
    # Not the paths in the summary: a home may have been moved.
    artifacts = {one.name: one.artifact for one in summary.stages}
    if stage not in artifacts:
        raise ValueError(
            f"run must have a stage {stage}, got {', '.join(artifacts)} in {summary.run_id}"
        )
    store = Store(home)
    problem = store.verify(artifacts[stage])
    if problem is not None:
        raise ValueError(
            f"the artifact of stage {stage} of run {summary.run_id} must be whole in the store, "
            f"got {store.path(artifacts[stage])}: {problem}; "
            f"`rosita compress --recipe {summary.recipe}` makes it again"
        )
    return store.path(artifacts[stage])


def read_summary(path: Path) -> RunSummary:
    """The summary of a run.

    Raises:
        ValueError: in one line, where it cannot be read.
    """
    try:
        return RunSummary.model_validate(read_json(read_file(path)))
    except ValidationError:
        problem = "it is not the summary of a run"
    except OSError as error:
        problem = str(error.strerror)
    except ValueError:
        problem = "it is not JSON"
    raise ValueError(f"{path} cannot be read: {problem}")


def _exported(summary: RunSummary, home: Path) -> FoundModel:
    return FoundModel(
        folder=stage_folder(summary, "export", home),
        run_id=summary.run_id,
        recipe=summary.recipe,
    )
