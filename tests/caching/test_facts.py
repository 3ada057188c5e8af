"""A fact is what would be found out again; whatever is wrong with it, it is found out again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.engine import nodes
from flows.recipes.shipped import load_recipe
from tasks.cache import facts
from tasks.host import hardware, put_off


@pytest.fixture
def looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process that only looks; the folder of its facts."""
    monkeypatch.setattr(put_off, "_looking", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rosita"


def asked(depends_on: Any = 1, value: Any = "yes") -> tuple[Any, bool]:
    """A fact, and whether it was found out now."""
    found: list[bool] = []

    def find_out() -> Any:
        found.append(True)
        return value

    return facts.fact("test", lambda: {"on": depends_on}, find_out), bool(found)


def test_a_fact_is_found_out_once(looking: Path) -> None:
    assert asked((1, 2), {"a": [1, None]}) == ({"a": [1, None]}, True)
    assert asked((1, 2), "another") == ({"a": [1, None]}, False)
    assert asked((1, 3), "another") == ("another", True)


def test_who_computes_neither_reads_nor_writes_facts(
    looking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(value="kept")
    monkeypatch.setattr(put_off, "_looking", False)
    assert asked(value="asked") == ("asked", True)
    assert asked(2) == ("yes", True)
    assert len(list(looking.iterdir())) == 1


def test_who_computes_takes_facts_that_decide_no_result(
    looking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(put_off, "_looking", False)
    found: list[int] = []
    for _ in range(2):
        assert facts.fact("test", dict, lambda: found.append(1) or "fits", harmless=True)
    assert found == [1]


def test_what_is_not_known_to_decide_it_keeps_nothing(looking: Path) -> None:
    assert facts.fact("test", lambda: None, lambda: 1) == 1
    assert not looking.exists()


def _flipped(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"yes", b"yea"))


def _of_another(path: Path) -> None:
    asked(2, "of another")
    other = next(one for one in path.parent.iterdir() if one != path)
    path.write_bytes(other.read_bytes())


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize("damage", [_flipped, _of_another, _a_folder, _a_pipe, _cut])
def test_a_damaged_fact_is_found_out_again(looking: Path, damage: Callable[[Path], None]) -> None:
    asked()
    damage(next(looking.iterdir()))
    assert asked() == ("yes", True)


def test_the_oldest_facts_go(looking: Path) -> None:
    for number in range(facts.MOST + 3):
        asked(number)
    assert len(list(looking.iterdir())) == facts.MOST
    assert asked(facts.MOST + 2) == ("yes", False)


def test_where_nothing_can_be_written_nothing_is_kept(
    looking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert asked() == asked() == ("yes", True)


def test_numerics_are_those_that_torch_says(looking: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("smoke", ())
    said = nodes.numerics_of(recipe)
    if hardware.surroundings() is None:
        pytest.skip("the machine has a GPU, or does not say what its CPU can")
    wanted = recipe.numerics
    assert said == hardware.resolve_numerics(
        wanted.device, wanted.precision, wanted.threads, wanted.deterministic
    )
    monkeypatch.setattr(nodes, "resolve_numerics", lambda *_: pytest.fail("torch was asked"))
    assert nodes.numerics_of(recipe) == said


@pytest.mark.parametrize("name", ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "LD_PRELOAD"])
def test_what_torch_reads_decides_numerics(
    looking: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = hardware.surroundings()
    monkeypatch.setenv(name, "default")
    assert before is None or hardware.surroundings() != before


def test_what_the_cpu_can_decides_numerics(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hardware.surroundings()
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: {"avx2", "another"})
    assert before is None or hardware.surroundings() != before
    monkeypatch.setattr(hardware, "_cpu_flags", set)
    assert hardware.surroundings() is None


def test_a_gpu_is_always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "GPUS", ("null",))
    assert hardware.surroundings() is None


def keys(home: Path, cache: Path, **variables: str) -> list[str | None]:
    """The keys of a plan in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from flows.cli import main; main()",
            "plan",
            "-r",
            "smoke",
            "--json",
        ],
        env={**os.environ, "ROSITA_HOME": str(home), "XDG_CACHE_HOME": str(cache), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return [stage["key"] for stage in json.loads(done.stdout)["stages"]]


def test_facts_give_the_keys_that_torch_gives(tmp_path: Path) -> None:
    home, cache = tmp_path / "home", tmp_path / "cache"
    default = {"ATEN_CPU_CAPABILITY": "default"}
    plain = keys(home, cache)
    assert keys(home, cache) == plain
    of_default = keys(home, cache, **default)
    assert of_default != plain
    assert keys(home, cache, **default) == of_default
    assert keys(home, tmp_path / "nowhere" / "no" / "cache") == plain
