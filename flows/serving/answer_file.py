"""Answers to texts, a part at a time, and the file of them, which is whole or not there."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flows.serving.input_file import PART_ROWS, Source, counted
from flows.serving.predict import LABEL, PROBABILITY, SCORE, Predictor
from rosita_core.data.spreadsheet import spreadsheet_safe
from tasks.host.new_folder import check_new_file
from tasks.host.private_files import users_mode

ANSWERS = {LABEL: pa.string(), PROBABILITY: pa.float64(), SCORE: pa.float64()}


def answered(
    predictor: Predictor, source: Source, batch_size: int, max_length: int | None
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """All columns of the source beside the answers of `Predictor.answer`, in parts."""
    for texts, beside in source.parts(PART_ROWS):
        yield beside, predictor.answer(texts, batch_size, max_length)


def write_answers(
    predictor: Predictor, source: Source, batch_size: int, max_length: int | None, path: Path
) -> None:
    """Answer the texts of a source in a file, with all their columns; see `answer_file`."""
    beside = (part for _, part in source.parts(PART_ROWS))
    with (
        answer_file(path, beside, answers_of(predictor.labels)) as writer,
        counted(f"predicting {path.name}", "row", source.rows) as done,
    ):
        rows = 0
        for columns, answers in answered(predictor, source, batch_size, max_length):
            writer.write(pd.concat([columns, answers], axis=1))
            rows += len(answers)
            done(rows)


def answers_of(labels: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that answers have: of classes with these names, or of a regression."""
    return (LABEL, PROBABILITY) if labels else (SCORE,)


class Writer(Protocol):
    """What writes parts of a table into a file, one after the other."""

    def write(self, part: pd.DataFrame) -> None:
        """The next rows; every part has the same columns."""

    def close(self) -> None:
        """No more rows come."""


def check_output(path: Path, given: Path | None) -> None:
    """Refuse an output file that cannot be written.

    Args:
        path: ends in .csv, .jsonl or .parquet; an existing file is replaced.
        given: the file or folder that is read, which is the user's only copy.

    Raises:
        ValueError: naming what is wrong.
    """
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"output must end in one of {', '.join(_WRITERS)}, got {path}")
    if given is not None and _is_read(path, given):
        raise ValueError(f"output must be another file than input, and not in it, got {path}")
    check_new_file(path, "output")


def check_columns(columns: tuple[str, ...], answers: tuple[str, ...]) -> None:
    """Refuse columns of the user's own that would collide with those of the answers.

    Raises:
        ValueError: naming the column.
    """
    for name in columns:
        if name in answers or columns.count(name) > 1:
            raise ValueError(
                f"columns of the output must differ from each other and from "
                f"{' and '.join(answers)}, got {name}"
            )


def _is_read(path: Path, given: Path) -> bool:
    """Whether a file is the one that is given, or lies in the folder or is linked from there."""
    there = (given, *(given.iterdir() if given.is_dir() else ()))
    return any(path.resolve().is_relative_to(one.resolve()) for one in there)


@contextmanager
def answer_file(
    path: Path, beside: Iterable[pd.DataFrame], answers: tuple[str, ...]
) -> Iterator[Writer]:
    """A table by the ending of its name; a reader never sees half of it.

    Args:
        path: see `check_output`.
        beside: what stands beside the answers, in parts. Parquet alone reads them here: it has one
            type a column, which all rows decide.
        answers: names of the columns with answers, of `ANSWERS`.

    Raises:
        ValueError: for Parquet, where a column has values of kinds that do not go together.
    """
    handle, name = tempfile.mkstemp(dir=path.absolute().parent, suffix=path.suffix.lower())
    os.close(handle)
    temporary = Path(name)
    try:
        writer = _WRITERS[path.suffix.lower()](temporary, beside, answers)
        try:
            yield writer
        finally:
            writer.close()
        # mkstemp makes files for their owner alone.
        temporary.chmod(users_mode(0o666))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class _Csv:
    def __init__(
        self, path: Path, beside: Iterable[pd.DataFrame], answers: tuple[str, ...]
    ) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._begun = False

    def write(self, part: pd.DataFrame) -> None:
        spreadsheet_safe(part).to_csv(self._file, index=False, header=not self._begun)
        self._begun = True

    def close(self) -> None:
        self._file.close()


class _Jsonl:
    def __init__(
        self, path: Path, beside: Iterable[pd.DataFrame], answers: tuple[str, ...]
    ) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write(self, part: pd.DataFrame) -> None:
        # pandas would round numbers to 15 digits, and write dates as numbers.
        for row in part.to_dict(orient="records"):
            self._file.write(json.dumps(_as_json(row), ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


def _as_json(value: Any) -> Any:
    """A cell of a table as JSON has it; what it has no word for is text, and what is none null."""
    if isinstance(value, dict):
        return {str(name): _as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool | int | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


class _Parquet:
    def __init__(
        self, path: Path, beside: Iterable[pd.DataFrame], answers: tuple[str, ...]
    ) -> None:
        schema = _schema(beside)
        for name in answers:
            schema = schema.append(pa.field(name, ANSWERS[name]))
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema)

    def write(self, part: pd.DataFrame) -> None:
        self._writer.write_table(
            pa.Table.from_pandas(part, schema=self._schema, preserve_index=False)
        )

    def close(self) -> None:
        self._writer.close()


def _schema(parts: Iterable[pd.DataFrame]) -> pa.Schema:
    found: pa.Schema | None = None
    for part in parts:
        try:
            schema = pa.Schema.from_pandas(part, preserve_index=False).remove_metadata()
            both = [schema] if found is None else [found, schema]
            found = pa.unify_schemas(both, promote_options="permissive")
        except (pa.ArrowException, OverflowError) as error:
            cause = (str(error).splitlines() or [""])[0]
            raise ValueError(
                f"columns of a Parquet output must have one kind of values each, got: {cause}; "
                ".csv and .jsonl take any"
            ) from None
    assert found is not None
    return found


_WRITERS: dict[str, Callable[[Path, Iterable[pd.DataFrame], tuple[str, ...]], Writer]] = {
    ".csv": _Csv,
    ".jsonl": _Jsonl,
    ".parquet": _Parquet,
}
