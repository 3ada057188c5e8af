"""Texts of users in Markdown, where they are texts and nothing else."""

from __future__ import annotations

import re

# What begins a table cell, code, emphasis, a link, HTML or an entity wherever it stands. An
# underscore inside of a word is none of these.
SPECIAL = re.compile(r"[\\|`*\[\]~]|<(?=[\w/!?])|&(?=[\w#])|(?<!\w)_|_(?!\w)")
# GitHub makes links of bare addresses.
ADDRESS = re.compile(r"(?<=:)/(?=/)|(?<=\bwww)\.|(?<=\w)@(?=\w)")


def plain(text: str) -> str:
    """A text on one line, with what Markdown would read as more than text escaped."""
    return ADDRESS.sub(r"\\\g<0>", SPECIAL.sub(r"\\\g<0>", " ".join(text.split())))


def code(text: str) -> str:
    """A text as it is, as code in a cell of a table: names that people type exactly so."""
    line = " ".join(text.split()).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    # Code neither begins nor ends with the fence's own sign, and is not empty.
    room = " " if not line or line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{room}{line}{room}{fence}"
