"""`rosita grid` on real homes: shared stages once, kills, failures, processes, records, MLflow."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
import yaml
from command_line import Done, rosita
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.settings import get_current_settings
from prefect.testing.utilities import prefect_test_harness
from typed_command import ROSITA, environment

from flows.grid_files import read_cell
from flows.grid_records import TABLES, collect, load, save
from flows.stages import KERNELS
from rosita_core.measuring.assessment import read_assessment
from rosita_core.pruning.record import from_json
from tasks.records import attempts
from tasks.store import Store

INJECTED = Path(__file__).parents[1] / "faults" / "injected"
SECONDS = 900
CELLS = ["1-s42", "4-s42", "1-s43", "4-s43"]
QUICK = (
    "data.limit_rows=96",
    # Something to go on from.
    "checkpoint.every_steps=2",
    "assess.latency_repeats=2",
    "assess.latency_warmup=1",
    "assess.latency_batch_sizes=[1, 32]",
    "assess.latency_tokens=16",
    "numerics.threads=1",
)
SMOKE = ("grid", "--grid", "smoke-grid", *(f"--set={change}" for change in QUICK))


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


def command(home: Path, *args: str, faults: list[dict[str, Any]]) -> dict[str, Any]:
    """What starts `rosita ARGS` in a process that faults befall."""
    path = [str(INJECTED), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        "FAULTS": json.dumps(faults),
        "PYTHONPATH": os.pathsep.join(path),
        "PREFECT_API_URL": str(get_current_settings().api.url),
    }
    return {
        "args": [str(ROSITA), *args],
        "env": environment(home, home.parent / "prefect", variables),
        "stdin": subprocess.DEVNULL,
        "text": True,
    }


def run(home: Path, *args: str, faults: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """`rosita ARGS` to its end."""
    return subprocess.run(
        **command(home, *args, faults=faults), capture_output=True, timeout=SECONDS, check=False
    )


def made(home: Path) -> list[dict[str, Any]]:
    """All attempts of all stages."""
    return [record for stage in KERNELS for record in attempts(home, stage)]


def keys(document: dict[str, Any]) -> set[str]:
    """The distinct stage keys of finished cells."""
    return {s["key"] for cell in document["cells"] for s in cell.get("stages", ())}


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


@dataclass(frozen=True)
class GridHome:
    """A home in which smoke-grid was killed, and then finished.

    Attributes:
        killed: the first call, by SIGKILL in `width` of the second cell.
        left: its attempts.
        finished: the second call.
    """

    home: Path
    killed: subprocess.CompletedProcess[str]
    left: list[dict[str, Any]]
    finished: Done


@pytest.fixture(scope="module")
def grid_home(tmp_path_factory: pytest.TempPathFactory) -> GridHome:
    home = tmp_path_factory.mktemp("grid") / "home"

    fault = {"do": "signal", "stage": "width", "call": 4, "signals": ["SIGKILL"]}
    killed = run(home, *SMOKE, "--json", faults=[fault])
    left = made(home)
    finished = rosita(*SMOKE, "--json", home=home)
    assert finished.code == 0, (killed.stderr, finished.stderr)
    return GridHome(home, killed, left, finished)


@pytest.fixture
def copied(grid_home: GridHome, tmp_path: Path) -> Path:
    """What the grid computed, with an MLflow store of its own."""
    home = tmp_path / "home"
    for name in ("store", "results", "attempts", "downloads"):
        shutil.copytree(grid_home.home / name, home / name)
    return home


def test_killed_and_called_again_computes_only_the_rest(grid_home: GridHome) -> None:
    assert grid_home.killed.returncode == -signal.SIGKILL
    done = [r for r in grid_home.left if r["status"] == "completed"]
    stopped = [r for r in grid_home.left if r["status"] != "completed"]
    assert Counter(r["stage"] for r in done) == dict.fromkeys(
        ("data", "teacher", "augment", "student", "depth", "one-step", "assess", "export"), 1
    )
    assert [(r["stage"], r["status"]) for r in stopped] == [("width", "running")]

    said = grid_home.finished.stderr
    assert "cell 1/4 1-s42: finished in" in said
    assert "6 of 6 stages cached" in said
    found = made(grid_home.home)
    again = [r for r in found if r.get("resumed_from") is not None]
    assert [(r["stage"], r["number"]) for r in again] == [("width", 2)]
    assert Counter(r["status"] for r in found) == {"completed": 21, "running": 1}


def test_distinct_stages_run_once(grid_home: GridHome) -> None:
    document = grid_home.finished.document
    assert [cell["cell"] for cell in document["cells"]] == CELLS
    assert {cell["status"] for cell in document["cells"]} == {"finished"}
    completed = [r["key"] for r in made(grid_home.home) if r["status"] == "completed"]
    assert sorted(completed) == sorted(keys(document))
    assert document["stages"]["distinct"] == len(completed) == 21


def test_second_call_computes_nothing(grid_home: GridHome, copied: Path) -> None:
    before = made(copied)
    done = rosita(*SMOKE, home=copied)
    assert done.code == 0, done.stderr
    assert done.stderr.startswith(
        "smoke-grid: 4 cells, 21 distinct stages, 21 of them cached; nothing to compute\n"
    )
    assert "0 stages computed, 21 needed by the cells." in done.stdout
    assert made(copied) == before
    for cell in grid_home.finished.document["cells"]:
        assert cell["cell"] in done.stdout
        again = read_cell(copied, "smoke-grid", cell["cell"])
        assert again is not None
        assert again["run_id"] != cell["run_id"]
        assert again["score"] == cell["score"]
        assert all(stage["cached"] for stage in again["stages"])


def test_tree_in_mlflow_and_names_in_prefect(grid_home: GridHome) -> None:
    store = MlflowClient(tracking_uri=f"sqlite:///{grid_home.home}/mlflow.db")
    document = grid_home.finished.document
    parent = store.get_run(document["mlflow_run_id"])
    assert parent.info.run_name == "smoke-grid"
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["rosita.grid"] == "smoke-grid"
    assert parent.data.metrics["cells_finished"] == 4

    def below(run_id: str) -> list[Any]:
        return list(
            store.search_runs(
                [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
            )
        )

    cells = {run.data.tags["rosita.cell"]: run for run in below(parent.info.run_id)}
    assert sorted(cells) == sorted(CELLS)
    for cell in document["cells"]:
        found = cells[cell["cell"]]
        assert found.info.run_id == cell["mlflow_run_id"]
        assert found.info.status == "FINISHED"
        assert found.data.tags["rosita.grid"] == "smoke-grid"
        assert found.data.params["axis.kd_setting"] == cell["labels"]["kd_setting"]
        assert found.data.params["seed"] == str(cell["seed"])
        assert found.data.metrics["score"] == cell["score"]
        stages = {run.data.tags["rosita.stage"]: run for run in below(found.info.run_id)}
        assert set(stages) == {stage["name"] for stage in cell["stages"]}
    assert not store.search_registered_models()

    with get_client(sync_client=True) as client:
        names = {flow_run.name for flow_run in client.read_flow_runs()}
        flow_run = ArtifactFilterFlowRunId(any_=[UUID(document["run_id"])])
        shown = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=flow_run))
    found = {artifact.key: artifact for artifact in shown}
    assert {"smoke-grid", *(f"smoke-grid/{cell}" for cell in CELLS)} <= names
    assert [row["cell"] for row in json.loads(found["rosita-grid"].data)] == CELLS
    assert found["rosita-grid-report"].data.startswith("# Report of smoke-grid")
    image = found["rosita-grid-time-per-stage"].data
    assert base64.b64decode(image.partition("base64,")[2]).startswith(b"\x89PNG")


def test_cells_are_remembered(grid_home: GridHome) -> None:
    for cell in grid_home.finished.document["cells"]:
        document = read_cell(grid_home.home, "smoke-grid", cell["cell"])
        assert document is not None
        assert document["status"] == "finished"
        assert document["run_id"] == cell["run_id"]
        assert document["recipe"]["kd_setting"] == cell["labels"]["kd_setting"]
        assert document["versions"]["torch"]
        for stage in document["stages"]:
            assert Store(grid_home.home).verify(stage["artifact"]) is None
            assert set(stage) == {"name", "key", "artifact", "seconds", "attempt", "cached"}
    assert not list((grid_home.home / "grids" / "smoke-grid" / "running").iterdir())


def test_plan_estimates_from_attempts_and_writes_nothing(grid_home: GridHome) -> None:
    before = everything(grid_home.home)
    longer = ("--set=width.epochs=3", "--plan", "--json")
    done = rosita(*SMOKE, *longer, home=grid_home.home)
    assert done.code == 0, done.stderr
    plan = done.document
    missing = {stage["id"]: stage for stage in plan["stages"] if stage["status"] != "cached"}
    names = Counter(stage["name"] for stage in missing.values())
    assert names == {"one-step": 2, "width": 2, "assess": 4, "export": 4}
    assert (plan["distinct_stages"], plan["cached"]) == (21, 9)
    assert plan["stages_without_estimate"] == 0
    assert plan["seconds"] == pytest.approx(sum(s["seconds"] for s in missing.values()))
    records = {r["number"]: r for r in attempts(grid_home.home, "width") if "result" in r}
    for stage in missing.values():
        if stage["name"] == "width":
            assert stage["estimate"].startswith("attempt ")
            number = int(stage["estimate"].split()[1])
            result = records[number]["result"]
            # Three times the epochs.
            steps = 3 * result["metrics"]["steps"]
            assert stage["seconds"] == pytest.approx(
                result["seconds"] / result["metrics"]["steps"] * steps, rel=0.1
            )
    shown = rosita(*SMOKE, *longer[:2], "--max-cells", "1", home=grid_home.home)
    assert "1 cells, 6 distinct stages, 3 of them cached; about" in shown.stdout
    assert everything(grid_home.home) == before


def test_estimate_is_the_schedule_of_what_was_measured(grid_home: GridHome) -> None:
    before = everything(grid_home.home)
    longer = (*SMOKE, "--set=width.epochs=3", "--estimate", "--json")
    documents = {}
    for gpus in (1, 2, 16):
        done = rosita(*longer, "--gpus", str(gpus), home=grid_home.home)
        assert done.code == 0, done.stderr
        documents[gpus] = done.document
    one, two, many = documents.values()
    total = sum(stage["seconds"] for stage in one["stages"])
    names = Counter(stage["name"] for stage in one["stages"])
    assert names == {"one-step": 2, "width": 2, "assess": 4, "export": 4}
    assert (one["distinct_stages"], one["cached"], one["complete"]) == (21, 9, True)
    assert one["seconds"] == pytest.approx(total)
    assert one["at_least_seconds"] == pytest.approx(total)
    assert [s["name"] for s in one["critical_path"]["stages"]][-2:] == ["assess", "export"]
    path = one["critical_path"]["seconds"]
    assert path == pytest.approx(sum(s["seconds"] for s in one["critical_path"]["stages"]))
    # Four chains of three stages that share nothing.
    assert many["seconds"] == pytest.approx(path)
    assert max(path, total / 2) <= two["seconds"] + 1e-6 <= total
    for document in documents.values():
        assert document["gpu_hours"] == pytest.approx(total / 3600)
        assert document["unknown"] == []
    trained = next(stage for stage in one["stages"] if stage["name"] == "width")
    assert trained["seconds"] == pytest.approx(trained["seconds_each"] * trained["units"])
    assert (trained["unit"], trained["estimate"].split()[0]) == ("step", "attempt")
    assert one["measured_on"][0].startswith("cpu: ")

    shown = rosita(*longer[:-1], "--gpus", "2", home=grid_home.home).stdout
    assert "critical path:" in shown and "-> assess -> export" in shown
    assert "at the speed of cpu: " in shown and "no GPU has been measured here" in shown
    cached = rosita(*SMOKE, "--estimate", home=grid_home.home).stdout
    assert "21 of them cached; nothing to compute." in cached
    assert everything(grid_home.home) == before


def test_estimate_with_a_stage_that_never_ran_is_a_lower_bound(
    grid_home: GridHome, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(grid_home.home, home)
    for path in (home / "attempts" / "width").glob("*.json"):
        path.unlink()
    arguments = (*SMOKE, "--set=width.epochs=3", "--estimate", "--gpus", "2")
    cost = rosita(*arguments, "--json", home=home).document
    assert (cost["complete"], cost["seconds"], cost["gpu_hours"]) == (False, None, None)
    why = "width has not run here on this model"
    assert cost["unknown"] == [{"name": "width", "count": 2, "why": why}]
    known = [stage for stage in cost["stages"] if stage["seconds"] is not None]
    assert Counter(s["name"] for s in known) == {"one-step": 2, "assess": 4, "export": 4}
    assert cost["at_least_gpu_hours"] == pytest.approx(sum(s["seconds"] for s in known) / 3600)
    assert cost["at_least_seconds"] > 0
    assert {stage["start"] for stage in cost["stages"]} == {None}
    shown = rosita(*arguments, home=home).stdout
    assert f"unknown:          2 of width: {why}" in shown
    assert "time:             at least" in shown


def test_estimate_of_what_has_never_run_is_unknown_and_mistakes_are_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = rosita(*SMOKE, "--estimate", "--json", home=home)
    assert (done.code, done.document["measured_on"]) == (0, [])
    assert done.document["at_least_gpu_hours"] == 0
    assert sum(entry["count"] for entry in done.document["unknown"]) == 21
    for options, said in (
        (("--gpus", "2"), "gpus must be left out unless --estimate is given, got 2"),
        (("--estimate", "--gpus", "0"), "gpus must be at least 1, got 0"),
        (("--estimate", "--plan"), "plan and estimate must not be asked for at once, got both"),
    ):
        wrong = rosita(*SMOKE, *options, home=home)
        assert wrong.code == 2
        assert wrong.stderr.strip() == f"rosita: {said}"
    assert not home.exists()


def test_plan_of_what_has_never_run_says_unknown(tmp_path: Path) -> None:
    done = rosita("grid", "--grid", "smoke-grid", "--plan", "--json", home=tmp_path / "home")
    assert done.document["seconds"] is None
    assert done.document["stages_without_estimate"] == done.document["distinct_stages"] == 21
    assert not (tmp_path / "home").exists()


def grid_file(folder: Path, axes: dict[str, Any], seeds: list[int]) -> str:
    fields = dict(change.split("=", 1) for change in QUICK)
    settings = {name: yaml.safe_load(value) for name, value in fields.items()}
    path = folder / "mine.yaml"
    values = {"base": "smoke", "set": settings, "axes": axes, "seeds": seeds}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(path)


def test_failed_cell_stops_no_other(copied: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("the 0.1 0.2\nfilm 0.1\n", encoding="utf-8")
    axes = {
        "vectors": {
            "bad": {"augment.proposers.vectors": str(vectors)},
            "good": {},
        }
    }
    path = grid_file(tmp_path, axes, [42])
    done = rosita("grid", "--grid", path, "--set=kd_setting=1", "--json", home=copied)
    assert done.code == 1
    bad, good = done.document["cells"]
    assert (bad["cell"], bad["status"]) == ("bad-s42", "failed")
    assert "stage augment failed in attempt" in bad["error"]
    assert (good["cell"], good["status"]) == ("good-s42", "finished")
    assert done.document["stages"]["computed"] == 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith("rosita: 1 of 2 cells of grid mine failed, first bad-s42: stage augment")
    assert "cell 1/2 bad-s42: failed: stage augment" in done.stderr

    records = collect(copied, "mine")
    assert list(records.cells["cell"]) == ["mine/good-s42"]
    assert list(records.grid["missing"]) == ["mine/bad-s42"]
    assert set(records.grid["recipes"]) == {"mine/good-s42", "mine/bad-s42"}
    assert str(tmp_path) not in json.dumps(records.grid)

    vectors.write_text("the 0.1 0.2\nfilm 0.1 0.3\nstory 0.1 0.2\n", encoding="utf-8")
    again = rosita(
        "grid", "--grid", path, "--set=kd_setting=1", "--only", "bad", "--json", home=copied
    )
    assert again.code == 0, again.stderr
    assert again.document["stages"] == {"distinct": 6, "computed": 4}
    assert collect(copied, "mine").grid["missing"] == {}


def test_several_processes_run_each_stage_once_and_save_when_stopped(
    copied: Path, tmp_path: Path
) -> None:
    before = {(r["stage"], r["number"]) for r in made(copied)}
    flag = tmp_path / "flag"
    hold = {"do": "hold", "stage": "width", "call": 4, "flag": str(flag)}
    arguments = (*SMOKE, "--seeds", "44", "--workers", "2")
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            **command(copied, *arguments, faults=[hold]), stdout=said, stderr=said
        )
        wait_for(lambda: flag.with_name("flag.reached").exists(), process)
        process.terminate()
        # The process of the cell has to have heard of it before its training goes on.
        wait_for(lambda: "SIGTERM: saving" in (tmp_path / "said").read_text(), process)
        flag.touch()
        code = process.wait(SECONDS)
    said_text = (tmp_path / "said").read_text(encoding="utf-8")
    assert code == 128 + signal.SIGTERM, said_text
    assert "4-s44: interrupted" in said_text
    assert "Traceback" not in said_text
    assert attempts(copied, "width")[-1]["status"] == "interrupted"

    done = rosita(*SMOKE, "--seeds", "44", "--workers", "2", "--json", home=copied)
    assert done.code == 0, done.stderr
    made_now = [r for r in made(copied) if (r["stage"], r["number"]) not in before]
    new = [r for r in made_now if r["status"] == "completed"]
    assert len({r["pid"] for r in made_now}) > 2
    assert os.getpid() not in {r["pid"] for r in made_now}
    assert attempts(copied, "width")[-1]["resumed_from"] == 4
    # Teacher and augmentation are wanted by both cells at the same time.
    assert len(new) == len({r["key"] for r in new}) == 10
    assert done.document["stages"]["distinct"] == 11
    cells = done.document["cells"]
    assert [(cell["cell"], cell["status"]) for cell in cells] == [
        ("1-s44", "finished"),
        ("4-s44", "finished"),
    ]


def wait_for(moment: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for what must come before the process ends."""
    deadline = time.monotonic() + SECONDS
    while not moment():
        assert process.poll() is None, f"ended with {process.returncode} too early"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def test_records_are_what_the_runs_measured(grid_home: GridHome, tmp_path: Path) -> None:
    home = grid_home.home
    records = collect(home, "smoke-grid")
    save(records, tmp_path / "records")
    kept = load(tmp_path / "records")
    assert kept.grid == records.grid
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(kept, name), getattr(records, name))
    assert sum(path.stat().st_size for path in (tmp_path / "records").iterdir()) < 200_000

    document = grid_home.finished.document
    cells = kept.cells.set_index("cell")
    assert sorted(cells.index) == sorted(f"smoke-grid/{cell}" for cell in CELLS)
    known = set(cells.index)
    for cell in document["cells"]:
        name = f"smoke-grid/{cell['cell']}"
        row = cells.loc[name]
        path = home / "runs" / cell["run_id"] / "summary.json"
        summary = json.loads(path.read_text(encoding="utf-8"))
        assert row["score"] == row["metric.accuracy"] == summary["student"]["score"]
        assert row["axis.kd_setting"] == row["kd_setting"] == cell["labels"]["kd_setting"]
        assert row["params"] == summary["student"]["params"]
        assert row["teacher_latency_ms_p50_b32"] == summary["teacher"]["latency_ms_p50_b32"]
        mine = kept.predictions[kept.predictions["cell"] == name]
        assert (mine["label"] == mine["prediction"]).mean() == pytest.approx(row["score"])
        stages = kept.stages[kept.stages["cell"] == name].set_index("stage")
        assert dict(stages["key"]) == {s["name"]: s["key"] for s in cell["stages"]}
        teacher = f"teacher:{stages.loc['teacher', 'key']}"
        known.add(teacher)
        theirs = kept.predictions[kept.predictions["cell"] == teacher]
        right = (theirs["label"] == theirs["prediction"]).mean()
        assert right == pytest.approx(row["teacher_score"])
        assessed = read_assessment(Store(home).path(stages.loc["assess", "artifact"]))
        assert len(mine) == len(theirs) == len(assessed.labels["dev"])
    assert set(kept.predictions["cell"]) == known

    for key, curve in kept.curves.groupby("key"):
        (stage,) = set(curve["stage"])
        assert stage in ("teacher", "student", "depth", "width", "one-step")
        loss = curve[curve["name"] == "train/loss"]
        assert loss["step"].is_monotonic_increasing
        assert loss["step"].is_unique, key
        assert loss["value"].notna().all()
    # The stage that was killed has its whole curve.
    widths = kept.curves[(kept.curves["stage"] == "width") & (kept.curves["name"] == "train/loss")]
    assert widths.groupby("key")["step"].max().nunique() == 1
    pruned = [from_json([json.loads(text)])[0] for text in kept.prunes["record"]]
    assert {record.shape for record in pruned} >= {"a2_l2_f32_e8"}
    assert set(kept.prunes["stage"]) == {"depth", "width", "one-step"}
    assert str(home) not in (tmp_path / "records" / "grid.json").read_text(encoding="utf-8")


def test_records_that_cannot_be_had(grid_home: GridHome, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"grid must be one that has run in .* \(smoke-grid\)"):
        collect(grid_home.home, "other")
    with pytest.raises(ValueError, match=r"records must hold cells\.parquet, got none in"):
        load(tmp_path)


def test_a_changed_grid_leaves_out_what_it_measured_before(
    grid_home: GridHome, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(grid_home.home / "grids", home / "grids")
    path = home / "grids" / "smoke-grid" / "definition.json"
    definition = json.loads(path.read_text(encoding="utf-8"))
    definition["set"]["width.epochs"] = 2
    path.write_text(json.dumps(definition), encoding="utf-8")
    with pytest.raises(ValueError, match="grid must have a finished cell to be recorded"):
        collect(home, "smoke-grid")
