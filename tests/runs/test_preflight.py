"""Preflight: a mistake in the last stage shows at once, and nothing of it is left behind."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from broken_vectors import BROKEN_LINE, broken_vectors
from command_line import csv_file, recipe_file, rosita

from flows.engine.checks import prepare_request
from flows.engine.nodes import numerics_of
from flows.engine.preflight import flight as module
from flows.engine.preflight.errors import PreflightError, PreflightRefused
from flows.engine.preflight.flight import AUTOMATIC_STEPS, preflight, preflight_first, steps_left
from flows.engine.preflight.miniature import miniature
from flows.method import method
from flows.recipes.request import Request
from flows.recipes.shipped import load_recipe
from rosita_core.compression.schedule import at_equal_distances
from rosita_core.training.loop import total_steps
from tasks.cache.records import attempts
from tasks.host.one_machine import LOCK
from tasks.store.artifacts import Store

CACHE = ("store", "results", "attempts", "downloads")
STAGES = ("data", "teacher", "augment", "student", "depth", "width", "assess", "export")


@pytest.fixture
def empty(smoke_home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that has nothing but the downloaded sentences."""
    home = tmp_path / "home"
    shutil.copytree(smoke_home.home / "downloads", home / "downloads")
    monkeypatch.setenv("ROSITA_HOME", str(home))
    return home


@pytest.fixture
def warm(smoke_home: Any, empty: Path) -> Path:
    """A home with everything of the smoke run cached."""
    for name in CACHE:
        shutil.copytree(smoke_home.home / name, empty / name, dirs_exist_ok=True)
    return empty


def asked(*changes: str, recipe: str = "smoke") -> Request:
    return prepare_request(load_recipe(recipe, ("numerics.threads=1", *changes)), download=True)


def flown(request: Request) -> Any:
    """The preflight without a Prefect server."""
    return preflight.fn(request, numerics_of(request.recipe))


def files(home: Path) -> set[str]:
    """All but the file whose lock says which machine records here."""
    found = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    return found - {LOCK}


def test_a_preflight_changes_nothing_of_the_run(
    smoke_home: Any, empty: Path, in_prefect: None, mlflow_tables: Path
) -> None:
    shutil.copy(mlflow_tables, empty / "mlflow.db")
    done = rosita("compress", "--recipe", "smoke", "--preflight", home=empty)
    assert done.code == 0, done.stderr
    lines = done.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines if " completed in " in line][:8] == list(STAGES)
    passed = next(i for i, line in enumerate(lines) if line.startswith("preflight: passed in "))
    assert all(line.startswith("preflight: ") for line in lines[:passed])
    assert lines[passed + 1] == "[1/8] data: started"
    assert list((empty / "tmp").iterdir()) == []
    store = Store(empty)
    for stage in smoke_home.summary["stages"]:
        assert len(attempts(empty, stage["name"])) == 1
        # Latencies differ from run to run.
        assert stage["name"] == "assess" or store.verify(stage["artifact"]) is None
    assert len(store.digests()) == 8


