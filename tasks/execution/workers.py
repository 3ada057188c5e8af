"""Stages on the workers of a Dask cluster: processes of this machine, or of many.

A worker computes one stage at a time, and only that: the cache, its locks, the attempts and MLflow
stay in the flow's process. Workers read inputs from the home and write artifacts and checkpoints
into it, so they must see the same folder.

Which stage goes to which worker is decided here, and not by Dask, which knows nothing of stages
that must have a machine for themselves. Dask starts processes and replaces those that die, carries
functions and results, and tells which workers there are.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import signal
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.cache.records import Context
from tasks.cache.stage_key import Stage
from tasks.execution import worker as there
from tasks.execution.parallel import device_of
from tasks.execution.places import Compute, Slot, WorkerLost
from tasks.execution.work import Computed, Listener
from tasks.home import Home
from tasks.host.signals import SIGNALS, stop_requested, stopped
from tasks.host.terminal import progress_display

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

HOST = "127.0.0.1"
SCHEMES = ("tcp://", "tls://")
GPU = "GPU"
CONNECT_SECONDS = 20.0
POLL_SECONDS = 0.2
_DONE = object()


class WorkersError(ValueError):
    """Workers on which these stages cannot run; nothing was computed."""


def check_address(address: str) -> None:
    """Whether this can be the address of a scheduler.

    Raises:
        ValueError: naming the option, what is allowed and the value.
    """
    if not address.startswith(SCHEMES):
        raise ValueError(
            f"cluster must be the address of a Dask scheduler such as tcp://host:8786, "
            f"got {address!r}"
        )


@contextmanager
def own_workers(count: int, home: Path) -> Iterator[Workers]:
    """`count` processes of this machine; they end with the block, and with this process.

    They listen on loopback alone, and to nobody without the certificate that is made here.
    """
    from distributed import Client, LocalCluster, Security

    _quiet()
    security = Security.temporary()
    scratch = Home(home).scratch
    scratch.mkdir(parents=True, exist_ok=True)
    with _signals_wait():
        # The threads and processes that start here never hear of a signal: Ctrl-C at a terminal,
        # or one to all processes of a service, is for this process, which asks them to save.
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            host=HOST,
            protocol="tls://",
            security=security,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
            # Dask would kill a training that takes more than its share of the memory.
            memory_limit=0,
            local_directory=str(scratch),
        )
        client = Client(cluster, security=security)
    workers = Workers(client, cluster)
    try:
        yield workers
    finally:
        workers.close()


@contextmanager
def workers_at(address: str, home: Path, needs: Needs) -> Iterator[Workers]:
    """The workers of a cluster that others started.

    Raises:
        WorkersError: where it does not answer, or a worker cannot compute these stages.
    """
    from distributed import Client

    _quiet()
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except OSError as error:
        raise WorkersError(
            f"cluster must be a Dask scheduler that answers, got {address}: {error}"
        ) from None
    workers = Workers(client, None)
    try:
        _check(client, address, home, needs)
        yield workers
    finally:
        workers.close()


@dataclass(frozen=True)
class Needs:
    """What workers must have.

    Attributes:
        code: modules that compute the stages.
        hardware: device -> what decides the bits of its numbers, here.
        processes: that the largest training is divided over.
    """

    code: tuple[str, ...]
    hardware: Mapping[str, str]
    processes: int


@dataclass
class _Worker:
    """One worker.

    Attributes:
        address: of its process; one that takes its place has another.
        host: whose cores it shares with the host's other workers.
        name: its number among the workers of this machine.
        gpus: that it declares.
        busy: whether it computes a stage of ours.
        alone: whether that stage has the host for itself.
        lost: whether its process is gone.
        abandoned: whether nobody waits for what it computes.
    """

    address: str
    host: str
    name: Any
    gpus: int
    busy: bool = False
    alone: bool = False
    lost: bool = False
    abandoned: bool = False


@dataclass(order=True)
class _Ticket:
    """Who waits for a worker: stages in their order, after them those that want a host alone."""

    alone: bool
    position: int
    number: int


class Workers:
    """A place with a slot per worker (`tasks.execution.places.Place`). For many threads."""

    def __init__(self, client: Client, own: LocalCluster | None) -> None:
        self._client, self._own = client, own
        self._changed = threading.Condition()
        self._workers: dict[str, _Worker] = {}
        self._waiting: list[_Ticket] = []
        self._numbers = itertools.count()
        self.tend()

    def tend(self) -> None:
        """Look which workers there are; where the flow is to stop, ask them to save and stop."""
        known = _known(self._client)
        with self._changed:
            for address, worker in self._workers.items():
                worker.lost = address not in known
            for address, said in known.items():
                gpus = int(said["resources"].get(GPU, 0))
                found = _Worker(address, said["host"], said["name"], gpus)
                self._workers.setdefault(address, found)
            for address in [a for a, worker in self._workers.items() if worker.lost]:
                del self._workers[address]
            busy = [address for address, worker in self._workers.items() if worker.busy]
            self._changed.notify_all()
        if stop_requested() and busy:
            answers = self._client.run(there.ask_to_stop, workers=busy, on_error="ignore")
            self._abandon(address for address, saves in answers.items() if not saves)

    def abandon(self) -> None:
        """Wait no longer for any worker."""
        self._abandon(list(self._workers))

    def _abandon(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            if worker := self._workers.get(address):
                worker.abandoned = True

    @contextmanager
    def slot(self, context: Context) -> Iterator[Slot]:
        """A free worker. Stages earlier in the order come first.

        Raises what a signal means where one comes while it waits.
        """
        worker = self._taken(_Ticket(context.alone, context.position, next(self._numbers)))
        try:
            yield _WorkerSlot(self._client, worker, self._share(worker), self._own is not None)
        finally:
            with self._changed:
                worker.busy = worker.alone = False
                self._changed.notify_all()

    def _taken(self, mine: _Ticket) -> _Worker:
        with self._changed:
            self._waiting = sorted([*self._waiting, mine])
            try:
                while (worker := self._for(mine)) is None:
                    if stop_requested():
                        raise stopped()
                    self._changed.wait(POLL_SECONDS)
            finally:
                self._waiting.remove(mine)
            worker.busy, worker.alone = True, mine.alone
            return worker

    def _for(self, mine: _Ticket) -> _Worker | None:
        """The worker of a ticket, if those before it leave it one.

        A stage that wants a host for itself waits until that is free, and keeps no other waiting:
        a host that drained for it would idle for as long as the longest training takes.
        """
        workers = self._workers.values()
        closed = {worker.host for worker in workers if worker.alone}
        free = [worker for worker in workers if not worker.busy]
        used = {worker.host for worker in workers if worker.busy}
        for ticket in self._waiting:
            barred = closed | used if ticket.alone else closed
            chosen = next((worker for worker in free if worker.host not in barred), None)
            if ticket is mine:
                return chosen
            if chosen is not None:
                free.remove(chosen)
                used.add(chosen.host)
                closed |= {chosen.host} if ticket.alone else set()
        return None

    def _share(self, worker: _Worker) -> int:
        """How many processes share the cores of a worker's host while it computes."""
        if worker.alone:
            return 1
        return sum(other.host == worker.host for other in self._workers.values())

    def close(self) -> None:
        """End the connection; workers of ours end with it, whatever they do."""
        self.abandon()
        if self._own is not None:
            for nanny in self._own.workers.values():
                nanny.auto_restart = False
                # One that computes would be waited for.
                with suppress(ProcessLookupError, TypeError):
                    os.kill(nanny.pid, signal.SIGKILL)
        self._client.close()
        if self._own is not None:
            self._own.close()


