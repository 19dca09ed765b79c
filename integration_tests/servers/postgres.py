"""A PostgreSQL for servers that keep their rows in one.

It runs as the user postgres, as it refuses to run as root.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
from pathlib import Path

from integration_tests.servers.base import (
    LocalServer,
    apt_install,
    apt_lock,
    free_port,
    temporary_folder,
)

USER = "postgres"


class Postgres:
    """One database without a password, on a port of 127.0.0.1."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        self._folder = temporary_folder("postgres")
        self._programs = programs()
        if os.geteuid() == 0:
            shutil.chown(self._folder, USER)
        self._run("initdb", "--auth=trust", f"--username={USER}", "--no-sync")
        atexit.register(self.stop)

    def start(self) -> None:
        """Start it, after a crash as well."""
        settings = "-c listen_addresses=127.0.0.1 -c fsync=off"
        options = f"-p {self.port} -k {self._folder} {settings}"
        self._run("pg_ctl", "start", "-w", "-l", str(self._folder / "log"), "-o", options)

    def kill(self) -> None:
        """Have all its processes end where they stand."""
        if (self._folder / "data/postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-m", "immediate")

    def stop(self) -> None:
        """End it and remove its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def ask(self, statements: str) -> str:
        """Run SQL and return what it prints, a line per row."""
        command = [str(self._programs / "psql"), self.url, "-Atq", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            command, input=statements, capture_output=True, text=True, check=True, timeout=300
        )
        return done.stdout.strip()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", USER, "--", *command]
        environment = {**os.environ, "PGDATA": str(self._folder / "data")}
        subprocess.run(
            command, cwd="/", env=environment, stdout=subprocess.DEVNULL, check=True, timeout=300
        )


class OnPostgres(LocalServer):
    """A server that keeps its rows in a database of its own; the two live and die together."""

    def __init__(self) -> None:
        super().__init__()
        self.postgres: Postgres | None = None

    def stop(self) -> None:
        """End it and its database."""
        super().stop()
        if self.postgres is not None:
            self.postgres.stop()

    def kill(self) -> None:
        """Kill it and its database where they stand."""
        super().kill()
        if self.postgres is not None:
            self.postgres.kill()

    def restart(self) -> None:
        """Start both again."""
        if self.postgres is not None:
            self.postgres.start()
        super().restart()


def programs() -> Path:
    """The folder of its programs, installed with apt unless they are there."""
    folder = Path("/usr/lib/postgresql")
    with apt_lock():
        is_there = any(folder.glob("*/bin/pg_ctl"))
    if not is_there:
        apt_install("psql", "postgresql")
    return max(folder.glob("*/bin"))
