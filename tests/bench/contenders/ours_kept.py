"""This project's loop, which reads what the teacher said of each row (stage `<training>-targets`).

The seconds that keeping takes are told apart: a training of several epochs pays them once.
"""

from __future__ import annotations

import time

from rosita_core.distillation.kept import read_kept
from rosita_core.stages.targets import TargetsSettings, keep_targets
from rosita_core.training.checkpoints import NoCheckpoints
from rosita_core.training.placement import Placement
from tests.bench.contenders import DEVICE, LAYERS, MAX_LENGTH, Material
from tests.bench.contenders.ours import distil

TITLE = "this project, teacher outputs kept"


def precision(native: str) -> str:
    return native


def train(material: Material) -> dict[str, float]:
    began = time.perf_counter()
    keep_targets(
        *(material.teacher(), material.rows, material.framing),
        TargetsSettings(tuple(range(LAYERS + 1)), None, MAX_LENGTH, False),
        *(Placement(DEVICE, material.precision), material.folder),
        *(lambda _: None, NoCheckpoints()),
    )
    seconds = time.perf_counter() - began
    distil(material, read_kept(material.folder))
    return {"kept_seconds": seconds}
