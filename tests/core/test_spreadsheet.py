"""Texts of users do nothing but stand there, in a spreadsheet as in Markdown."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from rosita_core.data.spreadsheet import spreadsheet_safe
from rosita_core.export.markdown import code, plain

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\n=1"]
TEXTS = ["plain", "a = b", "", "1", "-5", "+1.5e3", "-.5", " =1", "'quoted", "ünï"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_that_a_spreadsheet_would_run_begins_with_an_apostrophe(text: str) -> None:
    frame = pd.DataFrame({text: [text, None, "plain"], "n": [-1, 2, 3], "f": [-0.5, 1.0, 2.0]})
    safe = spreadsheet_safe(frame)
    assert list(safe.columns) == [f"'{text}", "n", "f"]
    assert safe.iloc[0, 0] == f"'{text}"
    assert pd.isna(safe.iloc[1, 0])
    written = pd.read_csv(io.StringIO(safe.to_csv(index=False)))
    assert written["n"].tolist() == [-1, 2, 3]
    assert written["f"].tolist() == [-0.5, 1.0, 2.0]
    # The table itself is what it was.
    assert frame.columns[0] == frame.iloc[0, 0] == text


def test_a_carriage_return_begins_no_row() -> None:
    frame = pd.DataFrame({"a": ["x\r=1+1", "\r=1", "x\r\ny"], "b": [1, 2, 3]})
    text = spreadsheet_safe(frame).to_csv(index=False)
    assert "\r" not in text
    written = pd.read_csv(io.StringIO(text))
    assert written["a"].tolist() == ["x\n=1+1", "'\n=1", "x\ny"]
    assert written["b"].tolist() == [1, 2, 3]


def test_other_texts_and_numbers_stay_what_they_are() -> None:
    for kind in ("str", "object", "category"):
        frame = pd.DataFrame({"a": pd.Series(TEXTS, dtype=kind), "b": range(len(TEXTS))})
        assert spreadsheet_safe(frame)["a"].tolist() == TEXTS


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("minilm-l6 at 0.98", "minilm-l6 at 0.98"),
        ("a2_l8_f512", "a2_l8_f512"),
        ("_x_ *b*", r"\_x\_ \*b\*"),
        ("a|b\nc", r"a\|b c"),
        ("[x](http://y.z)", r"\[x\](http:\//y.z)"),
        ("www.y.z me@y.z", r"www\.y.z me\@y.z"),
        ("<img src=x onerror=y> &lt;", r"\<img src=x onerror=y> \&lt;"),
        ("p < 0.001 & more", "p < 0.001 & more"),
        ("`x`", r"\`x\`"),
    ],
)
def test_markdown_has_a_text_as_text(text: str, written: str) -> None:
    assert plain(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("[x](http://y.z)", "`[x](http://y.z)`"),
        ("a|b", r"`a\|b`"),
        ("a`b", "``a`b``"),
        ("``", "``` `` ```"),
        ("", "`  `"),
        ("<b>\n", "`<b>`"),
    ],
)
def test_a_name_in_a_table_is_code(text: str, written: str) -> None:
    assert code(text) == written
