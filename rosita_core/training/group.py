"""The processes that train one model together, each on its share of every batch.

Every process holds the whole model and optimizer and takes the same steps: gradients are added up
over the processes before anything reads them. There is no wrapper around the model, because it
changes its shape while it is pruned; of a group of one, every method does nothing.

Letters: B batch, T tokens.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from rosita_core.training.batches import Batch

BUCKET_BYTES = 32 * 2**20
# A process may wait while the first one writes a checkpoint to a slow disk.
WAIT = timedelta(minutes=10)
# Odd and large: no step of one process has the seed of a step of another, also in 32 bits, which
# are what the CPU's generator takes of a seed.
SEEDS_APART = 2_654_435_761
BACKENDS = "cpu:gloo,cuda:nccl"
INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True)
class Group:
    """One of `size` processes that train together.

    Attributes:
        rank: of this process, from 0. The first one writes checkpoints, results and progress.
        size: how many there are.
    """

    rank: int
    size: int

    def part(self, batch: Batch) -> Batch:
        """This process's rows of a batch: every `size`-th one, so that lengths are alike.

        The padding stays that of the whole batch. A process for which no row is left computes the
        first one at weight 0, so that all take part in the same steps.
        """
        if self.size == 1:
            return batch
        rows = len(batch.labels)
        mine = slice(self.rank, None, self.size) if self.rank < rows else slice(0, 1)
        share = float(self.rank < rows)
        mask_BT = batch.attention_mask[mine]
        return Batch(
            batch.input_ids[mine],
            mask_BT,
            batch.token_type_ids[mine],
            batch.labels[mine],
            rows_share=share * len(mask_BT) / rows,
            tokens_share=share * float(mask_BT.sum() / batch.attention_mask.sum()),
            rows=None if batch.rows is None else batch.rows[mine],
        )

    def seed(self, seed: int) -> int:
        """What seeds a step here: the rows are others, and their dropout is to be another's."""
        return seed + self.rank * SEEDS_APART

    @torch.no_grad()
    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace every tensor by its sum over all processes, which give the same shapes.

        The sums have the same bits in every process. A few large messages are sent, and not one
        per tensor.
        """
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            distributed.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    @torch.no_grad()
    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace every tensor by that of the first process."""
        if self.size == 1:
            return
        for tensor in tensors:
            whole = tensor.contiguous()
            distributed.broadcast(whole, src=0)
            tensor.copy_(whole)


ALONE = Group(0, 1)


@contextmanager
def joined(folder: Path, rank: int, size: int, device: str) -> Iterator[Group]:
    """The group of `size` processes that call this with the same empty `folder`, for a block.

    They find each other by a file in it, and talk on the loopback interface only. Sums of tensors
    on the CPU go through gloo, on CUDA through NCCL.

    Raises:
        RuntimeError: where this process is in a group already, or the others do not come.
    """
    if distributed.is_initialized():
        raise RuntimeError("this process trains with others already; one training at a time")
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    with _environment(dict.fromkeys(INTERFACE_VARIABLES, _loopback())):
        distributed.init_process_group(
            BACKENDS if cuda else "gloo",
            store=distributed.FileStore(str(folder / "meeting"), size),
            rank=rank,
            world_size=size,
            timeout=WAIT,
        )
        try:
            # Connects, while the variables still say how.
            distributed.all_reduce(torch.zeros(1, device=device))
            yield Group(rank, size)
        finally:
            distributed.destroy_process_group()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that the libraries below read; for a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _loopback() -> str:
    """The name of the interface: lo on Linux, lo0 elsewhere."""
    return next(name for _, name in socket.if_nameindex() if name in ("lo", "lo0"))


def _buckets(tensors: Iterable[torch.Tensor]) -> Iterator[Sequence[torch.Tensor]]:
    """Tensors of one kind and place together, in their order, up to a number of bytes."""
    open_: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
    for tensor in tensors:
        bucket = open_.setdefault((tensor.dtype, tensor.device), [])
        bucket.append(tensor)
        if sum(one.nbytes for one in bucket) >= BUCKET_BYTES:
            yield open_.pop((tensor.dtype, tensor.device))
    yield from open_.values()
