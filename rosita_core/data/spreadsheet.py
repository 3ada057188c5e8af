"""Tables as CSV files that a spreadsheet only shows."""

from __future__ import annotations

import re

import pandas as pd

FORMULA = re.compile(r"^[=+\-@\t\n]")
NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")


def spreadsheet_safe(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before each text that a spreadsheet would run as a formula.

    Texts and names of columns may come from anyone. Numbers are left, also those written as text.
    A carriage return, which ends a row for many readers and is not quoted, becomes a line feed.
    """
    safe = frame.rename(columns=_cell)
    for position, kind in enumerate(frame.dtypes):
        if kind.kind not in "biufcmM":
            cells = frame.iloc[:, position].map(_cell, na_action="ignore")
            safe.isetitem(position, cells.to_numpy(dtype=object))
    return safe


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if FORMULA.match(text) and not NUMBER.match(text) else text
