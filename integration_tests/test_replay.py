"""Rejected rows come back: `replay` sends a report's rows again, and the table is the source's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cases import Stand
from integration_tests.scenario import (
    COMMAND,
    TABLE,
    Row,
    Sync,
    WatchedEmulator,
    catalog,
    record,
    state,
    status,
)
from integration_tests.servers.object_stores import Moto
from integration_tests.vendor_configs import Vendor, config_for

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("object_stores")]

SCHEMA = {"Id": {"type": "integer"}, "amount": {"type": "string"}, "notes": {"type": "object"}}
COLUMNS = {"id": "number", "amount": "number", "notes": "string"}
TABLES = [{"stream": TABLE, "rename": [{"field": "Id", "column": "id"}]}]
VENDOR_BAD, SHAPE_BAD = (3, 4, 17), (5, 22)
SOURCE: list[Row] = [
    {
        "Id": n,
        "amount": f"long-text-{n}" if n in VENDOR_BAD else str(n),
        "notes": {"n": n} if n in SHAPE_BAD else None,
        "undeclared": 1,
    }
    for n in range(30)
]


def stored(row: Row) -> Row:
    """Tell how a row of the source stands in the table."""
    notes = None if row["notes"] is None else json.dumps(row["notes"], separators=(",", ":"))
    return {"id": row["Id"], "amount": row["amount"], "notes": notes}


class Table:
    """A table at a vendor's emulator that refuses some rows until it is `mended`."""

    def __init__(self, vendor: Vendor, emulator: WatchedEmulator, stand: Stand) -> None:
        self.vendor, self.emulator, self.stand = vendor, emulator, stand
        emulator.create_table("qobra", TABLE, COLUMNS)
        schema = [{"name": name, "type": "string"} for name in COLUMNS]
        schema[0]["type"] = "number"
        schema[1]["maxLength"] = "7"
        emulator.create_table("kore", TABLE, definition={"schemaDef": schema})

    def mend(self) -> None:
        """Let the column hold what it refused."""
        with self.emulator.lock:
            self.emulator.qobra.tables[TABLE].columns["amount"] = "string"
            columns = self.emulator.kore.tables[TABLE].columns
            columns["amount"] = replace(columns["amount"], max_length=None)

    def rows(self) -> list[Row]:
        self.emulator.settle()
        found = [
            {name: row.get(name) for name in COLUMNS}
            for row in self.emulator.rows(self.vendor, TABLE)
        ]
        return sorted(found, key=lambda row: int(row["id"]))

    def config(self, report: str, *, nested: str, **more: Any) -> dict[str, Any]:
        return config_for(
            self.vendor,
            self.emulator.url,
            rejected_records={"policy": "skip", "report_path": report},
            nested_values=nested,
            tables=TABLES,
            **more,
        )

    def sync(self, folder: Path, config: dict[str, Any], mode: str) -> None:
        """Deliver the source, of which five rows are rejected."""
        configured = catalog(mode, SCHEMA, key=["Id"] if mode == "append_dedup" else [])
        lines = [*map(record, SOURCE), state(len(SOURCE)), status()]
        with Sync(folder, config, configured, nursery=self.stand.nursery) as sync:
            ended = sync.finish(iter(lines))
        assert (ended.code, ended.total("rejectedRecordCount")) == (0, 5), ended.message
        bad = {*VENDOR_BAD, *SHAPE_BAD}
        assert self.rows() == [stored(row) for row in SOURCE if row["Id"] not in bad]


