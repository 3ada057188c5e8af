"""One contender in a process of its own: `python -m tests.bench.contenders NAME FOLDER THREADS`.

The folder has `rows.arrow`, and `batch.arrow` with one batch of them. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tasks.host.hardware import resolve_numerics
from tests.bench.contenders import DEVICE, DROPOUT, contender, material
from tests.bench.contenders.watch import watched


def measured(name: str, folder: Path) -> dict[str, Any]:
    """The loss of one batch without dropout in float32, and then the training that is timed."""
    chosen = contender(name)
    precision = chosen.precision(resolve_numerics(DEVICE, "auto", "auto", False).precision)
    with TemporaryDirectory() as scratch, watched() as once:
        chosen.train(material(folder / "batch.arrow", Path(scratch), "fp32", 0.0))
    with TemporaryDirectory() as scratch, watched() as seen:
        told = chosen.train(material(folder / "rows.arrow", Path(scratch), precision, DROPOUT))
    return {
        "examples_per_second": seen.examples_per_second,
        "steps": len(seen.ended),
        "padding": seen.padding,
        "precision": precision,
        "loss": float(once.losses[0]),
        **told,
    }


def main() -> None:
    name, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    print(json.dumps(measured(name, Path(folder))))


if __name__ == "__main__":
    main()
