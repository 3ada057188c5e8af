"""Kernels beside what they replace, in one run: `make bench`. Prints a Markdown table.

Times are medians, interleaved; memory is the growth of the peak resident size in a process of its
own. Hardware and versions stand above the table.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from rosita_core.compression.low_rank import factorize
from rosita_core.model.checkpoint import fresh
from rosita_core.model.modeling_rosita import RositaConfig
from rosita_core.training.batches import shuffled_batches
from rosita_core.training.optimizer import build_optimizer
from tasks.host.hardware import hardware

ROUNDS = 5
VOCAB, HIDDEN, RANK = 30522, 768, 128

MEMORY_PROBE = """
import sys, torch
from rosita_core.measuring.memory import peak_resident_mib
from rosita_core.compression.low_rank import factorize
matrix = torch.randn(30522, 768, generator=torch.Generator().manual_seed(0))
before = peak_resident_mib()
if sys.argv[1] == "ours":
    factorize(matrix, 128)
else:
    torch.linalg.svd(matrix, full_matrices=False)
print(peak_resident_mib() - before)
"""


def side_by_side(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Median milliseconds of each, alternating."""
    taken: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(ROUNDS):
        for index, run in enumerate((ours, theirs)):
            began = time.perf_counter()
            run()
            taken[index].append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken[0]), statistics.median(taken[1])


def memory(which: str) -> float:
    """Growth of the peak resident size in MiB, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_PROBE, which], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def bench_factorize() -> list[str]:
    """Gram-matrix factorization against torch's economy SVD, a 30522 x 768 embedding."""
    matrix = torch.randn(VOCAB, HIDDEN, generator=torch.Generator().manual_seed(0))
    ours, theirs = side_by_side(
        lambda: factorize(matrix, RANK),
        lambda: torch.linalg.svd(matrix, full_matrices=False),
    )
    mine, other = memory("ours"), memory("svd")
    return [
        f"| factorize 30522 x 768 | {ours:,.0f} ms | economy SVD {theirs:,.0f} ms "
        f"| {theirs / ours:.1f}x faster |",
        f"| its extra memory | {mine:,.0f} MiB | {other:,.0f} MiB | {other / mine:.1f}x less |",
    ]


def bench_optimizer() -> str:
    """Fused AdamW against the default one, a step of 22.7 M parameters."""
    config = RositaConfig(
        hidden_size=384,
        head_size=32,
        layer_heads=(12,) * 6,
        layer_ffn_units=(1536,) * 6,
        num_labels=2,
    )
    model = fresh(config, 0)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    ours = build_optimizer(model, 1e-5, 0.01, True)
    theirs = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ours.step(), theirs.step()
    fast, slow = side_by_side(ours.step, theirs.step)
    return (
        f"| AdamW step, 22.7 M parameters | {fast:.1f} ms | default {slow:.1f} ms "
        f"| {slow / fast:.1f}x faster |"
    )


def bench_batches() -> str:
    """Padded tokens of length-bucketed batches against batches of random rows."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(2.2, 0.8, 67_349), 1, 62).astype(int) + 2
    shuffled = random.permutation(len(lengths))
    padded = [
        sum(int(lengths[rows].max()) * len(rows) for rows in batches)
        for batches in (
            shuffled_batches(lengths, 32, False, 1, 0),
            [shuffled[i : i + 32] for i in range(0, len(shuffled), 32)],
        )
    ]
    return (
        f"| tokens computed per epoch, 67,349 rows | {padded[0]:,} | random batches {padded[1]:,} "
        f"| {padded[1] / padded[0]:.2f}x fewer |"
    )


def main() -> None:
    """Print the table."""
    facts = hardware()
    print(
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB; "
        f"torch {facts['torch']}, {torch.get_num_threads()} threads; Python {facts['python']}\n"
    )
    print("| kernel | ours | baseline | ratio |\n|---|---|---|---|")
    for line in (*bench_factorize(), bench_optimizer(), bench_batches()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
