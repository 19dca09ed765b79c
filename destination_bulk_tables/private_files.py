"""Files with the values of rows: for their owner alone, and never through a link."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

_FOR_OWNER = 0o600
_FOLDER_FOR_OWNER = 0o700
# a pipe that nobody reads would be waited for
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def file_in(path: str, stem: str, now: float) -> Path:
    """The file that a path names; in a folder one of its own for this Unix time."""
    if path.endswith("/") or Path(path).is_dir():
        return Path(path) / f"{stem}-{stamp_of(now)}.jsonl"
    return Path(path)


def stamp_of(now: float) -> str:
    """A Unix time in a name: names are in the order of their times."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def name_of_sync(now: float) -> str:
    """A name in the order of time that no other sync has."""
    return f"{stamp_of(now)}-{secrets.token_hex(4)}"


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each for its owner alone."""
    for missing in [path for path in (folder, *folder.parents) if not path.exists()][::-1]:
        missing.mkdir(_FOLDER_FOR_OWNER, exist_ok=True)


def open_private(path: Path) -> tuple[BinaryIO, bool]:
    """Open a file to append to, and tell whether this made it. Raises `OSError` for a link."""
    try:
        opened, is_made = os.open(path, _APPEND | os.O_CREAT | os.O_EXCL, _FOR_OWNER), True
    except FileExistsError:
        opened, is_made = os.open(path, _APPEND), False
    os.set_blocking(opened, True)
    return os.fdopen(opened, "ab"), is_made


def is_at(path: Path, file: BinaryIO) -> bool:
    """Whether a path still leads to this file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
