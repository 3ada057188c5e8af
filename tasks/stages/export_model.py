"""Stage `export`: write the compressed model as a Hugging Face checkpoint."""

from rosita_core.measuring.assessment import read_assessment
from rosita_core.measuring.disk import disk_mb
from rosita_core.model.checkpoint import shape_of
from rosita_core.stages.export import export
from tasks.execution.model_inputs import model
from tasks.execution.set_up import set_up
from tasks.execution.work import Computed, Work


def compute(work: Work) -> Computed:
    """The checkpoint."""
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
        size = disk_mb(folder)
    return work.computed({"disk_mb": size, "shape": str(shape_of(student.config))})
