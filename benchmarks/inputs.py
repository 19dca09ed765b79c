"""The inputs: message streams as the platform sends them, written once into a folder.

A STATE carries an `id` and `sourceStats.recordCount` as the platform adds them; the end is a
STREAM_STATUS COMPLETE. Every row's id starts with the sink's `MARKER`, which occurs nowhere else.
The same arguments always give the same bytes.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from benchmarks.vendors import MARKER

Property = dict[str, object]
_ID = MARKER.decode()
_TEXT: Property = {"type": ["null", "string"]}
_NUMBER: Property = {"type": ["null", "number"]}
_INTEGER: Property = {"type": ["null", "integer"]}
_BOOLEAN: Property = {"type": ["null", "boolean"]}
_DATE: Property = {"type": ["null", "string"], "format": "date"}
_DATE_TIME: Property = {"type": ["null", "string"], "format": "date-time"}
_OBJECT: Property = {"type": ["null", "object"]}
_ARRAY: Property = {"type": ["null", "array"]}


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of row: what the catalog declares, and the JSON of row number i."""

    stream: str
    columns: dict[str, Property]
    row: Callable[[int], str]
    distinct: float = 1.0  # the part of the rows whose key is new


def _mixed(i: int, key: int | None = None) -> str:
    region = "null" if i % 10 == 0 else '"EMEA"'
    return (
        f'{{"id":"{_ID}{i if key is None else key:08d}","name":"Opportunity number {i}",'
        f'"amount":{i % 99991 / 100},"owner_email":"user{i % 500}@example.com",'
        f'"stage":"negotiation","close_date":"2026-06-25","probability":{i % 100},'
        f'"is_open":{"true" if i % 2 else "false"},"region":{region},'
        '"notes":"some text that describes the deal in a handful more words than the row before"}'
    )


def _keyed(i: int) -> str:
    """Every fourth row updates some row before it."""
    earlier = i * 2654435761 % max(i, 1)
    return _mixed(i, earlier - (earlier % 4 == 3) if i % 4 == 3 else i)


def _rarely(i: int) -> str:
    """One row in 2,000 updates some row before it."""
    return _mixed(i, i * 2654435761 % i if i % 2_000 == 1_999 else i)


def _rejected(i: int) -> str:
    """One row in a hundred holds an object where the catalog has a text."""
    row = _mixed(i)
    return row.replace('"region":"EMEA"', '"region":{"name":"EMEA"}') if i % 100 == 1 else row


def _narrow(i: int) -> str:
    return f'{{"id":"{_ID}{i:08d}","amount":{i % 99991 / 100},"stage":"won"}}'


_TAIL = ",".join(
    f'"column_{n:02d}":' + ('"a value of moderate length"', "12345.678", "42", "null")[n % 4]
    for n in range(1, 40)
)


def _wide(i: int) -> str:
    return f'{{"id":"{_ID}{i:08d}",{_TAIL}}}'


def _converted(i: int) -> str:
    moment = f"2026-{i % 12 + 1:02d}-{i % 28 + 1:02d}T{i % 24:02d}:{i % 60:02d}:{i // 60 % 60:02d}"
    return (
        f'{{"id":"{_ID}{i:08d}","name":"Opportunity number {i}","amount":{i % 99991 / 100},'
        f'"created_at":"{moment}.{i % 1000:03d}Z","updated_at":"{moment}+02:00",'
        f'"is_open":{"true" if i % 2 else "false"},"tags":["new","priority {i % 7}"],'
        f'"address":{{"city":"Lyon","zip":"6900{i % 9}","geo":{{"lat":45.76,"lon":4.83}}}},'
        '"region":"EMEA","notes":"some text that describes the deal"}'
    )


_LONG = "lorem ipsum dolor " * 5_555


def _huge(i: int) -> str:
    return f'{{"id":"{_ID}{i:08d}","stage":"won","notes":"{_LONG}"}}'


