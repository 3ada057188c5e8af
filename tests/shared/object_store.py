"""A real S3-compatible server on loopback, as a process that a test may stop and start again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from serving import free_ports

START_SECONDS = 120
BUCKET = "rosita"


class ObjectStore:
    """moto's server mode with one bucket; it forgets everything when it ends."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_ports(1)[0]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test-key",
            "AWS_SECRET_ACCESS_KEY": "test-secret-that-must-not-appear",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._log = folder / "s3.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers and has the bucket."""
        command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=dict(os.environ), stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < deadline, "the object store does not answer"
            time.sleep(0.1)
        self.make_bucket(BUCKET)

    def make_bucket(self, name: str) -> None:
        # Its own client needs seconds to import; a bucket is one empty PUT.
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 200

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/moto-api/", timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False
