"""A wrong request costs nothing: exit code 2, one line that says what is wrong, nothing written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import csv_file, recipe_file
from refusals import refused
from typed_command import run_rosita

ROWS = [f"film number {i} was {'good' if i % 2 else 'bad'},{i % 2}" for i in range(60)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., str]:
    """A recipe file for own data: smoke's sizes; `data` is added to its section."""

    def make(train: str | Path | None = None, **data: Any) -> str:
        if train is None:
            train = csv_file(tmp_path / "rows.csv", "text,label", ROWS)
        section = {"source": "files", "train": str(train), "dev_rows": 10} | data
        return recipe_file(tmp_path, {"base": "smoke", "task": "custom", "data": section})

    return make


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("depth.keep_layers=5", "depth.keep_layers must be in [1, 4] for a4_l4_f128_e32, got 5"),
        ("width.keep_heads=5", "width.keep_heads must be in [1, 4] for a4_l2_f128_e32, got 5"),
        ("width.ffn_units=129", "width.ffn_units must be in [1, 128] for a4_l2_f128_e32, got 129"),
        (
            "width.embedding_rank=33",
            "width.embedding_rank must be in [1, 32] for a4_l2_f128_e32, got 33",
        ),
        ("width.keep_heads=0", "width.keep_heads must be at least 1, got 0"),
        ("width.ffn_units=-4", "width.ffn_units must be at least 1, got -4"),
        ("depth.keep_layers=0", "depth.keep_layers must be at least 1, got 0"),
        ("width.embedding_rank=0", "width.embedding_rank must be at least 1, got 0"),
        ("width.keep_heads=two", "width.keep_heads must be a whole number, got 'two'"),
        ("width.keep_heads=1.5", "width.keep_heads must be a whole number, got 1.5"),
        ("width.keep_heads=true", "width.keep_heads must be a number, got True"),
        (
            "width.keep_heads=null",
            "width.keep_heads must be given, or compress.budget.share, got neither",
        ),
        ("teacher.learning_rate=0", "teacher.learning_rate must be above 0, got 0"),
        ("teacher.learning_rate=.nan", "teacher.learning_rate must be a finite number, got nan"),
        ("teacher.warmup=1", "teacher.warmup must be below 1, got 1"),
        ("teacher.warmup=-0.1", "teacher.warmup must be at least 0, got -0.1"),
        ("teacher.epochs=-1", "teacher.epochs must be at least 0, got -1"),
        ("width.epochs=0", "width.epochs must be above 0, got 0"),
        ("width.prune_fraction=1.5", "width.prune_fraction must be at most 1, got 1.5"),
        ("width.schedule=cosine", "width.schedule must be constant or linear, got 'cosine'"),
        ("kd_setting=5", "kd_setting must be none, 1, 2, 3 or 4, got '5'"),
        ("numerics.threads=0", "numerics.threads must be auto or at least 1, got 0"),
        ("assess.latency_batch_sizes=[]", "must be a list of at least 1 entry, got []"),
        ("assess.latency_batch_sizes=[1, 0]", "assess.latency_batch_sizes must be at least 1"),
        ("assess.latency_batch_sizes=[0]", "latency_batch_sizes must be at least 1, got 0"),
        ("data.domains=[cars]", "must be films, amazon, nyt or tweets, got 'cars'"),
        ("width=3", "width must be a section of fields, got 3"),
        ("teacher.max_length=513", "teacher.max_length must be at most 512, the positions of tiny"),
        ("assess.macs_tokens=600", "assess.macs_tokens must be at most 512"),
        ("assess.latency_tokens=600", "assess.latency_tokens must be at most 512"),
        ("numerics.device=cuda:99", "numerics.device must be "),
        ("numerics.device=abacus", "numerics.device must be auto, cpu, cuda or cuda:<index>"),
        ("width.keep_head=2", "width.keep_head must be one of the fields of width (learning_rate,"),
        ("nothing.at=1", "nothing must be one of the fields of recipe (name, problem, task,"),
        ("seed.at=1", "seed.at must be a field of a recipe, got seed without fields"),
        ("width.keep_heads", "--set must be field=value, got 'width.keep_heads'"),
        ("=2", "--set must be field=value, got '=2'"),
        ("problem=reviews-onnx", "problem must not end in -onnx, as registered graphs do, got"),
        ("task=poems", "task must be one of cola, sst2,"),
        ("data.source=hub", "data.source must be packaged for task film-reviews, got 'hub'"),
        ("task=custom", "data.source must be files for task custom, got 'packaged'"),
        ("task=sst2", "data.source must be hub or glue-dir for task sst2, got 'packaged'"),
        ("data.score=brier", "data.score must be accuracy, f1, macro_f1 or mcc, got 'brier'"),
        (
            "data.score=mcc",
            "data.score must be left alone unless task is custom with classes, got 'mcc'",
        ),
        ("data.select_fraction=0", "data.select_fraction must be above 0 unless fidelity."),
        (
            "augment.proposers.vectors=null",
            "augment.proposers must name mlm or vectors where augment.copies is above 0, got none",
        ),
        ("augment.proposers.vectors=no.txt", "augment.proposers.vectors must be one of glove-6b"),
        (
            "augment.proposers.mlm=minilm-l6",
            "augment.proposers.mlm must be a masked language model, got BertModel in ",
        ),
        ("teacher.model=no/such/place", "teacher.model must be one of minilm-l6, bert-base,"),
        (
            "teacher.epochs=0",
            "teacher.model must be a classifier with 2 outputs to be used without training, "
            "got none",
        ),
    ],
)
def test_field_of_a_recipe(change: str, message: str, home: Path) -> None:
    assert message in refused(home, "--recipe", "smoke", "--set", change)


