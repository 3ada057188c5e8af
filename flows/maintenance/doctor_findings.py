"""A row of `rosita doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]
OK: Status = "ok"
WARNING: Status = "warning"
PROBLEM: Status = "problem"


@dataclass(frozen=True)
class Check:
    """One row.

    Attributes:
        name: what was looked at.
        status: ok, warning (something will not work or be slow) or problem (nothing will).
        detail: what was found and, where it is not ok, what to do.
    """

    name: str
    status: Status
    detail: str
