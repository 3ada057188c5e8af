"""What the README promises, and the tests that hold it to that: the table of tests/README.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| \"(.+)\" \| (.+) \|$", re.MULTILINE)
NAMED = re.compile(r"`([\w/]+\.py)`: ((?:`\w+`(?:, )?)+)")


def promises() -> list[tuple[str, str]]:
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    return ROW.findall(text)


@pytest.mark.parametrize(("promise", "held_by"), promises())
def test_a_promise_stands_in_the_readme_and_has_its_tests(promise: str, held_by: str) -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert promise in readme
    named = NAMED.findall(held_by)
    assert named
    for file, tests in named:
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        for test in re.findall(r"`(\w+)`", tests):
            assert re.search(rf"^def {test}\(", source, re.MULTILINE), f"{file}: {test}"


def test_the_table_is_read() -> None:
    # Else the test above has no cases.
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    section = text.partition("## What the README promises")[2].partition("\n## ")[0]
    assert len(promises()) == sum(line.startswith('| "') for line in section.splitlines()) > 0
