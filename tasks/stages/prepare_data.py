"""Stage `data`: read, split, check and tokenize the data."""

from pathlib import Path

from rosita_core.data.framing import load_tokenizer
from rosita_core.stages.data import prepare_data as kernel
from tasks.execution.attempt import Attempt
from tasks.execution.set_up import set_up
from tasks.execution.work import Computed, Work


def compute(work: Work) -> Computed:
    """The rows as they are trained on."""
    set_up(work)
    settings = work.stage.config
    tokenizer = load_tokenizer(Path(settings.tokenizer))
    with work.output() as folder:
        facts = kernel(settings, tokenizer, folder, work.report)
    return work.computed(facts)


def note(ours: Attempt, computed: Computed) -> None:
    """Tell MLflow which rows they are."""
    if ours.tracking is not None and ours.run is not None:
        source, facts = ours.stage.config.source, computed.metrics
        fingerprint = str(facts["fingerprint"])
        ours.tracking.log_dataset(ours.run, source.task, fingerprint, source.source, facts)
