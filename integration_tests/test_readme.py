"""The commands of README and of a page it leads to, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from integration_tests.servers import Datasette
from integration_tests.servers.base import free_port

ROOT = Path(__file__).parents[1]
OURS = Path(sys.executable).parent


def _block(page: str) -> str:
    """The page's only block of shell commands."""
    [block] = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    return str(block)


def _run(script: str, folder: Path, *programs: Path) -> str:
    """What the script prints; what it leaves running is ended."""
    path = ":".join(map(str, (*programs, os.environ["PATH"])))
    done = subprocess.run(
        ["bash", "-euc", f"trap 'kill $(jobs -p) || true' EXIT\n{script}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_first_sync_by_hand(tmp_path: Path) -> None:
    """The block leads from nothing to a row in the emulator's table."""
    script = _block("README.md").replace("make install\n", "").replace("8899", str(free_port()))
    printed = _run(script.replace(".venv/bin/", f"{OURS}/"), tmp_path)
    assert '"SUCCEEDED"' in printed
    assert "first request: POST" in printed
    assert '"recordCount":1.0' in printed
    assert printed.rstrip().endswith('[{"id":"a","amount":13.5}]')


def test_rows_in_datasette(tmp_path: Path) -> None:
    """The block leads from nothing to two rows, the one that came twice with its last amount."""
    server = Datasette()
    server.install()
    block = _block("docs/custom_http.md")
    install = f"pip install . '{server.requirements[0]}' && "
    assert install in block
    port = str(free_port())
    look = f"curl -s 'localhost:{port}/lab/deals.json?_shape=array'"
    script = block.replace(install, "").replace("8201", port) + look
    printed = _run(script, tmp_path, OURS, server.bin)
    assert '"SUCCEEDED"' in printed
    assert printed.rstrip().endswith('[{"id": "a", "amount": 13.5}, {"id": "b", "amount": 20.0}]')
