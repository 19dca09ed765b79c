"""Rows the vendor refuses: the good ones are delivered, the bad ones are counted and reported.

Each row of a sync is either in the table or in the report, whatever a bulk call does with bad rows,
and the counts of the states say so. A refusal of the table itself rejects no row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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

SCHEMA = {"id": {"type": "integer"}, "amount": {"type": "string"}, "name": {"type": "string"}}
TYPES = {"id": "number", "amount": "number", "name": "string"}
BAD = (0, 1, 1234, 2500, 2501, 4000, 4999)
MODES = ["atomic", "ordered_partial", "skip_bad", "skip_bad_4xx"]


@pytest.fixture
def emulator() -> Iterator[WatchedEmulator]:
    with WatchedEmulator(qobra_import_s=0.02, kore_string_in_number="accept") as emulator:
        emulator.create_table("qobra", TABLE, TYPES)
        emulator.create_table("kore", TABLE, TYPES)
        yield emulator


class Writer:
    """Syncs rows, of which those with a text as amount are bad, and reads the report."""

    def __init__(self, stand: Stand, emulator: WatchedEmulator, folder: Path) -> None:
        self.stand, self.emulator, self.folder = stand, emulator, folder
        self.report = folder / "report.jsonl"

    def sync(
        self,
        vendor: Vendor,
        rows: Sequence[Row],
        *,
        every: int = 1000,
        policy: str = "skip",
        mode: str = "append",
        max_rows: int = 5000,
        provider: dict[str, Any] | None = None,
        **rejected: Any,
    ) -> Ended:
        """Sync these rows with a state after every so many."""
        rejected = {"policy": policy, "report_path": str(self.report), **rejected}
        config = config_for(
            vendor,
            self.emulator.url,
            rejected_records=rejected,
            batching={"max_rows": max_rows},
        )
        config["provider"] |= provider or {}
        key = ["id"] if mode == "append_dedup" else []
        configured = catalog(mode, SCHEMA, key=key, generations=(2, 0, 5))

        def attempt() -> Ended:
            with Sync(self.folder, config, configured, nursery=self.stand.nursery) as sync:
                return sync.finish(self._lines(rows, every))

        ended = within_its_window(self.emulator, attempt)
        assert "bad-" not in repr(ended.lines)  # a row's value is for the report only
        return ended

    def _lines(self, rows: Sequence[Row], every: int) -> Iterator[bytes]:
        for number, row in enumerate(rows, 1):
            yield record(row)
            if number % every == 0 or number == len(rows):
                yield state(number)
        yield status()

    def reported(self) -> list[dict[str, Any]]:
        return [entry_of(line) for line in self.report.read_text().splitlines()]


def entry_of(line: str) -> dict[str, Any]:
    """Take a line of the report apart: the record's stream and data, and why it is there."""
    message = json.loads(line)
    assert message["type"] == "RECORD"
    record = message["record"]
    assert record["meta"]["rejection"]["table"] == TABLE
    assert record["emitted_at"] == 1_700_000_000_000  # as read, also where an import refused it
    assert "is_as_sent" not in record["meta"]["rejection"]
    return {"stream": record["stream"], "row": record["data"], **record["meta"]["rejection"]}


@pytest.fixture
def writer(stand: Stand, emulator: WatchedEmulator, tmp_path: Path) -> Writer:
    return Writer(stand, emulator, tmp_path)


def rows_with(bad: Sequence[int], count: int = 5000) -> list[Row]:
    """Make rows of which some have a text that is not a number."""
    return [
        {"id": n, "amount": f"bad-{n}" if n in bad else f"{n}.5", "name": f"n{n}"}
        for n in range(count)
    ]


def refuse_bad_amounts(emulator: WatchedEmulator, mode: str) -> None:
    """Have Kore.ai refuse amounts that are longer than 7 characters."""
    schema = [
        {"name": "id", "type": "number"},
        {"name": "amount", "type": "string", "maxLength": "7"},
        {"name": "name", "type": "string"},
    ]
    emulator.set(kore_bulk_mode=mode)
    emulator.create_table("kore", TABLE, definition={"schemaDef": schema})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sync_mode", ["append", "append_dedup"])
