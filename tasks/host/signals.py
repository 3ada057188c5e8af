"""SIGTERM, Ctrl-C and a closed terminal while a stage runs: the first asks it to save a checkpoint,
the second stops.

Prefect turns the first two into exceptions at once, wherever the program is. Here all wait until
the kernel asks, and end as exceptions, so that everything above a stage behaves as it always does.
Where nothing can be saved they are raised at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_guard = threading.Lock()
_saving = 0  # stages that would save a checkpoint if they were asked
_vain = 0  # blocks in which a checkpoint would be of no use
_received: int | None = None


@contextmanager
def signals_caught() -> Iterator[None]:
    """Signals of the block come to the stages that run in it; one that none heeded ends the block.

    Python lets the main thread alone handle signals: in any other this does nothing, and the block
    that the main thread is in decides.
    """
    global _received
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is _handle:
        yield
        return
    before = {number: signal.getsignal(number) for number in heeded()}
    _received = None
    for number in before:
        signal.signal(number, _handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    stop_if_requested()


@contextmanager
def able_to_save() -> Iterator[None]:
    """The block asks `stop_requested` often and raises `stopped()` when it has saved."""
    global _saving
    with _guard:
        _saving += 1
    try:
        yield
    finally:
        with _guard:
            _saving -= 1


@contextmanager
def nothing_worth_saving() -> Iterator[None]:
    """Signals stop the block at once: nobody would go on from its checkpoints."""
    global _vain
    with _guard:
        _vain += 1
    try:
        yield
    finally:
        with _guard:
            _vain -= 1


def can_save() -> bool:
    """Whether a stage runs here that would save a checkpoint if it were asked."""
    return _saving > 0 and not _vain


def stop_requested() -> bool:
    """Whether a signal waits for the stages to stop."""
    return _received is not None


def request_stop() -> None:
    """Do as SIGTERM does, in a process whose signals are not ours: stages save and stop."""
    global _received
    _received = signal.SIGTERM


def forget_signals() -> None:
    """Whatever was received before is done with."""
    global _received
    _received = None


def stopped() -> BaseException:
    """The exception of the signal that was received."""
    return _exception(_received or signal.SIGTERM)


def stop_if_requested() -> None:
    """Raise for a signal that came when nothing asked any more."""
    if _received is not None:
        raise _exception(_received)


def heeded() -> tuple[signal.Signals, ...]:
    """The signals that end a run; not a closed terminal where the run shall outlive it (nohup)."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return tuple(number for number in SIGNALS if not (ignored and number == signal.SIGHUP))


def _handle(number: int, frame: FrameType | None) -> None:
    global _received
    first = _received is None
    _received = number
    if first and can_save():
        _say(number, "saving a checkpoint; once more stops without one")
        return
    _say(number, "stopping at once; the same command goes on from what is saved")
    raise _exception(number)


def _say(number: int, what: str) -> None:
    # Not through logging, which has locks: a signal may come inside one.
    # And the terminal may be gone, which is what SIGHUP says.
    with suppress(OSError):
        os.write(2, f"rosita: {signal.Signals(number).name}: {what}\n".encode())


def _exception(number: int) -> BaseException:
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    # Not above: commands that only look at the home do without Prefect.
    from prefect.exceptions import TerminationSignal

    return TerminationSignal(signal=number)
