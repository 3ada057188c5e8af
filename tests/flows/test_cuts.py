"""What share of the rows a maximum length cuts: as many as the tokenizer makes longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import csv_file, recipe_file, rosita
from transformers import AutoTokenizer

from flows.engine.checks import prepare_request
from flows.engine.cuts import cut_rows, cuts
from flows.recipes.presets import METHODS
from flows.recipes.shipped import load_recipe
from rosita_core.data.storage import load_splits

SECTIONS = ("teacher", "student", "depth", "width")


def lengths_set(**lengths: int) -> list[str]:
    return [part for name, n in lengths.items() for part in ("--set", f"{name}.max_length={n}")]


def planned(home: Path, recipe: str, **lengths: int) -> dict[str, Any]:
    done = rosita("plan", "--recipe", recipe, *lengths_set(**lengths), "--json", home=home)
    assert done.code == 0, done.stderr
    return done.document


def test_a_share_is_that_of_rows_which_the_model_does_not_read_whole(smoke_home: Any) -> None:
    data = smoke_home.artifact("data")
    tokenizer = AutoTokenizer.from_pretrained(data / "tokenizer")
    frames = load_splits(data / "splits").frames()
    for cut in planned(smoke_home.home, "smoke", teacher=12, width=20)["cuts"]:
        most = cut["max_length"]
        assert not cut["sampled"]
        assert list(cut["shares"]) == ["train", "select", "dev"]
        for split, share in cut["shares"].items():
            ids = tokenizer(frames[split]["text_a"].tolist())["input_ids"]
            assert share == np.mean([len(row) > most for row in ids])
            if most < 64:
                assert 0 < share < 1


def test_each_length_has_its_sections(smoke_home: Any) -> None:
    cuts = planned(smoke_home.home, "smoke", teacher=12, width=20, student=12, depth=20)["cuts"]
    found = [(cut["max_length"], cut["sections"]) for cut in cuts]
    assert found == [(12, ["teacher", "student"]), (20, ["depth", "width"])]
    said = list(cut_rows(cuts))
    assert said[0].startswith("teacher.max_length and student.max_length 12 cut ")
    assert said[1].startswith("depth.max_length and width.max_length 20 cut ")


def test_the_plan_says_what_one_length_for_all_cuts(smoke_home: Any) -> None:
    lengths = dict.fromkeys(SECTIONS, 12)
    done = rosita("plan", "--recipe", "smoke", *lengths_set(**lengths), home=smoke_home.home)
    shares = planned(smoke_home.home, "smoke", **lengths)["cuts"][0]["shares"]
    train, select, dev = (f"{100 * share:.1f} %" for share in shares.values())
    assert f"max_length 12 cuts {train} of train, {select} of select and {dev} of dev rows." in (
        " ".join(done.stdout.split())
    )


@pytest.mark.parametrize(("count", "about"), [(60, ""), (4200, "about ")])
def test_rows_that_no_stage_has_read_yet_are_looked_at(
    count: int, about: str, tmp_path: Path
) -> None:
    """Every third text is long; of many rows some are looked at."""
    rows = [f"{'long ' * 30 * (i % 3 == 0)}text {i},{i % 2}" for i in range(count)]
    train = csv_file(tmp_path / "rows.csv", "text,label", rows)
    dev = csv_file(tmp_path / "dev.csv", "text,label", ["short,1", "long " * 30 + ",0"])
    data = {"source": "files", "train": train, "dev": dev, "limit_rows": None}
    recipe = recipe_file(tmp_path, {"base": "smoke", "task": "custom", "data": data})
    (cut,) = planned(tmp_path / "home", recipe, **dict.fromkeys(SECTIONS, 16))["cuts"]
    assert cut["sampled"] == bool(about)
    assert cut["shares"]["train"] == pytest.approx(1 / 3, abs=0.05)
    assert cut["shares"]["dev"] == 0.5
    (said,) = cut_rows([cut])
    assert said.startswith(f"max_length 16 cuts {about}3")
    (none,) = planned(tmp_path / "home", recipe, **dict.fromkeys(SECTIONS, 64))["cuts"]
    assert list(cut_rows([none])) == [
        f"max_length 64 cuts no row{' of a sample' if about else ''}."
    ]
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "changes",
    [
        *((f"kd_setting={setting}",) for setting in ("none", "1", "2", "3", "4")),
        *((f"method={name}", "compress.recover=kd") for name in METHODS),
    ],
)
def test_every_length_is_that_of_a_field(changes: tuple[str, ...]) -> None:
    request = prepare_request(load_recipe("smoke", changes), download=True)
    for cut in cuts(request, {}, False):
        for section in cut.sections:
            assert getattr(request.recipe, section).max_length == cut.max_length
