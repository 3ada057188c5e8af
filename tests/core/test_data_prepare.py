"""Cutting, keeping and checking splits."""

import dataclasses
import hashlib
import json
import re
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rosita_core.data.checks import check_splits
from rosita_core.data.preparation import fingerprint, prepare, split_off
from rosita_core.data.sharing import row_counts, shared
from rosita_core.data.storage import load_splits, save_splits
from rosita_core.data.table import Table, normalized_frame, spread, text_keys
from rosita_core.data.task_spec import GLUE, custom_task

YES_NO = custom_task("mine", "classification", ("no", "yes"), False, "accuracy")
NUMBERS = custom_task("mine", "regression", (), True, "accuracy")


def frame_of(texts, labels, text_b=None, kind="classification"):
    return normalized_frame(texts, text_b, labels, kind)


def distinct(count, classes=2):
    return frame_of(
        [f"text {row}" for row in range(count)], [row % classes for row in range(count)]
    )


def splits_of(count=40, **changes):
    splits = prepare(YES_NO, Table(distinct(count), {}), None, {}, 0.25, 8, 0)
    return dataclasses.replace(splits, **changes)


# Few words, so that duplicates that differ in case and spacing are common.
rows = st.lists(
    st.tuples(st.sampled_from(["a", "A ", "b", " b", "a b", "A  b", "c", "d"]), st.integers(0, 2)),
    min_size=8,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_a_cut_loses_nothing_repeats_nothing_and_separates_no_duplicates(
    pairs, size, seed, stratified
):
    frame = frame_of([text for text, _ in pairs], [label for _, label in pairs])
    frame["row"] = range(len(frame))
    try:
        rest, taken = split_off(frame, size, seed, stratified, frozenset(), "dev_rows")
    except ValueError as error:
        assert "all rows of some text" in str(error)
        return
    assert sorted([*rest["row"], *taken["row"]]) == list(range(len(frame)))
    assert rest["row"].is_monotonic_increasing
    assert taken["row"].is_monotonic_increasing
    assert not set(text_keys(rest)) & set(text_keys(taken))
    assert 1 <= len(taken) <= size
    if stratified:
        assert set(rest["label"]) == set(frame["label"])


def test_duplicates_ignore_how_letters_are_composed_and_marks_that_are_unseen():
    texts = ["caf\u00e9 film", "cafe\u0301\u00a0film\u200b", "Caf\u00e9 \u2060film"]
    keys = text_keys(pd.DataFrame({"text_a": texts, "label": [0, 0, 0]}))
    assert len(set(keys)) == 1


def test_duplicates_ignore_case_and_spacing_but_not_the_boundary_of_a_pair():
    keys = text_keys(
        frame_of(["A  b", "a b ", "a", "Straße"], [0] * 4, ["c", "C", "b c", "STRASSE"])
    )
    assert keys[0] == keys[1] != keys[2]
    assert len(set(text_keys(frame_of(["Straße", "STRASSE"], [0, 1])))) == 1


@given(st.integers(0, 50), st.integers(1, 60), st.integers(1, 400))
def test_spread_rows_are_few_in_order_and_from_everywhere(count, rows, letters):
    frame = distinct(count)
    found = spread(frame, rows, letters)
    assert found.equals(frame.loc[found.index])
    assert bool(count) <= len(found) <= max(1, min(rows, count))
    if len(frame) <= rows and sum(map(len, frame["text_a"])) <= letters:
        assert found.equals(frame)
    gaps = np.diff([*found.index, count])
    assert not count or (found.index[0] == 0 and gaps.max() <= gaps[0])


def test_a_stratified_cut_keeps_the_shares_of_the_classes():
    labels = [0] * 700 + [1] * 200 + [2] * 100
    frame = frame_of([f"text {row}" for row in range(1000)], labels)
    rest, taken = split_off(frame, 100, 7, True, frozenset(), "dev_rows")
    assert np.bincount(taken["label"]).tolist() == [70, 20, 10]
    assert np.bincount(rest["label"]).tolist() == [630, 180, 90]


def test_a_cut_depends_on_texts_and_seed_not_on_the_order_of_rows():
    frame = distinct(100)
    shuffled = frame.sample(frac=1, random_state=3).reset_index(drop=True)
    chosen = set(split_off(frame, 20, 1, True, frozenset(), "dev_rows")[1]["text_a"])
    assert set(split_off(shuffled, 20, 1, True, frozenset(), "dev_rows")[1]["text_a"]) == chosen
    assert set(split_off(frame, 20, 2, True, frozenset(), "dev_rows")[1]["text_a"]) != chosen


def test_a_cut_does_not_change_its_argument():
    frame = distinct(30)
    before = fingerprint(frame)
    split_off(frame, 5, 0, True, frozenset(), "dev_rows")
    assert fingerprint(frame) == before


@pytest.mark.parametrize("count", [0, -1, 39, 1000])
def test_a_count_out_of_bounds_is_refused(count):
    bounds = rf"dev_rows must be in \[1, 38\] for 40 rows of 2 classes, got {count}"
    with pytest.raises(ValueError, match=bounds):
        split_off(distinct(40), count, 0, True, frozenset(), "dev_rows")


def test_preparing_without_an_official_dev_holds_rows_out_of_train():
    splits = prepare(YES_NO, Table(distinct(200), {"why": 3}), None, {}, 0.1, 40, 42)
    sizes = {name: len(frame) for name, frame in splits.frames().items()}
    assert sizes == {"train": 144, "select": 16, "dev": 40}
    texts = [set(frame["text_a"]) for frame in splits.frames().values()]
    assert len(set.union(*texts)) == 200
    assert splits.dropped == {"train": {"why": 3}}
    assert all(frame.index.equals(pd.RangeIndex(len(frame))) for frame in splits.frames().values())


def test_an_official_dev_split_is_left_alone_and_select_shares_nothing_with_train():
    train = pd.concat([distinct(60), distinct(20)], ignore_index=True)
    dev, extra = distinct(10), distinct(6)
    splits = prepare(
        GLUE["sst2"], Table(train, {}), Table(dev, {}), {"other": Table(extra, {})}, 0.2, None, 1
    )
    assert splits.dev.equals(dev)
    assert splits.dev_extra["other"].equals(extra)
    assert set(splits.frames()) == {"train", "select", "dev", "dev_other"}
    assert len(splits.select) == 16
    assert not set(splits.select["text_a"]) & set(splits.train["text_a"])


@given(st.integers(8, 30), st.sets(st.integers(0, 40), min_size=1), st.integers(0, 3))
def test_the_dev_rows_choose_nothing(count, also_in_dev, seed):
    """Checkpoints are chosen on rows whose texts dev has not, if there are any."""
    train = numbers(count)
    dev = numbers(41).iloc[sorted(also_in_dev)].reset_index(drop=True)
    dev["text_a"] = [f" {text.upper()}" for text in dev["text_a"]]
    dev["text_b"] = [f"text {count - 1 - row}" for row in sorted(also_in_dev)]
    splits = prepare(NUMBERS, Table(train, {}), Table(dev, {}), {}, 0.4, None, seed)
    others = count - sum(row < count for row in also_in_dev)
    counts = row_counts(splits)
    assert counts["select"] == min(round(0.4 * count), others or count)
    assert counts["dev_in_select"] == (0 if others else counts["select"])
    assert counts["dev_in_train"] + counts["dev_in_select"] == count - others
    assert counts["select_in_train"] == 0
    assert splits.dev.equals(dev)


def test_selection_rows_are_others_than_those_of_every_dev_split_while_there_are_some():
    train = distinct(40)
    dev, extra = train.iloc[:20], train.iloc[20:30]
    splits = prepare(
        YES_NO, Table(train, {}), Table(dev, {}), {"other": Table(extra, {})}, 0.3, None, 0
    )
    assert set(splits.select["text_a"]) == set(train["text_a"][30:])
    assert row_counts(splits) == {
        "train": 30,
        "select": 10,
        "dev": 20,
        "dev_other": 10,
        "select_in_train": 0,
        "dev_in_train": 20,
        "dev_other_in_train": 10,
        "dev_in_select": 0,
        "dev_other_in_select": 0,
    }
    assert shared(row_counts(splits)) == [
        "20 of 20 dev rows have a text that is in train, too.",
        "10 of 10 dev_other rows have a text that is in train, too.",
    ]


def test_rows_of_a_dev_split_that_is_train_are_counted_in_both():
    train = distinct(40)
    splits = prepare(YES_NO, Table(train, {}), Table(train, {}), {}, 0.2, None, 0)
    assert shared(row_counts(splits)) == [
        "32 of 40 dev rows have a text that is in train, too.",
        "8 of 40 dev rows have a text that chooses checkpoints, too.",
    ]
    assert not shared(row_counts(splits_of()))


def test_nothing_is_held_back_at_a_fraction_of_zero():
    splits = prepare(YES_NO, Table(distinct(20), {}), Table(distinct(5), {}), {}, 0, None, 0)
    assert (len(splits.train), len(splits.select)) == (20, 0)
    check_splits(splits, {"select": 0})
    with pytest.raises(ValueError, match="select must have at least 1 rows, got 0"):
        check_splits(splits, {})


@pytest.mark.parametrize(
    ("dev", "fraction", "dev_rows", "message"),
    [
        (True, 0.1, 5, "dev_rows must be null, as the source has a dev split, got 5"),
        (False, 0.1, None, "dev_rows must be a number of rows, .* got None"),
        (False, 0.1, 19, r"dev_rows must be in \[1, 18\] for 20 rows of 2 classes, got 19"),
        (False, 0.1, 18, "dev_rows must leave more rows than classes, .*, got 18 of 20 rows of 2"),
        (True, 0.99, None, "select_fraction must hold back 1 to 18 of 20 rows of 2 .*, got 0.99"),
        (True, 1.0, None, r"select_fraction must be in \[0, 1\), got 1.0"),
        (True, -0.1, None, r"select_fraction must be in \[0, 1\), got -0.1"),
        (True, 0.001, None, "select_fraction must hold back 1 to 18 of 20 rows .*, got 0.001"),
    ],
)
def test_bad_sizes_are_one_line_errors(dev, fraction, dev_rows, message):
    official = Table(distinct(6), {}) if dev else None
    with pytest.raises(ValueError, match=message):
        prepare(YES_NO, Table(distinct(20), {}), official, {}, fraction, dev_rows, 0)


@given(
    counts=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    copies=st.integers(1, 3),
    own_dev=st.booleans(),
    fraction=st.sampled_from([0, 0.01, 0.1, 0.5, 0.99]),
    dev_rows=st.integers(1, 8),
)
def test_a_refused_cut_names_a_field_and_a_bound_that_some_value_meets(
    counts, copies, own_dev, fraction, dev_rows
):
    labels = [code for code, count in enumerate(counts) for _ in range(count)] * copies
    texts = [f"text {row % sum(counts)}" for row in range(len(labels))]
    task = custom_task("mine", "classification", tuple("abcd"[: len(counts)]), False, "mcc")
    dev = None if own_dev else Table(distinct(2), {})
    try:
        prepare(
            task,
            Table(frame_of(texts, labels), {}),
            dev,
            {},
            fraction,
            dev_rows if own_dev else None,
            0,
        )
    except ValueError as error:
        said = str(error)
        assert said.startswith(("dev_rows must ", "select_fraction must ", "train must "))
        for low, high in re.findall(r"(-?\d+)(?:, | to )(-?\d+)", said):
            assert int(low) <= int(high)


def test_a_fingerprint_follows_the_content_and_nothing_else():
    frame = frame_of(["ab", "c"], [0, 1], ["d", "ef"])
    same = frame.astype({"text_a": object, "text_b": object}).set_axis([5, 9])
    assert fingerprint(frame) == fingerprint(same)
    others = [
        frame_of(["a", "bc"], [0, 1], ["d", "ef"]),
        frame_of(["ab", "c"], [1, 0], ["d", "ef"]),
        frame_of(["ab", "c"], [0.0, 1.0], ["d", "ef"], "regression"),
        frame_of(["d", "ef"], [0, 1], ["ab", "c"]),
        frame[["text_b", "text_a", "label"]],
        frame[["text_a", "label"]],
        frame.iloc[::-1],
        frame.iloc[:1],
    ]
    assert len({fingerprint(other) for other in [frame, *others]}) == 1 + len(others)
    # The definition must not drift: caches and records hold these digests.
    content = b"1 rows|text_a:text|" + struct.pack("<q", 6) + b"a film"
    content += b"|label:<i8|" + struct.pack("<q", 1)
    film = frame_of(["a film"], [1])
    assert fingerprint(film) == hashlib.sha256(content).hexdigest()


def numbers(count):
    texts = [f"text {row}" for row in range(count)]
    return frame_of(texts, np.linspace(0, 5, count), texts[::-1], "regression")


@pytest.mark.parametrize("regression", [False, True])
def test_kept_splits_come_back_and_equal_content_is_equal_bytes(tmp_path, regression):
    if regression:
        train = Table(numbers(40), {"broken": 2})
        extra = {"other": Table(numbers(3), {})}
        splits = prepare(NUMBERS, train, Table(numbers(5), {}), extra, 0.1, None, 3)
    else:
        splits = splits_of(select=distinct(4).iloc[:0])
    for name in ("one", "two"):
        save_splits(splits, tmp_path / name)
    back = load_splits(tmp_path / "one")
    assert set(back.frames()) == set(splits.frames())
    for name, frame in splits.frames().items():
        pd.testing.assert_frame_equal(back.frames()[name], frame)
    assert (back.labels, back.kind, back.pair) == (splits.labels, splits.kind, splits.pair)
    assert back.dropped == splits.dropped
    save_splits(back, tmp_path / "three")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted([*(f"{name}.parquet" for name in splits.frames()), "meta.json"])
    for name in files:
        first = (tmp_path / "one" / name).read_bytes()
        assert first == (tmp_path / "two" / name).read_bytes()
        assert first == (tmp_path / "three" / name).read_bytes()


def test_changed_or_missing_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="directory of prepared splits"):
        load_splits(tmp_path)
    save_splits(splits_of(), tmp_path)
    (tmp_path / "dev.parquet").write_bytes((tmp_path / "select.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"dev in .* must have fingerprint"):
        load_splits(tmp_path)
    meta = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(ValueError, match=r"format of .* must be 1, got 99"):
        load_splits(tmp_path)


def test_good_splits_pass():
    check_splits(splits_of(), {"train": 24})
    pairs = prepare(NUMBERS, Table(numbers(40), {}), Table(numbers(5), {}), {}, 0.1, None, 3)
    check_splits(pairs, {})


@pytest.mark.parametrize(
    ("changes", "needed", "message"),
    [
        ({}, {"train": 25}, "train must have at least 25 rows, got 24"),
        ({}, {"dave": 1}, "needed_rows must name splits of train, select, dev, got dave"),
        ({"dev": distinct(0)}, {}, "dev must have at least 1 rows, got 0"),
        (
            {"train": frame_of(["a", "b"], [1, 1])},
            {},
            r"train .* at least 2 classes, got 1 \(yes\)",
        ),
        (
            {"train": distinct(4), "dev": frame_of(["a", "b"], [0, 2]), "labels": ("a", "b", "c")},
            {},
            r"label of dev must be one that train has \(a, b\), got c in row 2",
        ),
        ({"dev": frame_of(["a", "b"], [0, 5])}, {}, r"dev must be in \[0, 1\], got 5 in row 2"),
        ({"dev": frame_of(["a", " \t"], [0, 1])}, {}, "text_a of dev must not be empty, .* row 2"),
        ({"dev": frame_of(["a", None], [0, 1])}, {}, "text_a of dev must not be null, .* row 2"),
        ({"pair": True}, {}, "columns of train must be text_a, text_b, label, got text_a, label"),
    ],
)
def test_unusable_splits_are_one_line_errors(changes, needed, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_splits(splits_of(**changes), needed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "select", "dev"])
@pytest.mark.parametrize("number", [0.0, 0.1])
def test_a_regression_needs_labels_that_vary(split, number):
    good = numbers(40)
    frames = dict.fromkeys(("train", "select", "dev"), good) | {split: good.assign(label=number)}
    splits = splits_of(**frames, kind="regression", pair=True, labels=())
    message = rf"label of {split} must have at least 2 values, got 1 \({number:g}\)"
    with pytest.raises(ValueError, match=message):
        check_splits(splits, {})


def test_a_regression_label_must_be_finite():
    good = numbers(4)
    for value in (np.nan, np.inf):
        bad = good.assign(label=[1.0, value, 2.0, 3.0])
        splits = splits_of(
            train=good, select=good, dev=bad, kind="regression", pair=True, labels=()
        )
        with pytest.raises(ValueError, match=r"label of dev must be finite, got .* in row 2"):
            check_splits(splits, {})
