"""The whole method through the command line: records, cache, KD settings, own data and teachers."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from command_line import csv_file, recipe_file, rosita
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect.testing.utilities import prefect_test_harness
from transformers import BertConfig, BertForSequenceClassification

from rosita_core.model.checkpoint import load
from rosita_core.model.locate import locate
from tasks.cache.source_closure import source_closure
from tasks.host.hardware import git_commit
from tasks.stages.catalogue import STAGES
from tasks.store.artifacts import Store

NAMES = ["data", "teacher", "augment", "student", "depth", "width", "assess", "export"]
CACHE = ("store", "results", "attempts", "downloads", "locks")
TINY = (
    "assess.latency_repeats=2",
    "assess.latency_warmup=1",
    "assess.latency_batch_sizes=[1, 2]",
    "assess.latency_tokens=16",
    "numerics.threads=1",
)


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="module")
def warm(smoke_home: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the cache of the smoke run and an MLflow store of its own."""
    home = tmp_path_factory.mktemp("warm") / "home"
    for name in CACHE:
        shutil.copytree(smoke_home.home / name, home / name)
    return home


def compressed(home: Path, recipe: str, *changes: str) -> dict[str, Any]:
    """The summary of a `rosita compress` that must succeed."""
    sets = [f"--set={change}" for change in changes]
    done = rosita("compress", "--recipe", recipe, *sets, "--json", home=home)
    assert done.code == 0, done.stderr
    path = home / "runs" / done.document["run_id"] / "summary.json"
    assert done.document == json.loads(path.read_text(encoding="utf-8"))
    return done.document


def status(summary: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["status"] for stage in summary["stages"]}


def artifact(summary: dict[str, Any], name: str) -> str:
    return next(str(stage["artifact"]) for stage in summary["stages"] if stage["name"] == name)


def client(home: Path) -> MlflowClient:
    uri = f"sqlite:///{home}/mlflow.db"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def runs(home: Path, summary: dict[str, Any]) -> tuple[Run, dict[str, Run]]:
    """The parent run of a compression and its child runs by stage."""
    store = client(home)
    parent = store.get_run(summary["mlflow_run_id"])
    found = store.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    return parent, {run.data.tags["rosita.stage"]: run for run in found}


def test_the_key_of_a_stage_covers_its_task_and_the_kernel_that_the_task_calls() -> None:
    kernels = {kind.code[0] for kind in STAGES}
    for kind in STAGES:
        task = kind.load()
        kernel, module = kind.code
        assert (task.name, task.fn.__module__) == (kind.name, module)
        used = {getattr(value, "__module__", "") for value in task.fn.__globals__.values()}
        assert used & kernels == {kernel}
        assert {kernel, module} <= set(source_closure(kind.code).modules)


def test_summary(smoke_home: Any) -> None:
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


def test_records_in_mlflow(smoke_home: Any) -> None:
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


def test_learning_curves_in_mlflow(smoke_home: Any) -> None:
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


def test_registered_model_predicts(smoke_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a user would set it; MLflow's own setter would leave it behind for later tests.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", smoke_home.summary["mlflow_uri"])
    registered = smoke_home.summary["registered_model"]
    assert registered["uri"] == "models:/rosita-film-reviews/1"
    model = mlflow.pyfunc.load_model(registered["uri"])
    answers = model.predict(pd.DataFrame({"text": ["a fine film", "a dull film"]}))
    assert len(answers) == 2
    assert set(answers["label"]) <= {"negative", "positive"}


def test_export_has_the_logits_of_the_student(smoke_home: Any) -> None:
    store = Store(smoke_home.home)
    student = load(store.path(artifact(smoke_home.summary, "width")))
    exported = load(smoke_home.summary["export_dir"])
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, student.config.vocab_size, (4, 12), generator=generator)
    with torch.no_grad():
        assert torch.equal(student(input_ids=ids).logits, exported(input_ids=ids).logits)
    assert exported.config.id2label == {0: "negative", 1: "positive"}


def test_second_run_is_cached_and_recorded(smoke_home: Any, warm: Path) -> None:
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


def test_a_change_runs_what_depends_on_it(warm: Path) -> None:
    summary = compressed(warm, "smoke", "width.keep_heads=1", *TINY)
    assert status(summary) == dict.fromkeys(NAMES[:5], "cached") | dict.fromkeys(
        NAMES[5:], "completed"
    )
    assert summary["student"]["shape"] == "a1_l2_f32_e8"


