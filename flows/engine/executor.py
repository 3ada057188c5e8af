"""The executor: every stage of a graph once, as soon as what it reads is there.

Here a stage runs in the caller's thread. On workers each stage that is ready has a thread, some
for each worker at a time, which takes its turn, asks the cache and waits for a worker only where
something is to be computed; all of that happens in the flow's process, and a hit touches no worker.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context

from prefect import State
from prefect.settings import (
    PREFECT_TASKS_DISABLE_CACHING,
    PREFECT_TASKS_REFRESH_CACHE,
    temporary_settings,
)

from flows.engine.graph import Graph, Vertex
from flows.engine.nodes import context_of
from flows.engine.recording import CellRun, Done, StageError
from rosita_core.measuring.assessment import TEACHER
from tasks.cache.checkpoints import drop_checkpoints
from tasks.cache.locks import StageLocks
from tasks.cache.policy import stage_options
from tasks.cache.records import attempt_path, attempts, read_record, record_to_disk
from tasks.cache.shared_turn import shared_turn
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import StageResult
from tasks.execution.places import computed_at
from tasks.execution.workers import Workers
from tasks.home import Home
from tasks.host.logs import warn
from tasks.host.signals import able_to_save, signals_caught, stop_if_requested, stop_requested
from tasks.host.wording import error_line
from tasks.stages.catalogue import catalogue
from tasks.store.artifacts import free_bytes
from tasks.store.shared_files import SharedStoreError

VERIFICATION_SECONDS = 30.0
"""More than reading a large artifact takes."""
POLL_SECONDS = 0.5
AT_ONCE, AT_ONCE_PER_WORKER = 32, 4
"""Stages that have their turn, or wait with it for a worker; each has a lock, an open file."""
PROMISED = {PREFECT_TASKS_DISABLE_CACHING: False, PREFECT_TASKS_REFRESH_CACHE: False}
"""Whatever a profile or the environment says: each stage once, from the cache if it is there."""


Outcome = Done | str
"""Of a stage: what it came to, or why it failed."""


class Executor:
    """One flow run over a graph.

    Attributes:
        done: id -> what the stage came to.
        failures: id -> why the stage failed.
    """

    def __init__(
        self,
        graph: Graph,
        cells: Mapping[str, CellRun],
        flow_run_id: str,
        again: Iterable[str] = (),
        given: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            graph: of the cells.
            cells: by their names; each is told of its stages, and when the last one is done.
            flow_run_id: Prefect's.
            again: ids of stages that are computed whatever the cache says.
            given: id -> artifact of stages that are taken as they are; without them, all run.
        """
        self.graph = graph
        self.done: dict[str, Done] = {}
        self.failures: dict[str, str] = {}
        self._lost: set[str] = set()
        self._stopped: dict[str, str] = {}
        self._ended: set[str] = set()
        self._cells = cells
        self._flow_run_id = flow_run_id
        self._again = frozenset(again)
        self._given = dict(given or {})
        self._artifacts = dict(self._given)
        self._positions = {id_: place for place, id_ in enumerate(graph.vertices, start=1)}

    def run(self, workers: Workers | None = None, only: str | None = None) -> None:
        """Run every stage or take it from the cache; one that fails stops those that read from it.

        Args:
            workers: where stages are computed; None for this process.
            only: the id of a stage, where no other shall run.

        Raises what a signal means, once the stages that run have saved.
        """
        waiting = {id_: one for id_, one in self.graph.vertices.items() if only in (None, id_)}
        with signals_caught(), temporary_settings(PROMISED):
            if workers is None:
                while (vertex := self._next(waiting)) is not None:
                    self._take(vertex, self._stage(vertex), waiting)
                    stop_if_requested()
            else:
                self._at_once(waiting, workers)

    def _at_once(self, waiting: dict[str, Vertex], workers: Workers) -> None:
        running: dict[Future[Outcome], Vertex] = {}
        threads = ThreadPoolExecutor(max(1, len(waiting)), thread_name_prefix="stage")
        try:
            with computed_at(workers), able_to_save():
                while True:
                    while not stop_requested():
                        full = _full(running.values(), workers.count)
                        if (vertex := self._next(waiting, full)) is None:
                            break
                        task: Callable[[Vertex], Outcome] = self._stage
                        running[threads.submit(copy_context().run, task, vertex)] = vertex
                    if not running:
                        return
                    for future in wait(running, POLL_SECONDS, FIRST_COMPLETED).done:
                        vertex, error = running.pop(future), future.exception()
                        if error is None:
                            self._take(vertex, future.result(), waiting)
                        elif not stop_requested():
                            raise error
                    workers.tend()
        finally:
            workers.abandon()
            threads.shutdown()

    def _next(
        self, waiting: dict[str, Vertex], full: frozenset[bool] = frozenset()
    ) -> Vertex | None:
        """Take out the first stage whose inputs are there.

        Args:
            waiting: those that have not begun.
            full: whether stages are timed of which no more may begin.
        """
        for id_, vertex in waiting.items():
            ready = self._artifacts.keys() >= set(vertex.needs.values())
            if ready and catalogue()[vertex.name].timed not in full:
                return waiting.pop(id_)
        return None

    def _take(self, vertex: Vertex, outcome: Outcome, waiting: dict[str, Vertex]) -> None:
        """Note what a stage came to, and tell the cells that need it."""
        if isinstance(outcome, str):
            self.failures[vertex.id] = outcome
            if stop_requested():
                # What follows is the signal's exception, which would hide it.
                warn(outcome)
            self._lost |= set(self.graph.dependents(vertex.id))
            for id_ in self._lost:
                waiting.pop(id_, None)
        else:
            self.done[vertex.id] = outcome
            self._artifacts[vertex.id] = outcome.result.artifact
            for cell in vertex.cells:
                self._cells[cell].note(outcome, mine=cell == vertex.cells[0])
                if vertex.name == TEACHER and not self._given:
                    self._judge(cell, outcome)
            for id_, other in list(waiting.items()):
                if self._stopped.keys() >= set(other.cells):
                    del waiting[id_]
        for cell in vertex.cells:
            self._end(cell)

    def _judge(self, cell: str, teacher: Done) -> None:
        """Ask a cell whether it goes on with its teacher."""
        if (why := self._cells[cell].judge_teacher(teacher)) is not None:
            self._stopped[cell] = why

    def _end(self, cell: str) -> None:
        """Where nothing of a cell runs any more, record it or say why it is not complete."""
        if cell in self._ended:
            return
        if cell in self._stopped:
            self._ended.add(cell)
            self._cells[cell].end(self._stopped[cell])
            return
        ids = self.graph.cells[cell]
        failed = {name: self.failures[id_] for name, id_ in ids.items() if id_ in self.failures}
        if not self.done.keys() | self.failures | self._lost >= set(ids.values()):
            return
        self._ended.add(cell)
        error = None
        if failed:
            names = [name for name, id_ in ids.items() if id_ in self._lost]
            rest = f"; not run for want of {', '.join(failed)}: {', '.join(names)}" if names else ""
            error = "; ".join(failed.values()) + rest
        self._cells[cell].end(error)

    def _stage(self, vertex: Vertex) -> Outcome:
        """Run one stage, or take it from the cache."""
        stage, home = vertex.stage(self._artifacts), vertex.request.home
        again = vertex.id in self._again and not self._done_in_this_run(vertex, stage)
        owner = self._cells[vertex.cells[0]]
        owner.begin()
        context = context_of(
            *(vertex.node, vertex.request, vertex.numerics),
            parent_run=owner.parent,
            flow_run_id=self._flow_run_id,
            cell=owner.cell,
            total_stages=len(self._positions),
            position=self._positions[vertex.id],
            begin_anew=again,
        )
        task = catalogue()[vertex.name].load()
        options = stage_options(home, stage) | {"task_run_name": context.title(vertex.name)}
        # Not as often as a profile says: an attempt that failed is one to look at.
        task = task.with_options(**options, refresh_cache=again, retries=0)
        reads = [self.done[id_] for id_ in vertex.needs.values() if id_ in self.done]
        try:
            self._check_lock(vertex, stage)
            with shared_turn(home, vertex.name, stage.key, again) as turn:
                with owner.running(vertex.name):
                    state: State = task(stage, context, [r.state for r in reads], return_state=True)
                if not state.is_completed():
                    return self._failure(vertex, stage, state)
                done = Done(stage, context, state, state.result(), state.name == "Cached")
                if not done.cached:
                    self._settle(vertex, done.result)
                if turn is not None:
                    turn.publish(done.result)
        except SharedStoreError as error:
            return f"{_of(vertex)} could not start: {error}"
        except OSError as error:
            # Such as a disk that is full for a moment: what others compute must not end with it.
            return f"{_of(vertex)} could not go on: {error_line(error)}"
        except StageError as error:
            return str(error)
        return done

    def _done_in_this_run(self, vertex: Vertex, stage: Stage) -> bool:
        """Whether this flow run has computed the stage already: Prefect retries a run as it was."""
        return any(
            made["key"] == stage.key
            and made["flow_run_id"] == self._flow_run_id
            and made["status"] == "completed"
            for made in attempts(vertex.request.home, stage.name)
        )

    def _check_lock(self, vertex: Vertex, stage: Stage) -> None:
        """Prefect would go on without the cache where its key cannot be had, and say nothing."""
        folder = Home(vertex.request.home).locks
        try:
            folder.mkdir(parents=True, exist_ok=True)
            StageLocks(folder).is_locked(stage.key)
        except OSError as error:
            raise StageError(
                f"{_of(vertex)} could not start: its lock in {folder} cannot be used: "
                f"{error_line(error)}"
            ) from error

    def _settle(self, vertex: Vertex, result: StageResult) -> None:
        """Drop the checkpoints of a stage that the cache knows; a stage killed before goes on.

        Raises:
            StageError: where it does not, which Prefect passes over in silence.
        """
        home = vertex.request.home
        if read_record(home, result.key, result.stage)[0] is None:
            raise StageError(
                f"{_of(vertex)} is done, but its result could not be written to "
                f"{Home(home).results}; {free_bytes(home) / 1e6:,.0f} MB are free there"
            )
        record_to_disk(home, result.key)
        locks, holder = StageLocks(Home(home).locks), f"settling-{uuid.uuid4().hex}"
        # A run that waited for this result has the lock while it verifies it. Whoever has it for
        # longer is computing the stage again, and owns the checkpoints.
        if locks.acquire_lock(result.key, holder, acquire_timeout=VERIFICATION_SECONDS):
            try:
                drop_checkpoints(home, result.key)
            finally:
                locks.release_lock(result.key, holder)

    def _failure(self, vertex: Vertex, stage: Stage, state: State) -> str:
        home, name = vertex.request.home, vertex.name
        cause = error_line(state.result(raise_on_failure=False))
        # Other cells of a grid have stages of this name.
        made = [
            record
            for record in attempts(home, name)
            if record["key"] == stage.key and record["flow_run_id"] == self._flow_run_id
        ]
        if not made:
            return f"{_of(vertex)} could not start: {cause}"
        number = made[-1]["number"]
        return (
            f"stage {name} failed in attempt {number} of recipe {vertex.request.recipe.name}: "
            f"{cause}; its record with the traceback is {attempt_path(home, name, number)}"
        )


def _of(vertex: Vertex) -> str:
    return f"stage {vertex.name} of recipe {vertex.request.recipe.name}"


def _full(running: Iterable[Vertex], workers: int) -> frozenset[bool]:
    """Of which stages, timed ones or others, as many have begun as may.

    Each by themselves: what is timed waits for all others of its machine, and must not keep them
    from their workers.
    """
    most = max(AT_ONCE, AT_ONCE_PER_WORKER * workers)
    begun = Counter(catalogue()[vertex.name].timed for vertex in running)
    return frozenset(timed for timed, count in begun.items() if count >= most)
