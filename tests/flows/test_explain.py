"""`rosita explain STAGE` finds the field, function, input or version, and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Done, rosita
from test_plan import everything


def explained(stage: str, home: Path, *changes: str, json_: bool = True) -> Done:
    sets = [part for change in changes for part in ("--set", change)]
    flag = ["--json"] if json_ else []
    done = rosita("explain", stage, "--recipe", "smoke", *sets, *flag, home=home)
    assert done.code == 0, done.stderr
    return done


def rewritten(home: Path, stage: str, **changes: Any) -> None:
    """The attempt of a stage as if its components had been others."""
    path = home / "attempts" / stage / "000001.json"
    record = json.loads(path.read_text())
    for name, values in changes.items():
        target = record if name == "source_parts" else record["components"]
        target[name] = {**target[name], **values}
    path.write_text(json.dumps(record))


def forget(home: Path, stage: str) -> None:
    """Remove a stage's result, so that the stage has to run."""
    for path in (home / "results").iterdir():
        if path.is_file() and f'"stage": "{stage}"' in path.read_text():
            path.unlink()
            return
    raise AssertionError(f"no result of {stage}")


def test_a_cached_stage_names_its_attempt(copied_home: Any) -> None:
    before = everything(copied_home.home)
    document = explained("width", copied_home.home).document
    ran = next(s for s in copied_home.summary["stages"] if s["name"] == "width")
    assert (document["status"], document["key"]) == ("cached", ran["key"])
    made = document["computed_by"]
    assert (made["attempt"], made["recipe"]) == (1, "smoke")
    assert (made["artifact"], made["seconds"]) == (ran["artifact"], ran["seconds"])
    assert document["reasons"] == document["root_causes"] == []
    said = explained("width", copied_home.home, json_=False).stdout
    assert "width of recipe smoke: cached" in said
    assert "computed by attempt 1 of recipe smoke" in said
    assert everything(copied_home.home) == before


def test_fields_are_followed_through_the_inputs_to_the_stage_where_they_changed(
    copied_home: Any,
) -> None:
    before = everything(copied_home.home)
    changes = ("student.learning_rate=2e-3", "width.keep_heads=1")
    document = explained("width", copied_home.home, *changes).document
    assert (document["status"], document["waits_for"]) == ("waits", ["depth"])
    assert [reasons["stage"] for reasons in document["reasons"]] == ["width", "depth", "student"]
    own = [
        (d["kind"], d["name"], d["before"], d["now"]) for d in document["reasons"][0]["differences"]
    ]
    artifacts = {s["name"]: s["artifact"] for s in copied_home.summary["stages"]}
    assert own == [
        ("config", "keep_heads", 2, 1),
        ("config", "prune_steps", 2, 3),
        ("input", "teacher", artifacts["depth"], None),
    ]
    assert document["root_causes"] == [
        {"stages": ["student"], "what": "config.training.learning_rate 0.001 -> 0.002"},
        {"stages": ["width"], "what": "config.keep_heads 2 -> 1"},
        {"stages": ["width"], "what": "config.prune_steps 2 -> 3"},
    ]
    said = explained("width", copied_home.home, *changes, json_=False).stdout
    assert "compared with attempt 1 of recipe smoke" in said
    assert "depth has to run first" in said
    assert "student: config.training.learning_rate 0.001 -> 0.002" in said
    assert everything(copied_home.home) == before


def test_the_function_that_changed_is_named(copied_home: Any) -> None:
    module = "rosita_core.compression.criteria.taylor"
    path = copied_home.home / "attempts" / "width" / "000001.json"
    parts = json.loads(path.read_text())["source_parts"][module]
    assert "Taylor.accumulate" in parts
    old = {**parts, "Taylor.accumulate": "0" * 16, "gone": "1" * 16}
    rewritten(copied_home.home, "width", source={module: "0" * 64}, source_parts={module: old})
    rewritten(copied_home.home, "width", libraries={"torch": "2.0.0"}, numerics={"precision": "x"})
    forget(copied_home.home, "width")
    # With the key as it was the attempt would be of this very stage.
    record = json.loads(path.read_text()) | {"key": "0" * 64}
    path.write_text(json.dumps(record))
    causes = explained("width", copied_home.home).document["root_causes"]
    said = [cause["what"] for cause in causes]
    assert said[:2] == [
        "rosita_core/compression/criteria/taylor.py: Taylor.accumulate changed",
        "rosita_core/compression/criteria/taylor.py: gone removed",
    ]
    assert said[2].startswith("libraries.torch 2.0.0 -> ")
    assert said[3].startswith("numerics.precision x -> ")
    # An attempt of which no parts were noted names the file.
    del record["source_parts"]
    path.write_text(json.dumps(record))
    causes = explained("width", copied_home.home).document["root_causes"]
    assert causes[0]["what"] == "rosita_core/compression/criteria/taylor.py changed"


