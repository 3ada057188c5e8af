"""A stage is added to a copy of the source: one row, a kernel, a task, a place in the method.

Everything that lists stages then knows it: each list is made from the catalogue.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from compressions import NAMES, TINY, cached_home
from source_copy import SourceCopy
from typed_command import Home, RunRosita

from tasks.cache.records import attempts

ADDED = [*NAMES[:6], "narrow", *NAMES[6:]]
ANCHOR = '    *_distilling("one-step",'
ROW = f"""    *_distilling("narrow", "prune heads once more", "prune_narrow", "narrow", "teacher"),
{ANCHOR}"""
KERNEL = '''"""Stage `narrow`: what `width` does, to the model that `width` made."""

from rosita_core.stages.width import WidthSettings, prune_width


def prune_narrow(teacher, settings: WidthSettings, run, kept):
    """A copy of `teacher` with fewer heads, which learns from it."""
    return prune_width(teacher, settings, run, kept)
'''
LAST = "            return (augment, student, depth, width)"
NODE = """            fewer = replace(width.config, keep_heads=1, embedding_rank=4)
            narrow = Node("narrow", fewer, rows | {"teacher": "width"})
            return (augment, student, depth, width, narrow)"""
FORM = "import flows.deployed as d; print(d.rerun.parameters.model_dump_json())"


def with_another_stage(folder: Path) -> SourceCopy:
    """The project with a stage `narrow` between `width` and `assess` in KD setting 4."""
    source = SourceCopy(folder)
    source.edit("tasks/stages/catalogue.py", ANCHOR, ROW)
    source.write("rosita_core/stages/narrow.py", KERNEL)
    task = (folder / "tasks" / "stages" / "prune_width.py").read_text(encoding="utf-8")
    source.write("tasks/stages/prune_narrow.py", task.replace("width", "narrow"))
    source.edit("flows/method.py", LAST, NODE)
    return source


@dataclass(frozen=True)
class Place:
    """A home in which the recipe with the new stage has run once, after its preflight.

    Attributes:
        home: ROSITA_HOME.
        run: `rosita ARGS` with the changed source.
        planned: what `rosita plan` said before, by stage.
        done: the run.
    """

    home: Path
    run: Callable[..., subprocess.CompletedProcess[str]]
    planned: dict[str, dict[str, Any]]
    done: subprocess.CompletedProcess[str]

    @property
    def summary(self) -> dict[str, Any]:
        assert self.done.returncode == 0, self.done.stderr[-3000:]
        document: dict[str, Any] = json.loads(self.done.stdout)
        return document


def recipe(*changes: str) -> tuple[str, ...]:
    return ("--recipe", "smoke", *(f"--set={change}" for change in (*TINY, *changes)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceCopy:
    return with_another_stage(tmp_path_factory.mktemp("source") / "source")


@pytest.fixture(scope="module")
def place(
    smoke_home: Home,
    mlflow_tables: Path,
    source: SourceCopy,
    in_own_process: RunRosita,
    tmp_path_factory: pytest.TempPathFactory,
) -> Place:
    home = cached_home(smoke_home.home, tmp_path_factory.mktemp("added") / "home", mlflow_tables)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return in_own_process(*args, home=home, env={"PYTHONPATH": source.path()})

    planned = json.loads(run("plan", *recipe(), "--json").stdout)
    done = run("compress", *recipe(), "--preflight", "--json")
    return Place(home, run, {stage["name"]: stage for stage in planned["stages"]}, done)


def test_it_is_planned_after_what_it_reads(place: Place) -> None:
    assert list(place.planned) == ADDED
    states = {name: place.planned[name]["status"] for name in ADDED}
    assert (states["width"], states["narrow"], states["assess"]) == ("cached", "to run", "waits")
    assert place.planned["narrow"]["reason"] == "never run"


def test_it_runs_in_preflight_and_in_the_run(place: Place) -> None:
    stages = {stage["name"]: stage["status"] for stage in place.summary["stages"]}
    assert list(stages) == ADDED
    assert [name for name, status in stages.items() if status == "completed"] == ADDED[6:]
    assert place.summary["student"]["shape"] == "a1_l2_f32_e4"
    for begun in ("preflight: narrow: completed", "[7/9] narrow: completed"):
        assert any(line.startswith(begun) for line in place.done.stderr.splitlines()), begun


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A grid of one cell, which is the run of this module."""
    path = tmp_path_factory.mktemp("grid") / "one.yaml"
    values = {name: yaml.safe_load(text) for name, text in (x.split("=", 1) for x in TINY)}
    cells = {"base": "smoke", "set": values, "axes": {"kd_setting": ["4"]}, "seeds": [42]}
    path.write_text(yaml.safe_dump(cells), encoding="utf-8")
    return str(path)


def test_its_time_is_estimated_by_its_steps(place: Place, grid: str) -> None:
    longer = ("--set=width.epochs=3", "--estimate", "--json")
    estimated = json.loads(place.run("grid", "--grid", grid, *longer).stdout)
    narrow = next(stage for stage in estimated["stages"] if stage["name"] == "narrow")
    ran = attempts(place.home, "narrow")[-1]["result"]
    assert (narrow["unit"], narrow["units"]) == ("step", 3 * ran["metrics"]["steps"])
    assert narrow["seconds"] == pytest.approx(3 * ran["seconds"], rel=0.1)


def test_reports_show_it_where_the_method_has_it(place: Place, grid: str, tmp_path: Path) -> None:
    done = place.run("grid", "--grid", grid, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["stages"]["computed"] == 0
    done = place.run("report", "--grid", "one", "--out", str(tmp_path / "report"), "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    table = [row["stage"] for row in json.loads(done.stdout)["tables"]["stages"]]
    assert [name for name in table if name in ADDED] == ADDED
    plots = {path.name for path in (tmp_path / "report" / "plots").iterdir()}
    assert {"stage_times.png", "curves_narrow.png"} <= plots


def test_the_form_of_rerun_offers_it(source: SourceCopy) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORM],
        env=os.environ | {"PYTHONPATH": source.path()},
        cwd=source.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    offered = json.loads(done.stdout)["properties"]["stage"]["enum"]
    assert [name for name in offered if name in ADDED] == ADDED
