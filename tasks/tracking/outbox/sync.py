"""Sending what an earlier process could not send."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.host.redaction import default_uri, redacted, with_credentials
from tasks.tracking.outbox.box import Outbox
from tasks.tracking.outbox.delivery import Delivery, NotYet
from tasks.tracking.outbox.errors import Unavailable, brief
from tasks.tracking.outbox.journal import Journal
from tasks.tracking.outbox.refused import ask_again, refused


@dataclass(frozen=True)
class Synced:
    """What became of one run that waited.

    Attributes:
        name: of the run, a recipe or a stage.
        run_id: at MLflow, None while it is not there.
        uri: the store that it belongs to, without name and password.
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
    """What `sync` did.

    Attributes:
        runs: those that waited.
        in_use: how many belong to a process that still runs.
        refused: how many operations MLflow did not accept, now or before.
    """

    runs: list[Synced]
    in_use: int
    refused: int = 0


def sync(
    home: Path,
    uri: str | None = None,
    progress: Callable[[], None] = lambda: None,
    refused_too: bool = False,
    only: str | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Send everything in the outbox of a home that no living process is sending.

    A run whose process was killed is closed as KILLED. Names and passwords are not kept in the
    outbox: they come from `MLFLOW_TRACKING_URI`, where that names the same store.

    Args:
        uri: where to send it, instead of the store that each run was meant for (a server that has
            moved).
        progress: called whenever MLflow has taken something.
        refused_too: ask MLflow again for what it refused.
        only: send only what is meant for this store.
        stop: asked before each run; when it says so, the rest is left.
    """
    outbox = Outbox(home)
    if refused_too:
        ask_again(outbox)
    deliveries: dict[str, Delivery] = {}
    unreachable: dict[str, str] = {}
    runs: list[Synced] = []
    in_use = 0
    for path in outbox.paths():
        if stop():
            break
        try:
            journal = outbox.take(path)
        except OSError as error:
            runs.append(Synced(path.stem, None, redacted(uri or ""), 0, 0, brief(error)))
            continue
        if journal is None:
            state = outbox.state(path.stem)
            in_use += state is not None and not state.done
            continue
        try:
            if journal.state.done and not journal.waiting:
                continue
            target = uri or with_credentials(journal.header.get("uri") or default_uri(home))
            if only is not None and redacted(target) != redacted(only):
                continue
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
                    uri=redacted(target),
                    sent=journal.state.sent - before,
                    left=journal.left(),
                    problem=problem,
                )
            )
        finally:
            journal.release()
    outbox.tidy()
    return Report(runs, in_use, refused(outbox))


def _send(delivery: Delivery, journal: Journal, unreachable: dict[str, str]) -> str | None:
    try:
        delivery.close_abandoned(journal)
        delivery.send(journal)
    except NotYet:
        return "waits for the run of its flow, which is in use"
    except Unavailable as error:
        if not error.answered:
            unreachable[delivery.uri] = str(error)
        return str(error)
    except OSError as error:
        # Files of this run; the others may be whole.
        return brief(error)
    return None
