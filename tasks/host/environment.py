"""Settings of the process, to be in place before the libraries that read them are imported."""

from __future__ import annotations

import os
import pwd
import warnings
from collections.abc import Mapping
from pathlib import Path

from tasks.home import Home

PREFECT_HOME, PREFECT_API_URL = "PREFECT_HOME", "PREFECT_API_URL"
PREFECT_PROFILES, PREFECT_UI_URL = "PREFECT_PROFILES_PATH", "PREFECT_UI_URL"
LOOPBACK = ("127.0.0.1", "localhost", "::1")

DEFAULTS = {
    # Prefect's temporary server takes over 20 s, its own limit, on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Messages reach Prefect's server as before; the terminal has our progress instead.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # Its address of a run would come before our results on stdout.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A request that is not answered is tried again later, so it may be given up soon.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


# How OpenMP's threads wait for each other, which they do hundreds of times in a step of a training.
# Where they sleep at once, distilling a small student takes up to twice as long; where they spin as
# long as by default, it takes twenty times as long beside a process that keeps a core busy. A tenth
# of a millisecond, several times what waking a thread takes, is as fast as the default on a quiet
# machine and four times as fast as that on such a busy one. So it is where OpenMP is GNU's, as
# torch's on Linux; elsewhere threads sleep. A machine that is always busy is better off with 2000.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}


def not_said(environment: Mapping[str, str]) -> dict[str, str]:
    """What is to be set in an environment; of how threads wait nothing, where it says anything."""
    waiting = {} if WAITING.keys() & environment.keys() else WAITING
    return {name: one for name, one in (DEFAULTS | waiting).items() if name not in environment}


def prepare_environment() -> None:
    """Set what the user has not set, and keep loopback away from a proxy."""
    os.environ.update(not_said(os.environ))
    said = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    direct = [name.strip() for name in said.split(",") if name.strip()]
    if "*" not in direct:
        direct += [name for name in LOOPBACK if name not in direct]
        # Libraries read one or the other.
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(direct)


def stand_in_for_a_user(home: Path) -> None:
    """Libraries ask for the user's name and folder, which a container may not have."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("HOME", str(home))
        os.environ.setdefault("USER", str(os.getuid()))


def keep_prefect_in(home: Path) -> None:
    """Prefect's own files belong to the home, unless the user says where they or their server are.

    To be called before Prefect is imported. A profile that the user has made still counts.
    """
    if os.environ.get(PREFECT_HOME) or os.environ.get(PREFECT_API_URL):
        return
    profiles = Path("~/.prefect/profiles.toml").expanduser()
    if profiles.is_file():
        os.environ.setdefault(PREFECT_PROFILES, str(profiles))
    os.environ[PREFECT_HOME] = str(Home(home).prefect)
    # It tries to make its folder as it is imported; a home that is only looked at may be missing.
    warnings.filterwarnings("ignore", "Failed to create the Prefect home directory")
