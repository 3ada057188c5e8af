"""What a run is called: by whoever starts it, or by its recipe, method and seed."""

from __future__ import annotations

import pytest

from flows.recipes.methods import run_name
from flows.recipes.shipped import load_recipe


@pytest.mark.parametrize(
    ("recipe", "changes", "expected"),
    [
        ("smoke", (), "smoke-kd-4-s42"),
        ("smoke", ("kd_setting=none", "seed=7"), "smoke-kd-none-s7"),
        ("demo", ("method=fisher-mask-search",), "demo-fisher-mask-search-s42"),
        ("paper-cola-kd-1", (), "paper-cola-kd-1-s42"),
    ],
)
def test_it_has_recipe_method_and_seed(
    recipe: str, changes: tuple[str, ...], expected: str
) -> None:
    assert run_name(load_recipe(recipe, changes)) == expected
