"""What `rosita doctor` looks at in a home: room, artifacts, checkpoints, attempts that died."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from flows.maintenance.doctor_services import OK, PROBLEM, WARNING, Check
from flows.maintenance.gc import size_of
from flows.maintenance.references import all_attempts, is_finished
from flows.recipes.request import BYTES_PER_PARAMETER, MODELS_ON_DISK
from flows.recipes.shipped import RECIPES
from flows.recipes.sizes import shapes
from rosita_core.model.shape import count_parameters
from tasks.cache.records import read_record, unreadable_attempts
from tasks.home import Home
from tasks.host.liveness import DIED, attempt_state
from tasks.host.wording import counted, listed, size
from tasks.store.artifacts import Store, free_bytes, is_writable

DEMO = "demo"
# Of own data, which decides it; what it adds is a few kilobytes.
OUTPUTS = 2


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
    """Room for the models of a run of each shipped recipe."""
    free = free_bytes(home)
    needed = {name: recipe_bytes(name) for name in RECIPES}
    fits = [name for name in needed if needed[name] <= free]
    found = f"{free / 1e9:,.1f} GB free"
    largest = max(needed, key=lambda name: needed[name])
    if len(fits) == len(needed):
        return Check(
            "disk",
            OK,
            f"{found}; the models of a shipped recipe take at most {needed[largest] / 1e9:.1f} GB, "
            "and `rosita plan` says what a run keeps of its teacher's outputs",
        )
    # Recipes come in many variants; the models that they start from are few.
    short = {RECIPES[name]().teacher.model: needed[name] for name in needed if name not in fits}
    models = listed(
        tuple(f"{model} ({count / 1e9:.1f} GB a run)" for model, count in short.items())
    )
    advice = f"too little for recipes on {models}; `rosita gc` frees what is not in use"
    status = WARNING if DEMO in fits else PROBLEM
    return Check("disk", status, f"{found}, {advice}")


def recipe_bytes(name: str) -> int:
    """What a run of a shipped recipe takes on disk for its models."""
    teacher, _ = shapes(RECIPES[name](), OUTPUTS)
    return count_parameters(teacher).total * BYTES_PER_PARAMETER * MODELS_ON_DISK


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
    return Check("store", OK, f"{counted(len(digests), 'artifact')}, all whole")


def check_checkpoints(home: Path) -> Check:
    """What unfinished stages keep to go on from."""
    folders = sorted(Home(home).checkpoints.glob("*"))
    if not folders:
        return Check("checkpoints", OK, "none: no stage is half done")
    total = sum(size_of(folder) for folder in folders)
    records = all_attempts(home)
    done = [path for path in folders if is_finished(home, path.name, records)]
    said = f"{counted(len(folders) - len(done), 'unfinished stage')}, {size(total)}"
    if done:
        said += f"; {counted(len(done), 'finished stage')} as well, which `rosita gc` frees"
    return Check("checkpoints", OK, said)


def check_attempts(home: Path) -> Check:
    """Attempts that nobody can read, and those that died and whose stage nobody has completed."""
    lost = tuple(str(path.relative_to(home.absolute())) for path in unreadable_attempts(home))
    unread = f"cannot be read and are left out: {listed(lost)}" if lost else ""
    records = all_attempts(home)
    died = [
        record
        for record in records
        if attempt_state(record) == DIED
        and read_record(home, record["key"], record["stage"])[0] is None
    ]
    if not died and lost:
        return Check("attempts", WARNING, unread)
    if not died:
        running = sum(attempt_state(record).startswith("running") for record in records)
        said = f"{counted(len(records), 'attempt')}, {running} running, none died unfinished"
        return Check("attempts", OK, said)
    # A stage that died five times under one key is one thing to look at.
    newest = {record["key"]: record for record in died}
    names = listed(
        tuple(f"{r['stage']} {r['number']} of recipe {r['recipe']}" for r in newest.values())
    )
    return Check(
        "attempts",
        WARNING,
        f"died: {names}; `rosita compress` with the same recipe runs what is unfinished"
        + (f"; {unread}" if lost else ""),
    )
