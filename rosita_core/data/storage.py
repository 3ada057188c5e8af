"""Keeping prepared splits: one Parquet file a split and a meta.json.

The same content gives the same bytes under the same version of pyarrow.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rosita_core.data.preparation import Splits, fingerprint
from rosita_core.data.table import normalized_frame, text_columns

_FORMAT = 1
_META = "meta.json"


def save_splits(splits: Splits, directory: Path) -> None:
    """Write the splits into `directory`, which is made if it does not exist."""
    directory.mkdir(parents=True, exist_ok=True)
    frames = splits.frames()
    for name, frame in frames.items():
        # Built without pandas' metadata, which carries library versions.
        pq.write_table(
            _to_arrow(frame),
            directory / f"{name}.parquet",
            compression="zstd",
            row_group_size=65_536,
            store_schema=False,
        )
    meta = {
        "format": _FORMAT,
        "kind": splits.kind,
        "pair": splits.pair,
        "labels": list(splits.labels),
        "dropped": {name: dict(counts) for name, counts in splits.dropped.items()},
        "rows": {name: len(frame) for name, frame in frames.items()},
        "fingerprints": {name: fingerprint(frame) for name, frame in frames.items()},
    }
    text = json.dumps(meta, indent=2, sort_keys=True, ensure_ascii=False)
    (directory / _META).write_text(text + "\n", encoding="utf-8")


def load_splits(directory: Path) -> Splits:
    """Read what `save_splits` wrote, memory-mapped.

    Raises ValueError if the directory holds no splits, a newer format, or content that differs
    from its fingerprint.
    """
    file = directory / _META
    if not file.is_file():
        raise ValueError(f"data must be a directory of prepared splits, got {directory}")
    meta: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if meta["format"] != _FORMAT:
        raise ValueError(f"format of {directory} must be {_FORMAT}, got {meta['format']}")
    frames: dict[str, pd.DataFrame] = {}
    for name, expected in meta["fingerprints"].items():
        table = pq.read_table(directory / f"{name}.parquet", memory_map=True)
        columns = {column: table.column(column).to_pylist() for column in table.column_names}
        frames[name] = normalized_frame(
            columns["text_a"], columns.get("text_b"), columns["label"], meta["kind"]
        )
        found = fingerprint(frames[name])
        if found != expected:
            raise ValueError(f"{name} in {directory} must have fingerprint {expected}, got {found}")
    return Splits(
        train=frames["train"],
        select=frames["select"],
        dev=frames["dev"],
        dev_extra={
            name.removeprefix("dev_"): frame
            for name, frame in frames.items()
            if name.startswith("dev_")
        },
        labels=tuple(meta["labels"]),
        kind=meta["kind"],
        pair=meta["pair"],
        dropped=meta["dropped"],
    )


def _to_arrow(frame: pd.DataFrame) -> pa.Table:
    arrays = {name: pa.array(frame[name].tolist(), pa.string()) for name in text_columns(frame)}
    number = pa.float64() if frame["label"].dtype.kind == "f" else pa.int64()
    arrays["label"] = pa.array(frame["label"].to_numpy(), number)
    return pa.table(arrays)
