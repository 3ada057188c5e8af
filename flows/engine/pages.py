"""Where a browser finds a run: its page at MLflow and its page at Prefect, where a server has one.

An address is given where it opens the run now, and there is none otherwise: a person then sees the
id. Prefect's server of one command has no pages and ends with the command, so it gives none.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from tasks.home import Home
from tasks.host.environment import PREFECT_HOME
from tasks.host.liveness import RUNNING, attempt_state, this_process
from tasks.host.logs import warn
from tasks.host.network import unreachable
from tasks.host.redaction import redacted, tracking_uri, web_address
from tasks.host.wording import error_line
from tasks.store.json_files import read_file, write_json
from tasks.tracking.tags import NOTE_TAG

if TYPE_CHECKING:
    from tasks.tracking.runs import Tracking

MLFLOW_PAGES = "ROSITA_MLFLOW_URL"
"""Where a browser finds MLflow, if that is not where this machine finds it."""
MLFLOW, PREFECT = "MLflow", "Prefect"
LINK_KEY = "rosita-mlflow"

_there: set[str] = set()

Address = Annotated[str, Field(pattern=r"^http://127\.0\.0\.1:\d+$")]


class Served(BaseModel):
    """What a process that serves a home says of itself: who it is, and what it serves where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    pid: int
    process_started: float
    prefect: Address | None
    prefect_home: str | None
    mlflow: Address | None
    mlflow_uri: str


@contextmanager
def serving(home: Path, prefect: str | None, mlflow: str | None) -> Iterator[None]:
    """This process serves a home in the block, at these addresses; runs of the home link there."""
    path = Home(home).servers
    said = Served(
        **this_process(),
        prefect=prefect,
        prefect_home=os.environ.get(PREFECT_HOME),
        mlflow=mlflow,
        mlflow_uri=redacted(tracking_uri(home)),
    )
    write_json(path, said.model_dump())
    try:
        yield
    finally:
        # Another one may serve the same home since.
        if _read(path) == said:
            path.unlink(missing_ok=True)


def mlflow_pages(home: Path) -> str | None:
    """The address of MLflow's pages about the runs of a home; None where no server has them.

    Raises:
        ValueError: where the address that the user has set is none.
    """
    if named := web_address(MLFLOW_PAGES):
        return redacted(named).rstrip("/")
    uri = redacted(tracking_uri(home))
    if uri.startswith(("http://", "https://")):
        return uri.rstrip("/")
    served = _served(home)
    return served.mlflow if served is not None and served.mlflow_uri == uri else None


def mlflow_page(home: Path, run_id: str | None) -> str | None:
    """The address of a run at MLflow, by its id there; None where nothing serves it."""
    pages = None if run_id is None else mlflow_pages(home)
    return None if pages is None else f"{pages}/#/runs/{run_id}"


def prefect_page(home: Path, flow_run_id: str) -> str | None:
    """The address of a flow run at the Prefect server of the user; None where none has pages."""
    # Here, because it takes seconds to import.
    from prefect.settings import get_current_settings
    from prefect.utilities.urls import url_for

    served = _served(home)
    ours = served is not None and served.prefect_home == os.environ.get(PREFECT_HOME)
    beside = served.prefect if served is not None and ours else None
    page = url_for("flow-run", obj_id=flow_run_id, default_base_url=beside)
    if page is None:
        return None
    settings = get_current_settings()
    if not settings.ui_url:
        # Of this home, so a server that wants a password has the run as well.
        return page if _answers(f"{beside}/api/flow_runs/{flow_run_id}") else None
    # An address that Prefect has made of that of its API may have no pages.
    derived = "ui_url" not in settings.model_fields_set
    if derived and not _answers(str(settings.ui_url)):
        return None
    return redacted(page) if _named_server_has(flow_run_id) else None


def pages(home: Path, run_id: str | None, flow_run_id: str | None) -> dict[str, str]:
    """The addresses of a run by the name of the server that has the page.

    Args:
        home: of the run.
        run_id: at MLflow; None where that is not known.
        flow_run_id: at Prefect; None for what is no flow run.
    """
    found = {
        MLFLOW: mlflow_page(home, run_id),
        PREFECT: None if flow_run_id is None else prefect_page(home, flow_run_id),
    }
    return {name: page for name, page in found.items() if page is not None}


def note(home: Path, said: str, flow_run_id: str) -> dict[str, str]:
    """The tag that MLflow's page of a run begins with: what it is, and a link to its flow run."""
    page = prefect_page(home, flow_run_id)
    link = f"[Its flow run at Prefect]({page})." if page else ""
    text = "\n\n".join(part for part in (said, link) if part)
    return {NOTE_TAG: text} if text else {}


class Link:
    """The link from the page of a flow run to its run at MLflow, as soon as MLflow has that."""

    def __init__(self, tracking: Tracking, run: str, title: str) -> None:
        """`run` is known by its id in the home's own store; `title` says whose it is."""
        self._tracking, self._run, self._title = tracking, run, title
        self._guard = threading.Lock()
        self._shown = False

    def show(self) -> None:
        """Show it, once; to be called in the flow. The run is complete without it, too."""
        with self._guard:
            if self._shown:
                return
            page = mlflow_page(self._tracking.home, self._tracking.run_id(self._run))
            if page is None:
                return
            self._shown = True
        from prefect.artifacts import create_link_artifact

        from rosita_core.export.markdown import plain

        try:
            create_link_artifact(
                page,
                link_text=f"{plain(self._title)} at MLflow",
                key=LINK_KEY,
                description="metrics, files and models of the run",
            )
        except Exception as error:
            warn(f"Prefect's server did not take the link to MLflow: {error_line(error)}")


def _served(home: Path) -> Served | None:
    """What `serving` has noted, where its process still runs on this machine."""
    said = _read(Home(home).servers)
    if said is None or attempt_state(said.model_dump() | {"status": RUNNING}) != RUNNING:
        return None
    return said


def _read(path: Path) -> Served | None:
    try:
        return Served.model_validate_json(read_file(path))
    except (OSError, ValueError):
        # Nobody serves it, or somebody has damaged the note: there are no addresses.
        return None


def _answers(url: str, accepted: tuple[int, ...] = (200, 401, 403)) -> bool:
    """Whether it is there, also where it wants to know who asks.

    A yes is kept, and a no is not: a server may have been too busy to answer.
    """
    if url not in _there and unreachable(url, accepted) is None:
        _there.add(url)
    return url in _there


def _named_server_has(flow_run_id: str) -> bool:
    """Whether the server that the user has named has a flow run, asked with the user's password."""
    import httpx
    from prefect import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        url = f"{str(client.api_url).rstrip('/')}/flow_runs/{flow_run_id}"
        if _answers(url, (200,)):
            return True
        # One that wants a password says so before it looks.
        if unreachable(url, (401, 403)) is not None:
            return False
        try:
            client.read_flow_run(UUID(flow_run_id))
        except (httpx.HTTPError, ObjectNotFound):
            return False
    _there.add(url)
    return True
