"""Which rows the maximum lengths of a recipe cut, and how that is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.method import method
from flows.recipes.request import Request
from rosita_core.data.encoding import Encoded
from rosita_core.data.table import text_columns
from tasks.cache.facts import fact
from tasks.cache.stage_key import library_versions
from tasks.host.wording import listed

Lengths = Mapping[str, np.ndarray]
"""Split -> tokens of its rows (N,), special tokens included."""
# Stages that read their length from a section of another name.
SECTIONS = dict.fromkeys(("one-step", "cut", "recover", "assess", "export"), "width")


@dataclass(frozen=True)
class Cut:
    """What a maximum length cuts.

    Attributes:
        max_length: tokens per sequence.
        sections: of the recipe, that have this length.
        shares: split -> part of its rows that are longer.
        sampled: whether the shares are those of some of the rows.
    """

    max_length: int
    sections: tuple[str, ...]
    shares: dict[str, float]
    sampled: bool


def cuts(request: Request, lengths: Lengths, sampled: bool) -> tuple[Cut, ...]:
    """What each maximum length of the recipe cuts of rows with these lengths."""
    sections: dict[int, dict[str, None]] = {}
    for node in method(request):
        if hasattr(node.config, "scoring"):
            name = SECTIONS.get(node.name, node.name)
            sections.setdefault(node.config.scoring.max_length, {})[name] = None
    return tuple(
        Cut(most, tuple(names), {s: float((n > most).mean()) for s, n in lengths.items()}, sampled)
        for most, names in sections.items()
    )


def encoded_lengths(request: Request, data: Path) -> Lengths:
    """The lengths of all rows, from the files of the data stage's artifact."""
    digest, pair = request.tokenizer.digest, request.spec.pair
    special = fact(
        "special-tokens",
        lambda: {"asked": [digest, pair], "libraries": library_versions(["transformers"])},
        lambda: _tokenizer(request).num_special_tokens_to_add(pair),
        harmless=True,
    )
    paths = {path.stem: path for path in (data / "encoded").glob("*.arrow")}
    return {name: Encoded(paths[name]).lengths + special for name in _ordered(paths)}


def sampled_lengths(request: Request, samples: Mapping[str, pd.DataFrame]) -> Lengths:
    """The lengths of some rows, tokenized for that."""
    tokenizer = _tokenizer(request)
    texts = {
        name: [frame[column].tolist() for column in text_columns(frame)]
        for name, frame in samples.items()
        if len(frame)
    }
    return {
        name: np.array([len(ids) for ids in tokenizer(*texts[name], verbose=False)["input_ids"]])
        for name in _ordered(texts)
    }


def cut_rows(cuts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each maximum length, from the fields of each `Cut`."""
    for cut in cuts:
        fields = tuple(f"{section}.max_length" for section in cut["sections"])
        name = "max_length" if len(cuts) == 1 else listed(fields)
        verb = "cuts" if len(cuts) == 1 or len(fields) == 1 else "cut"
        if any(cut["shares"].values()):
            about = "about " if cut["sampled"] else ""
            shares = cut["shares"]
            said = tuple(f"{_percent(shares[split])} of {split}" for split in _ordered(shares))
            yield f"{name} {cut['max_length']} {verb} {about}{listed(said)} rows."
        else:
            of = " of a sample" if cut["sampled"] else ""
            yield f"{name} {cut['max_length']} {verb} no row{of}."


def _tokenizer(request: Request) -> Any:
    return _loaded(request.tokenizer.path, request.tokenizer.digest)


@lru_cache(maxsize=4)
def _loaded(folder: Path, _digest: str) -> Any:
    """Once, however many cells of a grid have it."""
    from rosita_core.data.framing import load_tokenizer

    return load_tokenizer(folder)


def _ordered(splits: Mapping[str, Any]) -> list[str]:
    """Train, select, dev, and further splits."""
    return sorted(splits, key=lambda name: (name != "train", name != "select", name))


def _percent(share: float) -> str:
    return "under 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"
