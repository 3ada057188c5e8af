"""The services of deployments/compose.yaml as processes on loopback, by their own commands.

What compose itself makes of the file is run: command, environment and health check, with the
variables that name hosts and ports. In the place of the object store is moto's server.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from object_store import ObjectStore
from serving import free_ports

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments"
SECONDS = 240
STOP_SECONDS = 20
SECRETS = (
    "POSTGRES_PASSWORD",
    "PREFECT_DATABASE_PASSWORD",
    "MLFLOW_DATABASE_PASSWORD",
    "PREFECT_PASSWORD",
    "MLFLOW_PASSWORD",
    "MLFLOW_SECRET_KEY",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
)
# Where the images have what lies here in this folder.
IN_IMAGE, HERE = "/opt/", f"{FOLDER}/images/servers/"


def compose(variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`docker-compose config` of the file, with these variables and no others."""
    tool = shutil.which("docker-compose")
    assert tool, "docker-compose must be installed (Debian's package of that name), got none"
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    profiles = [part for name in ("cpu", "gpu", "champion") for part in ("--profile", name)]
    return subprocess.run(
        [tool, "--file", str(FOLDER / "compose.yaml"), *profiles, "config"],
        env=kept | dict(variables),
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def configured(variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The services as compose understands them."""
    done = compose(variables)
    assert done.returncode == 0, done.stderr
    services: dict[str, dict[str, Any]] = yaml.safe_load(done.stdout)["services"]
    return services


class TeamStack:
    """PostgreSQL, Prefect's and MLflow's servers and an object store."""

    def __init__(self) -> None:
        # PostgreSQL refuses root and must be able to enter.
        self.folder = Path(tempfile.mkdtemp(prefix="rosita-team-"))
        self.folder.chmod(0o755)
        postgres, prefect, mlflow, champion = free_ports(4)
        self.objects = ObjectStore(self.folder)
        self.secrets = {name: f"secret-{secrets.token_hex(12)}" for name in SECRETS}
        self.variables = self.secrets | {
            "LISTEN": "127.0.0.1",
            "POSTGRES_LISTEN": "127.0.0.1",
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(postgres),
            "PREFECT_HOST": "127.0.0.1",
            "PREFECT_PORT": str(prefect),
            "PREFECT_PUBLIC_URL": f"http://127.0.0.1:{prefect}",
            "MLFLOW_PUBLIC_URL": f"http://127.0.0.1:{mlflow}",
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": str(mlflow),
            "MLFLOW_WORKERS": "1",
            "MLFLOW_AUTH_CONFIG": f"{HERE}auth.ini",
            "CHAMPION": "rosita-smoke-onnx",
            "CHAMPION_PORT": str(champion),
            "S3_ENDPOINT": self.objects.endpoint,
        }
        self.services = configured(self.variables)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def prefect(self) -> str:
        return f"http://127.0.0.1:{self.variables['PREFECT_PORT']}"

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self.variables['MLFLOW_PORT']}"

    @property
    def champion(self) -> str:
        return f"http://127.0.0.1:{self.variables['CHAMPION_PORT']}"

    def worker_environment(self) -> dict[str, str]:
        """What a worker of the team has; ROSITA_HOME is the test's."""
        environment = dict(self.services["worker"]["environment"])
        del environment["ROSITA_HOME"]
        return environment

    def start(self) -> None:
        """All services, in the order in which they depend on each other."""
        self.objects.start()
        self._start_postgres()
        done = self._process("buckets")
        assert done.wait(SECONDS) == 0, self.log("buckets")
        for name in ("prefect", "mlflow"):
            self._running[name] = self._process(name)
        for name in ("prefect", "mlflow"):
            self.until_healthy(name)

    def stop(self) -> None:
        for name in reversed(list(self._running)):
            self.stop_service(name)
        self.objects.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_service(self, name: str) -> None:
        """Start it once more; returns when it is healthy."""
        self._running[name] = self._process(name)
        self.until_healthy(name)

    def stop_service(self, name: str) -> None:
        """End it in order, and whatever is left of it after a while."""
        process = self._running.pop(name)
        # PostgreSQL does not wait for its clients by this one.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def until_healthy(self, name: str) -> None:
        """Wait until the service's own health check says so."""
        check = self.services[name]["healthcheck"]["test"]
        assert check[0] == "CMD"
        deadline = time.monotonic() + SECONDS
        while subprocess.run(
            check[1:], env=self._environment(name), capture_output=True
        ).returncode:
            assert self._running[name].poll() is None, self.log(name)
            assert time.monotonic() < deadline, self.log(name)
            time.sleep(0.5)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def logs(self) -> dict[str, str]:
        return {path.name: path.read_text(errors="replace") for path in self.folder.glob("*.log")}

    def psql(self, database: str, query: str) -> str:
        """What PostgreSQL answers its superuser."""
        shape = ("--no-align", "--tuples-only", f"--dbname={database}")
        return self.postgres_tool("psql", *shape, "--command", query)

    def postgres_tool(self, name: str, *arguments: str, stdin: str = "") -> str:
        """What a client of PostgreSQL prints, as the superuser."""
        variables = {
            "PATH": _search_path(),
            "PGHOST": "127.0.0.1",
            "PGPORT": self.variables["POSTGRES_PORT"],
            "PGUSER": "postgres",
            "PGPASSWORD": self.secrets["POSTGRES_PASSWORD"],
        }
        return subprocess.run(
            [name, *arguments],
            env=os.environ | variables,
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def _start_postgres(self) -> None:
        """As the official image does: a data directory, the script, the server."""
        data, password = self.folder / "postgres", self.folder / "password"
        password.write_text(self.secrets["POSTGRES_PASSWORD"])
        data.mkdir(mode=0o700)
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(data, user.pw_uid, user.pw_gid)
            os.chown(password, user.pw_uid, user.pw_gid)
        arguments = self.services["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()
        local = ("--auth-local=trust", "--username=postgres", f"--pwfile={password}")
        subprocess.run(
            [*_as_postgres(), "initdb", "--pgdata", str(data), *local, *arguments],
            check=True,
            capture_output=True,
            cwd=self.folder,
            env=os.environ | {"PATH": _search_path()},
        )
        password.unlink()
        with (data / "postgresql.conf").open("a") as file:
            file.write(f"unix_socket_directories = '{data}'\n")
        self._running["postgres"] = self._process("postgres", _as_postgres())
        self.until_healthy("postgres")
        environment = self._environment("postgres") | {"PGPORT": self.variables["POSTGRES_PORT"]}
        subprocess.run(
            ["sh", str(FOLDER / "images/postgres/databases.sh")], env=environment, check=True
        )

    def _process(self, name: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        command = [part.replace(IN_IMAGE, HERE) for part in self.services[name]["command"]]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*prefix, *command],
                env=self._environment(name),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _environment(self, name: str) -> dict[str, str]:
        place = {
            "PATH": _search_path(),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "PYTHONSAFEPATH": "1",
            "HOME": str(self.folder),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PGDATA": str(self.folder / "postgres"),
            # Of its socket, which is in no folder of the system here.
            "PGHOST": str(self.folder / "postgres"),
        }
        return place | dict(self.services[name]["environment"])


def _search_path() -> str:
    """`python`, `prefect` and `mlflow` are those of the tests, `postgres` is Debian's."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name)
    )
    places = [Path(sys.executable).parent, *debian[-1:]]
    return os.pathsep.join([*map(str, places), os.environ["PATH"]])


def _as_postgres() -> tuple[str, ...]:
    if os.getuid() != 0:
        return ()
    return ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
