"""The layout of `ROSITA_HOME`. No other module of flows or tasks knows these names.

store/<digest>/                     artifacts (tasks/store/artifacts.py)
store/tmp/                          artifacts being written, and what is being removed
store/damaged/                      artifacts that failed verification
results/<stage key>                 records of finished stages (tasks/cache/records.py)
results/damaged/                    records that could not be trusted
attempts/<stage>/                   records of all attempts, with their metrics
checkpoints/<stage key>/            what unfinished stages go on from
locks/                              who computes which stage key
runs/<run id>/summary.json          what a run achieved
runs/<run id>/errors.csv            dev rows on which student and teacher differ
runs/<run id>/error.txt             why a run that was done could not be recorded
grids/<grid>/                       cells of a grid (flows/grids/files.py)
reports/<grid>/                     tables and plots of a grid
mlflow.db, mlartifacts/             MLflow's own store
prefect/                            Prefect's own files, unless it has a home or a server elsewhere
journals/<number>/                  mlflow.db, mlartifacts/ and recorders/ of another machine that
                                    recorded at the same time (tasks/tracking/abandoned.py)
machine.lock                        which machine writes mlflow.db (tasks/host/one_machine.py)
recorders/                          locks of the processes that record (tasks/tracking/abandoned.py)
downloads/                          data fetched from elsewhere
prefect/password                    of a Prefect server beside which runs are taken
logs/                               output of servers, tracebacks
servers.json                        where `rosita ui` serves it, as long as it does
tmp/                                scratch space on the home's disk
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "ROSITA_HOME"


def home_directory() -> Path:
    """`ROSITA_HOME`, or `.rosita` in the working directory.

    Raises:
        ValueError: where the working directory is gone, or databases cannot be named there.
    """
    named = os.environ.get(HOME_VARIABLE) or ".rosita"
    try:
        home = Path(named).absolute()
    except FileNotFoundError:
        raise ValueError(
            f"{HOME_VARIABLE} must be an absolute path where the working directory was removed, "
            f"got {named}"
        ) from None
    place = home
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"{HOME_VARIABLE} must be a directory that can be written, got {home}")
    if "?" in str(home):
        # In the address of a database it ends the name.
        raise ValueError(f"{HOME_VARIABLE} must be a path without ?, got {home}")
    return home


@dataclass(frozen=True, init=False)
class Home:
    """The places of a home, all absolute. Asking for one neither makes it nor looks at it."""

    root: Path

    def __init__(self, root: str | Path) -> None:
        object.__setattr__(self, "root", Path(root).absolute())

    @property
    def store(self) -> Path:
        """Artifacts, by digest."""
        return self.root / "store"

    @property
    def unfinished_artifacts(self) -> Path:
        """Artifacts being written, and what is being removed from the home."""
        return self.store / "tmp"

    @property
    def damaged_artifacts(self) -> Path:
        """Artifacts that failed verification."""
        return self.store / "damaged"

    @property
    def results(self) -> Path:
        """Records of finished stages, by stage key."""
        return self.root / "results"

    @property
    def damaged_results(self) -> Path:
        """Records that could not be trusted."""
        return self.results / "damaged"

    @property
    def attempts(self) -> Path:
        """A folder of attempts per stage."""
        return self.root / "attempts"

    def attempts_of(self, stage: str) -> Path:
        """Records of the attempts of one stage."""
        return self.attempts / stage

    @property
    def checkpoints(self) -> Path:
        """A folder of checkpoints per stage key."""
        return self.root / "checkpoints"

    def checkpoints_of(self, key: str) -> Path:
        """Checkpoints of one unfinished stage."""
        return self.checkpoints / key

    @property
    def locks(self) -> Path:
        """Locks, by stage key."""
        return self.root / "locks"

    def run(self, run_id: str) -> Path:
        """The folder of one flow run."""
        return self.root / "runs" / run_id

    def summary(self, run_id: str) -> Path:
        """What a flow run achieved."""
        return self.run(run_id) / "summary.json"

    def summaries(self) -> tuple[Path, ...]:
        """The summaries of all flow runs that are there now, in no order."""
        return tuple(self.root.glob("runs/*/summary.json"))

    def record_error(self, run_id: str) -> Path:
        """The traceback of a flow run that was done and could not be recorded."""
        return self.run(run_id) / "error.txt"

    def errors(self, run_id: str) -> Path:
        """The dev rows on which the student and the teacher of a run differ."""
        return self.run(run_id) / "errors.csv"

    @property
    def grids(self) -> Path:
        """A folder per grid."""
        return self.root / "grids"

    def grid(self, name: str) -> Path:
        """What is known of the cells of one grid."""
        return self.grids / name

    def report(self, grid: str) -> Path:
        """Tables and plots of one grid."""
        return self.root / "reports" / grid

    @property
    def mlflow_database(self) -> Path:
        """MLflow's runs and registry."""
        return self.root / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """MLflow's files, a folder per experiment."""
        return self.root / "mlartifacts"

    @property
    def prefect(self) -> Path:
        """Prefect's database, results and settings."""
        return self.root / "prefect"

    def recorder(self, name: str) -> Path:
        """The lock of a process that records runs."""
        return self.root / "recorders" / f"{name}.lock"

    def recorders(self) -> list[str]:
        """The processes whose locks are there."""
        return sorted(path.stem for path in self.root.glob("recorders/*.lock"))

    def journal(self, number: int) -> Path:
        """A folder with a store of MLflow's own, of which the home itself is the first."""
        return self.root if number == 1 else self.root / "journals" / str(number)

    def journals(self) -> list[Path]:
        """Those that are there."""
        return [self.root, *sorted(self.root.glob("journals/*"))]

    @property
    def downloads(self) -> Path:
        """Data fetched from elsewhere."""
        return self.root / "downloads"

    @property
    def prefect_password(self) -> Path:
        """Name and password of a Prefect server beside which runs are taken."""
        return self.root / "prefect" / "password"

    @property
    def servers(self) -> Path:
        """Where a process serves the pages of the home's runs."""
        return self.root / "servers.json"

    @property
    def logs(self) -> Path:
        """Output of servers, and tracebacks."""
        return self.root / "logs"

    @property
    def scratch(self) -> Path:
        """Scratch space on the home's disk; the system's own may be memory."""
        return self.root / "tmp"
