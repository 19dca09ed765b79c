"""What is installed with the connector: above known advisories, and no more than it needs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["poetry"][
    "dependencies"
]


@pytest.mark.parametrize(
    ("name", "first_good"),
    [("urllib3", (2, 8)), ("requests", (2, 33)), ("pyjwt", (2, 13))],
)
def test_a_floor_is_a_version_without_known_advisories(
    name: str, first_good: tuple[int, int]
) -> None:
    """`pip install .` takes any version above it."""
    wanted = NEEDED[name]
    floor = wanted["version"] if isinstance(wanted, dict) else wanted
    major, minor = map(int, re.findall(r"\d+", floor)[:2])
    assert (major, minor) >= first_good


def test_the_image_holds_no_more_than_the_command_needs() -> None:
    """Not the CDK, which brings packages with advisories that the command never imports."""
    program = ROOT / "integration_tests/image/requirements.py"
    done = subprocess.run(
        [sys.executable, str(program)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    packages = [line.partition("==")[0] for line in done.stdout.splitlines()]
    assert {"requests", "urllib3", "pyjwt", "cryptography", "msgspec"} <= set(packages)
    assert not {"airbyte-cdk", "nltk", "pandas", "numpy", "grpcio"} & set(packages)
    assert len(packages) < 25
