"""`rosita` on the smoke recipe in a home of its own, with faults at precise moments."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_line import rosita
from forked_command import Forked
from typed_command import ROSITA, environment

from tasks.cache.records import attempts

INJECTED = Path(__file__).parent / "injected"
INSTALLED = "FAULTS_OF_THE_INSTALLED_COMMAND"
"""The variable by which `make faults` asks for the script itself, which imports for seconds."""

SECONDS = 600
"""After which a command or a moment that does not come is given up."""

STAGES = ("data", "teacher", "augment", "student", "depth", "width", "assess", "export")
COMPUTED = STAGES[:-2]
"""Those whose artifacts are the same bits in every run; `assess` measures times."""

SETTINGS = (
    # Something to go on from: a smoke training has 7 to 15 steps.
    "checkpoint.every_steps=2",
    "numerics.threads=1",
    # Measuring speed is not what is tested.
    "assess.latency_repeats=2",
    "assess.latency_warmup=1",
    "assess.latency_batch_sizes=[1, 2]",
    "assess.latency_tokens=16",
)

Fault = dict[str, Any]


def signals_at(stage: str, call: int, *names: str) -> Fault:
    """The process sends itself signals after the `call`-th unit of work that it does."""
    return {"do": "signal", "stage": stage, "call": call, "signals": names}


def hold_at(stage: str, call: int, flag: Path) -> Fault:
    """The process waits there for `flag`; see `Started.until`."""
    return {"do": "hold", "stage": stage, "call": call, "flag": str(flag)}


def raising(module: str, function: str, message: str) -> Fault:
    """A function of the project raises."""
    return {"do": "raise", "module": module, "function": function, "message": message}


def clock(seconds: float) -> Fault:
    """The process has another time of day."""
    return {"do": "clock", "seconds": seconds}


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        """What `--json` printed, of a command that must have succeeded."""
        assert self.code == 0, self.stderr[-4000:]
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    @property
    def last_line(self) -> str:
        return self.stderr.strip().splitlines()[-1]

    def statuses(self) -> dict[str, str]:
        return {stage["name"]: stage["status"] for stage in self.summary["stages"]}

    def artifacts(self) -> dict[str, str]:
        """The artifacts that are the same bits in every run, by stage."""
        entries = self.summary["stages"]
        return {s["name"]: s["artifact"] for s in entries if s["name"] not in STAGES[-2:]}


class Started:
    """A command that runs."""

    def __init__(self, process: subprocess.Popen[str] | Forked, stdout: Path, stderr: Path) -> None:
        self.process = process
        self._stdout, self._stderr = stdout, stderr

    def said(self) -> str:
        """Its stderr so far."""
        return self._stderr.read_text(encoding="utf-8")

    def until(self, moment: Callable[[], bool]) -> None:
        """Wait for a moment, which must come before the command ends."""
        deadline = time.monotonic() + SECONDS
        while not moment():
            code = self.process.poll()
            assert code is None, f"ended with {code} too early: {self.said()[-4000:]}"
            assert time.monotonic() < deadline, f"waited too long: {self.said()[-4000:]}"
            time.sleep(0.05)

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.said())

    def until_held(self, flag: Path) -> None:
        """Wait until it has come to a `hold_at`."""
        self.until(flag.with_name(flag.name + ".reached").exists)

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(SECONDS)

    def done(self) -> Done:
        """Wait for its end."""
        code = self.process.wait(SECONDS)
        # As a shell says it: 143 for a process that SIGTERM has ended.
        code = code if code >= 0 else 128 - code
        return Done(code, self._stdout.read_text(encoding="utf-8"), self.said())


@dataclass(frozen=True)
class FaultyHome:
    """A home of one test.

    Attributes:
        home: ROSITA_HOME.
        prefect: PREFECT_HOME.
        api: the address of a running Prefect server, so that no command has to start one.
    """

    home: Path
    prefect: Path
    api: str

    def start(
        self, *args: str, faults: Iterable[Fault] = (), env: dict[str, str] | None = None
    ) -> Started:
        """Start `rosita ARGS`."""
        path = [str(INJECTED), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {
            "FAULTS": json.dumps(list(faults)),
            "PYTHONPATH": os.pathsep.join(path),
            "PREFECT_API_URL": self.api,
        }
        folder = self.home.parent / "said"
        folder.mkdir(exist_ok=True)
        number = len(list(folder.iterdir()))
        stdout, stderr = folder / f"{number}.out", folder / f"{number}.err"
        variables = environment(self.home, self.prefect, variables | (env or {}))
        if INSTALLED not in os.environ:
            return Started(Forked(args, variables, stdout, stderr), stdout, stderr)
        return Started(installed(args, variables, stdout, stderr), stdout, stderr)

    def run(
        self, *args: str, faults: Iterable[Fault] = (), env: dict[str, str] | None = None
    ) -> Done:
        """Run `rosita ARGS` to its end."""
        return self.start(*args, faults=faults, env=env).done()

    def start_compress(
        self, *changes: str, faults: Iterable[Fault] = (), env: dict[str, str] | None = None
    ) -> Started:
        """Start `rosita compress` on the smoke recipe."""
        args = ("compress", *recipe(*changes), "--no-preflight", "--json")
        return self.start(*args, faults=faults, env=env)

    def compress(
        self, *changes: str, faults: Iterable[Fault] = (), env: dict[str, str] | None = None
    ) -> Done:
        """`rosita compress` on the smoke recipe, to its end."""
        return self.start_compress(*changes, faults=faults, env=env).done()

    def plan(self, *changes: str) -> dict[str, dict[str, Any]]:
        """What `rosita plan` says, by stage; in the test's own process, which is quick."""
        done = rosita("plan", *recipe(*changes), "--json", home=self.home)
        return {stage["name"]: stage for stage in done.document["stages"]}

    def doctor(self) -> dict[str, dict[str, Any]]:
        """What `rosita doctor` finds, by check; it may end with 1 for this machine's own sake."""
        done = rosita("doctor", "--json", home=self.home)
        return {check["name"]: check for check in done.document["checks"]}

    def attempts(self, stage: str) -> list[dict[str, Any]]:
        return attempts(self.home, stage)

    def resumed_from(self, stage: str) -> list[int | None]:
        """Where each attempt of a stage went on from."""
        return [attempt["resumed_from"] for attempt in self.attempts(stage)]

    def unfinished(self) -> list[str]:
        """What lies in the home that only an unfinished stage or a fault leaves there."""
        left = [*self.home.glob("checkpoints/*"), *self.home.glob("store/tmp/*")]
        return [str(path.relative_to(self.home)) for path in left]


