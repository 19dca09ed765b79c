"""Run Airbyte's own connector checks on this checkout and print a table of the results.

They come from the package airbyte-internal-ops, which needs Python 3.12: `make qa`. They expect
Airbyte's monorepo, so the tracked files are laid out as one in a temporary folder. What they would
ask of the internet is answered here: the base image exists, the connector was never released. Ends
with 1 if a check fails that is not in EXPECTED; checks for sources only are counted, not shown.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NAME = "destination-bulk-tables"
ROOT = Path(__file__).parents[2]
# This repository is built on its own, so its Dockerfile stays.
EXPECTED = {"CheckConnectorUsesPythonBaseImage"}


def lay_out(monorepo: Path) -> None:
    """Copy what git tracks to where the monorepo would have it."""
    connector = monorepo / "airbyte-integrations" / "connectors" / NAME
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, tracked.stdout.decode().split("\0")):
        target = connector / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, target)
    shutil.copytree(ROOT / "docs", monorepo / "docs")
    remote = "https://github.com/airbytehq/airbyte.git"
    for command in (["init", "-q"], ["remote", "add", "origin", remote]):
        subprocess.run(["git", *command], cwd=monorepo, check=True)


def run_checks() -> list[tuple[str, str, str]]:
    """Run every enabled check in the working directory, a monorepo."""
    from airbyte_ops_mcp import metadata_validator  # noqa: PLC0415 - reads the working directory
    from airbyte_ops_mcp.connector_ops.utils import Connector  # noqa: PLC0415
    from airbyte_ops_mcp.connector_qa.checks import ENABLED_CHECKS, version  # noqa: PLC0415

    metadata_validator.is_image_on_docker_hub = lambda *_, **__: True
    metadata_validator.get_latest_version_on_dockerhub = lambda *_, **__: None
    version.CheckVersionIncrement._get_master_metadata = lambda *_: None
    Connector.is_released = property(lambda _: False)
    with contextlib.redirect_stdout(io.StringIO()):  # each validator says that it runs
        results = [check.run(Connector(NAME)) for check in ENABLED_CHECKS]
    return [(type(r.check).__name__, r.status.name, r.message) for r in results]


def main() -> int:
    """Print the table and return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        monorepo = Path(folder) / "airbyte"
        monorepo.mkdir()
        lay_out(monorepo)
        os.chdir(monorepo)
        results = run_checks()
        os.chdir(ROOT)
    failed = {name for name, status, _ in results if status == "FAILED"}
    skipped = [name for name, status, _ in results if status == "SKIPPED"]
    for name, status, message in results:
        if status != "SKIPPED":
            shown = "EXPECTED" if name in failed & EXPECTED else status
            print(f"{shown:<8}  {name.removeprefix('Check'):<37}  {' '.join(message.split())}")
    passed = len(results) - len(failed) - len(skipped)
    print(f"{passed} passed, {len(failed & EXPECTED)} failed as expected", end=", ")
    print(f"{len(failed - EXPECTED)} failed, {len(skipped)} not for a Python destination")
    return 1 if failed - EXPECTED else 0


if __name__ == "__main__":
    sys.exit(main())
