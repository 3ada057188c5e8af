"""Classes of a checkpoint and of the data: matched by name, or refused with both lists."""

import json

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rosita_core.data.readers.files import class_order
from rosita_core.model.families.bert import Bert
from rosita_core.model.labels import check_names, class_names, order_of, telling_names
from rosita_core.model.locate import CHECKPOINT_FILES, files_digest
from rosita_core.model.pretrained import Pretrained, load


def config(*names, **changes):
    return {"id2label": {str(index): name for index, name in enumerate(names)}} | changes


def order(labels, names, given=None, **changes):
    return order_of(labels, config(*names, **changes), given or {}, "the teacher")


@given(st.lists(st.text("abcXYZ _-", min_size=1), min_size=2, max_size=9, unique=True), st.data())
@settings(deadline=None)
def test_the_same_names_in_any_order_are_matched(labels, data):
    names = data.draw(st.permutations(labels))
    found = order(tuple(labels), tuple(names))
    assert tuple(names[output] for output in found) == tuple(labels)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("negative", "positive"), (0, 1)),
        (("positive", "negative"), (1, 0)),
        (("POSITIVE", "Negative"), (1, 0)),
        ((" posi tive", "negative\n"), (1, 0)),
        # One is the very name, the other the same but for its case.
        (("Positive", "negative"), (1, 0)),
    ],
)
def test_names_are_compared_as_they_are_then_without_case_and_space(names, expected):
    assert order(("negative", "positive"), names) == expected


def test_the_very_name_goes_before_one_that_is_alike():
    assert order(("yes", "Yes", "no"), ("YES", "no", "yes")) == (2, 0, 1)


@pytest.mark.parametrize(
    "names",
    [
        ("LABEL_0", "LABEL_1"),
        ("positive", "neutral"),
        ("negative", "pos"),
        ("negative", "negative"),
        ("Positive", "POSITIVE"),
        ("0", "1"),
    ],
)
def test_names_that_leave_a_class_open_are_refused_with_both_lists(names):
    with pytest.raises(ValueError) as error:
        order(("negative", "positive"), names)
    assert str(error.value) == (
        "model must have the data's classes (negative, positive) to be used without training, "
        f"got {', '.join(names)}; teacher.labels says which is which, as {{{names[0]}: ...}}"
    )


def test_a_map_says_the_rest():
    labels = ("negative", "neutral", "positive")
    names = ("LABEL_0", "NEUTRAL", "LABEL_2")
    assert order(labels, names, {"LABEL_0": "positive", "LABEL_2": "negative"}) == (2, 1, 0)
    # It goes before what names would say.
    swapped = {"negative": "positive", "positive": "negative"}
    assert order(("negative", "positive"), ("negative", "positive"), swapped) == (1, 0)
    with pytest.raises(ValueError, match=r"got LABEL_0, NEUTRAL, LABEL_2; teacher\.labels"):
        order(labels, names, {"LABEL_0": "positive"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"LABEL_3": "no"},
            r"labels must map classes of the model \(LABEL_0, LABEL_1\), got LABEL",
        ),
        ({"LABEL_0": "maybe"}, r"labels must map to the data's classes \(no, yes\), got maybe"),
        ({"LABEL_0": "no", "LABEL_1": "no"}, r"labels must map one class to each .*, got no twice"),
    ],
)
def test_a_map_of_other_names_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        order(("no", "yes"), ("LABEL_0", "LABEL_1"), given)


def test_numbered_classes_are_outputs_unless_names_say_otherwise():
    assert order(("0", "1"), ("negative", "positive")) == (0, 1)
    assert order(("0", "1"), ("LABEL_0", "LABEL_1")) == (0, 1)
    assert order(("0", "1"), ("1", "0")) == (1, 0)
    for labels in (("1", "2"), ("0", "2")):
        with pytest.raises(ValueError, match=r"got negative, positive; teacher\.labels"):
            order(labels, ("negative", "positive"))


def test_maps_that_contradict_each_other_tell_nothing():
    back = {"label2id": {"negative": 1, "positive": 0}}
    with pytest.raises(ValueError, match=r"negative .*, got 0 by its id2label and 1 by its label2"):
        order(("negative", "positive"), ("negative", "positive"), **back)
    given = {"negative": "negative", "positive": "positive"}
    assert order(("negative", "positive"), ("negative", "positive"), given, **back) == (0, 1)
    # transformers leaves its own default there when only id2label was set.
    back = {"label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    assert order(("no", "yes"), ("yes", "no"), **back) == (1, 0)


def test_many_classes_are_not_all_shown():
    labels = tuple(f"class {index}" for index in range(150))
    with pytest.raises(ValueError, match="and 140 more") as error:
        order(labels, tuple(f"LABEL_{index}" for index in range(150)))
    assert len(str(error.value)) < 800


def test_the_names_of_a_checkpoint():
    assert class_names(config("a", "b", "c"), "it") == ("a", "b", "c")
    assert class_names({}, "it") == ("LABEL_0", "LABEL_1")
    assert class_names({"num_labels": 3}, "it") == ("LABEL_0", "LABEL_1", "LABEL_2")
    for wrong in ({"0": "a", "2": "b"}, {"a": "0", "b": "1"}, ["a", "b"]):
        with pytest.raises(
            ValueError, match=r"model must have an id2label from 0 on, got .* in it"
        ):
            class_names({"id2label": wrong}, "it")


@pytest.mark.parametrize(
    ("labels", "names", "told"),
    [
        (("0", "1"), ("negative", "positive"), ("negative", "positive")),
        (("1", "2"), ("negative", "positive"), ("negative", "positive")),
        (("0", "1"), ("LABEL_0", "LABEL_1"), ("0", "1")),
        (("0", "1"), ("same", "same"), ("0", "1")),
        (("0", "1"), ("negative\n", "positive"), ("0", "1")),
        (("bad", "good"), ("NEGATIVE", "POSITIVE"), ("bad", "good")),
    ],
)
def test_numbers_get_the_names_of_the_checkpoint(labels, names, told):
    assert telling_names(labels, names) == told


def test_a_teacher_is_loaded_in_the_order_of_the_classes(bert, inputs, tmp_path):
    source = bert(num_labels=3, id2label={0: "no", 1: "maybe", 2: "yes"})
    source.save_pretrained(tmp_path)
    digest = files_digest(tmp_path, CHECKPOINT_FILES)
    found = load(Pretrained(Bert(), digest, 3, (2, 0, 1), 0, "it", str(tmp_path)))
    ids, mask, types = inputs()
    with torch.no_grad():
        expected = source(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
        torch.testing.assert_close(found(ids, mask, types).logits, expected[:, [2, 0, 1]])
    assert found.config.id2label == {0: "yes", 1: "no", 2: "maybe"}
    assert json.loads(found.config.to_json_string())["label2id"] == {"yes": 0, "no": 1, "maybe": 2}


def test_a_class_has_one_rule_where_it_is_read_and_where_it_is_exported():
    joined = (
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f469\u200d\U0001f4bb",
        "co\u00adop",
        "n\u00a0b",
    )
    assert class_order(pd.Series(joined))
    check_names(joined, config(*joined), "it")
    for wrong in ("a\x07b", "\x1b[31m", "a\u2028b", "half \ud800"):
        with pytest.raises(ValueError, match="model must have a name of its own, in a line"):
            check_names((wrong, "b"), config(wrong, "b"), "it")
    # Line separators are space in own data.
    for wrong in ("a\x07b", "\x1b[31m"):
        with pytest.raises(ValueError, match="label must have a name in a line for each class"):
            class_order(pd.Series([wrong, "b"]))
