"""Where rows live: one SQLite table per data table, each row one JSON text under a key.

Insertion order is the sequence number. Not thread-safe by itself: `World` holds the lock. A storage
file is for looking at afterwards; it is emptied when an emulator starts on it.
"""
# ruff: noqa: S608 - table names are quoted by _quoted, values are bound

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StoredRow:
    """One row: place in the order of insertion, key, JSON text, times in epoch seconds."""

    seq: int
    key: str
    text: bytes
    created: float
    updated: float


class Storage:
    """Keyed rows of any number of tables."""

    def __init__(self, path: str = ":memory:") -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=off")
        names = self._db.execute(
            "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"
        )
        for (name,) in names.fetchall():
            self._db.execute(f"drop table {_identifier(name)}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def create(self, name: str) -> None:
        """Make an empty table, or empty the one there is."""
        self._db.execute(f"drop table if exists {_quoted(name)}")
        self._db.execute(
            f"create table {_quoted(name)}"
            " (seq integer primary key autoincrement, key text unique, text blob,"
            " created real, updated real)"
        )

    def insert(self, name: str, keyed: Iterable[tuple[str, bytes]], now: float) -> None:
        """Add rows; a key that is there keeps its place and gets the new text."""
        self._db.execute("begin")
        self._db.executemany(
            f"insert into {_quoted(name)} (key, text, created, updated) values (?, ?, ?, ?)"
            " on conflict (key) do update set text = excluded.text, updated = excluded.updated",
            [(key, text, now, now) for key, text in keyed],
        )
        self._db.execute("commit")

    def get(self, name: str, keys: Sequence[str]) -> list[StoredRow]:
        """Find rows by key; absent keys are left out."""
        found: list[StoredRow] = []
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            found += self._select(f"select * from {_quoted(name)} where key in ({marks})", part)
        return sorted(found, key=lambda row: row.seq)

    def page(
        self, name: str, limit: int, offset: int = 0, *, newest_first: bool = False
    ) -> list[StoredRow]:
        """Read rows in the order of insertion; limit -1 is all."""
        order = "desc" if newest_first else "asc"
        return self._select(
            f"select * from {_quoted(name)} order by seq {order} limit ? offset ?", (limit, offset)
        )

    def count(self, name: str) -> int:
        """Count the rows."""
        (number,) = self._db.execute(f"select count(*) from {_quoted(name)}").fetchone()
        return int(number)

    def clear(self, name: str) -> int:
        """Remove all rows and return how many there were."""
        return self._db.execute(f"delete from {_quoted(name)}").rowcount

    def delete(self, name: str, keys: Iterable[str]) -> None:
        """Remove rows by key."""
        self._db.execute("begin")
        self._db.executemany(f"delete from {_quoted(name)} where key = ?", [(key,) for key in keys])
        self._db.execute("commit")

    def _select(self, statement: str, arguments: Sequence[object]) -> list[StoredRow]:
        return [StoredRow(*row) for row in self._db.execute(statement, arguments)]


def _quoted(name: str) -> str:
    """An identifier of this name alone: SQLite tells no capital from a small letter."""
    return _identifier("_" + re.sub("[A-Z^]", r"^\g<0>", name))


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
