"""Stage `further`: rows beside the task's own, of other domains, and what people said of films."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from rosita_core.data.encoding import encode
from rosita_core.data.preparation import Splits
from rosita_core.data.readers import film_reviews
from rosita_core.data.sources import NOT_IN_KEY, sample
from rosita_core.data.table import normalized_frame, text_keys
from rosita_core.training.progress import Progress, Report

PEOPLE = "people"


@dataclass(frozen=True)
class FurtherSettings:
    """What is read beside the task's own rows.

    Attributes:
        digest: of the archive.
        domains: that become further dev splits.
        people: whether what people said of films is read.
        limit_rows: at most so many rows of each; None for all.
        seed: of what a limit leaves.
        cache: where downloads are kept.
    """

    digest: str
    domains: tuple[str, ...]
    people: bool
    limit_rows: int | None
    seed: int
    cache: str = field(metadata=NOT_IN_KEY)


def further_rows(
    settings: FurtherSettings, own: Splits, tokenizer: Any, folder: Path, report: Report
) -> dict[str, float | str]:
    """Write `encoded/dev_<domain>.arrow` and `encoded/people.arrow`; returns row counts.

    The label of a row of `people` is the share of people that was positive. Its rows are the task's
    own dev rows and those on which people were not clear, which nothing is trained on.

    Args:
        settings: what is read.
        own: the task's rows.
        tokenizer: that cut them.
        folder: where to.
        report: called after every file.

    Raises:
        ValueError: where the archive does not hold them.
        RuntimeError: where it cannot be downloaded.
    """
    archive = film_reviews.fetch(Path(settings.cache))
    frames = {}
    for domain in settings.domains:
        frame = film_reviews.read(archive, (domain,)).frame
        frames[f"dev_{domain}"] = _limited(frame, settings, True)
    if settings.people:
        frames[PEOPLE] = _limited(_people(archive, own), settings, False)
    (folder / "encoded").mkdir()
    facts: dict[str, float | str] = {}
    for number, (name, frame) in enumerate(frames.items(), start=1):
        rows = encode([frame], tokenizer, folder / "encoded" / f"{name}.arrow")
        facts[f"rows_{name}"] = float(rows)
        report(Progress(number, len(frames), {}, None, f"{name}: {rows:,} rows"))
    return facts


def _people(archive: Path, own: Splits) -> pd.DataFrame:
    said = film_reviews.people(archive)
    texts = [text for text, _, _ in said]
    keys = text_keys(normalized_frame(texts, None, [0.0] * len(texts), "regression"))
    reported, used = set(text_keys(own.dev)), set(text_keys(own.train)) | set(text_keys(own.select))
    rows = [
        (text, share)
        for key, (text, share, clear) in zip(keys, said, strict=True)
        if key in reported or not (clear or key in used)
    ]
    return normalized_frame(
        [text for text, _ in rows], None, [share for _, share in rows], "regression"
    )


def _limited(frame: pd.DataFrame, settings: FurtherSettings, stratified: bool) -> pd.DataFrame:
    if settings.limit_rows is None:
        return frame
    return sample(frame, settings.limit_rows, settings.seed, stratified)
