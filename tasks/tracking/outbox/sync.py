"""Journals of earlier processes, sent by `rosita sync` and whenever a new run begins."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.host.redaction import default_uri, redacted, with_credentials
from tasks.tracking.outbox.box import Outbox, waiting
from tasks.tracking.outbox.delivery import Delivery, NotYet
from tasks.tracking.outbox.errors import Unavailable, brief
from tasks.tracking.outbox.journal import Journal
from tasks.tracking.outbox.refused import ask_again, refused

# MLflow may be away; what waits has waited before.
RETRY_SECONDS = 30.0

logger = logging.getLogger(__name__)


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


class EarlierRuns:
    """A thread that sends what earlier processes left, so that a new run never waits for it.

    The runs of killed processes are closed as KILLED. It may be stopped at any moment; the next
    run, or `rosita sync`, goes on.
    """

    def __init__(self, home: Path, uri: str, say: Callable[[str], None]) -> None:
        """`say` shows a line to the user; only runs that are meant for `uri` are sent."""
        self._home = home
        self._uri = uri
        self._say = say
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mlflow-old-runs", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take on nothing more."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for what is being sent, at most so long."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(self) -> None:
        try:
            if not waiting(self._home):
                return
            while not self._stop.is_set():
                report = sync(self._home, only=self._uri, stop=self._stop.is_set)
                sent = sum(run.problem is None for run in report.runs)
                if sent:
                    runs = "1 run" if sent == 1 else f"{sent} runs"
                    self._say(f"{runs} that ended before MLflow had all of them are recorded now")
                if sent == len(report.runs):
                    return
                self._stop.wait(RETRY_SECONDS)
        except Exception as error:
            # The new run is what matters; `rosita sync` shows what is wrong with the old ones.
            logger.warning("runs that ended before could not be sent: %s", brief(error))
