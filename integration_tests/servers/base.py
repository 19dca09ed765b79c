"""What every real server of the integration tests has in common: its contract, install, process.

Invariant: a server listens on 127.0.0.1 only, lives in its own process group and temporary
folder, and is gone (by process id) after stop(). Servers are installed once, in a cache folder
that the environment variable BULK_SERVERS_CACHE or a `.cache` in the checkout names.
It does not know any server and shares no code with the connector.
"""

from __future__ import annotations

import atexit
import base64
import fcntl
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import requests

Kind = Literal["text", "number", "boolean"]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
TableRow = dict[str, Json]

CHECKOUT = Path(__file__).resolve().parents[2]
_numbers = itertools.count()


class UnavailableError(Exception):
    """The server cannot be installed on this machine; the message is the reason."""


@dataclass(frozen=True)
class Column:
    """One column of a table to create."""

    name: str
    kind: Kind = "text"
    required: bool = False


@dataclass(frozen=True)
class Call:
    """One request of a server's API, as plain data; `$rows` stands for the rows as sent."""

    method: str
    path: str
    body: str = ""
    headers: str = ""


@dataclass(frozen=True)
class Answer:
    """What the server was measured to answer: status and the telling part of the body."""

    status: int
    body: str = ""


@dataclass(frozen=True)
class Facts:
    """A server's bulk API as measured; test_servers.py repeats the measurements.

    `answers` has, as far as the server knows them, the cases good, good_upsert,
    upsert_without_new_rows, repeated_insert, bad_row (one in a batch), wrong_credentials,
    no_credentials, over_rows, over_bytes and unknown_table. `bad_row` are the members that make a
    good row one the server refuses, and `bad_row_stored` those with which it stores that row all
    the same, if it does. `stored_beside_bad_row` tells whether the good rows beside it are stored,
    `repeat_doubles` whether a repeated insert stores its rows twice. `authentication` is empty
    where there is none.
    """

    insert: Call
    check: Call
    count: Call
    answers: Mapping[str, Answer]
    bad_row: TableRow
    upsert: Call | None = None
    empty: tuple[Call, ...] = ()
    authentication: str = ""
    bad_row_stored: TableRow | None = None
    stored_beside_bad_row: bool = False
    repeat_doubles: bool = False
    survives_kill: bool = True
    max_rows: int | None = None
    max_bytes: int | None = None
    notes: tuple[str, ...] = ()


class BulkServer(Protocol):
    """A real server that takes rows in bulk.

    `headers` hold what authenticates a request, `credentials` the bare token or user and password.
    """

    name: str
    facts: Facts
    base_url: str
    headers: dict[str, str]
    credentials: dict[str, str]
    unavailable: str | None

    def install(self, folder: Path | None = None) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...
    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None: ...
    def new_table(self, columns: Sequence[Column], key: str) -> str: ...
    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response: ...
    def upsert(self, table: str, rows: Sequence[TableRow]) -> requests.Response: ...
    def empty(self, table: str) -> None: ...
    def rows(self, table: str) -> list[TableRow]: ...
    def count(self, table: str) -> int: ...


def cache_folder() -> Path:
    """Return the folder that keeps installed servers; a `.cache` in the checkout ignores itself."""
    named = os.environ.get("BULK_SERVERS_CACHE")
    folder = Path(named) if named else CHECKOUT / ".cache" / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    if not named:
        (folder.parent / ".gitignore").write_text("*\n")
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Let one process at a time install into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def run_install(command: Sequence[str], cwd: Path) -> None:
    """Run one install command; its last words are the reason when it fails."""
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=900, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{command[0]}: {type(error).__name__}") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise UnavailableError(f"{Path(command[0]).name} exit {done.returncode}: {last}")


def install_once(folder: Path, wanted: str, commands: Sequence[Sequence[str]]) -> None:
    """Run the commands in the folder unless its stamp says that exactly this is installed."""
    with _locked(folder):
        stamp = folder / "installed"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        stamp.unlink(missing_ok=True)
        for command in commands:
            run_install(command, folder)
        stamp.write_text(wanted)


