"""Libraries that were put off: named by modules, never used by functions, imported where needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNEL = """
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

Totals = dict[str, torch.Tensor]


@dataclass
class Settings:
    rows: torch.Tensor | None = None
    size: int = 3


class Layer(nn.Module):
    pass


@torch.no_grad()
def decorated():
    return float(torch.ones(2).sum())


def called():
    return float(F.relu(torch.ones(2)).sum())


def built():
    return len(list(Layer().parameters()))


def told(value):
    return isinstance(value, nn.Module)


def swallowed():
    try:
        return float(torch.ones(2).sum())
    except Exception:
        return "swallowed"


def tabled():
    # Its C reads the version of pandas, where no frame of Python is seen.
    import pyarrow.dataset

    return pyarrow.dataset.__name__


def imported():
    import torch.utils.data as data

    return data.Dataset.__name__
"""
COMMAND = """
import os, sys
from tasks.host.put_off import STARTED_OVER, looks, with_libraries

started_over = STARTED_OVER in os.environ

@looks
def command(what):
    if len(sys.argv) > 2:
        with_libraries()
    import kernel
    from kernel import Settings
    found = eval(f"lambda: {what}", {**globals(), **locals()})()
    print(what, found, bool(getattr(sys.modules["torch"], "__file__", None)))

command(sys.argv[1])
"""


def said(folder: Path, what: str, *more: str) -> str:
    """What a command prints that evaluates `what`."""
    (folder / "kernel.py").write_text(KERNEL)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, what, *more],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_body_of_a_module_names_what_it_likes(tmp_path: Path) -> None:
    assert said(tmp_path, "Settings().size") == "Settings().size 3 False\n"


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("kernel.decorated()", "2.0"),
        ("kernel.called()", "2.0"),
        ("kernel.built()", "0"),
        ("kernel.told(1)", "False"),
        ("kernel.swallowed()", "2.0"),
        ("kernel.imported()", "Dataset"),
        ("kernel.tabled()", "pyarrow.dataset"),
        ("bool(kernel.torch.__version__)", "True"),
    ],
)
def test_a_function_that_needs_a_library_gets_it(tmp_path: Path, what: str, found: str) -> None:
    assert said(tmp_path, what) == f"{what} {found} True\n"


def test_a_command_that_needs_them_in_any_case_has_them_at_once(tmp_path: Path) -> None:
    what = "(kernel.called(), started_over)"
    assert said(tmp_path, what, "at once") == f"{what} (2.0, False) True\n"
