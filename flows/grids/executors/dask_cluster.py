"""Cells on the workers of a Dask cluster, through Prefect's own task runner for it.

Dask and not Ray, both tried with prefect 3.8.8 on two workers with a GPU each. Ray's servers listen
on all interfaces, also where it is told to use loopback; Dask's do as they are told, and can ask
for certificates. Ray starts a process anew for each task that holds a GPU, Dask keeps its workers.
Ray ran 10 processes and Dask 4, on 18 more packages (288 MB) against 10 (34 MB); neither changes a
version that the lock has. Ray tells a task its GPU; a Dask worker is started with it.

A worker runs one cell at a time. Where workers declare GPUs (`--resources "GPU=1"`), a cell takes
as many as its trainings have processes; as a cell runs its stages one after the other, one stage
holds one GPU. Cells that need the same stage are told apart by the stage locks, as between the
processes of one machine.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.futures import PrefectFuture
from prefect.settings import get_current_settings

from flows.grids.cell import CellWork
from flows.grids.executors.dask_worker import code_digest, leave_group, probe, run_there, stop_there
from flows.grids.executors.processes import KILLED, Document
from flows.services.servers import HOST
from tasks.home import home_directory

if TYPE_CHECKING:
    from prefect_dask import DaskTaskRunner

LOCAL = "local"
SCHEMES = ("tcp://", "tls://")
GPU = "GPU"
CONNECT_SECONDS = 20.0


class ClusterError(ValueError):
    """A cluster on which this grid cannot run; nothing was computed."""


@task(name="cell", task_run_name="{work.cell}")
def run_cell_there(work: CellWork) -> Document:
    """One cell; its document, or None where it was asked to stop."""
    return run_there(work)


def check_cluster(cluster: str, workers: int) -> None:
    """Whether a grid can begin on this cluster, as far as that is known without asking it.

    Args:
        cluster: "local", or the address of a scheduler.
        workers: that were asked for.

    Raises:
        ValueError: naming the option or the variable, what is allowed and the value.
    """
    try:
        import prefect_dask  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError(
            f"cluster needs the packages of the extra, pip install 'rosita[cluster]', got {cluster}"
        ) from None
    if cluster == LOCAL:
        return
    if not cluster.startswith(SCHEMES):
        raise ValueError(
            f"cluster must be local or the address of a Dask scheduler such as "
            f"tcp://host:8786, got {cluster!r}"
        )
    if workers > 1:
        raise ValueError(f"workers must be left to the cluster at {cluster}, got {workers}")
    if not get_current_settings().api.url:
        raise ValueError(
            f"PREFECT_API_URL must be set for --cluster {cluster}, so that all workers talk to "
            "one Prefect server, got none"
        )


class Cluster:
    """A pool of the workers of a Dask cluster."""

    def __init__(self, address: str, workers: int) -> None:
        """The cluster at `address`, or for "local" one of `workers` processes."""
        self._address = address
        self._workers = workers
        self._runner: DaskTaskRunner | None = None
        self._futures: list[Any] = []

    @property
    def size(self) -> int:
        return max(1, len(self._known()))

    @contextmanager
    def started(self) -> Iterator[None]:
        """Connect, or start a cluster on loopback that ends with the block.

        Raises:
            ClusterError: where the cluster does not answer, or a worker cannot run cells.
        """
        from prefect_dask import DaskTaskRunner

        if self._address == LOCAL:
            runner = DaskTaskRunner(
                cluster_kwargs={
                    "n_workers": self._workers,
                    "threads_per_worker": 1,
                    "processes": True,
                    "host": HOST,
                    # Not at the port that it always asks for, where another cluster may be.
                    "dashboard_address": f"{HOST}:0",
                    "silence_logs": logging.ERROR,
                    # Dask would kill a training that takes more than its share of the memory.
                    "memory_limit": 0,
                }
            )
        else:
            runner = DaskTaskRunner(
                address=self._address, client_kwargs={"timeout": CONNECT_SECONDS}
            )
        # Dask says at length what it does; what goes wrong with a cell is said by the cell.
        logging.getLogger("distributed").setLevel(logging.ERROR)
        with runner:
            try:
                _ = runner.client
            except OSError as error:
                raise ClusterError(
                    f"cluster must be a Dask scheduler that answers, got {self._address}: {error}"
                ) from None
            self._runner = runner
            if self._address == LOCAL:
                runner.client.run(leave_group)
            else:
                self._check()
            yield

    def submit(self, work: CellWork) -> PrefectFuture[Document]:
        """Send a cell; a worker of a machine takes its part of the cores."""
        import dask

        assert self._runner is not None
        hosts = Counter(worker["host"] for worker in self._known().values())
        work = work.model_copy(update={"processes": max(hosts.values(), default=1)})
        gpus = [worker["resources"].get(GPU, 0) for worker in self._known().values()]
        processes = work.recipe.numerics.processes
        if any(gpus) and max(gpus) < processes:
            # Dask would wait for such a worker, for ever.
            raise ClusterError(
                f"numerics.processes must be at most {max(gpus):g}, the GPUs of the largest worker "
                f"at {self._address}, got {processes}"
            )
        wanted = {"resources": {GPU: processes}} if any(gpus) else {}
        with dask.annotate(**wanted):
            future = self._runner.submit(run_cell_there, {"work": work})
        self._futures.append(future.wrapped_future)
        return future

    def is_done(self, future: PrefectFuture[Document]) -> bool:
        return bool(future.wrapped_future.done())  # type: ignore[attr-defined]

    def result(self, future: PrefectFuture[Document]) -> Document:
        from distributed import CancelledError, KilledWorker

        try:
            return future.result()
        except KilledWorker:
            return {"status": "failed", "error": KILLED}
        except CancelledError:
            return None

    def stop(self) -> None:
        """Only workers that run a cell of this grid are asked: others may use the cluster, too."""
        assert self._runner is not None
        client = self._runner.client
        ours = [future for future in self._futures if not future.done()]
        if not ours:
            return
        running = client.call_stack(ours)
        begun = {_key(key) for stacks in running.values() for key in stacks}
        # One that waits at a worker would begin when the worker is free.
        client.cancel([future for future in ours if future.key not in begun])
        if busy := [worker for worker, stacks in running.items() if stacks]:
            client.run(stop_there, workers=busy)

    def _known(self) -> dict[str, dict[str, Any]]:
        assert self._runner is not None
        found: dict[str, dict[str, Any]] = self._runner.client.scheduler_info(n_workers=-1)[
            "workers"
        ]
        return found

    def _check(self) -> None:
        """Refuse a cluster on which a cell could not run, or not be found by the others."""
        assert self._runner is not None
        known = self._known()
        if not known:
            raise ClusterError(f"cluster must have workers, got none at {self._address}")
        for address, worker in known.items():
            if worker["nthreads"] != 1:
                raise ClusterError(
                    f"workers must have one thread each (--nthreads 1), since torch has one random "
                    f"state per process, got {worker['nthreads']} at {address}"
                )
        home, token = home_directory(), f"cluster-{uuid.uuid4().hex}"
        api_url = str(get_current_settings().api.url)
        home.mkdir(parents=True, exist_ok=True)
        (home / token).touch()
        try:
            found = self._runner.client.run(probe, token, api_url)
        except ModuleNotFoundError as error:
            raise ClusterError(
                f"workers must have this project installed, got {error} at {self._address}"
            ) from None
        finally:
            (home / token).unlink()
        for address, said in found.items():
            if not said["sees"]:
                raise ClusterError(
                    f"ROSITA_HOME must be the same folder on all machines, got {home} here and "
                    f"{said['home']} at {address}"
                )
            if not said["reaches"]:
                raise ClusterError(
                    f"PREFECT_API_URL must answer on all machines, got {api_url}, which does not "
                    f"at {address}"
                )
            if said["code"] != code_digest():
                raise ClusterError(
                    f"workers must run the same version of this project, got another at {address}"
                )


def _key(key: Any) -> Any:
    """Of a task, which some versions report as a list."""
    return tuple(key) if isinstance(key, list) else key
