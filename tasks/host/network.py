"""Whether an address answers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from tasks.host.environment import LOOPBACK

if TYPE_CHECKING:
    import httpx

NETWORK_SECONDS = 3.0


@functools.cache
def direct() -> httpx.Client:
    """For servers on loopback, to which a proxy of the user's environment has no way."""
    import httpx

    return httpx.Client(trust_env=False)


def unreachable(url: str, accepted: Container[int], seconds: float = NETWORK_SECONDS) -> str | None:
    """None when `url` answers with an accepted status within `seconds`, else why not."""
    import httpx

    def ask() -> str | None:
        try:
            get = direct().get if httpx.URL(url).host in LOOPBACK else httpx.get
            said = get(url, timeout=seconds, follow_redirects=True)
        # The last two are of a proxy that httpx does not understand.
        except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:
            return str(error) or type(error).__name__
        return None if said.status_code in accepted else f"status {said.status_code}"

    return _within(ask, seconds, "no answer in time")


def _within(ask: Callable[[], str | None], seconds: float, otherwise: str) -> str | None:
    """The answer of `ask`, or `otherwise`: looking up a name has no time limit of its own."""
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else otherwise
