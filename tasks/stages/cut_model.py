"""Stage `cut`: rank by what was measured, keep what the budget pays for, repair."""

from rosita_core.compression.statistics import load_statistics
from rosita_core.model.checkpoint import save, shape_of
from rosita_core.model.shape import count_parameters
from rosita_core.stages.cut import cut
from rosita_core.training.answers import in_labels
from tasks.execution.model_inputs import training_model
from tasks.execution.outputs import write_document
from tasks.execution.row_inputs import SELECT, TRAIN, framing, training_rows, training_unit
from tasks.execution.set_up import set_up
from tasks.execution.work import Computed, Work


def compute(work: Work) -> Computed:
    """The smaller model, with its documents."""
    placement = set_up(work)
    done = cut(
        training_model(work, "teacher"),
        load_statistics(work.input("statistics")),
        training_rows(work, "data", TRAIN),
        training_rows(work, "data", SELECT),
        framing(work),
        work.stage.config,
        placement,
        work.report,
    )
    shape = shape_of(done.model.config)
    with work.output() as folder:
        save(in_labels(done.model, training_unit(work)), folder)
        for name, document in done.documents.items():
            write_document(folder / f"{name}.json", document)
    params = float(count_parameters(shape).total)
    return work.computed({"selection_score": done.score, "params": params, "shape": str(shape)})
