"""Stage `export`: write the compressed model for others, in formats that say the same."""

import torch

from rosita_core.measuring.assessment import read_assessment
from rosita_core.measuring.disk import disk_mb
from rosita_core.model.checkpoint import shape_of
from rosita_core.stages.export import export, prove
from tasks.execution.attempt import Attempt
from tasks.execution.model_inputs import model
from tasks.execution.row_inputs import framing, rows, training_unit
from tasks.execution.set_up import set_up
from tasks.execution.work import Computed, Work
from tasks.host.logs import warn

LEFT_OUT = "/left_out"


def compute(work: Work) -> Computed:
    """The checkpoint, and what the formats made of it are worth."""
    set_up(work)
    student = model(work, "student")
    with work.output() as folder:
        export(
            student,
            shape_of(model(work, "teacher").config),
            read_assessment(work.input("assess")),
            work.input("data") / "tokenizer",
            work.stage.config,
            folder,
        )
        dev = rows(work, "data", "dev")
        threads = torch.get_num_threads()
        unit, settings = training_unit(work), work.stage.config
        told = prove(folder, dev, unit, framing(work), settings, threads, work.report)
        size = disk_mb(folder)
    return work.computed({"disk_mb": size, "shape": str(shape_of(student.config)), **told})


def note(ours: Attempt, computed: Computed) -> None:
    """Say which formats are left out. Of a preflight's miniature, which nobody tracks, that would
    say nothing of the model."""
    if ours.tracking is None:
        return
    for name, said in computed.metrics.items():
        if name.endswith(LEFT_OUT):
            warn(f"format {name.removesuffix(LEFT_OUT)} is left out: {said}")
