"""Preflight: before the first real stage the whole method runs in miniature.

A mistake in the last stage of a run of days then shows in its first minute. The stages' own tasks
run on the real model, the real batches and the real target shape, with a few rows and steps, in a
home of their own that is removed afterwards: nothing enters the cache, the attempts or MLflow.
"""

from __future__ import annotations

import math
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.engine.nodes import context_of, stage_of, takes_steps
from flows.engine.preflight.errors import PreflightRefused, named
from flows.engine.preflight.miniature import miniature, rows_wanted, shrink_data
from flows.engine.summary import comparison_rows, summarize
from flows.engine.walk import cached
from flows.method import Node, method
from flows.recipes.request import HOME_VARIABLE, Request, read_rows
from rosita_core.measuring.assessment import read_assessment
from rosita_core.measuring.disk import BYTES_PER_MB, disk_mb
from rosita_core.measuring.memory import forget_peak, peak_mb
from rosita_core.stages.targets import TargetsSettings
from rosita_core.training.loop import total_steps
from tasks.cache.records import StageResult
from tasks.cache.shared_records import look_quickly, obtain
from tasks.home import Home
from tasks.host.hardware import ResolvedNumerics
from tasks.host.signals import nothing_worth_saving, signals_caught, stop_if_requested
from tasks.host.terminal import progress_display
from tasks.stages.catalogue import catalogue
from tasks.store.artifacts import Store, free_bytes

# Below it the run itself is about as quick as its miniature, which takes tens of seconds.
AUTOMATIC_STEPS = 500
# The artifact, MLflow's copy of it, and the copy that is being logged.
COPIES_OF_EXPORT = 3
# An unfinished stage keeps two checkpoints and writes a third: in each the weights, two moments,
# the best weights, and the gradients that rank.
MODELS_IN_CHECKPOINTS = 3 * 5
MB_PER_GB = 1e3
DATA, AUGMENT, SUMMARY = "data", "augment", "summary"

Results = dict[str, StageResult]


@dataclass(frozen=True)
class PreflightReport:
    """What the miniature showed.

    Attributes:
        stages: that ran.
        seconds: it took.
        peak_memory_mb: of the device, or of the process on a CPU.
        disk_mb: about what the run needs, checkpoints included.
        free_mb: on the disk of the home.
    """

    stages: tuple[str, ...]
    seconds: float
    peak_memory_mb: float
    disk_mb: float
    free_mb: float


def preflight_first(
    request: Request, numerics: ResolvedNumerics, wanted: bool | None
) -> PreflightReport | None:
    """Run the preflight where it is wanted and something is left to train; say so in a line.

    Args:
        wanted: None where it is worth it: with 500 or more optimizer steps left.

    Raises:
        PreflightError, PreflightRefused: where the run would fail.
    """
    if wanted is False:
        return None
    steps = steps_left(request)
    if steps == 0 or (wanted is None and steps < AUTOMATIC_STEPS):
        return None
    report = preflight(request, numerics)
    progress_display().line(
        f"preflight: passed in {report.seconds:.0f} s; peak memory "
        f"{report.peak_memory_mb:,.0f} MB; the run needs about {report.disk_mb:,.0f} MB, "
        f"{report.free_mb:,.0f} MB are free"
    )
    return report


def steps_left(request: Request) -> int:
    """Optimizer steps of the trainings that are not cached, at most.

    Artifacts are not verified: a damaged one is found, and computed again, by the run itself.
    """
    nodes = method(request)
    done = cached(request, look_quickly)
    rows = _real_rows(request, done)
    left = [node for node in nodes if takes_steps(node) and node.name not in done]
    return sum(total_steps(rows[_rows_from(node)], node.config.training) for node in left)


@task(name="preflight", task_run_name="preflight", cache_policy=NO_CACHE, persist_result=False)
def preflight(request: Request, numerics: ResolvedNumerics) -> PreflightReport:
    """Run every stage that is not cached in miniature.

    Raises:
        PreflightError, PreflightRefused: naming the stage, the recipe and the cause. The traceback
            is kept in `<home>/logs/preflight.txt`.
    """
    began = time.monotonic()
    nodes = method(request)
    done = cached(request, obtain)
    forget_peak(numerics.device)
    with (
        _scratch(request.home) as scratch,
        progress_display().prefixed("preflight"),
        nothing_worth_saving(),
        signals_caught(),
    ):
        flight = _Flight(request, numerics, scratch, nodes, done)
        for node in nodes:
            stop_if_requested()
            with named(node.name, request, node.config):
                flight.run(node)
        with named(SUMMARY, request, None):
            flight.summarize()
        needed = flight.disk_mb()
    peak = peak_mb(numerics.device)
    # The run reports a peak as well, which shall be its own.
    forget_peak(numerics.device)
    free = free_bytes(request.home) / BYTES_PER_MB
    if free < needed:
        raise PreflightRefused(
            f"{HOME_VARIABLE} must have at least {needed:,.0f} MB free for recipe "
            f"{request.recipe.name} by its preflight, got {free:,.0f} MB in {request.home}"
        )
    stages = tuple(node.name for node in nodes if node.name not in done)
    return PreflightReport(stages, time.monotonic() - began, peak, needed, free)


