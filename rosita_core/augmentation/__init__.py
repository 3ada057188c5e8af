"""Data augmentation by word replacement: TinyBERT's algorithm, as used by ROSITA."""

from rosita_core.augmentation.augment import AugmentSettings, augment, write_augmented
from rosita_core.augmentation.masked_lm import MaskedLMProposer
from rosita_core.augmentation.vectors import WordVectors, load_glove_text, load_packaged
from rosita_core.augmentation.words import basic_tokens, is_candidate, is_eligible, join_tokens

__all__ = [
    "AugmentSettings",
    "MaskedLMProposer",
    "WordVectors",
    "augment",
    "basic_tokens",
    "is_candidate",
    "is_eligible",
    "join_tokens",
    "load_glove_text",
    "load_packaged",
    "write_augmented",
]
