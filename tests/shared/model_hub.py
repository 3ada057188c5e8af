"""A hub of models on loopback: what `huggingface_hub` needs to fetch a repository or push one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it holds and was asked.

    Attributes:
        url: for HF_ENDPOINT.
        models: repository -> path -> content.
        token: without which nothing is written.
        asked: requests, as `METHOD /path`.
        full: it takes no file.
        private: repositories that were made so.
    """

    url: str
    models: dict[str, dict[str, bytes]]
    token: str
    asked: list[str] = field(default_factory=list)
    full: bool = False
    private: set[str] = field(default_factory=set)


@contextmanager
def model_hub(models: dict[str, dict[str, bytes]], token: str = "") -> Iterator[Hub]:
    """A hub that answers while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = hub = Hub(f"http://127.0.0.1:{server.server_port}", models, token)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._read()

    def do_GET(self) -> None:
        self._read()

    def do_POST(self) -> None:
        path, hub = self._asked()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/api/validate-yaml":
            return self._say(200, {"errors": [], "warnings": []})
        if not self._is_known():
            return self._say(401, {"error": "Invalid credentials"})
        if hub.full:
            return self._say(403, {"error": "no room"})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            hub.models.setdefault(name, {})
            hub.private |= (
                {name} if asked.get("private") or asked.get("visibility") == "private" else set()
            )
            return self._say(200, {"url": f"{hub.url}/{name}", "name": name})
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self._say(200, {"files": files})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    hub.models[found[1]][line["value"]["path"]] = content
            url = f"{hub.url}/{found[1]}/commit/{COMMIT}"
            return self._say(200, {"commitUrl": url, "commitOid": COMMIT, "success": True})
        return self._say(404, {"error": f"no {path} here"})

    def _read(self) -> None:
        path, hub = self._asked()
        if path == "/api/whoami-v2":
            return self._say(200 if self._is_known() else 401, {"name": "team"})
        if found := re.fullmatch(r"/api/models/(.+)/revision/main", path):
            return self._say(200, {"id": found[1], "sha": COMMIT, "siblings": []})
        if found := re.fullmatch(r"/api/models/(.+)/tree/[^/]+", path):
            files = [
                {"type": "file", "path": name, "size": len(content), "oid": COMMIT}
                for name, content in hub.models[found[1]].items()
            ]
            return self._say(200, files)
        if found := re.fullmatch(r"/(.+)/resolve/[^/]+/(.+)", path):
            content = hub.models.get(found[1], {}).get(found[2])
            if content is not None:
                return self._send(200, content)
        return self._say(404, {"error": f"no {path} here"})

    def _is_known(self) -> bool:
        token: str = self.server.hub.token  # type: ignore[attr-defined]
        return bool(token) and self.headers.get("Authorization") == f"Bearer {token}"

    def _asked(self) -> tuple[str, Hub]:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.asked.append(f"{self.command} {path}")
        return path, hub

    def _say(self, code: int, document: object) -> None:
        self._send(code, json.dumps(document).encode())

    def _send(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