@dataclass(frozen=True)
class _WorkerSlot:
    """One worker for the length of a stage."""

    client: Client
    worker: _Worker
    share: int
    ours: bool

    def compute(
        self, compute: Compute, stage: Stage, context: Context, listener: Listener
    ) -> Computed:
        """What `compute` returns there.

        Raises:
            WorkerLost: where the worker is gone.
        """
        if self.ours:
            device = device_of(context.device, self.worker.name)
            context = context.model_copy(update={"device": device})
        topic = f"rosita-{uuid.uuid4().hex}"
        said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.client.subscribe_topic(topic, lambda event: said.put(event[1]))
        processes = stage.numerics.get("processes", 1)
        future = self.client.submit(
            there.compute_there,
            *(compute, stage, context, self.share, topic),
            key=topic,
            pure=False,
            workers=[self.worker.address],
            allow_other_workers=False,
            resources={GPU: processes} if self.worker.gpus else None,
        )
        future.add_done_callback(lambda _: said.put(_DONE))
        try:
            while (message := self._next(said)) is not _DONE:
                _pass_on(message, listener)
            computed: Computed | None = future.result()
        finally:
            # Where nobody waits any longer, this tells the worker so.
            future.cancel()
            self.client.unsubscribe_topic(topic)
        if computed is None:
            raise stopped()
        return computed

    def _next(self, said: queue.SimpleQueue[Any]) -> Any:
        while True:
            with suppress(queue.Empty):
                return said.get(timeout=POLL_SECONDS)
            if self.worker.abandoned:
                raise stopped()
            if self.worker.lost:
                raise WorkerLost(f"its worker {self.worker.address} is gone")