def test_seven_bad_rows_of_five_thousand(
    writer: Writer, emulator: WatchedEmulator, mode: str, sync_mode: str
) -> None:
    """4,993 rows go in once each, 7 are in the report, whatever one bad row does to a bulk call."""
    refuse_bad_amounts(emulator, mode)
    rows = [
        {**row, "amount": f"bad-{row['id']:04}" if row["id"] in BAD else "1"}
        for row in rows_with(BAD)
    ]
    ended = writer.sync("kore", rows, mode=sync_mode)
    assert ended.code == 0, ended.message
    kinds = [request.kind for request in emulator.requests]
    print(
        f"{sync_mode}, {mode}: {kinds.count('bulk')} inserts, {kinds.count('query')} queries, "
        f"{kinds.count('delete')} deletes in {ended.seconds:.1f} s"
    )
    stored = sorted(row["id"] for row in emulator.rows("kore", TABLE))
    assert stored == [n for n in range(5000) if n not in BAD]
    assert sorted(entry["row"]["id"] for entry in writer.reported()) == sorted(BAD)
    for entry in writer.reported():
        assert (entry["stream"], entry["stage"]) == (TABLE, "vendor")
        assert entry["row"] == rows[entry["row"]["id"]]
        if mode == "skip_bad":  # the vendor says nothing but that a row is not among the stored
            assert entry["code"] == "not_stored"
        else:
            assert entry["code"] == "http_400"
            assert "longer than 7" in entry["reason"]
    assert ended.seen == [1000, 2000, 3000, 4000, 5000]
    for number, printed in enumerate(ended.states):
        bad = len([n for n in BAD if number * 1000 <= n < (number + 1) * 1000])
        stats = {"recordCount": 1000.0 - bad} | ({"rejectedRecordCount": float(bad)} if bad else {})
        assert printed["destinationStats"] == stats


@pytest.mark.parametrize("mode", MODES)
def test_policy_fail_acknowledges_nothing_after_a_bad_row(
    writer: Writer, emulator: WatchedEmulator, mode: str
) -> None:
    """One bad row ends the sync with a config_error; states before it may be out, none after."""
    refuse_bad_amounts(emulator, mode)
    rows = [{**row, "amount": "bad-0000" if row["id"] == 25 else "1"} for row in rows_with((), 50)]
    ended = writer.sync("kore", rows, policy="fail", every=5, max_rows=10)
    assert (ended.code, ended.failure) == (1, "config_error"), ended.message
    assert ended.acknowledged <= 25
    stored = {row["id"] for row in emulator.rows("kore", TABLE)}
    assert {*range(ended.acknowledged)} <= stored
    assert 25 not in stored


@pytest.mark.parametrize("max_rejected", [0, 6, 7])
def test_more_than_max_rejected(
    writer: Writer, emulator: WatchedEmulator, max_rejected: int
) -> None:
    """The limit is the last number that is allowed."""
    refuse_bad_amounts(emulator, "atomic")
    rows = [{**row, "amount": "bad-0000" if row["id"] < 7 else "1"} for row in rows_with((), 100)]
    ended = writer.sync("kore", rows, every=10, max_rejected=max_rejected)
    if max_rejected == 7:
        assert (ended.code, len(ended.seen)) == (0, 10)
    else:
        assert (ended.failure, ended.seen) == ("config_error", [])
        assert "max_rejected" in ended.message


def test_rows_refused_before_they_are_sent_count_as_well(
    writer: Writer, emulator: WatchedEmulator
) -> None:
    """A row Qobra cannot take, because it has no id, is rejected without a request for it."""
    rows = [*rows_with((), 9), {"amount": "1", "name": "no id"}]
    ended = writer.sync("qobra", rows, every=5)
    assert (ended.code, ended.seen) == (0, [5, 10]), ended.message
    assert (ended.total("recordCount"), ended.total("rejectedRecordCount")) == (9, 1)
    (entry,) = writer.reported()
    assert (entry["stage"], entry["row"]["name"]) == ("shape", "no id")
    assert len(emulator.rows("qobra", TABLE)) == 9


@pytest.mark.parametrize("count", ["good", "null"])
@pytest.mark.parametrize("errors", ["reject_row", "reject_table"])
@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_qobra_names_bad_rows(
    writer: Writer, emulator: WatchedEmulator, policy: str, errors: str, count: str
) -> None:
    """Only where the count proves that all others went in are the named rows rejected."""
    emulator.set(qobra_row_errors=errors, qobra_error_count=count)
    ended = writer.sync("qobra", rows_with((3, 17), 30), every=10, max_rows=10, policy=policy)
    stored = {row["id"] for row in emulator.rows("qobra", TABLE)}
    if (policy, errors, count) == ("skip", "reject_row", "good"):
        assert (ended.code, ended.seen) == (0, [10, 20, 30]), ended.message
        assert stored == {*range(30)} - {3, 17}
        assert sorted(entry["row"]["id"] for entry in writer.reported()) == [3, 17]
        assert {entry["stage"] for entry in writer.reported()} == {"vendor"}
        assert [s["destinationStats"].get("rejectedRecordCount", 0) for s in ended.states] == [
            1,
            1,
            0,
        ]
        assert ended.total("recordCount") == 28
    else:
        assert (ended.code, ended.failure) == (1, "config_error"), ended.message
        assert ended.seen == []


