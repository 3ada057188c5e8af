"""Sending what an earlier process could not send."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.delivery import Delivery, NotYet
from tasks.mlflow_errors import Unavailable
from tasks.outbox import Journal, Outbox
from tasks.tracking import default_uri


@dataclass(frozen=True)
class Synced:
    """What became of one run that waited.

    Attributes:
        name: of the run, a recipe or a stage.
        run_id: at MLflow, None while it is not there.
        uri: the store that it belongs to.
        sent: operations sent now.
        left: operations that still wait.
        problem: why, or None.
    """

    name: str
    run_id: str | None
    uri: str
    sent: int
    left: int
    problem: str | None


@dataclass(frozen=True)
class Report:
    """What `sync` did: the runs that waited, and how many belong to a process that still runs."""

    runs: list[Synced]
    in_use: int


def sync(home: Path, uri: str | None = None, progress: Callable[[], None] = lambda: None) -> Report:
    """Send everything in the outbox of a home that no living process is sending.

    Each run goes to the store that it was meant for, or to `uri` where that is given (a server that
    has moved). A run whose process was killed is closed as KILLED.
    """
    outbox = Outbox(home)
    deliveries: dict[str, Delivery] = {}
    unreachable: dict[str, str] = {}
    runs: list[Synced] = []
    in_use = 0
    for path in outbox.paths():
        journal = outbox.take(path)
        if journal is None:
            state = outbox.state(path.stem)
            in_use += state is not None and not state.done
            continue
        try:
            if journal.state.done and not journal.waiting:
                continue
            target = uri or journal.header.get("uri") or default_uri(home)
            if target not in deliveries:
                deliveries[target] = Delivery(outbox.home, target, progress)
            before = journal.state.sent
            problem = unreachable.get(target)
            if problem is None:
                problem = _send(deliveries[target], journal, unreachable)
            runs.append(
                Synced(
                    name=str(journal.header.get("name")),
                    run_id=journal.state.run_id,
                    uri=target,
                    sent=journal.state.sent - before,
                    left=journal.left(),
                    problem=problem,
                )
            )
        finally:
            journal.release()
    outbox.tidy()
    return Report(runs, in_use)


def _send(delivery: Delivery, journal: Journal, unreachable: dict[str, str]) -> str | None:
    delivery.close_abandoned(journal)
    try:
        delivery.send(journal)
    except NotYet:
        return "waits for the run of its flow, which is in use"
    except Unavailable as error:
        if not error.answered:
            unreachable[delivery.uri] = str(error)
        return str(error)
    return None
