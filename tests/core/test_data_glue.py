"""GLUE tasks: the specifications, the file layouts, and the real files where they are at hand."""

import os
from pathlib import Path

import datasets
import pytest

from rosita_core.data.readers.glue import GLUE, from_hub_dataset, read_glue_dir, read_hub
from rosita_core.data.task_spec import CLASS_METRICS, FILM_REVIEWS, custom_task, extra_name

GLUE_DIR = Path(
    os.environ.get("GLUE_DIR", Path(__file__).resolve().parents[2].parent / "shared/data/glue")
)

# task: (header or None, a row with label 1 or its name, text_a, text_b, label)
LAYOUTS = {
    "cola": (None, "gj04\t1\t\tHe left.", "He left.", None, 1),
    "sst2": ("sentence\tlabel", "a fine film \t1", "a fine film ", None, 1),
    "mrpc": (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "1\t7\t8\tA b.\tC d.",
        "A b.",
        "C d.",
        1,
    ),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "0\tg\tf\t2012\t1\tnone\tnone\tA b.\tC d.\t3.800",
        "A b.",
        "C d.",
        3.8,
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "9\t1\t2\tWhy?\tHow?\t1",
        "Why?",
        "How?",
        1,
    ),
    "mnli": (
        "index\tsentence1\tsentence2\tlabel1\tgold_label",
        "0\tA b.\tC d.\tentailment\tneutral",
        "A b.",
        "C d.",
        1,
    ),
    "qnli": (
        "index\tquestion\tsentence\tlabel",
        "0\tWhy?\tA b.\tnot_entailment",
        "Why?",
        "A b.",
        1,
    ),
    "rte": (
        "index\tsentence1\tsentence2\tlabel",
        "0\tA b.\tC d.\tnot_entailment",
        "A b.",
        "C d.",
        1,
    ),
    "wnli": ("index\tsentence1\tsentence2\tlabel", "0\tA b.\tC d.\t1", "A b.", "C d.", 1),
}


def write(directory: Path, task: str, rows: list[str], *, split: str = "train", bom: bool = False):
    header = LAYOUTS[task][0]
    lines = ([header] if header else []) + rows
    text = ("\ufeff" if bom else "") + "\n".join(lines) + "\n"
    (directory / f"{split}.tsv").write_bytes(text.encode())


def test_specs_cover_the_nine_tasks_and_agree_with_themselves():
    assert set(GLUE) == set(LAYOUTS)
    for name, spec in GLUE.items():
        assert spec.name == name
        assert spec.score in spec.metrics
        assert (spec.kind == "regression") == (spec.labels == ())
        assert spec.pair == (LAYOUTS[name][3] is not None)
    assert GLUE["mnli"].dev_splits[0] == "dev_matched"
    assert extra_name(GLUE["mnli"].dev_splits[1]) == "mismatched"


@pytest.mark.parametrize("task", LAYOUTS)
@pytest.mark.parametrize("bom", [False, True])
@pytest.mark.parametrize("crlf", [False, True])
def test_every_layout_reads_with_and_without_bom_and_crlf(tmp_path, task, bom, crlf):
    _, row, text_a, text_b, label = LAYOUTS[task]
    write(tmp_path, task, [row, row], bom=bom)
    file = tmp_path / "train.tsv"
    if crlf:
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    table = read_glue_dir(tmp_path, GLUE[task], "train")
    assert table.frame["text_a"].tolist() == [text_a] * 2
    assert ("text_b" in table.frame) == (text_b is not None)
    if text_b is not None:
        assert table.frame["text_b"].tolist() == [text_b] * 2
    assert table.frame["label"].tolist() == [label] * 2
    assert table.frame["label"].dtype == ("float64" if task == "stsb" else "int64")
    assert table.dropped == {}


def test_quotes_and_unicode_line_separators_are_characters_of_the_text(tmp_path):
    texts = ['" an unbalanced quote', "'' and \u2028 and \x85 and \x1c inside"]
    write(tmp_path, "sst2", [f"{text}\t1" for text in texts])
    assert read_glue_dir(tmp_path, GLUE["sst2"], "train").frame["text_a"].tolist() == texts


def test_broken_and_empty_training_rows_are_counted_and_dev_rows_are_never_left_out(tmp_path):
    good = "9\t1\t2\tWhy?\tHow?\t1"
    rows = [good, '"\tIs it so?\t0', "9\t1\t2\tWhy?\t\u200b\t0", good + "\textra", good]
    write(tmp_path, "qqp", rows)
    write(tmp_path, "qqp", [rows[0], rows[2]], split="dev")
    train = read_glue_dir(tmp_path, GLUE["qqp"], "train")
    dev = read_glue_dir(tmp_path, GLUE["qqp"], "dev")
    assert len(train.frame) == 2
    assert train.dropped == {"wrong number of fields": 2, "empty text": 1}
    assert train.frame.index.tolist() == [0, 1]
    assert len(dev.frame) == 2
    assert dev.dropped == {}
    write(tmp_path, "qqp", rows, split="dev")
    with pytest.raises(
        ValueError, match=r"dev\.tsv must have 6 fields in each row, got 3 in line 3"
    ):
        read_glue_dir(tmp_path, GLUE["qqp"], "dev")


