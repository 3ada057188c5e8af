"""What is read is what the key says: files that changed since they were digested are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rosita_core.data.sources import SourceSettings, read_splits, source_digest
from rosita_core.model.locate import (
    CHECKPOINT_FILES,
    TOKENIZER_FILES,
    files_digest,
    files_digest_now,
    place_of,
    tokenizer_digest,
    weights_digest,
)
from rosita_core.model.pretrained import load
from rosita_core.model.unchanged import (
    check_proposer_unchanged,
    check_tokenizer_unchanged,
    check_vectors_unchanged,
    check_weights_unchanged,
)


@pytest.fixture
def folder(tiny, tokenizer, tmp_path):
    """A checkpoint with its tokenizer."""
    tiny().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def changed(path: Path) -> None:
    """One bit is another; size and time of the file are what they were."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_model_that_changed_since_it_was_looked_up_is_not_used(folder):
    digest = weights_digest(str(folder))
    check_weights_unchanged(folder, digest)
    changed(folder / "model.safetensors")
    # Neither its time nor its size gives it away.
    assert files_digest(folder, CHECKPOINT_FILES) == digest
    assert files_digest_now(folder, CHECKPOINT_FILES) != digest
    with pytest.raises(ValueError, match=r"^teacher\.model must stay as it was when the run began"):
        check_weights_unchanged(folder, digest)


def test_a_tokenizer_and_a_proposer_likewise(folder):
    digest = tokenizer_digest(str(folder))
    proposer = files_digest(folder, CHECKPOINT_FILES + TOKENIZER_FILES)
    check_tokenizer_unchanged(folder, digest)
    check_proposer_unchanged(folder, proposer)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"good"', '"goof"'))
    with pytest.raises(ValueError, match=r"^tokenizer of teacher\.model must stay"):
        check_tokenizer_unchanged(folder, digest)
    with pytest.raises(ValueError, match=r"^augment\.proposers\.mlm must stay"):
        check_proposer_unchanged(folder, proposer)


@pytest.mark.parametrize("is_folder", [True, False])
@pytest.mark.parametrize("name", ["vectors.txt", "glove[42B] *?.txt"])
def test_word_vectors_likewise(tmp_path, name, is_folder):
    path = tmp_path / name
    path.write_text("good 0.5 0.25\n")
    vectors = tmp_path if is_folder else path
    digest = files_digest(*place_of(vectors))
    check_vectors_unchanged(vectors, digest)
    changed(path)
    with pytest.raises(ValueError, match=r"^augment\.proposers\.vectors must stay"):
        check_vectors_unchanged(vectors, digest)


def test_rows_likewise(tmp_path):
    path = tmp_path / "rows.csv"
    rows = [f"text number {number},{'good' if number % 2 else 'bad'}" for number in range(60)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    digest = source_digest("files", "custom", None, str(path), None, ("films",))
    settings = SourceSettings(
        *("custom", "classification", "files", digest, "text", None, "label", 0.2, 10, None, 0),
        path=None,
        train=str(path),
        dev=None,
        score="accuracy",
        cache=str(tmp_path),
        domains=("films",),
    )
    read_splits(settings)
    path.write_text(path.read_text().replace("number 7,good", "number 7,bad"))
    with pytest.raises(ValueError, match=r"^data must stay as it was when the run began, got"):
        read_splits(settings)


def test_the_kernels_ask(folder, tokenizer, tmp_path):
    """A stage that loads something else ends before it has computed anything with it."""
    from rosita_core.model.families.bert import Bert
    from rosita_core.model.pretrained import Pretrained
    from rosita_core.stages.data import DataSettings, prepare_data

    pretrained = Pretrained(*(Bert(), "another", 2, (0, 1), 0, "mine", str(folder)))
    with pytest.raises(ValueError, match=r"^teacher\.model must stay"):
        load(pretrained)
    with pytest.raises(ValueError, match=r"^tokenizer of teacher\.model must stay"):
        prepare_data(DataSettings(None, False, "another", str(folder)), tokenizer, tmp_path, print)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("merges.txt", "a b"),
        ("vocab.json", "{}"),
        ("spiece.model", "a"),
        ("sentencepiece.bpe.model", "a"),
        ("source.spm", "a"),
        ("added_tokens.json", "{}"),
    ],
)
def test_every_file_of_a_tokenizer_is_in_its_digest(folder, name, content):
    before = tokenizer_digest(str(folder))
    (folder / name).write_text(content)
    assert tokenizer_digest(str(folder)) != before


def test_what_chooses_the_class_of_a_tokenizer_is_in_its_digest_and_nothing_else(folder):
    before, path = tokenizer_digest(str(folder)), folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"hidden_dropout_prob": 0.3}))
    assert tokenizer_digest(str(folder)) == before
    path.write_text(json.dumps(config | {"tokenizer_class": "DistilBertTokenizer"}))
    of_class = tokenizer_digest(str(folder))
    path.write_text(json.dumps(config | {"model_type": "roberta"}))
    assert len({before, of_class, tokenizer_digest(str(folder))}) == 3
