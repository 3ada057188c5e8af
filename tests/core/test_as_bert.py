"""The exported model answers as BERT of transformers does, to all that other code asks of it."""

import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForSequenceClassification

import rosita_core.model.register  # noqa: F401  (as a user of the Auto classes does)
from rosita_core.model.checkpoint import build, load, save
from rosita_core.model.modeling_rosita import RositaConfig, RositaModel
from rosita_core.model.pretrained import load_pretrained

NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Logits(torch.nn.Module):
    """A model with its logits alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids, attention_mask, token_type_ids).logits


@pytest.fixture(scope="module")
def uneven(sized):
    return sized((3, 1), (7, 20), 5).requires_grad_(False)


def with_attention(model, kind):
    config = RositaConfig.from_dict(model.config.to_dict())
    config._attn_implementation = kind
    return build(config, model.state_dict()).eval()


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# Graphs


def test_an_exported_graph_masks_batches_and_lengths_that_it_was_not_made_of(uneven, inputs):
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=32)
    example = inputs(3, 7, padded=False)
    shapes = [{0: batch, 1: tokens}] * len(NAMES)
    graph = torch.export.export(Logits(uneven).eval(), example, dynamic_shapes=shapes).module()
    for size in ((5, 9), (1, 3), (2, 32)):
        padded = inputs(*size)
        assert_close(graph(*padded), uneven(*padded).logits)
    ids, mask, types = inputs()
    assert not torch.allclose(graph(ids, mask, types), graph(ids, torch.ones_like(mask), types))


@pytest.mark.parametrize(("kind", "backend"), [("sdpa", "aot_eager"), ("eager", "eager")])
def test_one_compiled_graph_holds_the_whole_model(sized, inputs, kind, backend):
    model = with_attention(sized((2,), (8,), 5), kind)
    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for size in ((3, 7), (5, 9)):
            assert_close(compiled(*inputs(*size)).logits, model(*inputs(*size)).logits)


# What is asked for


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_attentions_and_hidden_states_are_those_of_bert(bert, converted, inputs, kind):
    source = bert(attn_implementation="eager")
    model = with_attention(converted(source), kind)
    asked = dict(zip(NAMES, inputs(), strict=True)) | {
        "output_attentions": True,
        "output_hidden_states": True,
    }
    ours, theirs = model(**asked), source(**asked)
    assert_close(ours.logits, theirs.logits)
    assert len(ours.attentions) == source.config.num_hidden_layers
    for part in ("attentions", "hidden_states"):
        for found, expected in zip(getattr(ours, part), getattr(theirs, part), strict=True):
            assert_close(found, expected)


def test_eager_and_sdpa_are_one_function(uneven, inputs):
    logits = [with_attention(uneven, kind)(*inputs()).logits for kind in ("eager", "sdpa")]
    assert_close(*logits)
    assert not torch.equal(*logits)


def test_positions_may_be_given(bert, converted, inputs):
    source = bert()
    model = converted(source)
    ids, mask, types = inputs()
    own = torch.arange(ids.shape[1]).flip(0).expand_as(ids)
    asked = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    found = model(**asked, position_ids=own).logits
    assert_close(found, source(**asked, position_ids=own).logits)
    assert not torch.allclose(found, model(**asked).logits)
    assert_close(model(**asked, position_ids=own.flip(1)).logits, model(**asked).logits)


def test_embedded_words_may_be_given_instead_of_ids(uneven, inputs):
    ids, mask, types = inputs()
    words = uneven.get_input_embeddings()(ids)
    assert words.shape == (5, 9, uneven.config.hidden_size)
    found = uneven(inputs_embeds=words, attention_mask=mask, token_type_ids=types).logits
    assert torch.equal(found, uneven(ids, mask, types).logits)
    for both in ({"input_ids": ids, "inputs_embeds": words}, {}):
        with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
            uneven(**both)


def test_the_configuration_asks_as_the_arguments_do(uneven, inputs):
    model = with_attention(uneven, "eager")
    model.config.output_hidden_states = True
    model.config.output_attentions = True
    found = model(*inputs())
    assert len(found.hidden_states) == 3 and len(found.attentions) == 2
    assert model(*inputs(), output_hidden_states=False).hidden_states is None
    model.config.return_dict = False
    logits, states, shares = model(*inputs())
    assert logits.shape == (5, 2) and len(states) == 3
    assert [share.shape for share in shares] == [(5, 3, 9, 9), (5, 1, 9, 9)]
    assert torch.equal(model(*inputs(), return_dict=True).logits, logits)


# Losses


@pytest.mark.parametrize("said", [True, False])
def test_several_labels_a_text_and_several_numbers(sized, inputs, said):
    problem = "multi_label_classification"
    model = sized((2, 2), (8, 8), num_labels=3, problem_type=problem if said else None)
    labels = torch.tensor([[1, 0, 1]] * 5).float()
    found = model(*inputs(), labels=labels)
    expected = F.binary_cross_entropy_with_logits(found.logits, labels)
    torch.testing.assert_close(found.loss, expected)
    numbers = sized((2, 2), (8, 8), num_labels=3, problem_type="regression")
    found = numbers(*inputs(), labels=labels)
    torch.testing.assert_close(found.loss, F.mse_loss(found.logits, labels))


def test_without_a_problem_type_the_labels_tell(sized, inputs):
    classes = sized((2, 2), (8, 8), num_labels=3, problem_type=None)
    labels = torch.tensor([0, 2, 1, 0, 2])
    found = classes(*inputs(), labels=labels)
    torch.testing.assert_close(found.loss, F.cross_entropy(found.logits, labels))
    number = sized((2, 2), (8, 8), num_labels=1, problem_type=None)
    found = number(*inputs(), labels=labels)
    torch.testing.assert_close(found.loss, F.mse_loss(found.logits[:, 0], labels.float()))


# Changes of the model


def test_the_vocabulary_can_grow_and_shrink(sized, inputs, tmp_path):
    model = sized((3, 1), (7, 20), 5)
    before = model(*inputs()).logits
    model.resize_token_embeddings(70)
    assert model.config.vocab_size == 70
    assert model.get_input_embeddings().weight.shape == (70, 5)
    assert torch.equal(model(*inputs()).logits, before)
    model(torch.tensor([[69, 5]]))
    save(model, tmp_path)
    assert torch.equal(load(tmp_path)(*inputs()).logits, before)
    model.resize_token_embeddings(64)
    assert torch.equal(model(*inputs()).logits, before)


def test_recomputed_activations_give_the_same_gradients(sized, inputs):
    labels = torch.tensor([0, 1, 1, 0, 1])
    gradients = []
    for recompute in (False, True):
        model = sized((3, 1), (7, 20), 5).train()
        if recompute:
            model.gradient_checkpointing_enable()
        torch.manual_seed(0)
        model(*inputs(), labels=labels).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
    assert model.bert.encoder.gradient_checkpointing


@pytest.mark.parametrize(
    "settings",
    [
        peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"]),
        peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3),
    ],
    ids=["lora", "prompt-tuning"],
)
def test_peft_trains_it(sized, inputs, settings):
    model = peft.get_peft_model(sized((3, 1), (7, 20), 5), settings)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.02)
    base = model.get_base_model().bert.encoder.layer[0].attention.self.query
    frozen = getattr(base, "base_layer", base).weight.clone()
    labels = torch.tensor([0, 1, 1, 0, 1])
    losses = []
    for _ in range(8):
        ids, mask, types = inputs()
        loss = model(ids, attention_mask=mask, token_type_ids=types, labels=labels).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert torch.equal(getattr(base, "base_layer", base).weight, frozen)


# What other code reads


def test_the_largest_layer_speaks_for_all(uneven, tmp_path):
    sizes = {
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "hidden_size": 16,
        "head_dim": 4,
    }
    assert {name: getattr(uneven.config, name) for name in sizes} == sizes
    save(uneven, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert {name: written[name] for name in sizes} == sizes
    again = RositaConfig.from_pretrained(tmp_path)
    assert again.to_dict() == RositaConfig.from_dict(uneven.config.to_dict()).to_dict() | {
        key: again.to_dict()[key] for key in ("architectures", "dtype")
    }


def test_auto_model_gives_the_encoder(uneven, inputs, tmp_path):
    save(uneven, tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path)
    assert type(encoder) is RositaModel
    expected = uneven(*inputs(), output_hidden_states=True)
    found = encoder(*inputs())
    assert_close(found.last_hidden_state, expected.hidden_states[-1])
    assert_close(uneven.classifier(found.pooler_output), expected.logits)
    state, pooled = encoder(*inputs(), return_dict=False)
    assert torch.equal(pooled, found.pooler_output) and torch.equal(state, found[0])
    encoder.save_pretrained(tmp_path / "encoder")
    whole = AutoModelForSequenceClassification.from_pretrained(tmp_path / "encoder")
    assert torch.equal(whole.bert.pooler.dense.weight, uneven.bert.pooler.dense.weight)


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_what_only_the_first_token_needs_changes_no_logit_and_no_gradient(sized, inputs, kind):
    model = with_attention(sized((3, 1), (7, 20), 5), kind)
    ids, mask, types = inputs()
    labels = torch.tensor([0, 1, 1, 0, 1])

    def step(states):
        model.zero_grad()
        output = model(ids, mask, types, labels=labels, output_hidden_states=states)
        output.loss.backward()
        return output, {name: weight.grad for name, weight in model.named_parameters()}

    (whole, expected), (first, found) = step(True), step(False)
    assert_close(first.logits, whole.logits)
    assert first.hidden_states is None and expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert_close(found[name], gradient)
    only = model.bert(ids, mask, types, first_only=True)
    assert_close(only.last_hidden_state, whole.hidden_states[-1][:, :1])
    for asked in ("output_hidden_states", "output_attentions"):
        all_tokens = model.bert(ids, mask, types, first_only=True, **{asked: True})
        assert_close(all_tokens.last_hidden_state, whole.hidden_states[-1])


def test_a_checkpoint_with_the_projection_beside_the_words_is_read(uneven, inputs, tmp_path):
    save(uneven, tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    name = "bert.embeddings.word_embeddings.projection.weight"
    state["bert.embeddings.projection.weight"] = state.pop(name).clone()
    save_file(state, path)
    found = load_pretrained(tmp_path, 2, 0)
    assert torch.equal(found(*inputs()).logits, uneven(*inputs()).logits)