def test_text_that_is_not_utf8_names_file_line_and_byte(tmp_path):
    (tmp_path / "train.tsv").write_bytes(b"sentence\tlabel\nfine\t1\ncaf\xe9\t0\n")
    with pytest.raises(ValueError, match=r"train\.tsv must be UTF-8, got byte 0xe9 in line 3 "):
        read_glue_dir(tmp_path, GLUE["sst2"], "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least 1 row"),
        (b"sentence\tlabel\n", r"at least 1 row .* got 0 \(0 broken\)"),
        (b"sentence\tlabel\nno label here\n", r"at least 1 row .* \(1 broken\)"),
        (b"text\tlabel\nfine\t1\n", "must have the columns sentence, label, got text, label"),
        (b"sentence\tlabel\nfine\t1\nbad\t2\n", "line 3: label must be one of 0, 1, got '2'"),
    ],
)
def test_unusable_files_are_one_line_errors(tmp_path, content, message):
    (tmp_path / "train.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_glue_dir(tmp_path, GLUE["sst2"], "train")
    assert "\n" not in str(caught.value)


def test_missing_file_and_unknown_split_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"existing file, got .*train\.tsv"):
        read_glue_dir(tmp_path, GLUE["sst2"], "train")
    with pytest.raises(ValueError, match="split must be one of train, dev for sst2, got test"):
        read_glue_dir(tmp_path, GLUE["sst2"], "test")
    with pytest.raises(ValueError, match="split must be one of"):
        read_hub(FILM_REVIEWS, "dev")
    with pytest.raises(ValueError, match="label must be a number, got 'five'"):
        write(tmp_path, "stsb", [LAYOUTS["stsb"][1].replace("3.800", "five")])
        read_glue_dir(tmp_path, GLUE["stsb"], "train")


def hub_like(names, labels, **texts):
    label = datasets.ClassLabel(names=list(names)) if names else datasets.Value("float32")
    features = datasets.Features(
        {**{name: datasets.Value("string") for name in texts}, "label": label}
    )
    return datasets.Dataset.from_dict({**texts, "label": labels}, features=features)


def test_hub_rows_become_the_same_table_as_the_files(tmp_path):
    write(tmp_path, "rte", ["0\tA b.\tC d.\tnot_entailment", "1\tE.\tF.\tentailment"])
    spec = GLUE["rte"]
    hub = hub_like(spec.labels, [1, 0], sentence1=["A b.", "E."], sentence2=["C d.", "F."])
    from_files = read_glue_dir(tmp_path, spec, "train").frame
    assert from_hub_dataset(hub, spec, "train").frame.equals(from_files)
    scores = hub_like((), [2.5, 5.0], sentence1=["a", "b"], sentence2=["c", "d"])
    assert from_hub_dataset(scores, GLUE["stsb"], "dev").frame["label"].tolist() == [2.5, 5.0]


def test_hub_with_other_classes_or_without_labels_is_refused():
    spec = GLUE["sst2"]
    with pytest.raises(ValueError, match="labels of sst2 must be"):
        from_hub_dataset(hub_like(("positive", "negative"), [0], sentence=["a"]), spec, "train")
    with pytest.raises(ValueError, match="got dev of sst2 without labels"):
        from_hub_dataset(hub_like(spec.labels, [-1], sentence=["a"]), spec, "dev")


def test_custom_tasks_are_scored_by_kind():
    assert custom_task("mine", "regression", (), True, "accuracy").score == "pearson_spearman"
    for score in CLASS_METRICS:
        spec = custom_task("mine", "classification", ("no", "yes"), False, score)
        assert (spec.score, spec.metrics) == (score, CLASS_METRICS)
    three = custom_task("mine", "classification", ("a", "b", "c"), False, "macro_f1")
    assert (three.score, three.metrics) == ("macro_f1", ("accuracy", "macro_f1", "mcc"))
    with pytest.raises(ValueError, match="one of accuracy, macro_f1, mcc for 3 classes, got 'f1'"):
        custom_task("mine", "classification", ("a", "b", "c"), False, "f1")
    with pytest.raises(ValueError, match="kind must be one of classification, regression"):
        custom_task("mine", "ranking", (), False, "accuracy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels must be empty for regression, got a, b"):
        custom_task("mine", "regression", ("a", "b"), False, "accuracy")


@pytest.mark.parametrize(
    ("task", "folder", "train", "dev"),
    [
        ("sst2", "SST-2", 67_349, 872),
        ("cola", "CoLA", 8_551, 1_043),
        # The task counts 3,668 training rows; the file at hand holds one fewer.
        ("mrpc", "MRPC", 3_667, 408),
        ("stsb", "STS-B", 5_749, 1_500),
    ],
)
def test_the_real_files_read_completely(task, folder, train, dev):
    directory = GLUE_DIR / folder
    if not directory.is_dir():
        pytest.skip(f"GLUE files are not at {directory}; set GLUE_DIR")
    for split, rows in (("train", train), ("dev", dev)):
        table = read_glue_dir(directory, GLUE[task], split)
        assert len(table.frame) == rows
        assert table.dropped == {}
        if task != "stsb":
            assert sorted(table.frame["label"].unique()) == [0, 1]
        else:
            assert table.frame["label"].between(0, 5).all()
