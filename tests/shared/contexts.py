"""A stage's context for tests of tasks alone."""

from __future__ import annotations

from pathlib import Path

from tasks.cache.records import Context


def stage_context(home: Path, parent: str | None, task: str = "sst2") -> Context:
    """A context in `home`, tracked below `parent` unless that is None."""
    return Context(
        home=str(home),
        parent_run=parent,
        recipe_name="demo",
        task=task,
        seed=3,
        flow_run_id=None if parent is None else "flow-run",
        cell=None,
        total_stages=9,
        position=4,
        device="cpu",
        precision="fp32",
        threads=1,
        all_cores=False,
        alone=False,
        checkpoint_seconds=300.0,
        checkpoint_steps=None,
        begin_anew=False,
    )
