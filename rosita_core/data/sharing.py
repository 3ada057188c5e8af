"""Rows of one text in several splits: how many there are, and how that is said."""

from collections.abc import Mapping

from rosita_core.data.preparation import Splits
from rosita_core.data.table import text_keys

USES = {"train": "is in train", "select": "chooses checkpoints"}
"""What is done with the texts of a split that the splits after it should not share."""


def row_counts(splits: Splits) -> dict[str, int]:
    """Rows of each split by name, and of those that an earlier one has as well: `dev_in_train`.

    The latter are rows whose text, whatever its case and spacing, stands in both.
    """
    frames = splits.frames()
    keys = {name: text_keys(frame) for name, frame in frames.items()}
    counts = {name: len(frame) for name, frame in frames.items()}
    names = list(frames)
    for other in USES:
        known = set(keys[other])
        for name in names[names.index(other) + 1 :]:
            counts[f"{name}_in_{other}"] = sum(key in known for key in keys[name])
    return counts


def shared(counts: Mapping[str, int]) -> list[str]:
    """A sentence for each two splits that share texts, from what `row_counts` returned."""
    return [
        f"{count:,} of {counts[split]:,} {split} rows have a text that {use}, too."
        for other, use in USES.items()
        for split in counts
        if (count := counts.get(f"{split}_in_{other}"))
    ]