class _Flight:
    """The stages of a run in miniature, in a home of their own."""

    def __init__(
        self,
        request: Request,
        numerics: ResolvedNumerics,
        scratch: Path,
        nodes: Sequence[Node],
        done: Results,
    ) -> None:
        self.request = request
        self.numerics = numerics
        self.scratch = scratch
        self.nodes = nodes
        self.done = done
        self.store = Store(scratch)
        self.results: Results = {}
        self.limit = rows_wanted(request, nodes)

    def run(self, node: Node) -> None:
        """One stage: in miniature, or by its artifact where that is cached."""
        done = self.done.get(node.name)
        if done is not None and node.name == DATA:
            self.results[DATA] = self._shrunk(done)
        elif done is not None and not _of_rows(node):
            self._link(done.artifact)
            self.results[node.name] = done
        else:
            self.results[node.name] = self._computed(node, done is None)

    def _computed(self, node: Node, propose: bool) -> StageResult:
        rows = int(self.results[_rows_from(node)].metrics["rows_train"]) if node.inputs else 0
        config = miniature(node.config, self.request, self.limit, rows, propose)
        artifacts = {name: result.artifact for name, result in self.results.items()}
        stage = stage_of(replace(node, config=config), artifacts, self.numerics)
        context = context_of(
            *(node, self.request, self.numerics),
            home=str(self.scratch),
            parent_run=None,
            flow_run_id=None,
            cell=None,
            total_stages=len(self.nodes),
            position=len(self.results) + 1,
            # A stage that prunes saves itself once on the way, so that this is tried too.
            checkpoint_seconds=math.inf,
            checkpoint_steps=2,
            begin_anew=False,
        )
        result: StageResult = catalogue()[node.name].load().fn(stage, context, [])
        return result

    def _shrunk(self, done: StageResult) -> StageResult:
        source = Store(self.request.home).path(done.artifact)
        with self.store.workspace() as folder:
            facts = shrink_data(source, folder, self.limit, self.request.recipe.seed)
            artifact = self.store.adopt(folder)
        return done.model_copy(update={"artifact": artifact, "metrics": dict(done.metrics) | facts})

    def _link(self, artifact: str) -> None:
        target = self.store.path(artifact)
        # The same model may be the result of two stages.
        if not target.exists():
            target.parent.mkdir(parents=True)
            target.symlink_to(Store(self.request.home).path(artifact), target_is_directory=True)

    def summarize(self) -> None:
        """What follows the last stage: the summary, and the table that people see."""
        results = {name: (result, False) for name, result in self.results.items()}
        export_dir = self.store.path(self.results["export"].artifact)
        assessment = read_assessment(self.store.path(self.results["assess"].artifact))
        request = replace(self.request, home=self.scratch)
        comparison_rows(summarize(request, results, assessment, export_dir, SUMMARY, SUMMARY))

    def disk_mb(self) -> float:
        """About what the run needs: models as here, rows by their number, and its checkpoints."""
        real = _real_rows(self.request, self.done)
        total = largest = 0.0
        for name, result in self.results.items():
            if name in self.done:
                continue
            folder = self.store.path(result.artifact)
            written = disk_mb(folder)
            if name in (DATA, AUGMENT):
                parts = [
                    folder / part for part in ("splits", "encoded") if (folder / part).is_dir()
                ]
                growing = sum(map(disk_mb, parts)) if name == DATA else written
                written += growing * (real[name] / float(result.metrics["rows_train"]) - 1)
            config = self._node(name).config
            if isinstance(config, TargetsSettings):
                kept = float(result.metrics["rows"])
                # Where few rows are too large to keep, so are all.
                written *= real[_rows_from(self._node(name))] / kept if kept else 0.0
                if config.most_gb is not None and written > config.most_gb * MB_PER_GB:
                    written = 0.0
            total += written * (COPIES_OF_EXPORT if name == "export" else 1)
            largest = max(largest, written if takes_steps(self._node(name)) else 0.0)
        return total + MODELS_IN_CHECKPOINTS * largest

    def _node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)


def _real_rows(request: Request, done: Results) -> dict[str, int]:
    """Training rows of the run, before and after augmentation; the latter at most."""
    rows = (
        int(done[DATA].metrics["rows_train"])
        if DATA in done
        else read_rows(request.source).counts["train"]
    )
    most = rows * (1 + request.recipe.augment.copies)
    augmented = int(done[AUGMENT].metrics["rows_train"]) if AUGMENT in done else most
    return {DATA: rows, AUGMENT: augmented}


def _of_rows(node: Node) -> bool:
    """Whether what a stage makes is of its rows one by one, and of no use for fewer."""
    return node.name == AUGMENT or isinstance(node.config, TargetsSettings)


def _rows_from(node: Node) -> str:
    """The node whose rows a stage learns from."""
    return node.inputs.get("rows", DATA)


@contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    """A home for the length of a block, on the disk of the real one."""
    folder = Home(home).scratch / f"preflight-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
