"""The README's commands, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from integration_tests.servers.base import free_port

ROOT = Path(__file__).parents[1]


def test_a_first_sync_by_hand(tmp_path: Path) -> None:
    """The block leads from nothing to a row in the emulator's table."""
    [block] = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    script = block.replace("make install\n", "").replace("8899", str(free_port()))
    script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    done = subprocess.run(
        ["bash", "-euc", f"trap 'kill $(jobs -p) || true' EXIT\n{script}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"SUCCEEDED"' in done.stdout
    assert "first request: POST" in done.stdout
    assert '"recordCount":1.0' in done.stdout
    assert done.stdout.rstrip().endswith('[{"id":"a","amount":13.5}]')
