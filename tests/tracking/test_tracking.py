"""Tracking in a real MLflow store: what a run leaves there can be found and used."""

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from contexts import stage_context
from mlflow import MlflowClient
from mlflow.entities import Run
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from tasks.cache.stage_key import Stage
from tasks.execution.attempt import attempts, carry_out
from tasks.execution.work import Computed, Work
from tasks.host.hardware import BF16_CPU_FLAGS, cpu_has_bf16, hardware, resolve_numerics
from tasks.tracking.register_model import log_compressed_model
from tasks.tracking.runs import Tracking, flatten, tracking_uri

NUMERICS = {"device": "cpu", "precision": "fp32", "hardware": "AVX2", "deterministic": True}


@dataclass(frozen=True)
class Settings:
    rate: float


@dataclass(frozen=True)
class Event:
    step: int
    total_steps: int
    metrics: dict[str, float]
    shape: str | None = None
    message: str | None = None
    phase: str | None = None


STAGE = Stage("student", ("rosita_core.stages",), Settings(2e-5), {}, NUMERICS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, mlflow_tables: Path) -> Path:
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(mlflow_tables, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def tracking(home: Path) -> Tracking:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return Tracking(home)


@pytest.fixture
def parent(tracking: Tracking) -> str:
    recipe = {"task": "sst2", "seed": 3, "student": {"learning_rate": 2e-5, "layers": [1, 2]}}
    return tracking.start_parent("sst2", "demo", recipe, 3, "flow-run", "a2_l8")


@pytest.fixture(scope="module")
def client(tracking: Tracking) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking.uri, registry_uri=tracking.uri)


def found(tracking: Tracking, client: MlflowClient, run: str) -> Run:
    """What MLflow has of a run, once everything is sent."""
    assert tracking.flush(60)
    run_id = tracking.run_id(run)
    assert run_id is not None
    return client.get_run(run_id)


def children(tracking: Tracking, client: MlflowClient, parent: str) -> list[Run]:
    info = found(tracking, client, parent).info
    return list(
        client.search_runs([info.experiment_id], f"tags.`mlflow.parentRunId` = '{info.run_id}'")
    )


