"""Finished runs of a home, and the models they left in its store."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from flows.grids.files import read_cell
from flows.recipes.files import is_there
from tasks.cache.documents import RunSummary
from tasks.home import Home
from tasks.host.redaction import is_own, tracking_uri
from tasks.host.terminal import progress_display
from tasks.store.artifacts import Store
from tasks.store.json_files import read_file, read_json
from tasks.tracking.tags import ARTIFACT_TAG, GRAPH_SUFFIX

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>.+)|/(?P<version>\d+))$")


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
    for summary in summaries(home):
        return summary
    raise ValueError(
        f"model must be given where no run has finished, got none and no run in {home}; "
        "`rosita compress --recipe demo` makes one"
    )


def summaries(home: Path) -> Iterator[RunSummary]:
    """The summaries of finished runs, the newest first; one that cannot be read is named."""
    paths = sorted(Home(home).summaries(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in paths:
        try:
            yield read_summary(path)
        except ValueError as error:
            progress_display().line(f"rosita: {error}; its run is left out")


def compressed_model(model: str | None, home: Path) -> FoundModel:
    """The checkpoint that a user means by `--model`.

    Args:
        model: a checkpoint directory, whatever `run_of` knows, or None for the newest run.
        home: where runs are.

    Raises:
        ValueError: where there is neither, or the store has lost the run's model.
    """
    if model is None:
        return _exported(newest_summary(home), home)
    if is_there(folder := Path(model)) and folder.is_dir():
        return FoundModel(folder, None, None)
    found = _exported(run_of(model, home), home)
    address = ADDRESS.match(model)
    if address is None or not address["name"].endswith(GRAPH_SUFFIX):
        return found
    from rosita_core.export import ONNX, place

    if not (graph := place(found.folder, ONNX)).is_dir():
        raise ValueError(f"{model} must be of a run with a graph, got none in {found.folder}")
    return replace(found, folder=graph)


def run_of(word: str, home: Path) -> RunSummary:
    """The finished run that a word means.

    Args:
        word: the id of a run, its id at MLflow (the home's own or another), a registered model
            (models:/name/3, or models:/name@champion; name-onnx is of the same run), a cell of a
            grid (mine/slow-s42), or the name of a run or of a recipe; the newest of that name.
        home: where runs are.

    Raises:
        ValueError: where it means none.
    """
    path = Home(home).summary(word)
    # An absolute path as `word` would leave the home.
    if Path(word).name == word and path.is_file():
        return read_summary(path)
    cell = _cell(word, home)
    if cell is not None:
        return cell
    known = list(summaries(home))
    for summary in known:
        registered = None if summary.registered_model is None else summary.registered_model.uri
        if word in (summary.mlflow_run_id, summary.recorded_as, registered):
            return summary
    # An alias, or a graph, of which no summary speaks.
    if (version := _registered(word, home)) is not None:
        mine = (version.tags or {}).get(ARTIFACT_TAG)
        for summary in known:
            exported = [stage.artifact for stage in summary.stages if stage.name == "export"]
            # Who promotes a model has a run of MLflow's own.
            if version.run_id == summary.mlflow_run_id or mine in exported:
                return summary
    for summary in known:
        if word in (summary.name, summary.recipe):
            return summary
    if word.startswith((".", "/", "~")):
        raise ValueError(f"model must be an existing directory, got {word}")
    raise ValueError(
        f"model must be a checkpoint directory, or a finished run, cell or registered model of "
        f"{home}, got {word}; `rosita runs` lists them"
    )


def _cell(word: str, home: Path) -> RunSummary | None:
    grid, _, cell = word.rpartition("/")
    if not (grid and cell) or "/" in grid or ".." in (grid, cell):
        return None
    document = read_cell(home, grid, cell)
    if document is None or not isinstance(run_id := document.get("run_id"), str):
        return None
    path = Home(home).summary(Path(run_id).name)
    return read_summary(path) if path.is_file() else None


def _registered(word: str, home: Path) -> ModelVersion | None:
    """The version at MLflow that an address names."""
    if (found := ADDRESS.match(word)) is None:
        return None
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = tracking_uri(home)
    if is_own(home, uri) and not Home(home).mlflow_database.is_file():
        # Looking would make one.
        return None
    client = MlflowClient(uri, uri)
    try:
        if found["alias"] is None:
            return client.get_model_version(found["name"], found["version"])
        return client.get_model_version_by_alias(found["name"], found["alias"])
    except MlflowException:
        return None


def stage_folder(summary: RunSummary, stage: str, home: Path) -> Path:
    """The artifact that a stage of a finished run left in the store of `home`, verified.

    Raises:
        ValueError: where the run had no such stage, or the store has lost or damaged its artifact.
    """
    stages = {one.name: one for one in summary.stages}
    if stage not in stages:
        raise ValueError(
            f"run must have a stage {stage}, got {', '.join(stages)} in {summary.run_id}"
        )
    # Not the paths in the summary: a home may have been moved.
    store, found = Store(home), stages[stage]
    problem = store.verify(found.artifact)
    if problem is not None:
        raise ValueError(
            f"the artifact of stage {stage} of run {summary.run_id} must be whole in the store, "
            f"got {store.path(found.artifact)}: {problem}; "
            f"`rosita compress --recipe {summary.recipe}` makes it again"
        )
    # What is looked up is in use, however long ago it was made; of another user it stays as it is.
    with contextlib.suppress(OSError):
        os.utime(Home(home).results / found.key)
    return store.path(found.artifact)


def read_summary(path: Path) -> RunSummary:
    """The summary of a run.

    Raises:
        ValueError: in one line, where it cannot be read.
    """
    try:
        summary = RunSummary.model_validate(read_json(read_file(path)))
        if summary.run_id == path.parent.name:
            return summary
        problem = f"it is that of run {summary.run_id}"
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
