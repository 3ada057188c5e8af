"""The benchmarks of training run, and compare what is the same work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rosita_core.measuring.memory import BYTES_PER_MIB
from tests.bench.contenders import NAMES, contender
from tests.bench.memory import JOBS
from tests.bench.training import check_same_work, table

ROOT = Path(__file__).resolve().parents[2]
# The smaller ones fill the buffers, which have a size of their own.
ROWS, MORE_ROWS = 3_000, 12_000
KEPT_BYTES_A_ROW = 2_304
"""What the states of a row take on disk: 12 tokens, 3 states of 32 numbers of 16 bits."""


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_contender_computes_the_same_loss_and_has_its_line():
    done = run("training", "--rows", "64", "--rounds", "1", "--threads", "1")
    assert done.returncode == 0, done.stderr
    lines = [line.strip("|").split("|") for line in done.stdout.splitlines() if line[:1] == "|"]
    rows = {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}
    left_out = {"text_brewer"} if "TextBrewer is left out" in done.stdout else set()
    titles = [contender(name).TITLE for name in NAMES if name not in left_out]
    assert [name for name in rows if name in titles] == titles
    losses = []
    for title in titles:
        rate, spread, ratio, precision, padding, loss = rows[title]
        assert float(rate) > 0
        assert re.fullmatch(r"[\d.]+ to [\d.]+", spread)
        assert re.fullmatch(r"[\d.]+x", ratio)
        assert precision in ("fp32", "bf16")
        assert 0 < float(padding.rstrip("%")) < 100
        losses.append(float(loss))
    # The same batch without dropout: three ways to write the losses, one of them TextBrewer's.
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-3)
    # Who pads to 64 tokens pads most.
    assert max(titles, key=lambda title: float(rows[title][4].rstrip("%"))) == titles[0]
    shares = {name: cells[0] for name, cells in rows.items() if len(cells) == 1}
    for part in ("student: forward", "backward", "clipping and optimizer", "of all: dropout"):
        assert 0 < float(shares[part].rstrip("%")) < 100, part


def test_a_machine_that_slows_down_between_rounds_changes_no_ratio():
    told = {"precision": "fp32", "padding": 0.1, "loss": 3.0}
    machine = (1.0, 0.25, 0.5)
    found = {
        name: [
            told | {"examples_per_second": rate * one * of_all}
            for one, of_all in zip(own, machine, strict=True)
        ]
        for name, rate, own in (
            ("authors", 100.0, (1.0, 1.0, 1.0)),
            ("ours", 300.0, (1.0, 1.0, 1.0)),
            # One round of its own was slow: medians of the rates alone would give 4.
            ("ours_kept", 800.0, (1.0, 1.0, 0.25)),
        )
    }
    ratios = [line.split("|")[4].strip() for line in table(found)[2:]]
    assert ratios == ["1.00x", "3.00x", "8.00x"]


def test_other_work_ends_the_benchmark():
    same = {name: [{"loss": 3.0}, {"loss": 3.001}] for name in NAMES}
    check_same_work(same)
    with pytest.raises(ValueError, match=r"must be 3\.\d+, got 3\.30000 from authors"):
        check_same_work(same | {"authors": [{"loss": 3.3}]})


@pytest.mark.parametrize("asked", [("--rows", "63"), ("--rounds", "0"), ("--threads", "0")])
def test_what_cannot_be_measured_is_refused(asked):
    done = run("training", *asked)
    assert done.returncode == 2
    assert re.search(rf"{asked[0]} must be at least \d+, got {asked[1]}$", done.stderr.strip())


@pytest.mark.skipif(sys.platform != "linux", reason="own memory is read from Linux's /proc")
def test_memory_has_a_line_for_every_job_and_size():
    done = run("memory", "--rows", "100", "200", "--threads", "1")
    assert done.returncode == 0, done.stderr
    measured = re.findall(r"^\| (\w+) \| ([\d,]+) \| [\d.]+ \| \d+ \| \d+ \|$", done.stdout, re.M)
    assert measured == [(job, rows) for job in JOBS for rows in ("100", "200")]
    for job in JOBS:
        assert re.search(rf"^\| {job} \| -?\d+ \| 100 \|$", done.stdout, re.M)


@pytest.mark.skipif(sys.platform != "linux", reason="own memory is read from Linux's /proc")
@pytest.mark.parametrize("job", ["targets", "train"])
def test_a_further_row_needs_less_memory_than_what_is_kept_of_it(job):
    own = []
    for rows in (ROWS, MORE_ROWS):
        done = run("memory", "--one", job, "--rows", str(rows), "--threads", "1")
        assert done.returncode == 0, done.stderr
        own.append(json.loads(done.stdout.splitlines()[-1])["own_mib"])
    a_row = (own[1] - own[0]) * BYTES_PER_MIB / (MORE_ROWS - ROWS)
    assert a_row < KEPT_BYTES_A_ROW / 2
