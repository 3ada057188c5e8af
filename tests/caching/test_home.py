"""The layout of a home is known in one module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.home import HOME_VARIABLE, Home, home_directory

ROOT = Path(__file__).parents[2]
# Of the store that machines share, which is another place with a layout of its own.
OTHER_PLACES = (
    # An address of MLflow's pages.
    "flows/engine/pages.py",
    "tasks/cache/shared_records.py",
    "tasks/store/shared_files.py",
    "tasks/store/shared_lease.py",
)


def places(home: Home) -> set[Path]:
    asked = {name: getattr(home, name) for name in dir(Home) if not name.startswith("_")}
    found = {place for place in asked.values() if isinstance(place, Path)} - {home.root}
    return found | {
        *(home.attempts_of("s"), home.checkpoints_of("k"), home.grid("g"), home.report("g")),
        *(home.run("r"), home.summary("r"), home.record_error("r")),
    }


def names_of(home: Home) -> set[str]:
    """What the folders and files directly in a home are called."""
    return {place.relative_to(home.root).parts[0] for place in places(home)}


def path_names(module: ast.Module) -> Iterator[str]:
    """Literals that a module joins to paths, or keeps as a constant to do so."""
    for node in ast.walk(module):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield from (side.value for side in (node.left, node.right) if is_text(side))
        elif isinstance(node, ast.Assign) and all(is_constant(name) for name in node.targets):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            yield from (value.value for value in values if is_text(value))
        elif is_text(node) and "/" in node.value and not any(map(str.isspace, node.value)):
            yield from node.value.split("/")


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_constant(target: ast.expr) -> bool:
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    return all(isinstance(name, ast.Name) and name.id.isupper() for name in names)


def test_no_other_module_knows_the_layout_of_a_home() -> None:
    # The library is called as its folder is.
    names = names_of(Home("/home")) - {"prefect"}
    assert {"store", "results", "runs", "mlflow.db", "tmp"} <= names
    known = {}
    for path in (*ROOT.glob("flows/**/*.py"), *ROOT.glob("tasks/**/*.py")):
        place = path.relative_to(ROOT).as_posix()
        if place not in ("tasks/home.py", *OTHER_PLACES):
            found = names & set(path_names(ast.parse(path.read_text(encoding="utf-8"))))
            known |= {place: found} if found else {}
    assert known == {}


def test_what_the_law_sees() -> None:
    module = ast.parse(
        'a = home / "store"\nRUNS = "runs"\nA, B = "locks", "x"\nf"{home}/mlflow.db"\n'
        'print("reports")\nstatus = "results"\n'
    )
    assert names_of(Home("/home")) & set(path_names(module)) == {
        *("store", "runs", "locks", "mlflow.db")
    }


def test_every_place_lies_in_the_home_and_is_one_of_its_own(tmp_path: Path) -> None:
    home = Home(tmp_path)
    found = places(home)
    assert all(place.is_relative_to(tmp_path) for place in found)
    assert list(tmp_path.iterdir()) == []
    fixed = [name for name in dir(Home) if isinstance(getattr(Home, name), property)]
    assert len({getattr(home, name) for name in fixed}) == len(fixed)


def test_summaries_are_those_of_the_runs(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for run in ("one", "two"):
        home.run(run).mkdir(parents=True)
    home.summary("two").touch()
    home.record_error("one").touch()
    assert home.summaries() == (home.summary("two"),)


def test_a_home_is_absolute_wherever_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Home("here") == Home(tmp_path / "here")
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    assert home_directory() == tmp_path / ".rosita"
    monkeypatch.setenv(HOME_VARIABLE, "there")
    assert home_directory() == tmp_path / "there"
