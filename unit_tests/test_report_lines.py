"""A line of the report is the record as it was read, and says why it is there."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from destination_bulk_tables.catalog import plan_streams
from destination_bulk_tables.config import parse
from destination_bulk_tables.model import JsonValue, RejectedRow, StreamKey
from destination_bulk_tables.providers import PROVIDERS
from destination_bulk_tables.report_lines import Circumstances, line_of
from destination_bulk_tables.secrecy import SECRETS
from destination_bulk_tables.sync import circumstances
from unit_tests.syncs import catalog_of

STREAM = StreamKey("crm", "deals")
NOW = 1_760_000_000.25
COMMON = Circumstances("Deals", 2, {"amount": "Amount"})
READ = (
    b'{"type":"RECORD","record":{"stream":"deals","namespace":"crm","emitted_at":7,"data":'
    b'{"Amount":12345678901234567890.10,"x":1},"meta":{"changes":[],"other":1.50}}}'
)
REJECTION = {
    "stage": "vendor",
    "code": "http_400",
    "reason": "why",
    "table": "Deals",
    "attempt": 2,
    "time": "2025-10-09T08:53:20.250+00:00",
}


def line(
    row: bytes = b'{"amount":1.10,"extra":2}',
    original: bytes = b"",
    stage: Literal["shape", "vendor"] = "vendor",
    reason: str = "why",
) -> bytes:
    rejected = RejectedRow(STREAM, stage, "http_400", reason, row, original=original)
    return line_of(rejected, COMMON, NOW)


def record_of(text: bytes) -> Any:
    message = json.loads(text)
    assert (text[-1:], message["type"]) == (b"\n", "RECORD")
    return message["record"]


def test_the_record_is_as_it_was_read() -> None:
    """Byte for byte, with all of its members, its own meta and undeclared fields."""
    text = line(original=READ)
    assert b'"data":{"Amount":12345678901234567890.10,"x":1}' in text
    record = record_of(text)
    assert (record["stream"], record["namespace"], record["emitted_at"]) == ("deals", "crm", 7)
    assert record["meta"] == {"changes": [], "other": 1.5, "rejection": REJECTION}


@pytest.mark.parametrize("meta", [b"null", b"3", b'{"rejection":{"code":"old"}}'])
def test_an_older_rejection_and_an_odd_meta_give_way(meta: bytes) -> None:
    """A row that a replay rejects again says the last reason only."""
    original = b'{"type":"RECORD","record":{"stream":"d","data":{},"meta":%b}}' % meta
    assert record_of(line(original=original))["meta"] == {"rejection": REJECTION}


@pytest.mark.parametrize("original", [b"", b"{not json", b"{}", b'{"record":{"stream":"d"}}'])
def test_a_row_without_its_line_has_the_names_of_its_fields(original: bytes) -> None:
    """What is known is the row as it was sent, so it can be read under the stream's schema."""
    record = record_of(line(original=original))
    assert record == {
        "stream": "deals",
        "namespace": "crm",
        "data": {"Amount": 1.1, "extra": 2},
        "emitted_at": 1_760_000_000_250,
        "meta": {"rejection": REJECTION | {"is_as_sent": True}},
    }


@pytest.mark.parametrize("row", [b"\xff{not json", b'{"a":NaN}', b"[1]"])
def test_what_is_no_object_is_a_text(row: bytes) -> None:
    """No table takes it, and none of it is lost."""
    data = record_of(line(row))["data"]
    assert data == row.decode("utf-8", "replace")


def test_the_reason_holds_no_secret() -> None:
    """A vendor may quote the credential in it."""
    SECRETS.replace(["bad_key"])
    assert record_of(line(reason="why bad_key"))["meta"]["rejection"]["reason"] == "why ****"
    SECRETS.replace([])


def test_a_row_with_hashes_is_a_text() -> None:
    """As a record it would be sent with hashes of its hashes."""
    hashed = Circumstances("Deals", 2, {"amount": "Amount"}, is_hashed=True)
    row = RejectedRow(STREAM, "vendor", "http_400", "why", b'{"amount":"5e8f"}')
    assert record_of(line_of(row, hashed, NOW))["data"] == '{"amount":"5e8f"}'
    read = RejectedRow(STREAM, "vendor", "http_400", "why", b'{"amount":"5e8f"}', original=READ)
    assert record_of(line_of(read, hashed, NOW))["data"]["x"] == 1
    for mask in ("hash", "redact"):
        tables: JsonValue = [
            {"stream": "deals", "rename": [{"field": "name", "column": "n", "mask": mask}]}
        ]
        provider: JsonValue = {"provider_type": "qobra", "api_key": "k-1"}
        config: JsonValue = {"provider": provider, "tables": tables, "mask_salt": "salt-1"}
        plans = plan_streams(catalog_of("append"), parse(config, PROVIDERS, is_cloud=False))
        (common,) = circumstances(plans.values()).values()
        assert common.is_hashed is (mask == "hash")
