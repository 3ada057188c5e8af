"""Training speed beside what people would use otherwise: `make bench-training`.

One distillation (MiniLM-L6 into a2_l6_f128_e48, batch 32, hidden states and predictions) of the
same rows by every contender of `contenders/`, each in a process of its own, in turns. All must
differentiate the same loss on one batch without dropout, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from operator import truediv
from pathlib import Path
from typing import Any

import pandas as pd

from rosita_core.data.encoding import encode
from rosita_core.data.framing import load_tokenizer
from rosita_core.data.readers import film_reviews
from rosita_core.data.readers.glue import GLUE, read_glue_dir
from rosita_core.model.locate import locate
from tasks.home import Home, home_directory
from tasks.host.environment import not_said
from tasks.host.hardware import cores, hardware
from tests.bench.contenders import (
    BATCH,
    DEVICE,
    MAX_LENGTH,
    NAMES,
    OURS,
    SHAPE,
    TEACHER,
    contender,
)

ROOT = Path(__file__).resolve().parents[2]
GLUE_DIR = Path(os.environ.get("GLUE_DIR", ROOT.parent / "shared/data/glue"))
TEXT_BREWER = Path(sys.prefix) / "textbrewer"
SAME_LOSS = 1e-3
"""Relative: what is kept of a teacher has 16 bits."""


def sentences(count: int) -> tuple[pd.DataFrame, str]:
    """Rows of SST-2 where its files are at hand, else film reviews; and which they are."""
    folder = GLUE_DIR / "SST-2"
    if folder.is_dir():
        frame, name = read_glue_dir(folder, GLUE["sst2"], "train").frame, "SST-2 sentences"
    else:
        archive = film_reviews.fetch(Home(home_directory()).downloads)
        frame, name = film_reviews.read(archive).frame, "the demo's film reviews"
    if count > len(frame):
        raise ValueError(f"rows must be at most {len(frame):,} of {name}, got {count:,}")
    return frame.sample(count, random_state=0), name


def write(frame: pd.DataFrame, folder: Path) -> None:
    """The rows of all, one batch of them, and what is profiled: 20 batches."""
    tokenizer = load_tokenizer(locate(TEACHER))
    encode([frame], tokenizer, folder / "rows.arrow")
    encode([frame.iloc[:BATCH]], tokenizer, folder / "batch.arrow")
    encode([frame.iloc[: 20 * BATCH]], tokenizer, folder / "profiled.arrow")


def in_a_process(module: str, arguments: list[str], ours: bool, path: Path | None = None) -> Any:
    """What `python -m module` prints as its last line.

    Args:
        ours: whether in the environment that this project's command trains in; others have torch's.
        path: comes before the module's packages.
    """
    own = [str(ROOT)] if path is None else [str(ROOT), str(path)]
    surroundings = os.environ | not_said(os.environ) if ours else os.environ
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**surroundings, "PYTHONPATH": os.pathsep.join(own), "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def check_same_work(found: dict[str, list[dict[str, Any]]]) -> None:
    """Raises ValueError where a contender differentiates another loss than the others."""
    losses = [(name, one["loss"]) for name, rounds in found.items() for one in rounds]
    middle = statistics.median(loss for _, loss in losses)
    for name, loss in losses:
        if abs(loss - middle) > SAME_LOSS * abs(middle):
            raise ValueError(f"loss of one batch must be {middle:.5f}, got {loss:.5f} from {name}")


def table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """One line a contender: median, spread, against the first line, and what it computed.

    The ratio is the median of those of each round, so that a machine that slows down in between
    slows both.
    """
    head = ("contender", "examples a second", "lowest to highest", "ratio")
    head += ("precision", "padding", "loss of one batch")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    rates = {name: [one["examples_per_second"] for one in found[name]] for name in found}
    base = rates["authors"]
    for name, rounds in found.items():
        one, middle = rounds[0], statistics.median(rates[name])
        cells = (contender(name).TITLE, f"{middle:.1f}")
        ratio = statistics.median(map(truediv, rates[name], base))
        cells += (f"{min(rates[name]):.1f} to {max(rates[name]):.1f}", f"{ratio:.2f}x")
        cells += (one["precision"], f"{one['padding']:.1%}", f"{one['loss']:.5f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(arguments: list[str]) -> None:
    """Print what is measured, the table, and where the time of this project goes."""
    parser = argparse.ArgumentParser(prog="tests.bench.training")
    parser.add_argument("--rows", type=int, default=3_200, help="sentences of one pass")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed")
    parser.add_argument("--threads", type=int, default=cores(), help="of every contender")
    parser.add_argument("--textbrewer", type=Path, default=TEXT_BREWER, help="where it lies")
    given = parser.parse_args(arguments)
    for name, least in (("rows", 2 * BATCH), ("rounds", 1), ("threads", 1)):
        if getattr(given, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(given, name)}")
    threads = str(given.threads)
    frame, source = sentences(given.rows)
    facts = hardware()
    gpu = f"{facts['gpus'][0]}, " if DEVICE == "cuda" else ""
    print(
        f"{gpu}{facts['cpu']}, {given.threads} threads, {facts['memory_gib']} GiB; "
        f"Python {facts['python']}, torch {facts['torch']}, "
        f"transformers {version('transformers')}\n"
        f"{given.rows:,} {source}, {TEACHER} into {SHAPE}, batch {BATCH}, at most {MAX_LENGTH} "
        f"tokens; medians of {given.rounds}\n",
        flush=True,
    )
    names = list(NAMES)
    if not (given.textbrewer / "textbrewer").is_dir():
        names.remove("text_brewer")
        print("TextBrewer is left out: `make bench-training` installs it beside the lock\n")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        write(frame, Path(scratch))
        for number in range(given.rounds):
            for name in names:
                path = given.textbrewer if name == "text_brewer" else None
                asked = [name, scratch, threads]
                one = in_a_process("tests.bench.contenders", asked, name in OURS, path)
                found[name].append(one)
                rate = found[name][-1]["examples_per_second"]
                print(f"{number + 1}/{given.rounds} {name}: {rate:.1f} a second", file=sys.stderr)
        check_same_work(found)
        print("\n".join(table(found)), flush=True)
        kept = statistics.median(one["kept_seconds"] for one in found["ours_kept"])
        print(f"\nKeeping the teacher's outputs took {kept:.1f} s, once for all epochs.")
        # What is profiled are calls on a CPU; those of a GPU only ask for work.
        for name in OURS if DEVICE == "cpu" else ():
            split = in_a_process("tests.bench.training_split", [name, scratch, threads], True)
            print(f"\nWhere the time goes, {contender(name).TITLE}:\n")
            print("| part | share |\n|---|---|")
            for part, share in split.items():
                print(f"| {part} | {share:.1%} |")


if __name__ == "__main__":
    main(sys.argv[1:])
