"""Importance: the definition, whatever the order of the mini-batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rosita_core.compression.criteria.taylor import Taylor
from rosita_core.compression.importance import keep_top

TAYLOR = Taylor()


@pytest.fixture
def batches(inputs):
    labels = torch.tensor([0, 1, 1, 0, 1])
    return [(inputs(seed=seed), labels.roll(seed)) for seed in range(4)]


def gradients_of(model, batch):
    (ids, mask, types), labels = batch
    model.zero_grad(set_to_none=True)
    model(ids, mask, types, labels=labels).loss.backward()


def importance_of(model, batches):
    totals = TAYLOR.begin(model)
    for batch in batches:
        gradients_of(model, batch)
        totals = TAYLOR.accumulate(totals, model)
    return TAYLOR.score(model, totals)


def test_importance_is_its_definition(sized, batches):
    model = sized((3, 2), (6, 9))
    found = importance_of(model, batches)
    gradients = []
    for batch in batches:
        gradients_of(model, batch)
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
    weights = dict(model.named_parameters())

    def taylor(name, row, column):
        total = sum(abs(g[name][row, column].item()) for g in gradients)
        return abs(weights[name][row, column].item() * total)

    for layer, (heads, units) in enumerate(zip((3, 2), (6, 9), strict=True)):
        prefix = f"bert.encoder.layer.{layer}."
        out = prefix + "attention.output.dense.weight"
        first, second = prefix + "intermediate.dense.weight", prefix + "output.dense.weight"
        for head in range(heads):
            columns = range(head * 4, head * 4 + 4)
            expected = sum(taylor(out, row, column) for row in range(16) for column in columns)
            assert found.heads[layer][head].item() == pytest.approx(expected, rel=1e-4)
        for unit in range(units):
            expected = sum(taylor(first, unit, i) + taylor(second, i, unit) for i in range(16))
            assert found.ffn_units[layer][unit].item() == pytest.approx(expected, rel=1e-4)
        assert found.heads[layer].shape == (heads,)
        assert found.ffn_units[layer].shape == (units,)


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(4)))
def test_the_order_of_the_mini_batches_does_not_matter(sized, inputs, order):
    labels = torch.tensor([0, 1, 1, 0, 1])
    batches = [(inputs(seed=seed), labels.roll(seed)) for seed in range(4)]
    model = sized((3, 2), (6, 9))
    a, b = importance_of(model, batches), importance_of(model, [batches[i] for i in order])
    for x, y in zip(a.heads + a.ffn_units, b.heads + b.ffn_units, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=0)


def test_gradients_of_opposite_sign_do_not_cancel(sized, batches):
    model = sized((3, 2), (6, 9))
    gradients_of(model, batches[0])
    once = TAYLOR.accumulate(TAYLOR.begin(model), model)
    for parameter in model.parameters():
        parameter.grad.neg_()
    twice = TAYLOR.accumulate(once, model)
    for name in once:
        assert torch.equal(twice[name], 2 * once[name])


def test_accumulating_changes_neither_totals_nor_gradients(sized, batches, snapshot):
    model = sized((3, 2), (6, 9))
    gradients_of(model, batches[0])
    before = snapshot(model)
    gradients = [p.grad.clone() for p in model.parameters()]
    totals = TAYLOR.begin(model)
    TAYLOR.score(model, TAYLOR.accumulate(totals, model))
    assert all(not total.any() for total in totals.values())
    assert snapshot.unchanged(model, before)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_a_model_without_gradients_is_an_error(sized):
    model = sized((3, 2), (6, 9))
    with pytest.raises(ValueError, match="must hold a gradient of every ranked weight"):
        TAYLOR.accumulate(TAYLOR.begin(model), model)


def test_what_has_no_effect_scores_zero(sized, batches):
    model = sized((3, 2), (6, 9))
    layer = model.bert.encoder.layer[0]
    with torch.no_grad():
        layer.attention.output.dense.weight[:, 4:8] = 0
        layer.output.dense.weight[:, 3] = 0
        layer.intermediate.dense.weight[3] = 0
    found = importance_of(model, batches)
    assert found.heads[0][1] == 0
    assert found.ffn_units[0][3] == 0
    assert (found.heads[0][[0, 2]] > 0).all()
    assert (found.ffn_units[0][[0, 1, 2, 4, 5]] > 0).all()


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.data())
def test_keep_top_keeps_the_largest_and_of_equals_the_first(values, data):
    keep = data.draw(st.integers(1, len(values)))
    found = keep_top(torch.tensor(values, dtype=torch.float32), keep).tolist()
    by_score = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert found == sorted(by_score[:keep])


def test_the_first_of_many_equals_stay():
    score = torch.ones(3072)
    score[1000:] = 0.5
    assert keep_top(score, 1500).tolist() == list(range(1500))


@pytest.mark.parametrize("keep", [0, -1, 4])
def test_keep_top_names_the_bound(keep):
    with pytest.raises(ValueError, match=rf"keep must be in \[1, 3\], got {keep}"):
        keep_top(torch.zeros(3), keep)
