"""`flows.api` as a notebook uses it: inside a running event loop, on the homes of the commands."""

from __future__ import annotations

import copy
import inspect
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect_server import PrefectServer
from typed_command import Home, environment

import flows.api
from flows.api import compress, grid, load
from flows.recipes.shipped import RECIPES

ROOT = Path(__file__).parents[2]
TEXTS = ["A quiet, moving film.", "what?"]
NOTEBOOK = """
import asyncio, json

async def cell():
    from flows.api import compress, grid, load

    changes = {"width.keep_heads": 1, "assess.latency_repeats": 2}
    summary = compress("smoke", changes)
    try:
        compress("smoke", {"width.keep_heads": 5})
    except ValueError as error:
        refusal = str(error)
    answers = load().predict(%r)
    values = {"name": "one", "base": "smoke", "axes": {"kd_setting": ["4"]}, "seeds": [42]}
    cells = grid(values, changes)
    return {
        "summary": summary,
        "refusal": refusal,
        "answers": answers.to_dict(orient="records"),
        "cells": cells,
    }

print(json.dumps(asyncio.run(cell())))
"""


def python(text: str, home: Home, prefect: PrefectServer) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, where nothing has been imported yet."""
    return subprocess.run(
        [sys.executable, "-c", text],
        env=environment(home.home, prefect.home, {"PREFECT_API_URL": prefect.api}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def in_home(smoke_home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The smoke home, which nothing here writes into."""
    monkeypatch.setenv("ROSITA_HOME", str(smoke_home.home))
    return smoke_home


def test_the_public_names() -> None:
    assert flows.api.__all__ == ["compress", "grid", "load"]
    for name in flows.api.__all__:
        function = getattr(flows.api, name)
        assert inspect.isfunction(function), name
        assert function.__module__ == "flows.api"
        assert "Raises:" in (function.__doc__ or ""), name


def test_a_notebook_compresses_loads_and_runs_a_grid(
    copied_home: Home, prefect: PrefectServer
) -> None:
    done = python(NOTEBOOK % TEXTS, copied_home, prefect)
    assert done.returncode == 0, done.stderr[-3000:]
    made: dict[str, Any] = json.loads(done.stdout)
    summary = made["summary"]
    assert summary["student"]["shape"] == "a1_l2_f32_e8"
    ran = {stage["name"]: stage["status"] for stage in summary["stages"]}
    assert [name for name, status in ran.items() if status == "completed"] == [
        *("width", "assess", "export")
    ]
    path = copied_home.home / "runs" / summary["run_id"] / "summary.json"
    assert json.loads(path.read_text(encoding="utf-8")) == summary
    assert made["refusal"] == "width.keep_heads must be in [1, 4] for a4_l2_f128_e32, got 5"
    # The command line sees what the notebook made, and answers alike.
    typed = copied_home.run(
        "predict", "--model", summary["run_id"], "--json", stdin="\n".join(TEXTS)
    )
    assert json.loads(typed.stdout)["predictions"] == made["answers"]
    (cell,) = made["cells"]["cells"]
    assert (cell["status"], cell["params"]) == ("finished", summary["student"]["params"])
    assert made["cells"]["stages"]["computed"] == 0


def test_the_environment_is_prepared_before_anything_heavy_is_imported(
    smoke_home: Home, prefect: PrefectServer
) -> None:
    text = """
import os, sys, flows.api
print(os.environ["GOMP_SPINCOUNT"], os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"])
print(sorted({"torch", "prefect", "mlflow", "transformers", "pandas"} & set(sys.modules)))
"""
    done = python(text, smoke_home, prefect)
    assert done.stdout.splitlines() == ["10000 CRITICAL", "[]"], done.stderr


def test_a_loaded_model_has_its_parts_and_answers(in_home: Home) -> None:
    loaded = load(in_home.summary["run_id"], threads=1)
    assert loaded.model.num_parameters() == in_home.summary["student"]["params"]
    assert loaded.tokenizer("a film")["input_ids"]
    answers = loaded.predict(TEXTS, batch_size=1)
    assert answers["prediction"].isin(loaded.labels).all()
    newest = load(Path(in_home.summary["export_dir"]), threads=1).predict(tuple(TEXTS))
    assert newest["probability"].tolist() == pytest.approx(answers["probability"].tolist())


def test_wrong_texts_are_refused(in_home: Home) -> None:
    loaded = load(threads=1)
    for call, message in (
        (lambda: loaded.predict("a film"), "texts must be a list of texts, got 'a film'"),
        (lambda: loaded.predict(["a", 3]), r"texts must be a list of texts, got \['a', 3\]"),
        (lambda: loaded.predict([]), "texts must hold at least 1 text, got none"),
        (lambda: loaded.predict(["a", " "]), "texts must not be empty, got ' ' as text 2"),
        (lambda: loaded.predict(["a"], ["b"]), "texts_b must be left out for a model of texts"),
        (lambda: loaded.predict(["a"], ["b", "c"]), "texts_b must be as many as texts, 1, got 2"),
        (lambda: loaded.predict(["a"], max_length=2), r"max_length must be in \[4, 512\]"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (
            "smokey",
            {},
            "recipe must be one of smoke, .* or a YAML, TOML or JSON file, got 'smokey'",
        ),
        ("smoke", {"width.kep_heads": 2}, "width.kep_heads must be one of the fields of width"),
        ("smoke", ["width.keep_heads"], "--set must be field=value, got 'width.keep_heads'"),
        ({"base": "smokey"}, {}, "base must be a shipped recipe, got 'smokey'"),
        (
            {"base": "smoke", "width": {"keep_heads": 5}},
            {},
            r"width.keep_heads must be in \[1, 4\]",
        ),
        ({"task": "sst2"}, {}, "teacher must be given, got nothing"),
    ],
)
def test_wrong_recipes_are_refused_and_nothing_is_written(
    recipe: Any, changes: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("ROSITA_HOME", str(home))
    with pytest.raises(ValueError, match=message):
        compress(recipe, changes)
    assert not home.exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"grid": "kd-settings"}, "recipe must be given for grid kd-settings"),
        ({"grid": "smoke-grid", "only": ["nothing"]}, "only must be a cell of grid smoke-grid"),
        ({"grid": "smoke-grid", "max_cells": 0}, "max_cells must be at least 1, got 0"),
        ({"grid": {"base": "smoke"}}, "name must be given, got nothing"),
        ({"grid": {"name": "g", "base": "smoke", "axes": {}}, "recipe": "demo"}, "left out"),
    ],
)
def test_wrong_grids_are_refused_and_nothing_is_written(
    call: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("ROSITA_HOME", str(home))
    with pytest.raises(ValueError, match=message):
        grid(**call)
    assert not home.exists()


def test_a_mapping_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROSITA_HOME", str(tmp_path / "home"))
    given = RECIPES["smoke"]().model_dump(mode="json")
    before = copy.deepcopy(given)
    with pytest.raises(ValueError, match="keep_heads"):
        compress(given, {"width.keep_heads": 5})
    assert given == before


@pytest.mark.usefixtures("in_prefect")
def test_a_run_that_somebody_waits_for_has_no_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a deployment would end it without a checkpoint."""
    monkeypatch.setenv("ROSITA_HOME", str(tmp_path))

    @flow(timeout_seconds=0.2)
    def slow() -> str:
        time.sleep(0.6)
        return "done"

    assert flows.api.run_prepared(None, slow, {}, ()) == "done"
