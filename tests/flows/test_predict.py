"""`rosita predict`: the same answers as transformers gives, from any input, and wrong requests."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from command_line import rosita
from transformers import AutoTokenizer
from typed_command import Home

from flows.api import load as load_model
from flows.serving.predict import answers, read_lines
from rosita_core.model.checkpoint import fresh, load, save
from rosita_core.model.modeling_rosita import RositaConfig
from tasks.tracking.served_model import CompressedModel

TEXTS = ["A quiet, moving film.", "Dull; far too long, and it knows it", "what?"]


def expected(folder: str, texts: list[str]) -> list[tuple[str, float]]:
    """Labels and probabilities from transformers alone, one text at a time."""
    model, tokenizer = load(folder), AutoTokenizer.from_pretrained(folder)
    found = []
    for text in texts:
        with torch.inference_mode():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        probabilities = logits.double().softmax(-1)
        best = int(probabilities.argmax())
        found.append((model.config.id2label[best], float(probabilities[best])))
    return found


def test_lines_of_standard_input_are_answered_in_order(smoke_home: Home) -> None:
    done = smoke_home.run("predict", "--json", stdin="\n".join(TEXTS) + "\n")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    got = [(one["prediction"], one["probability"]) for one in document["predictions"]]
    wanted = expected(smoke_home.summary["export_dir"], TEXTS)
    assert [label for label, _ in got] == [label for label, _ in wanted]
    assert [p for _, p in got] == pytest.approx([p for _, p in wanted], abs=1e-5)
    assert document["run_id"] == smoke_home.summary["run_id"]
    # Which model answered is said where it was not asked for, and not on stdout.
    [said] = done.stderr.splitlines()
    assert smoke_home.summary["run_id"] in said


def test_a_file_and_a_text_get_the_same_answers(smoke_home: Home, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.parquet"
    pd.DataFrame({"review": TEXTS, "id": [1, 2, 3]}).to_csv(source, index=False)
    done = rosita(
        *("predict", "--input", str(source), "--text-a", "review", "--output", str(target)),
        *("--batch-size", "2", "--model", smoke_home.summary["run_id"]),
        home=smoke_home.home,
    )
    assert done.code == 0, done.stderr
    assert done.stderr == ""
    written = pd.read_parquet(target)
    assert list(written.columns) == ["review", "id", "prediction", "probability"]
    assert written["review"].tolist() == TEXTS
    assert written["id"].astype(int).tolist() == [1, 2, 3]
    folder = smoke_home.summary["export_dir"]
    wanted = expected(folder, TEXTS)
    assert written["probability"].tolist() == pytest.approx([p for _, p in wanted], abs=1e-5)
    one = rosita("predict", TEXTS[0], "--model", folder, home=tmp_path / "none")
    label, probability = one.stdout.strip().split("\t")
    assert label == wanted[0][0]
    assert float(probability) == pytest.approx(wanted[0][1], abs=1e-4)


def test_answers_are_for_whom_the_user_says_and_hold_no_formula(
    smoke_home: Home, tmp_path: Path
) -> None:
    """The home is the user's alone, and the file of answers is as the user makes files."""
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    texts = ["=HYPERLINK(1)", "@critic liked it", "a fine film"]
    pd.DataFrame({"review": texts}).to_csv(source, index=False)
    before = os.umask(0o027)
    try:
        done = rosita(
            *("predict", "--input", str(source), "--text-a", "review", "--output", str(target)),
            home=smoke_home.home,
        )
    finally:
        os.umask(before)
    assert done.code == 0, done.stderr
    assert target.stat().st_mode & 0o777 == 0o640
    written = pd.read_csv(target)
    assert written["review"].tolist() == ["'=HYPERLINK(1)", "'@critic liked it", "a fine film"]


def test_a_regression_of_pairs_answers_with_a_number(smoke_home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "regression"
    tokenizer = AutoTokenizer.from_pretrained(smoke_home.summary["export_dir"])
    config = RositaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        head_size=4,
        embedding_rank=2,
        layer_heads=[2],
        layer_ffn_units=[8],
        max_position_embeddings=32,
        num_labels=1,
        problem_type="regression",
    )
    save(fresh(config, 0), folder)
    tokenizer.save_pretrained(folder)
    done = rosita(
        "predict", "one", "--text-b", "two", "--model", str(folder), "--json", home=tmp_path
    )
    assert done.code == 0, done.stderr
    document = done.document
    with torch.inference_mode():
        logits = load(folder)(**tokenizer("one", "two", return_tensors="pt")).logits
    assert document["labels"] == []
    assert document["predictions"] == [{"score": pytest.approx(float(logits[0, 0]), abs=1e-5)}]


@pytest.fixture
def pairs(smoke_home: Home, tmp_path: Path) -> Path:
    """The model of the smoke run, exported as one of pairs."""
    folder = tmp_path / "pairs"
    shutil.copytree(smoke_home.summary["export_dir"], folder, copy_function=shutil.copyfile)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["text_pair"] is False
    (folder / "config.json").write_text(json.dumps(config | {"text_pair": True}))
    return folder


