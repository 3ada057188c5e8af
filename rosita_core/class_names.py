"""What a class is called: one name however it was typed, in data and in models."""

import math
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Codes such as 007 are no numbers.
_PLAIN = re.compile(r"([+-]?)(0|[1-9][0-9]*|(?=\.[0-9]))(?:\.([0-9]*))?")
# As JSON, Python and spreadsheets write it.
_TRUTH = frozenset(form(word) for word in ("true", "false") for form in (str, str.title, str.upper))
# What Unicode counts as space, and the two marks without width that editors leave behind.
_SPACE = re.compile(r"[\s\u200b\ufeff]+")
# Marks that nobody sees and that join nothing: soft hyphen, marks of direction, word joiner.
_UNSEEN = re.compile("[\u00ad\u200e\u200f\u2060]")


@lru_cache(maxsize=1024, typed=True)
def label_name(value: object) -> str:
    """The class name of a label, whatever the file format and however it was typed.

    Space around a name and its amount inside do not count, nor does how Unicode composes a letter;
    1, 1.0, +1 and "1" are one class, and so are the ways in which formats write what is true or
    false. Of all other names case counts.
    """
    if isinstance(value, Decimal) or (isinstance(value, float) and math.isfinite(value)):
        value = format(Decimal(repr(value)) if isinstance(value, float) else value, "f")
    text = plain(str(value))
    if text in _TRUTH:
        return text.lower()
    number = _PLAIN.fullmatch(text)
    return text if number is None else _shortest(*number.groups())


def plain(text: str) -> str:
    """A text without what says nothing: other spaces, marks that are unseen, parts of letters."""
    return _SPACE.sub(" ", _UNSEEN.sub("", unicodedata.normalize("NFC", text))).strip()


def is_blank(text: str) -> bool:
    """Whether a text has nothing to read: only space, marks without width, and NUL."""
    return not plain(text).strip("\0 ")


def labels_to_index(train_labels: Iterable[object]) -> tuple[str, ...]:
    """The class names of own data in index order: sorted, by value if all of them are numbers."""
    names = {label_name(value) for value in train_labels}
    if all(NUMBER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def _shortest(sign: str, whole: str, fraction: str | None) -> str:
    """A decimal number with nothing that says nothing."""
    fraction = (fraction or "").rstrip("0")
    number = (whole or "0") + (f".{fraction}" if fraction else "")
    return f"-{number}" if sign == "-" and number != "0" else number
