"""Messages of one line that a person can read, and what can stand in one."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

SHOWN = 10
LONGEST = 60
# Controls, separators of lines and paragraphs, halves of letters.
_BREAKING = ("Cc", "Zl", "Zp", "Cs")


def some(names: Sequence[str]) -> str:
    """Names for a message: all of a few, the first ones of many."""
    shown = [brief(name) for name in names[:SHOWN]]
    if len(names) > SHOWN:
        shown.append(f"and {len(names) - SHOWN:,} more")
    return ", ".join(shown)


def brief(text: str) -> str:
    """A text for a message, cut where it is long."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def is_a_line(name: str) -> bool:
    """Whether a name can stand in a line: no sign of it ends one or steers a terminal.

    Marks without width are allowed, such as those that join Persian words and emoji.
    """
    return bool(name.strip()) and not any(unicodedata.category(one) in _BREAKING for one in name)


@contextmanager
def named(prefix: str, arguments: Mapping[str, str]) -> Iterator[None]:
    """Errors of the block in the words of whoever asked for it.

    prefix: said before an error.
    arguments: how an error begins that is about an argument -> how it begins for whoever asked.
    Raises ValueError.
    """
    try:
        yield
    except ValueError as error:
        message = str(error)
        for beginning, said in arguments.items():
            if message.startswith(f"{beginning} "):
                raise ValueError(said + message.removeprefix(beginning)) from None
        raise ValueError(f"{prefix}: {message}") from None
