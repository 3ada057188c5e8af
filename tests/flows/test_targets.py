"""Which trainings read a teacher that was computed once, who shares it, and what it costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import rosita
from compressions import TINY, artifact, cached_home, compressed, status
from refusals import refused
from typed_command import Home

from flows.engine.graph import Graph, graph_of
from flows.engine.nodes import numerics_of
from flows.engine.preflight.flight import preflight
from flows.method import Node, method
from flows.recipes.request import check
from flows.recipes.shipped import load_recipe
from rosita_core.stages.targets import TargetsSettings
from tasks.cache.metric_history import observations
from tasks.store.artifacts import Store

TWICE = "width.epochs=2"


def nodes(*changes: str, recipe: str = "smoke") -> dict[str, Node]:
    return {
        one.name: one for one in method(check(load_recipe(recipe, changes), Path("/home/none")))
    }


def targets(*changes: str, recipe: str = "smoke") -> dict[str, TargetsSettings]:
    """The stages of a recipe that keep a teacher's outputs, by the training that reads them."""
    found = nodes(*changes, recipe=recipe)
    kept = {name: one.config for name, one in found.items() if "targets" in name}
    readers = {
        one.inputs["targets"]: name for name, one in found.items() if "targets" in one.inputs
    }
    assert readers.keys() == kept.keys()
    for name, training in readers.items():
        assert name == f"{training}-targets"
        for role in ("data", "rows", "teacher"):
            assert found[name].inputs[role] == found[training].inputs[role]
    return {readers[name]: settings for name, settings in kept.items()}


@pytest.mark.parametrize(
    ("changes", "states"),
    [
        ((), {}),
        (("width.epochs=1.5",), {}),
        (("width.epochs=1.6",), {"width": (0, 1, 2)}),
        (("student.epochs=2", "depth.epochs=2"), {"student": (), "depth": ()}),
        # Of four layers, then three, then two.
        (("depth.epochs=2", "depth.hidden=states"), {"depth": (0, 1, 2, 3, 4)}),
        ((TWICE, "kd_setting=3"), {"width": (0, 2, 4)}),
        ((TWICE, "kd_setting=2"), {"one-step": (0, 2, 4)}),
        ((TWICE, "kd_setting=1", "width.hidden=none"), {"one-step": ()}),
        ((TWICE, "kd_setting=none"), {}),
        ((TWICE, "method=taylor", "compress.recover=kd"), {"recover": (0, 1, 2, 3, 4)}),
        ((TWICE, "method=taylor", "compress.recover=labels"), {}),
        ((TWICE, "kd.cache=none"), {}),
        # Predictions alone do not spare the teacher where states are learned.
        ((TWICE, "student.epochs=2", "kd.cache=predictions"), {"student": ()}),
        ((TWICE, "student.epochs=2", "kd.cache=states"), {"student": (), "width": (0, 1, 2)}),
        # A teacher that says something else each time, and losses on padding, which is not kept.
        ((TWICE, "student.epochs=2", "fidelity.teacher_dropout=true"), {}),
        ((TWICE, "student.epochs=2", "fidelity.hidden_on_padding=true"), {"student": ()}),
    ],
)
def test_what_is_kept_for_whom(
    changes: tuple[str, ...], states: dict[str, tuple[int, ...]]
) -> None:
    assert {name: one.states for name, one in targets(*changes).items()} == states


def test_a_bound_holds_for_states_of_auto_alone() -> None:
    assert targets(TWICE)["width"].most_gb == 8.0
    assert targets(TWICE, "kd.cache_gb=2")["width"].most_gb == 2.0
    assert targets(TWICE, "kd.cache=states", "kd.cache_gb=2")["width"].most_gb is None
    # A bound that does not matter is in no key.
    assert targets("student.epochs=2", "kd.cache_gb=2")["student"].most_gb is None


def test_recipes_that_ship_keep_what_they_ask_often_for() -> None:
    assert targets(recipe="demo").keys() == {"width"}
    assert targets(recipe="minilm-sst2").keys() == {"width"}


