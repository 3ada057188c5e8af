"""What a process that trains along is sent arrives as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from contexts import stage_context

from flows.method import method
from flows.preparation import prepare_request
from flows.recipes import load_recipe
from flows.stages import numerics_of, stage_of
from tasks import finetune_teacher
from tasks.data_parallel import Share


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
