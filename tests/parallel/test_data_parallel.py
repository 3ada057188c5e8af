"""One training in two processes: the numbers of one, the same cuts, and stops that lose nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import scenarios
import torch
from contexts import stage_context
from interrupted import Stopped, StoppingAt

from rosita_core.compression.prune_record import PruneRecord, from_json
from rosita_core.training.checkpoints import NoCheckpoints
from rosita_core.training.group import ALONE, Group
from rosita_core.training.placement import Placement
from tasks.cache.stage_key import Stage
from tasks.execution.parallel import in_processes
from tasks.execution.stage_inputs import StageInputs

CPU = Placement("cpu", "fp32")
EXACT = [
    *("hard labels", "distilled and pruned", "accumulated", "authors", "one step"),
    *("kept", "kept and accumulated"),
]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> StageInputs:
    """A stage that asks for two processes."""
    home = tmp_path_factory.mktemp("parallel")
    scenarios.write_rows(home)
    scenarios.write_kept(home)
    numerics = {
        "device": "cpu",
        "precision": "fp32",
        "hardware": "AVX2",
        "deterministic": False,
        "processes": 2,
    }
    stage = Stage("width", ("rosita_core.stages.width",), None, {}, numerics)
    return StageInputs(stage, stage_context(home, None))


@pytest.fixture(scope="module")
def alone(work: StageInputs) -> dict[str, Any]:
    return scenarios.several(work, CPU, NoCheckpoints())


@pytest.fixture(scope="module")
def together(work: StageInputs) -> dict[str, Any]:
    done: dict[str, Any] = in_processes(scenarios.several, work, NoCheckpoints())  # type: ignore[assignment, arg-type]
    return done


def prunes_of(done: dict[str, Any]) -> tuple[PruneRecord, ...]:
    return from_json(done["trained"].documents["prunes"])


def children() -> set[psutil.Process]:
    """The processes that this one has started; other tests leave some."""
    return set(psutil.Process(os.getpid()).children())


@pytest.mark.parametrize("name", EXACT)
def test_two_processes_have_the_numbers_of_one(
    alone: dict[str, Any], together: dict[str, Any], name: str
) -> None:
    assert together["group"] == Group(0, 2)
    assert alone["group"] == ALONE
    one, two = alone[name], together[name]
    assert two["metrics"].keys() == one["metrics"].keys()
    assert len(one["metrics"]) >= 4
    for step, expected in one["metrics"].items():
        found = two["metrics"][step]
        assert found.keys() == expected.keys()
        for metric, value in expected.items():
            if metric != "train/examples_per_second":
                assert found[metric] == pytest.approx(value, rel=2e-4, abs=1e-5), (step, metric)
    assert two["messages"] == one["messages"]
    first, second = one["trained"], two["trained"]
    assert second.model.config.to_dict() == first.model.config.to_dict()
    for (key, weight), other in zip(
        first.model.state_dict().items(), second.model.state_dict().values(), strict=True
    ):
        # Adam divides by the size of the gradient, which lets tiny ones differ by a step.
        assert torch.allclose(weight, other, rtol=1e-2, atol=2e-3), key


@pytest.mark.parametrize("name", [name for name in EXACT if name != "hard labels"])
def test_two_processes_cut_the_same_heads_and_units(
    alone: dict[str, Any], together: dict[str, Any], name: str
) -> None:
    one, two = prunes_of(alone[name]), prunes_of(together[name])
    assert one
    for first, second in zip(one, two, strict=True):
        for part in ("step", "shape", "layers", "heads", "ranked_heads"):
            assert getattr(second, part) == getattr(first, part)
        for ours, theirs in zip(first.head_importance, second.head_importance, strict=True):
            assert theirs == pytest.approx(ours, rel=1e-2)
        # Another unit kept would change the share of what is kept.
        shares = second.ffn_importance_kept
        assert shares == pytest.approx(first.ffn_importance_kept, rel=1e-3)


def test_each_process_draws_the_dropout_of_its_own_rows(
    alone: dict[str, Any], together: dict[str, Any]
) -> None:
    one, two = alone["dropout"]["metrics"], together["dropout"]["metrics"]
    assert two.keys() == one.keys()
    assert two[1]["train/loss"] != pytest.approx(one[1]["train/loss"], rel=1e-3)
    seeds = {Group(rank, 4).seed(step) % 2**32 for rank in range(4) for step in range(100)}
    assert len(seeds) == 400


def test_a_stopped_training_goes_on_to_the_same_bits(
    together: dict[str, Any], work: StageInputs, tmp_path: Path
) -> None:
    checkpoints, before = StoppingAt(tmp_path, [7]), children()
    with pytest.raises(Stopped, match="at 7 of 16"):
        in_processes(scenarios.with_dropout, work, checkpoints)  # type: ignore[arg-type]
    assert children() == before
    done: dict[str, Any] = in_processes(scenarios.with_dropout, work, checkpoints)  # type: ignore[assignment, arg-type]
    whole = together["dropout"]
    assert done["messages"][0] == "goes on from step 7"
    for step, metrics in done["metrics"].items():
        assert metrics["train/loss"] == whole["metrics"][step]["train/loss"]
    assert list(done["metrics"]) == list(range(8, 17))
    expected = whole["trained"].model.state_dict()
    for name, weight in done["trained"].model.state_dict().items():
        assert torch.equal(weight, expected[name]), name


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (scenarios.killed, r"^process 2 of 2 ended with code -9: "),
        (scenarios.refused, r"^process 2 of 2 .* ValueError: rows must be there, got none$"),
    ],
)
def test_a_process_that_ends_fails_the_training_at_once(
    work: StageInputs, training: Any, said: str
) -> None:
    began, before = time.monotonic(), children()
    with pytest.raises(RuntimeError, match=said):
        in_processes(training, work, NoCheckpoints())
    assert time.monotonic() - began < 120
    assert children() == before
    assert not torch.distributed.is_initialized()
