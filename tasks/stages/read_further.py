"""Stage `further`: rows of other domains, and what people said."""

from rosita_core.data.storage import load_splits
from rosita_core.stages.further import further_rows
from tasks.execution.row_inputs import tokenizer
from tasks.execution.set_up import set_up
from tasks.execution.work import Computed, Work


def compute(work: Work) -> Computed:
    """The rows."""
    set_up(work)
    own = load_splits(work.input("data") / "splits")
    with work.output() as folder:
        facts = further_rows(work.stage.config, own, tokenizer(work), folder, work.report)
    return work.computed(facts)
