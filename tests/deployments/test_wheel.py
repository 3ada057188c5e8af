"""The wheel, built as for a package index and installed where there is no checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml
from typed_command import environment

pytestmark = pytest.mark.deployments

ROOT = Path(__file__).parents[2]
SOURCES = (
    *("pyproject.toml", "setup.py", "README.md", "LICENSE"),
    *("flows", "tasks", "rosita_core", "deployments"),
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and the libraries of the one that tests run in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", ".env")
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        else:
            shutil.copyfile(ROOT / name, source / name)
    # A wheel made of the archive of sources: what an index has of both.
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source)
    shutil.rmtree(source)
    place = folder / "venv"
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    [wheel] = folder.glob("*.whl")
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel)
    # The folder alone: what it has of .pth files, the checkout among them, is not followed.
    paths = {"base": str(place), "platbase": str(place)}
    libraries = Path(sysconfig.get_path("purelib", vars=paths)) / "libraries.pth"
    libraries.write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return place


def _run(*command: object, cwd: Path | None = None, home: Path | None = None) -> str:
    variables = dict(os.environ) if home is None else environment(home, home / "prefect")
    variables.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(part) for part in command],
        env=variables,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_code_is_that_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import flows, rosita_core, tasks; "
        "print([one.__path__[0] for one in (flows, rosita_core, tasks)])"
    )
    said = _run(installed / "bin" / "python", "-c", code, cwd=tmp_path)
    assert said.count(str(installed)) == 3


def test_the_commit_of_a_checkout_around_the_environment_is_not_its_own(installed: Path) -> None:
    git = ("git", "-C", installed.parent, "-c", "user.name=any", "-c", "user.email=any@localhost")
    _run(*git, "init", "--quiet")
    _run(*git, "commit", "--quiet", "--allow-empty", "--message", "The user's own")
    said = _run(
        *(installed / "bin" / "python", "-c"),
        "from tasks.host.hardware import git_commit; print(git_commit())",
        cwd=installed,
    )
    assert said == "None\n"


def test_its_page_names_nothing_that_lies_in_the_repository_alone(installed: Path) -> None:
    code = "from importlib.metadata import metadata; print(metadata('rosita')['Description'])"
    page = _run(installed / "bin" / "python", "-c", code, cwd=installed)
    assert "# ROSITA" in page and "## Your own model and data" in page
    targets = re.findall(r"\]\(([^)]*)\)", page)
    assert targets and all(target.startswith("https://") for target in targets)


def test_commands_work(installed: Path, tmp_path: Path) -> None:
    home, rosita = tmp_path / "home", installed / "bin" / "rosita"
    compose = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text(encoding="utf-8"))
    image = compose["x-worker"]["image"]
    said = _run(rosita, "--version", cwd=tmp_path, home=home).split()
    assert said[0] == "rosita" and f":{said[1]}}}" in image
    plan = json.loads(_run(rosita, "plan", "--recipe", "smoke", "--json", cwd=tmp_path, home=home))
    assert {stage["status"] for stage in plan["stages"]} <= {"to run", "waits"}
    summary = json.loads(
        _run(rosita, "compress", "--recipe", "smoke", "--json", cwd=tmp_path, home=home)
    )
    assert all(stage["status"] == "completed" for stage in summary["stages"])
    text = "A film to remember."
    answer = json.loads(_run(rosita, "predict", text, "--json", cwd=tmp_path, home=home))
    assert answer["run_id"] == summary["run_id"]


def test_a_page_is_made_of_the_templates_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    records = ROOT / "tests" / "bench" / "results" / "kd-settings-demo" / "records"
    out = tmp_path / "report"
    asked = ("report", "--records", records, "--out", out, "--format", "html")
    _run(installed / "bin" / "rosita", *asked, cwd=tmp_path, home=tmp_path / "home")
    assert "</html>" in (out / "report.html").read_text(encoding="utf-8")


def test_the_files_of_an_operator_are_those_of_the_repository(
    installed: Path, tmp_path: Path
) -> None:
    target = tmp_path / "mine" / "deployments"
    rosita = installed / "bin" / "rosita"
    _run(rosita, "deployments", "--copy", target, cwd=tmp_path, home=tmp_path / "home")
    left_out = {"__init__.py", ".env"}
    expected = {
        path.relative_to(ROOT / "deployments"): path.read_bytes()
        for path in (ROOT / "deployments").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name not in left_out
    }
    assert Path("prefect.yaml") in expected and Path("compose.yaml") in expected
    found = {
        path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()
    }
    assert found == expected
