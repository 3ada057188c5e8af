"""`rosita export --push-to-hub`: a model on a hub of this machine, whole, or a line and nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import rosita
from huggingface_hub import ModelCard, constants
from model_hub import Hub, model_hub
from typed_command import Home

NAME = "team/tiny-reviews"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, which the command takes for the only one, and its token in the environment."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with model_hub({}, TOKEN) as made:
        monkeypatch.setattr(constants, "ENDPOINT", made.url)
        yield made


def test_what_the_hub_has_then_is_the_whole_export(smoke_home: Home, tmp_path: Path) -> None:
    target = tmp_path / "model"
    with model_hub({}, TOKEN) as hub:
        said = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        done = smoke_home.run("export", str(target), "--push-to-hub", NAME, "--json", env=said)
    assert done.returncode == 0, done.stderr
    assert f'"hub": "{hub.url}/{NAME}"' in done.stdout
    files = {path.name: path.read_bytes() for path in target.iterdir()}
    assert hub.models == {NAME: files}
    assert hub.private == {NAME}
    exported = {path.name for path in Path(smoke_home.summary["export_dir"]).iterdir()}
    assert exported == set(files)
    card = ModelCard(files["README.md"].decode())
    assert f'folder = "{NAME}"' in card.text
    assert card.data.pipeline_tag == "text-classification"
    [result] = card.data.eval_results
    assert result.metric_value == smoke_home.summary["student"]["score"]
    assert TOKEN not in done.stdout + done.stderr
    written = (path for path in smoke_home.home.rglob("*") if path.is_file())
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_a_folder_is_not_needed(smoke_home: Home, hub: Hub) -> None:
    done = rosita("export", "--push-to-hub", NAME, home=smoke_home.home)
    assert done.code == 0, done.stderr
    assert done.stdout.startswith(f"{hub.url}/{NAME}: ")
    assert "model.safetensors" in hub.models[NAME]


def test_hidden_files_stay_here(smoke_home: Home, hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(smoke_home.summary["export_dir"], folder)
    (folder / ".env").write_text("PASSWORD=secret")
    given = ("--model", str(folder), "--push-to-hub", NAME)
    done = rosita("export", *given, home=smoke_home.home)
    assert done.code == 0, done.stderr
    assert ".env" not in hub.models[NAME] and "model.safetensors" in hub.models[NAME]


def refusal(home: Path, target: Path, hub: Hub, name: str = NAME, *further: str) -> str:
    """The line that ends the command; nothing is written here or there."""
    done = rosita("export", str(target), "--push-to-hub", name, *further, home=home)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("rosita: ") and done.stderr.count("\n") == 1
    assert not target.exists() and hub.models == {}
    assert not [request for request in hub.asked if request.startswith("POST")]
    return done.stderr.removeprefix("rosita: ").strip()


def test_it_is_refused_before_anything_is_written(
    smoke_home: Home, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = (smoke_home.home, tmp_path / "model", hub)
    message = "push_to_hub must be a repository such as team/model, got 'a/b/c'"
    assert refusal(*place, "a/b/c") == message
    message = "format must be hugging-face with --push-to-hub, got onnx"
    assert refusal(*place, NAME, "--format", "onnx") == message
    with monkeypatch.context() as changed:
        changed.delenv("HF_TOKEN")
        assert refusal(*place) == "push_to_hub must have a token in HF_TOKEN, got none"
    with monkeypatch.context() as changed:
        changed.setenv("HF_TOKEN", "hf_other")
        message = f"HF_TOKEN must be a token that the hub at {hub.url} takes, got status 401"
        assert refusal(*place) == message
    with monkeypatch.context() as changed:
        changed.setattr(constants, "HF_HUB_OFFLINE", True)
        message = "push_to_hub must be able to ask the hub, got HF_HUB_OFFLINE=1"
        assert refusal(*place) == message
    with monkeypatch.context() as changed:
        changed.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        assert refusal(*place).startswith("push_to_hub must reach the hub at http://127.0.0.1:9, ")
    done = rosita("export", home=smoke_home.home)
    assert (done.code, done.stdout) == (2, "")
    assert "folder must be given where there is no --push-to-hub, got none" in done.stderr


def test_what_the_hub_does_not_take_is_one_line(smoke_home: Home, hub: Hub) -> None:
    hub.full = True
    done = rosita("export", "--push-to-hub", NAME, home=smoke_home.home)
    assert done.code == 1
    assert done.stderr.splitlines()[-1].startswith(f"rosita: the hub does not take {NAME}: ")
    assert TOKEN not in done.stderr
