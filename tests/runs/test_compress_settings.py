"""Compressions that differ in KD setting, fidelity switches, one field, or the teacher."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from compressions import NAMES, TINY, artifact, cached_home, compressed, runs, status
from transformers import BertConfig, BertForSequenceClassification
from typed_command import Home

from rosita_core.model.checkpoint import load
from rosita_core.model.locate import locate
from tasks.store.artifacts import Store

pytestmark = pytest.mark.usefixtures("in_prefect")


@pytest.fixture(scope="module")
def warm(smoke_home: Home, mlflow_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the cache of the smoke run and an MLflow store of its own."""
    home = tmp_path_factory.mktemp("warm") / "home"
    return cached_home(smoke_home.home, home, mlflow_tables)


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


def test_compressed_model_as_the_teacher(smoke_home: Home, warm: Path) -> None:
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
    names = {0: "POSITIVE", 1: "NEGATIVE"}
    config = BertConfig(intermediate_size=32, id2label=names, **sizes)
    model = BertForSequenceClassification(config).eval()
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
    torch.testing.assert_close(found, expected.flip(1), rtol=0, atol=1e-7)
    assert teacher.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}
    assert summary["teacher"]["params"] == sum(p.numel() for p in model.parameters())
