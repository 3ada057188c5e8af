"""The user's own files: every format reads to the same frame, every fault names its place."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from rosita_core.class_names import labels_to_index
from rosita_core.data.readers import files
from rosita_core.data.readers.files import normalize


def read_table(path, text_a, text_b, label):
    return files.read_table(path, text_a, text_b, label, ("train",))


ROWS = [
    {"review": 'He said "no", twice', "other": "NA", "stars": "4"},
    {"review": "naïve café 映画", "other": "null", "stars": "10"},
    {"review": " padded ", "other": "nan", "stars": "4"},
]


def write(path, rows):
    frame = pd.DataFrame(rows)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".tsv":
        lines = ["\t".join(frame.columns)] + ["\t".join(row.values()) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "CSV"])
def test_every_format_reads_to_the_same_frame(tmp_path, ending):
    path = write(tmp_path / f"data.{ending.lower()}", ROWS).rename(tmp_path / f"own.{ending}")
    raw = read_table(path, "review", "other", "stars")
    assert list(raw.columns) == ["text_a", "text_b", "label"]
    assert raw["text_a"].tolist() == [row["review"] for row in ROWS]
    assert raw["text_b"].tolist() == ["NA", "null", "nan"]
    assert raw["label"].tolist() == ["4", "10", "4"]
    assert list(read_table(path, "review", None, None).columns) == ["text_a"]


def test_csv_keeps_line_breaks_inside_quotes_and_skips_blank_lines(tmp_path):
    path = tmp_path / "own.csv"
    path.write_bytes(b'\xef\xbb\xbftext,label\r\n"two\nlines",a\r\n\r\nplain,b\r\n')
    raw = read_table(path, "text", None, "label")
    assert raw["text_a"].tolist() == ["two\nlines", "plain"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_a_text_may_be_as_long_as_a_book(tmp_path, ending):
    texts = ["word " * 200_000 + "end", "word " * 30_000 + "end"]
    path = write(tmp_path / f"own.{ending}", [{"text": text, "label": "a"} for text in texts])
    assert read_table(path, "text", None, "label")["text_a"].tolist() == texts


def test_tsv_quotes_are_characters(tmp_path):
    path = tmp_path / "own.tsv"
    path.write_text('text\tlabel\n"open quote\ta\nnext\tb\n')
    assert read_table(path, "text", None, "label")["text_a"].tolist() == ['"open quote', "next"]


def test_a_blank_line_of_a_single_column_is_an_empty_text_not_nothing(tmp_path):
    path = tmp_path / "own.tsv"
    path.write_text("text\none\n\nthree\n")
    with pytest.raises(ValueError, match="must not be empty, got '' in row 2"):
        read_table(path, "text", None, None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.txt", b"text,label\na,1\n", "path must end in one of .csv, .tsv, .jsonl, .parquet"),
        ("own.csv", None, "path must be an existing file"),
        ("own.csv", b"", "at least 1 row, got an empty file"),
        ("own.csv", b"text,label\n", "at least 1 row, got 0"),
        ("own.csv", b"body,label\na,1\n", r"\(body, label\), got 'text' \(no such column\)"),
        ("own.csv", b"text,text,label\na,b,1\n", r"got 'text' \(more than one\)"),
        ("own.csv", b"text,label\na,1\nb\n", "2 fields in each row, got 1 in line 3"),
        ("own.csv", b'text,label\na,1\n"b,1\nc,1\n', "must be CSV, got line 4"),
        ("own.csv", b"text,label\na,1\n  ,1\n", "must not be empty, got '  ' in row 2"),
        ("own.csv", b"text,label\na,1\nb,\n", r"label \('label'\) must not be empty, .* in row 2"),
        (
            "own.csv",
            "text,label\na,1\nb,\u00a0\u200b\n".encode(),
            r"label \('label'\) must not be empty, .* in row 2",
        ),
        ("own.csv", b"text,label\na,1\nb\xff,1\n", "UTF-8, got byte 0xff in line 3"),
        ("own.tsv", b"text\tlabel\na\t1\nb\t1\t2\n", "2 fields in each row, got 3 in line 3"),
        ("own.jsonl", b'{"text": "a", "label": 1}\n{"text": \n', "must be JSONL, got line 2"),
        ("own.jsonl", b'{"text": "a", "label": 1}\n[1]\n', "one JSON object a line, got list"),
        ("own.jsonl", b'{"text": null, "label": 1}\n', "must not be null, got null in row 1"),
        ("own.jsonl", b'{"text": "a", "label": 1}\n{"label": 1}\n', "null, got null in row 2"),
        ("own.jsonl", b'{"text": 5, "label": 1}\n', "must be text, got int in row 1"),
        ("own.jsonl", b'{"text": "a", "label": [1]}\n', "must be text or a number, got list"),
        ("own.jsonl", b'{"text": "\\ud800", "label": 1}\n', "must be valid Unicode"),
        ("own.parquet", b"PAR0 this is none", "must be a Parquet file"),
    ],
)
def test_every_fault_is_one_line_that_names_its_place(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(path, "text", None, "label")
    assert "\n" not in str(caught.value)


def with_classes(path, labels, names):
    """A Parquet file as the datasets library writes it."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    texts = [f"text {row}" for row in range(len(labels))]
    rows = Dataset.from_dict({"text": texts, "label": labels}, features)
    rows.to_parquet(str(path))
    return path


