"""Peak memory of this process so far.

A peak covers everything since the process started or `forget_peak` was called, libraries and data
included, and nothing of other processes. To learn what one piece of work needs, run it in a process
of its own.
"""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

from rosita_core.measuring.disk import BYTES_PER_MB

BYTES_PER_MIB = 2**20
KIB_PER_MIB = 2**10
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_CLEAR_PEAK = "5"


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
    # A process that computes without torch asks for its memory too.
    import torch

    index = torch.device(device)
    if index.type != "cuda" or (index.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device must be one of the {torch.cuda.device_count()} CUDA devices, got {device!r}"
        )
    return torch.cuda.max_memory_allocated(index) / BYTES_PER_MIB


def peak_mb(device: str) -> float:
    """The peak on `device` in MB (10^6 bytes): of its tensors on CUDA, else of the process."""
    peak = peak_cuda_mib(device) if device.startswith("cuda") else peak_resident_mib()
    return peak * BYTES_PER_MIB / BYTES_PER_MB


def forget_peak(device: str) -> None:
    """Start the peak anew from what is held now.

    The peak of the process can be forgotten on Linux only, where the system lets a process write
    its clear_refs; elsewhere it goes on.
    """
    if device.startswith("cuda"):
        import torch

        # Where nothing has been computed yet there are no statistics to reset.
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        _CLEAR.write_text(_CLEAR_PEAK, encoding="ascii")


def _high_water_kib(status: str) -> int:
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0])
    raise RuntimeError(f"{_STATUS} has no VmHWM: this kernel does not count resident memory")
