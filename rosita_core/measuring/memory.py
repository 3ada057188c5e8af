"""Peak memory of this process so far.

A peak never falls: it covers everything since the process started (on CUDA: since the last reset
of the allocator's statistics), libraries and data included, and nothing of other processes. To
learn what one piece of work needs, run it in a process of its own.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

BYTES_PER_MIB = 2**20
KIB_PER_MIB = 2**10
_STATUS = Path("/proc/self/status")


def peak_resident_mib() -> float:
    """Most physical memory that this process has held at once so far, in MiB (2^20 bytes).

    On Linux this is VmHWM. The ru_maxrss of getrusage would start from the size of the process
    that launched this one, and so report a large parent's memory for a small worker.
    """
    if sys.platform == "linux":
        return _high_water_kib(_STATUS.read_text(encoding="ascii")) / KIB_PER_MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The unit differs: bytes on macOS, kibibytes on other systems.
    return peak / BYTES_PER_MIB if sys.platform == "darwin" else peak / KIB_PER_MIB


def peak_cuda_mib(device: str) -> float:
    """Most memory that tensors of this process have held on a CUDA device so far, in MiB.

    Raises:
        ValueError: where `device` is no CUDA device of this machine.
    """
    index = torch.device(device)
    if index.type != "cuda" or (index.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device must be one of the {torch.cuda.device_count()} CUDA devices, got {device!r}"
        )
    return torch.cuda.max_memory_allocated(index) / BYTES_PER_MIB


def _high_water_kib(status: str) -> int:
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0])
    raise RuntimeError(f"{_STATUS} has no VmHWM: this kernel does not count resident memory")