def pip_install(folder: Path, *requirements: str) -> Path:
    """Install into a virtual environment of its own and return its bin folder.

    Our own pip does it, and compiles nothing: a server uses a part of what it brings.
    """
    pip = (sys.executable, "-m", "pip", "--python", "venv/bin/python")
    commands = (
        (sys.executable, "-m", "venv", "--clear", "--without-pip", "venv"),
        (*pip, "install", "-q", "--no-compile", *requirements),
    )
    install_once(folder, f"{sys.version} {' '.join(requirements)}", commands)
    return folder / "venv/bin"


def npm_install(
    folder: Path,
    *packages: str,
    pins: Mapping[str, str] | None = None,
    runs_scripts: bool = True,
) -> Path:
    """Install npm packages into the folder and return its node_modules.

    `pins`: versions of packages that these bring. `runs_scripts`: theirs, which may compile.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise UnavailableError("npm is not installed")
    with _locked(folder):
        text = json.dumps({"private": True, "overrides": pins or {}})
        (folder / "package.json").write_text(text)
    scripts = () if runs_scripts else ("--ignore-scripts",)
    command = (npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *scripts, *packages)
    install_once(folder, " ".join(packages), (command,))
    return folder / "node_modules"


def apt_lock() -> AbstractContextManager[Path]:
    """Let one process at a time look for programs of Debian packages, and install them."""
    return _locked(cache_folder() / "apt")


def apt_install(program: str, *packages: str) -> Path:
    """Install Debian packages unless the program is there, and return its path."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    # a program is there before its package is configured: whoever looks waits for who installs
    with apt_lock() as folder:
        found = shutil.which(program, path=path)
        if found is None:
            if os.geteuid() != 0 or shutil.which("apt-get") is None:
                wanted = " ".join(packages)
                raise UnavailableError(f"{program}: installing {wanted} needs root and apt")
            apt_get = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600")
            run_install((*apt_get, "update"), folder)
            run_install((*apt_get, "install", "-y", "--no-install-recommends", *packages), folder)
            found = shutil.which(program, path=path)
    if found is None:
        raise UnavailableError(f"{' '.join(packages)} did not bring {program}")
    return Path(found)


def free_port() -> int:
    """Return a port of 127.0.0.1 that no other test gets, to be listened on later and again.

    Not one of those that the system gives away by itself: until a server has started, and while a
    killed one is down, somebody's connection or listener would take it.
    """
    while True:
        port = 22_000 + secrets.randbelow(10_000)  # above that of test_standard.py
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0destination-bulk-tables-test-{port}")  # a name, not a file
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        atexit.register(claim.close)  # as long as this process lives
        return port


@dataclass
class Daemon:
    """One server process in a temporary folder; `ready_url` answers below 500 once it is up."""

    command: Sequence[str]
    folder: Path
    ready_url: str
    ready_headers: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def launch(self, deadline_s: float = 180) -> None:
        """Start the process and wait for its first answer."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        atexit.register(self.signal, signal.SIGKILL)
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            with suppress(requests.RequestException):
                answer = requests.get(self.ready_url, headers=self.ready_headers, timeout=5)
                if answer.status_code < 500:
                    return
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
                break
        self.signal(signal.SIGKILL)
        raise RuntimeError(f"{self.command[0]} did not answer: {self.log()[-1000:]}")

    def log(self) -> str:
        """Return what the server printed so far."""
        return (self.folder / "server.log").read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Signal the process group (nginx has workers) and wait until the process is gone."""
        process, self.process = self.process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)
        atexit.unregister(self.signal)


