"""Faults at precise moments, in the process of a command; Python runs this file when it starts.

The variable FAULTS holds a JSON list. Each entry has a `do`:

    signal  stage, call, signals: the process sends itself real signals when the kernel of `stage`
            asks for the `call`-th time, from 1, whether a checkpoint is due
    hold    stage, call, flag: at that moment it makes a file `<flag>.reached` and waits for `flag`
    raise   module, function, message: that function raises a RuntimeError instead of working
    clock   seconds: what the process takes for the time of day is so much off

Nothing of the project is imported or changed before it imports it itself.
"""

import datetime
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path

FAULTS = json.loads(os.environ.get("FAULTS", "[]"))
HELD_SECONDS = 600
CHECKPOINTS = "tasks.cache.checkpoints"
# The modules of the project that ask `datetime` for the time.
DATED = ("flows.grids.cell", "tasks.cache.locks", "tasks.execution.attempt")


def _at_moments(module):
    """Wrap the question of every kernel, which comes between two units of its work."""
    moments = [fault for fault in FAULTS if fault["do"] in ("signal", "hold")]
    calls = {}
    original = module.StageCheckpoints.due

    def due(self, unit):
        stage = self._stage
        calls[stage] = calls.get(stage, 0) + 1
        for fault in moments:
            if (fault["stage"], fault["call"]) == (stage, calls[stage]):
                _strike(fault)
        return original(self, unit)

    module.StageCheckpoints.due = due


def _strike(fault):
    if fault["do"] == "hold":
        flag = Path(fault["flag"])
        reached = flag.with_name(flag.name + ".pid")
        reached.write_text(str(os.getpid()))
        reached.rename(flag.with_name(flag.name + ".reached"))
        # A test that ended before it said so must not leave a process for ever.
        deadline = time.monotonic() + HELD_SECONDS
        while not flag.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody made {flag}")
            time.sleep(0.02)
        return
    for name in fault["signals"]:
        os.kill(os.getpid(), getattr(signal, name))


def _raising(fault):
    def patch(module):
        def broken(*args, **kwargs):
            raise RuntimeError(fault["message"])

        # Refuses to break what is not there: the test would prove nothing.
        getattr(module, fault["function"])
        setattr(module, fault["function"], broken)

    return patch


class _Patching(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules to patch as everyone else does, and patches them once they have run."""

    def __init__(self, patches):
        self._patches = patches
        self._loaders = {}

    def find_spec(self, name, path=None, target=None):
        if name not in self._patches or name in self._loaders:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next(spec for spec in found if spec is not None)
        self._loaders[name], spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self._loaders[spec.name].create_module(spec)

    def exec_module(self, module):
        self._loaders[module.__name__].exec_module(module)
        self._patches[module.__name__](module)


def _shifting(seconds):
    """Shift `time.time` for everyone, and what a module of the project takes for `datetime`.

    The class itself cannot be replaced for all: extension modules have its memory layout built in.
    """
    real_time, real_ns = time.time, time.time_ns
    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_ns() + round(seconds * 1e9)

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=seconds)

    def patch(module):
        assert module.datetime is datetime.datetime, f"{module.__name__} asks it otherwise now"
        module.datetime = Shifted

    return patch


_patches = {fault["module"]: _raising(fault) for fault in FAULTS if fault["do"] == "raise"}
if any(fault["do"] in ("signal", "hold") for fault in FAULTS):
    _patches[CHECKPOINTS] = _at_moments
for _fault in FAULTS:
    if _fault["do"] == "clock":
        _patches |= dict.fromkeys(DATED, _shifting(_fault["seconds"]))
if _patches:
    sys.meta_path.insert(0, _Patching(_patches))
