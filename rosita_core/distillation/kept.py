"""A teacher's outputs on disk, for a training that asks for them more than once.

A folder holds one file per group of rows, in their order, and `kept.json`, which says what is in
them. A file maps into memory; what a batch needs of it is copied once, into the padded batch.

Letters: N rows of a file, K their tokens, S kept states, B batch, T tokens, H hidden size,
C outputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from rosita_core.distillation.objectives import Outputs
from rosita_core.model.shape import Shape
from rosita_core.training.batches import Batch, sent

FACTS = "kept.json"
LOGITS, STARTS, STATES = "logits", "starts", "states"
LOGIT_BYTES, STATE_BYTES = 4, 2


@dataclass(frozen=True)
class KeptFacts:
    """What is kept.

    Attributes:
        rows: as many as were taught; 0 where nothing is kept.
        states: numbers of the teacher's hidden states that are kept.
        of_states: how many hidden states it has.
        files: of groups of rows.
    """

    rows: int
    states: tuple[int, ...]
    of_states: int
    files: int


def kept_bytes(teacher: Shape, rows: int, tokens: float, states: int) -> float:
    """What outputs take on disk, but for a few bytes a row.

    Args:
        teacher: whose outputs.
        rows, tokens: of all rows, special tokens included.
        states: how many hidden states are kept.
    """
    logits = LOGIT_BYTES * rows * teacher.frame.outputs
    return logits + STATE_BYTES * tokens * states * teacher.frame.hidden_size


def group_file(folder: Path, number: int) -> Path:
    """Where the outputs of a group of rows are kept."""
    return folder / f"rows-{number:06d}.safetensors"


def write_group(
    path: Path, logits_NC: torch.Tensor, lengths_N: np.ndarray, states_KSH: torch.Tensor
) -> None:
    """Keep the outputs of some rows.

    Args:
        path: of `group_file`.
        logits_NC: float32.
        lengths_N: tokens of each row; they add up to K.
        states_KSH: float16, the rows' tokens one after another; S may be 0.
    """
    starts = torch.from_numpy(np.concatenate(([0], np.cumsum(lengths_N))).astype(np.int64))
    save_file({LOGITS: logits_NC, STARTS: starts, STATES: states_KSH}, path)


def write_facts(folder: Path, facts: KeptFacts) -> None:
    """Say what lies in a folder; the last thing that is written."""
    (folder / FACTS).write_text(json.dumps(asdict(facts), sort_keys=True) + "\n", encoding="utf-8")


def read_kept(folder: Path) -> KeptOutputs | None:
    """What a folder holds; None where it says that nothing is kept."""
    values = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    facts = KeptFacts(**{**values, "states": tuple(values["states"])})
    if facts.rows == 0:
        return None
    return KeptOutputs(facts, (group_file(folder, number) for number in range(facts.files)))


class KeptOutputs:
    """Called with a batch, it gives what the teacher says of the batch's rows."""

    def __init__(self, facts: KeptFacts, files: Iterable[Path]) -> None:
        self._facts = facts
        self._groups = [_Group(path) for path in files]
        self._ends = np.cumsum([group.rows for group in self._groups])

    def __call__(self, batch: Batch) -> Outputs:
        """Logits (B, C) float32 and hidden states (B, T, H) float16, on the batch's device.

        Of the teacher's hidden states, those that are not kept are empty; where none is kept,
        there are none. Padding is 0.
        """
        assert batch.rows is not None, "kept outputs are found by the numbers of rows"
        places = np.searchsorted(self._ends, batch.rows, side="right")
        groups = [self._groups[place] for place in places]
        inside = [
            int(row) - int(self._ends[place]) + group.rows
            for row, place, group in zip(batch.rows, places, groups, strict=True)
        ]
        found = list(zip(groups, inside, strict=True))
        logits_BC = torch.from_numpy(np.stack([group.logits_NC[row] for group, row in found]))
        states = self._states(batch, found) if self._facts.states else ()
        return Outputs(sent(logits_BC, batch.input_ids.device), states)

    def _states(self, batch: Batch, found: list[tuple[_Group, int]]) -> tuple[torch.Tensor, ...]:
        hidden = found[0][0].states_KSH.shape[-1]
        size = (*batch.input_ids.shape, len(self._facts.states), hidden)
        states_BTSH = np.zeros(size, np.float16)
        for number, (group, row) in enumerate(found):
            start, end = group.starts[row], group.starts[row + 1]
            states_BTSH[number, : end - start] = group.states_KSH[start:end]
        placed_BTSH = sent(torch.from_numpy(states_BTSH), batch.input_ids.device)
        states = [placed_BTSH.new_empty(0)] * self._facts.of_states
        for place, state in enumerate(self._facts.states):
            states[state] = placed_BTSH[:, :, place]
        return tuple(states)


class _Group:
    """A file, mapped into memory: nothing is read before it is asked for."""

    def __init__(self, path: Path) -> None:
        tensors = load_file(path)
        self.logits_NC: np.ndarray = tensors[LOGITS].numpy()
        self.states_KSH: np.ndarray = tensors[STATES].numpy()
        self.starts: np.ndarray = tensors[STARTS].numpy()
        self.rows = len(self.logits_NC)
