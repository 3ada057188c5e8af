"""Prefect's server for the pages and processes of this machine: `python -m ... PORT [OF_A_RUN]`.

A page of any website can send requests to loopback, and a name of its own can lead there. Prefect
knows a password for its API, and nothing that keeps foreign pages away.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from flows.services.servers import HOST, OF_A_RUN

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

NAMES = (HOST, "localhost")
OPEN = ("/api/health", "/api/ready")
KEEP_ALIVE_SECONDS = 5
"""As `prefect server start` has it."""


class Guard:
    """An application that answers its own pages, and requests that no page sent.

    Everything else gets 403, but for the paths that say whether the server is up.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in NAMES}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN or self._is_own(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # Before it is accepted, this is an answer of 403.
            await send({"type": "websocket.close", "code": 1008})
        else:
            from starlette.responses import PlainTextResponse

            said = f"Only pages and processes of this machine are answered: {sorted(self._hosts)}"
            await PlainTextResponse(said, 403)(scope, receive, send)

    def _is_own(self, scope: Scope) -> bool:
        sent = [(name, value.decode("latin-1").lower()) for name, value in scope["headers"]]
        hosts = [value for name, value in sent if name == b"host"]
        origins = [value for name, value in sent if name == b"origin"]
        return len(hosts) == 1 and hosts[0] in self._hosts and set(origins) <= self._origins


def main() -> None:
    """Serve until a signal comes; Prefect's settings are in the environment."""
    import uvicorn
    from prefect.server.api.server import create_app

    port = int(sys.argv[1])
    server = create_app(final=True, ephemeral=OF_A_RUN in sys.argv[2:])
    # FastAPI prepares a route when it is first asked for, and whoever asks would wait.
    for route in server.api_app.routes:  # type: ignore[attr-defined]
        route.matches({"type": "http", "method": "GET", "path": "/-", "headers": []})
    uvicorn.run(
        Guard(server, port),
        host=HOST,
        port=port,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
