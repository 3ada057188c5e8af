"""Laws of the stage key: what can change a result is in it, and what cannot is not."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tasks.cache import stage_key
from tasks.cache.source_closure import source_closure
from tasks.cache.stage_key import LIBRARIES, Stage, library_versions

PROJECT = Path(__file__).parents[2]
KERNELS = PROJECT / "rosita_core"
NUMERICS = {
    "device": "cpu",
    "precision": "fp32",
    "hardware": "AVX2",
    "deterministic": True,
    "threads": 2,
}


@dataclass(frozen=True)
class Constant:
    rate: float


@dataclass(frozen=True)
class Linear:
    rate: float


@dataclass(frozen=True)
class Settings:
    rate: float
    steps: int
    betas: tuple[float, ...]
    patience: float | None
    schedule: Constant | Linear
    names: dict[str, float]
    every_seconds: float = field(metadata={"in_key": False})


SETTINGS = Settings(2e-5, 3, (0.9, 0.999), None, Constant(1.0), {"b": 1.0, "a": 2.0}, 300.0)
CODE = ("rosita_core.compression.low_rank",)  # imports torch and nothing of its own
STAGE = Stage("student", CODE, SETTINGS, {"data": "d", "teacher": "t"}, NUMERICS)


def key(**changes: Any) -> str:
    return dataclasses.replace(STAGE, **changes).key


def key_with(**changes: Any) -> str:
    return key(config=dataclasses.replace(SETTINGS, **changes))


def test_how_a_value_is_written_does_not_count() -> None:
    assert key() == key_with(rate=0.00002)
    assert key_with(rate=1) == key_with(rate=1.0)
    assert key_with(betas=(1, 0)) == key_with(betas=(1.0, -0.0))
    assert key_with(patience=10) == key_with(patience=10.0)
    assert key_with(schedule=Constant(1)) == key()
    assert key_with(names={"a": 2, "b": 1}) == key()
    assert key(inputs={"teacher": "t", "data": "d"}) == key()


def test_what_cannot_change_the_result_does_not_count() -> None:
    assert key_with(every_seconds=1.0) == key()
    assert key(numerics=NUMERICS | {"threads": 8}) == key()
    on_first = key(numerics=NUMERICS | {"device": "cuda"})
    assert key(numerics=NUMERICS | {"device": "cuda:1"}) == on_first


def test_everything_else_counts() -> None:
    keys = {
        key(),
        key(name="depth"),
        key(code=("rosita_core.training.placement",)),
        key(inputs={"data": "d", "teacher": "u"}),
        key(inputs={"data": "t", "teacher": "d"}),
        key(inputs={"data": "d"}),
        key(numerics=NUMERICS | {"device": "cuda"}),
        key(numerics=NUMERICS | {"precision": "bf16"}),
        key(numerics=NUMERICS | {"hardware": "AVX512"}),
        key(numerics=NUMERICS | {"processes": 2}),
        key(numerics=NUMERICS | {"deterministic": False}),
        key_with(rate=3e-5),
        key_with(steps=4),
        key_with(betas=(0.999, 0.9)),
        key_with(patience=0.0),
        key_with(schedule=Linear(1.0)),
        key_with(names={"a": 1.0, "b": 2.0}),
    }
    assert len(keys) == 17


def test_another_version_of_a_library_counts_where_the_code_imports_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, installed = key(), stage_key._version
    for library, counts in (("torch", True), ("mlflow", False)):
        with monkeypatch.context() as changed:
            changed.setattr(
                "tasks.cache.stage_key._version",
                lambda name, other=library: "0.0" if name == other else installed(name),
            )
            assert (key() != before) == counts


def test_library_versions_are_those_installed_without_the_build() -> None:
    versions = library_versions(["torch", "transformers", "json", "sklearn"])
    assert set(versions) == {
        *("torch", "transformers", "tokenizers", "safetensors", "scikit-learn"),
    }
    for name, version in versions.items():
        assert importlib.metadata.version(name).split("+")[0] == version


def test_only_what_the_code_imports_counts() -> None:
    """A stage that does not compute with torch is the same on every CPU and GPU."""
    assert set(STAGE.components["libraries"]) == {"torch"}
    plain = dataclasses.replace(STAGE, code=("rosita_core.data.task_spec",))
    assert plain.components["libraries"] == plain.components["numerics"] == {}


def test_every_library_that_kernels_import_is_counted() -> None:
    files = [path.relative_to(PROJECT).with_suffix("") for path in KERNELS.rglob("*.py")]
    modules = [".".join(path.parts).removesuffix(".__init__") for path in files]
    imported = set(source_closure(modules).packages)
    assert imported - sys.stdlib_module_names == LIBRARIES.keys()


def test_a_module_that_is_named_in_a_text_is_imported_too() -> None:
    """Else it would be outside the keys of those that start or copy it."""
    for path in KERNELS.rglob("*.py"):
        tree = ast.parse(path.read_bytes())
        texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for text in (text for text in texts if re.fullmatch(r"rosita_core(\.\w+)+", text)):
            file = PROJECT.joinpath(*text.split(".")).with_suffix(".py")
            assert not file.is_file(), f"{path} names {text}"


def test_a_stage_has_no_key_before_its_inputs_are_known() -> None:
    stage = dataclasses.replace(STAGE, inputs={"data": "d", "teacher": None})
    assert stage.known_key is None
    assert stage.components["inputs"] == {"data": "d", "teacher": None}


def test_every_process_computes_the_same_key() -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1]); "
            + "import test_stage_key as made; print(made.STAGE.key)",
            str(Path(__file__).parent),
        ],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == key()


def test_values_without_a_canonical_form_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"config\.rate must be a finite number, got nan"):
        key_with(rate=float("nan"))
    with pytest.raises(ValueError, match=r"config\.schedule\.rate must be a finite number"):
        key_with(schedule=Constant(float("inf")))
    with pytest.raises(ValueError, match=r"config\.betas must be .* got set"):
        key_with(betas={0.9})
    with pytest.raises(ValueError, match="frozen dataclass, got dict"):
        key(config={"rate": 1.0})
    with pytest.raises(ValueError, match="got no precision"):
        key(numerics={"device": "cpu", "deterministic": True})
