"""Idempotency keys: the same each time a batch is sent, and never the same for two batches.

An API that knows a key answers without storing anything. So rows alone make no key: equal rows may
come again, in this sync or the next, and a table that was emptied gets the same load. A batch of an
insert is known by its rows, by how many equal ones were before it, and by the job, so that a later
attempt of the job finds what an earlier one stored. What replaces a table or may be repeated anyway
is known within this run only: an earlier attempt's key would stand for a table that is gone.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from hashlib import sha256
from uuid import UUID

from destination_bulk_tables.model import RowBlock

MOST_KNOWN = 50_000  # batches that are told from equal ones; more begin a new series of keys
LENGTH = len(str(UUID(int=0)))


class BatchKeys:
    """Sender threads share one."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._seen: Counter[bytes] = Counter()
        self._series = 0

    def key(self, path: str, body: bytes, block: RowBlock, job: str) -> str:
        """The key of a block's request; `job` is empty where no later attempt may know it."""
        content = sha256(path.encode() + b"\0" + body).digest()
        if block.repetition is None:
            block.repetition = self._next(content)
        salt = f"{job or self._run} {block.repetition} ".encode()
        return str(UUID(bytes=sha256(salt + content).digest()[:16]))

    def _next(self, content: bytes) -> str:
        """Which of the batches with this content comes now."""
        with self._lock:
            if len(self._seen) >= MOST_KNOWN:
                self._seen.clear()
                self._series += 1
            self._seen[content] += 1
            return f"{self._series}.{self._seen[content]}"