def replayed(folder: Path, config: dict[str, Any], report: str, *options: str) -> Any:
    """Run the verb, with the catalog of the sync before it; what it printed as JSON, or as text."""
    (folder / "config.json").write_text(json.dumps(config))
    files = [f"--config={folder / 'config.json'}", f"--catalog={folder / 'catalog.json'}"]
    done = subprocess.run(
        [COMMAND, "replay", *files, f"--report={report}", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "long-text" not in done.stdout + done.stderr
    if "--json" not in options:
        return done
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def emulator() -> Iterator[WatchedEmulator]:
    with WatchedEmulator(qobra_import_s=0.02, kore_bulk_mode="atomic") as emulator:
        yield emulator


@pytest.mark.parametrize(
    ("vendor", "mode", "is_keyed"),
    [
        ("qobra", "append", True),
        ("qobra", "overwrite", True),
        ("kore", "append_dedup", True),
        ("kore", "append", False),
        ("kore", "overwrite", False),
    ],
)
def test_a_replay_brings_the_table_to_the_source(
    stand: Stand,
    emulator: WatchedEmulator,
    tmp_path: Path,
    vendor: Vendor,
    mode: str,
    *,
    is_keyed: bool,
) -> None:
    """Once the table and the mapping take the rows; again changes nothing, or is said to double."""
    table = Table(vendor, emulator, stand)
    report = f"{tmp_path}/reports/"
    table.sync(tmp_path, table.config(report, nested="reject"), mode)
    table.mend()
    config = table.config(report, nested="json_string")
    found = replayed(tmp_path, config, report, "--json")
    [stream] = found["streams"]
    assert list(stream.values()) == [TABLE, 5, 5, 0]
    assert table.rows() == [stored(row) for row in SOURCE]
    assert found["rejects"] is None
    assert found["tables_where_a_repetition_doubles_rows"] == ([] if is_keyed else [TABLE])
    done = replayed(tmp_path, config, report)
    assert f"{TABLE}: 5 rows sent, 5 delivered, 0 rejected again" in done.stdout
    assert ("would double its rows" in done.stdout) is not is_keyed
    again = [] if is_keyed else [row for row in SOURCE if row["Id"] in VENDOR_BAD + SHAPE_BAD]
    assert len(table.rows()) == len(SOURCE) + len(again)


def test_a_report_is_an_input_of_write(
    stand: Stand, emulator: WatchedEmulator, tmp_path: Path
) -> None:
    """As it stands: with a status behind it, it is a sync of the rows that were rejected."""
    table = Table("kore", emulator, stand)
    report = tmp_path / "rejected.jsonl"
    table.sync(tmp_path, table.config(str(report), nested="reject"), "append_dedup")
    table.mend()
    config = table.config(str(tmp_path / "again.jsonl"), nested="json_string")
    configured = catalog("append_dedup", SCHEMA, key=["Id"])
    lines = [*report.read_bytes().splitlines(), state(5), status()]
    with Sync(tmp_path / "again", config, configured, nursery=stand.nursery) as sync:
        ended = sync.finish(iter(lines))
    assert (ended.code, ended.total("recordCount")) == (0, 5), ended.message
    assert table.rows() == [stored(row) for row in SOURCE]
    for line in report.read_bytes().splitlines():
        rejection = json.loads(line)["record"]["meta"]["rejection"]
        assert {*rejection} == {"stage", "code", "reason", "table", "attempt", "time"}


def test_a_report_in_a_store_is_replayed_and_what_is_rejected_again_goes_beside_it(
    stand: Stand, emulator: WatchedEmulator, tmp_path: Path
) -> None:
    """The old objects stay; a stream that the catalog lacks is left out and counted."""
    store = Moto()
    store.install()
    store.start()
    try:
        table = Table("kore", emulator, stand)
        address = f"{store.address}/replays"
        settings = {"object_store": store.settings}
        table.sync(tmp_path, table.config(address, nested="reject", **settings), "append_dedup")
        before = store.objects()
        (tmp_path / "other.jsonl").write_bytes(record({"Id": 1}, stream="gone") + b"\n{}\n")
        config = table.config(address, nested="json_string", **settings)
        found = replayed(tmp_path, config, address, "--json")
        assert list(found["streams"][0].values()) == [TABLE, 5, 2, 3]
        assert found["rejects"] == address
        after = store.objects()
        assert before.items() <= after.items()
        new = b"".join(after[key] for key in after.keys() - before.keys())
        ids = [json.loads(line)["record"]["data"]["Id"] for line in new.splitlines()]
        assert sorted(ids) == [*VENDOR_BAD]
        local = str(tmp_path / "other.jsonl")
        found = replayed(tmp_path, config, local, "--json")
        assert (found["rows_left_out"], found["unreadable_lines"]) == ({"gone": 1}, 1)
        done = replayed(tmp_path, config, f"{store.address}/nothing")
        assert (done.returncode, "--report cannot be read" in done.stdout) == (1, True)
    finally:
        store.stop()


def test_a_replay_writes_into_no_report_that_it_reads(
    stand: Stand, emulator: WatchedEmulator, tmp_path: Path
) -> None:
    """A file that takes the reports of all syncs gets a neighbour; naming it is an error."""
    table = Table("kore", emulator, stand)
    report = str(tmp_path / "rejected.jsonl")
    config = table.config(report, nested="reject")
    table.sync(tmp_path, config, "append_dedup")
    before = Path(report).read_bytes()
    found = replayed(tmp_path, config, report, "--json")
    assert found["streams"][0]["rows_rejected_again"] == 5
    assert Path(report).read_bytes() == before
    new = Path(found["rejects"])
    assert (new.parent, len(new.read_bytes().splitlines())) == (tmp_path, 5)
    done = replayed(tmp_path, config, report, f"--rejects={report}")
    assert (done.returncode, "Name another file" in done.stdout) == (1, True)
    assert Path(report).read_bytes() == before