def test_the_store_is_the_home_unless_the_environment_says_otherwise(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(home) == f"sqlite:///{home}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(home) == "http://127.0.0.1:5000"


def test_the_parent_holds_the_recipe(
    tracking: Tracking, client: MlflowClient, home: Path, parent: str
) -> None:
    tracking.finish(parent, "FINISHED", {"score": 0.9, "shape": "a2_l8"}, {})
    run = found(tracking, client, parent)
    assert run.data.params == {
        "task": "sst2",
        "seed": "3",
        "student.learning_rate": "2e-05",
        "student.layers": "[1, 2]",
    }
    assert run.data.metrics == {"score": 0.9}
    assert run.info.status == "FINISHED"
    assert run.data.tags["rosita.recipe"] == "demo"
    assert run.data.tags["rosita.seed"] == "3"
    assert run.data.tags["rosita.shape"] == "a2_l8"
    assert run.data.tags["prefect.flow_run_id"] == "flow-run"
    assert run.data.tags["hardware.cpu"] == hardware()["cpu"]
    assert run.info.artifact_uri.startswith((home / "mlartifacts").as_uri())
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["recipe.json"]
    experiment = client.get_experiment(run.info.experiment_id)
    assert "Models compressed for sst2" in experiment.tags["mlflow.note.content"]


def stored(work: Work, metrics: dict[str, float | str]) -> Computed:
    with work.output() as folder:
        (folder / "weights.bin").write_text("w")
    return work.computed(metrics)


def test_an_attempt_is_a_child_run_with_its_curve(
    tracking: Tracking,
    client: MlflowClient,
    home: Path,
    parent: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = len(attempts(home, "student"))

    def compute(work: Work) -> Computed:
        for step in range(1, 251):
            work.report(Event(step, 250, {"train/loss": 1 / step}))
        return stored(work, {"score": 0.8, "shape": "a2_l8"})

    result = carry_out(compute, STAGE, stage_context(home, parent))
    (run,) = children(tracking, client, parent)
    assert run.info.run_id == result.mlflow_run_id
    assert run.info.status == "FINISHED"
    assert run.data.params == {"rate": "2e-05"}
    assert run.data.metrics["score"] == 0.8
    wanted = {
        "rosita.stage": "student",
        "rosita.stage_key": result.key,
        "rosita.artifact": result.artifact,
        "rosita.cached": "false",
        "rosita.attempt": str(before + 1),
        "rosita.shape": "a2_l8",
    }
    assert {name: run.data.tags[name] for name in wanted} == wanted
    curve = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in curve] == [(n, 1 / n) for n in range(1, 251)]
    assert "[4/9] student: started" in capsys.readouterr().err

    cached = tracking.record_cached(STAGE, result, stage_context(home, parent))
    assert cached is not None
    copy = found(tracking, client, cached)
    assert copy.data.tags["rosita.cached"] == "true"
    assert copy.data.tags["rosita.computed_by"] == run.info.run_id
    assert copy.data.metrics["score"] == 0.8
    assert copy.data.metrics["seconds"] == result.seconds
    assert copy.data.params == run.data.params
    assert len(children(tracking, client, parent)) == 2


@pytest.mark.parametrize(
    ("error", "status", "run_status"),
    [(RuntimeError("no"), "failed", "FAILED"), (KeyboardInterrupt(), "interrupted", "KILLED")],
)
def test_an_attempt_that_does_not_end_well_says_so(
    tracking: Tracking,
    client: MlflowClient,
    home: Path,
    parent: str,
    error: BaseException,
    status: str,
    run_status: str,
) -> None:
    def compute(work: Work) -> Computed:
        work.report(Event(1, 2, {"train/loss": 1.0}))
        raise error

    with pytest.raises(type(error)):
        carry_out(compute, STAGE, stage_context(home, parent))
    assert attempts(home, "student")[-1]["status"] == status
    (run,) = children(tracking, client, parent)
    assert run.info.status == run_status
    assert run.data.metrics == {"train/loss": 1.0}


def test_without_a_parent_nothing_is_tracked(tmp_path: Path) -> None:
    def compute(work: Work) -> Computed:
        work.report(Event(1, 2, {"train/loss": 1.0}))
        return stored(work, {})

    result = carry_out(compute, STAGE, stage_context(tmp_path, None))
    assert result.mlflow_run_id is None
    assert not (tmp_path / "mlflow.db").exists()


def test_inputs_are_read_from_the_store(tmp_path: Path) -> None:
    def first(work: Work) -> Computed:
        with pytest.raises(ValueError, match="input of student must be one of none, got 'data'"):
            work.input("data")
        return stored(work, {})

    def second(work: Work) -> Computed:
        assert (work.input("student") / "weights.bin").read_text() == "w"
        return stored(work, {})

    made = carry_out(first, STAGE, stage_context(tmp_path, None))
    later = Stage("depth", STAGE.code, STAGE.config, {"student": made.artifact}, NUMERICS)
    carry_out(second, later, stage_context(tmp_path, None))


def test_more_values_than_a_request_takes_all_arrive(
    tracking: Tracking, client: MlflowClient, parent: str
) -> None:
    tracking.log_params(parent, {f"p{n}": str(n) for n in range(205)})
    tracking.log_tags(parent, {f"t{n}": str(n) for n in range(205)})
    tracking.log_metrics(parent, 7, {f"m{n}": float(n) for n in range(2005)})
    data = found(tracking, client, parent).data
    assert {f"p{n}": str(n) for n in range(205)}.items() <= data.params.items()
    assert {f"t{n}": str(n) for n in range(205)}.items() <= data.tags.items()
    assert data.metrics == {f"m{n}": float(n) for n in range(2005)}


def test_metrics_do_not_wait_for_ever(
    tracking: Tracking, client: MlflowClient, parent: str
) -> None:
    run_id = found(tracking, client, parent).info.run_id
    tracking.log_metrics(parent, 1, {"m": 1.0})
    deadline = time.monotonic() + 20
    while not client.get_run(run_id).data.metrics and time.monotonic() < deadline:
        time.sleep(0.1)
    assert client.get_run(run_id).data.metrics == {"m": 1.0}


def test_the_dataset_is_an_input_by_fingerprint(
    tracking: Tracking, client: MlflowClient, parent: str
) -> None:
    tracking.log_dataset(parent, "sst2", "ab" * 32, "glue-dir", {"train": 10, "dev": 2})
    inputs = found(tracking, client, parent).inputs
    assert inputs is not None
    (logged,) = inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("sst2", "ab" * 18)
    assert "ab" * 32 in logged.dataset.source


def test_flatten_names_every_leaf_once() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": "x", "f": {}, "g": True}
    assert flatten(nested) == {"a.b.c": "1", "a.d": "null", "e": "x", "f": "{}", "g": "true"}
    assert len(flatten({"long": "x" * 10_000})["long"]) == 6000


def test_names_that_users_chose_become_no_param_of_their_own() -> None:
    assert flatten({"labels": {"C++": "it", "b": "c"}}) == {"labels": '{"C++": "it", "b": "c"}'}


def test_the_logged_model_predicts_what_the_checkpoint_does(
    tracking: Tracking,
    client: MlflowClient,
    parent: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(vocab=str(tmp_path / "vocab.txt"))
    torch.manual_seed(0)
    labels = ["negative", "positive"]
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        id2label=dict(enumerate(labels)),
    )
    model = BertForSequenceClassification(config).eval()
    checkpoint = tmp_path / "checkpoint"
    model.save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)

    scores = {"a": ("same", "0.5"), "b": ("same", "0.75"), "c": ("same", "0.7"), "d": ("o", "0.9")}

    def registered(run: str, artifact: str) -> dict[str, str]:
        rows, score = scores[artifact[0]]
        tags = {"rosita.fingerprint": rows, "rosita.score": score}
        log_compressed_model(
            *(tracking, run, "sst2", checkpoint, artifact, {"params": 3}, tags, "small"),
            {"text": "good film"},
        )
        assert tracking.flush(60)
        version = tracking.registered(run)
        assert version is not None
        return version

    again = tracking.start_parent("sst2", "demo", {}, 3, None, None)
    wanted = ((parent, "a" * 64), (again, "b" * 64), (again, "a" * 64))
    uris = [registered(run, artifact)["uri"] for run, artifact in wanted]
    # The same artifact is the same version, whichever run made it again.
    assert uris == ["models:/rosita-sst2/1", "models:/rosita-sst2/2", "models:/rosita-sst2/1"]
    for name in "cd":
        registered(again, name * 64)
    # The best on the same dev rows; nothing is said about others.
    champion = client.get_model_version_by_alias("rosita-sst2", "champion")
    assert (champion.version, champion.description) == (2, "small")
    (first,) = found(tracking, client, parent).outputs.model_outputs
    both = [one.model_id for one in found(tracking, client, again).outputs.model_outputs]
    assert len(both) == 4
    assert first.model_id in both
    assert str(client.get_logged_model(first.model_id).status) == "READY"

    # As a user would set it; MLflow's own setter would leave it behind for later tests.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    assert "compressed for sst2" in client.get_registered_model("rosita-sst2").description
    served = mlflow.pyfunc.load_model("models:/rosita-sst2/2")
    texts = ["good film", "bad", "film good bad film"]
    answers = served.predict(pd.DataFrame({"text": texts}))
    for text, row in zip(texts, answers.itertuples(), strict=True):
        with torch.inference_mode():
            wanted = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        assert row.prediction == labels[int(wanted.argmax())]
        assert row.probability == pytest.approx(float(wanted.max()), abs=1e-5)
    signature = served.metadata.signature
    assert signature.inputs.input_names() == ["text", "text_b"]
    assert signature.inputs.required_input_names() == ["text"]
    assert signature.outputs.input_names() == ["prediction", "probability"]
    assert served.input_example.to_dict("records") == [{"text": "good film"}]
    pickles = list(Path(tracking.home).rglob("*.pkl"))
    assert pickles == []

    with pytest.raises(ValueError, match=r"checkpoint must hold a config\.json"):
        log_compressed_model(tracking, parent, "sst2", tmp_path, None, {}, {})


