"""Which earlier attempt a stage is compared with, and what became of the newest one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.planning.stage_states import CACHED, Survey, SurveyedStage
from tasks.cache.metric_history import made_here
from tasks.cache.records import makers
from tasks.home import Home
from tasks.host.liveness import attempt_state
from tasks.host.wording import shortened, when

COMPLETED = "completed"


@dataclass(frozen=True)
class Made:
    """An attempt that completed, as far as a comparison needs it.

    Attributes:
        stage: that it was of.
        number: of the attempt.
        recipe: that asked for it.
        finished: when, ISO 8601 in UTC.
        seconds: that it took.
        key, components: of the stage then.
        parts: module -> part -> digest of its code; None where nobody noted them.
    """

    stage: str
    number: int
    recipe: str
    finished: str
    seconds: float
    key: str
    components: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, str]] | None

    @property
    def line(self) -> str:
        """The attempt in words."""
        return f"attempt {self.number} of recipe {self.recipe}, {when(self.finished)}"


def basis(stage: SurveyedStage, recipe: str) -> Made | None:
    """What a stage is compared with: the last attempt that completed.

    One with the very key first, then one of the same recipe, then one of any.
    """
    completed = [record for record in stage.attempts if record["status"] == COMPLETED]
    same_key = [record for record in completed if record["key"] == stage.key]
    same_recipe = [record for record in completed if record["recipe"] == recipe]
    for records in (same_key, same_recipe, completed):
        if records:
            return _made(records[-1])
    return None


def maker(artifact: str, stages: Survey, home: Path) -> Made | None:
    """The newest attempt that made an artifact: from the attempts, else the note in the store."""
    records = [
        record
        for stage in stages.values()
        for record in stage.attempts
        if record["status"] == COMPLETED and record["result"]["artifact"] == artifact
    ]
    if records:
        return _made(max(records, key=lambda record: str(record["finished"])))
    notes = list(makers(home, artifact).values())
    if not notes:
        return None
    note = max(notes, key=lambda entry: str(entry["finished_at"]))
    return Made(
        note["stage"],
        note["attempt"],
        note["recipe"],
        note["finished_at"],
        note["seconds"],
        note["stage_key"],
        note["components"],
        None,
    )


def recipe_of(stage: SurveyedStage, home: Path) -> str | None:
    """The recipe whose attempt filled the cache for a stage; None where no attempt here did."""
    result = stage.record
    if result is None or not made_here(home, stage.name, result.attempt, result.key):
        return None
    [made] = (record for record in stage.attempts if record["number"] == result.attempt)
    return str(made["recipe"])


def newest_trouble(stage: SurveyedStage, recipe: str, home: Path) -> str | None:
    """What became of the newest attempt of this very stage, if it is newer than all completed ones.

    Without a key the stage's newest attempt under the same recipe speaks for it.
    """
    if stage.status == CACHED:
        return None
    mine: Iterable[Mapping[str, Any]] = (
        record
        for record in stage.attempts
        if (record["key"] == stage.key if stage.key else record["recipe"] == recipe)
    )
    last = max(mine, key=lambda record: int(record["number"]), default=None)
    if last is None or last["status"] == COMPLETED:
        return None
    # Here, because it brings Prefect, which a look at a home does without.
    from tasks.cache.checkpoints import newest

    state = attempt_state(last)
    said = f"attempt {last['number']} {_verb(state)}"
    if last.get("error") and state == "failed":
        said += f": {shortened(last['error'])}"
    saved = newest(Home(home).checkpoints_of(stage.key)) if stage.key else None
    if saved is not None:
        said += f"; it goes on from its checkpoint at {saved.about.unit:,} of {saved.about.total:,}"
    return said


def _verb(state: str) -> str:
    if state.startswith("running"):
        return f"is {state}"
    return {"interrupted": "was interrupted", "unfinished": "did not finish"}.get(state, state)


def _made(record: Mapping[str, Any]) -> Made:
    return Made(
        record["stage"],
        record["number"],
        record["recipe"],
        record["finished"],
        record["result"]["seconds"],
        record["key"],
        record["components"],
        record.get("source_parts"),
    )
