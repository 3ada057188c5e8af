"""The display: plain lines where nobody watches, a live line that logs do not break."""

import io
import logging
import os
from dataclasses import dataclass, field

from tasks.host.terminal import ProgressDisplay, progress_display


@dataclass(frozen=True)
class Event:
    step: int
    total_steps: int
    metrics: dict[str, float] = field(default_factory=dict)
    shape: str | None = None
    message: str | None = None
    phase: str | None = None


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_output_is_one_line_in_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    display = ProgressDisplay(stream, False, clock)
    stage = display.begin(3, 9, "student")
    for step in range(1, 101):
        clock.now = step * 0.5
        metrics = {"train/loss": 1 / step} | ({"dev/score": 0.75} if step == 30 else {})
        stage.update(Event(step, 200, metrics, "a2_l8" if step == 1 else None))
    stage.end("completed")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "[3/9] student: started"
    assert lines[1] == "[3/9] student: step 20/200, loss 0.0500, a2_l8, 1 min 30 s left"
    scores = "loss 0.0250, selection 0.7500, a2_l8"
    assert lines[2] == f"[3/9] student: step 40/200, {scores}, 1 min 20 s left"
    assert lines[-1] == "[3/9] student: completed in 50 s, loss 0.0100, selection 0.7500, a2_l8"
    assert len(lines) == 1 + 5 + 1


def test_what_counts_without_being_a_stage_says_nothing_when_it_is_over_soon() -> None:
    stream, clock = io.StringIO(), Clock()
    row = ProgressDisplay(stream, False, clock).row("predicting out.csv", "row")
    for step in range(1, 6):
        clock.now = step * 4.0
        row.update(Event(step * 100, 500))
    row.close()
    assert stream.getvalue().splitlines() == ["predicting out.csv: row 300/500, 8 s left"]
    terminal = io.StringIO()
    display = ProgressDisplay(terminal, True)
    row = display.row("predicting out.csv", "row")
    row.update(Event(1, 2))
    assert display.live is not None
    row.close()
    assert display.live is None


def test_the_time_left_counts_from_where_a_resumed_stage_goes_on() -> None:
    stream, clock = io.StringIO(), Clock()
    stage = ProgressDisplay(stream, False, clock).begin(1, 1, "width")
    stage.update(Event(900, 1000))
    clock.now = 10.0
    stage.update(Event(910, 1000))
    assert "step 910/1000, 1 min 30 s left" in stream.getvalue()


def test_the_live_line_ends_with_the_last_stage_and_logs_come_through() -> None:
    stream = io.StringIO()
    display = ProgressDisplay(stream, True)
    logger = logging.getLogger("progress-law")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        first, second = display.begin(1, 2, "one"), display.begin(2, 2, "two")
        first.update(Event(1, 10, {"train/loss": 0.5}, "a2_l8"))
        assert display.live is not None
        logger.warning("look here")
        assert handler.stream is not stream
        first.end("completed")
        assert display.live is not None
        second.end("failed")
        assert display.live is None
        assert handler.stream is stream
    finally:
        logger.removeHandler(handler)
    text = stream.getvalue()
    assert "look here" in text
    assert "[1/2] one: completed in 0 s, loss 0.5000, a2_l8" in text
    assert "[2/2] two: failed in 0 s" in text


def test_handlers_that_look_stderr_up_themselves_are_left_alone() -> None:
    # logging.lastResort is one, and libraries attach more of the kind.
    logger = logging.getLogger("progress-law")
    handler = logging._StderrHandler()  # type: ignore[attr-defined]
    logger.addHandler(handler)
    try:
        display = ProgressDisplay(handler.stream, True)
        display.begin(1, 1, "one").end("completed")
    finally:
        logger.removeHandler(handler)


def test_a_process_has_one_display() -> None:
    assert progress_display() is progress_display()


def test_the_work_goes_on_where_nobody_reads() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        display = ProgressDisplay(stream, False)
        os.close(reading)
        stage = display.begin(1, 2, "student")
        stage.end("completed")
        display.line("more")
