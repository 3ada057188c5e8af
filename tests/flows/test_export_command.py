"""`rosita export`: the compressed model, whole, in a directory of the user's own."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from command_line import rosita
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typed_command import Home

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
