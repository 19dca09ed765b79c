"""PyAirbyte in an environment of its own, which the Makefile makes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

ROOT = Path(__file__).parents[2]
_WARM = Path(__file__).with_name("warm.py")
_PROGRAMS = ("pyab", "source-smoke-test")
# a program that has `warm.py` do its work, and starts in no time
_CLIENT = """#!{python} -IS
import json, os, socket, sys
order = {{"arguments": [*{program}, *sys.argv[1:]], "folder": os.getcwd()}}
order["environment"] = dict(os.environ)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as warm:
    warm.connect("\\0{address}")
    socket.send_fds(warm, [json.dumps(order).encode()], [0, 1, 2])
    sys.exit(int(warm.recv(16)))
"""


@dataclass(frozen=True)
class PyAirbyte:
    """Runs its programs offline, with whatever they write in one folder.

    All of them are forks of one process, those that PyAirbyte starts by itself too.
    """

    folder: Path
    environment: dict[str, str]

    @classmethod
    @contextmanager
    def started(cls, bin_folder: Path, folder: Path) -> Iterator[Self]:
        """Have it imported once, in this folder, until the block ends."""
        clients = folder / "programs"
        clients.mkdir()
        address = f"pyairbyte-{os.getpid()}"
        programs = {"python": [], **{name: [str(bin_folder / name)] for name in _PROGRAMS}}
        for name, program in programs.items():
            client = clients / name
            values = {"python": sys.executable, "program": program, "address": address}
            client.write_text(_CLIENT.format(**values))
            client.chmod(0o755)
        offline = {
            "AIRBYTE_OFFLINE_MODE": "1",
            "DO_NOT_TRACK": "1",
            "AIRBYTE_LOGGING_ROOT": str(folder / "logs"),
            "PATH": os.pathsep.join([str(clients), os.environ["PATH"]]),
        }
        with subprocess.Popen(
            [bin_folder / "python", _WARM, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | offline,
            cwd=folder,
        ) as warm:
            assert warm.stdout is not None
            assert warm.stdout.readline() == b"ready\n"
            yield cls(folder, offline)

    def run(self, program: str, *arguments: str, path: Sequence[Path] = ()) -> str:
        """Run a program of the environment to its good end and return what it printed."""
        own = self.environment["PATH"]
        done = subprocess.run(
            [self.folder / "programs" / program, *arguments],
            env=os.environ | self.environment | {"PATH": os.pathsep.join([*map(str, path), own])},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture
def pyairbyte(tmp_path: Path) -> Iterator[PyAirbyte]:
    """Make the environment where it is missing, and start it."""
    environment = ".venv-pyairbyte"
    python = f"PYTHON={sys.base_prefix}/bin/python3"
    pip = f"PIP={sys.executable} -m pip"
    make = ["make", "--silent", python, pip, f"{environment}/.installed"]
    subprocess.run(make, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    with PyAirbyte.started(ROOT / environment / "bin", tmp_path) as started:
        yield started
