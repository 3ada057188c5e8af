"""Words as the augmentation sees them: BERT's basic tokens, and which of them may change.

The stop words are a list of our own, by grammatical class. A general-purpose list would do harm
here: scikit-learn's, for one, holds content words (fire, interest, bill, system, serious) and
lacks what is left of a negation once an apostrophe has been split off (don, didn, isn, won).
"""

import re
from collections.abc import Sequence

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


def is_eligible(token: str) -> bool:
    """Whether the augmentation may replace a basic token: only letters a-z, and no stop word."""
    return _LETTERS.fullmatch(token) is not None and token not in STOP_WORDS


def is_candidate(token: str) -> bool:
    """Whether a token may be put in another's place: only letters a-z, and no negation."""
    return _LETTERS.fullmatch(token) is not None and token not in NEGATIONS
