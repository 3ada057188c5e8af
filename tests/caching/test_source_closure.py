"""Laws of the source closure: code counts, its looks do not, and nothing else is touched."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.cache.source_closure import Closure, source_closure
from tasks.store.artifacts import json_digest

MODULES = {
    "__init__.py": "",
    "stages/__init__.py": "",
    "stages/teacher.py": """
from closurepack.training import loop

def run(data):
    from ..tensors import mean
    return loop.fit(mean(data))
""",
    "training/__init__.py": "RATE = 1\n",
    "training/loop.py": "from .optim import step as take\n\ndef fit(x):\n    return take(x)\n",
    "training/optim.py": "import math\n\ndef step(x):\n    return math.sqrt(x)\n",
    "tensors.py": "def mean(x):\n    return sum(x) / len(x)\n",
    "unused.py": "raise RuntimeError('never imported')\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    root = tmp_path / "closurepack"
    for name, text in MODULES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield root
    for name in [name for name in sys.modules if name.split(".")[0] == "closurepack"]:
        del sys.modules[name]


def closure() -> Closure:
    return source_closure(["closurepack.stages.teacher"], ("closurepack",))


def digest() -> str:
    return json_digest(closure().modules)


def test_the_closure_is_what_is_imported(package: Path) -> None:
    assert set(closure().modules) == {
        "closurepack",
        "closurepack.stages",
        "closurepack.stages.teacher",
        "closurepack.tensors",
        "closurepack.training",
        "closurepack.training.loop",
        "closurepack.training.optim",
    }
    assert closure().packages == ("math",)


def test_what_is_not_followed_is_a_package_and_not_code(package: Path) -> None:
    found = source_closure(["closurepack.stages.teacher"], ("closurepack.tensors",))
    assert set(found.modules) == {"closurepack.stages.teacher", "closurepack.tensors"}
    assert found.packages == ("closurepack",)


def test_several_roots_have_one_closure(package: Path) -> None:
    found = source_closure(["closurepack.stages.teacher", "closurepack.unused"], ("closurepack",))
    assert set(found.modules) == {*closure().modules, "closurepack.unused"}


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n\ndef mean(x):\n    return sum(x) / len(x)  # another\n",
        '"""A docstring."""\n\n\ndef mean(x):\n    """And one here."""\n    return sum(x)/len(x)\n',
        "def mean(\n    x,\n):\n    return (sum(x) / len(x))\n",
    ],
)
def test_looks_do_not_count(package: Path, text: str) -> None:
    before = digest()
    (package / "tensors.py").write_text(text)
    assert digest() == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tensors.py", "def mean(x):\n    return sum(x) // len(x)\n"),
        ("tensors.py", "def mean(x):\n    return sum(x) / (len(x) + 0.0)\n"),
        ("training/__init__.py", "RATE = 2\n"),
        ("training/__init__.py", "RATE = 1.0\n"),
        ("training/__init__.py", "RATE = '1'\n"),
        ("training/__init__.py", "RATE = None\n"),
        ("training/optim.py", "import math\n\ndef step(x):\n    return math.cbrt(x)\n"),
        ("training/loop.py", "from .optim import step as take\n\nasync def fit(x):\n    pass\n"),
    ],
)
def test_code_counts_wherever_in_the_closure_it_is(package: Path, name: str, text: str) -> None:
    before = digest()
    (package / name).write_text(text)
    assert digest() != before


def test_other_code_does_not_count(package: Path) -> None:
    before = digest()
    (package / "unused.py").write_text("X = 1\n")
    (package / "new.py").write_text("Y = 1\n")
    assert digest() == before


def test_import_cycles_end(package: Path) -> None:
    (package / "tensors.py").write_text("import closurepack.stages.teacher\n\nmean = None\n")
    assert "closurepack.tensors" in closure().modules


def test_another_process_and_another_place_agree(package: Path, tmp_path: Path) -> None:
    package.parent.joinpath("moved").mkdir()
    moved = package.rename(tmp_path / "moved" / "closurepack")
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import tasks.cache.source_closure as made;"
            + "from tasks.store.artifacts import json_digest;"
            + "found = made.source_closure(['closurepack.stages.teacher'], ('closurepack',));"
            + "print(json_digest(found.modules))",
        ],
        env={"PYTHONPATH": f"{moved.parent}:{Path(__file__).parents[2]}", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    moved.rename(package)
    assert found == digest()


def test_what_is_no_module_is_refused(package: Path) -> None:
    with pytest.raises(ValueError, match="source must be a module, got 'nopack'"):
        source_closure(["nopack"], ("closurepack",))
    with pytest.raises(ValueError, match=r"got 'closurepack\.absent'"):
        source_closure(["closurepack.absent"], ("closurepack",))
    (package / "tensors.py").write_text("def mean(:\n")
    with pytest.raises(ValueError, match=r"closurepack\.tensors must be valid Python"):
        digest()


TEXT = """
import math
from os import path

RATE: float = 1.0
A = B = 2
if RATE:
    A = 3


@staticmethod
def mean(x):
    return sum(x)


class Model(object):
    \"\"\"Of something.\"\"\"

    size: int = 4

    def fit(self):
        return 1

    def score(self):
        return 2
"""


def parts(package: Path, text: str) -> dict[str, str]:
    (package / "tensors.py").write_text(text)
    return closure().parts["closurepack.tensors"]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("sum(x)", "min(x)", {"mean"}),
        ("@staticmethod", "@classmethod", {"mean"}),
        ("return 2", "return 3", {"Model.score"}),
        ("size: int = 4", "size: int = 5", {"Model.size"}),
        ("(object)", "(dict)", {"Model"}),
        ("RATE: float = 1.0", "RATE: float = 2.0", {"RATE"}),
        ("A = B = 2", "A = B = 3", {"A, B"}),
        ("import math", "import cmath", {"imports"}),
        ("    A = 3", "    A = 4", {"module level"}),
        ("def fit(self)", "def train(self)", {"Model.fit", "Model.train"}),
        ("Of something.", "Of nothing.", set()),
        ("return 1", "return (1)  # one", set()),
    ],
)
def test_the_part_that_changed_is_named(
    package: Path, old: str, new: str, changed: set[str]
) -> None:
    assert TEXT.count(old) == 1
    before, after = parts(package, TEXT), parts(package, TEXT.replace(old, new))
    assert {name for name in {**before, **after} if before.get(name) != after.get(name)} == changed


def test_parts_are_of_the_modules_of_the_closure(package: Path) -> None:
    found = closure().parts
    assert list(found) == list(closure().modules)
    assert set(found["closurepack.training.loop"]) == {"imports", "fit"}