@pytest.mark.parametrize("errors", ["reject_row", "reject_table"])
@pytest.mark.parametrize("max_rows", [10, 100])
def test_qobra_names_bad_rows_of_a_replace(
    writer: Writer, emulator: WatchedEmulator, errors: str, max_rows: int
) -> None:
    """A table that is replaced holds the good rows, or the sync fails without a state."""
    emulator.set(qobra_row_errors=errors)
    ended = writer.sync(
        "qobra",
        rows_with((3, 17), 30),
        mode="overwrite",
        max_rows=max_rows,
        provider={"debounce_seconds": 3},
    )
    if errors == "reject_row":
        assert (ended.code, ended.seen) == (0, [30]), ended.message
        assert ended.total("rejectedRecordCount") == 2
        assert {row["id"] for row in emulator.rows("qobra", TABLE)} == {*range(30)} - {3, 17}
    else:
        assert (ended.failure, ended.seen) == ("config_error", [])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("strategy", ["insert_then_delete", "delete_then_insert"])
def test_kore_replaces_with_the_good_rows(
    writer: Writer, emulator: WatchedEmulator, mode: str, strategy: str
) -> None:
    """A replace under skip leaves the good rows only, and no old one."""
    refuse_bad_amounts(emulator, mode)
    emulator.fill("kore", [{"id": 900 + n, "amount": "1", "name": "old"} for n in range(3)])
    rows = [{**row, "amount": "bad-0000" if row["id"] == 7 else "1"} for row in rows_with((), 40)]
    ended = writer.sync(
        "kore", rows, mode="overwrite", max_rows=16, provider={"replace_strategy": strategy}
    )
    assert (ended.code, ended.seen) == (0, [40]), ended.message
    assert ended.total("rejectedRecordCount") == 1
    assert sorted(r["id"] for r in emulator.rows("kore", TABLE)) == [n for n in range(40) if n != 7]


def test_a_folder_gets_one_report_per_sync(writer: Writer, tmp_path: Path) -> None:
    """Reports of two syncs do not overwrite each other, and a sync without bad rows leaves none."""
    folder = tmp_path / "reports"
    folder.mkdir()
    for bad in ((1,), (2,), ()):
        ended = writer.sync("qobra", rows_with(bad, 5), report_path=str(folder))
        assert ended.code == 0
    reports = sorted(folder.iterdir())
    assert [entry_of(report.read_text())["row"]["id"] for report in reports] == [1, 2]


@pytest.mark.parametrize("unknown_status", [400, 404])
@pytest.mark.parametrize("policy", ["skip", "fail"])
@pytest.mark.parametrize("mode", ["append", "append_dedup", "overwrite"])
def test_an_unknown_table_rejects_no_row(
    writer: Writer, emulator: WatchedEmulator, policy: str, mode: str, unknown_status: int
) -> None:
    """That the table does not exist is the config's fault, not the rows'."""
    emulator.set(kore_unknown_table_status=unknown_status)
    with emulator.lock:
        del emulator.kore.tables[TABLE]
    ended = writer.sync("kore", rows_with((), 20), policy=policy, mode=mode)
    assert (ended.failure, ended.seen) == ("config_error", []), ended.message
    assert not writer.report.exists()


@pytest.mark.parametrize("right_status", [401, 403])
@pytest.mark.parametrize("rights", ["", "r", "rd"])
def test_a_missing_right_rejects_no_row(
    writer: Writer, emulator: WatchedEmulator, right_status: int, rights: str
) -> None:
    """An app that may not write ends the sync with the name of the right."""
    emulator.set(kore_missing_right_status=right_status)
    emulator.add_app("cs-demo", "kore-secret-1", other_rights=rights)
    ended = writer.sync("kore", rows_with((), 20))
    assert (ended.failure, ended.seen) == ("config_error", []), ended.message
    assert "Write" in ended.message
    assert not writer.report.exists()


@pytest.mark.parametrize("right_status", [401, 403])
def test_appending_needs_only_the_right_to_write(
    writer: Writer, emulator: WatchedEmulator, right_status: int
) -> None:
    """Without the right to read rows are added all the same, and the log says what that costs."""
    emulator.set(kore_missing_right_status=right_status)
    emulator.add_app("cs-demo", "kore-secret-1", other_rights="w")
    ended = writer.sync("kore", rows_with((), 20), every=5, max_rows=5)
    assert (ended.code, ended.seen) == (0, [5, 10, 15, 20]), ended.message
    assert len(emulator.rows("kore", TABLE)) == 20
    assert [text for text in ended.logs if "read" in text]
