"""How a tokenizer frames texts: its special tokens and token types, learnt once from itself.

Encoded rows hold word pieces alone. What stands around them differs between tokenizers: BERT's
pairs are [CLS] a [SEP] b [SEP] with types 0 and 1, those of RoBERTa <s> a </s></s> b </s> with one.

Letters: T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

PROBES = 100
"""Entries of a vocabulary that are tried for one that is a token by itself."""


@dataclass(frozen=True)
class Template:
    """What stands before, between and after one text or two.

    Attributes:
        ids: of the special tokens before the first text, after it and, for pairs, after the second.
        types: their token types, shaped alike.
        text_types: the token type of each text.
    """

    ids: tuple[tuple[int, ...], ...]
    types: tuple[tuple[int, ...], ...]
    text_types: tuple[int, ...]

    @property
    def special(self) -> int:
        """How many special tokens there are."""
        return sum(map(len, self.ids))

    @property
    def highest_type(self) -> int:
        return max(max(self.text_types), *(kind for gap in self.types for kind in gap), 0)

    def frame(self, texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The ids and token types, both (T,), of one text or two, given as word pieces."""
        ids, types = [np.array(self.ids[0], np.int64)], [np.array(self.types[0], np.int64)]
        rest = zip(texts, self.text_types, self.ids[1:], self.types[1:], strict=True)
        for text, text_type, gap, gap_types in rest:
            ids += [text, np.array(gap, np.int64)]
            types += [np.full(len(text), text_type), np.array(gap_types, np.int64)]
        return np.concatenate(ids), np.concatenate(types)


