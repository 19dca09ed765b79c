"""`airbyte-source-faker`, in an environment of its own and spoken to through its verbs only.

Invariant: it is never replaced by something that looks like it. Where it is not installed, it gets
installed, or the caller fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_ENVIRONMENT = ROOT / ".venv-faker"  # as the Makefile names it


def installed_command() -> str:
    """Return the path of `source-faker` (or what SOURCE_FAKER names); install it where missing."""
    named = os.environ.get("SOURCE_FAKER")
    if named:
        return named
    command = _ENVIRONMENT / "bin" / "source-faker"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", _ENVIRONMENT], check=True)
        pip = _ENVIRONMENT / "bin" / "pip"
        subprocess.run([pip, "install", "--quiet", "airbyte-source-faker"], check=True)
    return str(command)


@dataclass(frozen=True)
class Faker:
    """One source: `users` users, as many purchases, and at most 100 products."""

    folder: Path  # its config and catalog are written here
    users: int
    seed: int = 7  # with one worker the same rows each time, but for their updated_at

    @property
    def rows(self) -> dict[str, int]:
        """Return how many rows each stream has."""
        return {
            "products": min(self.users, 100),
            "users": self.users,
            "purchases": self.users,
        }

    def title(self) -> str:
        """Return the title of its spec."""
        (spec,) = self._messages("SPEC", "spec")
        return str(spec["connectionSpecification"]["title"])

    def catalog(self) -> dict[str, Any]:
        """Discover, and configure every stream as a platform would: incremental, append."""
        (discovered,) = self._messages("CATALOG", "discover", "--config", self._config())
        streams = [
            {
                "stream": stream,
                "sync_mode": "incremental",
                "cursor_field": stream["default_cursor_field"],
                "primary_key": stream["source_defined_primary_key"],
                "destination_sync_mode": "append",
                "generation_id": 0,
                "minimum_generation_id": 0,
                "sync_id": 1,
            }
            for stream in discovered["streams"]
        ]
        return {"streams": streams}

    def read(self, catalog: Path, stdout: Any) -> subprocess.Popen[bytes]:
        """Start reading into `stdout`, a file or subprocess.PIPE."""
        return subprocess.Popen(
            [
                installed_command(),
                "read",
                "--config",
                self._config(),
                "--catalog",
                str(catalog),
            ],
            stdout=stdout,
        )

    def _config(self) -> str:
        path = self.folder / "source.json"
        path.write_text(json.dumps({"count": self.users, "seed": self.seed, "parallelism": 2}))
        return str(path)

    def _messages(self, kind: str, *arguments: str) -> list[Any]:
        """Run a verb and return the content of its messages of one kind."""
        done = subprocess.run([installed_command(), *arguments], stdout=subprocess.PIPE, check=True)
        messages = [json.loads(line) for line in done.stdout.splitlines()]
        return [message[kind.lower()] for message in messages if message["type"] == kind]
