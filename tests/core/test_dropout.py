"""Dropout by 16 random bits an element, and attention with its probabilities, on a CPU."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from rosita_core.model.modeling_rosita import Dropout, dropped

RATES = (0.1, 0.25, 0.5, 0.9)
MANY = 1_000_003


def elements(rate, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return dropped(torch.ones(MANY, dtype=dtype), rate, True)


@pytest.mark.parametrize("rate", RATES)
def test_zeroes_at_its_rate_and_keeps_the_expectation(rate):
    found = elements(rate)
    zeroed = (found == 0).double().mean().item()
    # Five standard deviations of the share of independent elements.
    assert abs(zeroed - rate) < 5 * math.sqrt(rate * (1 - rate) / MANY) + 2**-17
    (kept,) = found[found != 0].unique()
    # The rate is a multiple of 1/65,536, and so is what is kept.
    assert kept.item() == pytest.approx(1 / (1 - rate), rel=2**-16 / (1 - rate))
    variance = found.double().var().item()
    assert variance == pytest.approx(rate / (1 - rate), rel=0.02)


def test_the_four_elements_of_a_word_are_independent():
    """Of each lane and of each pair of lanes, the bits are those of coins of their own."""
    zeroed = (elements(0.5)[: MANY // 4 * 4].view(-1, 4) == 0).double()
    bound = 5 / math.sqrt(len(zeroed))
    assert (zeroed.mean(0) - 0.5).abs().max() < bound
    together = torch.corrcoef(zeroed.T) - torch.eye(4, dtype=torch.float64)
    assert together.abs().max() < 2 * bound
    in_turn = torch.corrcoef(torch.stack([zeroed[1:, 0], zeroed[:-1, 3]]))[0, 1]
    assert in_turn.abs() < 2 * bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_backward_pass_sees_the_same_elements(dtype):
    torch.manual_seed(1)
    x = torch.randn(3, 5, 7, dtype=dtype).transpose(0, 2).requires_grad_()
    y = dropped(x, 0.4, True)
    y.backward(torch.ones_like(y))
    assert y.dtype is x.dtype and y.shape == x.shape
    assert ((x.grad == 0) == (y == 0)).all()
    assert torch.allclose(x.grad * x, y)
    assert 0 < (y == 0).sum() < y.numel()


def test_a_seed_is_its_bits_and_another_seed_others():
    assert torch.equal(elements(0.1, seed=3), elements(0.1, seed=3))
    assert not torch.equal(elements(0.1, seed=3), elements(0.1, seed=4))


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (2, 0, 4), ()])
def test_any_number_of_elements(shape):
    assert dropped(torch.ones(shape), 0.5, True).shape == shape


def test_nothing_is_drawn_in_eval_mode_or_at_rate_0():
    x, state = torch.randn(8, 8), torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x
    assert dropped(x, 0.0, True) is x
    assert torch.equal(torch.get_rng_state(), state)
    assert not dropped(x, 1.0, True).any()


def attended(model, inputs, dtype=torch.float32):
    """Logits and gradients of a step."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        logits = model(*inputs).logits
    F.cross_entropy(logits.float(), torch.zeros(len(logits), dtype=torch.int64)).backward()
    return logits.float(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_by_probabilities_is_the_step_of_torchs_fused_attention(
    sized, inputs, monkeypatch, dtype
):
    """Without dropout, where both compute one function; masked tokens are among the inputs."""
    quiet = dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"), 0.0
    )
    model = sized((2, 3), (8, 6), **quiet).train()
    calls = []
    fused = F.scaled_dot_product_attention

    def counted(*arguments, **others):
        calls.append(1)
        return fused(*arguments, **others)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    found = attended(model, inputs(), dtype)
    # In float32 the fused function is the faster one.
    assert len(calls) == (2 if dtype is torch.float32 else 0)
    model.config._attn_implementation = "eager"
    calls.clear()
    eager = attended(model, inputs(), dtype)
    assert not calls
    model.config._attn_implementation = "sdpa"
    monkeypatch.setattr("rosita_core.model.modeling_rosita.UNFUSED_SCORES", 0)
    by_torch = attended(model, inputs(), dtype)
    assert len(calls) == 2
    near = 1e-5 if dtype is torch.float32 else 0.03
    for logits, gradients in (found, eager):
        assert torch.allclose(logits, by_torch[0], atol=near)
        for name, gradient in gradients.items():
            # The gradient of a key's bias is 0 but for rounding, so that its own size is no scale.
            of_kind = (g.abs().max() for n, g in by_torch[1].items() if "attention.self" in n)
            scale = max(of_kind) if "attention.self" in name else by_torch[1][name].abs().max()
            assert (gradient - by_torch[1][name]).abs().max() <= near * scale + 1e-6, name


def test_dropout_of_attention_is_felt_and_only_in_training(sized, inputs):
    rates = {"hidden_dropout_prob": 0.0, "classifier_dropout": 0.0}
    model = sized((2, 3), (8, 6), attention_probs_dropout_prob=0.5, **rates)
    model.eval()
    assert torch.equal(model(*inputs()).logits, model(*inputs()).logits)
    model.train()
    assert not torch.equal(model(*inputs()).logits, model(*inputs()).logits)
