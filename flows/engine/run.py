"""Running the stages of a recipe: each once, from the cache where it was computed before."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from prefect import State

from flows.engine.learning_curves import last_training, record_learning_curve
from flows.engine.nodes import stage_of
from flows.engine.prefect_loss import Failure
from flows.method import Node, method
from flows.recipes.request import Request
from tasks.cache.checkpoints import drop_checkpoints
from tasks.cache.locks import StageLocks
from tasks.cache.policy import stage_options
from tasks.cache.records import attempt_path, attempts, read_record, results_folder, to_disk
from tasks.cache.shared_turn import shared_turn
from tasks.cache.stage_key import Stage
from tasks.execution.attempt import Context, StageResult
from tasks.home import Home
from tasks.host.hardware import ResolvedNumerics
from tasks.host.logs import noted, warn
from tasks.host.signals import signals_caught, stop_if_requested, stop_requested
from tasks.host.terminal import progress_display
from tasks.host.wording import error_line
from tasks.stages.catalogue import catalogue, trainings
from tasks.store.artifacts import Store, free_bytes
from tasks.store.shared_files import SharedStoreError
from tasks.tracking.runs import Tracking

VERIFICATION_SECONDS = 30.0
"""More than reading a large artifact takes."""


class StageError(Failure):
    """A stage failed; the message names stage, attempt, recipe and where to look."""


class Run:
    """One flow run over the stages of one recipe.

    Attributes:
        states: Prefect's states of the stages that are done, for what comes after them.
        results: (result, whether it came from the cache) of the same stages.
        cell: `<grid>/<cell>` where the run is of a grid's cell.
    """

    cell: str | None = None

    def __init__(
        self,
        request: Request,
        numerics: ResolvedNumerics,
        tracking: Tracking,
        parent: str,
        flow_run_id: str,
    ) -> None:
        self.request = request
        self.numerics = numerics
        self.tracking = tracking
        self.parent = parent
        self.flow_run_id = flow_run_id
        self.nodes = method(request)
        self.store = Store(request.home)
        self.states: dict[str, State] = {}
        self.results: dict[str, tuple[StageResult, bool]] = {}

    def all_stages(self, again: frozenset[str]) -> None:
        """Run every stage or take it from the cache.

        A stage that fails stops those that read from it and no other.

        Args:
            again: names of stages that are computed whatever the cache says.

        Raises:
            StageError: naming every stage that failed, once the others are done.
        """
        failures: list[str] = []
        skipped: list[str] = []
        with signals_caught():
            for node in self.nodes:
                if not set(node.inputs.values()) <= set(self.states):
                    skipped.append(node.name)
                    continue
                artifacts = {name: result.artifact for name, (result, _) in self.results.items()}
                state = self.stage(node, artifacts, node.name in again)
                if not state.is_completed():
                    failures.append(self._failure(node.name, state))
                    if stop_requested():
                        # What follows is the signal's exception, which would hide it.
                        warn(failures[-1])
                stop_if_requested()
        if failures:
            rest = f"; not run for want of it: {', '.join(skipped)}" if skipped else ""
            raise StageError("; ".join(failures) + rest)

    def one_stage(self, name: str, artifacts: Mapping[str, str]) -> None:
        """Compute one stage again, from `artifacts` of the stages before it.

        Raises:
            StageError: naming the stage.
        """
        node = next(node for node in self.nodes if node.name == name)
        with signals_caught():
            state = self.stage(node, artifacts, again=True)
            if not state.is_completed():
                raise StageError(self._failure(name, state))

    def stage(self, node: Node, artifacts: Mapping[str, str], again: bool) -> State:
        """Run one stage, or take it from the cache, and record it."""
        stage = stage_of(node, artifacts, self.numerics)
        again = again and not self._done_in_this_run(stage)
        self._check_lock(stage)
        options = stage_options(self.request.home, stage) | {"refresh_cache": again}
        task = catalogue()[node.name].load().with_options(**options)
        context = self._context(node, again)
        upstream = [self.states[n] for n in dict.fromkeys(node.inputs.values()) if n in self.states]
        try:
            with shared_turn(self.request.home, node.name, stage.key, again) as turn:
                state: State = task(stage, context, upstream, return_state=True)
                if state.is_completed():
                    self._note(node.name, stage, context, state)
                    if turn is not None:
                        turn.publish(self.results[node.name][0])
        except SharedStoreError as error:
            raise StageError(
                f"stage {node.name} of recipe {self.request.recipe.name} could not start: {error}"
            ) from error
        return state

    def tell_hit(self, context: Context, name: str) -> None:
        """Say that a stage came from the cache."""
        progress_display().line(f"[{context.position}/{context.total_stages}] {name}: cached")

    def _done_in_this_run(self, stage: Stage) -> bool:
        """Whether this flow run has computed the stage already: Prefect retries a run as it was."""
        return any(
            made["key"] == stage.key
            and made["flow_run_id"] == self.flow_run_id
            and made["status"] == "completed"
            for made in attempts(self.request.home, stage.name)
        )

    def _check_lock(self, stage: Stage) -> None:
        """Prefect would go on without the cache where its key cannot be had, and say nothing."""
        folder = Home(self.request.home).locks
        try:
            folder.mkdir(parents=True, exist_ok=True)
            StageLocks(folder).is_locked(stage.key)
        except OSError as error:
            raise StageError(
                f"stage {stage.name} of recipe {self.request.recipe.name} could not start: its "
                f"lock in {folder} cannot be used: {error_line(error)}"
            ) from error

    def _note(self, name: str, stage: Stage, context: Context, state: State) -> None:
        result: StageResult = state.result()
        cached = state.name == "Cached"
        if not cached:
            self._settle(result)
        self.states[name], self.results[name] = state, (result, cached)
        if cached:
            self.tell_hit(context, name)
            self.tracking.record_cached(stage, result, context)
        if name in trainings():
            last = name == last_training([node.name for node in self.nodes])
            with noted(f"the learning curve of stage {name}"):
                record_learning_curve(self.tracking, self.parent, self.request.home, result, last)

    def _settle(self, result: StageResult) -> None:
        """Drop the checkpoints of a stage that the cache knows; a stage killed before goes on.

        Raises:
            StageError: where it does not, which Prefect passes over in silence.
        """
        home = self.request.home
        if read_record(home, result.key, result.stage)[0] is None:
            raise StageError(
                f"stage {result.stage} of recipe {self.request.recipe.name} is done, but its "
                f"result could not be written to {results_folder(home)}; "
                f"{free_bytes(home) / 1e6:,.0f} MB are free there"
            )
        to_disk(home, result.key)
        locks, holder = StageLocks(Home(home).locks), f"settling-{uuid.uuid4().hex}"
        # A run that waited for this result has the lock while it verifies it. Whoever has it for
        # longer is computing the stage again, and owns the checkpoints.
        if locks.acquire_lock(result.key, holder, acquire_timeout=VERIFICATION_SECONDS):
            try:
                drop_checkpoints(home, result.key)
            finally:
                locks.release_lock(result.key, holder)

    def _context(self, node: Node, again: bool) -> Context:
        recipe = self.request.recipe
        return Context(
            home=str(self.request.home),
            parent_run=self.parent,
            recipe_name=recipe.name,
            task=recipe.task,
            seed=recipe.seed,
            flow_run_id=self.flow_run_id,
            cell=self.cell,
            total_stages=len(self.nodes),
            position=self.nodes.index(node) + 1,
            device=self.numerics.device,
            precision=self.numerics.precision,
            threads=self.numerics.threads,
            checkpoint_seconds=recipe.checkpoint.every_seconds,
            checkpoint_steps=recipe.checkpoint.every_steps,
            begin_anew=again,
        )

    def _failure(self, stage: str, state: State) -> str:
        recipe, home = self.request.recipe.name, self.request.home
        cause = error_line(state.result(raise_on_failure=False))
        made = [r for r in attempts(home, stage) if r["flow_run_id"] == self.flow_run_id]
        if not made:
            return f"stage {stage} of recipe {recipe} could not start: {cause}"
        number = made[-1]["number"]
        record = attempt_path(home, stage, number)
        return (
            f"stage {stage} failed in attempt {number} of recipe {recipe}: {cause}; "
            f"its record with the traceback is {record}"
        )
