"""`numerics.processes` that the machine or the recipe does not have."""

from __future__ import annotations

from pathlib import Path

from command_line import rosita

from tasks.host.hardware import cores


def test_what_the_machine_or_the_recipe_does_not_have_is_refused(tmp_path: Path) -> None:
    many = cores() + 1
    for change, said in (
        (
            f"numerics.processes={many}",
            f"numerics.processes must be at most {cores()}, the cores that can be used, got {many}",
        ),
        ("numerics.processes=0", "numerics.processes must be at least 1, got 0"),
        ("depth.batch_size=1", "numerics.processes must be at most depth.batch_size, 1, got 2"),
    ):
        changes = ("--set=numerics.processes=2", f"--set={change}")
        wrong = rosita("compress", "--recipe=smoke", *changes, home=tmp_path / "home")
        assert wrong.code == 2
        assert wrong.stderr.strip() == f"rosita: {said}"
    assert not (tmp_path / "home").exists()
