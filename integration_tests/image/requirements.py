"""Print what poetry.lock pins for running the console script, as pip requirements with hashes.

The image is built from the lock, without Poetry: the base image's own pip installs it. Only the
packages whose markers hold for the interpreter that runs this are printed, and only those that the
script needs: the CDK is for whoever drives destinations by their class (`destination.py`), and
brings packages with known advisories that the script never imports. Needs nothing but pip, whose
vendored `packaging` reads the markers. Not part of the connector.
"""

import tomllib
from pathlib import Path
from typing import Any

from pip._vendor.packaging.markers import Marker
from pip._vendor.packaging.utils import canonicalize_name

NOT_RUN = {"airbyte-cdk", "python"}


def main() -> None:
    """Read pyproject.toml and poetry.lock in the working directory."""
    packages = {
        package["name"]: package
        for package in _read("poetry.lock")["package"]
        if "main" in package["groups"] and _holds(package)
    }
    wanted = list(_read("pyproject.toml")["tool"]["poetry"]["dependencies"])
    wanted = [name for name in wanted if name not in NOT_RUN]
    wanted.append("cryptography")  # PyJWT's extra `crypto`
    needed: set[str] = set()
    while wanted:
        name: str = canonicalize_name(wanted.pop())
        if name in packages and name not in needed:
            needed.add(name)
            wanted += packages[name].get("dependencies", {})
    for name in sorted(needed):
        hashes = " ".join(f"--hash={file['hash']}" for file in packages[name]["files"])
        print(f"{name}=={packages[name]['version']} {hashes}")


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(name).read_text(encoding="utf-8"))


def _holds(package: dict[str, Any]) -> bool:
    marker = package.get("markers", "python_version > '3'")
    if isinstance(marker, dict):  # a marker per group
        marker = marker.get("main", "python_version > '3'")
    return Marker(marker).evaluate({"extra": ""})


if __name__ == "__main__":
    main()
