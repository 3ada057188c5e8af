"""Pruning: the pruned model is the masked model, and nothing else changes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rosita_core.compression.allocation.uniform import Uniform
from rosita_core.compression.importance import Importance
from rosita_core.compression.kept import Kept, keep_bottom_layers, keep_layers
from rosita_core.compression.surgery import cut_state, prune
from rosita_core.model.checkpoint import copied, shape_of
from rosita_core.model.shape import count_parameters, narrowed, shallower

HEADS, UNITS = (4, 3), (6, 10)


def indices(draw, count):
    return torch.tensor(sorted(draw(st.sets(st.integers(0, count - 1), min_size=1))))


@st.composite
def kept_sets(draw):
    heads = tuple(indices(draw, count) for count in HEADS)
    units = tuple(indices(draw, count) for count in UNITS)
    return Kept((0, 1), heads, units, None)


@torch.no_grad()
def masked(model, kept):
    """A copy of the full model in which everything that `kept` does not name has no effect."""
    result = copied(model, "cpu")
    for layer, heads, units in zip(
        result.bert.encoder.layer, kept.heads, kept.ffn_units, strict=True
    ):
        out = layer.attention.output.dense.weight
        for head in set(range(out.shape[1] // 4)) - set(heads.tolist()):
            out[:, head * 4 : head * 4 + 4] = 0
        for unit in set(range(layer.output.dense.weight.shape[1])) - set(units.tolist()):
            layer.output.dense.weight[:, unit] = 0
    return result


@torch.no_grad()
def logits(model, inputs):
    return model.double()(*inputs()).logits


@settings(max_examples=20, deadline=None)
@given(kept=kept_sets())
def test_the_pruned_model_is_the_masked_model(sized, inputs, kept):
    model = sized(HEADS, UNITS, 5)
    pruned = prune(model, kept)
    expected = logits(masked(model, kept), inputs)
    torch.testing.assert_close(logits(pruned, inputs), expected, rtol=1e-10, atol=1e-12)
    assert shape_of(pruned.config).layer_heads == tuple(len(heads) for heads in kept.heads)
    assert shape_of(pruned.config).layer_ffn_units == tuple(len(u) for u in kept.ffn_units)
    assert count_parameters(shape_of(pruned.config)).total == pruned.num_parameters()


@torch.no_grad()
def with_random_biases(model):
    """The same model; its biases are as large as what they are added to, and no two are equal."""
    random = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0, 1, generator=random)
    return model


@settings(max_examples=20, deadline=None)
@given(kept=kept_sets(), data=st.data())
def test_heads_and_units_keep_their_own_biases(sized, inputs, kept, data):
    """After one cut, and after a second one of what the first has left."""
    model = with_random_biases(sized(HEADS, UNITS, 5))
    again = tuple(indices(data.draw, len(heads)) for heads in kept.heads)
    also = tuple(indices(data.draw, len(units)) for units in kept.ffn_units)
    left = Kept(
        (0, 1),
        tuple(heads[i] for heads, i in zip(kept.heads, again, strict=True)),
        tuple(units[i] for units, i in zip(kept.ffn_units, also, strict=True)),
        None,
    )
    once = prune(model, kept)
    twice = prune(once, Kept((0, 1), again, also, None))
    for pruned, expected in ((once, kept), (twice, left)):
        wanted = logits(masked(model, expected), inputs)
        torch.testing.assert_close(logits(pruned, inputs), wanted, rtol=1e-10, atol=1e-12)
        for number, layer in enumerate(pruned.bert.encoder.layer):
            full = model.bert.encoder.layer[number]
            columns = expected.heads[number][:, None] * 4 + torch.arange(4)
            for name in ("query", "key", "value"):
                bias = getattr(full.attention.self, name).bias[columns.flatten()]
                assert torch.equal(getattr(layer.attention.self, name).bias, bias.double())
            units = full.intermediate.dense.bias[expected.ffn_units[number]]
            assert torch.equal(layer.intermediate.dense.bias, units.double())


def test_a_whole_layer_goes_as_if_it_passed_its_input_on(sized, inputs):
    model = sized((2, 3, 2), (5, 6, 7))
    states = model(*inputs(), output_hidden_states=True).hidden_states
    bottom = prune(model, keep_bottom_layers(shape_of(model.config), 2))
    found = bottom(*inputs(), output_hidden_states=True).hidden_states
    assert all(torch.equal(x, y) for x, y in zip(found, states[:3], strict=True))
    outer = prune(model, keep_layers(shape_of(model.config), (0, 2)))
    mask = inputs()[1][:, None, None, :].bool()
    top, _ = model.bert.encoder.layer[2](states[1], mask, probabilities=False)
    found = outer(*inputs(), output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(found, top)
    assert shape_of(outer.config).layer_ffn_units == (5, 7)


def test_pruning_changes_nothing_of_its_argument_and_shares_nothing(sized, snapshot):
    model = sized(HEADS, UNITS)
    model.requires_grad_(False)
    before = snapshot(model)
    shape = shape_of(model.config)
    kept = Kept((0,), (torch.tensor([0, 2]),), (torch.tensor([1]),), 3)
    for cut in (prune(model, kept), prune(model, keep_layers(shape, (0, 1)))):
        assert all(p.requires_grad for p in cut.parameters())
        with torch.no_grad():
            for parameter in cut.parameters():
                parameter.fill_(7)
        assert snapshot.unchanged(model, before)


@pytest.mark.parametrize("rank", [None, 5])
def test_keeping_everything_is_the_same_model(sized, same_weights, rank):
    model = sized(HEADS, UNITS, rank)
    same = prune(model, keep_layers(shape_of(model.config), (0, 1)))
    assert same_weights(same, model)
    assert same.config.to_dict() == model.config.to_dict()
    assert not same.training
    assert prune(model.train(), keep_layers(shape_of(model.config), (0, 1))).training


@settings(max_examples=20, deadline=None)
@given(first=kept_sets(), data=st.data())
def test_two_prunes_are_one(sized, same_weights, first, data):
    model = sized(HEADS, UNITS, 8)
    layers = data.draw(st.sampled_from([(0,), (1,), (0, 1)]))
    again = [indices(data.draw, len(first.heads[i])) for i in layers]
    also = [indices(data.draw, len(first.ffn_units[i])) for i in layers]
    second = Kept(layers, tuple(again), tuple(also), 3)
    together = Kept(
        layers,
        tuple(first.heads[i][h] for i, h in zip(layers, again, strict=True)),
        tuple(first.ffn_units[i][u] for i, u in zip(layers, also, strict=True)),
        3,
    )
    assert same_weights(prune(prune(model, first), second), prune(model, together))


def test_factorizing_twice_is_factorizing_once(sized):
    model = sized(HEADS, UNITS)
    everything = keep_layers(shape_of(model.config), (0, 1))
    once = prune(model, replace(everything, embedding_rank=3))
    twice = prune(
        prune(model, replace(everything, embedding_rank=9)),
        replace(everything, embedding_rank=3),
    )
    for name, tensor in once.state_dict().items():
        torch.testing.assert_close(twice.state_dict()[name], tensor)
    assert twice.config.embedding_rank == 3


def test_full_rank_changes_no_logit(sized, inputs):
    model = sized(HEADS, UNITS)
    everything = keep_layers(shape_of(model.config), (0, 1))
    full = prune(model, replace(everything, embedding_rank=16))
    with torch.no_grad():
        torch.testing.assert_close(
            full(*inputs()).logits, model(*inputs()).logits, rtol=1e-4, atol=1e-5
        )


def test_no_rank_leaves_a_factorized_embedding_as_it_is(sized, same_weights):
    model = sized(HEADS, UNITS, 5)
    everything = replace(keep_layers(shape_of(model.config), (0, 1)), embedding_rank=None)
    assert same_weights(prune(model, everything), model)


def test_exact_zeros_in_kept_rows_stay(sized, inputs):
    model = sized(HEADS, UNITS)
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.self.query.weight[0] = 0
            layer.intermediate.dense.weight[1, 2] = 0
            layer.output.dense.weight[:, 1] = 0
    kept = Kept((0, 1), (torch.tensor([0, 2]),) * 2, (torch.tensor([1, 4]),) * 2, None)
    pruned = prune(model, kept)
    assert not pruned.bert.encoder.layer[0].attention.self.query.weight[0].any()
    expected = logits(masked(model, kept), inputs)
    torch.testing.assert_close(logits(pruned, inputs), expected, rtol=1e-10, atol=1e-12)


def test_sizes_that_divide_nothing_work(sized, inputs):
    model = sized((2,), (3072,))
    units = torch.arange(3072)[torch.randperm(3072)[:1000]].sort().values
    kept = Kept((0,), (torch.tensor([1]),), (units,), 7)
    pruned = prune(model, kept)
    assert pruned(*inputs()).logits.shape == (5, 2)
    assert shape_of(pruned.config).layer_ffn_units == (1000,)


def test_a_state_may_lack_names(sized):
    model = sized(HEADS, UNITS)
    name = "bert.encoder.layer.1.output.dense.weight"
    kept = Kept((1,), (torch.tensor([0]),), (torch.tensor([2, 5]),), None)
    cut = cut_state({name: model.state_dict()[name]}, kept, 4)
    assert list(cut) == ["bert.encoder.layer.0.output.dense.weight"]
    assert torch.equal(*cut.values(), model.state_dict()[name][:, [2, 5]])


@pytest.fixture
def ranking():
    heads = (torch.tensor([1.0, 4, 3, 2]), torch.tensor([9.0, 1, 5, 7]))
    units = (torch.arange(6.0), -torch.arange(6.0))
    return Importance(heads, units)


def lists(parts):
    return [part.tolist() for part in parts]


def test_choose_ranks_inside_each_layer(sized, ranking):
    shape = shape_of(sized((4, 4), (6, 6)).config)
    kept = Uniform(False).choose(shape, narrowed(shape, 2, 3, 8), (0, 1), ranking)
    assert lists(kept.heads) == [[1, 2], [0, 3]]
    assert lists(kept.ffn_units) == [[3, 4, 5], [0, 1, 2]]
    assert kept.embedding_rank == 8
    top = Uniform(False).choose(shape, narrowed(shallower(shape, 1), 2, 3, 8), (1,), ranking)
    assert lists(top.heads) == [[0, 3]]
    assert lists(top.ffn_units) == [[0, 1, 2]]


def test_the_first_layer_ranks_all_heads_only_where_the_ffn_stays(sized, ranking):
    shape = shape_of(sized((4, 4), (6, 6)).config)
    stays = Uniform(True).choose(shape, narrowed(shape, 2, 6, 16), (0, 1), ranking)
    assert lists(stays.heads) == [[1, 2], [1, 2]]
    cut = Uniform(True).choose(shape, narrowed(shape, 2, 5, 16), (0, 1), ranking)
    assert lists(cut.heads) == [[1, 2], [0, 3]]


def test_targets_that_do_not_fit_are_named(sized, ranking):
    shape = shape_of(sized((4, 4), (6, 6), 8).config)
    for target, layers, message in (
        (replace(shape, layer_heads=(4, 5)), (0, 1), r"keep_heads must be in \[1, 4\] in layer 1"),
        (replace(shape, layer_ffn_units=(7, 6)), (0, 1), r"keep must be in \[1, 6\], got 7"),
        (replace(shape, embedding_rank=9), (0, 1), r"embedding_rank must be in \[1, 8\], got 9"),
        (
            replace(shape, embedding_rank=None),
            (0, 1),
            r"embedding_rank must be in \[1, 8\], got 16",
        ),
        (shape, (0,), r"layers must name 2 layers, got 1"),
        (shape, (1, 0), r"layers must be ascending and in \[0, 1\], got \[1, 0\]"),
        (shape, (0, 2), r"layers must be ascending and in \[0, 1\], got \[0, 2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            Uniform(False).choose(shape, target, layers, ranking)


@pytest.mark.parametrize("layers", [(), (-1, 0), (0, 0), (0, 2)])
def test_layers_that_are_not_there_are_named(sized, layers):
    with pytest.raises(ValueError, match=r"layers must be ascending and in \[0, 1\]"):
        keep_layers(shape_of(sized(HEADS, UNITS).config), layers)
