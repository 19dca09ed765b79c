"""Print what poetry.lock pins for running the connector, as pip requirements with hashes.

The image is built from the lock, without Poetry: the base image's own pip installs it. Only the
packages of the main group whose markers hold for the interpreter that runs this are printed.
Needs nothing but pip, whose vendored `packaging` reads the markers. Not part of the connector.
"""

import tomllib
from pathlib import Path

from pip._vendor.packaging.markers import Marker


def main() -> None:
    """Read poetry.lock in the working directory."""
    for package in tomllib.loads(Path("poetry.lock").read_text(encoding="utf-8"))["package"]:
        marker = package.get("markers", "python_version > '3'")
        if isinstance(marker, dict):  # a marker per group
            marker = marker.get("main", "python_version > '3'")
        if "main" in package["groups"] and Marker(marker).evaluate({"extra": ""}):
            hashes = " ".join(f"--hash={file['hash']}" for file in package["files"])
            print(f"{package['name']}=={package['version']} {hashes}")


if __name__ == "__main__":
    main()
