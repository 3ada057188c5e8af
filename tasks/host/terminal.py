"""Progress on stderr: a live line per stage at a terminal, plain lines anywhere else.

There is one display per process. The live line exists only while a stage runs; meanwhile log
messages of any library are printed above it.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from rosita_core.training.progress import Progress
from tasks.host.console import VERBATIM
from tasks.host.wording import whole_duration

PLAIN_SECONDS = 10.0


class StageProgress:
    """One running stage, or whatever counts, on the display; made by `ProgressDisplay`."""

    def __init__(self, display: "ProgressDisplay", title: str, unit: str) -> None:
        self._display = display
        self._title = title
        self._unit = unit
        self._brief = display.prefix is not None
        self._began = display.clock()
        self._printed = self._began
        self._first: tuple[float, int] | None = None
        self._metrics: dict[str, float] = {}
        self._shape: str | None = None
        self._message: str | None = None
        self._row: Any = None
        self.said = title
        """The last event as a line."""

    def update(self, event: Progress) -> None:
        """Show an event. What it leaves out (a dev score, a shape) stays as it was last."""
        now = self._display.clock()
        self._metrics |= event.metrics
        self._shape = event.shape or self._shape
        self._message = event.message or self._message
        if self._first is None or event.step < self._first[1]:
            self._first = (now, event.step)
        text = self._describe(event, now)
        said = f"{self._title}: {self._unit} {event.step}/{event.total_steps}"
        self.said = f"{said}, {text}" if text else said
        live = self._display.live
        if live is not None:
            if self._row is None:
                self._row = live.add_task(self._title, total=event.total_steps, details="")
            live.update(self._row, completed=event.step, total=event.total_steps, details=text)
        elif now - self._printed >= PLAIN_SECONDS:
            self._printed = now
            self._display.line(self.said)

    def end(self, status: str) -> None:
        """Take the stage off the display; one line with its status and last scores stays."""
        took = whole_duration(self._display.clock() - self._began)
        scores = "" if self._brief else "".join(f", {part}" for part in self._scores())
        self.close()
        self._display.line(f"{self._title}: {status} in {took}{scores}")

    def close(self) -> None:
        """Take it off the display without a word."""
        if self._row is not None and self._display.live is not None:
            self._display.live.remove_task(self._row)
        self._display.leave()

    def _describe(self, event: Progress, now: float) -> str:
        parts = self._scores()
        if self._message is not None:
            parts.append(self._message)
        assert self._first is not None
        done = event.step - self._first[1]
        if done > 0:
            left = (now - self._first[0]) / done * (event.total_steps - event.step)
            parts.append(f"{whole_duration(left)} left")
        return ", ".join(parts)

    def _scores(self) -> list[str]:
        parts = []
        if "train/loss" in self._metrics:
            parts.append(f"loss {self._metrics['train/loss']:.4f}")
        if "dev/score" in self._metrics:
            parts.append(f"selection {self._metrics['dev/score']:.4f}")
        if self._shape is not None:
            parts.append(self._shape)
        return parts


class ProgressDisplay:
    """The stages that run in this process. Safe to use from several threads."""

    def __init__(
        self,
        stream: TextIO | None = None,
        terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to `stream` (None: stderr), live if `terminal` (None: if it is a terminal)."""
        self.clock = clock
        self.live: Bars | None = None
        self.prefix: str | None = None
        self.header: Callable[[], RenderableType] | None = None
        """What stands above the live line, made anew at every refresh."""
        self.told: Callable[[str], None] | None = None
        """Hears every line in place of the stream, where another process shows what happens."""
        self._stream = stream
        self._terminal = terminal
        self._running = 0
        self._routes = ExitStack()
        self._lock = threading.RLock()

    def begin(self, position: int, total: int, name: str) -> StageProgress:
        """Show that stage `position` of `total` (from 1) starts."""
        title = f"[{position}/{total}] {name}" if self.prefix is None else f"{self.prefix}: {name}"
        row = self.row(title, "step")
        if self.prefix is None:
            self.line(f"{title}: started")
        return row

    def row(self, title: str, unit: str) -> StageProgress:
        """Show how far something is that counts units; it is said first when some time is over."""
        with self._lock:
            self._running += 1
            stream = self._stream or sys.stderr
            live = stream.isatty() if self._terminal is None else self._terminal
            if live and self.live is None:
                with self.heard():
                    self._start(stream)
        return StageProgress(self, title, unit)

    @contextmanager
    def prefixed(self, prefix: str) -> Iterator[None]:
        """Stages of the block are called `prefix: name`, and say one short line when they end."""
        self.prefix = prefix
        try:
            yield
        finally:
            self.prefix = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """The work goes on, unseen, where the reader goes away or the terminal closes."""
        try:
            yield
        except OSError:
            silence(self._stream or sys.stderr)

    def line(self, text: str) -> None:
        """One line of text, above the live line if there is one."""
        with self._lock, self.heard():
            if self.told is not None:
                self.told(text)
            elif self.live is not None:
                self.live.console.print(text, highlight=False, soft_wrap=True)
            else:
                print(text, file=self._stream or sys.stderr, flush=True)

    def leave(self) -> None:
        """One stage less; the live line goes with the last."""
        with self._lock, self.heard():
            self._running -= 1
            if self._running == 0 and self.live is not None:
                live, self.live = self.live, None
                live.stop()
                self._routes.close()

    def _start(self, stream: TextIO) -> None:
        console = Console(file=stream, force_terminal=True, **VERBATIM)
        self.live = _Live(
            self,
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[details]}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=True,
        )
        self._routes.enter_context(_logs_through(console, stream))
        self.live.start()


class _Live(Bars):
    """The live line below the display's header."""

    def __init__(self, display: ProgressDisplay, *columns: Any, **options: Any) -> None:
        self._display = display
        super().__init__(*columns, **options)

    def get_renderables(self) -> Iterator[RenderableType]:
        if self._display.header is not None:
            yield self._display.header()
        yield from super().get_renderables()


def silence(stream: TextIO) -> None:
    """Whatever is written to a stream from now on, by whichever library, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@lru_cache(maxsize=1)
def progress_display() -> ProgressDisplay:
    """The display of this process."""
    return ProgressDisplay()


@contextmanager
def _logs_through(console: Console, stream: TextIO) -> Iterator[None]:
    """Send log handlers that write to the stream through the console for the length of a block.

    Handlers keep the stream that they were made with, so replacing sys.stderr does not reach them.
    """
    proxy: Any = FileProxy(console, stream)
    loggers = [
        logging.getLogger(),
        *map(logging.getLogger, list(logging.root.manager.loggerDict)),
    ]
    handlers = {
        handler
        for logger in loggers
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler)
        # Handlers that look sys.stderr up at every message are redirected with it.
        and not isinstance(getattr(type(handler), "stream", None), property)
        and handler.stream is stream
    }
    consoles = []
    for handler in handlers:
        handler.setStream(proxy)
        # Prefect's handler prints through a rich console of its own.
        own = getattr(handler, "console", None)
        if isinstance(own, Console):
            consoles.append((own, own.file))
            own.file = proxy
    try:
        yield
    finally:
        for handler in handlers:
            handler.setStream(stream)
        for own, file in consoles:
            own.file = file
