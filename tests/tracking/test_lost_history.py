"""A history that was lost is said before a new one begins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.maintenance.doctor_services import check_mlflow
from tasks.home import Home
from tasks.tracking.lost_history import lost_history
from tasks.tracking.runs import Tracking


@pytest.fixture
def home(tmp_path: Path, mlflow_tables: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one recorded run."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(mlflow_tables, home / "mlflow.db")
    record(home, "first")
    return home


def record(home: Path, run_id: str) -> None:
    """A run, as the engine records it."""
    tracking = Tracking(home)
    run = tracking.start_parent("sst2", "demo", {"seed": 3}, 3, run_id, None)
    tracking.finish(run, "FINISHED", {}, {})
    assert tracking.flush(60)
    path = Home(home).summary(run_id)
    path.parent.mkdir(parents=True)
    summary = {
        "run_id": run_id,
        "recipe": "demo",
        "stages": [],
        "recorded_as": run,
    }
    path.write_text(json.dumps(summary))


def emptied(database: Path, tables: Path) -> None:
    database.write_bytes(b"")


def removed(database: Path, tables: Path) -> None:
    database.unlink()


def another(database: Path, tables: Path) -> None:
    shutil.copy(tables, database)


@pytest.mark.parametrize(
    ("lose", "problem"),
    [(removed, "is gone"), (emptied, "is empty"), (another, "has none of its runs")],
)
def test_a_lost_history_is_noticed(
    home: Path, mlflow_tables: Path, lose: Callable[[Path, Path], None], problem: str
) -> None:
    assert lost_history(home) is None
    lose(home / "mlflow.db", mlflow_tables)
    said = lost_history(home)
    assert said is not None
    assert said.startswith(
        f"{home}/mlflow.db {problem}, though 1 run of this home had been recorded there: MLflow "
        "begins a new history."
    )
    assert (check_mlflow(home).status, check_mlflow(home).detail) == ("warning", said)


def test_it_is_said_before_a_new_one_begins_and_not_again(
    home: Path, mlflow_tables: Path, caplog: pytest.LogCaptureFixture
) -> None:
    another(home / "mlflow.db", mlflow_tables)
    # As another process: of the home where it was, this one has asked already.
    moved = home.rename(home.with_name("moved"))
    record(moved, "second")
    record(moved, "third")
    assert caplog.text.count(": MLflow begins a new history. ") == 1
    assert lost_history(moved) is None


def test_runs_of_another_machine_are_in_a_journal_of_its_own(
    home: Path, mlflow_tables: Path
) -> None:
    """As where this machine's first run of a shared home has just begun."""
    second = Home(home).journal(2)
    second.mkdir(parents=True)
    (home / "mlflow.db").rename(second / "mlflow.db")
    shutil.copy(mlflow_tables, home / "mlflow.db")
    assert lost_history(home) is None
    shutil.copy(mlflow_tables, second / "mlflow.db")
    said = lost_history(home)
    assert said is not None and "has none of its runs" in said
