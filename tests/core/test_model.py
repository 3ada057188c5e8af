"""The model: a BERT converts without loss, comes back from disk bit for bit, ignores padding."""

import copy
import json

import pytest
import torch
from torch.nn import functional as F
from transformers import BertModel

from rosita_core.model.checkpoint import (
    build,
    copied,
    fresh,
    load,
    placed,
    save,
    shape_of,
    with_dropout,
)
from rosita_core.model.modeling_rosita import RositaConfig
from rosita_core.model.pretrained import load_pretrained


@torch.no_grad()
def outputs_of(model, inputs):
    ids, mask, types = inputs
    found = model(
        input_ids=ids, attention_mask=mask, token_type_ids=types, output_hidden_states=True
    )
    return [found.logits, *(state * mask[..., None] for state in found.hidden_states)]


def assert_same_function(a, b, inputs):
    # In float64 the rounding of two ways to compute the same cannot hide a difference.
    left, right = (outputs_of(copy.deepcopy(model).double(), inputs) for model in (a, b))
    assert len(left) == len(right)
    for x, y in zip(left, right, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(outputs_of(a, inputs)[0], left[0].float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_conversion_changes_no_logit_and_no_hidden_state(bert, converted, inputs, padded, act):
    source = bert(hidden_act=act, num_labels=3)
    assert_same_function(converted(source), source, inputs(padded=padded))


def test_conversion_keeps_what_the_weights_do_not_say(bert, converted):
    values = {
        "hidden_dropout_prob": 0.15,
        "attention_probs_dropout_prob": 0.25,
        "classifier_dropout": 0.35,
        "layer_norm_eps": 1e-5,
        "initializer_range": 0.3,
        "pad_token_id": 1,
    }
    config = converted(bert(**values)).config
    assert {name: getattr(config, name) for name in values} == values
    assert config.problem_type == "single_label_classification"


def test_a_fine_tuned_checkpoint_is_read_with_its_classifier(bert, inputs, tmp_path):
    source = bert(num_labels=3, id2label={0: "no", 1: "maybe", 2: "yes"})
    source.save_pretrained(tmp_path)
    model = load_pretrained(tmp_path, 3, seed=1)
    assert not model.training
    assert model.config.id2label == {0: "no", 1: "maybe", 2: "yes"}
    assert_same_function(model, source, inputs())


@pytest.mark.parametrize("pooler", [True, False])
def test_a_checkpoint_without_classifier_gets_a_seeded_one(bert, inputs, tmp_path, pooler):
    source = bert()
    body = source.bert if pooler else BertModel(source.config, add_pooling_layer=False)
    if not pooler:
        body.load_state_dict(source.bert.state_dict(), strict=False)
    body.save_pretrained(tmp_path)
    before = torch.get_rng_state()
    models = [load_pretrained(tmp_path, 3, seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    states = [outputs_of(model, inputs()) for model in models]
    for found, expected in zip(states[0][1:], outputs_of(source, inputs())[1:], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(states[0][0], states[1][0])
    assert not torch.equal(states[0][0], states[2][0])
    if pooler:
        pooled = models[0].bert.pooler.dense.weight
        assert torch.equal(pooled, source.bert.pooler.dense.weight)
    assert states[0][0].shape == (5, 3)


def test_a_classifier_of_another_size_is_replaced(bert, inputs, tmp_path):
    source = bert(num_labels=3)
    source.save_pretrained(tmp_path)
    model = load_pretrained(tmp_path, 2, seed=1)
    found, expected = outputs_of(model, inputs()), outputs_of(source, inputs())
    assert found[0].shape == (5, 2)
    torch.testing.assert_close(found[-1], expected[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [None, 5])
def test_what_is_saved_comes_back_bit_for_bit(sized, same_weights, inputs, tmp_path, rank):
    model = sized((3, 1), (7, 20), rank, num_labels=3, classifier_dropout=0.2)
    save(model, tmp_path)
    back = load(tmp_path)
    assert same_weights(back, model)
    assert shape_of(back.config) == shape_of(model.config)
    assert back.config.classifier_dropout == 0.2
    assert not back.training
    for x, y in zip(outputs_of(back, inputs()), outputs_of(model, inputs()), strict=True):
        assert torch.equal(x, y)
    assert same_weights(load_pretrained(tmp_path, 3, seed=0), model)


def test_a_saved_model_gets_the_outputs_that_are_asked_for(sized, same_weights, tmp_path):
    model = sized((3, 1), (7, 20), 5, num_labels=1, problem_type="regression")
    save(model, tmp_path)
    other = load_pretrained(tmp_path, 3, seed=0)
    assert other.classifier.weight.shape == (3, 16)
    assert shape_of(other.config).frame.outputs == 3
    assert other.config.problem_type == "single_label_classification"
    assert same_weights(other.bert, model.bert)
    assert load_pretrained(tmp_path, 1, 0).config.problem_type == "regression"


def test_padding_changes_no_logit(sized, inputs):
    model = sized((3, 1), (7, 20), 5)
    ids, mask, types = inputs()
    logits = outputs_of(model, (ids, mask, types))[0]
    other = torch.where(mask.bool(), ids, 17)
    longer = [F.pad(part, (0, 6)) for part in (other, mask, types)]
    torch.testing.assert_close(outputs_of(model, longer)[0], logits, rtol=1e-5, atol=1e-6)
    length = int(mask[1].sum())
    alone = [part[1:2, :length] for part in (ids, mask, types)]
    torch.testing.assert_close(outputs_of(model, alone)[0], logits[1:2], rtol=1e-5, atol=1e-6)


def test_no_token_types_are_all_the_first(sized, inputs):
    model = sized((2, 2), (8, 8))
    ids, mask, types = inputs()
    with torch.no_grad():
        assert torch.equal(
            model(ids, mask).logits, model(ids, mask, torch.zeros_like(types)).logits
        )
        assert not torch.equal(model(ids, mask).logits, model(ids, mask, types).logits)


def test_the_loss_follows_the_problem_type(sized, bert, converted, inputs):
    ids, mask, types = inputs()
    labels = torch.tensor([0, 1, 1, 0, 1])
    classifier = sized((2, 2), (8, 8))
    out = classifier(ids, mask, types, labels=labels)
    torch.testing.assert_close(out.loss, F.cross_entropy(out.logits, labels))
    source = bert(num_labels=1, problem_type="regression")
    regressor = converted(source)
    numbers = labels.float()
    out = regressor(ids, mask, types, labels=numbers)
    assert out.logits.shape == (5, 1)
    torch.testing.assert_close(out.loss, ((out.logits[:, 0] - numbers) ** 2).mean())
    expected = source(input_ids=ids, attention_mask=mask, token_type_ids=types, labels=numbers).loss
    torch.testing.assert_close(out.loss, expected)


def test_outputs_as_a_tuple(sized, inputs):
    model = sized((2, 2), (8, 8))
    logits, states = model(*inputs(), output_hidden_states=True, return_dict=False)
    assert logits.shape == (5, 2)
    assert [state.shape for state in states] == [(5, 9, 16)] * 3


@pytest.mark.parametrize(
    "part", ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"]
)
def test_each_dropout_acts_in_train_mode_alone(sized, inputs, part):
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = sized((2, 2), (8, 8), **(rates | {"classifier_dropout": 0.0, part: 0.5}))
    batch = inputs()
    assert torch.equal(outputs_of(model, batch)[0], outputs_of(model, batch)[0])
    model.train()
    assert not torch.equal(outputs_of(model, batch)[0], outputs_of(model, batch)[0])


def test_the_classifier_has_the_hidden_dropout_unless_it_has_its_own(sized):
    assert sized((2,), (8,), hidden_dropout_prob=0.3).dropout.p == 0.3
    assert sized((2,), (8,), hidden_dropout_prob=0.3, classifier_dropout=0.0).dropout.p == 0.0


def test_all_rates_of_dropout_can_be_set(sized, inputs):
    model = with_dropout(sized((2, 2), (8, 8)), 0.5)
    batch = inputs()
    assert not model.training
    model.train()
    assert {model.dropout.p, model.bert.embeddings.dropout.p} == {0.5}
    silent = with_dropout(model, 0.0)
    assert silent.training
    assert torch.equal(outputs_of(silent, batch)[0], outputs_of(model.eval(), batch)[0])


def test_which_functions_share_weights(sized, snapshot):
    model = sized((2, 2), (8, 8))
    before = snapshot(model)
    word = model.bert.embeddings.word_embeddings.weight
    rebuilt = build(model.config, model.state_dict())
    for shared in (with_dropout(model, 0.3), placed(model, "cpu"), rebuilt):
        assert shared.bert.embeddings.word_embeddings.weight.data_ptr() == word.data_ptr()
        shared.requires_grad_(False)
    own = copied(model, "cpu").train()
    assert own.bert.embeddings.word_embeddings.weight.data_ptr() != word.data_ptr()
    assert snapshot.unchanged(model, before)


def test_fresh_weights_follow_from_the_seed_alone(sized, same_weights):
    config = sized((2, 2), (8, 8)).config
    torch.manual_seed(0)
    one = fresh(config, 3)
    torch.rand(5)
    assert same_weights(one, fresh(config, 3))
    assert not same_weights(one, fresh(config, 4))


def test_a_state_that_does_not_fit_is_an_error(sized):
    model = sized((2, 2), (8, 8))
    with pytest.raises(RuntimeError, match="size mismatch"):
        build(sized((2, 1), (8, 8)).config, model.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        build(sized((2, 2), (8, 8), 4).config, model.state_dict())


def test_a_config_with_unequal_lists_is_an_error():
    with pytest.raises(ValueError, match="one entry per layer, got 2 and 1"):
        RositaConfig(layer_heads=[2, 2], layer_ffn_units=[8])


def test_a_directory_that_is_no_bert_checkpoint_is_named(bert, tmp_path):
    with pytest.raises(ValueError, match=r"model must be a checkpoint directory"):
        load_pretrained(tmp_path, 2, 0)
    config = tmp_path / "config.json"
    config.write_text("{")
    with pytest.raises(ValueError, match=r"config.json that is JSON"):
        load_pretrained(tmp_path, 2, 0)
    config.write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match=r"weights in model.safetensors"):
        load_pretrained(tmp_path, 2, 0)
    bert().save_pretrained(tmp_path)
    values = json.loads(config.read_text())
    for change, message in (
        ({"model_type": "gpt2"}, r"architecture in .*got 'gpt2'"),
        ({"position_embedding_type": "relative_key"}, r"absolute position.*got 'relative_key'"),
    ):
        config.write_text(json.dumps(values | change))
        with pytest.raises(ValueError, match=message) as error:
            load_pretrained(tmp_path, 2, 0)
        assert "\n" not in str(error.value)


def test_the_model_trains_under_bf16_autocast_with_float32_weights(sized, inputs):
    model = sized((2, 2), (8, 8), 4).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(*inputs(), labels=torch.tensor([0, 1, 0, 1, 0])).loss
    loss.backward()
    assert loss.dtype == torch.float32
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all()
