"""Magnitude: a head or unit is worth the sum of its absolute weights."""

import torch

from rosita_core.compression.criteria.magnitude import Magnitude

ATTENTION = "bert.encoder.layer.{}.attention.output.dense.weight"
FIRST = "bert.encoder.layer.{}.intermediate.dense.weight"
SECOND = "bert.encoder.layer.{}.output.dense.weight"


def scores(model):
    return Magnitude().score(model, Magnitude().begin(model))


def test_it_is_the_sum_of_the_absolute_weights(sized):
    model = sized((3, 2), (6, 9))
    state, found = model.state_dict(), scores(model)
    for layer in range(2):
        columns = state[ATTENTION.format(layer)].abs().sum(0)
        heads = torch.stack([part.sum() for part in columns.split(4)])
        torch.testing.assert_close(found.heads[layer], heads)
        rows = state[FIRST.format(layer)].abs().sum(1) + state[SECOND.format(layer)].abs().sum(0)
        torch.testing.assert_close(found.ffn_units[layer], rows)


def test_what_has_no_weights_is_worth_nothing_and_twice_the_weights_twice(sized):
    model = sized((3, 2), (6, 9))
    before = scores(model)
    with torch.no_grad():
        model.get_parameter(ATTENTION.format(0))[:, 4:8] = 0
        model.get_parameter(FIRST.format(1)).mul_(2)
        model.get_parameter(SECOND.format(1)).mul_(2)
    after = scores(model)
    assert after.heads[0][1] == 0
    assert torch.equal(after.heads[0][[0, 2]], before.heads[0][[0, 2]])
    torch.testing.assert_close(after.ffn_units[1], 2 * before.ffn_units[1])


def test_gradients_change_nothing(sized, inputs):
    model = sized((3, 2), (6, 9))
    before = scores(model)
    ids, mask, types = inputs()
    model(ids, mask, types, labels=torch.tensor([0, 1, 1, 0, 1])).loss.backward()
    totals = Magnitude().accumulate(Magnitude().begin(model), model)
    after = Magnitude().score(model, totals)
    assert all(map(torch.equal, after.heads, before.heads))
    assert not Magnitude.needs_gradients