def test_a_folder_that_is_missing(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: smoke\nteacher: {model: ./my-model}\n")
    folder = tmp_path / "my-model"
    assert refused(home, "--recipe", str(path)) == (
        f"teacher.model must be an existing directory, got {folder}"
    )


def test_plan_refuses_what_compress_refuses(home: Path) -> None:
    args = ("--recipe", "smoke", "--set", "width.keep_heads=5")
    assert refused(home, *args, command="plan") == refused(home, *args)


def test_unknown_recipe(home: Path) -> None:
    said = refused(home, "--recipe", "smokey")
    assert said.startswith("recipe must be one of smoke, smoke-roberta, ")
    assert said.endswith("or a YAML, TOML or JSON file, got 'smokey'; did you mean smoke?")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"width: [1, 2", "recipe must be YAML in UTF-8, got "),
        (b"task: caf\xe9", "recipe must be YAML in UTF-8, got "),
        (b"- one\n- two", "recipe must be a mapping of fields, got list"),
        (b"", "recipe must be a mapping of fields, got NoneType"),
        (b"base: smokey", "base must be a shipped recipe, got 'smokey'"),
        (b"base: [smoke]", "base must be a shipped recipe, got ['smoke']"),
        (b"base: smoke\n1: 2", "1 must be one of the fields of recipe"),
        (b"task: sst2", "teacher must be given, got nothing"),
    ],
)
def test_recipe_file(text: bytes, message: str, home: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text)
    assert message in refused(home, "--recipe", str(path))


def test_missing_recipe_file(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert refused(home, "--recipe", str(path)) == f"recipe must be an existing file, got {path}"


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (
            "sentence,label",
            ROWS,
            "text_a must name one column of {train} (sentence, label), got 'text' (no such column)",
        ),
        ("text,label", [], "{train} must have at least 1 row, got 0"),
        ("text,label", [f"film {i},1" for i in range(60)], "label of train must have at least 2"),
        ("text,label", [*ROWS, " ,1"], "text_a ('text') must not be empty, got ' ' in row 61"),
        ("text,label", [*ROWS, "a,b,1"], "must have 2 fields in each row, got 3 in line 62"),
        ("text,label", ROWS[:8], "data.dev_rows must be in [1, 6] for 8 rows of 2 classes, got 10"),
        (
            "text,label",
            [f"film,{i % 2}" for i in range(60)],
            "data.dev_rows must leave room for all rows of some text in the shares of their "
            "classes, got 10 of 60 rows, and 60 or more of each text",
        ),
        (
            "text,label",
            [f"film,row {i}" for i in range(60)],
            "data: train must have more rows than classes, so that some can be held out, "
            "got 60 rows of 60 classes",
        ),
        (
            ",".join(f"column{i}" for i in range(150)),
            [",".join(["x"] * 150)],
            "data.columns.text_a must name one column of {train} (column0, column1, column2, "
            "column3, column4, column5, column6, column7, column8, column9, and 140 more), "
            "got 'text' (no such column)",
        ),
    ],
)
def test_rows_of_own_data(
    header: str,
    rows: list[str],
    message: str,
    own: Callable[..., str],
    home: Path,
    tmp_path: Path,
) -> None:
    train = csv_file(tmp_path / "train.csv", header, rows)
    said = refused(home, "--recipe", own(train))
    assert message.format(train=train) in said
    assert said.startswith("data")


def test_missing_file(own: Callable[..., str], home: Path) -> None:
    said = refused(home, "--recipe", own("no.csv"))
    assert re.fullmatch(r"data\.train must be an existing file, got /\S+/no\.csv", said)


def test_no_file_at_all(home: Path) -> None:
    changes = ("--set", "task=custom", "--set", "data.source=files")
    said = refused(home, "--recipe", "smoke", *changes)
    assert said == "data.train must name a file for data.source files, got none"


