"""The state of torch that a stage asks for."""

from __future__ import annotations

import os

import torch

from rosita_core.training.placement import Placement
from tasks.cache.stage_key import PROCESSES
from tasks.execution.stage_inputs import StageInputs

# Without it cuBLAS refuses to be deterministic. It is read once, before the first product of the
# process, so it is there for stages that are not, too; it is the size that torch takes anyway.
CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def set_up(work: StageInputs) -> Placement:
    """Put torch into the state that the stage asks for; returns device and precision."""
    from transformers.utils import logging as transformers_logging

    # Its own bars would run through ours.
    transformers_logging.disable_progress_bar()
    context = work.context
    processes = int(work.stage.numerics.get(PROCESSES, 1))
    torch.set_num_threads(max(1, context.threads // processes))
    os.environ.setdefault(*CUBLAS_WORKSPACE)
    torch.use_deterministic_algorithms(bool(work.stage.numerics["deterministic"]))
    return Placement(context.device, context.precision)
