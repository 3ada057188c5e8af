"""Runs of earlier processes, closed and copied by `rosita sync` and whenever a new run begins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from tasks.home import Home
from tasks.host.one_machine import writer_for_now
from tasks.host.redaction import default_uri, redacted, with_credentials
from tasks.host.wording import counted
from tasks.tracking.abandoned import OpenRun, open_runs, recorded_last, refused, taken
from tasks.tracking.background import NotYet
from tasks.tracking.errors import Unavailable, brief, is_refusal
from tasks.tracking.mirror import Mirror
from tasks.tracking.store import client_of
from tasks.tracking.tags import REFUSED, WAITING

# MLflow may be away; what waits has waited before.
RETRY_SECONDS = 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Synced:
    """What became of one run that waited.

    Attributes:
        name: of the run, a recipe or a stage.
        run_id: at the server, None while it is not there.
        uri: the server's, without name and password.
        problem: why it is not complete there, or None.
    """

    name: str
    run_id: str | None
    uri: str
    problem: str | None


@dataclass(frozen=True)
class Report:
    """What `sync` did.

    Attributes:
        runs: those that waited.
        in_use: how many belong to a process that still runs.
        refused: of how many runs a server did not accept something, now or before.
        elsewhere: other machines that record in the home now, and so send what they keep.
    """

    runs: list[Synced]
    in_use: int
    refused: int = 0
    elsewhere: tuple[str, ...] = ()


def sync(
    home: Path,
    uri: str | None = None,
    refused_too: bool = False,
    only: str | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Copy every run of a home that waits for it and that no living process copies.

    A run whose process was killed is closed as KILLED. Names and passwords are not kept in the
    home: they come from `MLFLOW_TRACKING_URI`, where that names the same server.

    Args:
        uri: where to copy them, instead of the server that each run was meant for (one that has
            moved).
        refused_too: copy those again of which a server has refused something.
        only: copy only what is meant for this server.
        stop: asked before each run; when it says so, the rest is left.
    """
    done: list[Synced] = []
    in_use, elsewhere = 0, []
    for folder in Home(home).journals():
        with writer_for_now(folder) as other:
            if other is not None:
                elsewhere.append(other)
                continue
            work = _Work(folder, uri, only, stop)
            in_use += _sync(folder, work, refused_too)
            done += work.done
    return Report(done, in_use, refused(home), tuple(elsewhere))


def _sync(home: Path, work: _Work, refused_too: bool) -> int:
    """Copy the runs of one journal; how many belong to a process that still runs."""
    runs = open_runs(home)
    if refused_too:
        for run in runs:
            if run.state == REFUSED:
                work.copy(run)
    in_use = 0
    recorders = dict.fromkeys([*(run.recorder for run in runs), *Home(home).recorders()])
    for recorder in recorders:
        with taken(home, recorder) as free:
            # A process that has ended since they were read has closed its runs itself.
            mine = [run for run in open_runs(home) if run.recorder == recorder]
            if not free:
                in_use += sum(run.state == WAITING for run in mine)
                continue
            for run in mine:
                try:
                    if run.status == "RUNNING":
                        _close(home, run)
                except MlflowException as error:
                    # A store that cannot be written has no place for what a copy is noted in.
                    work.failed(run, brief(error))
                    continue
                if run.state == WAITING:
                    work.copy(run)
    return in_use


def _close(home: Path, run: OpenRun) -> None:
    """Say the end that a killed process could not say."""
    client = client_of(default_uri(home))
    client.set_terminated(run.id, "KILLED", recorded_last(home, run.recorder))


class _Work:
    """The copies of one `sync`."""

    def __init__(
        self, home: Path, uri: str | None, only: str | None, stop: Callable[[], bool]
    ) -> None:
        self.done: list[Synced] = []
        self._home, self._uri, self._only, self._stop = home, uri, only, stop
        self._mirrors: dict[str, Mirror] = {}
        self._unreachable: dict[str, str] = {}

    def failed(self, run: OpenRun, problem: str) -> None:
        self.done.append(Synced(run.name, None, redacted(self._uri or run.uri or ""), problem))

    def copy(self, run: OpenRun) -> None:
        target = self._uri or with_credentials(run.uri or "")
        other = self._only is not None and redacted(target) != redacted(self._only)
        if self._stop() or other:
            return
        mirror = self._mirrors.setdefault(target, Mirror(self._home, target))
        problem = self._unreachable.get(target)
        if problem is None:
            problem = self._send(mirror, run)
        copy = mirror.copies.get(run.id)
        self.done.append(
            Synced(run.name, None if copy is None else copy.run_id, redacted(target), problem)
        )

    def _send(self, mirror: Mirror, run: OpenRun) -> str | None:
        try:
            mirror.send(run.id)
        except NotYet:
            return "waits for the run of its flow, which is in use"
        except Exception as error:
            if is_refusal(error):
                return brief(error)
            wrong = Unavailable(error)
            if not wrong.answered:
                self._unreachable[mirror.uri] = str(wrong)
            return str(wrong)
        return None


class EarlierRuns:
    """A thread that closes and copies what earlier processes left; a new run never waits for it.

    It may be stopped at any moment; the next run, or `rosita sync`, goes on.
    """

    def __init__(self, home: Path, uri: str, say: Callable[[str], None]) -> None:
        """`say` shows a line to the user; only runs that are meant for `uri` are copied."""
        self._home, self._uri, self._say = home, uri, say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-old-runs", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Take on nothing more, and wait for what is being sent, at most so long."""
        self._stop.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                report = sync(self._home, only=self._uri, stop=self._stop.is_set)
                sent = sum(run.problem is None for run in report.runs)
                if sent:
                    runs = counted(sent, "run")
                    self._say(f"{runs} that ended before MLflow had all of them are recorded now")
                if sent == len(report.runs):
                    return
                self._stop.wait(RETRY_SECONDS)
        except Exception as error:
            # The new run is what matters; `rosita sync` shows what is wrong with the old ones.
            logger.warning("runs that ended before could not be sent: %s", brief(error))
