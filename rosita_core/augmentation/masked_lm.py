"""Candidates from a masked language model: B occurrences in a batch, T word pieces, D hidden size,
V vocabulary."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rosita_core.augmentation.words import is_candidate
from rosita_core.data.framing import check_tokenizer, framing_of, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SHOWN = 3
_LETTERS = re.compile(r"[a-z]+")


class MaskedLMProposer:
    """What a masked language model would put at a word's place, the sentence itself being known.

    The input is the masked sentence and the sentence, as the tokenizer frames pairs, so that
    candidates keep to the meaning of the word. Source: TinyBERT, algorithm 1.

    model: any AutoModelForMaskedLM, in eval mode; it runs on the device on which it is.
    tokenizer: the model's; needs a mask and a padding token.
    batch_size: occurrences per forward pass.
    top: how many of the most probable word pieces are looked at for an occurrence.

    Raises ValueError if a size is out of bounds, the model is in training mode, or the tokenizer
    does not fit it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        top: int,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        vocabulary = int(model.config.vocab_size)
        if not 1 <= top <= vocabulary:
            raise ValueError(f"top must be in [1, {vocabulary}], got {top}")
        if model.training:
            raise ValueError("model must be in eval mode, got training mode (dropout is on)")
        if tokenizer.mask_token_id is None:
            raise ValueError("model must have a tokenizer with a mask_token, got none")
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.top = top
        whole = _whole_words(tokenizer)
        self._one_piece = frozenset(whole.values())
        self._candidate_of = {piece: word for piece, word in whole.items() if is_candidate(word)}
        self._has_types = "token_type_ids" in inspect.signature(model.forward).parameters
        types = (
            (getattr(model.config, "type_vocab_size", 0) or 1) if self._has_types else sys.maxsize
        )
        check_tokenizer(tokenizer, vocabulary, types, pair=True)
        self._pair = framing_of(tokenizer).pair
        longest = min(_positions(model), tokenizer.model_max_length)
        self._segment = (longest - self._pair.special) // 2
        if self._segment < 1:
            least = self._pair.special + 2
            raise ValueError(f"model must have at least {least} positions, got {longest}")

    def knows(self, word: str) -> bool:
        """Whether a word of letters a-z is one word piece, which is what the proposer can mask."""
        return word in self._one_piece

    def propose(
        self, sentences: Sequence[Sequence[str]], places: Sequence[tuple[int, int]]
    ) -> list[list[str]]:
        """Candidates for each place (sentence, token) of sentences given as basic tokens.

        Of the `top` most probable pieces those are dropped that continue a word, are not all
        letters a-z, are a negation or are the word itself: a list may be empty. Its order is the
        vocabulary's. A sentence too long for the model is cut to a window around the place.

        Raises ValueError for a place whose word is not one word piece.
        """
        used = sorted({sentence for sentence, _ in places})
        pieces = self._pieces({token for s in used for token in sentences[s]})
        inputs: list[tuple[list[int], int]] = []
        for sentence, token in places:
            words = sentences[sentence]
            if not self.knows(words[token]):
                raise ValueError(f"a masked word must be one word piece, got {words[token]!r}")
            ids = [piece for word in words for piece in pieces[word]]
            position = sum(len(pieces[word]) for word in words[:token])
            inputs.append(self._window(ids, position))
        # Sentences of like length share a batch, so that little of it is padding.
        order = sorted(range(len(places)), key=lambda i: len(inputs[i][0]))
        found: list[list[str]] = [[] for _ in places]
        with torch.inference_mode(), _only_one_position(self.model) as select:
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                top_BK = self._top([inputs[i] for i in batch], select)
                for i, ids in zip(batch, top_BK.tolist(), strict=True):
                    word = sentences[places[i][0]][places[i][1]]
                    names = (self._candidate_of.get(piece) for piece in sorted(ids))
                    found[i] = [name for name in names if name and name != word]
        return found

    def _pieces(self, words: set[str]) -> dict[str, list[int]]:
        ordered = sorted(words)
        return dict(zip(ordered, _encode(self.tokenizer, ordered), strict=True))

    def _window(self, ids: list[int], position: int) -> tuple[list[int], int]:
        """As much of a sentence around a position as fits twice into the model's input, and the
        position inside it."""
        start = max(0, min(position - self._segment // 2, len(ids) - self._segment))
        return ids[start : start + self._segment], position - start

    def _top(self, inputs: list[tuple[list[int], int]], select: dict[str, Any]) -> torch.Tensor:
        """The ids of the `top` most probable pieces of a batch, B x top."""
        tokenizer, device = self.tokenizer, self.model.device
        longest = 2 * max(len(ids) for ids, _ in inputs) + self._pair.special
        ids_BT = torch.full((len(inputs), longest), int(tokenizer.pad_token_id))
        mask_BT = torch.zeros_like(ids_BT)
        type_BT = torch.zeros_like(ids_BT)
        for row, (ids, position) in enumerate(inputs):
            masked = [*ids[:position], tokenizer.mask_token_id, *ids[position + 1 :]]
            whole, types = map(
                torch.from_numpy, self._pair.frame([np.array(masked), np.array(ids)])
            )
            ids_BT[row, : len(whole)] = whole
            mask_BT[row, : len(whole)] = 1
            type_BT[row, : len(whole)] = types
        arguments = {"input_ids": ids_BT.to(device), "attention_mask": mask_BT.to(device)}
        if self._has_types:
            arguments["token_type_ids"] = type_BT.to(device)
        before = len(self._pair.ids[0])
        positions = [before + position for _, position in inputs]
        select["position_B"] = torch.tensor(positions, device=device)
        logits_BV = self.model(**arguments).logits[:, 0]
        top: torch.Tensor = logits_BV.topk(self.top, dim=1).indices
        return top


def load_proposer(folder: Path, device: str, batch_size: int, top: int) -> MaskedLMProposer:
    """The proposer of a checkpoint, on `device`; see `MaskedLMProposer` for sizes and errors.

    Raises:
        ValueError: where the checkpoint cannot be read, or lacks weights of a masked language
            model, which transformers would draw at random; the first ones are named.
    """
    from transformers import AutoModelForMaskedLM
    from transformers.utils import logging

    _check_head(folder / "config.json")
    said = logging.get_verbosity()
    # What it says of missing weights in a table is said below in a line.
    logging.set_verbosity_error()
    try:
        model, found = AutoModelForMaskedLM.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    # transformers has many errors for files that it cannot use.
    except Exception as error:
        cause = " ".join(str(error).split())
        raise ValueError(
            f"model must be a masked language model that transformers can read, got {folder}: "
            f"{type(error).__name__}: {cause}"
        ) from None
    finally:
        logging.set_verbosity(said)
    if missing := sorted(found["missing_keys"]):
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ValueError(
            f"model must be a masked language model with all its weights, got no "
            f"{', '.join(missing[:_SHOWN])}{more} in {folder}"
        )
    return MaskedLMProposer(model.to(device).eval(), load_tokenizer(folder), batch_size, top)


def _check_head(config_file: Path) -> None:
    """Whether a checkpoint says that it has a masked language model's head."""
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        architectures = [str(name) for name in config.get("architectures") or ()]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"model must have a config.json that is JSON, got: {error}") from None
    if not any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in architectures):
        raise ValueError(
            f"model must be a masked language model, got {', '.join(architectures) or 'none'} "
            f"in {config_file.parent}"
        )