def test_unsupported_file(own: Callable[..., str], home: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.xls").write_text("x")
    said = refused(home, "--recipe", own(tmp_path / "rows.xls"))
    assert said.startswith("data.train must end in one of .csv, .tsv, .jsonl, .parquet, .nd")


def test_text_that_is_not_utf_8(own: Callable[..., str], home: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes("text,label\ngood,1\ncafé,0\n".encode("latin-1"))
    said = refused(home, "--recipe", own(path))
    assert said.startswith(f"data.train: {path} must be UTF-8, got byte 0xe9 in line 3")


def test_null_text(own: Callable[..., str], home: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    texts = [f"film {i}" for i in range(40)]
    texts[6] = None  # type: ignore[call-overload]
    pd.DataFrame({"text": texts, "label": [0, 1] * 20}).to_parquet(path)
    said = refused(home, "--recipe", own(path))
    assert said.startswith("data.train: text_a ('text') must not be null, got null in row 7 of")


def test_label_that_train_lacks(own: Callable[..., str], home: Path, tmp_path: Path) -> None:
    dev = csv_file(tmp_path / "dev.csv", "text,label", [*ROWS[:4], "strange,2"])
    said = refused(home, "--recipe", own(dev=dev))
    assert said == "data.dev: label must be one of the training data's (0, 1), got '2' in row 5"


def test_label_that_150_classes_of_train_lack(
    own: Callable[..., str], home: Path, tmp_path: Path
) -> None:
    rows = [f"film number {i},class {i % 150:03}" for i in range(600)]
    train = csv_file(tmp_path / "train.csv", "text,label", rows)
    dev = csv_file(tmp_path / "dev.csv", "text,label", [*rows[:9], f"strange,{'long ' * 50}"])
    shown = ", ".join(f"class {i:03}" for i in range(10))
    said = refused(home, "--recipe", own(train, dev=dev))
    assert said == (
        f"data.dev: label must be one of the training data's ({shown}, and 140 more), "
        f"got '{('long ' * 12)[:58]}… in row 10"
    )


def test_label_that_is_no_number(own: Callable[..., str], home: Path, tmp_path: Path) -> None:
    train = csv_file(tmp_path / "train.csv", "text,label", [*ROWS, "so so,medium"])
    said = refused(home, "--recipe", own(train, kind="regression"))
    assert said.startswith("data.train: label must be a finite number for regression, got 'medium'")


def test_f1_of_three_classes_and_scores_of_numbers(
    own: Callable[..., str], home: Path, tmp_path: Path
) -> None:
    rows = [f"film number {i},{i % 3}" for i in range(60)]
    train = csv_file(tmp_path / "train.csv", "text,label", rows)
    assert refused(home, "--recipe", own(train, score="f1")) == (
        "data.score must be one of accuracy, macro_f1, mcc for 3 classes, got 'f1'"
    )
    said = refused(home, "--recipe", own(train, kind="regression", score="f1"))
    assert said.startswith(
        "data.score must be left alone unless task is custom with classes, got 'f1' ("
    )


def test_second_text_that_is_not_there(own: Callable[..., str], home: Path) -> None:
    said = refused(home, "--recipe", own(columns={"text_b": "reply"}))
    assert "text_b must name one column of" in said


def test_glue_directory(home: Path, tmp_path: Path) -> None:
    changes = ("--set", "task=sst2", "--set", "data.source=glue-dir")
    said = refused(home, "--recipe", "smoke", *changes)
    assert said == "data.path must name a directory for data.source glue-dir, got none"
    said = refused(home, "--recipe", "smoke", *changes, "--set", f"data.path={tmp_path}")
    assert said == (f"data.path must be a directory with a train.tsv or a SST-2, got {tmp_path}")
    (tmp_path / "train.tsv").write_text("sentence\tlabel\ngood\t1\nbad\t0\n")
    said = refused(home, "--recipe", "smoke", *changes, "--set", f"data.path={tmp_path}")
    unread = refused(home, "--recipe", "smoke", "--set", f"data.path={tmp_path}")
    assert unread.startswith("data.path must be empty unless data.source is glue-dir, got ")
    assert said.startswith("data.path: dev.tsv must be an existing file, got")
    (tmp_path / "dev.tsv").write_text("sentence\tclass\ngood\t1\n")
    said = refused(home, "--recipe", "smoke", *changes, "--set", f"data.path={tmp_path}")
    assert "must have the columns sentence, label, got sentence, class" in said


def test_more_prunes_than_steps(own: Callable[..., str], home: Path) -> None:
    args = ("--recipe", own(), "--set", "width.prune_steps=40")
    assert refused(home, *args) == (
        "width.prune_steps must be at most 3, the optimizer steps of 1 epochs over 90 rows, got 40"
    )
    args = ("--recipe", own(), "--set", "depth.epochs=0.1")
    assert refused(home, *args).startswith("depth.keep_layers must remove at most 1 layers, the")


def test_as_a_user_types_it(tmp_path: Path) -> None:
    """The same through the installed command in a process of its own."""
    home = tmp_path / "elsewhere"
    done = run_rosita(("compress", "--recipe", "smokey"), home, tmp_path / "prefect")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("rosita: recipe must be one of ")
    assert not home.exists()