def test_an_input_that_came_out_different_is_followed_to_what_changed_it(copied_home: Any) -> None:
    # As if width had been made from a depth of another rate, whose attempt is number 2.
    folder = copied_home.home / "attempts" / "depth"
    other = json.loads((folder / "000001.json").read_text())
    other["components"]["config"]["training"]["learning_rate"] = 0.5
    other |= {"key": "1" * 64, "result": other["result"] | {"artifact": "2" * 64}}
    (folder / "000002.json").write_text(json.dumps(other))
    rewritten(copied_home.home, "width", inputs={"teacher": "2" * 64})
    path = copied_home.home / "attempts" / "width" / "000001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "0" * 64}))
    forget(copied_home.home, "width")
    document = explained("width", copied_home.home).document
    assert document["status"] == "to run"
    assert [(r["stage"], r["status"]) for r in document["reasons"]] == [
        ("width", "to run"),
        ("depth", "cached"),
    ]
    assert document["reasons"][1]["compared_with"]["attempt"] == 2
    assert document["root_causes"] == [
        {"stages": ["depth"], "what": "config.training.learning_rate 0.5 -> 0.001"}
    ]
    done = rosita("plan", "--recipe", "smoke", "--json", home=copied_home.home)
    reasons = {stage["name"]: stage["reason"] for stage in done.document["stages"]}
    assert reasons["width"] == (
        "differs from attempt 1: input teacher changed "
        "(stage depth: config.training.learning_rate 0.5 -> 0.001)"
    )


def test_an_input_from_another_stage(smoke_home: Any) -> None:
    document = explained("width", smoke_home.home, "kd_setting=3").document
    assert document["status"] == "to run"
    assert document["root_causes"][-1] == {
        "stages": ["width"],
        "what": "input teacher comes from stage student, came from stage depth",
    }


def test_the_attempt_of_the_same_recipe_comes_first(copied_home: Any) -> None:
    folder = copied_home.home / "attempts" / "width"
    other = json.loads((folder / "000001.json").read_text())
    other |= {"recipe": "other", "key": "0" * 64}
    other["components"]["config"]["keep_heads"] = 4
    (folder / "000002.json").write_text(json.dumps(other))
    for name, before in (("smoke", 2), ("other", 4), ("third", 4)):
        changes = (f"name={name}", "width.keep_heads=1")
        reasons = explained("width", copied_home.home, *changes).document["reasons"][0]
        assert reasons["differences"][0]["before"] == before
        assert reasons["compared_with"]["recipe"] == ("smoke" if name == "smoke" else "other")


def test_a_result_that_is_gone(copied_home: Any) -> None:
    forget(copied_home.home, "depth")
    document = explained("width", copied_home.home).document
    assert document["root_causes"] == [
        {"stages": ["depth"], "what": "nothing differs, but its record was removed"}
    ]


@pytest.mark.parametrize("json_", [False, True])
def test_a_home_that_does_not_exist_is_not_made(tmp_path: Path, json_: bool) -> None:
    done = explained("depth", tmp_path / "home", json_=json_)
    assert "never run" in done.stdout
    assert not (tmp_path / "home").exists()
    if json_:
        assert done.document["root_causes"] == [{"stages": ["data"], "what": "never run"}]


def test_a_stage_that_the_recipe_does_not_have(tmp_path: Path) -> None:
    done = rosita("explain", "one-step", "--recipe", "smoke", home=tmp_path / "home")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == (
        "rosita: stage must be one of data, teacher, augment, student, depth, width, assess, "
        "export in KD setting 4, got 'one-step'\n"
    )