def installed(
    args: tuple[str, ...], variables: dict[str, str], stdout: Path, stderr: Path
) -> subprocess.Popen[str]:
    """The script that a user types, as a new process."""
    with stdout.open("w") as out, stderr.open("w") as err:
        return subprocess.Popen(
            [str(ROSITA), *args],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
        )


def recipe(*changes: str) -> tuple[str, ...]:
    """The options of the smoke recipe as all tests use it, with changes."""
    return ("--recipe", "smoke", *(f"--set={change}" for change in (*SETTINGS, *changes)))


def forget(home: Path, summary: dict[str, Any], first: str) -> None:
    """Take everything out of a home that `first` and the stages after it left there."""
    names = [entry["name"] for entry in summary["stages"]]
    for entry in summary["stages"][names.index(first) :]:
        (home / "results" / entry["key"]).unlink()
        shutil.rmtree(home / "attempts" / entry["name"])
        remove(home / "store" / entry["artifact"])


def remove(folder: Path) -> None:
    """Remove a folder whose files may be read-only."""
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)
    shutil.rmtree(folder)


def artifact(home: Path, summary: dict[str, Any], stage: str) -> Path:
    """The folder of a stage's artifact in the store."""
    return home / "store" / next(s["artifact"] for s in summary["stages"] if s["name"] == stage)
