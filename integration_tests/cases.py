"""The ways to write that are enumerated, what a table must hold for them, and where trials run.

A source of a dozen rows in three batches, with a state after each third row, so that batches and
states do not end together. A case knows its input and reads tables; it starts nothing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from integration_tests.forked import Nursery
from integration_tests.scenario import (
    TABLE,
    Ended,
    Row,
    WatchedEmulator,
    catalog,
    record,
    state,
    status,
)
from integration_tests.vendor_configs import Vendor, config_for

T = TypeVar("T")
R = TypeVar("R")
PARALLEL = 12
COLUMNS = {"id": {"type": "integer"}, "seq": {"type": "integer"}, "name": {"type": "string"}}
TYPES = {"id": "number", "seq": "number", "name": "string"}
CANARY = "canary-value"
OLD = [{"id": 900 + n, "seq": 900 + n, "name": "old"} for n in range(5)]


@dataclass(frozen=True)
class Case:
    """One way to write; `ids`: the keys repeat after so many rows, 0: each row has its own.

    `age_s`: how old the rows of a table to replace are.
    """

    vendor: Vendor
    mode: str
    provider: dict[str, Any] = field(default_factory=dict)
    switches: dict[str, Any] = field(default_factory=dict)
    rows: int = 12
    ids: int = 0
    max_rows: int = 4
    age_s: float = 0.0

    @property
    def replaces(self) -> bool:
        return self.mode == "overwrite"

    @property
    def is_keyed(self) -> bool:
        return self.vendor == "qobra" or self.mode == "append_dedup"

    @property
    def keeps_old_or_new(self) -> bool:
        """Whether the table holds all old or all new rows whatever happens."""
        is_debounced = "debounce_seconds" in self.provider
        return not is_debounced and self.provider.get("replace_strategy") != "delete_then_insert"

    def source(self) -> list[Row]:
        ids = self.ids or self.rows
        return [{"id": n % ids, "seq": n, "name": f"{CANARY}-{n}"} for n in range(1, self.rows + 1)]

    def lines(self, start: int) -> Iterator[bytes]:
        """The input after so many rows were acknowledged, a state after each third row."""
        for row in self.source()[start:]:
            yield record(row)
            if row["seq"] % 3 == 0:
                yield state(row["seq"])
        yield status()

    def config(self, url: str) -> dict[str, Any]:
        config = config_for(self.vendor, url, batching={"max_rows": self.max_rows})
        config["provider"] |= self.provider
        return config

    def catalog(self) -> dict[str, Any]:
        key = ["id"] if self.mode == "append_dedup" else []
        generations = (7, 7, 70) if self.replaces else (0, 0, 70)
        # the platform rewrites overwrite to append
        return catalog(
            "append" if self.replaces else self.mode, COLUMNS, key=key, generations=generations
        )

    def prepare(self, emulator: WatchedEmulator) -> None:
        """Make the table as it was before, and forget everything else."""
        emulator.reset()
        emulator.set(**{"qobra_import_s": 0.02, **self.switches})
        emulator.create_table(self.vendor, TABLE, TYPES)
        if self.replaces:
            emulator.fill(self.vendor, OLD)
            emulator.advance(self.age_s)

    def missing(self, rows: Sequence[Row], count: int) -> list[int]:
        """Which of the first rows are not in the table, in this or a later version of their key."""
        source = self.source()
        if not self.is_keyed:
            return sorted({row["seq"] for row in source[:count]} - {row["seq"] for row in rows})
        last = {row["id"]: row["seq"] for row in source}
        stored: dict[int, int] = {}
        for row in rows:
            stored[row["id"]] = max(row["seq"], stored.get(row["id"], 0))
        # a key that comes again may be between its delete and its insert
        once = [row for row in source[:count] if last[row["id"]] == row["seq"]]
        return [row["seq"] for row in once if stored.get(row["id"], 0) < row["seq"]]

    def doubled(self, rows: Sequence[Row]) -> dict[int, int]:
        """Which keys (or rows, where they have none) are there more than once, and how often."""
        counts = Counter(row["id"] if self.is_keyed else row["seq"] for row in rows)
        return {key: count - 1 for key, count in counts.items() if count > 1}

    def content(self, rows: Sequence[Row]) -> Literal["old", "new", "both", "part"]:
        """What a table to replace holds: all old rows, all new ones, both, or less than either."""
        found = {row["seq"] for row in rows}
        has_old = {row["seq"] for row in OLD} <= found
        if {row["seq"] for row in self.source()} <= found:
            return "both" if has_old else "new"
        return "old" if has_old else "part"


CASES = {
    "qobra append": Case("qobra", "append"),
    "qobra append_dedup": Case("qobra", "append_dedup", ids=5),
    "qobra overwrite in one request": Case("qobra", "overwrite", max_rows=100),
    "qobra overwrite debounced": Case("qobra", "overwrite", {"debounce_seconds": 2}),
    "kore append": Case("kore", "append"),
    "kore append_dedup": Case("kore", "append_dedup", ids=5),
    "kore overwrite insert_then_delete": Case("kore", "overwrite"),
    "kore overwrite delete_then_insert": Case(
        "kore", "overwrite", {"replace_strategy": "delete_then_insert"}
    ),
}


def within_its_window(emulator: WatchedEmulator, attempt: Callable[[], Ended]) -> Ended:
    """Repeat an attempt that a loaded machine did not get through its debounce window in time.

    That is a right end, which a platform meets with its next attempt.
    """
    attempts = 0
    while True:
        ended = attempt()
        emulator.settle()
        attempts += 1
        is_late = ended.failure == "transient_error" and "debounce_seconds" in ended.message
        if not is_late or attempts == 10:
            return ended


def positions(kinds: Sequence[str]) -> list[int]:
    """Return which requests to break, by number: of polls in a row the first and the last."""
    around = zip(["", *kinds], kinds, [*kinds[1:], ""], strict=False)
    return [at for at, three in enumerate(around, 1) if set(three) != {"import"}]


class Stand:
    """Runs trials side by side, each with an emulator of its own, because they mostly wait."""

    def __init__(self, nursery: Nursery) -> None:
        self.nursery = nursery

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._free = [stack.enter_context(WatchedEmulator()) for _ in range(PARALLEL)]
            self._lock = threading.Lock()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(
        self, trial: Callable[[WatchedEmulator, Path, T], R], items: Sequence[T], folder: Path
    ) -> list[R]:
        """Call `trial(emulator, folder, item)` for each item; results in the order of the items."""

        def one(number: int) -> R:
            with self._lock:
                emulator = self._free.pop()
            try:
                return trial(emulator, folder / str(number), items[number])
            finally:
                with self._lock:
                    self._free.append(emulator)

        with ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(one, range(len(items))))
