"""Stage `data`: read, split, check and tokenize the data of a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rosita_core.data.encoding import encode
from rosita_core.data.preparation import fingerprint
from rosita_core.data.sharing import row_counts, shared
from rosita_core.data.sources import NOT_IN_KEY, SourceSettings, read_splits
from rosita_core.data.storage import save_splits
from rosita_core.model.unchanged import check_tokenizer_unchanged
from rosita_core.training.label_unit import LABEL_UNIT, label_unit, save_unit
from rosita_core.training.progress import Progress, Report


@dataclass(frozen=True)
class DataSettings:
    """What is read and with which tokenizer it is cut into word pieces.

    Attributes:
        source: which data.
        select_on_dev: fidelity: checkpoints are chosen on the rows that are reported.
        tokenizer_digest: of the tokenizer's files.
        tokenizer: the directory that holds them.
    """

    source: SourceSettings
    select_on_dev: bool
    tokenizer_digest: str
    tokenizer: str = field(metadata=NOT_IN_KEY)


def prepare_data(
    settings: DataSettings, tokenizer: Any, folder: Path, report: Report
) -> dict[str, float | str]:
    """Write the prepared data into `folder`; returns row counts and the fingerprint.

    Layout: `splits/` (Parquet and meta.json), `encoded/<split>.arrow` (memory-mapped word pieces),
    `tokenizer/`, and of a regression label_unit.json.

    Raises:
        ValueError: where rows or tokenizer have changed since their digests were taken.
    """
    check_tokenizer_unchanged(Path(settings.tokenizer), settings.tokenizer_digest)
    _, splits = read_splits(settings.source)
    save_splits(splits, folder / "splits")
    save_unit(label_unit(splits.train["label"].to_numpy()), folder / LABEL_UNIT)
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "encoded").mkdir()
    counted = row_counts(splits)
    facts: dict[str, float | str] = {f"rows_{name}": float(n) for name, n in counted.items()}
    frames = {name: frame for name, frame in splits.frames().items() if len(frame)}
    if settings.select_on_dev:
        frames["select"] = splits.dev
    for number, (name, frame) in enumerate(frames.items(), start=1):
        rows = encode([frame], tokenizer, folder / "encoded" / f"{name}.arrow")
        facts[f"rows_{name}"] = float(rows)
        report(Progress(number, len(frames), {}, None, f"{name}: {rows:,} rows"))
    for name, counts in splits.dropped.items():
        facts[f"rows_dropped_{name}"] = float(sum(counts.values()))
        for reason, dropped in counts.items():
            message = f"{name}: {dropped:,} rows left out ({reason})"
            report(Progress(len(frames), len(frames), {}, None, message))
    for message in shared(counted):
        report(Progress(len(frames), len(frames), {}, None, message))
    return facts | {"fingerprint": fingerprint(splits.train)}
