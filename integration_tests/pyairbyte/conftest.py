"""PyAirbyte in an environment of its own, which the Makefile makes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class PyAirbyte:
    """Runs its programs offline, with whatever they write in one folder."""

    bin: Path

    def run(self, folder: Path, program: str, *arguments: str, path: Sequence[Path] = ()) -> str:
        """Run a program of the environment to its good end and return what it printed."""
        offline = {
            "AIRBYTE_OFFLINE_MODE": "1",
            "DO_NOT_TRACK": "1",
            "AIRBYTE_LOGGING_ROOT": str(folder / "logs"),
            "PATH": os.pathsep.join([*map(str, (self.bin, *path)), os.environ["PATH"]]),
        }
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            env=os.environ | offline,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="session")
def pyairbyte() -> PyAirbyte:
    """Make the environment where it is missing."""
    environment = ".venv-pyairbyte"
    python = f"PYTHON={sys.base_prefix}/bin/python3"
    pip = f"PIP={sys.executable} -m pip"
    make = ["make", "--silent", python, pip, f"{environment}/.installed"]
    subprocess.run(make, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return PyAirbyte(ROOT / environment / "bin")
