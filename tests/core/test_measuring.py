"""Laws of measuring: units, fairness, what is left untouched, and what a record gives back."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from transformers import BertTokenizer

from rosita_core.data.encoding import Encoded, encode
from rosita_core.data.framing import Framing, framing_of
from rosita_core.measuring.assessment import (
    Assessment,
    assessment_to_json,
    read_assessment,
    summary_metrics,
    write_assessment,
)
from rosita_core.measuring.disk import disk_mb
from rosita_core.measuring.engines import TORCH, Engine, Rounds, measure_engines
from rosita_core.measuring.latency import check_latency_request, measure_side_by_side
from rosita_core.measuring.memory import peak_cuda_mib, peak_resident_mib
from rosita_core.measuring.metrics import compute_metrics
from rosita_core.measuring.score import Scoring, predict_logits
from rosita_core.model.checkpoint import fresh, save, shape_of
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification
from rosita_core.model.shape import count_macs, count_parameters
from rosita_core.stages.assess import AssessSettings, assess
from rosita_core.training.placement import Placement
from rosita_core.training.progress import Progress

# The kernel counts pages on every processor and adds them up late.
COUNTED_LATE_MIB = 1
CPU = Placement("cpu", "fp32")
WORDS = ["good", "bad", "dull", "bright", "film", "plot", "actor", "story", "the", "not"]
ACCURACY = Scoring(("accuracy", "f1"), "accuracy", False, batch_size=8, max_length=16)
SETTINGS = AssessSettings(
    scoring=ACCURACY,
    latency_batch_sizes=(1, 4),
    latency_tokens=6,
    latency_repeats=3,
    latency_warmup=1,
    macs_tokens=16,
    seed=5,
    domains=(),
    baselines=(),
)


def tiny(seed: int = 0, **changes: Any) -> RositaForSequenceClassification:
    sizes: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 16,
        "head_size": 4,
        "layer_heads": [4, 4],
        "layer_ffn_units": [32, 32],
        "max_position_embeddings": 32,
        "num_labels": 2,
        "problem_type": "single_label_classification",
        # Wide enough that predictions differ between rows.
        "initializer_range": 0.5,
    }
    return fresh(RositaConfig(**sizes | changes), seed).eval()


def small(seed: int = 1, **changes: Any) -> RositaForSequenceClassification:
    sizes = {"layer_heads": [1, 1], "layer_ffn_units": [8, 4], "embedding_rank": 4}
    return tiny(seed, **sizes | changes)


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(vocab)})


@pytest.fixture(scope="module")
def framing(tokenizer: BertTokenizer) -> Framing:
    return framing_of(tokenizer)


def rows(tokenizer: BertTokenizer, path: Path, count: int, seed: int, scale: bool) -> Encoded:
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, random.integers(1, 12))) for _ in range(count)]
    labels = random.uniform(0, 5, count) if scale else random.integers(0, 2, count)
    encode([pd.DataFrame({"text_a": texts, "label": labels})], tokenizer, path)
    return Encoded(path)


@pytest.fixture(scope="module")
def dev(tokenizer: BertTokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoded]:
    folder = tmp_path_factory.mktemp("dev")
    return {
        "dev": rows(tokenizer, folder / "dev.arrow", 30, 1, False),
        "dev_mismatched": rows(tokenizer, folder / "mismatched.arrow", 17, 2, False),
    }


@pytest.fixture(scope="module")
def assessment(dev: dict[str, Encoded], framing: Framing) -> Assessment:
    models = {"teacher": tiny(), "student": small()}
    return assess(models, dev, framing, SETTINGS, CPU, lambda progress: None)


def watch(
    model: RositaForSequenceClassification, note: Callable[[dict[str, Any]], None]
) -> RositaForSequenceClassification:
    """`model`, telling the inputs of every pass."""

    def hook(_module: torch.nn.Module, _args: tuple, inputs: dict[str, Any]) -> None:
        note(inputs)

    model.register_forward_pre_hook(hook, with_kwargs=True)
    return model


# Latency


def test_a_pass_that_waits_takes_at_least_that_many_milliseconds() -> None:
    slow = watch(tiny(), lambda inputs: time.sleep(0.02))
    latency = measure_side_by_side({"slow": slow}, 1, 4, 3, 0, 0, CPU)["slow"]
    assert (latency.batch_size, latency.tokens, latency.repeats) == (1, 4, 3)
    assert 20 <= latency.p50_ms <= latency.p95_ms < 2000


def test_models_take_turns_and_read_the_same_unpadded_ids() -> None:
    turns: list[str] = []
    seen: list[torch.Tensor] = []

    def note(name: str) -> Callable[[dict[str, Any]], None]:
        def remember(inputs: dict[str, Any]) -> None:
            assert torch.is_inference_mode_enabled()
            assert bool(inputs["attention_mask"].all())
            turns.append(name)
            seen.append(inputs["input_ids"].clone())

        return remember

    models = {"a": watch(tiny(), note("a")), "b": watch(small(vocab_size=40), note("b"))}
    measure_side_by_side(models, 3, 7, 2, 1, 11, CPU)
    # Each turn is an untimed and a timed pass; one round of warm-up, then two.
    assert turns == ["a", "a", "b", "b"] * 3
    assert all(torch.equal(ids, seen[0]) for ids in seen)
    assert seen[0].shape == (3, 7)
    assert int(seen[0].max()) < 40


def test_the_ids_follow_the_seed_and_nothing_else_random_is_touched() -> None:
    def ids(seed: int) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        model = watch(tiny(), lambda inputs: seen.append(inputs["input_ids"].clone()))
        measure_side_by_side({"model": model}, 2, 9, 1, 0, seed, CPU)
        return seen[0]

    before = torch.random.get_rng_state()
    assert torch.equal(ids(1), ids(1))
    assert not torch.equal(ids(1), ids(2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_model_with_fifty_times_the_work_is_slower() -> None:
    heavy = tiny(hidden_size=256, head_size=64, layer_ffn_units=[1024] * 4, layer_heads=[4] * 4)
    found = measure_side_by_side({"heavy": heavy, "light": small()}, 8, 32, 7, 2, 0, CPU)
    assert found["heavy"].p50_ms > 2 * found["light"].p50_ms


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {}}, "models must have at least 1 entry"),
        ({"batch_sizes": ()}, "batch_sizes must have at least 1 entry"),
        ({"batch_sizes": (4, 0)}, "batch_size must be at least 1 .* got 0"),
        ({"tokens": 33}, "tokens must be at most 32, the positions of model, got 33"),
        ({"tokens": 0}, "tokens must be at least 1 .* got 0"),
        ({"repeats": 0}, "repeats must be at least 1 .* got 0"),
        ({"warmup": -1}, "warmup must be at least 0 .* got -1"),
    ],
)
def test_what_cannot_be_timed_is_refused(change: dict[str, Any], message: str) -> None:
    request: dict[str, Any] = {
        "models": {"model": tiny()},
        "batch_sizes": (1,),
        "tokens": 4,
        "repeats": 1,
        "warmup": 0,
    }
    with pytest.raises(ValueError, match=message):
        check_latency_request(**request | change)


def test_a_model_in_train_mode_is_not_timed() -> None:
    with pytest.raises(ValueError, match="eval mode"):
        measure_side_by_side({"it": tiny().train()}, 1, 4, 1, 0, 0, CPU)


# Memory and disk


def test_the_peak_covers_what_is_held_now_and_never_falls() -> None:
    process = psutil.Process()
    before = peak_resident_mib()
    block = np.ones(64 * 2**20, np.uint8)
    held = process.memory_info().rss / 2**20
    peak = peak_resident_mib()
    assert peak >= max(before, held) - COUNTED_LATE_MIB
    assert peak < 1000 * held
    del block
    assert peak_resident_mib() >= peak - COUNTED_LATE_MIB


def test_a_process_does_not_report_the_memory_of_the_one_that_started_it() -> None:
    block = np.ones(512 * 2**20, np.uint8)
    mine = psutil.Process().memory_info().rss / 2**20
    code = "from rosita_core.measuring.memory import peak_resident_mib as p; print(p())"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": root},
    )
    del block
    assert float(done.stdout) < mine - 100


@pytest.mark.parametrize("device", ["cpu", "cuda:99"])
def test_cuda_memory_of_another_device_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match="device must be one of the"):
        peak_cuda_mib(device)


def test_disk_counts_the_bytes_of_all_files_and_of_what_links_point_to(tmp_path: Path) -> None:
    folder, blobs = tmp_path / "checkpoint", tmp_path / "blobs"
    (folder / "deeper").mkdir(parents=True)
    blobs.mkdir()
    (folder / "config.json").write_bytes(b"x" * 1000)
    (folder / "deeper" / "vocab.txt").write_bytes(b"x" * 500)
    (blobs / "weights").write_bytes(b"x" * 2_000_000)
    (folder / "model.safetensors").symlink_to(blobs / "weights")
    assert disk_mb(folder) == 2.0015
    with pytest.raises(ValueError, match="must be a directory"):
        disk_mb(folder / "config.json")


# Assessment


def test_sizes_are_those_of_the_formula(assessment: Assessment) -> None:
    for name, model in (("teacher", tiny()), ("student", small())):
        shape = shape_of(model.config)
        found = assessment.models[name]
        assert found.shape == str(shape)
        assert found.params == count_parameters(shape)
        assert found.params.total == sum(p.numel() for p in model.parameters())
        assert found.macs == count_macs(shape, SETTINGS.macs_tokens)
    counts = [assessment.models[name].params.total for name in ("teacher", "student")]
    assert assessment.compression == counts[0] / counts[1] > 1


def test_scores_follow_from_the_logits_that_are_kept(
    assessment: Assessment, dev: dict[str, Encoded], framing: Framing
) -> None:
    for name, model in (("teacher", tiny()), ("student", small())):
        found = assessment.models[name]
        for split, suffix in (("dev", ""), ("dev_mismatched", "_mismatched")):
            logits = predict_logits(model, dev[split], 8, 16, framing, CPU)
            assert np.array_equal(found.logits[split], logits)
            metrics = compute_metrics(("accuracy", "f1"), logits.argmax(1), dev[split].labels)
            assert found.metrics[f"accuracy{suffix}"] == metrics["accuracy"]
            assert found.metrics[f"f1{suffix}"] == metrics["f1"]
        assert found.score == found.metrics["accuracy"]
        assert len(found.metrics) == 4


def test_a_model_keeps_all_of_itself(dev: dict[str, Encoded], framing: Framing) -> None:
    model = tiny()
    models = {"teacher": model, "student": model}
    found = assess(models, dev, framing, SETTINGS, CPU, lambda progress: None)
    assert found.models["teacher"].score > 0
    assert found.retention == 1.0
    assert found.compression == 1.0


def test_nothing_is_retained_of_a_score_that_is_not_positive(assessment: Assessment) -> None:
    for score in (0.0, -0.2):
        teacher = replace(assessment.models["teacher"], score=score)
        changed = replace(assessment, models=assessment.models | {"teacher": teacher})
        assert changed.retention is None
        assert assessment_to_json(changed)["retention"] is None


def test_models_stay_as_they_are(dev: dict[str, Encoded], framing: Framing) -> None:
    models = {"teacher": tiny().requires_grad_(False), "student": small().train()}
    before = {name: {n: t.clone() for n, t in m.state_dict().items()} for name, m in models.items()}
    assess(models, dev, framing, SETTINGS, CPU, lambda progress: None)
    assert not any(p.requires_grad for p in models["teacher"].parameters())
    assert all(p.requires_grad for p in models["student"].parameters())
    assert models["student"].training and not models["teacher"].training
    for name, model in models.items():
        state = model.state_dict()
        assert all(torch.equal(state[n], tensor) for n, tensor in before[name].items())


def test_progress_counts_up_to_the_end(dev: dict[str, Encoded], framing: Framing) -> None:
    seen: list[Progress] = []
    assess({"teacher": tiny(), "student": small()}, dev, framing, SETTINGS, CPU, seen.append)
    total = 2 * 2 + 2
    assert [progress.step for progress in seen] == list(range(1, total + 1))
    assert all(progress.total_steps == total for progress in seen)


def test_a_regression_is_scored_by_its_numbers(
    tokenizer: BertTokenizer, framing: Framing, tmp_path: Path
) -> None:
    data = rows(tokenizer, tmp_path / "dev.arrow", 20, 3, True)
    one: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"}
    models = {"teacher": tiny(**one), "student": small(**one)}
    scoring = Scoring(("pearson", "spearman"), "pearson", True, 8, 16)
    found = assess(
        models, {"dev": data}, framing, replace(SETTINGS, scoring=scoring), CPU, lambda p: None
    )
    student = found.models["student"]
    assert student.logits["dev"].shape == (20, 1)
    expected = np.corrcoef(student.logits["dev"][:, 0].astype(float), data.labels)[0, 1]
    assert student.score == pytest.approx(expected, abs=1e-9)
    write_assessment(found, tmp_path / "out")
    assert np.array_equal(read_assessment(tmp_path / "out").labels["dev"], data.labels)


def test_logits_that_are_not_numbers_are_no_score(
    dev: dict[str, Encoded], framing: Framing
) -> None:
    broken = small()
    with torch.no_grad():
        broken.classifier.bias[0] = math.nan
    models = {"teacher": tiny(), "student": broken}
    with pytest.raises(ValueError, match=r"logits of student must be finite, .* in dev row 1"):
        assess(models, dev, framing, SETTINGS, CPU, lambda progress: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"macs_tokens": 33}, r"macs_tokens must be in \[1, 32\]"),
        ({"scoring": replace(ACCURACY, max_length=64)}, r"max_length must be in \[1, 32\]"),
        ({"latency_tokens": 40}, "tokens must be at most 32"),
    ],
)
def test_lengths_beyond_the_positions_are_refused_before_anything_is_scored(
    change: dict[str, Any], message: str, dev: dict[str, Encoded], framing: Framing
) -> None:
    seen: list[Progress] = []
    models = {"teacher": tiny(), "student": small()}
    with pytest.raises(ValueError, match=message):
        assess(models, dev, framing, replace(SETTINGS, **change), CPU, seen.append)
    assert not seen


def test_teacher_student_and_dev_have_to_be_there(
    dev: dict[str, Encoded], framing: Framing
) -> None:
    with pytest.raises(ValueError, match="models must hold student"):
        assess({"teacher": tiny()}, dev, framing, SETTINGS, CPU, lambda progress: None)
    models = {"teacher": tiny(), "student": small()}
    extra = {"dev_mismatched": dev["dev_mismatched"]}
    with pytest.raises(ValueError, match="dev must hold the split 'dev'"):
        assess(models, extra, framing, SETTINGS, CPU, lambda progress: None)


def test_what_is_written_is_read_back(assessment: Assessment, tmp_path: Path) -> None:
    write_assessment(assessment, tmp_path / "a")
    read = read_assessment(tmp_path / "a")
    assert assessment_to_json(read) == assessment_to_json(assessment)
    for name, model in assessment.models.items():
        assert read.models[name].latencies == model.latencies
        for split, logits in model.logits.items():
            assert read.models[name].logits[split].dtype == logits.dtype
            assert np.array_equal(read.models[name].logits[split], logits)
    for split, labels in assessment.labels.items():
        assert np.array_equal(read.labels[split], labels)
    write_assessment(read, tmp_path / "b")
    for file in ("assessment.json", "predictions.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_predictions_are_a_table_from_which_the_score_can_be_taken(
    assessment: Assessment, tmp_path: Path
) -> None:
    write_assessment(assessment, tmp_path)
    table = pd.read_parquet(tmp_path / "predictions.parquet").query("split == 'dev'")
    assert list(table["row"]) == list(range(30))
    predicted = (table["student_1"] > table["student_0"]).astype(int)
    assert (predicted == table["label"]).mean() == assessment.models["student"].score


def test_a_folder_without_an_assessment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"directory with assessment\.json"):
        read_assessment(tmp_path)


def test_the_summary_has_the_latency_of_each_batch_size(assessment: Assessment) -> None:
    model = assessment.models["student"]
    summary = summary_metrics(model)
    by_size = {(found.batch_size, found.tokens): found.p50_ms for found in model.latencies}
    assert summary["latency_ms_p50_b1"] == by_size[1, 6]
    assert summary["latency_ms_p50_b4"] == by_size[4, 6]
    assert summary["params"] == model.params.total


def test_an_engine_that_ends_between_two_passes_is_named(tmp_path: Path) -> None:
    save(tiny(), tmp_path)
    before = set(psutil.Process().children())

    def ends() -> None:
        for child in set(psutil.Process().children()) - before:
            child.kill()
            child.wait()

    rounds = Rounds((1,), 8, repeats=3, warmup=0, seed=0, vocabulary=64, threads=1)
    with pytest.raises(ValueError, match=r"^engine small must run, got "):
        measure_engines({"small": Engine(tmp_path, TORCH)}, rounds, ends)
