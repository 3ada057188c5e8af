"""Words as the augmentation sees them: BERT's basic tokens, and which of them may change.

The stop words are a list of our own, by grammatical class. A general-purpose list would do harm
here: scikit-learn's, for one, holds content words (fire, interest, bill, system, serious) and
lacks what is left of a negation once an apostrophe has been split off (don, didn, isn, won).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

_NORMALIZER = BertNormalizer(
    clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True
)
_SPLITTER = BertPreTokenizer()
_LETTERS = re.compile(r"[a-z]+")

# Replacing one of these, or putting one in, turns a sentence into its opposite.
_NEGATIONS = """
    no not never none nobody nothing nowhere neither nor without cannot
    hardly barely scarcely rarely seldom
    aren couldn daren didn doesn don hadn hasn haven isn mightn mustn needn oughtn shan shouldn
    wasn weren won wouldn ain n t
    arent cant couldnt didnt doesnt dont hadnt hasnt havent isnt mustnt neednt shouldnt wasnt
    werent wont wouldnt aint
"""
NEGATIONS = frozenset(_NEGATIONS.split())

_PRONOUNS = """
    i me my mine myself you your yours yourself yourselves he him his himself she her hers herself
    it its itself we us our ours ourselves they them their theirs themselves one oneself
    this that these those who whom whose which what whoever whomever whatever whichever
    someone somebody something anyone anybody anything everyone everybody everything
"""
_DETERMINERS = """
    a an the some any each every either both all half several many much more most few fewer fewest
    less least other others another such same own enough
"""
_PREPOSITIONS = """
    about above across after against along alongside amid among amongst around as at before behind
    below beneath beside besides between beyond by despite down during except for from in inside
    into near of off on onto out outside over past per since through throughout till to toward
    towards under underneath until up upon via with within
"""
_CONJUNCTIONS = """
    and but or so yet if unless although though because while whereas whether than lest
    however nevertheless nonetheless therefore thus hence moreover furthermore otherwise instead
"""
_AUXILIARIES = """
    be am is are was were been being have has had having do does did doing done
    can could may might must shall should will would ought
"""
_ADVERBS = """
    when where why how whenever wherever here there now then again once also too very just only
    even still already ever always almost quite rather perhaps maybe else
"""
# What an apostrophe leaves of a contraction (ca and wo are the Penn Treebank's halves of "can't"
# and "won't"), and that corpus's marks for round brackets.
_FRAGMENTS = "s d m ll re ve o y ca wo sha lrb rrb"

STOP_WORDS = NEGATIONS.union(
    *(
        group.split()
        for group in (
            _PRONOUNS,
            _DETERMINERS,
            _PREPOSITIONS,
            _CONJUNCTIONS,
            _AUXILIARIES,
            _ADVERBS,
            _FRAGMENTS,
        )
    )
)


def basic_tokens(text: str) -> list[str]:
    """BERT's basic tokens of an uncased model: cleaned, lower-cased, accents stripped, and split
    at white space, at every punctuation mark and around every CJK character.

    Source: BasicTokenizer of BERT. Example: "Don't go, Zoë!" -> don ' t go , zoe !
    """
    return [piece for piece, _ in _SPLITTER.pre_tokenize_str(_NORMALIZER.normalize_str(text))]


def join_tokens(tokens: Sequence[str]) -> str:
    """Basic tokens as a text, with single spaces.

    For an uncased BERT tokenizer, `join_tokens(basic_tokens(text))` has the word pieces of `text`.
    The exception is a text that spells out a special token such as "[MASK]": the tokenizer honours
    it in the original, while the joined text "[ mask ]" is plain words.
    """
    return " ".join(tokens)


@dataclass(frozen=True)
class Sentence:
    """A text cut into words.

    Attributes:
        tokens: lower-case basic tokens.
        text: as it was written, where variants keep all of it but the words that change.
        places: of each token in `text`; None where variants are joined basic tokens.
    """

    tokens: list[str]
    text: str
    places: tuple[tuple[int, int], ...] | None

    def with_words(self, words: Mapping[int, str]) -> str:
        """The text with other words at some tokens.

        A word that is put in has the case of what it replaces: film -> movie, Film -> Movie,
        FILM -> MOVIE.
        """
        if self.places is None:
            return join_tokens([words.get(i, token) for i, token in enumerate(self.tokens)])
        parts, done = [], 0
        for position in sorted(words):
            start, end = self.places[position]
            parts += [self.text[done:start], _in_case_of(self.text[start:end], words[position])]
            done = end
        return "".join([*parts, self.text[done:]])


def cut(text: str, as_written: bool) -> Sentence:
    """A text as words; `as_written` where its variants keep case and spaces."""
    if not as_written:
        return Sentence(basic_tokens(text), text, None)
    found = _SPLITTER.pre_tokenize_str(text)
    return Sentence([piece.lower() for piece, _ in found], text, tuple(place for _, place in found))


def reads_as_written(tokenizer: Any) -> bool:
    """Whether a tokenizer sees case, accents, or the spaces around punctuation marks.

    One of an uncased BERT sees none of them.
    """
    written, plain = ("The café.", "the cafe .")
    pieces = tokenizer([written, plain], add_special_tokens=False)["input_ids"]
    return bool(pieces[0] != pieces[1])


def _in_case_of(model: str, word: str) -> str:
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word.capitalize() if model[:1].isupper() else word


def is_eligible(token: str) -> bool:
    """Whether the augmentation may replace a basic token: only letters a-z, and no stop word."""
    return _LETTERS.fullmatch(token) is not None and token not in STOP_WORDS


def is_candidate(token: str) -> bool:
    """Whether a token may be put in another's place: only letters a-z, and no negation."""
    return _LETTERS.fullmatch(token) is not None and token not in NEGATIONS
