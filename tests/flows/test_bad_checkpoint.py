"""A model that cannot be the teacher is refused before any compute."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import csv_file, recipe_file, rosita
from refusals import refused
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    MobileBertConfig,
)

from rosita_core.model.locate import locate

SIZES = {
    "vocab_size": 30522,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole fine-tuned BERT with its tokenizer, as transformers saves it."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    BertForSequenceClassification(BertConfig(**SIZES)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(locate("minilm-l6") / name, folder / name)
    return folder


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _cut_config(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text[: len(text) // 2])


def _config_of_a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


FAMILIES = "bert, camembert, distilbert, electra, roberta, rosita, xlm-roberta"


def _other_architecture(folder: Path) -> None:
    MobileBertConfig().save_pretrained(folder)


def _change(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def _relative_positions(folder: Path) -> None:
    _change(folder, position_embedding_type="relative_key")


def _text_as_size(folder: Path) -> None:
    _change(folder, hidden_size="16")


def _more_layers_than_weights(folder: Path) -> None:
    _change(folder, num_hidden_layers=3)


def _other_vocabulary(folder: Path) -> None:
    _change(folder, vocab_size=100)


def _odd_heads(folder: Path) -> None:
    _change(folder, num_attention_heads=3)


def _cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _no_dropout(folder: Path) -> None:
    _change(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def _no_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://example.org\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_config, "must be a checkpoint directory with a config.json, got {model}"),
        (_no_weights, "must have its weights in *.safetensors, got none in {model}"),
        (
            _no_tokenizer,
            "must have one of tokenizer.json, vocab.txt, vocab.json, *.model, got none in {model}",
        ),
        (_cut_config, "must have a config.json that is JSON, got {model}/config.json: "),
        (_config_of_a_list, "must be of an architecture in {families}, got 'list' in {model}"),
        (_other_architecture, "must be of an architecture in {families}, got 'mobilebert' in"),
        (_relative_positions, "must have absolute position embeddings, got 'relative_key' in"),
        (_text_as_size, "must have a hidden_size of at least 1, got '16' in {model}"),
        (_no_dropout, "must have dropout above 0 in its config.json for KD setting 4, whose first"),
        (_odd_heads, "must have a hidden size divisible by its 3 heads, got 16"),
        (
            _more_layers_than_weights,
            "must have the weights of its config, got no "
            "bert.encoder.layer.2.attention.self.query.weight, "
            "bert.encoder.layer.2.attention.self.query.bias, "
            "bert.encoder.layer.2.attention.self.key.weight and 13 more in {model}",
        ),
        (
            _other_vocabulary,
            "embeddings.word_embeddings.weight of [100, 16], got [30522, 16] in {model}",
        ),
        (_cut_weights, "must have whole safetensors files, got {model}/model.safetensors: "),
        (_no_safetensors, "must have whole safetensors files, got {model}/model.safetensors: "),
    ],
)
def test_checkpoint(
    damage: Callable[[Path], None], message: str, checkpoint: Path, home: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    damage(model)
    sizes = ("depth.keep_layers=2", "width.embedding_rank=8", "width.ffn_units=16")
    changes = [f"--set={change}" for change in (f"teacher.model={model}", *sizes)]
    said = refused(home, "--recipe", "smoke", *changes)
    assert said.startswith("teacher.model ")
    assert message.format(model=model, families=FAMILIES) in said


def _rewrite(model: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    state = change(load_file(model / "model.safetensors"))
    save_file(state, model / "model.safetensors", metadata={"format": "pt"})


def _copied(checkpoint: Path, folder: Path) -> Path:
    return Path(shutil.copytree(checkpoint, folder / "model"))


@pytest.mark.parametrize(
    "part", ["bert.encoder.layer.1.output.LayerNorm.weight", "classifier.bias"]
)
def test_a_missing_tensor_is_refused_alike_by_every_command(
    part: str, checkpoint: Path, home: Path, tmp_path: Path
) -> None:
    model = _copied(checkpoint, tmp_path)
    _rewrite(model, lambda state: {name: t for name, t in state.items() if name != part})
    said = f"model must have the weights of its config, got no {part} in {model}"
    own = ("--recipe", "smoke", f"--set=teacher.model={model}", "--set=depth.keep_layers=2")
    changes = (*own, "--set=width.ffn_units=16", "--set=width.embedding_rank=8")
    for command in ("plan", "compress"):
        assert refused(home, *changes, command=command) == f"teacher.{said}"
    assert refused(home, "text", "--model", str(model), command="predict") == said


def _token_classification(folder: Path) -> None:
    _change(folder, architectures=["BertForTokenClassification"])


def _multi_label(folder: Path) -> None:
    _change(folder, problem_type="multi_label_classification")


def _several_numbers(folder: Path) -> None:
    _change(folder, problem_type="regression", id2label={"0": "warm", "1": "bright"})


def _pruned_heads(folder: Path) -> None:
    _change(folder, pruned_heads={"0": [1]})


def _decoder(folder: Path) -> None:
    _change(folder, is_decoder=True)


def _added_tokens(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<url>", "<user>"])
    tokenizer.save_pretrained(folder)


def _no_rust(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("a 1\n")
    (folder / "bpe.codes").write_text("#version\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PhobertTokenizer"}')


def _number_that_is_none(folder: Path) -> None:
    def change(state: dict[str, Any]) -> dict[str, Any]:
        state["bert.embeddings.word_embeddings.weight"][7, 3] = float("nan")
        return state

    _rewrite(folder, change)


def _number_too_large_for_float32(folder: Path) -> None:
    far = torch.full((2,), 1e300, dtype=torch.float64)
    _rewrite(folder, lambda state: state | {"classifier.bias": far})


def _negative_epsilon(folder: Path) -> None:
    _change(folder, layer_norm_eps=-1)


def _epsilon_in_quotes(folder: Path) -> None:
    _change(folder, layer_norm_eps="1e-12")


def _no_number_for_dropout(folder: Path) -> None:
    _change(folder, hidden_dropout_prob="0.1")


def _many_layers(folder: Path) -> None:
    _change(folder, num_hidden_layers=100_000)


def _nested_too_deep(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_number_that_is_none, "must have finite weights, got nan in bert.embeddings.word_embed"),
        (_number_too_large_for_float32, "must have finite weights, got inf in classifier.bias of "),
        (_negative_epsilon, "must have a layer_norm_eps that is a number of at least 0 and below"),
        (_epsilon_in_quotes, "must have a layer_norm_eps that is a number of at least 0 and below"),
        (_no_number_for_dropout, "must have a hidden_dropout_prob that is a number of at least 0"),
        (_many_layers, "must have a num_hidden_layers of at most 1,000, got 100000 in {model}"),
        (_nested_too_deep, "must have a config.json that is JSON, got {model}/config.json: "),
        (_token_classification, "must classify whole texts, got token classification in {model}"),
        (_multi_label, "must predict one class or number, got multi-label classification in "),
        (_several_numbers, "must predict one class or number, got 2 numbers in {model}"),
        (_pruned_heads, "must have all heads of its attention, got pruned_heads {{'0': [1]}} in "),
        (_decoder, "must be an encoder in floats, got is_decoder in {model}"),
        (_added_tokens, "its tokenizer's 30,524 tokens, got 30,522 without '<url>'"),
        (_no_rust, "must have a tokenizer with a Rust backend, got PhobertTokenizer in {model}"),
    ],
)
def test_what_a_later_stage_could_not_use_is_refused_alike_by_every_command(
    damage: Callable[[Path], None], message: str, checkpoint: Path, home: Path, tmp_path: Path
) -> None:
    model = _copied(checkpoint, tmp_path)
    damage(model)
    own = ("--recipe", "smoke", f"--set=teacher.model={model}", "--set=depth.keep_layers=2")
    changes = (*own, "--set=width.ffn_units=16", "--set=width.embedding_rank=8")
    said = [refused(home, *changes, command=command) for command in ("plan", "compress")]
    said.append("teacher." + refused(home, "text", "--model", str(model), command="predict"))
    assert said[0] == said[1] == said[2]
    assert said[0].startswith("teacher.model ")
    assert message.format(model=model, families=FAMILIES) in said[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"id2label": {"0": "a", "1": "a"}},
            "in a line, for each output, got 'a' for",
        ),
        (
            {"id2label": {"0": "", "1": " "}},
            "in a line, for each output, got '' for",
        ),
        ({"id2label": {"0": "a", "1": "c\td"}}, "for each output, got 'c\\td' for output 1 in"),
        (
            {"id2label": {"0": "a", "1": None}},
            "must have an id2label of names, got None",
        ),
        (
            {"num_labels": 3, "id2label": {"0": "a", "1": "b"}},
            "must have num_labels as its id2l",
        ),
        ({"num_labels": 10**9, "id2label": None}, "must have num_labels in [1, 100,000], got 1"),
    ],
)
def test_names_that_tell_nothing_answer_nothing(
    values: dict[str, Any], message: str, checkpoint: Path, home: Path, tmp_path: Path
) -> None:
    model = _copied(checkpoint, tmp_path)
    _change(model, **values)
    said = refused(home, "text", "--model", str(model), command="predict")
    assert message.format(model=model) in said
    place = tmp_path / "out"
    assert refused(home, str(place), "--model", str(model), command="export") == said
    assert not place.exists()


def test_pairs_of_a_model_with_one_token_type(checkpoint: Path, home: Path, tmp_path: Path) -> None:
    model = _copied(checkpoint, tmp_path)
    _change(model, type_vocab_size=1)
    name = "bert.embeddings.token_type_embeddings.weight"
    _rewrite(model, lambda state: state | {name: state[name][:1].clone()})
    rows = [f"text {i},a reply,{('no', 'yes')[i % 2]}" for i in range(60)]
    train = csv_file(tmp_path / "rows.csv", "text,reply,label", rows)
    data = {"source": "files", "train": train, "dev_rows": 10, "limit_rows": None}
    sizes = {
        "depth": {"keep_layers": 1},
        "width": {"keep_heads": 2, "ffn_units": 16, "embedding_rank": 8},
    }
    own = {"base": "smoke", "task": "custom", "teacher": {"model": str(model)}, **sizes}
    single = recipe_file(tmp_path, own | {"data": data})
    assert rosita("plan", "--recipe", single, home=home).code == 0
    assert rosita("predict", "a text", "--model", str(model), home=home).code == 0
    columns = {"text_a": "text", "text_b": "reply", "label": "label"}
    pairs = recipe_file(tmp_path, own | {"data": data | {"columns": columns}})
    said = "model must have a token type for each that its tokenizer gives to pairs, 2, got 1"
    for command in ("plan", "compress"):
        assert refused(home, "--recipe", pairs, command=command) == f"teacher.{said}"
    texts = ("a text", "--text-b", "a reply")
    assert refused(home, *texts, "--model", str(model), command="predict") == said


def test_weights_of_a_wrapper_answer_as_before(
    checkpoint: Path, home: Path, tmp_path: Path
) -> None:
    model = _copied(checkpoint, tmp_path)
    before = rosita("predict", "a text", "--model", str(model), home=home)
    assert before.code == 0, before.stderr
    _rewrite(model, lambda state: {f"module.{name}": tensor for name, tensor in state.items()})
    assert rosita("predict", "a text", "--model", str(model), home=home).stdout == before.stdout


def test_the_plan_says_what_is_drawn_at_random(
    checkpoint: Path, home: Path, tmp_path: Path
) -> None:
    model = _copied(checkpoint, tmp_path)
    sizes = ("depth.keep_layers=2", "width.ffn_units=16", "width.embedding_rank=8")
    plan = ("plan", "--recipe", "smoke", f"--set=teacher.model={model}")
    plan = (*plan, *(f"--set={change}" for change in sizes))
    assert rosita(*plan, "--json", home=home).document["notes"] == []
    _change(model, id2label={"0": "a", "1": "b", "2": "c"})
    wide = {"classifier.weight": torch.zeros(3, 16), "classifier.bias": torch.zeros(3)}
    _rewrite(model, lambda state: state | wide)
    said = "teacher.model: a new classifier, drawn at random; the checkpoint has one of 3 outputs"
    assert rosita(*plan, "--json", home=home).document["notes"] == [said]
    assert said in " ".join(rosita(*plan, home=home).stdout.split())


def test_a_masked_language_model_without_all_of_its_head(home: Path, tmp_path: Path) -> None:
    BertForMaskedLM(BertConfig(**SIZES)).save_pretrained(tmp_path / "mlm")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(locate("minilm-l6") / name, tmp_path / "mlm" / name)
    mlm = f"--set=augment.proposers.mlm={tmp_path / 'mlm'}"
    assert rosita("plan", "--recipe", "smoke", mlm, home=home).code == 0
    gone = "cls.predictions.transform.dense.weight"
    _rewrite(tmp_path / "mlm", lambda state: {n: t for n, t in state.items() if n != gone})
    assert refused(home, "--recipe", "smoke", mlm, command="plan") == (
        "augment.proposers.mlm must be a masked language model with all its weights, "
        f"got no {gone} in {tmp_path / 'mlm'}"
    )


def test_sequences_longer_than_the_positions(checkpoint: Path, home: Path) -> None:
    changes = (f"teacher.model={checkpoint}", "width.max_length=129", "width.ffn_units=16")
    said = refused(home, "--recipe", "smoke", *(f"--set={change}" for change in changes))
    assert said == f"width.max_length must be at most 128, the positions of {checkpoint}, got 129"