@pytest.mark.parametrize(
    ("setting", "shared", "computed"),
    [
        ("none", ["data", "teacher"], "one-step"),
        ("1", ["data", "teacher", "augment"], "one-step"),
        ("2", ["data", "teacher", "augment", "student"], "one-step"),
        ("3", ["data", "teacher", "augment", "student"], "width"),
    ],
)
def test_kd_settings_share_what_they_have_in_common(
    setting: str, shared: list[str], computed: str, warm: Path
) -> None:
    summary = compressed(warm, "smoke", f"kd_setting={setting}", *TINY)
    assert summary["kd_setting"] == setting
    new = [computed, "assess", "export"]
    assert status(summary) == dict.fromkeys(shared, "cached") | dict.fromkeys(new, "completed")
    assert summary["student"]["shape"] == "a2_l2_f32_e8"


@pytest.mark.parametrize("setting", ["2", "4"])
def test_every_fidelity_switch_at_once(setting: str, warm: Path) -> None:
    switches = (
        "teacher_dropout",
        "relu_teacher_head",
        "hidden_on_padding",
        "average_over_classes",
        "bert_adam",
        "reset_optimizer",
        "first_layer_ranks_heads",
        "bottom_layers",
        "update_while_ranking",
        "last_step_teacher",
        "select_on_dev",
        "drop_last_batch",
        "pad_to_max_length",
    )
    changes = [f"fidelity.{name}=true" for name in switches]
    fewer = ("data.limit_rows=64", f"kd_setting={setting}", "name=faithful")
    summary = compressed(warm, "smoke", *changes, *fewer, *TINY)
    parent, _ = runs(warm, summary)
    on = {name for name, value in parent.data.params.items() if name.startswith("fidelity.")}
    assert on == {f"fidelity.{name}" for name in switches}
    assert all(parent.data.params[name] == "true" for name in on)
    assert summary["select_on_dev"] is True
    assert summary["student"]["shape"] == "a2_l2_f32_e8"


WORDS = ["the", "film", "was", "slow", "dull", "quiet", "bright", "moving", "funny", "story", "old"]


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=8)) for _ in range(count)]


def own_recipe(folder: Path, **data: Any) -> str:
    """Smoke's sizes on own data."""
    section = {"source": "files", "select_fraction": 0.2, "limit_rows": None} | data
    return recipe_file(folder, {"base": "smoke", "task": "custom", "data": section})


