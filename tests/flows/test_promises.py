"""What the README promises, and the tests that hold it to that: the table of tests/README.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
ROW = re.compile(r"^\| \"(.+)\" \| (.+) \|$", re.MULTILINE)
NAMED = re.compile(r"`([\w/]+\.py)`: ((?:`\w+`(?:, )?)+)")


def promises() -> list[tuple[str, str]]:
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    return ROW.findall(text)


@pytest.mark.parametrize(("promise", "held_by"), promises())
def test_a_promise_stands_in_the_readme_and_has_its_tests(promise: str, held_by: str) -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert promise in readme
    named, always = NAMED.findall(held_by), list[bool]()
    for file, tests in named:
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        for test in re.findall(r"`(\w+)`", tests):
            found = re.search(rf"((?:^@.*\n(?:[ )\]].*\n)*)*)^def {test}\(", source, re.MULTILINE)
            assert found, f"{file}: {test}"
            left_out = "mark.long" in found[1] or re.search(r"^pytestmark = .*long", source, re.M)
            always.append(not left_out or f"tests/{file}" in CI)
    assert any(always), "no test of it runs wherever the others do"


def test_every_test_of_the_table_of_faults_exists() -> None:
    folder = ROOT / "tests" / "faults"
    text = (folder / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    files = sorted({folder / name for name in re.findall(r"`([\w./]+\.py)`", text)})
    missing = [str(path) for path in files if not path.is_file()]
    assert (missing, len(rows) > 30) == ([], True)
    known = "".join(path.read_text(encoding="utf-8") for path in (*folder.glob("*.py"), *files))
    named = set(re.findall(r"`(?:\.\.\.)?(test_\w+|_in_\w+)`", text))
    assert len(named) > 30
    assert [
        name for name in named if not re.search(rf"^def \w*{name}\(", known, re.MULTILINE)
    ] == []


def test_the_table_is_read() -> None:
    # Else the test above has no cases.
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    section = text.partition("## What the README promises")[2].partition("\n## ")[0]
    assert len(promises()) == sum(line.startswith('| "') for line in section.splitlines()) > 0
