"""Hugging Face's Trainer as a good user tunes it: autocast to bf16 where the processor has it,
batches of like lengths, padding to the longest of a batch, fused AdamW, a teacher in eval mode.
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from rosita_core.data.framing import load_tokenizer
from rosita_core.model.locate import locate
from tests.bench.contenders import (
    BATCH,
    CLIP,
    DEVICE,
    EPSILON,
    LEARNING_RATE,
    TEACHER,
    WEIGHT_DECAY,
    Material,
)
from tests.bench.contenders.losses import distilled

TITLE = "Hugging Face Trainer"


def precision(native: str) -> str:
    return native


class Distilling(Trainer):
    """A Trainer whose loss is a teacher's."""

    def __init__(self, teacher: torch.nn.Module, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.teacher = teacher

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        with torch.no_grad():
            taught = self.teacher(**inputs, output_hidden_states=True)
        learned = model(**inputs, output_hidden_states=True)
        return distilled(learned, taught, inputs["attention_mask"])


def train(material: Material) -> dict[str, float]:
    ids = material.ids()
    columns = {"input_ids": ids, "length": [len(row) for row in ids]}
    arguments = TrainingArguments(
        output_dir=str(material.folder),
        use_cpu=DEVICE == "cpu",
        bf16=material.precision == "bf16",
        train_sampling_strategy="group_by_length",
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        optim="adamw_torch_fused",
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=WEIGHT_DECAY,
        adam_epsilon=EPSILON,
        max_grad_norm=CLIP,
        logging_steps=50,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Distilling(
        material.teacher().eval(),
        model=material.student(),
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        data_collator=DataCollatorWithPadding(load_tokenizer(locate(TEACHER))),
    )
    trainer.train()
    return {}
