"""States come back as they came, in order, each only after its rows are in the table.

The input is what Airbyte's platform writes: states with an `id` of its own, keys the protocol does
not know, GLOBAL states, null states of a clear job. A state is compared as text, member by member:
only `destinationStats` may differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integration_tests.connector import (
    Connector,
    catalog,
    complete,
    configured,
    echoed,
    record,
    state,
)
from integration_tests.emulator import Emulator
from integration_tests.vendor_configs import Vendor, config_for

Emulate = Callable[..., Emulator]
pytestmark = pytest.mark.parametrize("vendor", ["qobra", "kore"])

DEALS = configured("deals", ["id", "name"], generation_id=7, minimum_generation_id=0, sync_id=41)
CALLS = configured("calls", ["id"], generation_id=7, minimum_generation_id=0, sync_id=41)
COMPLETE = [complete("deals"), complete("calls")]
# as a platform writes them: spaces and key order are whatever the source's language makes of them
PLATFORM_STATES = [
    (
        '{"type":"STREAM","stream":{"stream_descriptor":{"name":"deals"},"stream_state":'
        '{"cursor":12345678901234567890123,"low":-9223372036854775809,"ratio":1.10,"big":1E400,'
        '"tiny":0.1000000000000000055511151231257827,"text":"\u00e9 \\u2028 \\ud83d\\ude00 \\/"}},'
        '"sourceStats":{"recordCount":2.0},"id":7}'
    ),
    (
        '{"id": 8, "partition_id": "p-1", "type": "STREAM", "stream": {"stream_state": {"z": 1, '
        '"a": [ ], "n": null}, "stream_descriptor": {"name": "deals", "namespace": null}}, "data": '
        '{"old": true}, "sourceStats": {"recordCount": 0.0, "more": {"n": 18446744073709551616}}}'
    ),
    (
        '{"type":"STREAM","destinationStats":{"recordCount":99.0},"stream":{"stream_descriptor":'
        '{"name":"calls","namespace":""},"stream_state":{}},"sourceStats":{"recordCount":1.0},"id":9}'
    ),
    '{"type":"STREAM","stream":{"stream_descriptor":{"name":"calls"},"stream_state":null},"id":10}',
    '{"type":"STREAM","stream":{"stream_descriptor":{"name":"calls"}},"id":11}',
    # not in the catalog: a state without records, as a platform may inject it
    '{"type":"STREAM","stream":{"stream_descriptor":{"name":"gone"},"stream_state":{"a":1}},"id":12}',
]


def state_line(text: str) -> bytes:
    """Build the line around a state object."""
    return f'{{"type":"STATE","state":{text}}}'.encode()


def counts(outcome_states: list[dict[str, dict[str, float]]]) -> list[dict[str, float]]:
    """Return what the connector says it did for each state."""
    return [state["destinationStats"] for state in outcome_states]


def test_states_come_back_as_they_came(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """Ids, unknown keys, integers beyond 64 bits, long decimals and key order survive."""
    emulator = emulate(auto_create_tables=True)
    first, second, *others = map(state_line, PLATFORM_STATES)
    lines = [
        record("deals", {"id": "1", "name": "a"}),
        record("deals", {"id": "2", "name": "b"}, namespace=None),
        first,
        second,
        record("calls", {"id": "1"}, namespace=""),
        *others,
        *COMPLETE,
    ]
    outcome = connector.write(config_for(vendor, emulator.url), catalog(DEALS, CALLS), lines)
    outcome.delivered()
    sent = {json.loads(text)["id"]: echoed(state_line(text)) for text in PLATFORM_STATES}
    came = {
        state["id"]: echoed(line)
        for state, line in zip(outcome.states, raw(outcome.lines), strict=True)
    }
    assert came == sent
    assert [i for i in came if i in (7, 8)] == [7, 8]
    assert [i for i in came if i in (9, 10, 11)] == [9, 10, 11]
    stats = {state["id"]: state["destinationStats"] for state in outcome.states}
    assert stats == {
        7: {"recordCount": 2.0},
        8: {"recordCount": 0.0},
        9: {"recordCount": 1.0},
        10: {"recordCount": 0.0},
        11: {"recordCount": 0.0},
        12: {"recordCount": 0.0},
    }


def raw(lines: list[bytes]) -> list[bytes]:
    """Return the STATE lines."""
    return [line for line in lines if line.startswith(b'{"type":"STATE"')]


def test_counts_are_written_as_doubles_and_ids_as_integers(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """The protocol wants 1.0 for the one, the platform 7 for the other."""
    emulator = emulate(auto_create_tables=True)
    lines = [record("deals", {"id": "1", "name": "a"}), state("deals", 1, id=7), *COMPLETE]
    outcome = connector.write(config_for(vendor, emulator.url), catalog(DEALS, CALLS), lines)
    (line,) = raw(outcome.delivered().lines)
    assert b'"destinationStats":{"recordCount":1.0}' in line
    assert b'"id":7' in line


def test_global_states_wait_for_every_stream(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """A GLOBAL state counts the rows of all streams since the last, and names streams at will."""
    emulator = emulate(auto_create_tables=True)
    texts = [
        (
            '{"type":"GLOBAL","global":{"shared_state":{"lsn":98765432109876543210},"stream_states":['
            '{"stream_descriptor":{"name":"deals"},"stream_state":{"x":1}},{"stream_descriptor":{"name":'
            '"unknown","namespace":"n"},"stream_state":null}]},"sourceStats":{"recordCount":3.0},"id":1}'
        ),
        '{"type":"GLOBAL","global":{"shared_state":null,"stream_states":[]},"id":2}',
        '{"type":"GLOBAL","global":{"stream_states":[]},"id":3}',
    ]
    lines = [
        record("deals", {"id": "1", "name": "a"}),
        record("calls", {"id": "1"}),
        record("deals", {"id": "2", "name": "b"}),
        state_line(texts[0]),
        record("calls", {"id": "2"}),
        state_line(texts[1]),
        state_line(texts[2]),
        *COMPLETE,
    ]
    outcome = connector.write(config_for(vendor, emulator.url), catalog(DEALS, CALLS), lines)
    assert outcome.delivered().state_texts == [echoed(state_line(text)) for text in texts]
    assert [stats["recordCount"] for stats in counts(outcome.states)] == [3.0, 1.0, 0.0]


def test_a_clear_job_is_echoed(connector: Connector, emulate: Emulate, vendor: Vendor) -> None:
    """Null states and no records: every state comes back and the vendor gets no row."""
    emulator = emulate(auto_create_tables=True)
    null = {
        "type": "STREAM",
        "stream": {"stream_descriptor": {"name": "deals"}, "stream_state": None},
    }
    lines = [state_line(json.dumps({**null, "id": 1})), *COMPLETE]
    outcome = connector.write(config_for(vendor, emulator.url), catalog(DEALS, CALLS), lines)
    assert outcome.delivered().state_texts == [echoed(lines[0])]
    assert sum(request.rows for request in emulator.requests) == 0


def test_interleaved_streams_keep_their_own_order(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """Each stream's states come in order, each with the rows of its own stream."""
    emulator = emulate(auto_create_tables=True)
    lines = []
    for i in range(300):
        lines += [record("deals", {"id": str(i), "name": "a"}), record("calls", {"id": str(i)})]
        if i % 7 == 6:
            lines.append(state("deals", i))
        if i % 11 == 10:
            lines.append(state("calls", i))
    config = config_for(vendor, emulator.url, batching={"max_rows": 10, "max_parallel_requests": 4})
    outcome = connector.write(config, catalog(DEALS, CALLS), [*lines, *COMPLETE]).delivered()
    for stream, step in (("deals", 7), ("calls", 11)):
        own = [s for s in outcome.states if s["stream"]["stream_descriptor"]["name"] == stream]
        expected = list(range(step - 1, 300, step))
        assert [s["stream"]["stream_state"]["cursor"] for s in own] == expected
        assert counts(own) == [{"recordCount": float(step)}] * len(expected)
        assert emulator.count(vendor, stream) == 300


