"""Where runs are recorded, and how to show such an address without the secrets in it.

`MLFLOW_TRACKING_URI` may hold a name and a password. They stay in the environment: whatever is
shown or written down goes through `redacted`, and `with_credentials` puts them back for sending.
"""

import os
import re
from pathlib import Path

from tasks.home import Home

# A password of a database may hold anything but an @, a slash as well; that of a web address ends
# the way the address itself does.
_WEB = re.compile(r"(?P<scheme>\bhttps?://)[^\s/?#]*@", re.IGNORECASE)
_OTHER = re.compile(
    r"(?P<scheme>\b(?!https?:)[a-z][a-z0-9+.-]*://)(?:[^\s/:@]*:[^\s@]*|[^\s/:@]*)@", re.IGNORECASE
)
_OPTION = re.compile(
    r"(?P<name>[?&;][\w.-]*(?:password|passwd|pwd|secret|token|key)=)[^&;\s]*", re.IGNORECASE
)


def tracking_uri(home: str | Path) -> str:
    """`MLFLOW_TRACKING_URI` if set, else a SQLite file in the home. It may hold a password."""
    return os.environ.get("MLFLOW_TRACKING_URI") or default_uri(home)


def default_uri(home: str | Path) -> str:
    """The SQLite file in the home."""
    return f"sqlite:///{Home(home).mlflow_database}"


def is_own(home: str | Path, uri: str) -> bool:
    """Whether a URI names the SQLite file in the home, however it spells the path."""
    scheme, _, path = uri.partition(":///")
    return scheme == "sqlite" and Path(path).resolve() == Home(home).mlflow_database.resolve()


def redacted(text: str) -> str:
    """A URI, or a text with URIs in it, without the names and passwords in them."""
    for pattern in (_WEB, _OTHER):
        text = pattern.sub(r"\g<scheme>", text)
    return _OPTION.sub(r"\g<name>***", text)


def bare(address: str) -> str:
    """What no address is, to be shown: without a scheme it is not told what of it is a password."""
    return address.rpartition("@")[2]


def web_address(variable: str) -> str | None:
    """The address in a variable of the environment, with its credentials; None where it is unset.

    Raises:
        ValueError: where it is none of the web.
    """
    address = os.environ.get(variable)
    if address and not address.startswith(("http://", "https://")):
        raise ValueError(f"{variable} must begin with http:// or https://, got {bare(address)}")
    return address or None


def with_credentials(uri: str) -> str:
    """A redacted URI with the credentials of `MLFLOW_TRACKING_URI`, where it is the same place."""
    current = os.environ.get("MLFLOW_TRACKING_URI", "")
    same = redacted(current).rstrip("/") == redacted(uri).rstrip("/")
    return current if current and same else uri


def is_remote(uri: str) -> bool:
    """Whether a tracking URI names a server, which may answer late or never."""
    return uri.startswith(("http", "databricks"))