def test_own_classes_of_single_texts(tmp_path: Path) -> None:
    texts = sentences(60, 1)
    rows = [f"{text},{('bad', 'fair', 'good')[i % 3]}" for i, text in enumerate(texts)]
    train = csv_file(tmp_path / "train.csv", "sentence,verdict", rows[:48])
    dev = csv_file(tmp_path / "dev.csv", "sentence,verdict", rows[48:])
    columns = {"text_a": "sentence", "label": "verdict"}
    recipe = own_recipe(tmp_path, train=train, dev=dev, dev_rows=None, columns=columns)
    summary = compressed(tmp_path / "home", recipe, "kd_setting=1", *TINY)
    assert (summary["task"], summary["score_name"]) == ("custom", "accuracy")
    assert summary["dev_rows"] == 12
    config = json.loads(Path(summary["export_dir"], "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "bad", "1": "fair", "2": "good"}
    assert summary["registered_model"]["name"] == "rosita-custom"


def test_own_numbers_of_pairs(tmp_path: Path) -> None:
    pairs = zip(sentences(60, 2), sentences(60, 3), strict=True)
    rows = [f"{a},{b},{len(set(a.split()) & set(b.split()))}" for a, b in pairs]
    train = csv_file(tmp_path / "pairs.csv", "one,two,overlap", rows)
    columns = {"text_a": "one", "text_b": "two", "label": "overlap"}
    recipe = own_recipe(tmp_path, train=train, dev_rows=12, columns=columns, kind="regression")
    summary = compressed(tmp_path / "home", recipe, *TINY)
    assert summary["score_name"] == "pearson_spearman"
    assert set(summary["student"]["metrics"]) == {"pearson", "spearman", "pearson_spearman"}
    config = json.loads(Path(summary["export_dir"], "config.json").read_text(encoding="utf-8"))
    assert config["problem_type"] == "regression"
    frame = pd.read_parquet(
        Store(tmp_path / "home").path(artifact(summary, "augment")) / "augmented.parquet"
    )
    assert {"text_a", "text_b", "label"} < set(frame.columns)


def test_compressed_model_as_the_teacher(smoke_home: Any, warm: Path) -> None:
    changes = (
        f"teacher.model={smoke_home.summary['export_dir']}",
        "teacher.epochs=0",
        "student.start=teacher",
        "depth.keep_layers=1",
        "width.keep_heads=1",
        "width.ffn_units=16",
        "width.embedding_rank=4",
    )
    summary = compressed(warm, "smoke", *changes, *TINY)
    assert summary["teacher"]["shape"] == "a2_l2_f32_e8"
    assert summary["student"]["shape"] == "a1_l1_f16_e4"
    # The same weights on the same rows: the teacher is the student of before.
    assert summary["teacher"]["metrics"] == smoke_home.summary["student"]["metrics"]


def test_fine_tuned_bert_as_the_teacher(warm: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = BertForSequenceClassification(BertConfig(intermediate_size=32, **sizes)).eval()
    model.save_pretrained(tmp_path / "bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(locate("minilm-l6") / name, tmp_path / "bert" / name)
    changes = (
        f"teacher.model={tmp_path / 'bert'}",
        "teacher.epochs=0",
        "kd_setting=1",
        "depth.keep_layers=1",
        "width.ffn_units=16",
    )
    summary = compressed(warm, "smoke", *changes, *TINY)
    teacher = load(Store(warm).path(artifact(summary, "teacher")))
    ids = torch.arange(1000, 1012)[None]
    with torch.no_grad():
        found, expected = teacher(input_ids=ids).logits, model(input_ids=ids).logits
    # transformers computes attention by another kernel, so the last bits may differ.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)
    assert summary["teacher"]["params"] == sum(p.numel() for p in model.parameters())


def test_a_model_that_cannot_be_logged_is_registered_by_the_same_command_later(
    smoke_home: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    home = tmp_path / "home"
    for name in CACHE:
        shutil.copytree(smoke_home.home / name, home / name)
    obstacle = home / "tmp"
    obstacle.write_text("in the way of the model that is to be logged")
    run = request.getfixturevalue("rosita")
    done = run("compress", "--recipe", "smoke", "--json", home=home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["registered_model"] is None
    assert "the run goes on, and the model will not be in MLflow" in done.stderr
    obstacle.unlink()
    after = run("compress", "--recipe", "smoke", "--json", home=home)
    assert json.loads(after.stdout)["registered_model"]["name"] == "rosita-film-reviews"


def test_what_the_user_sees_of_a_stage_that_fails(
    smoke_home: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    home = tmp_path / "home"
    for name in CACHE:
        shutil.copytree(smoke_home.home / name, home / name)
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("the 0.1 0.2\nfilm 0.1\n", encoding="utf-8")
    change = f"augment.proposers.vectors={vectors}"
    run = request.getfixturevalue("rosita")
    done = run("compress", "--recipe", "smoke", "--set", change, home=home)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    record = home / "attempts" / "augment" / "000002.json"
    assert lines[-1].startswith("rosita: stage augment failed in attempt 2 of recipe smoke: ")
    rest = "student, depth, width, assess, export"
    assert f"; its record with the traceback is {record}" in lines[-1]
    assert lines[-1].endswith(f"; not run for want of it: {rest}")
    assert "Traceback" not in done.stderr
    assert "INFO" not in done.stderr
    written = json.loads(record.read_text(encoding="utf-8"))
    assert written["status"] == "failed"
    assert written["error"] in lines[-1]
    assert written["traceback"][0] == "Traceback (most recent call last):"
    assert any("load_glove_text" in line for line in written["traceback"])
    store = client(home)
    experiment = store.get_experiment_by_name("rosita-film-reviews")
    found = {run.info.run_name: run for run in store.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in found.items()} == {
        "smoke": "FAILED",
        "data": "FINISHED",
        "teacher": "FINISHED",
        "augment": "FAILED",
    }
    assert not (home / "runs").exists()

    vectors.write_text("the 0.1 0.2\nfilm 0.1 0.3\nstory 0.1 0.2\n", encoding="utf-8")
    planned = rosita("plan", "--recipe", "smoke", "--set", change, "--json", home=home)
    states = {stage["name"]: stage["status"] for stage in planned.document["stages"]}
    assert (states["data"], states["teacher"]) == ("cached", "cached")
    assert (states["augment"], states["student"]) == ("to run", "waits")
