"""Addresses that are shown or written down hold no names and passwords."""

import pytest

from tasks.host.redaction import redacted, with_credentials
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
