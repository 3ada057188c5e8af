"""Optimizers and schedules, by their formulas; moments follow the weights that a prune keeps."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from rosita_core.compression.iterative import carry_moments
from rosita_core.compression.kept import Kept, keep_layers
from rosita_core.compression.surgery import PROJECTION, WORDS, prune
from rosita_core.model.checkpoint import shape_of
from rosita_core.training.optimizer import (
    BETAS,
    EPSILON,
    build_optimizer,
    clip_gradients,
    learning_rate_factor,
    named_moments,
    parameter_groups,
    set_moments,
)


@pytest.fixture
def stepped(sized, inputs):
    """A model and its optimizer after some steps."""

    def make(bias_correction=True, rank=None, steps=3):
        model = sized((4, 3), (6, 10), rank)
        optimizer = build_optimizer(model, 1e-3, 0.01, bias_correction)
        for seed in range(steps):
            labels = torch.tensor([0, 1, 1, 0, 1])
            model(*inputs(seed=seed), labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return model, optimizer

    return make


def test_the_first_update_of_bert_adam_is_3_2_times_the_rate():
    rate, gradient = 1e-3, 0.25
    weight = nn.Linear(1, 1)
    before = weight.bias.item()
    weight.bias.grad = torch.tensor([gradient])
    build_optimizer(weight, rate, 0.01, bias_correction=False).step()
    expected = rate * 0.1 * gradient / (math.sqrt(0.001 * gradient**2) + EPSILON)
    assert before - weight.bias.item() == pytest.approx(expected, rel=1e-4)
    assert expected / rate == pytest.approx(3.2, abs=0.05)


def test_bert_adam_is_adam_without_bias_correction():
    random = torch.Generator().manual_seed(0)
    model = nn.Linear(3, 2)
    weight = model.weight.detach().clone().double()
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    optimizer = build_optimizer(model, 1e-2, 0.1, bias_correction=False)
    for _ in range(5):
        gradient = torch.randn(2, 3, generator=random)
        model.weight.grad, model.bias.grad = gradient.clone(), torch.zeros(2)
        optimizer.step()
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient.double() ** 2
        weight = weight - 1e-2 * (first / (second.sqrt() + EPSILON) + 0.1 * weight)
    torch.testing.assert_close(model.weight.detach(), weight.float(), rtol=1e-4, atol=1e-6)


def test_adamw_is_torchs_with_bias_correction(sized):
    ours, theirs = sized((2,), (6,)), sized((2,), (6,))
    optimizer = build_optimizer(ours, 1e-2, 0.05, bias_correction=True)
    reference = torch.optim.AdamW(
        parameter_groups(theirs, 0.05), lr=1e-2, betas=(0.9, 0.999), eps=1e-6, foreach=False
    )
    random = torch.Generator().manual_seed(0)
    for _ in range(3):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = torch.randn(a.shape, generator=random)
            b.grad = a.grad.clone()
        optimizer.step()
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_biases_and_layer_norm_are_not_decayed(sized):
    model = sized((2,), (6,), 5)
    decayed, plain = parameter_groups(model, 0.01)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    exempt = {id(p) for p in plain["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in exempt}
    every = {name for name, _ in model.named_parameters()}
    assert names == {name for name in every if name.endswith("bias") or "LayerNorm" in name}
    assert len(decayed["params"]) + len(plain["params"]) == len(every)


@pytest.mark.parametrize("bias_correction", [True, False])
def test_decay_alone_shrinks_matrices(sized, bias_correction):
    model = sized((2,), (6,))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    build_optimizer(model, 0.1, 0.5, bias_correction).step()
    for name, parameter in model.named_parameters():
        factor = 1 if name.endswith("bias") or "LayerNorm" in name else 0.95
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_clipping_all_together_or_each_tensor():
    def model():
        made = nn.Linear(2, 2)
        made.weight.grad, made.bias.grad = torch.full((2, 2), 3.0), torch.tensor([0.3, 0.4])
        return made

    together, apart = model(), model()
    clip_gradients(together, 1.0, per_tensor=False)
    norm = math.sqrt(36 + 0.25)
    torch.testing.assert_close(together.bias.grad, torch.tensor([0.3, 0.4]) / norm)
    torch.testing.assert_close(together.weight.grad, torch.full((2, 2), 3.0) / norm)
    clip_gradients(apart, 1.0, per_tensor=True)
    torch.testing.assert_close(apart.weight.grad, torch.full((2, 2), 0.5))
    torch.testing.assert_close(apart.bias.grad, torch.tensor([0.3, 0.4]))


def test_learning_rates():
    constant = [learning_rate_factor(step, 100, "constant", 0.0) for step in range(100)]
    assert constant == [1.0] * 100
    linear = [learning_rate_factor(step, 100, "linear", 0.0) for step in range(101)]
    assert linear == pytest.approx([1 - step / 100 for step in range(101)])
    for schedule in ("constant", "linear"):
        warm = [learning_rate_factor(step, 100, schedule, 0.1) for step in range(100)]
        assert warm[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
        assert warm[10] == max(warm) == 1.0
        assert min(warm) > 0
    assert warm[10:] == pytest.approx([(100 - step) / 90 for step in range(10, 100)])
    with pytest.raises(ValueError, match=r"schedule must be one of .* got 'cosine'"):
        learning_rate_factor(0, 10, "cosine", 0.0)


def moments_of(model, optimizer):
    return {
        name: {moment: optimizer.state[p][moment] for moment in ("exp_avg", "exp_avg_sq")}
        for name, p in model.named_parameters()
        if "exp_avg" in optimizer.state[p]
    }


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("rank", [None, 8])
def test_the_moments_of_kept_weights_are_carried(stepped, bias_correction, rank):
    model, old = stepped(bias_correction, rank)
    heads, units = (torch.tensor([1, 3]), torch.tensor([0])), (torch.tensor([2]), torch.arange(9))
    kept = Kept((0, 1), heads, units, 5)
    pruned = prune(model, kept)
    new = build_optimizer(pruned, 1e-3, 0.01, bias_correction)
    carry_moments(old, model, new, pruned, kept)
    before, after = moments_of(model, old), moments_of(pruned, new)
    expected = {name for name, _ in pruned.named_parameters()}
    assert set(after) == (expected if rank else expected - {WORDS, PROJECTION})
    columns = {0: [4, 5, 6, 7, 12, 13, 14, 15], 1: [0, 1, 2, 3]}
    for layer in (0, 1):
        prefix = f"bert.encoder.layer.{layer}."
        for name, part in (
            ("attention.self.query.weight", lambda m, c: m[c]),
            ("attention.self.value.bias", lambda m, c: m[c]),
            ("attention.output.dense.weight", lambda m, c: m[:, c]),
            ("attention.output.dense.bias", lambda m, c: m),
            ("output.LayerNorm.weight", lambda m, c: m),
        ):
            for moment in ("exp_avg", "exp_avg_sq"):
                sliced = part(before[prefix + name][moment], columns[layer])
                assert torch.equal(after[prefix + name][moment], sliced)
        for moment in ("exp_avg", "exp_avg_sq"):
            name = prefix + "intermediate.dense.weight"
            assert torch.equal(after[name][moment], before[name][moment][units[layer]])
            name = prefix + "output.dense.weight"
            assert torch.equal(after[name][moment], before[name][moment][:, units[layer]])
    if rank:
        for name in (WORDS, PROJECTION):
            assert torch.equal(after[name]["exp_avg"], before[name]["exp_avg"][:, :5])
    if bias_correction:
        for name, parameter in pruned.named_parameters():
            if name in after:
                assert new.state[parameter]["step"].item() == 3


def test_steps_are_counted_by_the_oldest_parameter(stepped):
    """Freshly factorized embeddings have taken fewer; where they come in the file says nothing."""
    model, old = stepped(rank=8)
    names = [name for name, _ in model.named_parameters()]
    moments = named_moments(old, model)
    for what in ("step", "exp_avg", "exp_avg_sq"):
        for name in (WORDS, PROJECTION):
            moments[f"{what}/{name}"] = torch.zeros_like(moments[f"{what}/{name}"])
    kept = keep_layers(shape_of(model.config), (0,))
    for order in (names, [WORDS, PROJECTION, *names], names[::-1]):
        resumed = build_optimizer(model, 1e-3, 0.01, True)
        by_name = {
            key: moments[key].clone()
            for name in dict.fromkeys(order)
            for key in moments
            if key.endswith(f"/{name}")
        }
        set_moments(resumed, model, by_name)
        pruned = prune(model, kept)
        new = build_optimizer(pruned, 1e-3, 0.01, True)
        carry_moments(resumed, model, new, pruned, kept)
        assert {new.state[p]["step"].item() for p in pruned.parameters()} == {3}


@pytest.mark.parametrize("bias_correction", [True, False])
def test_training_goes_on_after_a_first_factorization(stepped, inputs, bias_correction):
    model, old = stepped(bias_correction)
    kept = replace(keep_layers(shape_of(model.config), (0,)), embedding_rank=6)
    pruned = prune(model, kept)
    new = build_optimizer(pruned, 1e-3, 0.01, bias_correction)
    carry_moments(old, model, new, pruned, kept)
    before = {name: p.detach().clone() for name, p in pruned.named_parameters()}
    pruned(*inputs(), labels=torch.tensor([0, 1, 1, 0, 1])).loss.backward()
    new.step()
    for name, parameter in pruned.named_parameters():
        assert not torch.equal(parameter, before[name]), name
