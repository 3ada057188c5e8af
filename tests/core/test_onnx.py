"""Graphs of ONNX: they say what the checkpoint says, and a page of Python runs them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from bare_site import link_site, run_bare
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rosita_core.data.framing import framing_of
from rosita_core.export.checkpoint import export_checkpoint
from rosita_core.export.graph import INPUTS, GraphClassifier, write_graph
from rosita_core.export.hugging_face import HuggingFace
from rosita_core.export.model_card import UNLISTED, CardFacts
from rosita_core.export.onnx import Onnx
from rosita_core.export.onnx_int8 import OnnxInt8
from rosita_core.export.parity import compare
from rosita_core.model.checkpoint import load, shape_of
from rosita_core.stages.export import ExportSettings, export, prove
from rosita_core.training.answers import in_labels
from rosita_core.training.label_unit import LabelUnit
from rosita_core.training.progress import Progress

LABELS = ("bad", "good")
TEXTS = ["wa wb good wc", "bad", "wd we wf wg wh wa wb wc good bad wd we", "good wx wx"]
PAIRS = ["good wa\tbad wb wc", "bad wd wd wd wd wd wd wd wd wd\tgood", "wa\twb"]
GRAPHS = {"onnx": Onnx(), "onnx-int8": OnnxInt8(0.5)}


@pytest.fixture(scope="module")
def checkpoints(sized, tokenizer, tmp_path_factory):
    """A checkpoint of texts, and one of pairs."""
    folder = tmp_path_factory.mktemp("checkpoints")
    tokenizer.save_pretrained(folder / "tokenizer")
    found = {}
    for pair in (False, True):
        model = sized((3, 1), (7, 20), 5, seed=1)
        found[pair] = folder / f"pair-{pair}"
        export_checkpoint(model, folder / "tokenizer", LABELS, facts(model, pair), found[pair])
    return found


def nothing():
    """Nobody asks how far it is."""


def facts(model, pair):
    names = {"task": "t", "teacher": "teacher", "method": "rosita", "recovered": "none"}
    names |= {"kd_setting": "4", "score_name": None}
    scores = {"teacher_score": None, "student_score": None, "retention": None}
    sizes = {"teacher_shape": shape_of(model.config), "max_length": 16, "seed": 1}
    return CardFacts(pair=pair, columns={}, notes=(), listing=UNLISTED, **names, **scores, **sizes)


@pytest.fixture(scope="module")
def graphs(checkpoints, tmp_path_factory):
    """(format, pair) -> its folder."""
    folder = tmp_path_factory.mktemp("graphs")
    found = {}
    for pair, checkpoint in checkpoints.items():
        for name, form in GRAPHS.items():
            found[name, pair] = folder / f"{name}-{pair}"
            form.write(checkpoint, found[name, pair])
    return found


def weights(folder):
    return onnx.load(folder / "model.onnx").graph.initializer


@pytest.mark.parametrize("pair", [False, True])
def test_a_graph_says_what_the_checkpoint_says(checkpoints, graphs, rows, tokenizer, pair):
    data = rows(40, pair=pair)
    found = {name: GraphClassifier(graphs[name, pair], 1) for name in GRAPHS}
    reference = load(checkpoints[pair])
    answers = compare(reference, found, data, framing_of(tokenizer), 8, 16, nothing)
    assert answers["onnx"].worst <= 1e-4
    assert 1e-4 < answers["onnx-int8"].worst < 0.3
    assert np.ptp(answers["onnx"].logits_NC[:, 0]) > 0.1


def test_a_difference_that_padding_alone_makes_is_seen(checkpoints, rows, tokenizer):
    def unmasked(input_ids, attention_mask, token_type_ids):
        return model(input_ids, torch.ones_like(attention_mask), token_type_ids)

    model = load(checkpoints[False])
    found = compare(model, {"none": unmasked}, rows(40), framing_of(tokenizer), 8, 16, nothing)
    assert found["none"].worst > 1e-3
    alone = compare(model, {"none": unmasked}, rows(40), framing_of(tokenizer), 1, 16, nothing)
    assert alone["none"].worst < 1e-6


def test_int8_covers_the_embedding(graphs):
    whole, small = (graphs[name, False] / "model.onnx" for name in GRAPHS)
    words = [one for one in weights(whole.parent) if 64 in one.dims]
    assert [one.data_type for one in words] == [TensorProto.FLOAT]
    # What is looked up is not multiplied, and needs no sign.
    integers = [one for one in weights(small.parent) if 64 in one.dims and len(one.dims) > 1]
    assert [one.data_type for one in integers] == [TensorProto.UINT8]
    large = [one for one in weights(small.parent) if np.prod(one.dims) >= 80]
    assert {one.data_type for one in large} == {TensorProto.INT8, TensorProto.UINT8}


def test_the_same_checkpoint_gives_the_same_bytes_and_none_of_this_machine(
    checkpoints, graphs, tmp_path
):
    Onnx().write(checkpoints[False], tmp_path / "again")
    names = sorted(path.name for path in graphs["onnx", False].iterdir())
    assert "model.onnx" in names and "predict.py" in names
    assert not any(name.endswith((".safetensors", "modeling_rosita.py")) for name in names)
    for name in names:
        content = (graphs["onnx", False] / name).read_bytes()
        assert content == (tmp_path / "again" / name).read_bytes(), name
        for place in (Path(__file__).parents[2], tmp_path.parent):
            assert str(place).encode() not in content, name


def test_a_graph_of_fewer_positions_than_it_says_ends_in_one_line(graphs, tmp_path):
    shutil.copytree(graphs["onnx", False], tmp_path / "graph")
    path = tmp_path / "graph" / "config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"max_position_embeddings": 5_000}))
    graph = GraphClassifier(tmp_path / "graph", 1)
    ids = torch.ones(1, said["max_position_embeddings"] + 9, dtype=torch.long)
    with pytest.raises(ValueError, match=r"^graph must answer texts of .* tokens, as config\.json"):
        graph(ids, torch.ones_like(ids), torch.zeros_like(ids))


def test_a_graph_without_the_mask_is_refused(graphs, tmp_path):
    for path in graphs["onnx", False].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "t"])
    out = helper.make_tensor_value_info("logits", TensorProto.INT64, ["b", "t"])
    node = helper.make_node("Identity", ["input_ids"], ["logits"])
    model = helper.make_model(helper.make_graph([node], "g", [ids], [out]), ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=f"graph must take {', '.join(INPUTS)}, got input_ids"):
        GraphClassifier(tmp_path, 1)
    (tmp_path / "model.onnx").write_bytes(b"none")
    with pytest.raises(ValueError, match="model must be a graph of ONNX, got"):
        GraphClassifier(tmp_path, 1)


# The stage


@pytest.fixture
def settings(scoring):
    forms = (HuggingFace(), Onnx(), OnnxInt8(100.0))
    said = ("t", False, {}, LABELS, "teacher", "rosita", "4", "none", 16, 1, (), UNLISTED)
    return ExportSettings(forms, scoring(), (1, 2), 8, 2, 0, *said)


def test_the_stage_tells_of_each_format(sized, checkpoints, rows, tokenizer, settings, tmp_path):
    model = sized((3, 1), (7, 20), 5, seed=1)
    source = checkpoints[False].parent / "tokenizer"
    export(model, shape_of(model.config), None, source, settings, tmp_path)
    seen: list[Progress] = []
    told = prove(tmp_path, rows(40), None, framing_of(tokenizer), settings, 1, seen.append)
    for name in ("hugging-face", *GRAPHS):
        assert 0 <= told[f"{name}/score"] <= 1
        assert told[f"{name}/latency_ms_p50_b1"] > 0
        assert told[f"{name}/latency_ms_p50_b2"] > 0
        assert told[f"{name}/bytes"] > 1000
    assert told["hugging-face/worst_difference"] == 0
    assert told["onnx/score"] == told["hugging-face/score"]
    # 5 batches of 8 rows, 40 rows alone, and 2 rounds of 2 batch sizes.
    assert {event.total_steps for event in seen} == {5 + 40 + 2 * 2}
    assert [event.step for event in seen] == [0, *range(1, 46), 45, *range(46, 50)]
    names = ", ".join(("hugging-face", *GRAPHS))
    said = [event.message for event in seen if event.message is not None]
    assert said == [f"comparing {names} on 40 rows", f"timing {names}"]


@pytest.mark.parametrize("unit", [LabelUnit(0.0, 1.0), LabelUnit(1e6, 50.0), LabelUnit(0.0, 1e-9)])
def test_a_regression_has_a_graph_in_any_unit(
    sized, checkpoints, rows, tokenizer, settings, scoring, tmp_path, unit
):
    """Engines agree in deviations of the labels, but for what float32 rounds."""
    scored = sized((3, 1), (7, 20), 5, num_labels=1, problem_type="regression").eval()
    model = in_labels(scored, unit)
    source = checkpoints[False].parent / "tokenizer"
    of_numbers = scoring(metrics=("pearson",), score="pearson", regression=True)
    forms = (HuggingFace(), Onnx())
    settings = replace(settings, formats=forms, scoring=of_numbers, labels=(), latency_repeats=0)
    export(model, shape_of(model.config), None, source, settings, tmp_path)
    data = rows(40, regression=True)
    data.labels = unit.mean + unit.deviation * data.labels
    told = prove(tmp_path, data, unit, framing_of(tokenizer), settings, 1, lambda _: None)
    assert told["onnx/worst_difference"] <= 1e-4
    # By a tenth of a deviation it is another model's.
    write_graph(
        in_labels(scored, replace(unit, mean=unit.mean + unit.deviation / 10)), tmp_path / "onnx"
    )
    told = prove(tmp_path, data, unit, framing_of(tokenizer), settings, 1, lambda _: None)
    assert "must be within 0.0001" in told["onnx/left_out"]


@pytest.mark.parametrize("no_number", [None, np.nan, np.inf])
def test_a_format_that_says_something_else_is_left_out(
    checkpoints, graphs, rows, tokenizer, settings, tmp_path, no_number
):
    forms = (HuggingFace(), Onnx(), OnnxInt8(100.0 if no_number else 0.0))
    settings = replace(settings, formats=forms, latency_repeats=0)
    HuggingFace().write(checkpoints[False], tmp_path)
    data = rows(200)
    whole = {"onnx": GraphClassifier(graphs["onnx", False], 1)}
    answers = compare(load(checkpoints[False]), whole, data, framing_of(tokenizer), 8, 16, nothing)
    # Right is what the model says, so that whatever differs is worse.
    data.labels = answers["onnx"].logits_NC.argmax(1)
    towards_second = 9.0 if data.labels.mean() < 0.5 else -9.0
    wrong = np.array([-towards_second, towards_second], np.float32)
    if no_number:
        wrong = np.full(2, no_number, np.float32)
    for name in GRAPHS:
        HuggingFace().write(graphs[name, False], tmp_path / name)
        path = tmp_path / name / "model.onnx"
        damaged = onnx.load(path)
        bias = next(one for one in damaged.graph.initializer if one.name == "model.classifier.bias")
        bias.CopyFrom(numpy_helper.from_array(wrong, bias.name))
        onnx.save(damaged, path)
    told = prove(tmp_path, data, None, framing_of(tokenizer), settings, 1, lambda event: None)
    assert {name for name in told if "left_out" in name} == {
        "onnx/left_out",
        "onnx-int8/left_out",
    }
    if no_number:
        assert {told[f"{name}/left_out"] for name in GRAPHS} == {
            "it must answer with finite numbers, got others"
        }
    else:
        assert told["onnx/left_out"].startswith("its logits must be within 0.0001 of the")
        assert "at most 0 points of score (export.int8_loss), got " in told["onnx-int8/left_out"]
    assert not (tmp_path / "onnx").exists() and not (tmp_path / "onnx-int8").exists()
    assert (tmp_path / "model.safetensors").is_file()


# The runtime


def byte_level_bpe():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer, trainers.BpeTrainer, "<s> $A </s> </s> $B </s>"


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer, trainers.UnigramTrainer, "<s> $A </s> </s> $B </s>"


def word_piece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer, trainers.WordPieceTrainer, "<s> $A </s> $B:1 </s>:1"


def trained(kind, folder):
    """A tokenizer of some kind, trained on the texts of this file."""
    tokenizer, trainer, pair = kind()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    unknown = {"unk_token": "<unk>"} if kind is unigram else {}
    tokenizer.train_from_iterator(
        [*TEXTS, *PAIRS] * 20, trainer(vocab_size=60, special_tokens=special, **unknown)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair=pair, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    names |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


RUN = """
import runpy, sys
sys.path.append(sys.argv[1])
for name in ("torch", "transformers", "rosita_core", "onnx", "pandas"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(name + " must not be there")
runpy.run_path(sys.argv[2], run_name="__main__")
"""


@pytest.fixture(scope="module")
def bare_site(tmp_path_factory):
    return link_site(tmp_path_factory.mktemp("site"), "onnxruntime", "tokenizers", "numpy")


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("kind", [word_piece, byte_level_bpe, unigram])
def test_it_runs_where_only_onnxruntime_tokenizers_and_numpy_are(
    sized, bare_site, tmp_path, kind, pair
):
    trained(kind, tmp_path / "tokenizer")
    model = sized((3, 1), (7, 20), 5, seed=1)
    checkpoint = tmp_path / "checkpoint"
    export_checkpoint(model, tmp_path / "tokenizer", LABELS, facts(model, pair), checkpoint)
    Onnx().write(checkpoint, tmp_path / "onnx")
    lines = PAIRS if pair else TEXTS
    script = str(tmp_path / "onnx" / "predict.py")
    out, err, code = run_bare(RUN, (str(bare_site), script), tmp_path, "\n".join(lines) + "\n")
    assert code == 0, err
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for line, answer in zip(lines, out.splitlines(), strict=True):
        batch = tokenizer(*line.split("\t"), truncation=True, return_tensors="pt")
        batch.setdefault("token_type_ids", torch.zeros_like(batch["input_ids"]))
        with torch.inference_mode():
            shares = model(**batch).logits[0].softmax(-1)
        label, share = answer.split("\t")
        assert label == LABELS[int(shares.argmax())]
        assert float(share) == pytest.approx(float(shares.max()), abs=2e-4)


@pytest.mark.parametrize(
    ("pair", "stdin", "number", "message"),
    [
        (True, b"good\tbad\ngood", 2, "must hold two texts with a tab between, got 'good'"),
        (False, b"good\n\nbad", 2, "must hold a text, got ''"),
        (False, b"\xef\xbb\xbfb\xffd", 1, "must be UTF-8, got the byte 0xff"),
        (
            False,
            b"\xef\xbb\xbfgood\r\n" + b"bad\n" * 40 + b"b\xffd",
            42,
            "must be UTF-8, got the byte 0xff",
        ),
    ],
)
def test_a_line_that_the_model_does_not_read_is_named_after_the_answers_before_it(
    graphs, pair, stdin, number, message
):
    script = graphs["onnx", pair] / "predict.py"
    done = subprocess.run(
        [sys.executable, str(script)], input=stdin, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (1, f"predict.py: line {number} {message}\n")
    assert len(done.stdout.splitlines()) == number - 1
