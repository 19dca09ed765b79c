"""Where the lines of a trace go: a local file at once, or objects in a store, part by part.

`write` never waits for a store: a part is put by a thread of its own, and `close` waits for the
last one so long and no longer. Each verb raises what keeps a line from being written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.errors import TransientError
from destination_bulk_tables.private_files import file_in, make_folder, name_of_sync, open_private
from destination_bulk_tables.stores import Store, StoreSettings, is_store

SETTING = "diagnostics.trace_path"
PART_BYTES = 1_000_000
PART_S = 60.0  # how much a process that is killed may leave untold
MOST_BYTES = 8_000_000  # in memory, while a store does not answer
PATIENCE_S = 10.0  # for the last part, when everything else is done


def open_place(
    path: str, settings: StoreSettings, clock: Clock, stop: threading.Event
) -> FilePlace | StorePlace:
    """Raises `OSError`, or `ConfigError` for a store that cannot be opened."""
    if not is_store(path):
        return FilePlace(path, clock)
    store = Store(path, settings, SETTING, stop)
    sync = name_of_sync(clock.now())

    def put(number: int, data: bytes) -> None:
        key = f"{sync}/{number:06}.jsonl"
        store.wait(store.start(lambda: store.put(key, data)))

    return StorePlace(put, clock)


class FilePlace:
    """A file for its owner alone, never through a link; in a folder a new one for each sync."""

    def __init__(self, path: str, clock: Clock) -> None:
        found = file_in(path, "trace", clock.now())
        make_folder(found.parent)
        self._file, _ = open_private(found)

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class StorePlace:
    """Objects `SYNC/NUMBER.jsonl`; `put` writes one."""

    def __init__(self, put: Callable[[int, bytes], None], clock: Clock) -> None:
        self._put = put
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, "trace")
        self._under_way: Future[None] | None = None
        self._lines: list[bytes] = []
        self._n_bytes = 0
        self._number = 0
        self._put_at = clock.monotonic()

    def write(self, data: bytes) -> None:
        self._lines.append(data)
        self._n_bytes += len(data)
        is_due = self._clock.monotonic() - self._put_at >= PART_S
        if self._n_bytes < PART_BYTES and not is_due:
            return
        if self._under_way is None or self._under_way.done():
            self._begin()
        elif self._n_bytes > MOST_BYTES:
            raise TransientError("the store takes parts slower than they come")

    def close(self) -> None:
        try:
            for _ in range(2):  # the part under way, and the rest
                if self._under_way is not None:
                    self._under_way.result(PATIENCE_S)
                if self._lines:
                    self._begin()
        except NotYetError:
            message = f"the store did not take the last part within {PATIENCE_S:.0f} s"
            raise TransientError(message) from None
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        """Put what is gathered; raises what kept the part before away."""
        if self._under_way is not None:
            self._under_way.result()
        data, self._lines, self._n_bytes = b"".join(self._lines), [], 0
        self._number += 1
        self._put_at = self._clock.monotonic()
        self._under_way = self._pool.submit(self._put, self._number, data)
