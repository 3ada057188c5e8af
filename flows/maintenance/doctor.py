"""What `rosita doctor` looks at. Each check answers in a few seconds and changes nothing."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.table import Table
from rich.text import Text

from flows.maintenance.doctor_home import (
    check_attempts,
    check_checkpoints,
    check_disk,
    check_home,
    check_store,
)
from flows.maintenance.doctor_services import (
    OK,
    PROBLEM,
    WARNING,
    Check,
    check_hub,
    check_mirror,
    check_mlflow,
    check_prefect,
    check_processes,
    check_shared_store,
)
from rosita_core.data.readers.film_reviews import ARCHIVE, SHA256
from rosita_core.model.locate import (
    VECTORS,
    locate,
    locate_vectors,
)
from tasks.home import Home
from tasks.host.console import console

STYLES = {OK: "green", WARNING: "yellow", PROBLEM: "red"}

PACKAGE = "rosita"
# What the demo takes on 2 cores.
DEMO_MEMORY_GIB = 4.0
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
        lambda: check_film_reviews(Home(home).downloads),
        check_hub,
        check_prefect,
        check_processes,
        check_shared_store,
        lambda: check_mlflow(home),
        lambda: check_mirror(home),
        lambda: check_store(home),
        lambda: check_checkpoints(home),
        lambda: check_attempts(home),
    )
    return [look() for look in looks]


def show_checks(checks: list[Check]) -> None:
    """A line per check."""
    table = Table(show_header=True)
    for title in ("check", "status", "found"):
        table.add_column(title, overflow="fold")
    for check in checks:
        style = STYLES[check.status]
        table.add_row(check.name, Text(check.status, style), Text(check.detail))
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
    from tasks.host.hardware import hardware, resolve_numerics

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
