"""The authors' procedure, written anew: batches of rows padded to the full length, float32, a
teacher that is left in train mode, attention without a fused kernel, an optimizer that goes from
tensor to tensor and clips each on its own, and a loss that is read after every step.

The losses are those of the others, so that all do the same work; theirs count padding as well.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from tests.bench.contenders import (
    BATCH,
    CLIP,
    DEVICE,
    EPSILON,
    LEARNING_RATE,
    MAX_LENGTH,
    WEIGHT_DECAY,
    Material,
)
from tests.bench.contenders.losses import distilled

TITLE = "the authors' procedure"


def precision(native: str) -> str:
    return "fp32"


class OneByOne(Optimizer):
    """Adam without bias correction, tensor by tensor."""

    def __init__(self, params: Iterable[nn.Parameter]) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["first"] = torch.zeros_like(parameter)
                    state["second"] = torch.zeros_like(parameter)
                nn.utils.clip_grad_norm_(parameter, CLIP)
                state["first"].mul_(0.9).add_(parameter.grad, alpha=0.1)
                state["second"].mul_(0.999).addcmul_(parameter.grad, parameter.grad, value=0.001)
                update = state["first"] / (state["second"].sqrt() + EPSILON)
                update += WEIGHT_DECAY * parameter
                parameter.add_(-LEARNING_RATE * update)


def train(material: Material) -> dict[str, float]:
    teacher, student = material.teacher().train(), material.student()
    for model in (teacher, student):
        model.config._attn_implementation = "eager"
    ids = torch.zeros(len(material.rows), MAX_LENGTH, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(material.ids()):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    examples = TensorDataset(ids.to(DEVICE), mask.to(DEVICE), torch.zeros_like(ids).to(DEVICE))
    optimizer, total = OneByOne(student.parameters()), 0.0
    for input_ids, input_mask, segments in DataLoader(
        examples, sampler=RandomSampler(examples), batch_size=BATCH
    ):
        with torch.no_grad():
            taught = teacher(input_ids, input_mask, segments, output_hidden_states=True)
        learned = student(input_ids, input_mask, segments, output_hidden_states=True)
        loss = distilled(learned, taught, input_mask)
        loss.backward()
        total += loss.item()
        optimizer.step()
        optimizer.zero_grad()
    return {}