def test_a_mistake_in_the_last_stage_shows_first(
    empty: Path, in_prefect: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no room\nfor the card")

    monkeypatch.setattr("tasks.stages.export_model.export", broken)
    done = rosita("compress", "--recipe", "smoke", "--preflight", home=empty)
    assert (done.code, done.stdout) == (1, "")
    trace = empty / "logs" / "preflight.txt"
    assert done.stderr.splitlines()[-1] == (
        "rosita: preflight: stage export of recipe smoke would fail: RuntimeError: no room for "
        f"the card; its traceback is {trace}; --no-preflight runs without it"
    )
    assert "in broken" in trace.read_text(encoding="utf-8")
    assert "started" not in done.stderr
    assert files(empty) == {"logs/preflight.txt", *(f for f in files(empty) if "downloads" in f)}


def test_what_is_cached_is_not_computed_again(warm: Path, tmp_path: Path) -> None:
    before = files(warm)
    report = flown(asked("width.keep_heads=1"))
    assert report.stages == ("width", "assess", "export")
    assert report.seconds > 0
    assert report.peak_memory_mb > 100
    assert 0 < report.disk_mb < report.free_mb
    assert files(warm) == before

    vectors = broken_vectors(tmp_path / "vectors.txt")
    said = f"stage augment .* line {BROKEN_LINE} of {vectors} must hold"
    with pytest.raises(PreflightError, match=said):
        flown(asked(f"augment.proposers.vectors={vectors}"))
    # Where the augmented rows are cached, what proposed the words is not needed.
    assert files(warm) == before | {"logs/preflight.txt"}


def test_it_says_nothing_of_a_miniatures_formats(
    warm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the real model loses as int8 is another number."""
    complaint = "rosita_core.export.onnx_int8.OnnxInt8.complaint"
    monkeypatch.setattr(complaint, lambda *_: "it loses too much")
    report = flown(asked("export.formats=[hugging-face, onnx-int8]"))
    assert report.stages == ("export",)
    assert "left out" not in capsys.readouterr().err


def test_automatic_by_the_steps_that_are_left(
    warm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def left(*changes: str) -> int:
        request = asked(*changes)
        return steps_left(request)

    assert left() == 0
    # Up to 512 rows in batches of 32.
    assert 8 < left("width.keep_heads=1") <= 16
    assert left("width.keep_heads=1", "width.epochs=100") >= AUTOMATIC_STEPS
    monkeypatch.setenv("ROSITA_HOME", str(warm.parent / "other"))
    shutil.copytree(warm / "downloads", warm.parent / "other" / "downloads")
    assert left() == 8 + 3 * 16
    monkeypatch.setenv("ROSITA_HOME", str(warm))

    def ran(wanted: bool | None, *changes: str) -> bool:
        request = asked(*changes)
        report = preflight_first(request, numerics_of(request.recipe), wanted)
        return report is not None

    monkeypatch.setattr(module, "preflight", preflight.fn)
    assert not ran(None, "width.keep_heads=1")
    assert not ran(False, "width.keep_heads=1", "width.epochs=100")
    assert not ran(True)
    assert capsys.readouterr().err == ""
    assert ran(True, "width.keep_heads=1")
    assert ran(None, "width.keep_heads=1", "width.epochs=100")
    assert capsys.readouterr().err.count("preflight: passed in ") == 2


@pytest.mark.parametrize(
    ("setting", "ran"),
    [("none", "one-step"), ("1", "one-step"), ("2", "one-step"), ("3", "width")],
)
def test_every_kd_setting(setting: str, ran: str, warm: Path) -> None:
    assert flown(asked(f"kd_setting={setting}")).stages == (ran, "assess", "export")


def test_own_numbers_of_pairs(empty: Path, tmp_path: Path) -> None:
    draw = random.Random(1)
    words = ["film", "slow", "dull", "quiet", "bright", "moving", "funny", "story"]
    rows = [
        f"{' '.join(draw.choices(words, k=6))},{' '.join(draw.choices(words, k=6))},{i % 5}"
        for i in range(90)
    ]
    train = csv_file(tmp_path / "pairs.csv", "one,two,overlap", rows)
    data = {
        "source": "files",
        "train": train,
        "dev_rows": 12,
        "limit_rows": None,
        "kind": "regression",
        "columns": {"text_a": "one", "text_b": "two", "label": "overlap"},
    }
    recipe = recipe_file(tmp_path, {"base": "smoke", "task": "custom", "data": data})
    assert flown(asked(recipe=recipe)).stages == STAGES


def test_a_field_of_the_recipe_is_a_wrong_request(
    warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: Any) -> None:
        raise ValueError("macs_tokens must be in [1, 512], the models' positions, got 600")

    monkeypatch.setattr("tasks.stages.assess_student.assess", refusing)
    with pytest.raises(PreflightRefused, match=r"stage assess .* would fail: macs_tokens must be"):
        flown(asked("width.keep_heads=1"))


def test_too_little_room_on_the_disk(warm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked("width.keep_heads=1")
    monkeypatch.setattr(module, "free_bytes", lambda _: 2 * 10**6)
    with pytest.raises(PreflightRefused, match=r"must have at least \d+ MB free .* got 2 MB in"):
        flown(request)


def test_an_interrupted_preflight_leaves_nothing(
    warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    before = files(warm)
    monkeypatch.setattr("tasks.stages.assess_student.assess", interrupted)
    with pytest.raises(KeyboardInterrupt):
        flown(asked("width.keep_heads=1"))
    assert files(warm) == before
    assert list((warm / "tmp").iterdir()) == []


def test_miniature_trains_before_and_after_every_prune(empty: Path) -> None:
    request = asked("width.prune_steps=7", "width.accumulate=3", "width.epochs=20")
    nodes = {node.name: node.config for node in method(request)}
    small = miniature(nodes["teacher"], request, 32, 40, True)
    assert total_steps(40, small.training) == 2
    for rows, layers in product((32, 33, 63, 500), (4, 3, 2, 1)):
        cut = miniature(replace(nodes["depth"], keep_layers=layers), request, 32, rows, True)
        narrow = miniature(nodes["width"], request, 32, rows, True)
        assert narrow.prune_steps == 2
        for small, prunes in ((cut, 4 - layers), (narrow, 2)):
            steps = total_steps(rows, small.training)
            targets: Any = tuple(range(prunes))
            events = [
                event.step for event in at_equal_distances(targets, steps, small.prune_fraction)
            ]
            assert steps >= 2
            assert all(1 < step < steps for step in events)
