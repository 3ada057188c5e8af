"""The gate of a recipe: a weak teacher makes no student, and a weak student is not registered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import rosita
from compressions import cached_home, compressed
from grid_homes import SMOKE
from typed_command import Home

from flows.engine.checks import prepare_request
from flows.engine.gate import weak_teacher
from flows.recipes.request import Request
from flows.recipes.shipped import RECIPES, load_recipe
from rosita_core.data.task_spec import GLUE
from rosita_core.measuring.weakness import weakness
from tasks.cache.records import StageResult
from tasks.store.artifacts import Store

pytestmark = pytest.mark.usefixtures("in_prefect")

STOP = "gate.weak_teacher=stop"
WEAK = "the teacher is not better than chance: its accuracy on 256 selection rows is 0.4961"


@pytest.fixture
def warm(smoke_home: Home, mlflow_tables: Path, tmp_path: Path) -> Path:
    """A home with everything of the smoke run cached, whose teacher is weak."""
    return cached_home(smoke_home.home, tmp_path / "home", mlflow_tables)


def test_a_weak_teacher_is_said_first_and_last(smoke_home: Home, warm: Path) -> None:
    assert smoke_home.summary["gate"]["weak_teacher"].startswith(WEAK)
    done = rosita("compress", "--recipe", "smoke", home=warm)
    assert done.code == 0, done.stderr
    [first] = [line for line in done.stderr.splitlines() if WEAK in line]
    assert first.startswith("rosita: ")
    assert done.stderr.index(first) < done.stderr.index("augment: cached")
    told, _, _ = done.stdout.partition("\n\nnext:\n")
    assert told.splitlines()[-1].startswith(WEAK)


def test_it_makes_no_student_unless_the_recipe_says_so(warm: Path) -> None:
    done = rosita("compress", "--recipe", "smoke", "--set", STOP, "--json", home=warm)
    assert (done.code, done.stdout) == (1, "")
    said = done.stderr.splitlines()
    assert said[-1].startswith(f"rosita: recipe smoke stops after its stage teacher: {WEAK}")
    assert said[-1].endswith("gate.weak_teacher=warn goes on all the same")
    assert not [line for line in said if "augment" in line]
    # The gate is in no key: the teacher was taken from the cache.
    assert [line for line in said if line.endswith("teacher: cached")]
    assert RECIPES["demo"]().gate.weak_teacher == "stop"


def test_a_grid_heeds_the_gate(warm: Path) -> None:
    done = rosita(*SMOKE, f"--set={STOP}", "--only", "4-s42", home=warm)
    assert done.code == 1, done.stderr
    assert "stops after its stage teacher: the teacher is not better than chance" in done.stderr


@pytest.mark.parametrize(("least", "registered"), [(0.5, True), (1.5, False)])
def test_a_student_below_the_gate_is_not_registered(
    least: float, registered: bool, warm: Path
) -> None:
    summary = compressed(warm, "smoke", f"gate.retention={least}")
    assert {stage["status"] for stage in summary["stages"]} == {"cached"}
    assert (summary["registered_model"] is not None) is registered
    said = summary["gate"]["not_registered"]
    if registered:
        assert said is None
    else:
        assert said == (
            f"the student is not registered: it keeps {100 * summary['retention']:.1f} % of the "
            "teacher's accuracy, and gate.retention asks for 150.0 %"
        )


def test_a_student_without_a_use_is_not_registered(warm: Path) -> None:
    done = rosita("compress", "-r", "smoke", "--set", "gate.weak_student=refuse", home=warm)
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    [place] = [n for n, line in enumerate(lines) if line.startswith("compressed model: ")]
    assert lines[place - 1].startswith(
        "the student is not registered: the student is not better than the most frequent class "
    )
    assert not any(line.startswith("registered as: ") for line in lines)


def judged(request: Request, predicted: np.ndarray, true: np.ndarray, classes: int) -> str | None:
    """What is said of a teacher that answers so on the selection rows."""
    store = Store(request.home)
    found = weakness(request.spec.score, predicted, true, classes)
    with store.workspace() as folder:
        (folder / "selection.json").write_text(json.dumps(found.document()))
        artifact = store.adopt(folder)
    result = StageResult(
        stage="teacher",
        key="0" * 64,
        artifact=artifact,
        metrics={},
        seconds=1.0,
        attempt=1,
        mlflow_run_id=None,
        finished_at="2026-01-01T00:00:00+00:00",
    )
    return weak_teacher(request, result)


def test_what_is_said_of_a_teacher(warm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROSITA_HOME", str(warm))
    request = prepare_request(load_recipe("smoke", ()), download=False)
    true = np.tile([0, 1], 100)
    assert judged(request, true, true, 2) is None
    assert judged(request, 1 - true, true, 2) == (
        "the teacher's classes are mixed up: its accuracy on 200 selection rows would be 1.0000 if "
        "positive meant negative, negative meant positive; teacher.labels says which class is which"
    )


@pytest.mark.parametrize("trained", [True, False])
def test_what_is_said_of_numbers_that_hardly_vary(
    trained: bool, warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROSITA_HOME", str(warm))
    request = prepare_request(load_recipe("smoke", ()), download=False)
    request = replace(request, spec=GLUE["stsb"])
    if not trained:
        teacher = request.recipe.teacher.model_copy(update={"epochs": 0})
        recipe = request.recipe.model_copy(update={"teacher": teacher})
        request = replace(request, recipe=recipe)
    true = np.linspace(0, 5, 200)
    assert judged(request, true / 2, true, 1) is None
    helps = "; more teacher.epochs or a higher teacher.learning_rate may help" if trained else ""
    assert judged(request, true / 1000, true, 1) == (
        "the teacher's answers hardly vary: on 200 selection rows their standard deviation is "
        f"0.1 % of the labels', and at least 5 % is needed{helps}"
    )
    # Of equal ones, and of few rows, there is more to say.
    for said, rows in ((np.full(200, 2.5), true), (true[:1], true[:1])):
        told = judged(request, said, rows, 1)
        assert told is not None and told.startswith("the teacher is not better than chance: ")


def test_wrong_gates(tmp_path: Path) -> None:
    for change, message in (
        ("gate.weak_teacher=maybe", "gate.weak_teacher must be stop or warn, got 'maybe'"),
        ("gate.retention=0", "gate.retention must be above 0, got 0"),
    ):
        done = rosita("plan", "--recipe", "smoke", "--set", change, home=tmp_path / "home")
        assert done.code == 2
        assert message in done.stderr