def _pass_on(message: Mapping[str, Any], listener: Listener) -> None:
    match message["kind"]:
        case there.RESUMED:
            listener.resumed(message["unit"])
        case there.REPORT:
            listener.report(there.Event(**message["event"]))
        case there.LINE:
            progress_display().line(message["text"])


@contextmanager
def _signals_wait() -> Iterator[None]:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _quiet() -> None:
    """Dask says at length what it does; what goes wrong with a stage is said by the stage."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


def _known(client: Client) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
    return found


def _check(client: Client, address: str, home: Path, needs: Needs) -> None:
    """Refuse workers that cannot compute these stages, or would compute something else."""
    known = _known(client)
    if not known:
        raise WorkersError(f"cluster must have workers, got none at {address}")
    for worker, said in known.items():
        if said["nthreads"] != 1:
            raise WorkersError(
                f"workers must have one thread each (--nthreads 1), since torch has one random "
                f"state per process, got {said['nthreads']} at {worker}"
            )
    most = max(int(said["resources"].get(GPU, 0)) for said in known.values())
    if most and most < needs.processes:
        raise WorkersError(
            f"numerics.processes must be at most {most}, the GPUs of the largest worker at "
            f"{address}, got {needs.processes}"
        )
    token = f"cluster-{uuid.uuid4().hex}"
    home.mkdir(parents=True, exist_ok=True)
    (home / token).touch()
    try:
        found = client.run(there.probe, str(home), token, needs.code, tuple(needs.hardware))
    except ModuleNotFoundError as error:
        raise WorkersError(
            f"workers must have this project installed, got {error} at {address}"
        ) from None
    finally:
        (home / token).unlink()
    ours = there.versions(needs.code)
    for worker, said in found.items():
        if not said["sees"]:
            raise WorkersError(
                f"ROSITA_HOME must be the same folder on all machines, got {home} here and no "
                f"such folder at {worker}"
            )
        if said["versions"] != ours:
            raise WorkersError(
                f"workers must run the same version of this project and its libraries, got "
                f"another at {worker}"
            )
        for device, kind in needs.hardware.items():
            if said["hardware"][device] != kind:
                raise WorkersError(
                    f"workers must compute as this machine does ({device}: {kind}), got "
                    f"{said['hardware'][device]} at {worker}"
                )
