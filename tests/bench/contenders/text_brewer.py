"""TextBrewer's GeneralDistiller with its own losses. It has float32, and apex's half precision on
a GPU; batches come from a loader that pads to the longest row, and AdamW is the fused one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding

from rosita_core.data.framing import load_tokenizer
from rosita_core.model.locate import locate
from rosita_core.training.optimizer import parameter_groups
from tests.bench.contenders import (
    BATCH,
    CLIP,
    DEVICE,
    EPSILON,
    LAYERS,
    LEARNING_RATE,
    TEACHER,
    WEIGHT_DECAY,
    Material,
)

TITLE = "TextBrewer"


def precision(native: str) -> str:
    return "fp32"


def adapted(batch: Any, outputs: Any) -> dict[str, Any]:
    """What the distiller reads of a batch and a model's outputs."""
    return {
        "logits": outputs.logits,
        "hidden": outputs.hidden_states,
        "inputs_mask": batch["attention_mask"],
    }


def train(material: Material) -> dict[str, float]:
    # Not in the lock: its folder is on the path of this contender's process alone.
    from textbrewer import (  # type: ignore[import-not-found]
        DistillationConfig,
        GeneralDistiller,
        TrainingConfig,
    )

    state = {"feature": "hidden", "loss": "hidden_mse", "weight": 1}
    matches = [{"layer_T": layer, "layer_S": layer, **state} for layer in range(LAYERS + 1)]
    student = material.student()
    distiller = GeneralDistiller(
        TrainingConfig(output_dir=str(material.folder), device=DEVICE),
        DistillationConfig(
            temperature=1,
            kd_loss_type="ce",
            kd_loss_weight=1,
            hard_label_weight=0,
            intermediate_matches=matches,
        ),
        *(material.teacher().eval(), student),
        *(adapted, adapted),
    )
    pad = DataCollatorWithPadding(load_tokenizer(locate(TEACHER)))
    batches = DataLoader(
        [{"input_ids": row} for row in material.ids()],  # type: ignore[arg-type]
        batch_size=BATCH,
        shuffle=True,
        collate_fn=lambda rows: dict(pad(rows)),
        generator=torch.Generator().manual_seed(0),
    )
    groups = parameter_groups(student, WEIGHT_DECAY)
    optimizer = AdamW(groups, lr=LEARNING_RATE, eps=EPSILON, fused=True)
    with distiller:
        distiller.train(
            optimizer,
            batches,
            num_epochs=1,
            max_grad_norm=CLIP,
            output_hidden_states=True,
        )
    return {}
