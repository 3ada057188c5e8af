"""A row of `rosita doctor`, and the rows of the services that runs talk to."""

from __future__ import annotations

import sqlite3
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil  # type: ignore[import-untyped]

from flows.services.servers import HELD
from rosita_core.model.locate import MODELS, of_hub
from tasks.host.network import unreachable
from tasks.host.redaction import default_uri, redacted, tracking_uri
from tasks.host.wording import counted

Status = Literal["ok", "warning", "problem"]
OK: Status = "ok"
WARNING: Status = "warning"
PROBLEM: Status = "problem"


@dataclass(frozen=True)
class Check:
    """One row.

    Attributes:
        name: what was looked at.
        status: ok, warning (something will not work or be slow) or problem (nothing will).
        detail: what was found and, where it is not ok, what to do.
    """

    name: str
    status: Status
    detail: str


def check_hub() -> Check:
    """Whether models and data of the Hugging Face hub can be had; many recipes need neither."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Check("hub", OK, "switched off (HF_HUB_OFFLINE)")
    problem, shown = unreachable(constants.ENDPOINT, (200,)), redacted(constants.ENDPOINT)
    if problem is None:
        return Check("hub", OK, f"{shown} answers")
    local = ", ".join(name for name in MODELS if not of_hub(name))
    return Check("hub", OK, f"{shown} cannot be reached ({problem}); {local} do not need it")


def check_prefect() -> Check:
    """The server that flow runs will report to."""
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if not url:
        return Check("prefect", OK, "no PREFECT_API_URL: each run starts a server of its own")
    # A server that wants to know who asks is there.
    problem = unreachable(f"{url.rstrip('/')}/health", (200, 401, 403))
    shown = redacted(url)
    if problem is None:
        return Check("prefect", OK, f"{shown} answers")
    return Check(
        *("prefect", PROBLEM),
        f"{shown} does not answer ({problem}); start it, or unset PREFECT_API_URL",
    )


def check_processes() -> Check:
    """Servers whose command is gone, which should have ended with it."""
    left = []
    for process in psutil.process_iter(["pid", "ppid", "cmdline"]):
        command = process.info["cmdline"] or []
        if (
            HELD in command
            and _numbers_processes_as_here(process.pid)
            and str(process.info["ppid"]) != command[command.index(HELD) + 1]
        ):
            left.append(str(process.info["pid"]))
    if not left:
        return Check("processes", OK, "no server was left behind by a run that is gone")
    return Check(
        "processes",
        WARNING,
        f"left behind by commands that are gone: {', '.join(left)}; `kill {' '.join(left)}` "
        "ends them",
    )


def _numbers_processes_as_here(pid: int) -> bool:
    """Not so in a container, seen from outside; nor known of another user's processes."""
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink() == Path("/proc/self/ns/pid").readlink()
    except FileNotFoundError:
        # Without /proc there are no containers to be looked into; with it the process has ended.
        return not Path("/proc/self/ns/pid").exists()
    except OSError:
        return False


def check_shared_store() -> Check:
    """The store of all machines, and whether it can hold locks."""
    from tasks.store.shared_files import VARIABLE, checked_files

    try:
        files = checked_files(write=True)
    except ValueError as error:
        return Check("shared store", PROBLEM, str(error))
    if files is None:
        return Check("shared store", OK, f"none: {VARIABLE} is not set")
    return Check("shared store", OK, f"{files.url} can be read, written and locked")


def check_mlflow(home: Path) -> Check:
    """The store that runs are recorded in."""
    from tasks.tracking.lost_history import lost_history

    full = tracking_uri(home)
    uri = redacted(full)
    place = urllib.parse.urlsplit(uri)
    if place.scheme in ("http", "https"):
        problem = unreachable(f"{uri.rstrip('/')}/health", (200, 401, 403))
        if problem is None:
            return Check("mlflow", OK, f"{uri} answers")
        return Check("mlflow", PROBLEM, f"{uri} does not answer ({problem})")
    if place.scheme == "sqlite":
        # Three slashes and a relative path, or four and an absolute one.
        database = Path(place.path[1:]).absolute()
        if full == default_uri(home) and (lost := lost_history(home)) is not None:
            return Check("mlflow", WARNING, lost)
        if not database.exists():
            return Check("mlflow", OK, f"{uri} will be made by the first run")
        try:
            _count_experiments(database)
        except sqlite3.Error as error:
            return Check("mlflow", PROBLEM, f"{database} cannot be read: {error}")
    from mlflow import MlflowClient

    try:
        experiments = MlflowClient(tracking_uri=full).search_experiments()
    except Exception as error:
        cause = (redacted(str(error)).strip().splitlines() or [type(error).__name__])[0]
        return Check("mlflow", PROBLEM, f"{uri} cannot be used: {cause}")
    return Check("mlflow", OK, f"{uri}: {counted(len(experiments), 'experiment')}")


def check_mirror(home: Path) -> Check:
    """What another MLflow has not been told, and what it did not accept."""
    from tasks.tracking.abandoned import refused, waiting

    try:
        unsent, rejected = waiting(home), refused(home)
    except OSError as error:
        return Check("mirror", WARNING, str(error))
    found = []
    if unsent:
        found.append(
            f"{counted(unsent, 'run')} of ended processes not sent to MLflow; "
            "`rosita sync` or the next run sends what waits"
        )
    if rejected:
        found.append(
            f"MLflow refused something of {counted(rejected, 'run')}; "
            "`rosita sync --refused` asks again"
        )
    if found:
        return Check("mirror", WARNING, "; ".join(found))
    return Check("mirror", OK, "nothing waits to be sent to MLflow")


def _count_experiments(database: Path) -> None:
    """Read through a connection that cannot write: MLflow's own would make tables."""
    connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    try:
        connection.execute("select count(*) from experiments").fetchone()
    finally:
        connection.close()
