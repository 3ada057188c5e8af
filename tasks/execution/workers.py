"""Stages on the workers of a Dask cluster: processes of this machine, or of many.

A worker only computes, one stage at a time. The cache, its locks, the attempts and MLflow stay in
the flow's process; inputs, artifacts and checkpoints lie in the home, which all must see.

Which stage goes to which worker is decided here: Dask knows nothing of stages that must have a
machine for themselves. Dask starts processes and replaces those that die, carries functions and
results, and tells which workers there are.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import signal
import threading
import time
import uuid
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rosita_core.training.progress import Progress
from tasks.cache.records import Context
from tasks.cache.stage_key import PROCESSES, Stage
from tasks.execution import worker as there
from tasks.execution.parallel import device_of
from tasks.execution.places import Compute, Slot, WorkerLost
from tasks.execution.work import Computed, Listener
from tasks.home import Home
from tasks.host.logs import warn
from tasks.host.signals import SIGNALS, stop_requested, stopped
from tasks.host.terminal import progress_display

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

HOST = "127.0.0.1"
SCHEMES = ("tcp://", "tls://")
GPU = "GPU"
CONNECT_SECONDS = 20.0
AGAIN_SECONDS = 10.0
"""Until workers are asked again that could not be."""
POLL_SECONDS = 0.2
PATIENT = {
    "distributed.scheduler.worker-ttl": None,
    "distributed.comm.timeouts.connect": "300s",
    "distributed.comm.timeouts.tcp": "900s",
}
_DONE = object()

Misfits = Callable[[Mapping[str, Mapping[str, Any]]], dict[str, str]]
"""Workers as Dask knows them, by their addresses -> address: why one cannot compute our stages."""


class WorkersError(ValueError):
    """Workers on which these stages cannot run; nothing was computed."""


@contextmanager
def own_workers(count: int, home: Path) -> Iterator[Workers]:
    """`count` processes of this machine; they end with the block, and with this process.

    They listen on loopback alone, and to nobody without the certificate that is made here.
    """
    import dask
    from distributed import Client, LocalCluster, Security

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    # A worker of this machine that is silent for long has much to do, and is not lost.
    dask.config.set(PATIENT)
    security, scratch = Security.temporary(), Home(home).scratch
    scratch.mkdir(parents=True, exist_ok=True)
    # It lets signals through in the thread that starts it.
    resource_tracker.ensure_running()
    # What starts now never hears of a signal: Ctrl-C at a terminal, or one to all processes of a
    # service, is for this process, which asks the others to save.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
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
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    with cluster, Client(cluster, security=security) as client:
        workers = Workers(client, cluster)
        try:
            yield workers
        finally:
            workers.abandon()
            for nanny in cluster.workers.values():
                nanny.auto_restart = False
                # One that computes would be waited for.
                with suppress(ProcessLookupError, TypeError):
                    os.kill(nanny.pid, signal.SIGKILL)


@contextmanager
def workers_at(
    address: str, home: Path, code: tuple[str, ...], hardware: Mapping[str, str], processes: int
) -> Iterator[Workers]:
    """The workers of a cluster that others started.

    Args:
        address: of its scheduler.
        home: that they must see.
        code: modules that compute the stages.
        hardware: device -> what decides the bits of its numbers, here.
        processes: that the largest training is divided over.

    Raises:
        WorkersError: where it does not answer, or a worker cannot compute these stages.
    """
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except OSError as error:
        raise WorkersError(
            f"cluster must be a Dask scheduler that answers, got {address}: {error}"
        ) from None
    with client:
        try:
            workers = Workers(client, None, _misfits(client, home, code, hardware))
        except OSError as error:
            raise WorkersError(
                f"cluster must have workers that answer, got {address}: {error}"
            ) from None
        _check_workers(workers, address, processes)
        try:
            yield workers
        finally:
            workers.abandon()


@dataclass
class _Worker:
    """One worker.

    Attributes:
        address: of its process; one that takes its place has another.
        host: whose cores it shares with the host's other workers.
        name: its number among the workers of this machine.
        gpus: that it declares.
        topic: of what it computes for us, by which it knows it.
        busy: whether it computes a stage of ours.
        alone: whether that stage has the host for itself.
        lost: whether its process is gone.
        abandoned: whether nobody waits for what it computes.
    """

    address: str
    host: str
    name: Any
    gpus: int
    topic: str = ""
    busy: bool = False
    alone: bool = False
    lost: bool = False
    abandoned: bool = False


_Ticket = tuple[bool, int, int, int]
"""Who waits for a worker: those that want a host for themselves last, stages in their order; and
how many processes it has."""


class Workers:
    """A place with a slot per worker (`tasks.execution.places.Place`). For many threads.

    Attributes:
        refused: address -> why a worker is given no stage.
    """

    def __init__(
        self, client: Client, own: LocalCluster | None, misfits: Misfits | None = None
    ) -> None:
        """Find the workers that there are; `misfits` judges these and all that come later."""
        self._client, self._own, self._misfits = client, own, misfits
        self.refused: dict[str, str] = {}
        self._asked: set[str] = set()
        self._changed = threading.Condition()
        self._workers: dict[str, _Worker] = {}
        self._waiting: list[_Ticket] = []
        self._over = False
        self._numbers = itertools.count()
        if come := self._look():
            self._judge(come)

    @property
    def most_gpus(self) -> int:
        """Of one worker, as it declares them."""
        return max((worker.gpus for worker in self._workers.values()), default=0)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._workers)

    def tend(self) -> None:
        """Look which workers there are; where the flow is to stop, ask them to save and stop."""
        if come := self._look():
            # Not here: one that has just come imports all libraries before it answers.
            self._asked.update(come)
            threading.Thread(target=self._admit, args=(come,), daemon=True).start()
        with self._changed:
            busy = {address: one.topic for address, one in self._workers.items() if one.busy}
        if stop_requested() and busy:
            answers = self._client.run(
                there.ask_to_stop, tuple(busy.values()), workers=list(busy), on_error="ignore"
            )
            self.abandon([address for address, saves in answers.items() if not saves])

    def _look(self) -> dict[str, Mapping[str, Any]]:
        """Forget workers that are gone; returns those that have come, as Dask knows them."""
        known = _known(self._client)
        with self._changed:
            for address in [address for address in self._workers if address not in known]:
                self._workers.pop(address).lost = True
            # Another may come to the address of one that was refused.
            self.refused = {one: why for one, why in self.refused.items() if one in known}
            seen = self._workers.keys() | self.refused.keys() | self._asked
            self._changed.notify_all()
        return {address: said for address, said in known.items() if address not in seen}

    def _admit(self, come: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in workers that have come, and say which are refused; the rest is asked again."""
        try:
            for why in self._judge(come):
                warn(f"a worker that came is given no stage: {why}")
        except (Exception, CancelledError) as error:
            if not self._over:
                warn(f"workers that came are asked again: {error}")
                time.sleep(AGAIN_SECONDS)
        finally:
            self._asked.difference_update(come)

    def _judge(self, come: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Take in the workers that fit; returns why others are refused.

        Raises:
            OSError: where that cannot be found out.
        """
        refused = {} if self._misfits is None else self._misfits(come)
        with self._changed:
            self.refused |= refused
            for address in come.keys() - refused.keys():
                said = come[address]
                gpus = int(said["resources"].get(GPU, 0))
                self._workers[address] = _Worker(address, said["host"], said["name"], gpus)
            self._changed.notify_all()
        return list(refused.values())

    def abandon(self, addresses: Iterable[str] | None = None) -> None:
        """Wait no longer for what some workers compute; for all of them, nothing more is begun."""
        self._over = self._over or addresses is None
        for address in list(self._workers) if addresses is None else addresses:
            if worker := self._workers.get(address):
                worker.abandoned = True

    @contextmanager
    def slot(self, stage: Stage, context: Context) -> Iterator[Slot]:
        """A free worker with as many GPUs as the stage has processes, or of a cluster without.

        Stages earlier in the order come first. Raises what a signal means where one comes while
        it waits.
        """
        number, processes = next(self._numbers), stage.numerics.get(PROCESSES, 1)
        worker = self._taken((context.alone, context.position, number, processes))
        try:
            yield partial(self._compute, worker)
        finally:
            with self._changed:
                worker.busy = worker.alone = False
                self._changed.notify_all()

    def _taken(self, mine: _Ticket) -> _Worker:
        with self._changed:
            self._waiting = sorted([*self._waiting, mine])
            try:
                while not (stop_requested() or self._over):
                    if (worker := self._for(mine)) is not None:
                        worker.busy, worker.alone = True, mine[0]
                        return worker
                    self._changed.wait(POLL_SECONDS)
                raise stopped()
            finally:
                self._waiting.remove(mine)

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
            barred = closed | used if ticket[0] else closed
            fits = (one for one in free if not one.gpus or one.gpus >= ticket[3])
            chosen = next((worker for worker in fits if worker.host not in barred), None)
            if ticket == mine:
                return chosen
            if chosen is not None:
                free.remove(chosen)
                used.add(chosen.host)
                closed |= {chosen.host} if ticket[0] else set()
        return None

    def _compute(
        self, worker: _Worker, compute: Compute, stage: Stage, context: Context, listener: Listener
    ) -> Computed:
        """What `compute` returns there.

        Raises:
            WorkerLost: where the worker is gone.
        """
        if self._own is not None:
            # More workers than GPUs share them.
            device = device_of(context.device, worker.name % max(1, torch.cuda.device_count()))
            context = context.model_copy(update={"device": device})
        beside = [other for other in self._workers.values() if other.host == worker.host]
        topic = worker.topic = f"rosita-{uuid.uuid4().hex}"
        said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._client.subscribe_topic(topic, lambda event: said.put(event[1]))
        future = self._client.submit(
            there.compute_there,
            *(compute, stage, context, 1 if worker.alone else len(beside), topic),
            key=topic,
            pure=False,
            workers=[worker.address],
            allow_other_workers=False,
            resources={GPU: stage.numerics.get(PROCESSES, 1)} if worker.gpus else None,
        )
        future.add_done_callback(lambda _: said.put(_DONE))
        try:
            hear = {
                "resumed": listener.resumed,
                "report": lambda event: listener.report(Progress(**event)),
                "line": progress_display().line,
            }
            while (message := _next(worker, said)) is not _DONE:
                hear[message[0]](message[1])
            computed: Computed | None = future.result()
        finally:
            # Where nobody waits any longer, this tells the worker so.
            future.cancel()
            self._client.unsubscribe_topic(topic)
        if computed is None:
            raise stopped()
        return computed


def _next(worker: _Worker, said: queue.SimpleQueue[Any]) -> Any:
    while True:
        with suppress(queue.Empty):
            return said.get(timeout=POLL_SECONDS)
        if worker.abandoned:
            raise stopped()
        if worker.lost:
            raise WorkerLost(f"its worker {worker.address} is gone")


def _known(client: Client) -> dict[str, dict[str, Any]]:
    """Address -> what Dask knows of a worker, for all that there are."""
    while True:
        found: dict[str, dict[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
        # The client asks for fewer by itself now and then, and answers with whatever came last.
        if found.keys() >= client.nthreads().keys():
            return found


def _check_workers(workers: Workers, address: str, processes: int) -> None:
    """Refuse a cluster that has no workers, one that does not fit, or none that is large enough."""
    for why in workers.refused.values():
        raise WorkersError(why)
    if not workers.count:
        raise WorkersError(f"cluster must have workers, got none at {address}")
    if workers.most_gpus and workers.most_gpus < processes:
        raise WorkersError(
            f"numerics.processes must be at most {workers.most_gpus}, the GPUs of the largest "
            f"worker at {address}, got {processes}"
        )


def _misfits(
    client: Client, home: Path, code: tuple[str, ...], hardware: Mapping[str, str]
) -> Misfits:
    """What tells which workers would compute something else, or somewhere else."""
    wanted: dict[str, Any] = {
        f"ROSITA_HOME must be the same folder on all machines, which is {home} here": True,
        "workers must run the same version of this project and its libraries": there.versions(code),
    }
    for device, kind in hardware.items():
        wanted[f"workers must compute on {device} as this machine does, by {kind}"] = kind

    def complaint(said: Mapping[str, Any], answers: Any) -> str | None:
        if said["nthreads"] != 1:
            return (
                "workers must have one thread each (--nthreads 1), since torch has one random "
                f"state per process, got {said['nthreads']}"
            )
        if isinstance(answers, ModuleNotFoundError):
            return f"workers must have this project installed, got {answers}"
        if not isinstance(answers, list):
            raise OSError(f"a worker does not answer: {answers}")
        pairs = zip(wanted.items(), answers, strict=True)
        return next((f"{rule}, got {got}" for (rule, right), got in pairs if got != right), None)

    def look(known: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        token = home / f"cluster-{uuid.uuid4().hex}"
        home.mkdir(parents=True, exist_ok=True)
        token.touch()
        asked = (there.probe, str(token), code, tuple(hardware))
        try:
            found = client.run(*asked, workers=list(known), on_error="return")
        finally:
            token.unlink()
        told = {address: complaint(said, found.get(address)) for address, said in known.items()}
        return {address: f"{why} at {address}" for address, why in told.items() if why is not None}

    return look