def _positions(model: PreTrainedModel) -> int:
    """How many word pieces the model can number. Models after RoBERTa's manner start counting
    behind the padding id and lose so many; models with relative positions have no bound."""
    embeddings = getattr(model.base_model, "embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    bound = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    return int(bound) - (0 if padding is None else int(padding) + 1)


def _encode(tokenizer: PreTrainedTokenizerBase, words: list[str]) -> list[list[int]]:
    """Word pieces of each word inside a sentence, hence the space before it."""
    if not words:
        return []
    encoded = tokenizer([" " + word for word in words], add_special_tokens=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _whole_words(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """The vocabulary entries that are a word of letters a-z by themselves: id -> word.

    An entry counts if the tokenizer makes exactly it of the word. That leaves out continuation
    pieces whichever way a vocabulary marks them: "##ing", or "ing" without "Ġ" or "▁".
    """
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    bare = {i: name.lstrip("Ġ▁") for i, name in enumerate(names) if name is not None}
    words = {i: name for i, name in bare.items() if _LETTERS.fullmatch(name)}
    encoded = _encode(tokenizer, list(words.values()))
    return {i: word for (i, word), ids in zip(words.items(), encoded, strict=True) if ids == [i]}


@contextmanager
def _only_one_position(model: PreTrainedModel) -> Iterator[dict[str, Any]]:
    """While open, the model's head sees B x 1 x D instead of B x T x D: the position that the
    caller puts into the yielded dictionary. Logits for every position of a batch would take
    B x T x V numbers, gigabytes, of which one T-th is used."""
    select: dict[str, Any] = {}

    def keep(_module: torch.nn.Module, _inputs: Any, output: Any) -> Any:
        hidden_BTD = output[0]
        position_B = select["position_B"]
        rows_B = torch.arange(len(position_B), device=position_B.device)
        output.last_hidden_state = hidden_BTD[rows_B, position_B][:, None]
        return output

    handle = model.base_model.register_forward_hook(keep)
    try:
        yield select
    finally:
        handle.remove()