class LocalServer:
    """The life of an installed server's process; what it runs and answers is the server's own."""

    name: str

    def __init__(self) -> None:
        self.unavailable: str | None = None
        self.base_url = ""
        self.headers: dict[str, str] = {}
        self.credentials: dict[str, str] = {}
        self.daemon: Daemon | None = None

    def install(self, folder: Path | None = None) -> None:
        """Install it where servers are kept; the second call is fast."""
        try:
            self.fetch((folder or cache_folder()) / self.name)
        except UnavailableError as error:
            self.unavailable = str(error)

    def fetch(self, home: Path) -> None:
        """Bring the program into a folder. Raises UnavailableError where that cannot be."""
        raise NotImplementedError

    def place(self) -> tuple[Path, int]:
        """Give it a folder and a port of its own; its address is known from now on."""
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        return temporary_folder(self.name), port

    def use_basic(self, username: str) -> str:
        """Have requests carry a user with a fresh password, which is returned."""
        password = secrets.token_hex(12)
        self.credentials = {"username": username, "password": password}
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {pair}"}
        return password

    def use_token(self, token: str, header: str = "Authorization", value: str = "Bearer ") -> None:
        """Have requests carry a token."""
        self.credentials = {"token": token}
        self.headers = {header: value + token}

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create an empty table."""
        raise NotImplementedError

    def new_table(self, columns: Sequence[Column], key: str) -> str:
        """Create an empty table under a name that no other has."""
        name = f"n{next(_numbers)}"
        self.create_table(name, columns, key)
        return name

    def upsert(self, table: str, rows: Sequence[TableRow]) -> requests.Response:
        """Send one bulk upsert, where the API has one."""
        raise NotImplementedError

    def launch(self, command: Sequence[str], folder: Path, ready_path: str) -> None:
        """Start the command and remember it for stop, kill and restart."""
        self.daemon = Daemon(command, folder, self.base_url + ready_path, self.headers)
        self.daemon.launch()

    def stop(self) -> None:
        """End the server politely and remove its data."""
        if self.daemon is not None:
            self.daemon.signal(signal.SIGTERM)
            shutil.rmtree(self.daemon.folder, ignore_errors=True)
            self.daemon = None

    def kill(self) -> None:
        """Kill the server where it stands; its data stays for restart()."""
        if self.daemon is not None:
            self.daemon.signal(signal.SIGKILL)

    def restart(self) -> None:
        """Start the killed server again, on the same port and data."""
        if self.daemon is None:
            raise RuntimeError("restart() of a server that was never started")
        self.daemon.launch()

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send one request, as JSON unless the body is bytes; nothing here judges the answer."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = dict(self.headers if headers is None else headers)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        # a connection for each: a server closes an idle one at times just as it is used again, and
        # some wait for those that are open when they are to end
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method, self.base_url + path, data=data, headers=sent, timeout=120
            )

    def must(self, method: str, path: str, body: object = None) -> requests.Response:
        """Send one request that has to succeed."""
        response = self.call(method, path, body)
        if not response.ok:
            raise RuntimeError(f"{method} {path}: {response.status_code} {response.text[:300]}")
        return response


class PipServer(LocalServer):
    """A server that pip installs; `bin`: where its programs are then."""

    requirements: tuple[str, ...]
    bin = Path()

    def fetch(self, home: Path) -> None:
        """Install with pip."""
        self.bin = pip_install(home, *self.requirements)


def column_definitions(columns: Sequence[Column], key: str, types: Mapping[str, str]) -> str:
    """Return the columns of a `create table`; in a type `{0}` stands for the column's name."""
    return ", ".join(
        f"{column.name} {types[column.kind].format(column.name)}"
        + (" primary key" if column.name == key else "")
        + (" not null" if column.required or column.name == key else "")
        for column in columns
    )


def renamed(rows: Sequence[TableRow], old: str, new: str) -> list[TableRow]:
    """Return rows in which a column has another name."""
    return [{new if name == old else name: row[name] for name in row} for row in rows]


def temporary_folder(name: str) -> Path:
    """Return a fresh folder for a server's data."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-"))