_MIXED_COLUMNS = {
    "id": _TEXT,
    "name": _TEXT,
    "amount": _NUMBER,
    "owner_email": _TEXT,
    "stage": _TEXT,
    "close_date": _DATE,
    "probability": _INTEGER,
    "is_open": _BOOLEAN,
    "region": _TEXT,
    "notes": _TEXT,
}
SHAPES = {
    "mixed": Shape("deals", _MIXED_COLUMNS, _mixed),
    "keyed": Shape("keyed_deals", _MIXED_COLUMNS, _keyed, distinct=0.75),
    "rarely": Shape("keyed_deals", _MIXED_COLUMNS, _rarely, distinct=1 - 1 / 2_000),
    "rejected": Shape("deals", _MIXED_COLUMNS, _rejected),
    "narrow": Shape("deals", {"id": _TEXT, "amount": _NUMBER, "stage": _TEXT}, _narrow),
    "wide": Shape(
        "deals",
        {"id": _TEXT}
        | {f"column_{n:02d}": (_TEXT, _NUMBER, _INTEGER, _TEXT)[n % 4] for n in range(1, 40)},
        _wide,
    ),
    "converted": Shape(
        "deals",
        {
            "id": _TEXT,
            "name": _TEXT,
            "amount": _NUMBER,
            "created_at": _DATE_TIME,
            "updated_at": _DATE_TIME,
            "is_open": _BOOLEAN,
            "tags": _ARRAY,
            "address": _OBJECT,
            "region": _TEXT,
            "notes": _TEXT,
        },
        _converted,
    ),
    "huge": Shape("deals", {"id": _TEXT, "stage": _TEXT, "notes": _TEXT}, _huge),
}


def messages(folder: Path, shape: str, rows: int, state_every: int) -> Path:
    """Write one sync's messages, unless they are there already; the file."""
    path = folder / f"{shape}-{rows}-{state_every}.jsonl"
    if not path.exists():
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="ascii") as file:
            file.writelines(_lines(SHAPES[shape], rows, state_every))
        partial.rename(path)
    return path


def _lines(shape: Shape, rows: int, state_every: int) -> Iterator[str]:
    name = json.dumps(shape.stream)
    for i in range(rows):
        yield (
            f'{{"type":"RECORD","record":{{"stream":{name},"data":{shape.row(i)},'
            '"emitted_at":1792600000000}}\n'
        )
        if (i + 1) % state_every == 0:
            yield (
                '{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":'
                f'{{"name":{name}}},"stream_state":{{"cursor":{i}}}}},"sourceStats":'
                f'{{"recordCount":{state_every}.0}},"id":{(i + 1) // state_every}}}}}\n'
            )
    yield (
        '{"type":"TRACE","trace":{"type":"STREAM_STATUS","emitted_at":1792600000000,'
        f'"stream_status":{{"stream_descriptor":{{"name":{name}}},"status":"COMPLETE"}}}}}}\n'
    )


def database(source: Path) -> Path:
    """Write the rows of a file of messages into SQLite, unless they are there already; the file."""
    path = source.with_suffix(".sqlite")
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with closing(sqlite3.connect(partial)) as base, source.open("rb") as lines:
            rows = (json.loads(line)["record"]["data"] for line in lines if b'"RECORD"' in line)
            first = next(rows)
            base.execute(f"create table deals({','.join(first)})")
            insert = f"insert into deals values({','.join('?' * len(first))})"
            base.executemany(insert, map(tuple, map(dict.values, chain([first], rows))))
            base.commit()
        partial.rename(path)
    return path


def catalog(folder: Path, shape: str, mode: str) -> Path:
    """Write the configured catalog of one sync in `mode`; the file."""
    path = folder / f"catalog-{shape}-{mode}.json"
    stream = {
        "name": SHAPES[shape].stream,
        "json_schema": {"type": "object", "properties": SHAPES[shape].columns},
        "supported_sync_modes": ["full_refresh", "incremental"],
        "source_defined_primary_key": [["id"]],
    }
    configured = {
        "stream": stream,
        "sync_mode": "full_refresh" if mode == "overwrite" else "incremental",
        "destination_sync_mode": mode,
        "primary_key": [["id"]],
        "generation_id": 3,
        "minimum_generation_id": 3 if mode == "overwrite" else 0,
        "sync_id": 7,
    }
    path.write_text(json.dumps({"streams": [configured]}), encoding="utf-8")
    return path