def test_numerics_are_resolved_or_refused_by_name() -> None:
    resolved = resolve_numerics("cpu", "auto", 3, True)
    assert (resolved.device, resolved.threads, resolved.deterministic) == ("cpu", 3, True)
    assert resolved.precision == ("bf16" if cpu_has_bf16() else "fp32")
    assert resolve_numerics("cpu", "bf16", "auto", False).precision == "bf16"
    if sys.platform == "linux" and "flags" in Path("/proc/cpuinfo").read_text():
        words = set(Path("/proc/cpuinfo").read_text().split())
        assert not cpu_has_bf16() or words & BF16_CPU_FLAGS
    for wrong in (
        ("gpu", "auto", "auto", "device must be auto, cpu, cuda or cuda:<index>, got 'gpu'"),
        ("cpu:1", "auto", "auto", "device must be .* got 'cpu:1'"),
        ("cpu", "fp16", "auto", "precision must be one of auto, fp32, bf16, got 'fp16'"),
        ("cpu", "auto", 0, r"threads must be auto or in \[1, 65,536\], got 0"),
        ("cpu", "auto", "many", r"threads must be auto or in \[1, 65,536\], got 'many'"),
    ):
        with pytest.raises(ValueError, match=wrong[3]):
            resolve_numerics(wrong[0], wrong[1], wrong[2], True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda_is_refused() -> None:
    with pytest.raises(ValueError, match="device must be cpu or auto on a machine without CUDA"):
        resolve_numerics("cuda", "auto", "auto", True)
