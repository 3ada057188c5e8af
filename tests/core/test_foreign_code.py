"""No loader runs what lies in a folder that it reads: the source is searched for one that would."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN_CODE = "tasks/tracking/served_model.py"
"""It serves a checkpoint of ours, whose model code lies beside it, in a process of its own."""
RUN_CODE = {
    *("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"),
    *("torch.load", "torch.hub", "yaml.load", "yaml.unsafe_load", "transformers.pipeline"),
    *("eval", "exec", "pandas.read_pickle", "pd.read_pickle"),
}
CHECKED = {"numpy.load": "allow_pickle", "np.load": "allow_pickle"}


def complaints(tree: ast.AST) -> Iterator[str]:
    """What a module does that would run code from a file that it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in RUN_CODE)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in (str(node.module), *names) if name in RUN_CODE)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            false = {k.arg for k in node.keywords if ast.unparse(k.value) == "False"}
            by_folder = called.startswith("Auto") and called.endswith(".from_pretrained")
            needed = "trust_remote_code" if by_folder else CHECKED.get(called)
            if called in RUN_CODE or (needed is not None and needed not in false):
                yield called


def test_no_loader_runs_code_of_what_it_loads() -> None:
    found = {}
    for package in ("rosita_core", "tasks", "flows", "deployments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            said = list(complaints(ast.parse(path.read_text(encoding="utf-8"))))
            if said:
                found[path.relative_to(ROOT).as_posix()] = said
    assert found.pop(OWN_CODE) == [
        "AutoTokenizer.from_pretrained",
        "AutoModelForSequenceClassification.from_pretrained",
    ]
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "AutoTokenizer.from_pretrained(folder)",
        "AutoModel.from_pretrained(folder, trust_remote_code=True)",
        "AutoModel.from_pretrained(folder, trust_remote_code=trusted)",
        "np.load(path)",
        "torch.load(path)",
        "import pickle",
        "from transformers import pipeline",
        "def f():\n    import torch.hub",
    ],
)
def test_what_the_law_sees(source: str) -> None:
    assert list(complaints(ast.parse(source)))