def test_a_stream_without_records_succeeds(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """A COMPLETE alone is enough, and nothing is written for it."""
    emulator = emulate()
    outcome = connector.write(config_for(vendor, emulator.url), catalog(DEALS, CALLS), COMPLETE)
    assert outcome.delivered().states == []
    assert [request for request in emulator.requests if request.kind != "query"] == []


def test_messages_that_say_nothing_here_are_ignored(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """Unknown types, LOG, CONTROL, other TRACEs and blank lines change nothing."""
    emulator = emulate(auto_create_tables=True)
    noise = [
        b'{"type":"LOG","log":{"level":"INFO","message":"hello"}}',
        b'{"type":"TRACE","trace":{"type":"ANALYTICS","emitted_at":1,"analytics":{"type":"a"}}}',
        b'{"type":"TRACE","trace":{"type":"ESTIMATE","emitted_at":1.5,"estimate":{"name":"deals"}}}',
        (
            b'{"type":"TRACE","trace":{"type":"STREAM_STATUS","emitted_at":1,"stream_status":'
            b'{"stream_descriptor":{"name":"deals"},"status":"RUNNING"}}}'
        ),
        b'{"type":"CONTROL","control":{"type":"CONNECTOR_CONFIG"}}',
        b'{"type":"DESTINATION_CATALOG","destination_catalog":{}}',
        b'{"type":"NOT_INVENTED_YET","payload":[1,2,3]}',
        b"",
        b"   ",
    ]
    lines = []
    for i in range(20):
        lines += [*noise, record("deals", {"id": str(i), "name": "a"}, meta={"changes": []})]
    lines += [*noise, state("deals", 20), *COMPLETE]
    outcome = connector.write(config_for(vendor, emulator.url), catalog(DEALS, CALLS), lines)
    assert counts(outcome.delivered().states) == [{"recordCount": 20.0}]
    assert emulator.count(vendor, "deals") == 20


@pytest.mark.parametrize("spelling", [{}, {"namespace": None}, {"namespace": ""}])
def test_no_namespace_has_three_spellings(
    connector: Connector,
    emulate: Emulate,
    vendor: Vendor,
    spelling: dict[str, str | None],
) -> None:
    """The catalog's, the records' and the states' may differ; the state keeps its own."""
    emulator = emulate(auto_create_tables=True)
    stream = configured("deals", ["id"])
    stream["stream"].update(spelling)
    spellings: list[dict[str, str | None]] = [{}, {"namespace": None}, {"namespace": ""}]
    lines = []
    for i, own in enumerate(spellings):
        body = {"stream_descriptor": {"name": "deals", **own}, "stream_state": {"n": i}}
        lines += [
            record("deals", {"id": str(i)}, **own),
            state_line(json.dumps({"type": "STREAM", "stream": body, "id": i})),
        ]
    outcome = connector.write(config_for(vendor, emulator.url), catalog(stream), lines)
    assert outcome.delivered().state_texts == [echoed(line) for line in lines[1::2]]
    assert counts(outcome.states) == [{"recordCount": 1.0}] * 3


def test_namespaces_tell_streams_apart(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """Two streams of one name go to two tables, and each state counts its own rows."""
    emulator = emulate(auto_create_tables=True)
    tables = [{"stream": "deals", "namespace": "b", "table": "deals_b"}, {"stream": "deals"}]
    streams = [configured("deals", ["id"], namespace=name) for name in ("a", "b")]
    lines = [record("deals", {"id": str(i)}, namespace="ab"[i % 3 == 0]) for i in range(30)]
    for name in "ab":
        body = {"stream_descriptor": {"name": "deals", "namespace": name}, "stream_state": {}}
        lines.append(state_line(json.dumps({"type": "STREAM", "stream": body})))
    config = config_for(vendor, emulator.url, tables=tables)
    outcome = connector.write(config, catalog(*streams), lines).delivered()
    found = {s["stream"]["stream_descriptor"]["namespace"]: s for s in outcome.states}
    assert found["a"]["destinationStats"] == {"recordCount": 20.0}
    assert found["b"]["destinationStats"] == {"recordCount": 10.0}
    assert emulator.count(vendor, "deals") == 20
    assert emulator.count(vendor, "deals_b") == 10


def test_a_catalog_without_generations_needs_no_status(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """Where the platform does not know refreshes, the end of the input completes the streams."""
    emulator = emulate(auto_create_tables=True)
    lines = [record("deals", {"id": "1", "name": "a"}), state("deals", 1)]
    stream = configured("deals", ["id", "name"])
    outcome = connector.write(config_for(vendor, emulator.url), catalog(stream), lines)
    assert len(outcome.delivered().states) == 1


def test_a_catalog_with_generations_needs_a_status(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """Without COMPLETE the source has failed: rows are in and acknowledged, the sync is not."""
    emulator = emulate(auto_create_tables=True)
    lines = [record("deals", {"id": "1", "name": "a"}), state("deals", 1), complete("calls")]
    outcome = connector.write(config_for(vendor, emulator.url), catalog(DEALS, CALLS), lines)
    assert outcome.code == 1
    kind, message = outcome.error
    assert kind == "transient_error"
    assert "deals" in message
    assert "calls" not in message
    assert counts(outcome.states) == [{"recordCount": 1.0}]
    assert emulator.count(vendor, "deals") == 1


def test_a_status_without_namespace_completes_the_stream(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """PyAirbyte leaves the namespace out, and sends 1/1/1, which empties nothing."""
    emulator = emulate()
    emulator.create_table(vendor, "deals")
    more: dict[str, Any] = {"generation_id": 1, "minimum_generation_id": 1, "sync_id": 1}
    stream = configured("deals", ["id"], namespace="crm", **more)
    for i in range(2):
        lines = [record("deals", {"id": str(i)}, namespace="crm"), complete("deals")]
        connector.write(config_for(vendor, emulator.url), catalog(stream), lines).delivered()
    assert emulator.count(vendor, "deals") == 2


def test_values_are_kept_or_shaped_as_the_vendor_needs(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """Numbers keep all digits; booleans, times, nulls and nested values are the vendor's own."""
    emulator = emulate(auto_create_tables=True)
    columns = {
        "id": {"type": "string"},
        "big": {"type": "integer"},
        "exact": {"type": "number"},
        "won": {"type": ["null", "boolean"]},
        "closed_at": {"type": ["null", "string"], "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "tags": {"type": ["null", "array"]},
        "nothing": {"type": ["null", "string"]},
    }
    row = (
        '{"id":"1","big":123456789012345678901234567890,"exact":0.10000000000000000000000000001,'
        '"won":true,"closed_at":"2026-01-01T01:30:00.123456+02:00","day":"2026-01-01",'
        '"tags":[ "a", {"b": 1.50} ],"nothing":null,"undeclared":"x"}'
    )
    lines = [record("deals", row), state("deals", 1)]
    stream = configured("deals", columns)
    connector.write(config_for(vendor, emulator.url), catalog(stream), lines).delivered()
    (stored,) = emulator.raw_rows(vendor, "deals")
    head = (
        b'{"id":"1","big":123456789012345678901234567890,"exact":0.10000000000000000000000000001,'
    )
    tail = b'"day":"2026-01-01","tags":"[\\"a\\",{\\"b\\":1.50}]"'
    if vendor == "qobra":
        assert stored == head + b'"won":true,"closed_at":"2025-12-31",' + tail + b',"nothing":null}'
    else:
        closed = b'"closed_at":"2025-12-31T23:30:00.123Z",'
        assert stored == head + b'"won":"true",' + closed + tail + b"}"


def test_an_entry_of_tables_shapes_rows_on_their_way(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """Renamed, left out, masked, and with columns that no field feeds, through many blocks."""
    emulator = emulate(auto_create_tables=True)
    columns = {name: {"type": "string"} for name in ("id", "to", "email", "note")}
    entry = {
        "stream": "deals",
        "rename": [
            {"field": "to", "column": "recipient"},
            {"field": "email", "column": "email", "mask": "hash"},
        ],
        "exclude": "note",
        "constants": [{"column": "origin", "value": "shop"}],
        "message_columns": [
            {"column": "loaded_at", "holds": "emitted_at"},
            {"column": "source", "holds": "stream"},
        ],
    }
    row = {"to": "x", "email": "a@example.com", "note": "secret"}
    lines = [
        json.dumps(
            {
                "type": "RECORD",
                "record": {
                    "stream": "deals",
                    "emitted_at": 1_700_000_000_000 + i * 86_400_000,
                    "data": {"id": str(i), **row},
                },
            }
        ).encode()
        for i in range(3000)
    ]
    config = config_for(vendor, emulator.url, tables=[entry], mask_salt="pepper")
    stream = configured("deals", columns)
    connector.write(config, catalog(stream), [*lines, state("deals", 1)]).delivered()
    rows = {row["id"]: row for row in emulator.rows(vendor, "deals")}
    assert len(rows) == 3000
    start = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    for i in range(3000):
        loaded_at = (start + timedelta(days=i)).isoformat()
        expected = {
            "id": str(i),
            "recipient": "x",
            "email": hashlib.sha256(b"peppera@example.com").hexdigest(),
            "origin": "shop",
            "source": "deals",
            "loaded_at": loaded_at[:10] if vendor == "qobra" else loaded_at[:19] + ".000Z",
        }
        assert {name: rows[str(i)][name] for name in expected} == expected
        assert "note" not in rows[str(i)]


def test_records_of_other_names_reach_no_table(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """PyAirbyte's cache renames fields; the error says so and holds no value."""
    emulator = emulate(auto_create_tables=True)
    stream = configured("deals", ["id", "Account ID"])
    cached = {"id": "s3cret", "account_id": "s3cret", "_airbyte_raw_id": "s3cret"}
    for data, words in ((cached, "cache=False"), ({"account_id": "s3cret"}, "account_id")):
        lines = [record("deals", data), state("deals", 1), complete("deals")]
        ended = connector.write(config_for(vendor, emulator.url), catalog(stream), lines)
        assert ended.code == 1
        kind, message = ended.error
        assert kind == "config_error"
        assert words in message
        assert "s3cret" not in ended.text
        assert ended.states == []
    assert not any(request.rows for request in emulator.requests)
