"""Texts are framed by the rule of their tokenizer, for every class of tokenizer that is taken."""

import json
import shutil
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from rosita_core.data.encoding import Encoded, encode
from rosita_core.data.framing import check_tokenizer, framing_of, load_tokenizer
from rosita_core.model.locate import locate
from rosita_core.training.batches import collate

TEXTS = ["a quiet and moving film", "dull", "it knows it and so do we all of us"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def word_pieces():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return {
        "vocab": {t: i for i, t in enumerate([*special, *LETTERS, *(f"##{c}" for c in LETTERS)])}
    }


def byte_pairs():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    settings = {"special_tokens": ROBERTA_SPECIAL, "initial_alphabet": alphabet}
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False, **settings)
    made.train_from_iterator(TEXTS * 20, trainer)
    model = json.loads(made.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def unigrams():
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = [*ROBERTA_SPECIAL, "<sep>", "<cls>", "[CLS]", "[SEP]"]
    trainer = trainers.UnigramTrainer(
        vocab_size=60, show_progress=False, special_tokens=special, unk_token="<unk>"
    )
    made.train_from_iterator(TEXTS * 20, trainer)
    return {"vocab": [tuple(entry) for entry in json.loads(made.to_str())["model"]["vocab"]]}


KINDS = {
    "BertTokenizer": word_pieces,
    "DistilBertTokenizer": word_pieces,
    "FunnelTokenizer": word_pieces,
    "MPNetTokenizer": word_pieces,
    "SplinterTokenizer": word_pieces,
    "RobertaTokenizer": byte_pairs,
    "DebertaTokenizer": byte_pairs,
    "AlbertTokenizer": unigrams,
    "BigBirdTokenizer": unigrams,
    "CamembertTokenizer": unigrams,
    "DebertaV2Tokenizer": unigrams,
    "FNetTokenizer": unigrams,
    "MBartTokenizer": unigrams,
    "T5Tokenizer": unigrams,
    "XLMRobertaTokenizer": unigrams,
    "XLNetTokenizer": unigrams,
}


def with_rule(single, pair, special):
    """A tokenizer of letters with a rule of its own."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<unk>", *special, *LETTERS])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if single:
        made.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[(t, vocabulary[t]) for t in special]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>"
    )


RULES = {
    "two types": ("<a> $A <b>", "<a>:0 $A:0 <b>:0 <b>:1 $B:1 <b>:1"),
    "types of their own": ("<a>:2 $A:1", "<a>:2 $A:1 $B:0 <b>:2"),
    "nothing": (None, None),
    "behind": ("$A <b> <a>", "$A <b> $B:1 <b>:1 <a>:2"),
}


def made(name):
    if name in RULES:
        return with_rule(*RULES[name], ["<a>", "<b>"])
    return getattr(transformers, name)(**KINDS[name]())


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", [*KINDS, *RULES])
def test_batches_are_what_the_tokenizer_makes(name, side, tmp_path):
    tokenizer = made(name)
    tokenizer.truncation_side, tokenizer.padding_side = side, "right"
    framing = framing_of(tokenizer)
    pairs = list(product(TEXTS, TEXTS))
    firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    frame = pd.DataFrame({"text_a": firsts, "label": 0})
    encode([frame], tokenizer, tmp_path / "single.arrow")
    encode([frame.assign(text_b=seconds)], tokenizer, tmp_path / "pair.arrow")
    for file, texts in (("single", (firsts,)), ("pair", (firsts, seconds))):
        data = Encoded(tmp_path / f"{file}.arrow")
        for length in (7, 8, 11, 64):
            batch = collate(data, np.arange(len(data)), length, framing, full_length=True)
            own = tokenizer(
                *texts,
                truncation="longest_first",
                max_length=length,
                padding="max_length",
                return_attention_mask=True,
                return_tensors="pt",
            )
            mask = own["attention_mask"]
            assert torch.equal(batch.input_ids, own["input_ids"])
            assert torch.equal(batch.attention_mask, mask)
            types = own.get("token_type_ids", torch.zeros_like(mask))
            assert torch.equal(batch.token_type_ids, types * mask)
    check_tokenizer(tokenizer, len(tokenizer), 3, pair=True)


@pytest.mark.parametrize("name", [*KINDS, *RULES])
def test_the_rule_is_kept_by_every_copy_of_the_tokenizer(name, tmp_path):
    tokenizer = made(name)
    for copy in ("data", "export"):
        tokenizer.save_pretrained(tmp_path / copy)
        tokenizer = load_tokenizer(tmp_path / copy)
    assert framing_of(tokenizer) == framing_of(made(name))


def test_a_pair_has_as_many_special_tokens_as_its_tokenizer_says():
    assert framing_of(made("BertTokenizer")).pair.special == 3
    assert framing_of(made("XLMRobertaTokenizer")).pair.special == 4
    assert framing_of(made("nothing")).pair.special == 0


def test_tokens_without_an_embedding_are_refused():
    tokenizer = made("BertTokenizer")
    size = len(tokenizer)
    check_tokenizer(tokenizer, size, 2, pair=True)
    tokenizer.add_tokens(["<url>", "<user>"])
    check_tokenizer(tokenizer, size + 2, 2, pair=True)
    with pytest.raises(
        ValueError, match=rf"its tokenizer's {size + 2} tokens, got {size} without "
    ):
        check_tokenizer(tokenizer, size, 2, pair=True)


def test_token_types_that_the_model_does_not_have_are_refused():
    tokenizer = made("BertTokenizer")
    check_tokenizer(tokenizer, 100, 1, pair=False)
    with pytest.raises(ValueError, match=r"a token type for each .* gives to pairs, 2, got 1$"):
        check_tokenizer(tokenizer, 100, 1, pair=True)
    check_tokenizer(made("RobertaTokenizer"), 1000, 1, pair=True)


def test_a_tokenizer_without_padding_is_refused():
    tokenizer = transformers.GPT2Tokenizer(**byte_pairs())
    with pytest.raises(ValueError, match="a tokenizer with a padding token, got none"):
        check_tokenizer(tokenizer, 1000, 2, pair=False)


def test_a_tokenizer_without_a_rust_backend_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("".join(f"{letter} 1\n" for letter in LETTERS))
    (tmp_path / "bpe.codes").write_text("#version\n")
    config = {"tokenizer_class": "PhobertTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="with a Rust backend, got PhobertTokenizer in"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path):
    shutil.copytree(locate("minilm-l6"), tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{")
    with pytest.raises(
        ValueError, match=r"^model must have a tokenizer that transformers can read"
    ):
        load_tokenizer(tmp_path / "model")


def test_a_rule_that_depends_on_the_text_is_refused():
    tokenizer = made("BertTokenizer")

    class Odd(type(tokenizer)):
        """Puts its separator twice behind long texts."""

        def _encode_plus(self, text, *args, **kwargs):
            long = isinstance(text, str) and len(text) > 9 and kwargs.get("add_special_tokens")
            return super()._encode_plus(f"{text}[SEP]" if long else text, *args, **kwargs)

    tokenizer.__class__ = Odd
    with pytest.raises(ValueError, match="puts special tokens around texts and nothing else"):
        check_tokenizer(tokenizer, 100, 2, pair=False)
