"""A whole compression through the command line: its summary, its records, its model."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from command_line import rosita
from compressions import NAMES, artifact, cached_home, client, runs, status
from typed_command import Home

from rosita_core.model.checkpoint import load
from tasks.cache.source_closure import source_closure
from tasks.host.hardware import git_commit
from tasks.stages.catalogue import STAGES
from tasks.store.artifacts import Store

pytestmark = pytest.mark.usefixtures("in_prefect")


def test_the_key_of_a_stage_covers_its_task_and_the_kernel_that_the_task_calls() -> None:
    kernels = {kind.code[0] for kind in STAGES}
    for kind in STAGES:
        kernel, module = kind.code
        assert kind.load().name == kind.name
        used = {getattr(v, "__module__", "") for v in vars(import_module(module)).values()}
        assert used & kernels == {kernel}
        assert {kernel, module} <= set(source_closure(kind.code).modules)


def test_summary(smoke_home: Home) -> None:
    summary = smoke_home.summary
    assert (summary["recipe"], summary["task"]) == ("smoke", "film-reviews")
    assert status(summary) == dict.fromkeys(NAMES, "completed")
    for stage in summary["stages"]:
        assert stage["seconds"] > 0
        assert len(stage["key"]) == len(stage["artifact"]) == 64
        assert Store(smoke_home.home).verify(stage["artifact"]) is None
    for name in ("teacher", "student"):
        model = summary[name]
        parts = [model[f"params_{part}"] for part in ("embedding", "encoder", "head")]
        assert model["params"] == sum(parts)
        assert min(model["macs"], model["disk_mb"]) > 0
        assert 0 < model["latency_ms_p50_b1"] < model["latency_ms_p50_b32"]
        assert model["score"] == model["metrics"]["accuracy"]
        # Both classes are in the few rows of the smoke recipe.
        assert 0.2 < model["score"] < 0.9
    assert summary["teacher"]["params"] > summary["student"]["params"]
    assert summary["compression"] == pytest.approx(
        summary["teacher"]["params"] / summary["student"]["params"]
    )
    assert summary["retention"] == pytest.approx(
        summary["student"]["score"] / summary["teacher"]["score"]
    )
    assert Path(summary["export_dir"], "config.json").is_file()
    assert client(smoke_home.home).get_run(summary["mlflow_run_id"]).info.status == "FINISHED"


def test_a_home_is_its_users_alone(smoke_home: Home) -> None:
    found = [smoke_home.home, *smoke_home.home.rglob("*")]
    assert [path for path in found if path.lstat().st_mode & 0o077 and not path.is_symlink()] == []


def test_records_in_mlflow(smoke_home: Home) -> None:
    summary = smoke_home.summary
    parent, children = runs(smoke_home.home, summary)
    assert parent.data.params["width.keep_heads"] == "2"
    assert parent.data.params["teacher.model"] == "tiny-random"
    assert parent.data.params["fidelity.bert_adam"] == "false"
    for name in ("params", "params_embedding", "params_encoder", "macs", "score"):
        assert parent.data.metrics[name] == summary["student"][name]
    for name in ("latency_ms_p50_b1", "latency_ms_p50_b32", "peak_memory_mb", "disk_mb", "seconds"):
        assert parent.data.metrics[name] > 0
    for name in ("compression", "retention"):
        assert parent.data.metrics[name] == pytest.approx(summary[name])
    tags = parent.data.tags
    assert tags["rosita.recipe"] == "smoke"
    assert tags["rosita.seed"] == "42"
    assert tags["rosita.shape"] == "a2_l2_f32_e8"
    assert tags["mlflow.note.content"].endswith("Recipe smoke, KD setting 4, seed 42.")
    assert tags["rosita.artifact"] == artifact(summary, "export")
    assert tags["prefect.flow_run_id"] == summary["run_id"]
    assert tags["hardware.cpu"]
    assert tags.get("git.commit") == git_commit()
    dataset = parent.inputs.dataset_inputs[0].dataset
    assert dataset.name == "film-reviews"
    facts = next(stage["metrics"] for stage in summary["stages"] if stage["name"] == "data")
    assert json.loads(dataset.source)["fingerprint"] == facts["fingerprint"]
    listed = {file.path for file in client(smoke_home.home).list_artifacts(parent.info.run_id)}
    assert {"recipe.json", "summary.json"} <= listed

    assert list(children) == list(reversed(NAMES))
    for stage in summary["stages"]:
        child = children[stage["name"]]
        assert child.info.status == "FINISHED"
        assert child.data.tags["rosita.stage_key"] == stage["key"]
        assert child.data.tags["rosita.artifact"] == stage["artifact"]
        assert child.data.tags["rosita.cached"] == "false"
        assert child.data.tags["rosita.attempt"] == "1"
        assert child.data.metrics["seconds"] == pytest.approx(stage["seconds"])
    assert children["width"].data.params["keep_heads"] == "2"
    assert children["width"].data.tags["rosita.shape"] == "a2_l2_f32_e8"


def test_learning_curves_in_mlflow(smoke_home: Home) -> None:
    _, children = runs(smoke_home.home, smoke_home.summary)
    store = client(smoke_home.home)

    def curve(stage: str, name: str) -> list[tuple[int, float]]:
        points = store.get_metric_history(children[stage].info.run_id, name)
        return sorted((point.step, point.value) for point in points)

    distilled = ("train/loss_prediction", "dev/accuracy")
    for stage, more in (
        ("teacher", ("dev/accuracy",)),
        ("student", distilled),
        ("depth", distilled),
        ("width", (*distilled, "train/loss_hidden")),
    ):
        for name in ("train/loss", "train/lr", "train/examples_per_second", "dev/score", *more):
            assert curve(stage, name), (stage, name)
            assert curve(stage, name)[-1][0] >= 8
    for stage in ("depth", "width"):
        params = [value for _, value in curve(stage, "shape/params")]
        assert params == sorted(params, reverse=True)
        assert params[0] > params[-1]
    assert params[-1] == smoke_home.summary["student"]["params"]


def test_registered_model_predicts(smoke_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a user would set it; MLflow's own setter would leave it behind for later tests.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", smoke_home.summary["mlflow_uri"])
    registered = smoke_home.summary["registered_model"]
    assert registered["uri"] == "models:/rosita-smoke/1"
    model = mlflow.pyfunc.load_model(registered["uri"])
    answers = model.predict(pd.DataFrame({"text": ["a fine film", "a dull film"]}))
    assert len(answers) == 2
    assert set(answers["prediction"]) <= {"negative", "positive"}


def test_export_has_the_logits_of_the_student(smoke_home: Home) -> None:
    store = Store(smoke_home.home)
    student = load(store.path(artifact(smoke_home.summary, "width")))
    exported = load(smoke_home.summary["export_dir"])
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, student.config.vocab_size, (4, 12), generator=generator)
    with torch.no_grad():
        assert torch.equal(student(input_ids=ids).logits, exported(input_ids=ids).logits)
    assert exported.config.id2label == {0: "negative", 1: "positive"}


def test_second_run_is_cached_and_recorded(
    smoke_home: Home, mlflow_tables: Path, tmp_path: Path
) -> None:
    warm = cached_home(smoke_home.home, tmp_path / "home", mlflow_tables)
    done = rosita("compress", "--recipe", "smoke", "--json", home=warm)
    assert done.code == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert said == [f"[{i}/8] {name}: cached" for i, name in enumerate(NAMES, start=1)]
    again = done.document
    assert status(again) == dict.fromkeys(NAMES, "cached")
    assert again["run_id"] != smoke_home.summary["run_id"]
    for name in NAMES:
        assert artifact(again, name) == artifact(smoke_home.summary, name)
    assert again["student"]["metrics"] == smoke_home.summary["student"]["metrics"]
    first, _ = runs(smoke_home.home, smoke_home.summary)
    parent, children = runs(warm, again)
    assert parent.info.status == "FINISHED"
    assert parent.data.params == first.data.params
    assert set(parent.data.metrics) == set(first.data.metrics)
    assert set(children) == set(NAMES)
    for stage in again["stages"]:
        tags = children[stage["name"]].data.tags
        assert children[stage["name"]].info.status == "FINISHED"
        assert tags["rosita.cached"] == "true"
        assert tags["rosita.artifact"] == stage["artifact"]
    assert children["width"].data.metrics["selection_score"] >= 0
