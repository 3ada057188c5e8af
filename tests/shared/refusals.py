"""What a refusal looks like at the command line."""

from __future__ import annotations

from pathlib import Path

from command_line import rosita


def refused(home: Path, *args: str, command: str = "compress") -> str:
    """The one line of a refusal; checks that it is one, and that nothing was written."""
    done = rosita(command, *args, home=home)
    assert done.code == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("rosita: ")
    assert not home.exists()
    return lines[0].removeprefix("rosita: ")