def test_an_exported_model_of_pairs_answers_pairs_alone(pairs: Path, tmp_path: Path) -> None:
    model, home = ("--model", str(pairs)), tmp_path / "home"
    done = rosita("predict", "one", "--text-b", "two", *model, home=home)
    assert done.code == 0, done.stderr
    alone = rosita("predict", "one", *model, home=home)
    assert (alone.code, alone.stdout) == (2, "")
    assert alone.stderr == (
        f"rosita: text_b must fit the model in {pairs}, which reads two texts (--text-b, or "
        "--input with --text-b-column), got one text\n"
    )
    with pytest.raises(ValueError, match="texts_b must be given to a model of pairs, got none"):
        load_model(pairs).predict(["one"])


def test_a_model_of_pairs_is_no_teacher_of_single_texts(pairs: Path, tmp_path: Path) -> None:
    own = (f"--set=teacher.model={pairs}", "--set=teacher.epochs=0", "--set=student.start=teacher")
    sizes = ("depth.keep_layers=1", "width.keep_heads=1", "width.ffn_units=16")
    changes = (*own, *(f"--set={size}" for size in (*sizes, "width.embedding_rank=4")))
    done = rosita("plan", "--recipe", "smoke", *changes, home=tmp_path / "home")
    assert done.code == 2
    assert done.stderr == (
        "rosita: teacher.model must read single texts, as the data has them, to be used without "
        "training, got one that reads pairs\n"
    )


def test_a_served_model_of_pairs_wants_both_texts(pairs: Path) -> None:
    served = CompressedModel()
    served.load_context(SimpleNamespace(artifacts={"checkpoint": str(pairs)}))
    both = pd.DataFrame({"text": ["one", "three"], "text_b": ["two", "four"]})
    assert len(served.predict(None, both)) == 2
    for alone in (both[["text"]], both.assign(text_b=["two", None])):
        with pytest.raises(ValueError, match="input must have the column text_b filled in"):
            served.predict(None, alone)


def test_probabilities_are_those_of_the_softmax() -> None:
    table = answers(torch.tensor([[0.0, 0.0, 2.0], [3.0, 3.0, -50.0]]).numpy(), ("a", "b", "c"))
    assert table["prediction"].tolist() == ["c", "a"]
    weight = torch.tensor(2.0).double().exp()
    assert table["probability"].tolist() == pytest.approx([float(weight / (weight + 2)), 0.5])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "got none"),
        (b"one\n\ntwo\n", "line 2"),
        (b"one\n\xe2\x80\x8b\ntwo\n", "line 2"),
        (b"one\ncaf\xe9\n", "byte 0xe9 in line 2"),
    ],
)
def test_lines_that_cannot_be_read(raw: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_lines(raw)


def test_a_byte_order_mark_and_windows_line_ends_are_no_text() -> None:
    assert read_lines(b"\xef\xbb\xbfone\r\ntwo")["text_a"].tolist() == ["one", "two"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("text", "--input", "x.csv"), "text must not be given together with --input"),
        (("text", "--text-a", "x"), "text_a must be given together with --input"),
        (("text", "--model", "no/such/place"), "model must be a checkpoint directory, or a"),
        (("text", "--model", "m" * 300), "model must be a checkpoint directory, or a"),
        (("text", "--model", "models:/rosita-x/1"), "model must be a checkpoint directory, or a"),
        (("\u200b",), "text must not be empty"),
        (("  ",), "text must not be empty"),
        (("text",), "model must be given where no run has finished"),
    ],
)
def test_wrong_requests(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = rosita("predict", *arguments, home=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "x.xls", "--text-a", "x"), "input must end in one of .csv, "),
        (("--input", "x.csv"), "input must be an existing file, got x.csv"),
        (("--input", f"{'x' * 300}.csv"), "input must be an existing file, got xxx"),
        (("text", "--output", f"{'x' * 300}.csv"), "output must be in a folder that can be"),
        (("text", "--output", "answers.txt"), "output must end in one of"),
        (("text", "--output", "no/such/folder/a.csv"), "output must be in a folder"),
        (("text", "--text-b", "second"), "which reads one text, got two texts"),
        (("text", "--max-length", "100000"), "max_length must be in [4, 512]"),
        (("text", "--device", "tpu"), "device must be auto, cpu, cuda"),
        (("text", "--threads", "9" * 12), "threads must be auto or in [1, 65,536], got '999"),
        (("text", "--threads", "9" * 5000), "threads must be auto or in [1, 65,536], got '999"),
    ],
)
def test_wrong_requests_to_a_model(
    arguments: tuple[str, ...], message: str, smoke_home: Home
) -> None:
    model = smoke_home.summary["run_id"]
    done = rosita("predict", *arguments, "--model", model, home=smoke_home.home)
    assert (done.code, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_code_of_a_tokenizer_is_not_run_whatever_is_typed(
    smoke_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(smoke_home.summary["export_dir"], folder, copy_function=shutil.copyfile)
    (folder / "own.py").write_text(
        f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n"
        "from transformers import BertTokenizerFast\n"
        "class Own(BertTokenizerFast): pass\n"
    )
    path = folder / "tokenizer_config.json"
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\n"))
    done = rosita("predict", "--model", str(folder), "a text", home=tmp_path / "home")
    assert not ran.exists()
    assert done.code == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    done = rosita("predict", "text", "--model", str(tmp_path), home=tmp_path / "home")
    assert done.code == 2
    assert "config.json" in done.stderr
