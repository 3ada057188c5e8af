"""A stage's turn among machines: its result is fetched, or one of them computes and shares it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.cache.checkpoints import newest
from tasks.cache.documents import StageResult
from tasks.cache.records import inspect_record
from tasks.cache.shared_records import SharedStore, shared_store, without_damage
from tasks.home import Home
from tasks.host.logs import warn
from tasks.host.signals import stop_if_requested
from tasks.host.terminal import progress_display
from tasks.store.shared_files import SharedStoreError, UnusableEntry
from tasks.store.shared_lease import Lease, lease_seconds

POLL_SECONDS = 1.0
CHECKPOINT_POLL_SECONDS = 2.0
PATIENCE_SECONDS = 120.0
"""How long a shared store that does not answer keeps a stage waiting before it fails."""

logger = logging.getLogger(__name__)


class Turn:
    """One stage of one run, between the shared store and the home."""

    def __init__(self, shared: SharedStore, stage: str, key: str, again: bool) -> None:
        self._shared = shared
        self._stage = stage
        self._key = key
        self._again = again
        self._lease = Lease(shared.files, key, lease_seconds())
        self._computing = False
        self._published = False

    def publish(self, result: StageResult) -> None:
        """Share a result that is in the home now, unless it is shared already.

        The run goes on where that fails, since the result is safe in the home: a warning says so,
        and the next run that uses it tries again.
        """
        try:
            found, problem = self._shared.record(result.key, self._stage)
            if problem is not None:
                self._shared.set_aside(result.key, self._stage)
            if self._computing or found is None:
                self._shared.publish(result)
                self._published = True
                self._shared.drop_checkpoints(result.key)
        except (OSError, ValueError) as error:
            warn(
                f"stage {self._stage} is done, but its result could not be shared ({error}); "
                "the next run here that uses it tries again"
            )

    @contextmanager
    def taken(self) -> Iterator[None]:
        """The block runs when the result is in the home, or when nobody else computes it."""
        try:
            self._computing = self._wait()
            if not self._computing:
                yield
                return
            sender = _CheckpointSender(self._shared, self._stage, self._key)
            sender.start()
            try:
                yield
            finally:
                # What a stopped stage has saved last is what another machine goes on from.
                sender.stop(send_last=not self._published)
        finally:
            self._lease.release()

    def _wait(self) -> bool:
        """Whether the stage is to be computed here; else its result is in the home."""
        failing_since, told = None, ""
        while True:
            try:
                if not self._again and self._is_here():
                    return False
                if self._lease.try_take():
                    return self._still_missing()
                failing_since = None
                if self._lease.holder != told:
                    told = self._lease.holder
                    warn(f"stage {self._stage} is running on {told}; waiting for its result")
            except UnusableEntry:
                raise
            except SharedStoreError as error:
                self._lease.release()
                self._lease.forget_silence()
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > PATIENCE_SECONDS:
                    raise
                if told != str(error):
                    told = str(error)
                    warn(f"stage {self._stage} waits for the shared store: {error}")
            stop_if_requested()
            time.sleep(POLL_SECONDS)

    def _still_missing(self) -> bool:
        """With the lease: whether the result is still nowhere; what cannot be used is set aside."""
        if self._lease.took_over:
            warn(f"stage {self._stage} was left unfinished by {self._lease.took_over}")
        if not self._again:
            if self._is_here():
                self._lease.release()
                return False
            _, problem = self._shared.fetch(self._key, self._stage)
            if problem is not None:
                warn(
                    f"stage {self._stage} will run again: {problem}. What the shared store has was "
                    "set aside there"
                )
                self._shared.set_aside(self._key, self._stage)
        units = self._shared.fetch_checkpoint(self._key, self._stage, self._again)
        if units is not None:
            self._say(f"a checkpoint after {units:,} steps was fetched")
        return True

    def _is_here(self) -> bool:
        """Whether the result is in the home now, fetched if need be."""
        home = self._shared.home
        record, problem = inspect_record(home, self._key, self._stage)
        if problem is not None:
            record = without_damage(home, self._key, self._stage)
        if record is None:
            record, _ = self._shared.fetch(self._key, self._stage)
            if record is not None:
                self._say("its result was fetched")
        return record is not None

    def _say(self, what: str) -> None:
        progress_display().line(f"{self._stage}: {what} from {self._shared.files.url}")


@contextmanager
def shared_turn(home: Path, stage: str, key: str, again: bool) -> Iterator[Turn | None]:
    """A stage's turn; the block gets None where there is no shared store.

    Args:
        again: whether the stage is computed whatever there is.

    Raises:
        SharedStoreError: where the shared store does not answer for minutes.
    """
    shared = shared_store(home)
    if shared is None:
        yield None
        return
    turn = Turn(shared, stage, key, again)
    with turn.taken():
        yield turn


class _CheckpointSender(threading.Thread):
    """Shares the newest checkpoint of a running stage, beside it: training does not wait."""

    def __init__(self, shared: SharedStore, stage: str, key: str) -> None:
        super().__init__(name="shared-checkpoints", daemon=True)
        self._shared = shared
        self._stage = stage
        self._key = key
        self._folder = Home(shared.home).checkpoints_of(key)
        # What was fetched is there already.
        self._sent = newest(self._folder)
        self._over = threading.Event()
        self._told = False

    def run(self) -> None:
        while not self._over.wait(CHECKPOINT_POLL_SECONDS):
            self._send()

    def stop(self, send_last: bool) -> None:
        """End the thread; `send_last` shares what was saved since it looked."""
        self._over.set()
        self.join()
        if send_last:
            self._send()

    def _send(self) -> None:
        saved = newest(self._folder)
        if saved is None or saved == self._sent:
            return
        try:
            if self._shared.send_checkpoint(self._key, saved.path):
                self._sent = saved
        except OSError as error:
            logger.debug("checkpoint %s of %s: %s", saved.path.name, self._key, error)
            if not self._told:
                self._told = True
                warn(f"a checkpoint of stage {self._stage} could not be shared: {error}")
