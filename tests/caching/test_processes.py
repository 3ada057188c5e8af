"""Whether an attempt still runs, asked of the operating system and not of what it once wrote."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.host.liveness import attempt_state, may_run, this_process

CODE = """
import json, sys, time
from tasks.host.liveness import this_process
print(json.dumps(this_process()), flush=True)
time.sleep(60)
"""


def running(**changes: Any) -> Mapping[str, Any]:
    return {"status": "running", **this_process(), **changes}


def test_a_process_that_was_killed_has_died() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CODE],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2])])},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        record = {"status": "running", **json.loads(process.stdout.readline())}
        assert attempt_state(record) == "running"
        process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        # Dead, but its parent has not asked yet: its number is still there.
        while attempt_state(record) != "died" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert psutil.pid_exists(process.pid)
        assert attempt_state(record) == "died"
    assert attempt_state(record) == "died"
    assert not may_run(record)


def test_another_process_of_the_same_number_is_not_the_attempt() -> None:
    assert attempt_state(running()) == "running"
    started = this_process()["process_started"]
    assert attempt_state(running(process_started=started - 10)) == "died"


def test_setting_the_clock_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    record = running()
    hour, boot, create = 3600, psutil.boot_time, psutil.Process.create_time
    # What the system says of both after its clock was set back.
    monkeypatch.setattr(psutil, "boot_time", lambda: boot() - hour)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create(self) - hour)
    assert attempt_state(record) == "running"


def test_other_machines_cannot_be_asked() -> None:
    record = running(host="elsewhere", pid=1)
    assert attempt_state(record) == "running on elsewhere"
    assert may_run(record)


def test_a_record_that_says_too_little() -> None:
    assert attempt_state({"status": "running", "pid": os.getpid()}) == "unfinished"
    assert may_run({"status": "running", "pid": os.getpid()})
    assert attempt_state({"status": "failed"}) == "failed"
    assert not may_run({"status": "completed"})