def test_without_it_the_stages_are_those_of_before() -> None:
    never, kept = nodes(TWICE, "kd.cache=none"), nodes(TWICE)
    width = kept["width"]
    assert never["width"].config == width.config
    assert never["width"].inputs | {"targets": "width-targets"} == width.inputs
    assert [one for one in kept if one != "width-targets"] == list(never)
    assert all(never[name] == kept[name] for name in never if name != "width")


def shared(*cells: tuple[str, ...]) -> Graph:
    home = Path("/home/none")
    return graph_of(
        {
            str(number): check(load_recipe("smoke", (TWICE, *changes)), home)
            for number, changes in enumerate(cells)
        }
    )


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        (("width.learning_rate=2e-3",), True),
        (("width.prune_fraction=0.1",), True),
        (("width.keep_heads=1", "width.ffn_units=16"), True),
        (("width.epochs=3", "width.batch_size=8", "width.temperature=2"), True),
        (("seed=7",), False),
        (("depth.learning_rate=2e-3",), False),
        (("width.max_length=32",), False),
        (("augment.copies=2",), False),
        (("fidelity.relu_teacher_head=true",), False),
    ],
)
def test_cells_with_one_teacher_and_its_rows_share_what_it_says(
    changes: tuple[str, ...], same: bool
) -> None:
    graph = shared((), changes)
    ids = {cell["width-targets"] for cell in graph.cells.values()}
    assert len(ids) == (1 if same else 2)
    assert len({cell["width"] for cell in graph.cells.values()}) == 2


def test_wrong_values_are_refused(tmp_path: Path) -> None:
    for change, said in {
        "kd.cache=all": "kd.cache must be auto, none, predictions or states, got 'all'",
        "kd.cache_gb=0": "kd.cache_gb must be above 0, got 0",
    }.items():
        asked = ("--recipe", "smoke", "--set", change)
        assert refused(tmp_path / "home", *asked, command="plan") == said


