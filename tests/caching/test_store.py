"""Laws of the artifact store: content decides the name, and damage never goes unnoticed."""

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks.store.artifacts import Store


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


FILES = {"weights.bin": b"0123456789", "tokenizer/vocab.txt": b"a\nb\n"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def damage(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_the_digest_depends_on_names_and_content_alone(store: Store, tmp_path: Path) -> None:
    first = store.put(fill(tmp_path / "a", FILES))
    assert first == store.put(fill(tmp_path / "b", dict(reversed(FILES.items()))))
    assert first == Store(tmp_path / "elsewhere").put(tmp_path / "a")
    assert first != store.put(fill(tmp_path / "c", FILES | {"weights.bin": b"0123456780"}))
    assert first != store.put(fill(tmp_path / "d", {"w.bin": b"0123456789"}))


def test_what_was_put_is_read_back_and_whole(store: Store, tmp_path: Path) -> None:
    digest = store.put(fill(tmp_path / "a", FILES))
    for name, content in FILES.items():
        path = store.path(digest) / name
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o222 == 0
    assert store.verify(digest) is None
    assert store.digests() == [digest]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("files/weights.bin", b"0123456788", "weights.bin has changed"),
        ("files/weights.bin", b"0123", "weights.bin has 4 bytes instead of 10"),
        ("files/weights.bin", None, "weights.bin is missing"),
        ("files/more.bin", b"x", "more.bin does not belong to the artifact"),
        ("manifest.json", None, "manifest.json is missing"),
        ("manifest.json", b'[["weights.bin", 1', "manifest.json is not readable JSON"),
        ("manifest.json", b"[]", "manifest.json does not have the digest of the artifact"),
    ],
)
def test_every_kind_of_damage_is_named(
    store: Store, tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    digest = store.put(fill(tmp_path / "a", FILES))
    path = store.path(digest).parent / name
    if content is None:
        path.unlink()
    else:
        path.touch()
        damage(path, content)
    assert store.verify(digest) == problem


def test_a_damaged_artifact_is_kept_aside_and_its_content_can_be_put_again(
    store: Store, tmp_path: Path
) -> None:
    digest = store.put(fill(tmp_path / "a", FILES))
    for number in (1, 2):
        damage(store.path(digest) / "weights.bin", b"broken")
        # Putting the content again repairs the artifact by itself.
        assert store.put(tmp_path / "a") == digest
        assert store.verify(digest) is None
        aside = store.root / "damaged" / f"{digest}-{number}" / "files" / "weights.bin"
        assert aside.read_bytes() == b"broken"
    store.set_aside(digest)
    assert store.verify(digest) == "the artifact is missing"
    assert store.set_aside(digest) is None


def test_a_block_that_raises_stores_nothing(store: Store) -> None:
    with pytest.raises(OSError, match="disk"), store.workspace() as folder:
        fill(folder, FILES)
        raise OSError("disk full")
    assert store.digests() == []
    assert list((store.root / "tmp").iterdir()) == []


def test_what_a_killed_process_was_making_goes_and_what_a_living_one_makes_stays(
    store: Store,
) -> None:
    code = (
        "import sys, time, pathlib\n"
        "from tasks.store.artifacts import Store\n"
        "with Store(pathlib.Path(sys.argv[1])).workspace() as folder:\n"
        "    (folder / 'half').write_bytes(b'half')\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.root.parent)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        with store.workspace() as own, store.workspace() as another:
            assert folder.is_dir() and own.is_dir() and another.is_dir()
        assert (folder / "half").read_bytes() == b"half"
        process.send_signal(signal.SIGKILL)
    with store.workspace():
        assert not folder.exists()
    assert list((store.root / "tmp").iterdir()) == []


def test_a_workspace_stays_where_folders_are_locked_on_each_machine_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, which passes on the locks of files: another machine has the folder's."""
    locked = fcntl.flock

    def on_nfs(descriptor: int, kind: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            locked(descriptor, kind)

    monkeypatch.setattr("tasks.store.workspaces.fcntl.flock", on_nfs)
    with store.workspace() as folder, store.workspace():
        fill(folder, FILES)
        with store.workspace():
            assert {path.name for path in folder.rglob("*") if path.is_file()}
        digest = store.adopt(folder)
    assert store.verify(digest) is None
    assert list((store.root / "tmp").iterdir()) == []


def test_many_writers_of_one_content_agree(store: Store, tmp_path: Path) -> None:
    fill(tmp_path / "a", FILES)
    digests: list[str] = []
    threads = [
        threading.Thread(target=lambda: digests.append(store.put(tmp_path / "a"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 8
    assert store.digests() == [digests[0]] == sorted(set(digests))
    assert store.verify(digests[0]) is None
    assert list((store.root / "tmp").iterdir()) == []


def test_provenance_lies_outside_the_digest(store: Store, tmp_path: Path) -> None:
    digest = store.put(fill(tmp_path / "a", FILES))
    one, two = "1" * 64, "2" * 64
    store.write_provenance(digest, {"stage_key": one, "seconds": 3})
    store.write_provenance(digest, {"stage_key": two})
    assert store.verify(digest) is None
    assert store.provenance(digest) == {
        one: {"stage_key": one, "seconds": 3},
        two: {"stage_key": two},
    }
    for wrong in ({"seconds": 3}, {"stage_key": "../../../k"}):
        with pytest.raises(ValueError, match="stage_key must be 64 hexadecimal digits"):
            store.write_provenance(digest, wrong)
    with pytest.raises(ValueError, match="must be in the store"):
        store.write_provenance("0" * 64, {"stage_key": one})


def test_the_manifest_lists_every_file(store: Store, tmp_path: Path) -> None:
    digest = store.put(fill(tmp_path / "a", FILES))
    manifest = json.loads((store.path(digest).parent / "manifest.json").read_text())
    assert {name: size for name, size, _ in manifest} == {
        name: len(content) for name, content in FILES.items()
    }


def test_what_is_no_artifact_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="at least one file"):
        store.put(tmp_path / "empty")
    fill(tmp_path / "linked", FILES)
    (tmp_path / "linked" / "link").symlink_to(tmp_path / "linked" / "weights.bin")
    with pytest.raises(ValueError, match="plain files only, got link"):
        store.put(tmp_path / "linked")
    with pytest.raises(ValueError, match="digest must be 64"):
        store.verify("../../etc")
    assert store.digests() == []


def test_content_that_is_stored_again_was_used_now(store: Store, tmp_path: Path) -> None:
    """Else an old artifact could be freed between its adoption and the record that names it."""
    digest = store.put(fill(tmp_path / "a", FILES))
    folder = store.path(digest).parent
    os.utime(folder, (0, 0))
    before = time.time()
    assert store.put(tmp_path / "a") == digest
    assert folder.stat().st_mtime >= before - 1


def test_content_that_is_freed_while_it_is_stored_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.put(fill(tmp_path / "a", FILES))
    verify, looks = Store.verify, iter((True, False))

    def freed_first(self: Store, asked: str) -> str | None:
        if next(looks):
            (self.root / asked).rename(tmp_path / "freed")
        return verify(self, asked)

    monkeypatch.setattr(Store, "verify", freed_first)
    assert store.put(tmp_path / "a") == digest
    assert verify(store, digest) is None
