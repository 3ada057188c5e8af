"""What a process that trains along is sent arrives as it was, and its part of the threads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contexts import stage_context

from flows.engine.checks import prepare_request
from flows.engine.nodes import numerics_of, stage_of
from flows.method import method
from flows.recipes.shipped import load_recipe
from tasks.cache.stage_key import Stage
from tasks.execution.parallel import Share
from tasks.execution.set_up import set_up
from tasks.execution.stage_inputs import StageInputs
from tasks.stages import finetune_teacher


@pytest.mark.parametrize("setting", ["none", "1", "4"])
def test_a_share_arrives_as_it_was_sent(setting: str, tmp_path: Path) -> None:
    changes = (f"kd_setting={setting}", "numerics.processes=2")
    request = prepare_request(load_recipe("smoke", changes), download=True)
    nodes = method(request)
    digests = {node.name: f"digest of {node.name}" for node in nodes}
    stages = [stage_of(node, digests, numerics_of(request.recipe)) for node in nodes]
    trained = [stage for stage in stages if stage.numerics["processes"] == 2]
    assert len(trained) >= 2
    for stage in trained:
        context = stage_context(tmp_path, None)
        for latest in (None, tmp_path / "step-7"):
            share = Share(finetune_teacher._train, stage, context, latest, 1, 2, tmp_path)
            assert "\n" not in share.line()
            assert Share.of(share.line()) == share


def test_the_processes_of_a_training_share_its_threads(tmp_path: Path) -> None:
    """And no other stage has fewer: latency is measured on all of them."""
    context = stage_context(tmp_path, None).model_copy(update={"threads": 4})
    before, found = torch.get_num_threads(), {}
    try:
        for processes in (1, 2, 3, 8):
            numerics = {
                "device": "cpu",
                "precision": "fp32",
                "hardware": "AVX2",
                "deterministic": False,
            }
            stage = Stage("width", ("k",), None, {}, numerics | {"processes": processes})
            set_up(StageInputs(stage, context))
            found[processes] = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert found == {1: 4, 2: 2, 3: 1, 8: 1}
