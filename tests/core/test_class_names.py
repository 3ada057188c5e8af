"""Which labels are one class: those that differ only in how they were typed or kept."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosita_core.class_names import label_name, labels_to_index

SPACES = st.text(" \t\r\n\u00a0\u3000\u200b\ufeff", max_size=3)
WORDS = st.text(st.characters(exclude_categories=["C", "Z", "Nd"]), min_size=1, max_size=6)


@given(st.lists(WORDS, min_size=1, max_size=3), SPACES, SPACES, st.sampled_from(["NFC", "NFD"]))
def test_space_and_the_composition_of_letters_make_no_class(
    words: list[str], before: str, after: str, form: str
) -> None:
    name = label_name(" ".join(words))
    typed = before + f" {after}".join(words) + after
    assert label_name(unicodedata.normalize(form, typed)) == name
    assert label_name(name) == name


@given(st.integers(-(2**53), 2**53), st.integers(0, 4))
def test_a_whole_number_is_one_class_however_it_is_written(number: int, zeros: int) -> None:
    for written in (number, str(number), f"{number}.{'0' * zeros}", f" {number} "):
        assert label_name(written) == str(number)
    assert label_name(f"{number:+d}") == str(number)
    assert label_name(Decimal(number)) == str(number)
    assert label_name(float(number)) == str(number)


@given(st.integers(-(10**6), 10**6), st.integers(0, 6))
def test_a_fraction_is_one_class_however_it_is_written(digits: int, places: int) -> None:
    number = Decimal(digits).scaleb(-places)
    name = label_name(number)
    assert Decimal(name) == number
    assert name == label_name(float(number)) == label_name(f"{number:f}00" if places else name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pos", "Pos"),
        ("very good", "verygood"),
        ("007", "7"),
        ("1e1", "10"),
        ("1.0.0", "1"),
        ("1", "-1"),
        ("a.", "a"),
        (".", "0"),
        ("1", True),
    ],
)
def test_what_may_mean_something_else_stays_another_class(one: object, other: object) -> None:
    assert label_name(one) != label_name(other)


@pytest.mark.parametrize("word", ["true", "false"])
def test_what_is_true_or_false_is_one_class_in_every_format(word: str) -> None:
    """JSON and Parquet have values of their own; a CSV has what Python or a spreadsheet wrote."""
    assert {label_name(one) for one in (word == "true", word, word.title(), word.upper())} == {word}


def test_shortest_decimals() -> None:
    assert [label_name(text) for text in (".5", "0.50", "1.", "-0.0", "+1", "-.50")] == [
        *("0.5", "0.5", "1", "0", "1", "-0.5")
    ]
    assert label_name(1e-05) == label_name("0.00001") == "0.00001"


def test_class_names_sort_by_value_if_all_are_numbers_and_as_text_otherwise() -> None:
    assert labels_to_index(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert labels_to_index(["10", "9", "none"]) == ("10", "9", "none")
    assert labels_to_index([2, 10, 2]) == labels_to_index([2.0, 10.0]) == ("2", "10")
    assert labels_to_index(["nan", "1"]) == ("1", "nan")
    assert labels_to_index(["pos", "pos ", " pos", "neg"]) == ("neg", "pos")
    assert labels_to_index(["1", "1.0", "0.0"]) == ("0", "1")