def test_classes_have_the_names_in_the_metadata_of_parquet(tmp_path):
    path = with_classes(tmp_path / "own.parquet", [1, 0, 1], ["bad", "good"])
    raw = read_table(path, "text", None, "label")
    assert raw["label"].tolist() == ["good", "bad", "good"]
    assert labels_to_index(raw["label"].tolist()) == ("bad", "good")
    assert read_table(path, "text", None, None).columns.tolist() == ["text_a"]
    none = with_classes(tmp_path / "none.parquet", [1, -1], ["bad", "good"])
    with pytest.raises(ValueError, match=r"label \('label'\) must not be null, got null in row 2"):
        read_table(none, "text", None, "label")


@pytest.mark.parametrize(
    "features",
    [
        {"label": {"names": ["bad"], "_type": "ClassLabel"}},
        {"label": {"names": 3, "_type": "ClassLabel"}},
        {"label": {"_type": "os.system"}},
        "{",
    ],
)
def test_metadata_that_names_no_classes_of_the_column(tmp_path, features):
    whole = pa.table({"text": ["a", "b"], "label": [0, 1]})
    said = features if isinstance(features, str) else json.dumps({"info": {"features": features}})
    pq.write_table(whole.replace_schema_metadata({"huggingface": said}), tmp_path / "own.parquet")
    said = r"must be a Parquet file with columns that datasets reads|must be in \[0, 0\]"
    with pytest.raises(ValueError, match=said) as error:
        read_table(tmp_path / "own.parquet", "text", None, "label")
    assert "\n" not in str(error.value)


def test_parquet_nulls_name_their_row_and_keep_integers(tmp_path):
    path = tmp_path / "own.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "label": pa.array([1, None])}), path)
    with pytest.raises(ValueError, match=r"label \('label'\) must not be null, got null in row 2"):
        read_table(path, "text", None, "label")
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1, 2]}), path)
    assert read_table(path, "text", None, "label")["label"].tolist() == [1, 2]


def test_classes_mean_the_same_in_every_file_format(tmp_path):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    train = read_table(write(tmp_path / "train.csv", rows), "text", None, "label")
    dev = read_table(write(tmp_path / "dev.parquet", rows), "text", None, "label")
    labels = labels_to_index(train["label"].tolist())
    table = normalize(train, "classification", labels)
    assert table.frame.equals(normalize(dev, "classification", labels).frame)
    assert table.frame["label"].dtype == "int64"
    assert [labels[index] for index in table.frame["label"]] == ["1", "0"]


def test_a_class_that_train_lacks_and_a_label_that_is_no_number_name_their_row():
    raw = pd.DataFrame({"text_a": ["a", "b"], "label": ["yes", "maybe"]})
    with pytest.raises(ValueError, match=r"\(no, yes\), got 'maybe' in row 2"):
        normalize(raw, "classification", ("no", "yes"))
    for bad in ("maybe", "nan", "1e999", True):
        raw = pd.DataFrame({"text_a": ["a", "b"], "label": pd.Series([1.5, bad], dtype=object)})
        with pytest.raises(ValueError, match=f"finite number for regression, got '{bad}' in row 2"):
            normalize(raw, "regression", ())
    good = pd.DataFrame({"text_a": ["a", "b"], "text_b": ["c", "d"], "label": ["1.5", " -2 "]})
    frame = normalize(good, "regression", ()).frame
    assert frame["label"].tolist() == [1.5, -2.0]
    assert frame["text_b"].tolist() == ["c", "d"]


