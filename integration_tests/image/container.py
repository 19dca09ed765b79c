"""Runs the built image as the platform does or stricter.

That is with uid 1000, no HOME, no capability, a pipe as stdin, and the connector's files read-only.
Speaks to docker where an engine answers, else to buildah with chroot isolation, which needs no
kernel feature that a plain virtual machine lacks. It does not build: `build.sh` does.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGE = os.environ.get("IMAGE", "airbyte/destination-bulk-tables:dev")
CONNECTOR = "/opt/connector"
BUILDAH = {**os.environ, "BUILDAH_ISOLATION": "chroot"}


@dataclass(frozen=True)
class Container:
    """An image and how to run a command in it."""

    command: tuple[str, ...]  # up to the image's or the container's name; options may follow
    after: tuple[str, ...]  # the name, and what stands between it and the shell
    config: dict[str, Any]  # the image's own: User, Env, Labels, Entrypoint

    def run(
        self, script: str, folder: Path | None = None, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a shell script in the image, with a folder of the host as /secrets (read-only)."""
        volume = ["--volume", f"{folder}:/secrets:ro"] if folder else []
        return subprocess.run(
            [*self.command, *volume, *self.after, "-c", f"unset HOME; {script}"],
            input=stdin,
            capture_output=True,
            timeout=300,
            check=False,
            env=BUILDAH,
        )

    def verb(
        self, *arguments: str, folder: Path | None = None, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the connector as the platform's pods do: through AIRBYTE_ENTRYPOINT."""
        return self.run(f'eval "$AIRBYTE_ENTRYPOINT {shlex.join(arguments)}"', folder, stdin)


@contextmanager
def container() -> Iterator[Container]:
    """Open the built image with the engine of this machine."""
    if _answers("docker", "info"):
        (inspected,) = json.loads(_output("docker", "image", "inspect", IMAGE))
        start = "docker run --rm --interactive --network=host --user=1000:1000 --cap-drop=ALL"
        yield Container(
            command=(*start.split(), "--read-only", "--tmpfs=/tmp", "--entrypoint=/bin/sh"),
            after=(IMAGE,),
            config=inspected["Config"],
        )
        return
    inspected = json.loads(_output("buildah", "inspect", "--type=image", IMAGE))
    name = _output("buildah", "from", "--pull-never", IMAGE).strip()
    start = "buildah run --terminal=false --user=1000:1000 --cap-drop=ALL"
    try:
        files = _output("buildah", "mount", name).strip() + CONNECTOR
        yield Container(
            command=(*start.split(), f"--volume={files}:{CONNECTOR}:ro"),
            after=(name, "--", "/bin/sh"),
            config=inspected["OCIv1"]["config"],
        )
    finally:
        _output("buildah", "rm", name)


def _answers(*command: str) -> bool:
    if not shutil.which(command[0]):
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=BUILDAH)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
