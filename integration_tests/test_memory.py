"""Memory of the real command: bounded by its batches, not by what source or vendor do.

VmHWM is read while the process runs. The emulator is a process of its own, so that it does not slow
the connector down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration_tests.emulator import EmulatorProcess
from integration_tests.scenario import TABLE, Sync, catalog, record, state, status
from integration_tests.vendor_configs import Vendor, config_for

pytestmark = pytest.mark.timeout(600)

BOUND_MB = 200
ENOUGH = 1_000_000
CHUNK = 5_000
SCHEMA: dict[str, Any] = {
    "id": {"type": "integer"},
    "name": {"type": "string"},
    "note": {"type": "string"},
}


def chunk(start: int, note: str = "n" * 40) -> bytes:
    """Return record lines without the last newline."""
    return b"\n".join(
        b'{"type":"RECORD","record":{"stream":"%b","emitted_at":1,"data":'
        b'{"id":%d,"name":"name of row %d","note":"%b"}}}' % (TABLE.encode(), n, n, note.encode())
        for n in range(start, start + CHUNK)
    )


def watched(sync: Sync, until: Callable[[], bool], seconds: float) -> float:
    """Return the peak in megabytes while waiting; fails when it does not come true in time."""
    deadline, peak = time.monotonic() + seconds, 0.0
    while not until():
        assert time.monotonic() < deadline
        peak = max(peak, sync.peak_megabytes)
        threading.Event().wait(0.05)
    return max(peak, sync.peak_megabytes)


@pytest.mark.parametrize(("vendor", "rows"), [("qobra", 1_000_000), ("kore", 200_000)])
def test_a_replace_of_a_million_rows(tmp_path: Path, vendor: Vendor, rows: int) -> None:
    """The rows wait on disk; what is in memory hardly grows with them.

    Qobra's are kept by key, which takes the most; its window is half an hour, here 10 s after the
    last request.
    """
    switches = {"time_scale": 200.0, "qobra_window": "sliding"}
    with EmulatorProcess(auto_create_tables=True, **switches) as emulator:
        config = config_for(vendor, emulator.url, batching={"max_rows": 5000})
        configured = catalog("overwrite", SCHEMA, generations=(2, 2, 2))
        lines = (chunk(start) for start in range(0, rows, CHUNK))
        started = time.monotonic()
        with Sync(tmp_path, config, configured) as sync:
            feeding = threading.Thread(target=lambda: sync.feed([*lines, state(rows), status()]))
            feeding.start()
            fed = watched(sync, lambda: not feeding.is_alive(), 300)
            read = time.monotonic() - started
            sync.close_input()
            sent = watched(sync, lambda: sync.states > 0, 300)
            ended = sync.wait()
        assert (ended.code, ended.seen) == (0, [rows]), ended.message
        assert list(sync.temporary.iterdir()) == []
        assert emulator.count(vendor, TABLE) == rows
    print(
        f"{vendor}: {rows} rows replaced; peak {fed:.0f} MB while staging ({read:.0f} s), "
        f"{sent:.0f} MB in all ({ended.seconds:.0f} s)"
    )
    assert 0 < sent <= BOUND_MB


@pytest.mark.parametrize(("vendor", "mode"), [("qobra", "append_dedup"), ("kore", "append")])
def test_a_stalled_vendor_and_a_fast_source(tmp_path: Path, vendor: Vendor, mode: str) -> None:
    """Nothing is answered and rows of 1 KB keep coming: the connector stops reading in time."""
    with EmulatorProcess(auto_create_tables=True) as emulator:
        emulator.faults([{"kind": "stall_before", "match": "/bulk", "count": None}])
        config = config_for(vendor, emulator.url, batching={"max_parallel_requests": 8})
        configured = catalog(mode, SCHEMA, key=["id"] if mode == "append_dedup" else [])
        fed = 0

        def feed(sync: Sync) -> None:
            nonlocal fed
            for start in range(0, ENOUGH, CHUNK):
                if not sync.feed([chunk(start, "n" * 1000)]):
                    return
                fed += CHUNK

        with Sync(tmp_path, config, configured) as sync:
            feeding = threading.Thread(target=feed, args=[sync])
            feeding.start()
            peak = watched(sync, _unchanged(lambda: fed, 2.0), 200)
            assert 0 < fed < ENOUGH
            assert sync.states == 0
            sync.kill()
            feeding.join(60)
    print(f"{vendor} {mode}: peak {peak:.0f} MB, {fed} rows read before it waited")
    assert 0 < peak <= BOUND_MB


def _large_states() -> Iterator[bytes]:
    """200 states of a megabyte, each after a row."""
    line = state(0)
    filler = b'"seen": 0, "filler": "%b"' % (b"x" * 1_000_000)
    for n in range(200):
        yield record({"id": n, "name": "x", "note": "y"})
        yield line.replace(b'"seen": 0', filler, 1)


def _growing_states() -> Iterator[bytes]:
    """1,500 states of which each lists all partitions so far, as substreams send them."""
    line = state(0)
    partitions = b""
    for n in range(1500):
        partitions += b'{"partition": {"id": %d}, "cursor": {"at": "2026-01-01T00:00:00Z"}},' % n
        yield record({"id": n, "name": "x", "note": "y"})
        yield line.replace(b'"seen": 0', b'"seen": 0, "states": [%b0]' % partitions, 1)


def _large_rows() -> Iterator[bytes]:
    """200 MB in rows of 200 KB."""
    for n in range(1000):
        yield record({"id": n, "name": "x", "note": "y" * 200_000})


def _some_rows() -> Iterator[bytes]:
    """Three rows for each of 60 tables."""
    for n in range(60):
        yield from (record({"id": i, "name": "x", "note": "y"}, f"t{n}") for i in range(3))
        yield status("COMPLETE", f"t{n}")


@pytest.mark.parametrize(
    ("vendor", "mode", "lines", "most_mb"),
    [
        ("qobra", "append", _large_states, 120),
        ("qobra", "overwrite", _large_states, 120),
        ("qobra", "overwrite", _growing_states, 100),
        ("kore", "overwrite", _large_rows, 150),
        ("kore", "append", _large_rows, 150),
        ("qobra", "overwrite", _some_rows, 80),
    ],
)
def test_what_waits_is_bounded_in_bytes(
    tmp_path: Path, vendor: Vendor, mode: str, lines: Callable[[], Iterator[bytes]], most_mb: int
) -> None:
    """States, rows of any size and many tables: none of them adds up in memory."""
    with EmulatorProcess(auto_create_tables=True, time_scale=50.0) as emulator:
        config = config_for(vendor, emulator.url)
        configured = catalog(mode, SCHEMA, generations=(2, 2 if mode == "overwrite" else 0, 2))
        if lines is _some_rows:
            (one,) = configured["streams"]
            configured["streams"] = [
                {**one, "stream": {**one["stream"], "name": f"t{n}"}} for n in range(60)
            ]
        with Sync(tmp_path, config, configured) as sync:
            feeding = threading.Thread(target=lambda: sync.feed([*lines(), status()]))
            feeding.start()
            fed = watched(sync, lambda: not feeding.is_alive(), 200)
            sync.close_input()
            peak = max(fed, watched(sync, lambda: sync.peak_megabytes == 0, 200))
            ended = sync.wait()
        assert ended.code == 0, ended.message
    print(f"{mode} {lines.__name__}: peak {peak:.0f} MB")
    assert 0 < peak <= most_mb


def _unchanged(value: Callable[[], int], seconds: float) -> Callable[[], bool]:
    """Make a question: whether the value has stayed the same for so long and is not 0."""
    last = [0, time.monotonic()]

    def ask() -> bool:
        if value() != last[0]:
            last[:] = [value(), time.monotonic()]
        return last[0] > 0 and time.monotonic() - last[1] > seconds

    return ask
