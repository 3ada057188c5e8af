"""`rosita export`: the compressed model, whole, in a directory of the user's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import rosita
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typed_command import Home

import rosita_core.model.register  # noqa: F401
from rosita_core.model.checkpoint import load


def test_the_copy_gives_the_same_logits_and_belongs_to_the_user(
    smoke_home: Home, tmp_path: Path
) -> None:
    target = tmp_path / "new" / "model"
    done = rosita("export", str(target), "--json", home=smoke_home.home)
    assert done.code == 0, done.stderr
    assert done.document["run_id"] == smoke_home.summary["run_id"]
    source = Path(smoke_home.summary["export_dir"])
    names = {path.name for path in source.iterdir()}
    assert {path.name for path in target.iterdir()} == names
    assert done.document["bytes"] == sum(path.stat().st_size for path in source.rglob("*"))
    assert all(
        os.access(path, os.W_OK) and path.stat().st_mode & 0o200 for path in target.iterdir()
    )
    batch = AutoTokenizer.from_pretrained(target)("A quiet, moving film.", return_tensors="pt")
    copy = AutoModelForSequenceClassification.from_pretrained(target).eval()
    with torch.inference_mode():
        assert torch.equal(copy(**batch).logits, load(source).eval()(**batch).logits)
    assert list(target.parent.iterdir()) == [target]


def test_an_empty_directory_is_filled_and_a_full_one_is_refused(
    smoke_home: Home, tmp_path: Path
) -> None:
    run = smoke_home.summary["run_id"]
    target = tmp_path / "model"
    target.mkdir()
    done = rosita("export", str(target), "--model", run, home=smoke_home.home)
    assert done.code == 0, done.stderr
    assert (target / "model.safetensors").is_file()
    before = {path: path.stat().st_mtime_ns for path in target.iterdir()}
    again = rosita("export", str(target), home=smoke_home.home)
    assert (again.code, again.stdout) == (2, "")
    assert again.stderr == (
        f"rosita: folder must be a directory that is new or empty, got {target}\n"
    )
    assert {path: path.stat().st_mtime_ns for path in target.iterdir()} == before


def test_a_place_below_a_file_is_refused(smoke_home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    target = tmp_path / "file" / "model"
    done = rosita("export", str(target), home=smoke_home.home)
    assert done.code == 2
    assert done.stderr.startswith(
        f"rosita: folder must be a place that can be written, got {target}"
    )


@pytest.mark.parametrize("name", ["onnx", "onnx-int8"])
def test_a_graph_answers_as_the_checkpoint_does(
    smoke_home: Home, tmp_path: Path, name: str
) -> None:
    target = tmp_path / name
    # In a process of its own, which knows no model before: transformers would say so.
    done = smoke_home.run("export", str(target), "--format", name)
    assert done.returncode == 0, done.stderr
    assert "model of type" not in done.stderr
    assert (target / "model.onnx").is_file() and not (target / "model.safetensors").exists()
    assert list(target.parent.iterdir()) == [target]
    asked = ("predict", "A quiet, moving film.", "--json", "--model")
    graph = rosita(*asked, str(target), home=smoke_home.home)
    assert graph.code == 0, graph.stderr
    checkpoint = rosita(*asked, smoke_home.summary["run_id"], home=smoke_home.home)
    [found], [expected] = (done.document["predictions"] for done in (graph, checkpoint))
    least = {"onnx": 1e-4, "onnx-int8": 0.05}[name]
    assert found["probability"] == pytest.approx(expected["probability"], abs=least)
    alone = subprocess.run(
        [sys.executable, str(target / "predict.py")],
        input="A quiet, moving film.\n",
        capture_output=True,
        text=True,
        check=True,
    )
    # Beside weights, of which nobody knows whether it is made, a graph is not asked.
    both = Path(shutil.copytree(smoke_home.artifact("export"), tmp_path / "both"))
    both.chmod(0o755)
    (both / "model.onnx").write_text("a graph of something else")
    said = rosita(*asked, str(both), home=smoke_home.home)
    assert said.document["predictions"] == [expected]
    label, share = alone.stdout.strip().split("\t")
    assert label == found["prediction"]
    assert float(share) == pytest.approx(found["probability"], abs=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"id2label": {"0": "a", "5": "b"}}, "model must have an id2label from 0 on, got "),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "graph must say logits of 3 classes, as "),
        ({"id2label": ["a", "b"]}, "model must have an id2label from 0 on, got "),
        ({"model_type": "bert"}, "graph must be one that was made of a compressed model, got a b"),
    ],
)
def test_a_graph_with_the_configuration_of_another_answers_nothing(
    smoke_home: Home, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "graph"
    done = rosita("export", str(folder), "--format", "onnx", home=smoke_home.home)
    assert done.code == 0, done.stderr
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    done = rosita("predict", "A film.", "--model", str(folder), home=smoke_home.home)
    assert (done.code, done.stdout) == (2, "")
    assert message in done.stderr


def test_what_cannot_be_converted_is_refused(smoke_home: Home, tmp_path: Path) -> None:
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "model.onnx").touch()
    for arguments, message in (
        (("--format", "tflite"), "export must be one of hugging-face, onnx, onnx-int8"),
        (("--model", str(tmp_path / "graph")), "model must be a checkpoint to be exported"),
        (
            ("--model", str(tmp_path)),
            "model must be a checkpoint directory with a config.json, got",
        ),
        (
            ("--model", str(tmp_path), "--format", "onnx"),
            "model must be a checkpoint directory with a config.json, got",
        ),
    ):
        done = rosita("export", str(tmp_path / "out"), *arguments, home=smoke_home.home)
        assert (done.code, done.stdout) == (2, "")
        assert message in done.stderr
        assert not (tmp_path / "out").exists()


def test_the_files_of_deployments_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    done = rosita("deployments", "--copy", str(target), home=tmp_path / "home")
    assert (done.code, done.stdout) == (0, f"{target / 'README.md'}\n")
    assert {"prefect.yaml", "compose.yaml", ".env.example"} <= {p.name for p in target.iterdir()}
    assert list(tmp_path.glob(".rosita-*")) == []
    (target / "prefect.yaml").write_text("name: mine\n")
    again = rosita("deployments", "--copy", str(target), home=tmp_path / "home")
    assert (again.code, again.stdout) == (2, "")
    assert again.stderr == f"rosita: copy must be a directory that is new or empty, got {target}\n"
    assert (target / "prefect.yaml").read_text() == "name: mine\n"
