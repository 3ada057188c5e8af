"""A grid in MLflow and in Prefect: the tree of its runs, their names, params and curves."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from grid_homes import CELLS, GridHome
from mlflow import MlflowClient
from mlflow.entities import Run

from flows.engine.learning_curves import COMPARED, POINTS, last_training, series
from flows.grids.files import read_cell
from tasks.cache.metric_history import observations

Curve = list[tuple[int, float]]


def store_of(home: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")


def below(store: MlflowClient, run: Run) -> list[Run]:
    """The runs whose parent is `run`."""
    chosen = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    return list(store.search_runs([run.info.experiment_id], chosen))


def curve(store: MlflowClient, run_id: str, metric: str) -> Curve:
    found = store.get_metric_history(run_id, metric)
    return sorted((point.step, point.value) for point in found)


@pytest.fixture(scope="module")
def store(grid_home: GridHome) -> MlflowClient:
    return store_of(grid_home.home)


@pytest.fixture(scope="module")
def parent(grid_home: GridHome, store: MlflowClient) -> Run:
    """The grid's own run, of the call that finished."""
    return store.get_run(grid_home.finished.document["mlflow_run_id"])


@pytest.fixture(scope="module")
def cells(store: MlflowClient, parent: Run) -> dict[str, Run]:
    return {run.data.tags["rosita.cell"]: run for run in below(store, parent)}


def test_the_cells_lie_below_the_grid(
    grid_home: GridHome, store: MlflowClient, parent: Run, cells: dict[str, Run]
) -> None:
    assert (parent.info.run_name, parent.info.status) == ("smoke-grid", "FINISHED")
    assert parent.data.metrics["cells_finished"] == 4
    assert sorted(cells) == sorted(CELLS)
    for cell in grid_home.finished.document["cells"]:
        found = cells[cell["cell"]]
        assert found.info.run_id == cell["mlflow_run_id"]
        # Without the grid, below which it stands: pages show the first letters of a name.
        assert found.info.run_name == cell["cell"]
        assert found.info.status == "FINISHED"
        assert found.data.tags["rosita.grid"] == "smoke-grid"
        assert found.data.params["axis.kd_setting"] == cell["labels"]["kd_setting"]
        assert found.data.params["seed"] == str(cell["seed"])
        assert found.data.metrics["score"] == cell["score"]
    assert not store.search_registered_models()


def test_the_stages_say_which_cell_they_are_of(
    grid_home: GridHome, store: MlflowClient, cells: dict[str, Run]
) -> None:
    for cell in grid_home.finished.document["cells"]:
        stages = below(store, cells[cell["cell"]])
        assert {run.data.tags["rosita.stage"] for run in stages} == {
            stage["name"] for stage in cell["stages"]
        }
        for run in stages:
            assert run.info.run_name == f"{cell['cell']}/{run.data.tags['rosita.stage']}"
            assert run.data.tags["rosita.of_cell"] == f"smoke-grid/{cell['cell']}"
    # What the page of charts is searched by: cells without their stages, and without the grid.
    experiment = cells["4-s42"].info.experiment_id
    found = store.search_runs([experiment], "tags.`rosita.grid` = 'smoke-grid'")
    assert {run.info.run_name for run in found} == set(CELLS)


def check_curves(home: Path, store: MlflowClient, run: Run, document: dict[str, Any]) -> None:
    """A cell's run has the curves of its trainings, and those of the last one by plain names."""
    stages = {stage["name"]: stage for stage in document["stages"]}
    last = last_training(list(stages))
    assert last == {"1": "one-step", "4": "width"}[document["labels"]["kd_setting"]]
    trained = {name for name in ("teacher", "student", "depth", last) if name in stages}
    for name in trained:
        expected = series(observations(home, name, stages[name]["attempt"], stages[name]["key"]))
        assert len(expected["train/loss"]) >= 3
        for metric in COMPARED:
            mine = curve(store, run.info.run_id, f"stage/{name}/{COMPARED[metric]}")
            assert mine == expected[metric], (name, metric)
            if name == last:
                assert curve(store, run.info.run_id, metric) == mine
    named = {name.rpartition("/")[0] for name in run.data.metrics if name.endswith("/loss")}
    assert named == {"train", *(f"stage/{name}" for name in trained)}


def test_cells_have_the_curves_of_their_trainings(
    grid_home: GridHome, store: MlflowClient, cells: dict[str, Run]
) -> None:
    for name, run in cells.items():
        document = read_cell(grid_home.home, "smoke-grid", name)
        assert document is not None
        check_curves(grid_home.home, store, run, document)
        computed = {s["name"] for s in document["stages"] if not s["cached"]}
        assert bool(computed) == (name != "1-s42")
        if name == "4-s43":
            [stage] = [r for r in below(store, run) if r.data.tags["rosita.stage"] == "width"]
            # By the names, and with the values, of the stage's own run.
            for metric in COMPARED:
                mine = curve(store, run.info.run_id, metric)
                assert mine == curve(store, stage.info.run_id, metric)
    # One was killed in `width` and went on: its curve begins where the training began.
    resumed = curve(store, cells["4-s42"].info.run_id, "stage/width/loss")
    whole = curve(store, cells["4-s43"].info.run_id, "stage/width/loss")
    assert [step for step, _ in resumed] == [step for step, _ in whole]


def test_curves_are_laid_over_the_time_of_the_training(
    grid_home: GridHome, store: MlflowClient, cells: dict[str, Run]
) -> None:
    """A page of MLflow's has the time as its axis by default; the copy was made in an instant."""
    document = read_cell(grid_home.home, "smoke-grid", "1-s42")
    assert document is not None
    seconds = next(s["seconds"] for s in document["stages"] if s["name"] == "one-step")
    found = store.get_metric_history(cells["1-s42"].info.run_id, "train/loss")
    points = sorted(found, key=lambda point: point.step)
    times = [point.timestamp for point in points]
    assert times == sorted(set(times))
    covered = 1 - points[0].step / points[-1].step
    assert times[-1] - times[0] == pytest.approx(1000 * seconds * covered, abs=2)


def test_prefect_shows_the_grid(grid_home: GridHome) -> None:
    names, found = grid_home.flow_runs, grid_home.artifacts
    # One run for both calls each; their stages are its tasks.
    assert names == {"smoke-grid"}
    assert [row["cell"] for row in json.loads(found["rosita-grid"])] == CELLS
    assert found["rosita-grid-report"].startswith("# Report of smoke-grid")
    image = found["rosita-grid-time-per-stage"]
    assert base64.b64decode(image.partition("base64,")[2]).startswith(b"\x89PNG")


def test_long_courses_are_thinned_and_keep_their_ends() -> None:
    lines = [
        {"step": step, "metrics": {"train/loss": 1 / step} | ({"dev/score": 0.5} if rare else {})}
        for step in range(1, 5001)
        for rare in [step % 1000 == 0]
    ]
    found = series(lines)
    assert len(found["train/loss"]) == POINTS
    assert found["train/loss"][0] == (1, 1.0)
    assert found["train/loss"][-1] == (5000, 1 / 5000)
    assert found["dev/score"] == [(step, 0.5) for step in range(1000, 5001, 1000)]
