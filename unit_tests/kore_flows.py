"""What the tests of Kore.ai's modules share: tables, requests, blocks and scripted pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from destination_bulk_tables.http import HttpRequest
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import Key, RowBlock, Table
from destination_bulk_tables.providers.kore import Kore
from unit_tests.syncs import DEALS, complete, records, state
from unit_tests.vendors import Row, answer_of

DEDUP = Table("deals", DEALS, "dedup", key_columns=("id",), text_columns=("id",))
PAIR = Table("deals", DEALS, "dedup", key_columns=("a", "b"))
APPEND = Table("my deals", DEALS, "append", text_columns=("id",))
NOW = 1_700_000_000.0
INSERT = HttpRequest("POST", "/api/public/tables/deals/bulk", body=b"{}", repeat="unsafe")
QUERY = HttpRequest("POST", "/api/public/tables/deals/query?sys_limit=1&sys_offset=0")
DELETE = HttpRequest("DELETE", "/api/public/tables/deals")
ROWS: list[Row] = [{"id": f"d{i}", "name": f"n{i}", "amount": i, "version": 1} for i in range(10)]
REPLACE: list[Message | float] = [records(ROWS), state(1), complete()]
STRANGER = {"id": "stranger", "amount": 9}
BEFORE: list[Row] = [{**row, "version": 0} for row in ROWS]


def signed_by(**authentication: Any) -> Kore:
    """A provider with this authentication."""
    return Kore.from_config({"host": "https://h", "authentication": authentication})


def block_of(*rows: Row, keys: Sequence[Key] | None = None, **more: Any) -> RowBlock:
    """A block of these rows."""
    pieces = [json.dumps(row).encode() for row in rows]
    return RowBlock(pieces, len(rows), range(len(rows)), keys, **more)


def total(count: int | None) -> Any:
    """A query's answer that counts."""
    return answer_of(200, {"queryResult": [], **({} if count is None else {"total": count})})


def some(count: int | None, *ids: str) -> Any:
    """A query's answer that counts and shows rows with these ids."""
    page = {"queryResult": [{"sys_Id": i} for i in ids]}
    return answer_of(200, page if count is None else {**page, "total": count})
