"""The walks of the READMEs, typed: the shell blocks of a section, one after another in one bash."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from typed_command import FOREIGN, ROSITA

ROOT = Path(__file__).parents[2]
SECONDS = 1800
"""Of a block, on a machine that is busy with something else."""
PORTS = (4200, 5000)
STAYS = re.compile(r"^rosita (ui|schedule)\b", re.MULTILINE)
"""What has a terminal of its own, until Ctrl-C."""
READY = "Ctrl-C"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d[\d.,:]*")
FRAME = re.compile(r"[┏━┳┓┃┡╇┩│└─┴┘]+")


class Step(NamedTuple):
    """A block that is typed, and the lines of the block below it, which one sees."""

    typed: str
    seen: tuple[str, ...]


def walk(page: str, heading: str) -> list[Step]:
    """The steps of a section.

    Args:
        page: from the repository's root.
        heading: its line; the section ends with the next heading of its level or above.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    _, found, section = text.partition(f"\n{heading}\n")
    assert found, f"{page} has no {heading!r}"
    # A comment in a block begins as a heading does.
    prose = BLOCK.sub(lambda block: "`" * len(block[0]), section)
    after = re.search(rf"^#{{1,{heading.index(' ')}}} ", prose, re.MULTILINE)
    steps: list[Step] = []
    for language, body in BLOCK.findall(section[: after.start()] if after else section):
        if language == "sh":
            steps.append(Step(body, ()))
        elif language == "text":
            steps[-1] = Step(steps[-1].typed, tuple(body.splitlines()))
    return steps


@contextmanager
def typed_walk(page: str, heading: str, folder: Path) -> Iterator[list[str]]:
    """A walk that was typed in a folder, in which nothing was: what each block printed.

    Each block must succeed, and print what the page shows below it (`text`), whatever the numbers.
    What stays (servers) ends with the context.
    """
    said = []
    terminals = Terminals(folder)
    try:
        for step in walk(page, heading):
            said.append(terminals.type(step.typed))
            printed = [_shape(line) for line in said[-1].splitlines()]
            for line in step.seen:
                assert line == "..." or _shape(line) in printed, f"{line!r} is not in\n{said[-1]}"
        yield said
    finally:
        terminals.close()


def _shape(line: str) -> str:
    """A line without its numbers, the frames of its table and the spaces that align it."""
    return " ".join(NUMBER.sub("0", FRAME.sub(" ", line)).split())


class Terminals:
    """The one in which a walk is typed, and one for each command that stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        path = f"{ROSITA.parent}{os.pathsep}{kept['PATH']}"
        self.variables = kept | {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
        self.log = folder / ".typed"
        self.main = self._bash("-s", log=self.log, stdin=subprocess.PIPE)
        self.others: list[subprocess.Popen[bytes]] = []

    def type(self, block: str) -> str:
        """What it printed."""
        if STAYS.search(block):
            log = self.folder / f".stays-{len(self.others)}"
            self.others.append(self._bash("-c", block, log=log, stdin=subprocess.DEVNULL))
            return _until(READY, log, self.others[-1])
        begin, end = self.log.stat().st_size, f"typed {time.monotonic_ns()}"
        assert self.main.stdin is not None
        # What is typed next is not the input of a command.
        self.main.stdin.write(f"{{\n{block}\n}} < /dev/null\necho '{end}'\n".encode())
        self.main.stdin.flush()
        return _until(end, self.log, self.main, begin).removesuffix(f"{end}\n")

    def close(self) -> None:
        for process in (*reversed(self.others), self.main):
            # All of a terminal hears a Ctrl-C.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                if process is self.main and process.stdin is not None:
                    process.stdin.close()
            process.wait(SECONDS)

    def _bash(self, *args: str, log: Path, stdin: int) -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            return subprocess.Popen(
                ["bash", "-eu", "-o", "pipefail", *args],
                cwd=self.folder,
                env=self.variables,
                stdin=stdin,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )


def _until(mark: str, log: Path, process: subprocess.Popen[bytes], begin: int = 0) -> str:
    """What a log says from there on, once it has the mark."""
    deadline = time.monotonic() + SECONDS
    while True:
        ended = process.poll()
        said = log.read_bytes()[begin:].decode("utf-8")
        if mark in said:
            return said
        assert ended is None, f"ended with {ended}:\n{said}"
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
