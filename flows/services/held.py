"""A module as `python -m` runs it, for as long as the process that started it lives.

`python -m flows.services.held PARENT MODULE ARGUMENTS` with a pipe as its stdin, whose other end
the parent holds. The operating system closes that end however the parent ends, and the whole group
of this process then ends as well.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 5.0
IMPORTED_OBJECTS = 50_000
"""Between two looks for garbage: imports make many objects, which stay."""


def main() -> None:
    """Run the module that the arguments name."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    gc.set_threshold(IMPORTED_OBJECTS)
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_the_parent() -> None:
    # Not through sys.stdin, whose lock this thread would keep when the interpreter ends.
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
