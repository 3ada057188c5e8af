"""Rows that the `datasets` library keeps: shards, saved data sets, names of classes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from rosita_core.data.readers.files import (
    DEV_SPLITS,
    TRAIN_SPLITS,
    class_order,
    normalize,
    read_table,
    table_files,
)
from rosita_core.data.sources import source_digest

NAMES = ["worse", "neutral", "better"]


def rows(count: int, first: int = 0, names: list[str] = NAMES) -> Dataset:
    numbers = range(first, first + count)
    return Dataset.from_dict(
        {"text": [f"text {n}" for n in numbers], "label": [n % len(names) for n in numbers]},
        features=Features({"text": Value("string"), "label": ClassLabel(names=names)}),
    )


def texts(path: Path, splits: tuple[str, ...] = TRAIN_SPLITS) -> list[str]:
    found: list[str] = read_table(path, "text", None, "label", splits)["text_a"].tolist()
    return found


def shards(folder: Path, **splits: list[Dataset]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, parts in splits.items():
        for number, part in enumerate(parts):
            part.to_parquet(folder / f"{split}-{number:05}-of-{len(parts):05}.parquet")
    return folder


def test_shards_are_read_in_order_and_each_split_for_itself(tmp_path: Path) -> None:
    hub = shards(
        tmp_path / "a [b] *" / "data",
        train=[rows(3), rows(2, 3), rows(4, 5)],
        validation=[rows(2, 9)],
        test=[rows(2, 11)],
    )
    for folder in (hub, hub.parent):
        assert texts(folder) == [f"text {n}" for n in range(9)]
        assert texts(folder, DEV_SPLITS) == ["text 9", "text 10"]
    assert texts(hub / ".." / "data") == texts(hub)
    # What a split's name is not in is one split.
    plain = shards(tmp_path / "plain", part=[rows(3), rows(2, 3)])
    (plain / "test.txt").write_text("about")
    assert texts(plain) == texts(plain, DEV_SPLITS) == texts(plain, ()) == texts(hub)[:5]
    parts = hub.parent.parent / "named" / "train"
    shards(parts, part=[rows(3)])
    assert texts(parts) == texts(parts.parent) == texts(hub)[:3]


def test_a_saved_data_set_and_its_splits(tmp_path: Path) -> None:
    rows(5).save_to_disk(tmp_path / "one", num_shards=2)
    both = DatasetDict(train=rows(5), validation=rows(2, 5), test=rows(1))
    both.save_to_disk(tmp_path / "both")
    assert texts(tmp_path / "one") == texts(tmp_path / "both") == [f"text {n}" for n in range(5)]
    assert texts(tmp_path / "both", DEV_SPLITS) == ["text 5", "text 6"]
    assert texts(tmp_path / "both" / "test", DEV_SPLITS) == ["text 0"]


def saved(folder: Path) -> Path:
    rows(6).save_to_disk(folder / "saved")
    return folder / "saved"


def parquet(folder: Path) -> Path:
    rows(6).to_parquet(folder / "own.parquet")
    return folder / "own.parquet"


@pytest.mark.parametrize("make", [saved, parquet, lambda f: shards(f / "s", train=[rows(6)])])
def test_names_of_classes_are_those_of_the_file_in_its_order(tmp_path: Path, make: Any) -> None:
    raw = read_table(make(tmp_path), "text", None, "label", TRAIN_SPLITS)
    assert class_order(raw["label"]) == tuple(NAMES)
    assert raw["label"].tolist() == NAMES * 2
    table = normalize(raw, "classification", class_order(raw["label"]))
    assert table.frame["label"].tolist() == [0, 1, 2] * 2


def test_another_file_may_have_its_classes_in_another_order_or_spelled_out(tmp_path: Path) -> None:
    rows(3, names=NAMES[::-1]).to_parquet(tmp_path / "dev.parquet")
    (tmp_path / "dev.csv").write_text("text,label\na,better \nb,neutral\nc,worse\n")
    for dev in ("dev.parquet", "dev.csv"):
        raw = read_table(tmp_path / dev, "text", None, "label", DEV_SPLITS)
        assert normalize(raw, "classification", tuple(NAMES)).frame["label"].tolist() == [2, 1, 0]


def test_a_row_without_a_class_is_null(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=NAMES)})
    Dataset.from_dict({"text": ["a", "b"], "label": [1, -1]}, features=features).to_parquet(
        tmp_path / "own.parquet"
    )
    with pytest.raises(ValueError, match="must not be null, got null in row 2"):
        texts(tmp_path / "own.parquet")


def test_notes_that_datasets_cannot_read_are_a_one_line_error(tmp_path: Path) -> None:
    table = pq.read_table(parquet(tmp_path))
    for notes in (b"{", b'{"info": {"features": {"label": {"_type": "Later"}}}}'):
        changed = table.replace_schema_metadata({b"huggingface": notes})
        pq.write_table(changed, tmp_path / "own.parquet")
        with pytest.raises(ValueError, match="with columns that datasets reads, got") as caught:
            texts(tmp_path / "own.parquet")
        assert "\n" not in str(caught.value)


def test_wrong_folders_are_one_line_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shards(tmp_path / "some", train=[rows(2)], notes=[rows(1)])
    shards(tmp_path / "tested", train=[rows(2)], test=[rows(1)])
    DatasetDict(a=rows(1), b=rows(1)).save_to_disk(tmp_path / "ab")
    rows(3).rename_column("text", "body").save_to_disk(tmp_path / "body")
    shards(tmp_path / "other", part=[rows(2), rows(2, names=NAMES[:2])])
    for folder, splits, message in (
        ("empty", TRAIN_SPLITS, "path must be a file, a folder of Parquet files or a data set"),
        ("some", TRAIN_SPLITS, "that all name their split or none, got none in notes-00000"),
        ("tested", DEV_SPLITS, "path must be a folder with the split validation, got train, test"),
        ("tested", (), "path must be a folder with one split, got train, test in"),
        ("ab", TRAIN_SPLITS, "path must be a folder with the split train, got a, b in"),
        ("body", TRAIN_SPLITS, r"\(body, label\), got 'text' \(no such column\)"),
        ("other", TRAIN_SPLITS, "must have the columns and classes of"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            texts(tmp_path / folder, splits)
        assert "\n" not in str(caught.value)


def test_whatever_a_damaged_folder_holds_is_one_line(tmp_path: Path) -> None:
    draw = random.Random(0)
    folder = saved(tmp_path)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for _ in range(20):
            start = draw.randrange(len(whole))
            change = draw.choice(
                [b"", b"\x00", b"{", b"[1]", b"null", bytes([draw.randrange(256)])]
            )
            path.write_bytes(whole[:start] + change + whole[start + draw.randrange(1, 9) :])
            for read in (texts, lambda f: table_files(f, TRAIN_SPLITS)):
                try:
                    read(folder)
                except ValueError as error:
                    assert "\n" not in str(error)
        path.write_bytes(whole)
    for name, content in (
        ("state.json", "[]"),
        ("state.json", '{"_data_files": 3}'),
        ("dataset_info.json", "3"),
        ("dataset_dict.json", "{}"),
        ("dataset_dict.json", '{"splits": 3}'),
    ):
        before = (folder / name).read_bytes() if (folder / name).is_file() else None
        (folder / name).write_text(content)
        with pytest.raises(ValueError, match="path must be a data set saved by datasets, got"):
            texts(folder)
        if before is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(before)
    assert len(texts(folder)) == 6


def digest(train: Path, dev: Path | None = None) -> str:
    own = None if dev is None else str(dev)
    return source_digest("files", "custom", None, str(train), own, ("films",))


def test_the_digest_of_a_folder_follows_what_is_read_of_it(tmp_path: Path) -> None:
    hub = shards(tmp_path / "hub", train=[rows(3), rows(2, 3)], test=[rows(1)])
    first = digest(hub)
    (hub / "README.md").write_text("about")
    rows(2).to_parquet(hub / "test-00000-of-00001.parquet")
    assert digest(hub) == first
    rows(2, 4).to_parquet(hub / "train-00001-of-00002.parquet")
    assert digest(hub) != first
    saved_first = digest(saved(tmp_path))
    (tmp_path / "saved" / "cache-1.arrow").write_bytes(b"of some map")
    assert digest(tmp_path / "saved") == saved_first
    about = tmp_path / "saved" / "dataset_info.json"
    renamed = json.loads(about.read_text())
    renamed["features"]["label"]["names"] = ["a", "b", "c"]
    about.write_text(json.dumps(renamed))
    assert digest(tmp_path / "saved") != saved_first


def test_a_file_that_moves_from_train_to_dev_is_other_data(tmp_path: Path) -> None:
    one = shards(tmp_path / "one", part=[rows(2), rows(2, 2)])
    dev = shards(tmp_path / "dev", part=[rows(2, 4)])
    before = digest(one, dev)
    moved = (one / "part-00001-of-00002.parquet").rename(dev / "part-00000-of-00000.parquet")
    assert moved.is_file()
    assert digest(one, dev) != before
