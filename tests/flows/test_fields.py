"""The table of recipe fields is what the schema says, and nothing is missing from it."""

import json
from pathlib import Path

import pytest
from command_line import rosita

from flows.recipes.shipped import load_recipe

PAGE = Path(__file__).parents[2] / "flows" / "recipes" / "FIELDS.md"


def names(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_page_is_what_the_command_prints(tmp_path: Path) -> None:
    done = rosita("recipes", "--fields", home=tmp_path)
    assert done.stdout == PAGE.read_text(encoding="utf-8"), "rosita recipes --fields > FIELDS.md"


def test_every_field_of_a_recipe_is_in_it_with_a_description(tmp_path: Path) -> None:
    rows = json.loads(rosita("recipes", "--fields", "--json", home=tmp_path).stdout)["fields"]
    recipe = load_recipe("smoke", ()).model_dump(mode="json")
    assert sorted(row["name"] for row in rows) == sorted(names(recipe))
    by_name = {row["name"]: row for row in rows}
    assert by_name["compress.budget.count"]["default"] == "encoder"
    assert "`magnitude`" in by_name["compress.rank"]["allowed"]
    assert by_name["width.keep_heads"]["required"]


@pytest.mark.parametrize("args", [("demo", "--fields")])
def test_a_name_and_all_fields_are_two_questions(tmp_path: Path, args: tuple[str, ...]) -> None:
    done = rosita("recipes", *args, home=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert "got demo and --fields" in done.stderr
