"""Variants for tokenizers that see case and spaces: the text as written, but for its words."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.normalizers import BertNormalizer
from transformers import PreTrainedTokenizerBase

from rosita_core.augmentation.augment import AugmentSettings
from rosita_core.augmentation.vectors import WordVectors
from rosita_core.augmentation.words import (
    Sentence,
    basic_tokens,
    cut,
    is_eligible,
    reads_as_written,
)
from rosita_core.data.framing import load_tokenizer
from rosita_core.model.locate import locate
from rosita_core.stages.augment import AugmentStageSettings, augment_data
from rosita_core.training.checkpoints import NoCheckpoints

TEXTS = [
    "The Film isn't good; the plot is dull, and NO actor shines.",
    "It can't be...  a TEDIOUS movie!\tA story (of sorts)",
    "Good film. Café naïveté?",
]


@pytest.fixture(scope="module")
def vectors() -> WordVectors:
    words = ["film", "movie", "plot", "story", "good", "bad", "dull", "tedious", "actor"]
    random = np.random.default_rng(0)
    table = random.normal(size=(len(words), 8)).astype(np.float32)
    return WordVectors(words, table / np.linalg.norm(table, axis=1, keepdims=True))


@given(st.text())
def test_a_text_without_other_words_is_itself(text: str) -> None:
    assert cut(text, True).with_words({}) == text


def between(sentence: Sentence) -> list[str]:
    """What is no token."""
    assert sentence.places is not None
    ends = [0, *(end for _, end in sentence.places)]
    starts = [*(start for start, _ in sentence.places), len(sentence.text)]
    return [sentence.text[end:start] for end, start in zip(ends, starts, strict=True)]


@given(st.text(alphabet="abcXY ,.é\n'", max_size=40), st.data())
def test_what_stands_between_words_stays(text: str, data: st.DataObject) -> None:
    sentence = cut(text, True)
    words = [place for place, token in enumerate(sentence.tokens) if token.isalpha()]
    chosen = data.draw(st.sets(st.sampled_from(words))) if words else set()
    varied = cut(sentence.with_words(dict.fromkeys(chosen, "other")), True)
    assert between(varied) == between(sentence)
    wanted = ["other" if i in chosen else token for i, token in enumerate(sentence.tokens)]
    assert varied.tokens == wanted


@pytest.mark.parametrize(
    ("word", "put"), [("film", "movie"), ("Film", "Movie"), ("FILM", "MOVIE"), ("A", "Movie")]
)
def test_a_word_has_the_case_of_what_it_replaces(word: str, put: str) -> None:
    assert cut(f"({word}) it is", True).with_words({1: "movie"}) == f"({put}) it is"


def test_the_words_that_may_change_are_those_of_an_uncased_model() -> None:
    for text in TEXTS:
        written = [token for token in cut(text, True).tokens if is_eligible(token)]
        joined = [token for token in basic_tokens(text) if is_eligible(token)]
        # An accent that is stripped makes a word of letters a-z.
        assert set(joined) - set(written) <= {"cafe", "naivete"}
        assert set(written) <= set(joined)


@pytest.mark.parametrize(("name", "expected"), [("minilm-l6", False), ("tiny-roberta", True)])
def test_what_a_tokenizer_sees(name: str, expected: bool) -> None:
    assert reads_as_written(load_tokenizer(locate(name))) is expected


def augmented(tokenizer: PreTrainedTokenizerBase, vectors: WordVectors, folder: Path) -> Any:
    settings = AugmentStageSettings(
        AugmentSettings(4, 1.0, 3, 7), 100, None, None, mlm_batch_size=1, mlm=None, vectors=None
    )
    frame = pd.DataFrame({"text_a": TEXTS, "label": [0, 1, 0]})
    augment_data(
        *(frame, settings, None, vectors, tokenizer, folder),
        *(lambda _: None, NoCheckpoints()),
    )
    return pq.read_table(folder / "augmented.parquet").to_pandas()


def test_the_stage_makes_variants_as_its_tokenizer_reads(
    vectors: WordVectors, tmp_path: Path
) -> None:
    for name in ("minilm-l6", "tiny-roberta"):
        (tmp_path / name).mkdir()
    cased = augmented(load_tokenizer(locate("tiny-roberta")), vectors, tmp_path / "tiny-roberta")
    plain = augmented(load_tokenizer(locate("minilm-l6")), vectors, tmp_path / "minilm-l6")
    variants = cased[cased["copy"] > 0]
    assert 8 <= len(variants) <= 12
    for origin, text in zip(variants["origin"], variants["text_a"], strict=True):
        assert text != TEXTS[origin]
        sentence, varied = cut(TEXTS[origin], True), cut(text, True)
        assert len(varied.tokens) == len(sentence.tokens)
        for place, (before, after) in enumerate(zip(sentence.tokens, varied.tokens, strict=True)):
            assert sentence.places is not None and varied.places is not None
            here = TEXTS[origin][slice(*sentence.places[place])]
            there = text[slice(*varied.places[place])]
            assert here.istitle() == there.istitle() or len(here) == 1
            assert here.isupper() == there.isupper() or len(here) == 1
            if before != after:
                assert is_eligible(before)
    assert not any("isn ' t" in text for text in variants["text_a"])
    # The same words change to the same ones, whatever the tokenizer sees.
    assert (
        plain[plain["copy"] > 0]["text_a"].iloc[0].split()[1]
        in variants["text_a"].iloc[0].lower().split()
    )


def test_an_uncased_tokenizer_that_keeps_accents_sees_them() -> None:
    tokenizer = load_tokenizer(locate("minilm-l6"))
    assert not reads_as_written(tokenizer)
    backend = tokenizer.backend_tokenizer
    backend.normalizer = BertNormalizer(lowercase=True, strip_accents=False)
    assert reads_as_written(tokenizer)
