"""What `rosita doctor` looks at. Each check answers in a few seconds and changes nothing."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from flows.doctor_findings import OK, PROBLEM, WARNING, Check
from flows.request import BYTES_PER_PARAMETER, MODELS_ON_DISK
from flows.doctor_services import check_hub, check_mlflow, check_prefect
from flows.show import console
from rosita_core.data.film_reviews import ARCHIVE, SHA256
from rosita_core.model.shape import count_parameters
from rosita_core.model.sources import (
    VECTORS,
    locate,
    locate_vectors,
    read_config,
    shape_from,
)
from tasks.store import Store, free_bytes, is_writable

STYLES = {OK: "green", WARNING: "yellow", PROBLEM: "red"}

PACKAGE = "rosita"
# What the demo takes on 2 cores.
DEMO_MEMORY_GIB = 4.0
DEMO_MODEL, LARGEST_MODEL = "minilm-l6", "bert-base"
DEMO_MODELS, DEMO_VECTORS = ("minilm-l6",), tuple(VECTORS)


def examine(home: Path) -> list[Check]:
    """All checks, with progress on stderr while the store is verified."""
    looks: tuple[Callable[[], Check], ...] = (
        check_python,
        check_libraries,
        check_torch,
        check_memory,
        lambda: check_home(home),
        lambda: check_disk(home),
        check_demo_extra,
        lambda: check_film_reviews(home / "downloads"),
        check_hub,
        check_prefect,
        lambda: check_mlflow(home),
        lambda: check_store(home),
    )
    return [look() for look in looks]


def show_checks(checks: list[Check]) -> None:
    """A line per check."""
    table = Table(show_header=True)
    for title in ("check", "status", "found"):
        table.add_column(title, overflow="fold")
    for check in checks:
        style = STYLES[check.status]
        table.add_row(check.name, f"[{style}]{check.status}[/{style}]", check.detail)
    console().print(table)


def check_python() -> Check:
    """The interpreter against what the package requires."""
    found = platform.python_version()
    required = str(importlib.metadata.metadata(PACKAGE)["Requires-Python"])
    fits = SpecifierSet(required).contains(found, prereleases=True)
    return Check("python", OK if fits else PROBLEM, f"{found}, required {required}")


def check_libraries() -> Check:
    """Installed versions against what the package requires."""
    required = [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or []]
    wanted = [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = []
    for requirement in wanted:
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement} is not installed")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement} is required, {found} is installed")
    if wrong:
        return Check("libraries", PROBLEM, "; ".join(wrong) + "; install from requirements.lock")
    return Check("libraries", OK, f"{len(wanted)} libraries as required")


def check_torch() -> Check:
    """Where and in which precision stages compute with `auto`."""
    from tasks.hardware import hardware, resolve_numerics

    machine = hardware()
    numerics = resolve_numerics("auto", "auto", "auto", False)
    where = ", ".join(machine["gpus"]) or f"no CUDA, {machine['cpu']}"
    return Check(
        "torch",
        OK,
        f"{machine['torch']}: {where}; recipes compute on {numerics.device} in "
        f"{numerics.precision} with {numerics.threads} threads",
    )


def check_memory() -> Check:
    """Memory that is free now, against what the demo takes."""
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    found = f"{free:.1f} of {total:.1f} GiB free"
    if free < DEMO_MEMORY_GIB:
        return Check("memory", WARNING, f"{found}; the demo takes up to {DEMO_MEMORY_GIB:.0f}")
    return Check("memory", OK, found)


def check_home(home: Path) -> Check:
    """Whether results can be written."""
    if not home.exists():
        if is_writable(home):
            return Check("home", OK, f"{home} will be made by the first run")
        return Check("home", PROBLEM, f"{home} cannot be made; set ROSITA_HOME")
    try:
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        return Check("home", PROBLEM, f"{home} cannot be written: {error.strerror}")
    return Check("home", OK, f"{home} can be written")


def check_disk(home: Path) -> Check:
    """Room for the models of a small and of a large run."""
    free = free_bytes(home)
    found = f"{free / 1e9:,.1f} GB free"
    for name, status in ((DEMO_MODEL, PROBLEM), (LARGEST_MODEL, WARNING)):
        parameters = count_parameters(shape_from(read_config(name), 2)).total
        needed = parameters * BYTES_PER_PARAMETER * MODELS_ON_DISK
        if free < needed:
            return Check("disk", status, f"{found}; compressing {name} takes {needed / 1e9:.1f} GB")
    return Check("disk", OK, found)


def check_demo_extra() -> Check:
    """The two packages that make a first run possible without a hub."""
    missing = []
    for names, find in ((DEMO_MODELS, locate), (DEMO_VECTORS, locate_vectors)):
        for name in names:
            try:
                find(name)
            except ValueError as error:
                missing.append(str(error))
    if missing:
        return Check("demo extra", WARNING, "; ".join(missing))
    return Check("demo extra", OK, ", ".join((*DEMO_MODELS, *DEMO_VECTORS)))


def check_film_reviews(downloads: Path) -> Check:
    """The demo's sentences: here, or to be fetched by pip."""
    archive = downloads / ARCHIVE
    if archive.is_file():
        with archive.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == SHA256:
                return Check("film reviews", OK, f"{archive}")
        return Check(
            "film reviews", WARNING, f"{archive} is damaged; it is fetched again when used"
        )
    if importlib.util.find_spec("pip") is None:
        return Check("film reviews", WARNING, "pip is not installed, which fetches them")
    return Check("film reviews", OK, "fetched by pip when first used")


def check_store(home: Path) -> Check:
    """Every artifact, every byte."""
    store = Store(home)
    digests = store.digests()
    wrong = []
    bar = Console(stderr=True)
    with Progress(console=bar, transient=True, disable=not bar.is_terminal) as progress:
        for digest in progress.track(digests, description="verifying artifacts"):
            found = store.verify(digest)
            if found is not None:
                wrong.append(f"{digest[:12]}: {found}")
    if wrong:
        return Check(
            "store",
            PROBLEM,
            f"{len(wrong)} of {len(digests)} artifacts are damaged ({'; '.join(wrong)}); "
            "the next run that needs them sets them aside and computes them again",
        )
    return Check("store", OK, f"{len(digests)} artifacts, all whole")
