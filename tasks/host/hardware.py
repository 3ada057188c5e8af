"""The machine a run is on, and the numerics that follow from it.

torch is imported by what asks it: `surroundings` tells without it when it would say the same again.
"""

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16")
MOST_THREADS = 2**16
# Without one of these, bf16 on a CPU is emulated and slower than fp32.
BF16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
LIBRARY = "torch/lib/libtorch_cpu.so"
GPUS = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd")
"""Devices in /dev without which there is no CUDA, of NVIDIA's or of AMD's."""
VARIABLES = (
    *("ATEN_", "MKL", "DNNL", "ONEDNN", "OMP_", "KMP_", "CUDA", "NVIDIA", "PYTORCH_", "TORCH_"),
    *("GOMP_", "THP_", "LD_"),
)
"""How the environment variables begin that torch and its libraries read."""


@dataclass(frozen=True)
class ResolvedNumerics:
    """How a stage computes on this machine: a recipe's numerics with nothing left to choose."""

    device: str
    """cpu, cuda, or cuda:<index>."""
    precision: str
    """fp32, or bf16 autocast."""
    threads: int
    """CPU threads of an operation; the processes of a training share them."""
    deterministic: bool
    """Only operations that give the same bits every time."""
    hardware: str
    """What decides the bits of its numbers: the instructions that torch uses on this CPU, or the
    kind of GPU and how it rounds products of float32 (TF32)."""
    processes: int = 1
    """That a training is divided over, a GPU each or on a CPU a part of the threads."""


def resolve_numerics(
    device: str, precision: str, threads: str | int, deterministic: bool
) -> ResolvedNumerics:
    """The numerics of this machine for a recipe's wishes, `auto` replaced.

    `auto` takes CUDA where there is a usable one; bf16 where the hardware computes it natively; as
    many threads as this process has cores.

    Raises ValueError naming the field, what is allowed and the value.
    """
    kind, _, index = device.partition(":")
    if kind not in DEVICES or (index and (kind != "cuda" or not index.isdigit())):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:<index>, got {device!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if isinstance(threads, bool) or (threads != "auto" and not _is_number_of_threads(threads)):
        raise ValueError(f"threads must be auto or in [1, {MOST_THREADS:,}], got {threads!r}")
    import torch

    if device == "auto":
        device = kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise ValueError(f"device must be cpu or auto on a machine without CUDA, got {device}")
        if index and int(index) >= count:
            raise ValueError(f"device must be cuda:0 to cuda:{count - 1} here, got {device}")
    if precision == "auto":
        native = torch.cuda.is_bf16_supported(False) if kind == "cuda" else cpu_has_bf16()
        precision = "bf16" if native else "fp32"
    chosen = cores() if threads == "auto" else int(threads)
    return ResolvedNumerics(device, precision, chosen, deterministic, computes_with(device))


def computes_with(device: str) -> str:
    """The CPU's instructions or the GPU's kind, as far as they decide the bits of results."""
    import torch

    if device.partition(":")[0] == "cpu":
        return str(torch.backends.cpu.get_cpu_capability())
    products = "tf32" if torch.backends.cuda.matmul.allow_tf32 else "fp32"
    return f"{torch.cuda.get_device_name(device)}, {products} products"


def surroundings() -> dict[str, Any] | None:
    """All that `resolve_numerics` goes by, but for its arguments, told without torch.

    None where that cannot be told: where there is a GPU, whose driver decides; where the system
    does not say what its CPU can; where torch does not lie as its wheel puts it.
    """
    flags = sorted(_cpu_flags())
    if not flags or any(found for name in GPUS for found in Path("/dev").glob(name)):
        return None
    try:
        torch = importlib.metadata.distribution("torch")
        library = Path(str(torch.locate_file(LIBRARY)))
        file = [str(library), library.stat().st_mtime_ns, library.stat().st_size]
        started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except (OSError, importlib.metadata.PackageNotFoundError):
        return None
    return {
        "torch": [torch.version, *file],
        "cpu": [platform.machine(), _cpu_info("model name"), flags],
        "cores": cores(),
        "started": [started, platform.release()],
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(VARIABLES)},
    }


def divided(numerics: ResolvedNumerics, processes: int) -> ResolvedNumerics:
    """The numerics of trainings that `processes` of this machine share.

    Raises ValueError naming the field, the bound and the value.
    """
    kind, _, index = numerics.device.partition(":")
    if processes == 1:
        return numerics
    if index:
        raise ValueError(
            f"device must be auto or cuda where processes is above 1, got {numerics.device}"
        )
    most = cores()
    if kind == "cuda":
        import torch

        most = torch.cuda.device_count()
    if processes > most:
        what = "GPUs" if kind == "cuda" else "cores"
        raise ValueError(
            f"processes must be at most {most}, the {what} that can be used, got {processes}"
        )
    return replace(numerics, processes=processes)


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _is_number_of_threads(value: str | int) -> bool:
    digits = str(value)
    # A longer one Python would not read.
    short = digits.isascii() and digits.isdigit() and len(digits) <= len(str(MOST_THREADS))
    return short and 1 <= int(digits) <= MOST_THREADS


@lru_cache(maxsize=1)
def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively and oneDNN uses it.

    oneDNN alone says yes to any AVX-512 CPU, where it emulates; so the CPU's own flags decide too.
    """
    import torch

    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported and bool(_cpu_flags() & BF16_CPU_FLAGS)


def _cpu_info(name: str) -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            label, _, value = line.partition(":")
            if label.strip() == name:
                return value.strip()
    except OSError:
        return ""  # Only Linux has the file.
    return ""


def _cpu_flags() -> set[str]:
    return set(_cpu_info("flags").split())


@lru_cache(maxsize=1)
def _hardware() -> tuple[tuple[str, Any], ...]:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return (
        ("cpu", _cpu_info("model name") or platform.processor() or platform.machine()),
        ("cores", psutil.cpu_count(logical=True)),
        ("memory_gib", round(psutil.virtual_memory().total / 2**30, 1)),
        ("gpus", gpus),
        ("os", platform.platform(aliased=True, terse=True)),
        ("python", platform.python_version()),
        ("torch", torch.__version__),
    )


def hardware() -> dict[str, Any]:
    """This machine: cpu, cores, memory_gib, gpus (names), os, python and torch versions."""
    return dict(_hardware())


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """The commit that this code is checked out at, or None outside a checkout or without git."""
    # An installed copy may lie in an environment below somebody's own checkout.
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name)
    return _git("rev-parse", "HEAD") if tracked else None


def _git(*arguments: str) -> str | None:
    try:
        found = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
