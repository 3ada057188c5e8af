"""What surrounds a command: settings of Prefect, folders and modules, a reader that goes away."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from command_line import rosita
from typed_command import ROSITA, Home, RunRosita, environment

from flows.cli.options import recipe_names
from tasks.host.environment import WAITING, not_said, stand_in_for_a_user


def typed(
    *args: str, home: Path, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'{"rmdir $PWD; " if cwd else ""}exec "$0" "$@"', str(ROSITA), *args],
        env=environment(home, home / "prefect", env),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_settings_of_prefect_that_would_turn_the_cache_off(
    copied_home: Home, in_own_process: RunRosita
) -> None:
    names = ("PREFECT_TASKS_DISABLE_CACHING", "PREFECT_TASKS_REFRESH_CACHE")
    done = in_own_process(
        *("compress", "--recipe", "smoke", "--json"),
        home=copied_home.home,
        env=dict.fromkeys(names, "true"),
    )
    assert done.returncode == 0, done.stderr
    assert {stage["status"] for stage in json.loads(done.stdout)["stages"]} == {"cached"}


@pytest.mark.parametrize("name", WAITING)
def test_whoever_says_how_threads_wait_says_it_alone(name: str) -> None:
    assert not_said({}).items() >= WAITING.items()
    said = not_said({name: "own", "DO_NOT_TRACK": "0"})
    assert not said.keys() & {*WAITING, "DO_NOT_TRACK"}
    assert said["TOKENIZERS_PARALLELISM"] == "false"


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """As `rosita recipes | head -1`: no traceback, and the exit code of other commands."""
    reading, writing = os.pipe()
    os.close(reading)
    for command in (["recipes"], ["recipes", "--json"]):
        done = subprocess.run(
            [str(ROSITA), *command],
            env=environment(tmp_path, tmp_path),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
    os.close(writing)


def test_a_working_directory_that_was_removed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = typed("recipes", home=tmp_path, env={"ROSITA_HOME": ""}, cwd=gone)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "rosita: ROSITA_HOME must be an absolute path where the working directory was removed, "
        "got .rosita\n"
    )
    gone.mkdir()
    assert typed("recipes", home=tmp_path / "home", cwd=gone).returncode == 0


def test_a_module_of_a_common_name_on_the_path(tmp_path: Path) -> None:
    own = tmp_path / "tasks.py"
    own.touch()
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = typed("recipes", home=tmp_path / "home", env={"PYTHONPATH": path})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rosita: tasks must be the package in ")
    assert f"got {own}; take its folder out of PYTHONPATH" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_user_without_a_name_and_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    stand_in_for_a_user(tmp_path)
    assert (Path.home(), os.environ["USER"]) == (tmp_path, str(2**31 - 7))


def test_a_home_whose_databases_would_lie_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / "what?"
    done = rosita("plan", "--recipe", "smoke", home=home)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == f"rosita: ROSITA_HOME must be a path without ?, got {home}\n"


def test_the_version_and_a_short_help(tmp_path: Path) -> None:
    done = rosita("--version", home=tmp_path)
    assert (done.code, done.stdout) == (0, f"rosita {importlib.metadata.version('rosita')}\n")
    for command in ((), ("compress",)):
        short, long = (rosita(*command, option, home=tmp_path) for option in ("-h", "--help"))
        assert (short.code, short.stdout) == (0, long.stdout)


@pytest.mark.parametrize(
    ("command", "guess"),
    [
        (("comprss",), "'compress'"),
        (("compress", "--recipe", "dmeo"), "did you mean demo?"),
        (
            ("compress", "--recipe", "smoke", "--set", "width.keep_head=2"),
            "did you mean keep_heads?",
        ),
        (("grid", "--grid", "smoke-gird"), "did you mean smoke-grid?"),
    ],
)
def test_what_was_meant(command: tuple[str, ...], guess: str, tmp_path: Path) -> None:
    done = rosita(*command, home=tmp_path / "home")
    assert done.code == 2
    assert guess in done.stderr


def test_a_shell_completes_recipes() -> None:
    assert recipe_names("minilm-s") == ["minilm-sst2", "minilm-stsb"]
