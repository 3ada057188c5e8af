"""`rosita evaluate`: what a model is worth on labelled rows, and wrong requests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import rosita
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import AutoTokenizer
from typed_command import Home

from flows.serving.evaluate import metric_names, show_evaluation
from flows.serving.lookup import compressed_model
from rosita_core.measuring.calibration import calibration_error
from rosita_core.model.checkpoint import fresh, save
from rosita_core.model.modeling_rosita import RositaConfig

WORDS = ["film", "good", "bad", "long", "short", "plot", "cast", "dull", "fine"]


def exported(home: Home) -> Path:
    return compressed_model(None, home.home).folder


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    rows = {
        "review": [" ".join(random.choice(WORDS, 6)) for _ in range(60)],
        "verdict": random.choice(["negative", "positive"], 60),
    }
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


COLUMNS = ("--text-a", "review", "--label", "verdict")


def test_it_says_what_the_answers_are_worth(
    copied_home: Home, labelled: Path, tmp_path: Path
) -> None:
    wrong, answers = tmp_path / "wrong.csv", tmp_path / "answers.parquet"
    given = ("--input", str(labelled), *COLUMNS)
    done = rosita("evaluate", *given, "--output", str(wrong), "--json", home=copied_home.home)
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    given = ("--input", str(labelled), "--text-a", "review", "--output", str(answers))
    assert rosita("predict", *given, home=copied_home.home).code == 0
    true = pd.read_csv(labelled)["verdict"]
    found = pd.read_parquet(answers)
    metrics = said["metrics"]
    assert said["rows"] == 60
    assert metrics["accuracy"] == pytest.approx(accuracy_score(true, found["prediction"]))
    assert metrics["mcc"] == pytest.approx(matthews_corrcoef(true, found["prediction"]))
    macro = f1_score(true, found["prediction"], average="macro", zero_division=0)
    assert metrics["macro_f1"] == pytest.approx(macro)
    right = (true == found["prediction"]).to_numpy()
    error = calibration_error(found["probability"].to_numpy(), right)
    assert metrics["calibration_error"] == pytest.approx(error)
    assert 0 < right.sum() < 60
    confusion = said["confusion"]
    for label in ("negative", "positive"):
        assert sum(confusion[label].values()) == (true == label).sum()
        assert confusion[label][label] == (right & (true == label)).sum()
        assert said["classes"][label]["rows"] == (true == label).sum()
    listed = pd.read_csv(wrong)
    assert list(listed.columns) == ["review", "verdict", "prediction", "probability"]
    assert len(listed) == 60 - right.sum()
    assert (listed["verdict"] != listed["prediction"]).all()
    run = MlflowClient(tracking_uri=f"sqlite:///{copied_home.home / 'mlflow.db'}").get_run(
        said["mlflow_run_id"]
    )
    assert run.info.run_name == "evaluate smoke on rows.csv"
    assert run.data.metrics["accuracy"] == pytest.approx(metrics["accuracy"])
    assert run.data.params["evaluated"] == said["run_id"]
    assert run.inputs is not None
    [rows] = run.inputs.dataset_inputs
    assert rows.dataset.name == "rows.csv"
    assert [(tag.key, tag.value) for tag in rows.tags] == [("mlflow.data.context", "evaluation")]


def test_people_see_tables(copied_home: Home, labelled: Path) -> None:
    done = rosita("evaluate", "--input", str(labelled), *COLUMNS, home=copied_home.home)
    assert done.code == 0, done.stderr
    assert "60 rows" in done.stdout and "calibration_error" in done.stdout
    assert "classes, and as what their rows were taken" in done.stdout


def test_a_regression_is_told_by_correlations(
    smoke_home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smoke_home.summary["export_dir"])
    sizes = {"hidden_size": 8, "head_size": 4, "layer_heads": [2], "layer_ffn_units": [8]}
    config = RositaConfig(
        vocab_size=len(tokenizer), num_labels=1, problem_type="regression", **sizes
    )
    tokenizer.save_pretrained(tmp_path / "model")
    save(fresh(config, 1), tmp_path / "model")
    rows = {"text": WORDS, "label": np.arange(len(WORDS)) / 2}
    pd.DataFrame(rows).to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    done = rosita(
        *("evaluate", "--model", str(tmp_path / "model"), "--input"),
        *(str(tmp_path / "rows.jsonl"), "--json"),
        home=tmp_path / "home",
    )
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    assert set(said["metrics"]) == {"pearson", "spearman", "r2", "rmse"}
    # In the labels' unit, which may be small.
    small = said | {"metrics": {"pearson": 0.5, "rmse": 1.25e-11}}
    show_evaluation(small)
    printed = capsys.readouterr().out
    assert "0.5000" in printed and "1.25e-11" in printed
    # A model of one's own is of no run.
    assert said["mlflow_run_id"] is None and "confusion" not in said
    assert not (tmp_path / "home" / "mlflow.db").exists()


def test_the_rows_that_are_read_are_not_written_over(
    smoke_home: Home, labelled: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.csv").symlink_to(labelled)
    (tmp_path / "folder").mkdir()
    pd.read_csv(labelled).to_parquet(tmp_path / "folder" / "train.parquet")
    before = labelled.read_bytes()
    for command, columns in (("predict", COLUMNS[:2]), ("evaluate", COLUMNS)):
        for given, output in (
            (labelled, labelled),
            (labelled, tmp_path / "link.csv"),
            (tmp_path / "link.csv", labelled),
            (tmp_path / "folder", tmp_path / "folder" / "wrong.parquet"),
        ):
            files = ("--input", str(given), "--output", str(output))
            done = rosita(command, *files, *columns, home=smoke_home.home)
            assert (done.code, done.stdout) == (2, "")
            last = done.stderr.splitlines()[-1]
            assert (
                last
                == f"rosita: output must be another file than input, and not in it, got {output}"
            )
    assert labelled.read_bytes() == before
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["train.parquet"]


def test_columns_are_refused_that_the_answers_have_alone(
    copied_home: Home, labelled: Path, tmp_path: Path
) -> None:
    frame, path, output = pd.read_csv(labelled), tmp_path / "more.csv", tmp_path / "out.csv"
    given = ("--input", str(path), "--output", str(output), *COLUMNS)
    frame.assign(score=3).to_csv(path, index=False)
    done = rosita("evaluate", *given, home=copied_home.home)
    assert done.code == 0, done.stderr
    assert set(pd.read_csv(output)["score"]) == {3}
    frame.assign(prediction=3).to_csv(path, index=False)
    done = rosita("evaluate", *given, home=copied_home.home)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "rosita: columns of the output must differ from each other and from prediction and "
        "probability, got prediction"
    )


def test_names_of_classes_are_no_markup(smoke_home: Home, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smoke_home.summary["export_dir"])
    sizes = {"hidden_size": 8, "head_size": 4, "layer_heads": [2], "layer_ffn_units": [8]}
    labels = ["[neg]", "a [/b] :joy:"]
    config = RositaConfig(vocab_size=len(tokenizer), id2label=dict(enumerate(labels)), **sizes)
    tokenizer.save_pretrained(tmp_path / "model")
    save(fresh(config, 1), tmp_path / "model")
    path = tmp_path / "rows.csv"
    pd.DataFrame({"text": WORDS, "label": (labels * 5)[: len(WORDS)]}).to_csv(path, index=False)
    given = ("--model", str(tmp_path / "model"), "--input", str(path))
    done = rosita("evaluate", *given, home=tmp_path / "home")
    assert done.code == 0, done.stderr
    assert all(label in done.stdout for label in labels)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--label": "stars"}, "label must name one column of "),
        ({"--text-a": "text"}, "text_a must name one column of "),
        ({"--input": "none.csv"}, "input must "),
        ({"--output": "wrong.txt"}, "output must end in one of .csv, .jsonl, .parquet"),
        ({"--text-b-column": "verdict"}, "text_b must fit the model of recipe smoke"),
    ],
)
def test_wrong_requests(
    smoke_home: Home, labelled: Path, changed: dict[str, str], message: str
) -> None:
    given = {"--input": str(labelled), "--text-a": "review", "--label": "verdict"} | changed
    done = rosita(
        "evaluate", *(word for pair in given.items() for word in pair), home=smoke_home.home
    )
    assert done.code == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("rosita: ") and message in last, done.stderr


@pytest.mark.parametrize(
    ("variable", "address", "bound"),
    [
        ("ROSITA_MLFLOW_URL", "mlflow.example.org", "begin with http:// or https://, got "),
        ("MLFLOW_TRACKING_URI", "mlflow.example.org:5000", "name a store that MLflow knows, got "),
    ],
)
def test_where_it_cannot_be_recorded_nothing_is_scored(
    smoke_home: Home, labelled: Path, tmp_path: Path, variable: str, address: str, bound: str
) -> None:
    wrong = tmp_path / "wrong.csv"
    named = ("--input", str(labelled), *COLUMNS, "--output", str(wrong))
    done = smoke_home.run("evaluate", *named, env={variable: address})
    assert done.returncode == 2 and not wrong.exists()
    assert done.stderr.splitlines()[-1].startswith(f"rosita: {variable} must {bound}{address}")


def test_in_a_home_that_cannot_be_written_it_is_scored_and_not_recorded(
    copied_home: Home, labelled: Path
) -> None:
    (copied_home.home / "machine.lock").unlink(missing_ok=True)
    (copied_home.home / "machine.lock").mkdir()
    done = rosita("evaluate", "--input", str(labelled), *COLUMNS, "--json", home=copied_home.home)
    assert done.code == 0, done.stderr
    assert "rosita: MLflow will not have the evaluation: " in done.stderr
    said = json.loads(done.stdout)
    assert said["rows"] == 60 and said["mlflow_run_id"] is None


def test_a_class_that_the_model_does_not_know(smoke_home: Home, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na film,positive\nwhat,mixed\n")
    done = rosita("evaluate", "--input", str(tmp_path / "rows.csv"), home=smoke_home.home)
    assert done.code == 2
    assert "label must be one of the model's classes (negative, positive)" in done.stderr
    assert "got 'mixed' in row 2" in done.stderr


def test_the_datas_own_names_of_classes_are_known_too(smoke_home: Home, tmp_path: Path) -> None:
    """Numbers, where a teacher that was taken as it is has given the model names for them."""
    model = tmp_path / "model"
    shutil.copytree(exported(smoke_home), model)
    path = model / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"rosita_classes": ["0", "1"]}))
    (tmp_path / "rows.csv").write_text("text,label\na film,0\nwhat,1.0\nwhat,positive\n")
    given = ("--input", str(tmp_path / "rows.csv"), "--model", str(model), "--json")
    done = rosita("evaluate", *given, home=smoke_home.home)
    assert done.code == 0, done.stderr
    assert {n: one["rows"] for n, one in done.document["classes"].items()} == {
        "negative": 1,
        "positive": 2,
    }
    for field, wrong in (
        ("rosita_classes", ["0"]),
        ("rosita_columns", "x"),
        ("rosita_columns", {"text_a": None}),
        ("rosita_columns", {"text_a": ["text"]}),
    ):
        path.write_text(json.dumps(config | {field: wrong}))
        done = rosita("evaluate", *given, home=smoke_home.home)
        assert (done.code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"rosita: model must have {field} of ")
        assert done.stderr.count("\n") == 1


def test_every_class_has_a_name_that_mlflow_takes() -> None:
    assert metric_names(("good", "so so")) == {"good": "good", "so so": "so so"}
    assert metric_names(("C++", "naïve (x)")) == {"C++": "C__", "naïve (x)": "naïve _x_"}
    assert metric_names(("C+", "C#")) == {"C+": "class 0", "C#": "class 1"}
    assert metric_names(("x" * 300, "b")) == {"x" * 300: "class 0", "b": "class 1"}
    for name in (*metric_names(("a/../b", "é:.x")).values(), "class 0"):
        _validate_metric_name(f"precision/{name}")
