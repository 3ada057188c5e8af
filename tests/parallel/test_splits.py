"""Which rows each stage reads: what chooses or teaches never reads the rows that are reported."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contexts import stage_context

from flows.engine.checks import prepare_request
from flows.engine.nodes import numerics_of, stage_of
from flows.method import Node, method
from flows.recipes.shipped import load_recipe
from rosita_core.data.storage import load_splits, save_splits
from tasks.cache.records import StageResult
from tasks.cache.stage_key import Stage
from tasks.stages.catalogue import catalogue
from tasks.store.artifacts import Store

READS = {
    "teacher": {"train", "select"},
    "augment": {"train"},
    "student": {"select"},
    "depth": {"select"},
    "width": {"select"},
    "one-step": {"train", "select"},
    "measure": {"train"},
    "cut": {"train", "select"},
    "recover": {"train", "select"},
    "assess": {"dev"},
    "export": {"dev"},
    "student-targets": set(),
    "depth-targets": set(),
    "width-targets": set(),
    "one-step-targets": set(),
    "recover-targets": set(),
}
"""Of the prepared data; the rows of a distillation are those that `augment` made of `train`."""

MISSING = r"/{split}\.arrow|^frame must have at least 1 row, got 0|^dev must hold the split 'dev'"

QUICK = (
    "task=custom",
    "data.source=files",
    "data.dev_rows=24",
    "data.select_fraction=0.3",
    "assess.latency_repeats=1",
    "assess.latency_warmup=1",
    "assess.latency_batch_sizes=[1]",
    "assess.latency_tokens=8",
    "numerics.threads=1",
    "numerics.device=cpu",
)

CUT = ("method=fisher-mask-search", "compress.recover=labels")
TAUGHT = ("method=fisher-mask-search", "compress.recover=kd", "width.epochs=2")
TWICE = tuple(f"{name}.epochs=2" for name in ("student", "depth", "width"))
"""Often enough for a teacher's outputs to be kept."""


def write_reviews(path: Path) -> None:
    """Random sentences of random classes; what is learned from them does not matter."""
    random = np.random.default_rng(0)
    words = ["film", "good", "bad", "long", "short", "plot", "cast", "dull", "fine"]
    lines = [f"{' '.join(random.choice(words, 9))},{random.integers(2)}" for row in range(144)]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Computed:
    """A recipe of which every stage is in the store.

    Attributes:
        home: ROSITA_HOME.
        stages: name -> the stage with its inputs.
        results: name -> what became of it.
    """

    home: Path
    stages: dict[str, Stage]
    results: dict[str, StageResult]

    def again(self, name: str, split: str) -> StageResult:
        """The stage on data that lacks a split."""
        stage = self.stages[name]
        data = without(self.home, self.results["data"].artifact, split)
        inputs = {
            role: data if digest == self.results["data"].artifact else digest
            for role, digest in stage.inputs.items()
        }
        return run(replace(stage, inputs=inputs), self.home)


def run(stage: Stage, home: Path) -> StageResult:
    """The body of the stage's task."""
    result: StageResult = catalogue()[stage.name].load().fn(stage, stage_context(home, None), [])
    return result


def without(home: Path, data: str, split: str) -> str:
    """The artifact of `data` without a split: no file of word pieces, and no text."""
    store = Store(home)
    with store.workspace() as folder:
        shutil.copytree(store.path(data), folder, dirs_exist_ok=True)
        (folder / "encoded" / f"{split}.arrow").unlink()
        splits = load_splits(folder / "splits")
        shutil.rmtree(folder / "splits")
        empty: dict[str, Any] = {split: getattr(splits, split).iloc[:0]}
        save_splits(replace(splits, **empty), folder / "splits")
        return store.adopt(folder)


def nodes_of(reviews: Path, *more: str) -> tuple[tuple[Node, ...], Any]:
    changes = (*QUICK, f"data.train={reviews}", *more)
    request = prepare_request(load_recipe("smoke", changes), download=True)
    return method(request), numerics_of(request.recipe)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computed]:
    """Setting 4; the one step of setting 1, which ranks on `data` and trains on `augment`; a cut
    that is repaired, and trained on the labels; what is kept of the teacher for all that distil."""
    home = tmp_path_factory.mktemp("splits")
    write_reviews(home / "reviews.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "ROSITA_HOME", str(home))
        four, numerics = nodes_of(home / "reviews.csv", *TWICE)
        one_step, _ = nodes_of(home / "reviews.csv", "kd_setting=1", *TWICE)
        cut, _ = nodes_of(home / "reviews.csv", *CUT)
        taught, _ = nodes_of(home / "reviews.csv", *TAUGHT)
        stages: dict[str, Stage] = {}
        results: dict[str, StageResult] = {}
        for node in (*four, *one_step, *cut, *taught):
            if node.name in stages:
                continue
            artifacts = {name: result.artifact for name, result in results.items()}
            stages[node.name] = stage_of(node, artifacts, numerics)
            results[node.name] = run(stages[node.name], home)
        yield Computed(home, stages, results)


def test_every_stage_that_reads_the_data_is_here(computed: Computed) -> None:
    readers = {name for name, stage in computed.stages.items() if "data" in stage.inputs}
    assert readers == set(READS)
    # `further` keeps the rows of training out of what is scored, so it reads all of them.
    assert {kind.name for kind in catalogue().values()} - readers == {"data", "further"}


@pytest.mark.parametrize("split", ["train", "select", "dev"])
@pytest.mark.parametrize("name", READS)
def test_a_stage_reads_its_own_rows_and_no_others(
    computed: Computed, name: str, split: str
) -> None:
    if split in READS[name]:
        with pytest.raises((ValueError, OSError), match=MISSING.format(split=split)):
            computed.again(name, split)
        return
    found = computed.again(name, split)
    if name != "assess":
        # To the bit, but for the documents that say how long it took.
        assert found.artifact == computed.results[name].artifact
