"""AdamW as BERT uses it, learning-rate schedules, and what an optimizer remembers, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

BETAS = (0.9, 0.999)
EPSILON = 1e-6
MOMENTS = ("exp_avg", "exp_avg_sq")
SCHEDULES = ("constant", "linear")


def learning_rate_factor(step: int, total_steps: int, schedule: str, warmup: float) -> float:
    """The factor on the learning rate at optimizer step `step` (0-based).

    Rises linearly over the first `warmup` of `total_steps`; then stays at 1 ("constant") or falls
    linearly to 0 at `total_steps` ("linear"). It is one global schedule: nothing that
    happens on the way restarts it.

    Raises:
        ValueError: for an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {SCHEDULES}, got {schedule!r}")
    warmup_steps = warmup * total_steps
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    return max(0.0, (total_steps - step) / max(1.0, total_steps - warmup_steps))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices, none for biases and LayerNorm."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        exempt = name.endswith("bias") or ".LayerNorm." in name
        (plain if exempt else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def build_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float, bias_correction: bool
) -> Optimizer:
    """AdamW (betas .9, .999; eps 1e-6), fused; without bias correction the authors' BertAdam."""
    groups = parameter_groups(model, weight_decay)
    if not bias_correction:
        return BertAdam(groups, lr=learning_rate)
    return AdamW(groups, lr=learning_rate, betas=BETAS, eps=EPSILON, fused=True)


class BertAdam(Optimizer):
    """Adam with decoupled weight decay and no bias correction (fidelity).

    The first update after a start is about 3.2 times the learning rate.
    """

    def __init__(self, params: Iterable[Any], lr: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for p in parameters:
                if not self.state[p]:
                    self.state[p].update({name: torch.zeros_like(p) for name in MOMENTS})
            gradients = [p.grad for p in parameters]
            first = [self.state[p]["exp_avg"] for p in parameters]
            second = [self.state[p]["exp_avg_sq"] for p in parameters]
            torch._foreach_lerp_(first, gradients, 1 - BETAS[0])
            torch._foreach_mul_(second, BETAS[1])
            torch._foreach_addcmul_(second, gradients, gradients, 1 - BETAS[1])
            scale = torch._foreach_sqrt(second)
            torch._foreach_add_(scale, EPSILON)
            update = torch._foreach_div(first, scale)
            torch._foreach_add_(update, parameters, alpha=group["weight_decay"])
            torch._foreach_add_(parameters, update, alpha=-group["lr"])


def gradients(model: nn.Module) -> list[torch.Tensor]:
    """The gradients that `model` holds, in the order of its parameters."""
    return [p.grad for p in model.parameters() if p.grad is not None]


def clip_gradients(model: nn.Module, max_norm: float, per_tensor: bool) -> None:
    """Scale gradients to at most `max_norm`: of all together, or (fidelity) of each tensor."""
    if not per_tensor:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        return
    for parameter in model.parameters():
        nn.utils.clip_grad_norm_([parameter], max_norm)


def named_moments(optimizer: Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """Everything that `optimizer` remembers of the parameters: `<what>/<parameter>` -> tensor."""
    return {
        f"{what}/{name}": tensor
        for name, parameter in model.named_parameters()
        for what, tensor in optimizer.state[parameter].items()
    }


def set_moments(optimizer: Optimizer, model: nn.Module, moments: dict[str, torch.Tensor]) -> None:
    """Give a new optimizer what `named_moments` took from another; filled in place."""
    parameters = dict(model.named_parameters())
    for name, tensor in moments.items():
        what, _, parameter = name.partition("/")
        optimizer.state[parameters[parameter]][what] = tensor
