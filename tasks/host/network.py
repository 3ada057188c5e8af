"""Whether an address answers."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Container

NETWORK_SECONDS = 3.0


def unreachable(url: str, accepted: Container[int], seconds: float = NETWORK_SECONDS) -> str | None:
    """None when `url` answers with an accepted status within `seconds`, else why not."""

    def ask() -> str | None:
        try:
            with urllib.request.urlopen(url, timeout=seconds) as response:
                status = response.status
        except urllib.error.HTTPError as error:
            status = error.code
        except urllib.error.URLError as error:
            return str(error.reason)
        except (OSError, ValueError) as error:
            return str(error) or type(error).__name__
        return None if status in accepted else f"status {status}"

    return _within(ask, seconds, "no answer in time")


def _within(ask: Callable[[], str | None], seconds: float, otherwise: str) -> str | None:
    """The answer of `ask`, or `otherwise`: looking up a name has no time limit of its own."""
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else otherwise
