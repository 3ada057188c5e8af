"""What is known of a recipe's rows before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flows.engine.checks import is_here
from flows.engine.cuts import Cut, Lengths, cuts, encoded_lengths, sampled_lengths
from flows.engine.summary import counted_rows
from flows.recipes.request import Request, read_rows
from tasks.cache.records import StageResult
from tasks.store.artifacts import Store


@dataclass(frozen=True)
class KnownRows:
    """Rows, as far as they are known without fetching anything.

    Attributes:
        counts: see `rosita_core.data.sharing.row_counts`; empty where nothing is known.
        cuts: what the recipe's maximum lengths cut.
        lengths: tokens of the rows of each split, or of some; empty where nothing is known.
    """

    counts: Mapping[str, int]
    cuts: tuple[Cut, ...]
    lengths: Lengths


def known_rows(request: Request, data: StageResult | None) -> KnownRows:
    """From the result of the data stage, or else from rows that are on this machine.

    All rows are looked at in the former, some of each split in the latter.
    """
    store = Store(request.home)
    if data is not None and store.verify(data.artifact) is None:
        lengths = encoded_lengths(request, store.path(data.artifact))
        counts = counted_rows(data.metrics)
        return KnownRows(counts, cuts(request, lengths, False), lengths)
    if not is_here(request):
        return KnownRows({} if data is None else counted_rows(data.metrics), (), {})
    rows = read_rows(request.source)
    sampled = any(len(some) < rows.counts[name] for name, some in rows.samples.items())
    lengths = sampled_lengths(request, rows.samples)
    return KnownRows(rows.counts, cuts(request, lengths, sampled), lengths)
