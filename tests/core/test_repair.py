"""Repairs: the error of a sub-layer does not grow, and nothing that was whole changes."""

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rosita_core.compression.kept import Kept, keep_layers
from rosita_core.compression.repair import System
from rosita_core.compression.repair.dense import Dense
from rosita_core.compression.repair.scale import Scale
from rosita_core.compression.repairing import repaired
from rosita_core.compression.surgery import prune
from rosita_core.model.checkpoint import shape_of
from rosita_core.training.batches import Batch

REPAIRS = (Scale(), Dense(ridge=1e-3))
KEPT = Kept(
    (0, 1),
    (torch.tensor([0, 2]), torch.tensor([1])),
    (torch.tensor([0, 3, 4, 9]), torch.tensor([1, 2, 6])),
    None,
)


@pytest.fixture
def model(sized):
    return sized((4, 3), (10, 7))


@pytest.fixture
def batches(inputs):
    return [Batch(*inputs(seed=seed), torch.zeros(5).long()) for seed in range(4)]


def random_system(seed, size, columns):
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(30, size * columns, generator=random, dtype=torch.float64)
    weight = torch.randn(6, size * columns, generator=random, dtype=torch.float64)
    target = z @ weight.T + 3 * torch.randn(30, 6, generator=random, dtype=torch.float64)
    return System(z.T @ z, z.T @ target, float(target.square().sum()), columns), weight, z, target


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda one: type(one).__name__)
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 8), columns=st.integers(1, 4))
def test_the_error_of_a_system_never_grows(repair, seed, size, columns):
    system, weight, z, target = random_system(seed, size, columns)
    before = system.error(weight)
    assert before == pytest.approx(float((z @ weight.T - target).square().sum()), rel=1e-9)
    new = repair.weight(weight, system)
    if new is not None:
        assert system.error(new) <= before * (1 + 1e-12)


def test_scale_multiplies_whole_heads():
    system, weight, _, _ = random_system(0, 3, 4)
    new = Scale().weight(weight, system)
    factors = (new / weight).view(6, 3, 4)
    torch.testing.assert_close(factors, factors[:1, :, :1].expand_as(factors))


def test_an_implausible_factor_leaves_the_sub_layer_alone():
    z = torch.eye(2, dtype=torch.float64) * 100
    weight = torch.ones(1, 2, dtype=torch.float64)
    target = z @ weight.T * torch.tensor([[20.0], [1.0]])
    system = System(z.T @ z, z.T @ target, float(target.square().sum()), 1)
    assert Scale().weight(weight, system) is None
    assert Dense(1e-9).weight(weight, system)[0, 0] == pytest.approx(20, rel=1e-3)


def test_without_ridge_dense_is_least_squares():
    system, weight, z, target = random_system(1, 3, 2)
    expected = torch.linalg.lstsq(z, target).solution.T
    torch.testing.assert_close(Dense(1e-12).weight(weight, system), expected)


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda one: type(one).__name__)
def test_in_a_model_no_sub_layer_grows_worse(model, batches, repair, snapshot):
    pruned = prune(model, KEPT)
    before = snapshot(model), snapshot(pruned)
    done = repaired(model, pruned, batches, repair, "cpu")
    assert snapshot.unchanged(model, before[0]) and snapshot.unchanged(pruned, before[1])
    names = [fit.name for fit in done.fits]
    assert names == ["0.attention", "0.ffn", "1.attention", "1.ffn"]
    assert all(fit.after <= fit.before * (1 + 1e-5) for fit in done.fits)
    assert any(fit.repaired and fit.after < 0.99 * fit.before for fit in done.fits)
    assert shape_of(done.model.config) == shape_of(pruned.config)
    assert not done.model.training


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda one: type(one).__name__)
def test_a_whole_model_stays_what_it_was(model, batches, inputs, repair):
    same = prune(model, keep_layers(shape_of(model.config), (0, 1)))
    done = repaired(model, same, batches, repair, "cpu")
    assert all(fit.before < 1e-5 for fit in done.fits)
    with torch.no_grad():
        torch.testing.assert_close(
            done.model(*inputs()).logits, model(*inputs()).logits, rtol=1e-4, atol=1e-5
        )


def test_dense_brings_back_what_a_dependent_unit_did(model, batches, inputs):
    """A unit that others can stand in for is no loss."""
    layer = model.bert.encoder.layer[1]
    with torch.no_grad():
        layer.intermediate.dense.weight[5] = layer.intermediate.dense.weight[2]
        layer.intermediate.dense.bias[5] = layer.intermediate.dense.bias[2]
    everything = keep_layers(shape_of(model.config), (0, 1))
    without = Kept(
        (0, 1), everything.heads, (everything.ffn_units[0], torch.tensor([0, 1, 2, 3, 4, 6])), None
    )
    pruned = prune(model, without)
    done = repaired(model, pruned, batches, Dense(1e-9), "cpu")
    with torch.no_grad():
        wanted, got = model(*inputs()).logits, done.model(*inputs()).logits
        assert not torch.allclose(pruned(*inputs()).logits, wanted, atol=1e-3)
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


def test_padding_is_not_fitted(model, inputs):
    ids, mask, types = inputs(padded=True)
    labels = torch.zeros(len(ids)).long()
    longer = Batch(*(torch.nn.functional.pad(x, (0, 6)) for x in (ids, mask, types)), labels)
    pruned = prune(model, KEPT)
    plain = repaired(model, pruned, [Batch(ids, mask, types, labels)], Dense(1e-3), "cpu")
    padded = repaired(model, pruned, [longer], Dense(1e-3), "cpu")
    for ours, theirs in zip(plain.fits, padded.fits, strict=True):
        assert ours.after == pytest.approx(theirs.after, rel=1e-3)


def test_two_sets_of_states_are_held_at_a_time(model, inputs):
    batches = [Batch(*inputs(seed=seed), torch.zeros(5).long()) for seed in range(20)]
    size = (*batches[0].input_ids.shape, model.config.hidden_size)
    held = []

    class Counting(Scale):
        def weight(self, weight, system):
            tensors = (one for one in gc.get_objects() if type(one) is torch.Tensor)
            held.append(sum(one.shape == size for one in tensors))
            return super().weight(weight, system)

    repaired(model, prune(model, KEPT), batches, Counting(), "cpu")
    assert len(held) == 4
    assert max(held) <= 2 * len(batches) + 4
