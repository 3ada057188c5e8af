"""Plug-ins: found by their files, loaded by name, and in no closure that does not use them."""

import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import rosita_core
from rosita_core.compression.allocation import Allocation
from rosita_core.compression.budgets.spending import Spending
from rosita_core.compression.criteria import Criterion
from rosita_core.compression.criteria.taylor import Taylor
from rosita_core.compression.repair import Repair
from rosita_core.compression.statistics import MeasuredCriterion
from rosita_core.distillation.objectives import DistillationLoss
from rosita_core.export import Format
from rosita_core.export.hugging_face import HuggingFace
from rosita_core.model.families import Family
from rosita_core.plug_ins import load, make, names
from tasks.cache.source_closure import source_closure
from tasks.stages.catalogue import STAGES

ROOMS = {
    "compression.criteria": (Criterion, MeasuredCriterion),
    "compression.allocation": (Allocation, Spending),
    "compression.repair": (Repair,),
    "distillation.objectives": (DistillationLoss,),
    "export": (Format,),
    "model.families": (Family,),
}
"""Room -> the Protocols of which its plug-ins fit one."""
HELPERS = {
    "export": {"checkpoint", "graph", "markdown", "model_card", "parity"},
    "model.families": {"bert_layout", "roberta_layout"},
}
EVERY = [(room, name) for room in ROOMS for name in names(room)]


@pytest.mark.parametrize("room", ROOMS)
def test_the_files_of_a_room_are_its_plug_ins(room):
    folder = Path(rosita_core.__file__).parent.joinpath(*room.split("."))
    helpers = HELPERS.get(room, set())
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"} - helpers
    assert {name.replace("-", "_") for name in names(room)} == files
    assert names(room) == tuple(sorted(names(room)))


@pytest.mark.parametrize(("room", "name"), EVERY)
def test_a_plug_in_is_a_frozen_dataclass_that_fits_its_room(room, name):
    kind = load(room, name)
    (protocol,) = (one for one in ROOMS[room] if one in kind.__mro__)
    wanted = {part for part in (*vars(protocol), *protocol.__annotations__) if part[0] != "_"}
    assert wanted
    for part in wanted:
        assert getattr(kind, part) is not getattr(protocol, part, None), part
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert kind.__module__ == f"rosita_core.{room}.{name.replace('-', '_')}"


def test_a_plug_in_is_loaded_by_its_outside_name():
    assert load("export", "hugging-face") is HuggingFace
    assert make("compression.criteria", "taylor", seed=1) == Taylor()
    with pytest.raises(ValueError, match=r"^criteria must be one of .*taylor, got 'tailor'$"):
        load("compression.criteria", "tailor")
    with pytest.raises(ValueError, match=r"^export must be one of hugging-face, onnx, onnx-int8, "):
        load("export", "model-card")


@pytest.mark.parametrize(("room", "name"), EVERY)
def test_a_plug_in_gets_what_it_has_fields_for(room, name):
    kind = load(room, name)
    wanted = {field.name: 1 for field in fields(kind)}
    assert make(room, name, **wanted, another=2) == kind(**wanted)
    for missing in wanted:
        given = {field: 1 for field in wanted if field != missing}
        with pytest.raises(ValueError, match=f"settings of {kind.__name__} .* got {missing}$"):
            make(room, name, **given)


@pytest.mark.parametrize("kind", STAGES)
def test_no_kernel_imports_a_plug_in(kind):
    """Else a new function in one of them would run every stage again."""
    plug_ins = {load(room, name).__module__ for room, name in EVERY}
    assert not plug_ins & set(source_closure(kind.code).modules)


@pytest.mark.parametrize(("room", "name"), EVERY)
def test_a_plug_in_imports_no_other_plug_in(room, name):
    own = load(room, name).__module__
    plug_ins = {load(*other).__module__ for other in EVERY} - {own}
    assert not plug_ins & set(source_closure([own]).modules)


def test_a_recipe_is_checked_without_torch_and_without_plug_ins():
    script = (
        "import sys, flows.recipes.schema; "
        "print([n for n in sys.modules if n == 'torch' or n.startswith('rosita_core.compression')])"
    )
    root = Path(rosita_core.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_training_knows_nothing_of_compression():
    for module in ("loop", "state", "optimizer", "hooks"):
        found = source_closure([f"rosita_core.training.{module}"]).modules
        assert not [name for name in found if "compression" in name or "distillation" in name]
