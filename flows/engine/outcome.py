"""What a flow run of this process came to, should Prefect's server not be there to be told.

Prefect raises the loss of its server in place of whatever a flow returned or raised. The command
line finds both here again.
"""

from __future__ import annotations

from typing import Any

_achieved: dict[str, Any] | None = None
_begun = False


def achieved(document: dict[str, Any]) -> dict[str, Any]:
    """Note what a flow is about to return, all of it being written down; returns it."""
    global _achieved
    _achieved = document
    return document


def forget() -> None:
    """Before a new flow run: what an earlier one came to says nothing about it."""
    global _achieved, _begun
    _achieved, _begun = None, False


def begun() -> None:
    """Note that a flow run has begun to work."""
    global _begun
    _begun = True


def has_begun() -> bool:
    """Whether the last flow run of this process came as far as that."""
    return _begun


def last_achieved() -> dict[str, Any] | None:
    """What the last flow run of this process returned, or would have."""
    return _achieved


def hidden(
    error: BaseException, kind: type[BaseException] | tuple[type[BaseException], ...]
) -> BaseException | None:
    """The error of a kind during whose handling `error` was raised, if there is one."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, kind):
        seen = seen.__cause__ or seen.__context__
    return seen