@dataclass(frozen=True)
class Framing:
    """The rule of a tokenizer.

    Attributes:
        single: of one text.
        pair: of two.
        pad: the id that fills a batch.
        keep_end: whether texts that are too long lose their beginning and not their end.
    """

    single: Template
    pair: Template
    pad: int
    keep_end: bool

    def frame(
        self, first: np.ndarray, second: np.ndarray | None, max_length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids and token types, both (T,), of a text or a pair in at most `max_length` tokens.

        Pairs lose tokens of the longer text first.
        """
        if second is None:
            return self.single.frame([self._cut(first, max_length - self.single.special)])
        room = max_length - self.pair.special
        sizes = _shares(len(first), len(second), room)
        return self.pair.frame([self._cut(first, sizes[0]), self._cut(second, sizes[1])])

    def _cut(self, text: np.ndarray, size: int) -> np.ndarray:
        return text[len(text) - min(size, len(text)) :] if self.keep_end else text[:size]


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a directory; no code from there is run.

    Raises:
        ValueError: where transformers cannot read it, or has no Rust backend for it.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    # transformers has many errors for files that it cannot use.
    except Exception as error:
        cause = " ".join(str(error).split())
        raise ValueError(
            f"model must have a tokenizer that transformers can read, got {folder}: "
            f"{type(error).__name__}: {cause}"
        ) from None
    if not tokenizer.is_fast:
        raise ValueError(
            f"model must have a tokenizer with a Rust backend, got {type(tokenizer).__name__} "
            f"in {folder}"
        )
    return tokenizer


def framing_of(tokenizer: Any) -> Framing:
    """How a tokenizer frames one text and two.

    Raises:
        ValueError: where it has no padding token, or a rule that is none of special tokens around
            the texts.
    """
    if tokenizer.pad_token_id is None:
        raise ValueError("model must have a tokenizer with a padding token, got none")
    text = _probe(tokenizer)
    return Framing(
        single=_template(tokenizer, (text,)),
        pair=_template(tokenizer, (text, text)),
        pad=int(tokenizer.pad_token_id),
        keep_end=tokenizer.truncation_side == "left",
    )


def check_tokenizer(tokenizer: Any, vocab_size: int, token_types: int, pair: bool) -> None:
    """Whether a tokenizer's sequences are inputs of a model.

    Args:
        tokenizer: of `load_tokenizer`.
        vocab_size: rows of the model's embedding.
        token_types: rows of its embedding of token types; a model without one reads none.
        pair: whether it reads two texts.

    Raises:
        ValueError: naming what the model has no embedding for; see also `framing_of`.
    """
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= vocab_size:
        added = [token for token, index in tokenizer.get_vocab().items() if index >= vocab_size]
        raise ValueError(
            f"model must have an embedding for each of its tokenizer's {highest + 1:,} tokens, "
            f"got {vocab_size:,} without {sorted(added)[0]!r}"
        )
    framing = framing_of(tokenizer)
    template = framing.pair if pair else framing.single
    if token_types and template.highest_type >= token_types:
        raise ValueError(
            f"model must have a token type for each that its tokenizer gives to "
            f"{'pairs' if pair else 'texts'}, {template.highest_type + 1}, got {token_types}"
        )
    _check_rule(tokenizer, framing)


def _template(tokenizer: Any, texts: tuple[str, ...]) -> Template:
    """The special tokens around texts, each of which is at least one token."""
    encoded = tokenizer(*texts)
    places: list[int | None] = encoded.sequence_ids(0)
    inputs = encoded["input_ids"]
    # Without them the model takes the first type for every token.
    kinds = encoded.get("token_type_ids") or [0] * len(inputs)
    ids: list[list[int]] = [[]]
    types: list[list[int]] = [[]]
    text_types: list[int] = []
    for place, token, kind in zip(places, inputs, kinds, strict=True):
        if place is None:
            ids[-1].append(token)
            types[-1].append(kind)
        elif place == len(text_types):
            text_types.append(kind)
            ids.append([])
            types.append([])
    return Template(tuple(map(tuple, ids)), tuple(map(tuple, types)), tuple(text_types))


def _probe(tokenizer: Any) -> str:
    """A text of at least one token."""
    for text in chain(("a",), islice(tokenizer.get_vocab(), PROBES)):
        special = text in tokenizer.all_special_tokens
        try:
            if not special and tokenizer(text, add_special_tokens=False)["input_ids"]:
                return text
        # One that knows no unknown words, or reads no plain text.
        except Exception as error:
            raise ValueError(
                f"model must have a tokenizer that makes tokens of any text, got "
                f"{type(error).__name__} for {text!r}: {' '.join(str(error).split())}"
            ) from None
    raise ValueError("model must have a tokenizer that makes tokens of texts, got none of 'a'")


def _check_rule(tokenizer: Any, framing: Framing) -> None:
    """Whether texts of several lengths, whole and cut, are framed as the tokenizer does it."""
    text = _probe(tokenizer)
    texts = [text, " ".join([text] * 3), " ".join([text] * 8)]
    bare = [np.array(tokenizer(one, add_special_tokens=False)["input_ids"]) for one in texts]
    for first, ours in zip(texts, bare, strict=True):
        for second, theirs in ((None, None), *zip(texts, bare, strict=True)):
            template = framing.single if second is None else framing.pair
            for length in (template.special + 3, template.special + 100):
                _check_same(tokenizer, (first, second), framing.frame(ours, theirs, length), length)


def _check_same(
    tokenizer: Any,
    texts: tuple[str, str | None],
    framed: tuple[np.ndarray, np.ndarray],
    length: int,
) -> None:
    own = tokenizer(*texts, truncation="longest_first", max_length=length)
    ids = own["input_ids"]
    types = own.get("token_type_ids") or [0] * len(ids)
    if framed[0].tolist() != ids or framed[1].tolist() != types:
        raise ValueError(
            "model must have a tokenizer that puts special tokens around texts and nothing else, "
            f"got {tokenizer.convert_ids_to_tokens(ids)} of {texts}"
        )


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Lengths of a pair after cutting the longer one first, down to `room` in all.

    Where both are cut, they share the room; of an odd room the originally longer one gets the odd
    token, and of equals the second, as the Hugging Face tokenizers do.
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    longer = room - shorter
    return (longer, shorter) if first > second else (shorter, longer)
