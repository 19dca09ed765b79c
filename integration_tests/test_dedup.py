"""append_dedup: the last version of each key is what the table holds, and a deleted key is gone.

Last by cursor within a batch, by arrival where there is no cursor, and in the order of the source
across batches, however many imports are outstanding and in whatever order they end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cases import Stand, within_its_window
from integration_tests.scenario import (
    TABLE,
    Ended,
    Row,
    Sync,
    WatchedEmulator,
    catalog,
    record,
    state,
    status,
)
from integration_tests.vendor_configs import Vendor, config_for

BOTH = pytest.mark.parametrize("vendor", ["qobra", "kore"])
DELETED = "_ab_cdc_deleted_at"
SCHEMA: dict[str, Any] = {
    "id": {"type": ["integer", "string"]},
    "part": {"type": ["null", "string"]},
    "at": {"type": ["null", "string", "number"]},
    "name": {"type": ["null", "string"]},
    DELETED: {"type": ["null", "string"], "format": "date-time"},
}
UNLISTED = {name: kind for name, kind in SCHEMA.items() if name != DELETED}
NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
def emulator() -> Iterator[WatchedEmulator]:
    with WatchedEmulator(qobra_import_s=0.02, auto_create_tables=True) as emulator:
        yield emulator


class Table:
    """A table that rows are kept in by key."""

    def __init__(
        self, stand: Stand, emulator: WatchedEmulator, folder: Path, vendor: Vendor
    ) -> None:
        self.stand, self.emulator, self.folder, self.vendor = stand, emulator, folder, vendor

    def sync(
        self,
        rows: Sequence[Row],
        *,
        key: Sequence[str] = ("id",),
        cursor: str | None = None,
        schema: Mapping[str, Any] = UNLISTED,
        max_rows: int = 100,
        generations: tuple[int, int, int] = (0, 0, 5),
        columns: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Ended:
        """Sync these records, a state at their end, and return how it went."""
        listed = [{"field": f, "column": c} for f, c in (columns or {}).items()]
        config = config_for(self.vendor, self.emulator.url, batching={"max_rows": max_rows}) | more
        config["tables"] = [{"stream": TABLE, "columns": listed or None}]
        configured = catalog(
            "append_dedup", schema, key=key, cursor=cursor, generations=generations
        )

        def attempt() -> Ended:
            with Sync(self.folder, config, configured, nursery=self.stand.nursery) as sync:
                return sync.finish([*map(record, rows), state(len(rows)), status()])

        return within_its_window(self.emulator, attempt)

    def delivered(self, rows: Sequence[Row], **how: Any) -> list[Row]:
        """Sync these records, which must succeed, and return the table without its nulls."""
        ended = self.sync(rows, **how)
        assert (ended.code, ended.seen) == (0, [len(rows)]), ended.message
        assert ended.total("recordCount") == len(rows)
        return self.rows()

    def rows(self) -> list[Row]:
        stored = [
            {name: value for name, value in row.items() if value is not None}
            for row in self.emulator.rows(self.vendor, TABLE)
        ]
        return sorted(stored, key=lambda row: (str(row.get("id", row.get("ID"))), str(row)))


@pytest.fixture
def table(stand: Stand, emulator: WatchedEmulator, tmp_path: Path, vendor: Vendor) -> Table:
    return Table(stand, emulator, tmp_path, vendor)


@BOTH
def test_the_later_cursor_wins_within_a_batch(table: Table) -> None:
    """An older version that arrives late does not replace a newer one; null is older than all."""
    rows: list[Row] = [
        {"id": 1, "at": 9, "name": "new"},
        {"id": 1, "at": 10, "name": "newer by number, not by text"},
        {"id": 1, "at": 2, "name": "old"},
        {"id": 2, "at": "2026-01-01T12:00:00+02:00", "name": "10 UTC"},
        {"id": 2, "at": "2026-01-01T11:00:00Z", "name": "11 UTC"},
        {"id": 2, "at": "2026-01-01T12:30:00+02:00", "name": "10:30 UTC"},
        {"id": 3, "at": "2026", "name": "some cursor"},
        {"id": 3, "at": None, "name": "no cursor"},
        {"id": 4, "at": None, "name": "first of equals"},
        {"id": 4, "at": None, "name": "last of equals"},
    ]
    names = [row["name"] for row in table.delivered(rows, cursor="at")]
    assert names == ["newer by number, not by text", "11 UTC", "some cursor", "last of equals"]


@BOTH
def test_the_later_arrival_wins_without_a_cursor(table: Table) -> None:
    """Without a cursor the order of the source decides, within a batch and across batches."""
    rows = [{"id": n % 3, "name": str(n)} for n in range(20)]
    expected = [{"id": 0, "name": "18"}, {"id": 1, "name": "19"}, {"id": 2, "name": "17"}]
    for max_rows in (1, 4, 100):
        assert table.delivered(rows, max_rows=max_rows) == expected


@pytest.mark.parametrize("vendor", ["qobra"])
@pytest.mark.parametrize("max_rows", [1, 2, 3])
def test_imports_that_overtake_each_other(
    table: Table, emulator: WatchedEmulator, max_rows: int
) -> None:
    """A key that is in an outstanding import waits for it; other keys need not wait."""
    emulator.set(qobra_order="reversed", qobra_import_s=0.05)
    rows = [{"id": n % 4, "name": str(n)} for n in range(12)]
    rows += [{"id": 100 + n, "name": "alone"} for n in range(12)]
    found = table.delivered(rows, max_rows=max_rows)
    assert {row["id"]: row["name"] for row in found if row["id"] < 4} == {
        0: "8",
        1: "9",
        2: "10",
        3: "11",
    }
    assert len(found) == 16


@BOTH
def test_string_keys(table: Table) -> None:
    """A key is text as well as a number, with quotes, newlines and what is not ASCII."""
    keys = ["a", 'say "hi"', "line\nbreak", "ключ", "\\", "x" * 200, "1"]
    table.delivered([{"id": key, "name": "old"} for key in keys])
    found = table.delivered([{"id": key, "name": "new"} for key in keys], max_rows=3)
    assert {row["id"]: row["name"] for row in found} == dict.fromkeys(keys, "new")
    assert len(found) == len(keys)


@pytest.mark.parametrize("vendor", ["kore"])
def test_composite_keys(table: Table) -> None:
    """Two columns make a key together; either alone may repeat."""
    first = [{"id": i, "part": p, "name": "old"} for i in (1, 2) for p in ("a", "b")]
    assert len(table.delivered(first, key=["id", "part"])) == 4
    second = [{"id": 1, "part": "a", "name": "new"}, {"id": 3, "part": "a", "name": "new"}]
    found = table.delivered([*second, second[0]], key=["id", "part"])
    assert sorted((row["id"], row["part"], row["name"]) for row in found) == [
        (1, "a", "new"),
        (1, "b", "old"),
        (2, "a", "old"),
        (2, "b", "old"),
        (3, "a", "new"),
    ]


@pytest.mark.parametrize("vendor", ["kore"])
def test_many_keys(table: Table, emulator: WatchedEmulator) -> None:
    """250 rows of one batch are replaced with a few deletes, not with one each.

    With three while the table is empty, and with one when it shows that it takes a long filter. A
    query in each sync asks for the columns.
    """
    table.delivered([{"id": n, "name": "old"} for n in range(250)], max_rows=1000)
    found = table.delivered([{"id": n, "name": "new"} for n in range(250)], max_rows=1000)
    assert len(found) == 250
    assert {row["name"] for row in found} == {"new"}
    kinds = [request.kind for request in emulator.requests]
    assert [kinds.count(kind) for kind in ("query", "delete", "bulk")] == [6, 4, 2]


@pytest.mark.parametrize("vendor", ["kore"])
@pytest.mark.parametrize(
    "switches",
    [
        {},
        *[
            {"kore_max_expressions": most, "kore_more_expressions": more}
            for most in (100, 150, 999, 1000)
            for more in ("reject", "ignore", "match_all")
        ],
        *[{"kore_delete_max": most} for most in (7, 100, 1000)],
        {"kore_max_expressions": 150, "kore_more_expressions": "ignore", "kore_delete_max": 30},
        {"kore_query_totals": False},
        {"kore_row_order": "random"},
    ],
    ids=str,
)
def test_long_filters(table: Table, emulator: WatchedEmulator, switches: dict[str, Any]) -> None:
    """Each key has its last version, and every other row stays, however a long filter is taken."""
    table.delivered([{"id": n, "name": "old"} for n in range(1500)], max_rows=1000)
    emulator.set(**switches)
    keys = [*range(100, 1300), *range(0, 1400, 2), *range(1600, 1000, -1)]  # twice or more
    rows: list[Row] = [{"id": key, "name": str(n)} for n, key in enumerate(keys)]
    last = {row["id"]: row["name"] for row in rows}
    expected = {**dict.fromkeys(range(1500), "old"), **last}
    for max_rows in (1000, 300):
        found = table.delivered(rows, max_rows=max_rows)
        assert {row["id"]: row["name"] for row in found} == expected
        assert len(found) == len(expected)


@pytest.mark.parametrize("vendor", ["kore"])
@pytest.mark.parametrize("max_rows", [1, 2, 100])
@pytest.mark.parametrize(
    ("schema", "columns"),
    [
        (UNLISTED, None),
        (SCHEMA, {"id": "id", "name": "name"}),
        (SCHEMA, {"id": "ID", "name": "name"}),
    ],
    ids=["not in the schema", "not in the columns", "and the key renamed"],
)
def test_deletes(
    table: Table, max_rows: int, schema: Mapping[str, Any], columns: Mapping[str, str] | None
) -> None:
    """A record with a time of deletion deletes its key; missing or null it is a row like any."""
    rename = columns["id"] if columns else "id"
    how: dict[str, Any] = {"schema": schema, "columns": columns, "max_rows": max_rows}
    table.delivered([{"id": n, "name": "old"} for n in range(1, 6)], **how)
    rows = [
        {"id": 1, "name": "null", DELETED: None},
        {"id": 2, "name": "missing"},
        {"id": 3, "name": "deleted", DELETED: NOW},
        {"id": 203, "name": "never there", DELETED: NOW},
        {"id": 6, "name": "added"},
        {"id": 6, "name": "and deleted", DELETED: NOW},
        {"id": 4, "name": "deleted", DELETED: NOW},
        {"id": 4, "name": "and added"},
    ]
    assert table.delivered(rows, **how) == [
        {rename: 1, "name": "null"},
        {rename: 2, "name": "missing"},
        {rename: 4, "name": "and added"},
        {rename: 5, "name": "old"},
    ]


@pytest.mark.parametrize("vendor", ["kore"])
def test_a_delete_has_a_cursor_too(table: Table) -> None:
    """A late version that is older than the delete does not bring the key back."""
    rows = [
        {"id": 1, "at": 5, "name": "deleted", DELETED: NOW},
        {"id": 1, "at": 4, "name": "older"},
        {"id": 2, "at": 5, "name": "newer"},
        {"id": 2, "at": 4, "name": "deleted before", DELETED: NOW},
    ]
    assert [row["name"] for row in table.delivered(rows, cursor="at")] == ["newer"]


@pytest.mark.parametrize("vendor", ["qobra"])
def test_qobra_cannot_delete(table: Table, tmp_path: Path) -> None:
    """A deleted record ends the sync, or is rejected with that reason; the others go in."""
    rows = [
        {"id": 1, "name": "stays", DELETED: None},
        {"id": 2, "name": "deleted", DELETED: NOW},
        {"id": 3, "name": "stays"},
    ]
    failed = table.sync(rows)
    assert (failed.failure, failed.seen) == ("config_error", [])
    report = tmp_path / "report.jsonl"
    skip = {"policy": "skip", "report_path": str(report)}
    ended = table.sync(rows, rejected_records=skip)
    assert (ended.code, ended.seen, [row["id"] for row in table.rows()]) == (0, [3], [1, 3])
    assert (ended.total("recordCount"), ended.total("rejectedRecordCount")) == (2, 1)
    assert "delete" in report.read_text()


@BOTH
@pytest.mark.parametrize("max_rows", [2, 100])
def test_a_truncating_refresh_keeps_the_last_versions(table: Table, max_rows: int) -> None:
    """Replaced by a stream kept by key: old rows gone, each key once, deleted ones absent."""
    provider = {"debounce_seconds": 3} if table.vendor == "qobra" else {}
    table.delivered([{"id": n, "name": "old"} for n in range(50, 60)])
    rows = [
        {"id": 1, "at": 3, "name": "newest"},
        {"id": 2, "at": 1, "name": "only"},
        {"id": 1, "at": 2, "name": "older"},
        {"id": 3, "at": 1, "name": "added"},
        {"id": 3, "at": 2, "name": "and deleted", DELETED: NOW},
        {"id": 4, "at": 2, "name": "deleted and", DELETED: NOW},
        {"id": 4, "at": 3, "name": "added again"},
    ]
    config = config_for(table.vendor, table.emulator.url)["provider"] | provider
    found = table.delivered(
        rows, cursor="at", generations=(8, 8, 5), max_rows=max_rows, provider=config
    )
    assert [(row["id"], row["name"]) for row in found] == [
        (1, "newest"),
        (2, "only"),
        (4, "added again"),
    ]


@BOTH
def test_a_renamed_key(table: Table) -> None:
    """Primary key and cursor name fields of the source, also when columns renames them."""
    columns = {"id": "ID" if table.vendor == "kore" else "id", "name": "label"}
    if table.vendor == "qobra":
        columns = {"part": "id", "name": "label"}
    key = next(iter(columns))
    rows = [{key: "a", "at": 2, "name": "new"}, {key: "a", "at": 1, "name": "old"}]
    for _ in range(2):
        found = table.delivered(rows, key=[key], cursor="at", columns=columns)
        assert found == [{columns[key]: "a", "label": "new"}]


@pytest.mark.parametrize("vendor", ["qobra"])
@pytest.mark.parametrize("key", [["part"], ["id", "part"]])
def test_qobra_needs_its_id_column_as_the_key(
    table: Table, emulator: WatchedEmulator, key: list[str]
) -> None:
    """Another key, or a composite one, is refused before anything is sent."""
    ended = table.sync([{"id": 1, "part": "a"}], key=key)
    assert (ended.failure, ended.seen, emulator.requests) == ("config_error", [], [])
    assert "primary key" in ended.message


@BOTH
def test_a_repetition_changes_nothing(table: Table) -> None:
    """The same input again leaves the same table: that is what makes retries harmless."""
    rows = [{"id": n % 7, "name": str(n)} for n in range(30)]
    first = table.delivered(rows, max_rows=4)
    assert table.delivered(rows, max_rows=4) == first
    assert len(first) == 7
