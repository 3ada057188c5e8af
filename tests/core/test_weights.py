"""A checkpoint has every tensor of its architecture, or it is refused; nothing is made up."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel

from rosita_core.model.checkpoint import save
from rosita_core.model.locate import config_of
from rosita_core.model.pretrained import load_pretrained
from rosita_core.model.weights import check_weights

WEIGHTS = "model.safetensors"


@pytest.fixture
def teacher(bert, tmp_path):
    """A fine-tuned BERT of three classes on disk."""
    bert(num_labels=3).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def encoder(bert, tmp_path):
    """A BERT without a classifier on disk."""
    bert().bert.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.fixture
def compressed(sized, tmp_path):
    """A model of this package on disk."""
    save(sized((3, 1), (7, 20), 5, num_labels=3), tmp_path / "ours")
    return tmp_path / "ours"


def rewrite(folder, change):
    """Give the tensors of a checkpoint to `change`, and write what it returns."""
    state = change(load_file(folder / WEIGHTS))
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def without(*names):
    return lambda state: {name: t for name, t in state.items() if name not in names}


def check(folder, outputs=3):
    return check_weights(folder, config_of(folder), outputs)


@pytest.mark.parametrize("kind", ["teacher", "compressed"])
def test_every_tensor_has_to_be_there_in_its_shape(kind, request):
    folder = request.getfixturevalue(kind)
    whole = load_file(folder / WEIGHTS)
    for name in whole.keys() - {"classifier.weight"}:
        rewrite(folder, lambda _, gone=name: without(gone)(whole))
        for ask in (check, lambda place: load_pretrained(place, 3, 0)):
            with pytest.raises(ValueError, match=rf"^model must .* got no {name} in {folder}$"):
                ask(folder)
        longer = torch.zeros([size + 1 for size in whole[name].shape])
        rewrite(folder, lambda _, name=name, longer=longer: whole | {name: longer})
        with pytest.raises(ValueError, match=rf"^model must .*, {name} of \[.*\], got \[") as error:
            check(folder)
        assert str(list(longer.shape)) in str(error.value)
    rewrite(folder, lambda _: whole)
    assert check(folder).tensors.keys() == whole.keys()


def test_the_first_ones_that_are_missing_are_named(teacher):
    rewrite(teacher, lambda state: {n: t for n, t in state.items() if ".layer.1." not in n})
    with pytest.raises(ValueError, match=r"got no bert.encoder.layer.1.* and 13 more in") as error:
        check(teacher)
    assert str(error.value).count("bert.encoder.layer.1.") == 3


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.model."])
@pytest.mark.parametrize("kind", ["teacher", "compressed", "encoder"])
def test_prefixes_of_wrappers_are_taken_off(kind, prefix, request, same_weights):
    folder = request.getfixturevalue(kind)
    before = load_pretrained(folder, 3, 0)
    rewrite(folder, lambda state: {prefix + name: tensor for name, tensor in state.items()})
    assert same_weights(load_pretrained(folder, 3, 0), before)


def test_names_of_the_first_checkpoints_are_known(teacher, same_weights):
    before = load_pretrained(teacher, 3, 0)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def renamed(name):
        return name.replace(*next((pair for pair in old.items() if pair[0] in name), ("", "")))

    rewrite(teacher, lambda state: {renamed(name): tensor for name, tensor in state.items()})
    assert "bert.embeddings.LayerNorm.gamma" in load_file(teacher / WEIGHTS)
    assert same_weights(load_pretrained(teacher, 3, 0), before)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_float_are_read_as_float32(teacher, kind):
    rewrite(teacher, lambda state: {name: tensor.to(kind) for name, tensor in state.items()})
    expected = load_file(teacher / WEIGHTS)["classifier.weight"].float()
    weight = load_pretrained(teacher, 3, 0).classifier.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, expected)


def test_quantized_weights_are_refused(teacher):
    name = "bert.encoder.layer.0.output.dense.weight"
    rewrite(teacher, lambda state: state | {name: state[name].to(torch.int8)})
    with pytest.raises(ValueError, match=rf"weights of F64, .*got {name} of I8 in"):
        check(teacher)


def test_weights_that_the_architecture_has_no_place_for_are_refused(teacher):
    extra = "bert.encoder.layer.0.attention.self.distance_embedding.weight"
    rewrite(teacher, lambda state: state | {extra: torch.zeros(3, 4)})
    with pytest.raises(ValueError, match=rf"and no others, got {extra} in"):
        check(teacher)


def test_buffers_and_other_heads_are_left_alone(teacher, same_weights):
    before = load_pretrained(teacher, 3, 0)
    others = {"bert.embeddings.position_ids": torch.arange(32)[None], "cls.bias": torch.zeros(64)}
    rewrite(teacher, lambda state: state | others)
    assert same_weights(load_pretrained(teacher, 3, 0), before)


def test_two_tensors_of_one_name_are_refused(teacher):
    name = "classifier.bias"
    rewrite(teacher, lambda state: state | {f"module.{name}": state[name] + 1})
    with pytest.raises(ValueError, match=rf"one tensor for {name}, got "):
        check(teacher)


def test_only_a_classifier_and_the_pooler_of_an_encoder_may_be_drawn(teacher, encoder):
    assert check(teacher).fresh == ()
    assert check(teacher, outputs=2).fresh == ("classifier",)
    assert check(encoder).fresh == ("classifier",)
    pooler = [f"pooler.dense.{part}" for part in ("weight", "bias")]
    rewrite(encoder, without(*pooler[:1]))
    with pytest.raises(ValueError, match=r"got no bert.pooler.dense.weight in"):
        check(encoder)
    rewrite(encoder, without(*pooler))
    assert check(encoder).fresh == ("pooler", "classifier")
    rewrite(teacher, without(*(f"bert.{name}" for name in pooler)))
    with pytest.raises(ValueError, match=r"got no bert.pooler.dense.weight, bert.pooler.dense.bia"):
        check(teacher)


def test_a_classifier_that_is_not_there_is_drawn(teacher):
    rewrite(teacher, without("classifier.weight", "classifier.bias"))
    assert check(teacher).fresh == ("classifier",)
    assert check(teacher).outputs == 0


def test_weights_in_several_files(bert, tmp_path, same_weights):
    source = bert(num_labels=3)
    source.save_pretrained(tmp_path / "one")
    source.save_pretrained(tmp_path / "many", max_shard_size="8KB")
    parts = sorted((tmp_path / "many").glob("model-*.safetensors"))
    assert len(parts) > 1
    one, many = (load_pretrained(tmp_path / name, 3, 0) for name in ("one", "many"))
    assert same_weights(one, many)
    parts[1].unlink()
    with pytest.raises(ValueError, match=rf"all files of its .*, got no {parts[1].name}"):
        check(tmp_path / "many")


def test_an_index_names_files_of_its_own_folder_alone(teacher, tmp_path):
    shutil.move(teacher / WEIGHTS, tmp_path / WEIGHTS)
    names = load_file(tmp_path / WEIGHTS)
    index = {"weight_map": dict.fromkeys(names, f"../{WEIGHTS}")}
    (teacher / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"must have its files beside its .*, got '../model.safet"):
        check(teacher)


def test_what_was_read_is_no_part_of_the_file(teacher):
    model = load_pretrained(teacher, 3, 0)
    before = model.classifier.weight.clone()
    path = Path(teacher / WEIGHTS)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(model.classifier.weight, before)


def test_a_value_that_no_model_can_have_is_refused(teacher):
    values = json.loads((teacher / "config.json").read_text())
    unusable = "config.json of values that can"
    for change, message in (
        ({"hidden_act": "gelo"}, unusable),
        ({"pad_token_id": 64}, unusable),
        ({"hidden_dropout_prob": "much"}, "hidden_dropout_prob that is a number of at least 0"),
    ):
        (teacher / "config.json").write_text(json.dumps(values | change))
        with pytest.raises(ValueError, match=f"^model must have a {message}"):
            check(teacher)


def test_an_encoder_is_what_transformers_saves_as_one(bert, tmp_path, same_weights):
    body = BertModel(bert().config, add_pooling_layer=False)
    body.save_pretrained(tmp_path)
    one, other = (load_pretrained(tmp_path, 3, seed) for seed in (0, 1))
    assert same_weights(one.bert.encoder, other.bert.encoder)
    assert same_weights(one, load_pretrained(tmp_path, 3, 0))
    assert not same_weights(one.bert.pooler, other.bert.pooler)