def test_labels_typed_in_several_ways_are_the_classes_of_train(tmp_path):
    rows = [{"text": "a", "label": 0.0}, {"text": "b", "label": 1.0}]
    train = read_table(write(tmp_path / "train.csv", rows), "text", None, "label")
    dev = read_table(
        write(tmp_path / "dev.csv", [{"text": "c", "label": " 1"}]), "text", None, "label"
    )
    assert train["label"].tolist() == ["0.0", "1.0"]
    labels = labels_to_index(train["label"].tolist())
    assert labels == ("0", "1")
    assert normalize(dev, "classification", labels).frame["label"].tolist() == [1]


JSON = {
    "own.json": json.dumps(ROWS, indent=1),
    "lines.json": "".join(json.dumps(row) + "\n" for row in ROWS),
    "data.json": json.dumps({"version": 1, "data": ROWS}),
    "columns.json": json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}),
    "pandas.json": json.dumps(
        {name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}
    ),
    "own.ndjson": "".join(json.dumps(row) + "\n" for row in ROWS),
}


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_shape_of_json_reads_to_the_same_frame(tmp_path, name, zipped):
    path = tmp_path / f"{name}{'.gz' if zipped else ''}"
    path.write_bytes(gzip.compress(JSON[name].encode()) if zipped else JSON[name].encode())
    raw = read_table(path, "review", "other", "stars")
    assert raw["text_a"].tolist() == [row["review"] for row in ROWS]
    assert raw["text_b"].tolist() == ["NA", "null", "nan"]
    assert raw["label"].tolist() == ["4", "10", "4"]


def test_one_object_is_one_row(tmp_path):
    (tmp_path / "own.json").write_text(json.dumps(ROWS[0]))
    assert len(read_table(tmp_path / "own.json", "review", None, "stars")) == 1


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_gzipped_text_reads_as_it_was(tmp_path, ending):
    plain = write(tmp_path / f"own.{ending}", ROWS)
    zipped = tmp_path / f"zipped.{ending}.GZ"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_table(zipped, "review", "other", "stars").equals(
        read_table(plain, "review", "other", "stars")
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.json", b'{"text": ', "must be JSON, got: Expecting value"),
        ("own.json", b"[" * 100_000, "must be JSON, got: maximum recursion depth"),
        ("own.json", b"3", "must hold an array of objects, got int"),
        ("own.json", b'[{"text": "a", "label": 1}, 3]', "object a row, got int in row 2"),
        ("own.json", b'{"text": ["a"], "label": [1, 2]}', "must have the same rows in label, text"),
        ("own.json", b'{"text": {"0": "a"}, "label": {"1": 1}}', "must have the same rows in"),
        ("own.json", b'{"body": ["a"], "label": [1]}', r"\(body, label\), got 'text' \(no such"),
        ("own.json", b"[]", "must name one column"),
        ("own.json", b'[{"text": "\xff"}]', r"^\S*own\.json must be UTF-8, got byte 0xff"),
        ("own.json", b" ", r"^\S*own\.json must have at least 1 row, got an empty file"),
        ("own.jsonl", b"[" * 100_000, "must be JSONL, got line 1: maximum recursion depth"),
        (
            "own.csv.gz",
            gzip.compress(b"text,label\na,1\n", mtime=0)[:-9],
            "must be a whole gzip file",
        ),
        (
            "own.csv.gz",
            gzip.compress(b"text,label\n\xff,1\n", mtime=0),
            "UTF-8, got byte 0xff in line 2",
        ),
        ("own.parquet.gz", b"PAR1", "path must end in one of .csv, .tsv, .jsonl, .parquet,"),
    ],
)
def test_every_fault_of_json_and_gzip_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(tmp_path / name, "text", None, "label")
    assert "\n" not in str(caught.value)
