"""`rosita benchmark`: which models it times, and what it says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import rosita
from transformers import BertConfig, BertForSequenceClassification
from typed_command import Home

from flows.serving.benchmark import SpeedSettings
from rosita_core.model.checkpoint import shape_of
from rosita_core.model.modeling_rosita import RositaConfig
from rosita_core.model.shape import count_macs

ENGINES = ("torch-fp32", "onnx")
SIZES = ("--batch-size", "1", "--batch-size", "2")
QUICK = ("--engine", "torch-fp32", "--engine", "onnx", "--repeats", "3", "--warmup", "1", *SIZES)


def test_teacher_and_student_of_the_newest_run(smoke_home: Home) -> None:
    done = rosita("benchmark", *QUICK, "--tokens", "16", "--json", home=smoke_home.home)
    assert done.code == 0, done.stderr
    document = done.document
    models = {model["name"]: model for model in document["models"]}
    assert list(models) == ["teacher", "student"]
    for name in models:
        assert models[name]["params"] == smoke_home.summary[name]["params"]
        assert models[name]["shape"] == smoke_home.summary[name]["shape"]
    config = RositaConfig.from_pretrained(smoke_home.summary["export_dir"])
    assert models["student"]["macs"] == count_macs(shape_of(config), 16)
    teacher = models["teacher"]["engines"]
    for model in models.values():
        assert list(model["engines"]) == list(ENGINES)
        for kind, found in model["engines"].items():
            assert [timing["batch_size"] for timing in found["latency"]] == [1, 2]
            assert found["peak_memory_mb"] > 0
            first, same = teacher["torch-fp32"]["latency"], teacher[kind]["latency"]
            for timing, one, other in zip(found["latency"], first, same, strict=True):
                assert 0 < timing["p50_ms"] <= timing["p95_ms"]
                assert timing["speedup"] == pytest.approx(one["p50_ms"] / timing["p50_ms"])
                of_engine = other["p50_ms"] / timing["p50_ms"]
                assert timing["speedup_same_engine"] == pytest.approx(of_engine)
        assert model["engines"]["onnx"]["bytes"] > 3 * model["params"]
        # A process that computes a graph has no torch in it.
        memory = [found["peak_memory_mb"] for found in model["engines"].values()]
        assert memory[1] < memory[0]
    assert document["hardware"]["cores"] >= 1
    assert document["versions"]["torch"].startswith("2.")


def test_a_plain_bert_beside_a_run(smoke_home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "plain-bert"
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert = BertForSequenceClassification(
        BertConfig(vocab_size=64, intermediate_size=32, max_position_embeddings=24, **sizes)
    )
    bert.save_pretrained(folder)
    run = smoke_home.summary["run_id"]
    plot = tmp_path / "speed.png"
    done = rosita(
        *("benchmark", run, str(folder), *QUICK, "--tokens", "8", "--plot", str(plot)),
        home=smoke_home.home,
    )
    assert done.code == 0, done.stderr
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "plain-bert" in done.stdout
    assert f"{sum(p.numel() for p in bert.parameters()):,}" in done.stdout
    assert "2.13" in done.stdout
    too_long = rosita("benchmark", str(folder), *QUICK, "--tokens", "25", home=tmp_path)
    assert too_long.code == 2
    assert "tokens must be at most 24, the positions of plain-bert, got 25" in too_long.stderr


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [
        *(("batch_sizes", (1, 0), 1), ("tokens", 0, 1), ("repeats", 0, 1), ("warmup", -1, 0)),
        *(("batch_sizes", (10**8,), 1), ("repeats", 10**12, 1)),
    ],
)
def test_sizes_have_bounds(field: str, value: object, least: int) -> None:
    settings = {
        "engines": ENGINES,
        "batch_sizes": (1,),
        "tokens": 8,
        "repeats": 2,
        "warmup": 0,
        field: value,
    }
    name = field.removesuffix("s") if field == "batch_sizes" else field
    with pytest.raises(ValueError, match=rf"^{name} must be in \[{least}, 65,536\], got"):
        SpeedSettings(**settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "model must be given where no run has finished"),
        (("nowhere",), "model must be a checkpoint directory, or a finished run, cell"),
        (("--repeats", "0"), "repeats must be in [1, 65,536], got 0"),
        (("--engine", "tensorrt"), "engine must be one of torch-fp32, torch-bf16"),
    ],
)
def test_wrong_requests(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = rosita("benchmark", *arguments, home=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("speed.txt", "plot must end in one of .png, .svg, .pdf, got {}"),
        ("none/speed.png", "plot must be in a folder that can be written, got {}: No such file"),
        ("folder.png", "plot must be a file, got the directory {}"),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_refused_before_anything_is_timed(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    # There is no model either, which is looked for later.
    done = rosita("benchmark", "--plot", str(tmp_path / name), home=tmp_path / "home")
    assert (done.code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"rosita: {message.format(tmp_path / name)}")
