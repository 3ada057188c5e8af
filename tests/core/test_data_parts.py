"""A file read some rows at a time: the same rows, and the same words for what is wrong with it."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from rosita_core.data.readers.files import read_table
from rosita_core.data.readers.parts import row_file

ROWS = [
    {"id": 7, "review": 'He said "no",\ntwice', "stars": "4", "other": "NA"},
    {"id": 8, "review": "naïve café \u2028 映画", "stars": "10", "other": None},
    {"id": 9, "review": " padded ", "stars": "4", "other": "nan"},
    {"id": 10, "review": "=1", "stars": "4", "other": ""},
    {"id": 11, "review": "last", "stars": "5", "other": "x"},
]
ENDINGS = ("csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "json", "parquet")


def write(path):
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    plain = [{name: str(value or "") for name, value in row.items()} for row in ROWS]
    if kind == "csv":
        raw = pd.DataFrame(plain).to_csv(index=False).encode()
    elif kind == "tsv":
        rows = [list(ROWS[0]), *(row.values() for row in plain)]
        raw = "\r\n".join("\t".join(row).replace("\n", " ") for row in rows).encode()
    elif kind == "jsonl":
        raw = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
    elif kind == "json":
        raw = json.dumps(ROWS).encode()
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize("ending", ENDINGS)
def test_parts_are_the_whole(tmp_path, ending, size):
    path = write(tmp_path / f"own.{ending}")
    file = row_file(path, "review", None, "stars", size)
    assert (file.rows, list(file.columns)) == (5, list(ROWS[0]))
    found = list(file.parts(size))
    # An array of JSON comes in parts, too.
    assert all(len(texts) == len(beside) <= size for texts, beside in found)
    texts = pd.concat([one for one, _ in found], ignore_index=True)
    pd.testing.assert_frame_equal(texts, read_table(path, "review", None, "stars", ()))
    beside = pd.concat([one for _, one in found], ignore_index=True)
    assert list(beside.columns) == list(ROWS[0])
    # As it stands there: a number stays one, also beside a null.
    as_written = ending.partition(".")[0] in ("jsonl", "json", "parquet")
    assert beside["id"].tolist() == [row["id"] if as_written else str(row["id"]) for row in ROWS]


FAULTS = {
    "own.csv": [
        b"",
        b"text,label\n",
        b"text,label\na,1\nb\n",
        b'text,label\na,1\n"b,1\n',
        b"text,label\na,1\n,1\n",
        b"text,label\na,1\nb,\n",
        b"text,label\na,1\n\xff,1\n",
        b"body,label\na,1\n",
        b"\xef\xbb\xbftext,label\n\xe9,1\n",
    ],
    "own.csv.gz": [
        gzip.compress(b"text,label\na,1\n", mtime=0)[:-9],
        gzip.compress(b"text,label\na,1\n\xff,1\n", mtime=0),
    ],
    "own.tsv": [b"text\tlabel\na\n", b"text\tlabel\n \t1\n", b"text\tlabel\na\t1\n\xff\t1"],
    "own.jsonl": [
        b"\n",
        b'{"text": "a", "label": 1}\n{"text"\n',
        b'{"text": "a", "label": 1}\n3\n',
        b'{"text": "a", "label": 1}\n{"text": null, "label": 1}\n',
        b'{"text": "a", "label": 1}\n{"text": "b"}\n',
        b'{"text": "a", "label": [1]}\n',
        b'{"text": 3, "label": 1}\n{"text": "a", "label": 1}\n',
        b'{"body": "a", "label": 1}\n{"other": "a", "label": 1}\n',
        b'{"text": "a", "label": 1}\n{"text": "\\ud800", "label": 1}\n',
    ],
    "own.parquet": [b"PAR1"],
    "own.xls": [b"text"],
}


@pytest.mark.parametrize(
    ("name", "content"),
    [(name, content) for name, contents in FAULTS.items() for content in contents],
)
def test_a_fault_is_told_in_the_same_words(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError) as whole:
        read_table(path, "text", None, "label", ())
    with pytest.raises(ValueError) as some:
        row_file(path, "text", None, "label", 1)
    assert str(some.value) == str(whole.value)


def test_what_stands_beside_columns_of_json_is_none(tmp_path):
    path = tmp_path / "own.json"
    columns = {"text": ["a", "b"], "label": ["x", "y"]}
    path.write_text(json.dumps({"version": "1.0", "about": {"by": "me"}, **columns, "few": ["z"]}))
    file = row_file(path, "text", None, "label", 1)
    assert list(file.columns) == ["text", "label"]
    texts = pd.concat([one for one, _ in file.parts(1)], ignore_index=True)
    pd.testing.assert_frame_equal(texts, read_table(path, "text", None, "label", ()))


def test_a_missing_file_and_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="path must be an existing file, got"):
        row_file(tmp_path / "own.csv", "text", None, None, 1)
    (tmp_path / "own.csv").write_text("text,a,a\nx,b,c\n")
    with pytest.raises(ValueError, match="must have each column once, got 'a' twice"):
        row_file(tmp_path / "own.csv", "text", None, None, 1)


def test_a_file_that_changes_while_it_is_read_is_told(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("text\na\nb\n")
    file = row_file(path, "text", None, None, 1)
    path.write_text("text\na\n")
    with pytest.raises(ValueError, match="must stay as it is, got 1 rows in place of 2"):
        list(file.parts(1))


def test_classes_of_a_parquet_file_are_their_names_in_every_part(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = {"text": ["a", "b", "c"], "label": [1, 0, 1]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "own.parquet")
    found = list(row_file(tmp_path / "own.parquet", "text", None, "label", 2).parts(2))
    assert [one["label"].tolist() for one, _ in found] == [["yes", "no"], ["yes"]]
    assert [one["label"].tolist() for _, one in found] == [["yes", "no"], ["yes"]]


def test_a_file_without_rows_has_the_classes_of_the_others(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    for name, rows in (("a", 2), ("b", 0)):
        some = {"text": ["t"] * rows, "label": [1] * rows}
        Dataset.from_dict(some, features=features).to_parquet(tmp_path / f"{name}.parquet")
    found = list(row_file(tmp_path, "text", None, "label", 2).parts(2))
    assert [label for one, _ in found for label in one["label"]] == ["yes", "yes"]


def test_a_folder_of_parquet_files_is_one_file(tmp_path):
    for name, texts in (("a", ["1", "2", "3"]), ("b", ["4"])):
        pq.write_table(pa.table({"text": texts}), tmp_path / f"{name}.parquet")
    found = row_file(tmp_path, "text", None, None, 2).parts(2)
    assert [one["text_a"].tolist() for one, _ in found] == [["1", "2"], ["3"], ["4"]]
    pq.write_table(pa.table({"text": ["5"], "more": [1]}), tmp_path / "c.parquet")
    with pytest.raises(
        ValueError, match="must have the same columns in each of its files, got others"
    ):
        row_file(tmp_path, "text", None, None, 2)
