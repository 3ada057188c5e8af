"""Which stages' keys a change of the code changes: of those that use it, and of no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from pathlib import Path
from flows.engine.nodes import numerics_of, stage_of
from flows.method import method
from flows.recipes.request import check
from flows.recipes.shipped import load_recipe

def keys():
    found = {}
    kept = "width.epochs=2"
    rank = "compress.rank=magnitude"
    formats = "export.formats=[hugging-face, onnx]"
    for change in ("kd_setting=4", "kd_setting=none", rank, "method=stat", kept):
        recipe = load_recipe("smoke", (change, "data.limit_rows=64", formats))
        for node in method(check(recipe, Path("home").absolute())):
            artifacts = dict.fromkeys(node.inputs.values(), "0" * 64)
            stage = stage_of(node, artifacts, numerics_of(recipe))
            found[f"{node.name} {change}"] = stage.key
    return found

changed, before = {}, keys()
for file in sys.argv[1:]:
    path = Path(file)
    text = path.read_text()
    path.write_text(text + "\\n\\ndef never_called(x):\\n    return x\\n")
    after = keys()
    path.write_text(text)
    changed[file] = [name for name in before if before[name] != after[name]]
print(json.dumps({"stages": list(before), "changed": changed}))
"""
CRITERIA, TASKS = "rosita_core/compression/criteria", "tasks/stages"
WIDTHS = {"width kd_setting=4", "width compress.rank=magnitude", "width width.epochs=2"}
DISTILLING = {
    f"{stage} {change}"
    for stage in ("student", "depth", "width")
    for change in ("kd_setting=4", "compress.rank=magnitude", "width.epochs=2")
}
CHANGES = ("kd_setting=4", "kd_setting=none", "compress.rank=magnitude", "method=stat")
EXPORTS = {f"export {change}" for change in (*CHANGES, "width.epochs=2")}
USERS = {
    f"{CRITERIA}/taylor.py": {
        *("width kd_setting=4", "width width.epochs=2", "one-step kd_setting=none"),
    },
    f"{CRITERIA}/magnitude.py": {"width compress.rank=magnitude"},
    f"{CRITERIA}/random.py": set(),
    f"{CRITERIA}/pivots.py": {"cut method=stat"},
    "rosita_core/compression/repair/dense.py": {"cut method=stat"},
    "rosita_core/compression/measuring.py": {"measure method=stat"},
    "rosita_core/compression/statistics.py": {"measure method=stat", "cut method=stat"},
    "rosita_core/distillation/objectives/states.py": WIDTHS,
    "rosita_core/distillation/kept.py": {
        *DISTILLING,
        *("one-step kd_setting=none", "width-targets width.epochs=2"),
    },
    "rosita_core/stages/targets.py": {"width-targets width.epochs=2"},
    f"{TASKS}/keep_targets.py": {"width-targets width.epochs=2"},
    "rosita_core/measuring/engine_process.py": EXPORTS,
    "rosita_core/export/runtime/predict.py": EXPORTS,
    f"{TASKS}/prune_width.py": WIDTHS,
    f"{TASKS}/prune_depth.py": {one for one in DISTILLING if one.startswith("depth ")},
}
ROWS = "tasks/execution/row_inputs.py"
PRETRAINED = "rosita_core/model/locate.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """File -> the stages whose keys an unused function in it changes."""
    copy = tmp_path_factory.mktemp("source")
    for package in ("rosita_core", "tasks", "flows"):
        ignored = shutil.ignore_patterns("__pycache__", "pictures")
        shutil.copytree(PROJECT / package, copy / package, ignore=ignored)
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT, *USERS, ROWS, PRETRAINED],
        env=os.environ | {"PYTHONPATH": str(copy)},
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    assert len(document["stages"]) == 36
    return {file: set(stages) for file, stages in document["changed"].items()}


@pytest.mark.parametrize("file", USERS)
def test_a_change_changes_the_keys_of_those_that_use_it(
    found: Mapping[str, set[str]], file: str
) -> None:
    assert found[file] == USERS[file]


def test_a_stage_has_the_code_that_hands_it_its_inputs(found: Mapping[str, set[str]]) -> None:
    readers = {name.split()[0] for name in found[ROWS]}
    trainings = {"teacher", "student", "depth", "width-targets", "width", "one-step"}
    assert readers == trainings | {"augment", "measure", "cut", "assess", "export"}


def test_only_a_stage_that_reads_a_pretrained_model_knows_where_they_are(
    found: Mapping[str, set[str]],
) -> None:
    readers = {name.split()[0] for name in found[PRETRAINED]}
    assert readers == {"data", "teacher", "student", "augment", "export"}
