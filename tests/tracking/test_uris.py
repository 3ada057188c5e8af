"""Addresses that are shown or written down hold no names and passwords."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    ENDPOINT_NOT_FOUND,
    INTERNAL_ERROR,
    PERMISSION_DENIED,
)
from typed_command import Home

from tasks.host.redaction import redacted, with_credentials
from tasks.host.wording import error_line, trace_of
from tasks.tracking.errors import Unavailable, brief, is_refusal


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:secret@host:5000/a@b", "https://host:5000/a@b"),
        ("https://secret@host", "https://host"),
        ("http://host/a:b@c", "http://host/a:b@c"),
        ("HTTP://user:se@cret@host", "HTTP://host"),
        ("postgresql://user:sec/ret@host/db", "postgresql://host/db"),
        ("postgresql+psycopg2://secret@host/db", "postgresql+psycopg2://host/db"),
        ("mysql://host/db?user=a&password=secret&x=1", "mysql://host/db?user=a&password=***&x=1"),
        ("sqlite:////home/a:b@c/mlflow.db", "sqlite:////home/a:b@c/mlflow.db"),
        ("API request to https://u:secret@h/api failed", "API request to https://h/api failed"),
    ],
)
def test_secrets_are_left_out_and_nothing_else(uri: str, shown: str) -> None:
    assert redacted(uri) == shown
    assert redacted(shown) == shown
    assert "secret" not in brief(RuntimeError(uri))
    assert "secret" not in str(Unavailable(RuntimeError(uri)))


@pytest.mark.parametrize("shown", [error_line, trace_of])
def test_what_is_said_of_an_error_has_no_secret(shown: Callable[[Exception], str]) -> None:
    """A client of a server puts the whole address into its errors."""
    with httpx.Client(base_url="http://user:hush@127.0.0.1:9/api/") as client:
        answer = httpx.Response(500, request=client.build_request("GET", "flow_runs"))
    with pytest.raises(httpx.HTTPStatusError, match="hush") as failed:
        answer.raise_for_status()
    said = shown(failed.value)
    assert "http://127.0.0.1:9/api/flow_runs" in said and "hush" not in said


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("ROSITA_MLFLOW_URL", "ftp://user:hush@mlflow.example"),
        ("ROSITA_MLFLOW_URL", "user:hush@mlflow.example"),
        ("MLFLOW_TRACKING_URI", "user:hush@mlflow.example"),
    ],
)
def test_what_a_command_says_has_no_secret(tmp_path: Path, variable: str, address: str) -> None:
    home = Home(tmp_path / "home", tmp_path / "prefect", {})
    done = home.run("compress", "--recipe", "smoke", env={variable: address})
    assert done.returncode == 2, done.stderr
    assert f"rosita: {variable} must " in done.stderr and "mlflow.example" in done.stderr
    assert "hush" not in done.stdout + done.stderr
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"hush" in path.read_bytes()]


def test_credentials_come_from_the_environment_for_the_same_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@host/")
    assert with_credentials("https://host") == "https://user:secret@host/"
    assert with_credentials("https://other") == "https://other"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert with_credentials("https://host") == "https://host"


@pytest.mark.parametrize("error", [FileNotFoundError, NotADirectoryError, PermissionError])
def test_a_folder_that_is_not_there_now_may_be_there_later(error: type[OSError]) -> None:
    assert not is_refusal(error(2, "no", "/mnt/models"))
    # The other runs go on meanwhile; a connection that fails stops them all.
    assert Unavailable(error(2, "no", "/mnt/models")).answered
    assert not Unavailable(ConnectionRefusedError(111, "no")).answered


@pytest.mark.parametrize("code", [PERMISSION_DENIED, ENDPOINT_NOT_FOUND])
def test_what_one_user_may_not_do_stops_no_other_run(code: int) -> None:
    """As of a registered model of somebody else's, or of a server that is older than we."""
    denied = MlflowException("API request to endpoint /x failed with error code 403", code)
    assert not is_refusal(denied)
    assert Unavailable(denied).answered
    away = MlflowException("API request to http://x failed with exception", INTERNAL_ERROR)
    assert not Unavailable(away).answered
