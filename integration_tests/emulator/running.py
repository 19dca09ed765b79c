"""An emulator run from Python: a thread with direct access, or a process with the admin API."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import msgspec

from .server import Server
from .world import Vendor, World

_ROOT = Path(__file__).parents[2]  # from where the emulator's module is found


class Emulator(World):
    """A world with a server in front of it, on a thread of its own."""

    def __init__(self, storage: str = ":memory:", port: int = 0, **switches: Any) -> None:
        super().__init__(storage, **switches)
        self._server = Server(self, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="emulator", daemon=True)

    @property
    def url(self) -> str:
        """Return the base URL of both vendors."""
        return f"http://127.0.0.1:{self._server.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(60)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()
        self.close()

    def down(self, seconds: float) -> None:
        """Be unreachable (connection refused) for some seconds."""
        asyncio.run_coroutine_threadsafe(self._server.down(seconds), self._loop).result(60)


class EmulatorProcess:
    """An emulator as a process, for benchmarks; its methods mirror those of `Emulator`."""

    def __init__(self, *arguments: str, **switches: Any) -> None:
        given = [f"--switch={name}={json.dumps(value)}" for name, value in switches.items()]
        self._command = [
            sys.executable,
            "-m",
            __package__ or "emulator",
            "--port=0",
            *arguments,
            *given,
        ]
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=_ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.url, self._admin = re.findall(r"http://\S+", line)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)
        if self._process.stdout:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def requests(self) -> list[dict[str, Any]]:
        """Return the log of vendor requests."""
        return list(self._get("requests"))

    def imports(self) -> list[dict[str, Any]]:
        """Return all Qobra imports."""
        return list(self._get("imports"))

    def rows(self, vendor: Vendor, table: str) -> list[dict[str, Any]]:
        """Return the rows with exact numbers."""
        return list(self._get("rows", vendor=vendor, table=table))

    def raw_rows(self, vendor: Vendor, table: str) -> list[bytes]:
        """Return the rows as the JSON texts that were received."""
        address = self._address("rows", vendor=vendor, table=table)
        with urllib.request.urlopen(address) as answer:  # noqa: S310
            return [
                bytes(raw) for raw in msgspec.json.decode(answer.read(), type=list[msgspec.Raw])
            ]

    def summary(self) -> dict[str, Any]:
        """Return settings, tables with counts, and the numbers of requests and imports."""
        return dict(self._get("summary"))

    @property
    def rate_violations(self) -> int:
        """Count the requests that broke a Kore.ai rate window."""
        return int(self.summary()["rate_violations"])

    def count(self, vendor: Vendor, table: str) -> int:
        """Count the rows."""
        return int(self._get("count", vendor=vendor, table=table)["count"])

    def checksum(self, vendor: Vendor, table: str) -> str:
        """Return the checksum of the rows."""
        return str(self._get("checksum", vendor=vendor, table=table)["checksum"])

    def set(self, **switches: Any) -> None:
        """Change switches."""
        self._post("settings", switches)

    def faults(self, script: list[dict[str, Any]]) -> None:
        """Replace the fault script."""
        self._post("faults", script)

    def create_table(
        self, vendor: Vendor, name: str, columns: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        """Make an empty table."""
        self._post("tables", {"vendor": vendor, "name": name, "columns": columns, **more})

    def add_app(self, client_id: str, secret: str, **more: Any) -> None:
        """Register a Kore.ai app."""
        self._post("apps", {"client_id": client_id, "secret": secret, **more})

    def advance(self, seconds: float) -> None:
        """Move the emulated time ahead."""
        self._post("advance", {"seconds": seconds})

    def down(self, seconds: float) -> None:
        """Be unreachable for some seconds."""
        self._post("down", {"seconds": seconds})

    def reset(self) -> None:
        """Empty and forget everything."""
        self._post("reset", {})

    def _address(self, name: str, **query: str) -> str:
        return f"{self._admin}/_admin/{name}?{urlencode(query)}"

    def _get(self, name: str, **query: str) -> Any:
        with urllib.request.urlopen(self._address(name, **query)) as answer:  # noqa: S310
            return json.load(answer, parse_float=Decimal)

    def _post(self, name: str, payload: Any) -> None:
        request = urllib.request.Request(self._address(name), json.dumps(payload).encode())  # noqa: S310
        try:
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                answer.read()
        except urllib.error.HTTPError as error:
            raise ValueError(error.read().decode()) from error