@pytest.fixture(scope="module")
def warm(smoke_home: Home, mlflow_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the cache of the smoke run and an MLflow store of its own."""
    return cached_home(smoke_home.home, tmp_path_factory.mktemp("warm") / "home", mlflow_tables)


@pytest.fixture(scope="module")
def kept_run(warm: Path, in_prefect: None) -> dict[str, Any]:
    """A run whose width reads a teacher that was computed once."""
    return compressed(warm, "smoke", TWICE, *TINY)


def plan_of(home: Path, *changes: str) -> dict[str, Any]:
    sets = [f"--set={change}" for change in changes]
    done = rosita("plan", "--recipe", "smoke", *sets, "--json", home=home)
    assert done.code == 0, done.stderr
    return dict(done.document)


def losses(home: Path, summary: dict[str, Any]) -> np.ndarray:
    stage = next(one for one in summary["stages"] if one["name"] == "width")
    paths = (home / "attempts" / "width").glob("*.json")
    made = [json.loads(path.read_text()) | {"number": int(path.stem)} for path in paths]
    number = next(one["number"] for one in made if one["key"] == stage["key"])
    seen = observations(home, "width", number, stage["key"])
    values = [line["metrics"] for line in seen if "train/loss" in line["metrics"]]
    return np.array([[one["train/loss"], one["train/loss_hidden"]] for one in values])


def test_a_run_reads_what_was_kept_and_its_losses_are_the_same(
    warm: Path, kept_run: dict[str, Any], in_prefect: None
) -> None:
    assert list(status(kept_run)) == [
        *("data", "teacher", "augment", "student", "depth", "width-targets", "width"),
        *("assess", "export"),
    ]
    online = compressed(warm, "smoke", TWICE, "kd.cache=none", *TINY)
    assert "width-targets" not in status(online)
    ours, theirs = losses(warm, kept_run), losses(warm, online)
    assert len(ours) == len(theirs) > 3
    assert not np.array_equal(ours, theirs)
    np.testing.assert_allclose(ours, theirs, rtol=2e-3)


def test_a_plan_says_how_large_it_is_before_and_after(
    warm: Path, kept_run: dict[str, Any], in_prefect: None
) -> None:
    (after,) = plan_of(warm, TWICE)["keeping"]
    (before,) = plan_of(warm, TWICE, "student.learning_rate=3e-3")["keeping"]
    assert (after["stage"], after["measured"], before["measured"]) == ("width-targets", True, False)
    folder = Store(warm).path(artifact(kept_run, "width-targets"))
    on_disk = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e6
    assert after["megabytes"] == pytest.approx(on_disk, rel=0.02)
    assert before["megabytes"] == pytest.approx(on_disk, rel=0.1)
    lines = rosita("plan", "--recipe", "smoke", "--set", TWICE, home=warm).stdout
    assert f"width-targets keeps {after['megabytes']:,.1f} MB of its teacher's outputs." in lines
    # Rows of what is kept take time, and steps less of it than where the teacher computes.
    estimated = {
        one["name"]: one["estimated_seconds"]
        for one in plan_of(warm, TWICE, "width.learning_rate=3e-3")["stages"]
    }
    made = {one["name"]: one["seconds"] for one in kept_run["stages"]}
    assert estimated["width"] == pytest.approx(made["width"])
    small = ("--set", TWICE, "--set", "kd.cache_gb=0.001")
    lines = rosita("plan", "--recipe", "smoke", *small, home=warm).stdout
    assert "more than kd.cache_gb 0.001: nothing is kept." in lines


def test_what_is_too_large_is_computed_as_before(warm: Path, in_prefect: None) -> None:
    summary = compressed(warm, "smoke", TWICE, "kd.cache_gb=0.001", *TINY)
    assert status(summary)["width-targets"] == "completed"
    online = compressed(warm, "smoke", TWICE, "kd.cache=none", *TINY)
    assert artifact(summary, "width") == artifact(online, "width")


def test_a_damaged_file_is_a_miss(
    warm: Path, kept_run: dict[str, Any], tmp_path: Path, in_prefect: None
) -> None:
    home = tmp_path / "home"
    shutil.copytree(warm, home)
    digest = artifact(kept_run, "width-targets")
    path = next(Store(home).path(digest).glob("*.safetensors"))
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    stages = {one["name"]: one for one in plan_of(home, TWICE)["stages"]}
    assert stages["width-targets"]["status"] == "to run"
    assert path.name in stages["width-targets"]["reason"]
    again = compressed(home, "smoke", TWICE, *TINY)
    assert (status(again)["width-targets"], status(again)["width"]) == ("completed", "cached")
    assert artifact(again, "width-targets") == digest


def test_a_preflight_keeps_what_is_said_of_its_own_rows(
    warm: Path, kept_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the real outputs are cached, too: they are of other rows."""
    monkeypatch.setenv("ROSITA_HOME", str(warm))
    recipe = load_recipe("smoke", (TWICE, "width.learning_rate=3e-3", *TINY))
    report = preflight.fn(check(recipe, warm), numerics_of(recipe))
    assert "width" in report.stages and "width-targets" not in report.stages


def test_the_stage_is_run_again_by_its_name(
    warm: Path, kept_run: dict[str, Any], in_prefect: None
) -> None:
    sets = [f"--set={change}" for change in (TWICE, *TINY)]
    done = rosita("rerun", "width-targets", "--recipe", "smoke", *sets, "--json", home=warm)
    assert done.code == 0, done.stderr
    again = done.document
    assert status(again)["width-targets"] == "completed"
    assert artifact(again, "width-targets") == artifact(kept_run, "width-targets")
    assert status(again)["width"] == "cached"
    said = rosita("explain", "width-targets", "--recipe", "smoke", *sets, home=warm)
    assert "width-targets of recipe smoke: cached" in said.stdout
