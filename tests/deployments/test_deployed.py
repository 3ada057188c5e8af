"""What is deployed, as far as no server is needed to see it; commands that refuse."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import yaml
from command_line import rosita
from deployed_stack import ROOT
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ParameterTypeError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import ValidationError, is_valid_schema, validate

from flows import deployed
from flows.grids.loading import chosen_cells, load_grid
from flows.recipes.changes import applied, fields_of, texts_of
from flows.recipes.shipped import load_recipe

FILE = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS: dict[str, dict[str, Any]] = {
    f"{d['entrypoint'].removeprefix('flows.deployed.')}/{d['name']}": d for d in FILE["deployments"]
}


def loaded(entrypoint: str) -> Flow[..., Any]:
    return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)


def accepted(flow: Flow[..., Any], parameters: dict[str, Any]) -> bool:
    """What Prefect's server asks before it makes a run."""
    schema = parameter_schema(flow).model_dump()
    is_valid_schema(schema)
    try:
        validate(parameters, schema, raise_on_error=True)
    except ValidationError:
        return False
    return True


def test_every_entrypoint_loads_from_the_root_in_a_process_of_its_own() -> None:
    """As a worker does it: its flow runs start in the root, and find nothing that is not there."""
    program = (
        "import sys; from prefect.flows import load_flow_from_entrypoint as load\n"
        "for entrypoint in sys.argv[1:]:\n"
        "    print(load(entrypoint, use_placeholder_flow=False).name)\n"
        "heavy = {'torch', 'mlflow', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *(d["entrypoint"] for d in DEPLOYMENTS.values())],
        cwd=ROOT,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["compress"] * 2 + ["grid", "report", "rerun"]


@pytest.mark.parametrize("name", list(DEPLOYMENTS))
def test_a_deployment_says_what_it_is_and_does_nothing_by_itself(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    assert deployment["description"]
    assert "rosita" in deployment["tags"], "the automations are about this tag"
    for schedule in deployment.get("schedules", ()):
        assert schedule["active"] is False
        if "cron" in schedule:
            CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    flow = loaded(deployment["entrypoint"])
    assert flow.timeout_seconds
    assert flow.retries == 0, "Prefect's own retries are for runs that failed, too"
    training = deployment["work_pool"]["work_queue_name"] == "gpu"
    assert training == ("training" in deployment["tags"])


@pytest.mark.parametrize("name", list(DEPLOYMENTS))
def test_a_form_takes_what_it_shows_and_never_null(name: str) -> None:
    flow = loaded(DEPLOYMENTS[name]["entrypoint"])
    schema = parameter_schema(flow).model_dump()
    shown = {name: field["default"] for name, field in schema["properties"].items()}
    assert accepted(flow, shown)
    assert accepted(flow, DEPLOYMENTS[name]["parameters"])
    for parameter, field in schema["properties"].items():
        assert "anyOf" not in field, f"Prefect shows {parameter} as a choice between types"
        assert field["description"], parameter


def test_the_deployed_parameters_name_what_there_is() -> None:
    compress = DEPLOYMENTS["compress/nightly"]["parameters"]
    load_recipe(compress["recipe"], ())
    grid = DEPLOYMENTS["grid/weekly"]["parameters"]
    definition = load_grid(grid["grid"], grid["recipe"], (), None)
    assert chosen_cells(definition, ())
    assert DEPLOYMENTS["report/weekly"]["parameters"]["grid"] == definition.name


@pytest.mark.parametrize(
    "wrong",
    [
        {"recipe": "nope"},
        {"recipe_file": "recipe.txt"},
        {"seed": -2},
        {"seed": 2**32},
        {"seed": "one"},
        {"keep_heads": -1},
        {"ffn_units": 1.5},
        {"settings": ["width"]},
        {"settings": "width.epochs=2"},
        {"preflight": "maybe"},
    ],
)
def test_a_form_refuses(wrong: dict[str, Any]) -> None:
    assert not accepted(loaded("flows.deployed.compress"), wrong)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "schedule must have --cron or --interval, got neither"),
        (("--cron", "0 2 * * *", "--interval", "60"), "got both"),
        (("--cron", "61 * * * *"), "such as '0 2 * * *', got '61 * * * *'"),
        (("--cron", "0 2 30 2 *"), "cron must be a time that comes, got '0 2 30 2 *'"),
        (("--cron", "0 2 * * *", "--timezone", "Mars"), "got 'Mars'"),
        (("--interval", "0.5"), "interval must be in [1, 31,622,400] seconds, a year, got 0.5"),
        (
            ("--interval", "1e300"),
            "interval must be in [1, 31,622,400] seconds, a year, got 1e+300",
        ),
        (("--interval", "nan"), "interval must be in [1, 31,622,400] seconds, a year, got nan"),
        (("--interval", "60", "--set", "width.keep_heads=99"), "width.keep_heads must be in"),
        (("--interval", "60", "--timezone", "UTC"), "timezone must be left out with --interval"),
    ],
)
def test_a_wrong_schedule_starts_nothing(
    args: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = rosita("schedule", "smoke", *args, home=tmp_path / "home")
    assert (done.code, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "home" / "logs").exists()


def test_a_schedule_is_of_a_file_that_its_form_takes(tmp_path: Path) -> None:
    path = tmp_path / "recipe.txt"
    path.write_text("base: smoke\n")
    done = rosita("schedule", str(path), "--interval", "60", home=tmp_path / "home")
    endings = ".yaml, .yml, .json, .toml"
    assert (done.code, done.stderr) == (
        2,
        f"rosita: recipe must end in {endings} to be scheduled, got {path}\n",
    )


@pytest.mark.parametrize(
    "changes",
    [
        ("teacher.labels={LABEL_0: bad, a.b: good}",),
        ("teacher.labels.LABEL_0=bad",),
        ("width={epochs: 2}", "seed=43"),
    ],
)
def test_what_is_typed_fits_the_form(changes: tuple[str, ...]) -> None:
    settings = texts_of(fields_of(changes))
    assert accepted(loaded("flows.deployed.compress"), {"settings": list(settings)})
    there = applied({}, fields_of(settings))
    assert there == applied({}, fields_of(changes))


def test_a_worker_needs_a_server(tmp_path: Path) -> None:
    done = rosita("worker", home=tmp_path)
    assert done.code == 2
    assert "PREFECT_API_URL must name Prefect's server" in done.stderr
    done = rosita("worker", "--limit", "0", home=tmp_path)
    assert (done.code, done.stderr) == (2, "rosita: limit must be at least 1, got 0\n")
    done = rosita("ui", "--worker", "--no-prefect", home=tmp_path)
    assert done.code == 2
    assert "worker must have Prefect's server beside it" in done.stderr


@pytest.mark.parametrize("name", ["compress", "grid", "report", "rerun"])
def test_a_flow_that_is_sent_to_another_process_keeps_its_form(name: str) -> None:
    """As `rosita schedule` sends it: without the module that it is from."""
    sent = cloudpickle.loads(cloudpickle.dumps(getattr(deployed, name)))
    here = getattr(deployed, name)
    assert sent.validate_parameters({}) == here.validate_parameters({})
    first = next(iter(inspect.signature(here.fn).parameters))
    with pytest.raises(ParameterTypeError):
        sent.validate_parameters({first: 7})
