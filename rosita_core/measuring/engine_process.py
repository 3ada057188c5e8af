"""One engine in a process of its own, which times one pass for each line that it is sent.

    python -m rosita_core.measuring.engine_process '{"folder": ..., "kind": "onnx", ...}'

`engines.py` starts it. The thread pools of two engines in one process would slow each other down.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rosita_core.measuring.memory import peak_mb
from rosita_core.measuring.random_inputs import random_inputs

Run = Callable[[dict[str, np.ndarray]], None]


def torch_run(folder: Path, device: str, precision: str, compiled: bool, threads: int) -> Run:
    """A pass of PyTorch from token ids to logits in memory, on a GPU with the copies to and fro."""
    import torch

    from rosita_core.model.checkpoint import placed
    from rosita_core.model.labels import class_names
    from rosita_core.model.locate import config_of
    from rosita_core.model.pretrained import load_pretrained
    from rosita_core.training.placement import Placement

    torch.set_num_threads(threads)
    outputs = len(class_names(config_of(folder), str(folder)))
    model: Any = placed(load_pretrained(folder, outputs, 0), device).eval()
    if compiled:
        model = torch.compile(model, dynamic=True)
    placement = Placement(device, precision)

    def run(inputs: dict[str, np.ndarray]) -> None:
        tensors = {name: torch.from_numpy(one).to(device) for name, one in inputs.items()}
        with torch.inference_mode(), placement.autocast():
            model(**tensors).logits.cpu()

    return run


def onnx_run(folder: Path, threads: int) -> Run:
    """A pass of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    path = str(folder / "model.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["logits"], inputs)


def main() -> None:
    """Answer each line `B T` with the nanoseconds of a pass, and `end` with the peak of memory."""
    given = json.loads(sys.argv[1])
    folder, threads = Path(given["folder"]), given["threads"]
    if given["kind"] == "onnx":
        run = onnx_run(folder, threads)
    else:
        run = torch_run(folder, given["device"], given["precision"], given["compiled"], threads)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            print(peak_mb(given["device"]), flush=True)
            return
        batch_size, tokens = map(int, line.split())
        inputs = random_inputs(batch_size, tokens, given["vocabulary"], given["seed"])
        # The first is for the caches, which another process has just emptied.
        run(inputs)
        started = time.perf_counter_ns()
        run(inputs)
        print(time.perf_counter_ns() - started, flush=True)


if __name__ == "__main__":
    main()
