"""Sizes and counts: exact for the published models, and equal to what a model really has."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification

from rosita_core.model.checkpoint import shape_of
from rosita_core.model.families.bert import Bert
from rosita_core.model.modeling_rosita import RositaConfig, RositaForSequenceClassification
from rosita_core.model.shape import (
    Frame,
    Shape,
    count_macs,
    count_parameters,
    encoder_macs,
    narrowed,
    shallower,
    uniform_shape,
)

BERT = Frame(30522, 768, 64, 512, 2, 2)
BASE = uniform_shape(BERT, 12, 12, 3072, None)
ROSITA = uniform_shape(BERT, 2, 8, 512, 128)


def on_meta(config):
    with torch.device("meta"):
        return RositaForSequenceClassification(config)


@st.composite
def configs(draw):
    layers = draw(st.integers(1, 4))
    hidden, head = draw(st.sampled_from([(8, 2), (12, 4), (10, 5), (7, 3)]))
    sizes = st.lists(st.integers(1, 9), min_size=layers, max_size=layers)
    return RositaConfig(
        vocab_size=draw(st.integers(3, 50)),
        hidden_size=hidden,
        head_size=head,
        layer_heads=draw(sizes),
        layer_ffn_units=draw(sizes),
        embedding_rank=draw(st.none() | st.integers(1, hidden)),
        max_position_embeddings=draw(st.integers(1, 20)),
        type_vocab_size=draw(st.integers(1, 3)),
        num_labels=draw(st.integers(2, 4)),
    )


def test_bert_base_has_109_483_778_parameters():
    count = count_parameters(BASE)
    assert count.total == 109_483_778
    assert count_parameters(shallower(BASE, 8)).total == 81_132_290
    with torch.device("meta"):
        bert = BertForSequenceClassification(BertConfig())
    assert sum(p.numel() for p in bert.parameters()) == count.total
    assert shape_of(Bert().config(BertConfig().to_dict(), 2)) == BASE


def test_the_papers_model_has_14_474_754_parameters():
    count = count_parameters(ROSITA)
    assert count.embedding == 4_401_408
    assert count.encoder == 8 * 1_185_152
    assert count.head == 590_592 + 1_538
    assert count.total == 14_474_754
    three = uniform_shape(Frame(30522, 768, 64, 512, 2, 3), 2, 8, 512, 128)
    assert count_parameters(three).total == 14_475_523
    assert round(count_parameters(BASE).total / count.total, 3) == 7.564


@pytest.mark.parametrize(
    ("heads", "layers", "units", "rank", "parameters"),
    [
        (2, 12, 256, 128, 14_493_698),
        (2, 6, 768, 128, 14_465_282),
        (2, 4, 1280, 128, 14_455_810),
        (4, 4, 1024, 128, 14_456_322),
        (4, 3, 1536, 128, 14_451_458),
        (4, 2, 2560, 128, 14_446_594),
        (2, 8, 192, 256, 14_545_154),
        (2, 4, 640, 256, 14_526_210),
    ],
)
def test_shapes_of_the_same_budget(heads, layers, units, rank, parameters):
    shape = uniform_shape(BERT, heads, layers, units, rank)
    assert count_parameters(shape).total == parameters
    assert str(shape) == f"a{heads}_l{layers}_f{units}_e{rank}"


@settings(max_examples=40, deadline=None)
@given(configs())
def test_the_formula_counts_what_a_model_has(config):
    count = count_parameters(shape_of(config))
    found = {"embedding": 0, "encoder": 0, "head": 0}
    for name, parameter in on_meta(config).named_parameters():
        part = "embedding" if "embeddings" in name else "encoder" if "encoder" in name else "head"
        found[part] += parameter.numel()
    assert found == {"embedding": count.embedding, "encoder": count.encoder, "head": count.head}
    assert count.total == sum(found.values())


@settings(max_examples=50, deadline=None)
@given(configs(), st.booleans(), st.data())
def test_multiply_adds_are_half_the_operations_that_torch_counts(config, all_states, data):
    tokens = data.draw(st.integers(1, config.max_position_embeddings))
    model = RositaForSequenceClassification(config).eval()
    # The fused attention kernel of CPUs is not counted; the plain one does the same products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, tokens, dtype=torch.long), output_hidden_states=all_states)
    expected = count_macs(shape_of(config), tokens)
    if not all_states:
        # No logit depends on what the last layer makes of later tokens, but for keys and values.
        width, units = config.layer_heads[-1] * config.head_size, config.layer_ffn_units[-1]
        per_token = 2 * config.hidden_size * (width + units) + 2 * tokens * width
        expected -= (tokens - 1) * per_token
    assert 2 * expected == counter.get_total_flops()


def test_the_papers_encoder_needs_9_times_fewer_multiply_adds():
    assert round(encoder_macs(BASE, 128) / encoder_macs(ROSITA, 128), 1) == 9.0


def test_uneven_layers_show_in_the_name():
    assert str(Shape(BERT, (3, 2), (512, 512), None)) == "a3-2_l2_f512_e768"


def test_a_full_embedding_stays_full_where_the_rank_takes_nothing():
    assert narrowed(BASE, 12, 3072, 768) == BASE
    factorized = uniform_shape(BERT, 12, 12, 3072, 768)
    assert narrowed(factorized, 12, 3072, 768) == factorized
    assert narrowed(BASE, 2, 512, 128) == uniform_shape(BERT, 2, 12, 512, 128)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shape(BERT, (2,), (8, 8), None), r"one entry per layer, got 1 and 2"),
        (lambda: Shape(BERT, (), (), None), r"layers must be at least 1, got 0"),
        (lambda: Shape(BERT, (2, 0), (8, 8), None), r"layer_heads must be at least 1.*got 0"),
        (lambda: Shape(BERT, (2,), (-3,), None), r"layer_ffn_units must be at least 1.*got -3"),
        (lambda: Shape(BERT, (2,), (8,), 769), r"embedding_rank must be in \[1, 768\].*got 769"),
        (lambda: Shape(BERT, (2,), (8,), 0), r"embedding_rank must be in \[1, 768\].*got 0"),
        (lambda: narrowed(BASE, 13, 8, 8), r"keep_heads must be in \[1, 12\].*got 13"),
        (lambda: narrowed(BASE, 2, 3073, 8), r"ffn_units must be in \[1, 3072\].*got 3073"),
        (lambda: narrowed(ROSITA, 2, 512, 129), r"embedding_rank must be in \[1, 128\].*got 129"),
        (lambda: narrowed(BASE, 0, 8, 8), r"keep_heads must be in \[1, 12\].*got 0"),
        (lambda: shallower(BASE, 13), r"keep_layers must be in \[1, 12\].*got 13"),
        (lambda: shallower(BASE, 0), r"keep_layers must be in \[1, 12\].*got 0"),
    ],
)
def test_impossible_sizes_are_named(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
