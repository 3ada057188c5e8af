"""What a report is made of, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABSENT = "-"


@dataclass(frozen=True)
class Shown:
    """A column for people.

    Attributes:
        title: its head.
        column: of the frame, to sort by.
        text: the cell of a row.
    """

    title: str
    column: str
    text: Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Table:
    """A table: the full numbers for programs, some of them for people.

    Attributes:
        name: of its files.
        title: heading.
        note: what to know when reading it; may be empty.
        frame: all numbers.
        shown: the columns for people.
    """

    name: str
    title: str
    note: str
    frame: pd.DataFrame
    shown: tuple[Shown, ...]

    def rows(self) -> list[list[str]]:
        """The text of every row."""
        return [[column.text(row) for column in self.shown] for row in rows_of(self.frame)]

    def is_number(self, column: Shown) -> bool:
        """Whether a column is one of numbers."""
        return self.frame[column.column].dtype.kind in "iuf"


@dataclass(frozen=True)
class Plot:
    """A figure.

    Attributes:
        name: of its files.
        title: heading.
        caption: how to read it; also what a reader who cannot see it is told.
        draw: makes the figure.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it."""

    title: str
    text: tuple[str, ...]
    parts: tuple[Table | Plot, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        return tuple(part for part in self.parts if isinstance(part, Table))

    @property
    def plots(self) -> tuple[Plot, ...]:
        return tuple(part for part in self.parts if isinstance(part, Plot))


@dataclass(frozen=True)
class Report:
    """The answer on top, and everything that it rests on.

    Attributes:
        title: heading.
        headline: the answer.
        sections: what it rests on.
        links: title -> address of the runs that it is about, where a server shows them now.
    """

    title: str
    headline: tuple[str, ...]
    sections: tuple[Section, ...]
    links: Mapping[str, str]

    @property
    def tables(self) -> tuple[Table, ...]:
        return tuple(table for section in self.sections for table in section.tables)

    @property
    def plots(self) -> tuple[Plot, ...]:
        return tuple(plot for section in self.sections for plot in section.plots)


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame by the names of its columns."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def text_column(title: str, column: str) -> Shown:
    """A column that is written as it is."""
    return number_column(title, column, str)


def number_column(title: str, column: str, form: Callable[[Any], str]) -> Shown:
    """A column written by `form`; a dash where there is no value."""
    return Shown(title, column, lambda row: ABSENT if pd.isna(row[column]) else form(row[column]))


def spread_column(title: str, mean: str, sd: str, form: Callable[[Any], str]) -> Shown:
    """mean ± sd; the mean alone where one seed has no spread."""

    def text(row: Mapping[str, Any]) -> str:
        if pd.isna(row[mean]):
            return ABSENT
        return form(row[mean]) if pd.isna(row[sd]) else f"{form(row[mean])} ± {form(row[sd])}"

    return Shown(title, mean, text)


def score(value: float) -> str:
    return f"{value:.3f}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """A difference of scores in points, hundredths of the metric; never a negative zero."""
    text = f"{100 * value:.1f}"
    return "0.0" if text == "-0.0" else text


def count(value: float) -> str:
    return f"{value:,.0f}"


def millions(value: float) -> str:
    return f"{value / 1e6:,.1f} M"


def times(value: float) -> str:
    return f"{value:.2f}x"


def milliseconds(value: float) -> str:
    return f"{value:.1f} ms"


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
