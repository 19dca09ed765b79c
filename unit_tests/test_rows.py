"""The row codec against a plain reference that parses every record and keeps number tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from destination_bulk_tables.columns import columns_of
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.keys import key_tokens
from destination_bulk_tables.mapping import FieldMapping, TableEntry
from destination_bulk_tables.model import JsonObject, Key, RejectedRow, RowBlock, StreamKey
from destination_bulk_tables.provider import RowRules
from destination_bulk_tables.rows import RowCodec
from destination_bulk_tables.timestamps import moment

STREAM = StreamKey("crm", "deals")
DELETED = "_ab_cdc_deleted_at"


@dataclass(frozen=True)
class Number:
    """A JSON number by its text: equal only when every byte is."""

    token: str

    @property
    def value(self) -> Decimal:
        return Decimal(self.token)


def by_value(key: Key) -> list[Any]:
    """The parts of a key, numbers by their value."""
    return valued(loads(b"[%b]" % key_tokens(key)))


def valued(parts: list[Any]) -> list[Any]:
    return [part.value if isinstance(part, Number) else part for part in parts]


def loads(text: bytes | str) -> Any:
    return json.loads(
        text, parse_float=Number, parse_int=Number, object_pairs_hook=_without_repeats
    )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def dumps(value: Any, *, ascii_only: bool, spaces: bool = False) -> str:
    """JSON text of a value with numbers verbatim."""
    comma, colon = (" , ", " : ") if spaces else (",", ":")

    def text(value: Any) -> str:
        if isinstance(value, Number):
            return value.token
        if isinstance(value, dict):
            pairs = [f"{text(name)}{colon}{text(member)}" for name, member in value.items()]
            return "{" + comma.join(pairs) + "}"
        if isinstance(value, list):
            return "[" + comma.join([text(member) for member in value]) + "]"
        return json.dumps(value, ensure_ascii=ascii_only)

    return text(value)


# --- what is drawn

TYPES: dict[str, JsonObject] = {
    "string": {"type": ["null", "string"]},
    "integer": {"type": "integer"},
    "number": {"type": ["null", "number"]},
    "boolean": {"type": "boolean"},
    "timestamp": {"type": ["null", "string"], "format": "date-time"},
    "airbyte timestamp": {"type": "string", "airbyte_type": "timestamp_with_timezone"},
    "date": {"type": "string", "format": "date"},
    "object": {"type": "object"},
    "union": {"oneOf": [{"type": "boolean"}, {"type": "integer"}, {"type": "string"}]},
    "nested union": {"anyOf": [{"oneOf": [{"type": "null"}]}, {"type": ["boolean", "number"]}]},
    "anything": {},
}
TIMESTAMP_TYPES = {"timestamp", "airbyte timestamp"}
DECIMAL_TYPES = {"integer", "number", "union", "nested union", "anything"}
# the date, the ISO text and the milliseconds of each
TIMESTAMPS = {
    "2024-02-29T23:30:00-01:00": ("2024-03-01", "2024-03-01T00:30:00.000Z", "1709253000000"),
    "2024-02-29T23:30:00.123456789Z": ("2024-02-29", "2024-02-29T23:30:00.123Z", "1709249400123"),
    "2024-02-29 23:30:00": ("2024-02-29", "2024-02-29T23:30:00.000Z", "1709249400000"),
    "1969-12-31T23:59:59.9+00:00": ("1969-12-31", "1969-12-31T23:59:59.900Z", "-100"),
}
NAMES = [
    *["id", "name", "a", "b", DELETED, "f0", "h0", "self", "é", "日本", "a b", "null", ""],
    *[
        "k,",
        "k{",
        ":",
        ",",
        "},{",
        ":null",
        ":null,x",
        'qu"ote',
        "back\\slash",
        "tab\t",
        "\x7f",
        "\u2028",
    ],
]
names = st.sampled_from(NAMES)
number_tokens = st.from_regex(
    r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
).map(Number)
texts = st.sampled_from(
    [
        *TIMESTAMPS,
        "",
        ",",
        "x,",
        "{",
        "x{",
        ":null,",
        ":null}",
        ":true,",
        ":false}",
        ',"a":null',
        "null",
        '"',
        "[",
        "\n",
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | number_tokens | texts
values = scalars | st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
mostly_scalar = st.one_of(scalars, scalars, scalars, values)
records = st.dictionaries(names, mostly_scalar, max_size=8)


def listing(mapping: list[tuple[str, str]] | None) -> TableEntry:
    """An entry that lists all columns; without a list one that says nothing of them."""
    if mapping is None:
        return TableEntry("deals")
    return TableEntry("deals", columns=tuple(FieldMapping(*pair) for pair in mapping))


@dataclass
class Case:
    """A stream, the vendor's rules, and a run of its records."""

    properties: dict[str, str]
    mapping: list[tuple[str, str]] | None
    rules: RowRules
    nested: Literal["json_string", "reject", "json"]
    keys: list[str] = field(default_factory=list)
    cursor: str | None = None
    tombstones: Literal["delete", "reject"] | None = None
    data: list[Any] = field(default_factory=list)
    ascii_only: bool = False
    spaces: bool = False

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(f, f) for f in self.properties] if self.mapping is None else self.mapping

    def raws(self) -> list[Raw]:
        return [
            Raw(dumps(value, ascii_only=self.ascii_only, spaces=self.spaces).encode())
            for value in self.data
        ]

    def codec(self) -> RowCodec:
        schema: JsonObject = {
            "properties": {name: TYPES[kind] for name, kind in self.properties.items()}
        }
        return RowCodec(
            STREAM,
            columns_of(schema, listing(self.mapping), "Stream"),
            self.rules,
            nested=self.nested,
            key_fields=self.keys,
            cursor_field=self.cursor,
            tombstones=self.tombstones,
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    fields = draw(st.lists(names, unique=True, max_size=6))
    properties = {name: draw(st.sampled_from(sorted(TYPES))) for name in fields}
    mapping = None
    is_mapped: bool = draw(st.booleans())
    if fields and is_mapped:
        sources = draw(st.lists(st.sampled_from(fields), unique=True, min_size=1, max_size=5))
        targets = draw(st.lists(names, unique=True, min_size=len(sources), max_size=len(sources)))
        mapping = list(zip(sources, targets, strict=True))
    rules = RowRules(
        nulls=draw(st.sampled_from(["send", "omit"])),
        timestamps=draw(st.sampled_from(["as_is", "date", "iso", "epoch_ms"])),
        booleans=draw(st.sampled_from(["json", "string", "number"])),
        decimals=draw(st.sampled_from(["number", "string"])),
        required_column=draw(st.none() | names),
    )
    keys: list[str] = []
    if fields:  # also one that the mapping leaves out
        keys = draw(st.lists(st.sampled_from(fields), unique=True, max_size=2))
    stamps = st.sampled_from([*TIMESTAMPS])
    exact = st.fixed_dictionaries(
        {f: stamps if properties[f] in TIMESTAMP_TYPES else mostly_scalar for f in fields}
    )
    odd: st.SearchStrategy[Any] = st.sampled_from([None, Number("5"), "{", "[{}", [], [{}], "text"])
    data = draw(st.lists(st.one_of(exact, records, exact, records, odd), min_size=1, max_size=6))
    return Case(
        properties=properties,
        mapping=mapping,
        rules=rules,
        nested=draw(st.sampled_from(["json_string", "reject", "json"])),
        keys=keys,
        cursor=draw(st.none() | names.filter(bool)),
        tombstones=draw(st.sampled_from([None, "delete", "reject"])) if keys else None,
        data=data,
        ascii_only=draw(st.booleans()),
        spaces=draw(st.booleans()),
    )


# --- the reference


def convert(value: Any, kind: str, rules: RowRules) -> Any:
    """What the vendor gets for a value that is not nested."""
    if value is True or value is False:
        if rules.booleans == "json":
            return value
        return json.dumps(value) if rules.booleans == "string" else Number(str(int(value)))
    if isinstance(value, Number):
        stringify = rules.decimals == "string" and kind in DECIMAL_TYPES
        return value.token if stringify else value
    if isinstance(value, str) and kind in TIMESTAMP_TYPES and value in TIMESTAMPS:
        date, iso, epoch_ms = TIMESTAMPS[value]
        return {"as_is": value, "date": date, "iso": iso, "epoch_ms": Number(epoch_ms)}[
            rules.timestamps
        ]
    return value


@dataclass
class Expected:
    """Rows, keys, cursors, tombstones and rejects that a case must give."""

    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    keys: list[list[Any]] = field(default_factory=list)
    cursors: list[Any] = field(default_factory=list)
    tombstones: list[tuple[int, list[Any], Any]] = field(default_factory=list)
    rejected: set[tuple[int, str]] = field(default_factory=set)


def expect(case: Case) -> Expected:
    out = Expected()
    for index, record in enumerate(case.data):
        reject = _add(case, index, record, out)
        if reject:
            out.rejected.add((index, reject))
    return out


def _add(case: Case, index: int, record: Any, out: Expected) -> str | None:
    if not isinstance(record, dict):
        return "bad_data"
    row: dict[str, Any] = {}
    sent: dict[str, Any] = {}
    for source, name in case.pairs:
        value = record.get(source)
        is_nested = isinstance(value, dict | list)
        if is_nested and case.nested == "reject":
            return "nested_value"
        if is_nested and case.nested == "json_string":
            value = dumps(value, ascii_only=case.ascii_only)
        sent[source] = row[name] = convert(value, case.properties[source], case.rules)
    key = [sent.get(name, record.get(name)) for name in case.keys]
    required = case.rules.required_column
    is_keyed = bool(key) or required is not None
    if not key and required is not None:
        key = [row.get(required)]
    unusable = (None,) if required is None else (None, "")
    enough = all if required is None else any  # of several columns some may be null
    if is_keyed and enough(part in unusable for part in key):
        return "bad_key"
    cursor = None if case.cursor is None else record.get(case.cursor)
    if case.tombstones and record.get(DELETED) is not None:
        if case.tombstones == "reject":
            return "cdc_delete"
        out.tombstones.append((index, key, cursor))
        return None
    if case.rules.nulls == "omit":
        row = {name: value for name, value in row.items() if value is not None}
    out.rows.append((index, row))
    out.keys.append(key)
    out.cursors.append(cursor)
    return None


def assert_as_expected(case: Case, block: RowBlock, rejected: Sequence[RejectedRow]) -> None:
    expected = expect(case)
    rows = block.rows()
    assert block.enclosed(b"", b"") == b",".join(rows) or case.spaces
    assert loads(block.enclosed(b"[", b"]")) == [row for _, row in expected.rows]
    assert block.count == len(rows) == len(expected.rows)
    assert list(block.indexes) == [index for index, _ in expected.rows]
    if case.keys or case.rules.required_column is not None:
        assert block.keys is not None
        assert [by_value(key) for key in block.keys] == list(map(valued, expected.keys))
    else:
        assert block.keys is None
    if case.cursor is None:
        assert block.cursors is None
    else:
        assert block.cursors is not None
        assert [loads(cursor) for cursor in block.cursors] == expected.cursors
    stones = [
        (t.index, by_value(t.key), None if t.cursor is None else loads(t.cursor))
        for t in block.tombstones
    ]
    assert stones == [(i, valued(key), cursor) for i, key, cursor in expected.tombstones]
    assert {(row.index, row.code) for row in rejected} == expected.rejected
    assert {(row.stream, row.stage) for row in rejected} <= {(STREAM, "shape")}
    assert len(rejected) + len(block) == len(case.data)


OMIT = RowRules(nulls="omit")
LOOKALIKES = [
    ({"k,": "string", "b": "string"}, {"k,": ":null,x", "b": None}),
    ({"k{": "string", "b": "string"}, {"k{": ":null,x", "b": None}),
    ({"a": "string", ":null,x": "string", "b": "string"}, {"a": "x,", ":null,x": "y", "b": None}),
    ({'q"': "string", "k,": "string", "b": "string"}, {'q"': "", "k,": ":null,x", "b": None}),
]


@pytest.mark.parametrize(("properties", "record"), LOOKALIKES)
def test_text_that_looks_like_an_omitted_null_stays(
    properties: dict[str, str], record: dict[str, Any]
) -> None:
    """Nulls are left out, and nothing else is."""
    rows = encode([dumps(record, ascii_only=False)], properties, OMIT)
    assert [loads(row) for row in rows] == [{k: v for k, v in record.items() if v is not None}]


@pytest.mark.parametrize("booleans", ["string", "number"])
def test_text_that_looks_like_a_boolean_stays(booleans: Literal["string", "number"]) -> None:
    """Booleans are converted, and no text that looks like one is."""
    records = ['{":":true,"k":":true,x","s":"\\"k\\":true"}', '{"k":":","s":":false"}']
    properties = {":": "boolean", "k": "anything", "s": "anything"}
    rows = encode(records, properties, RowRules(nulls="omit", booleans=booleans))
    true = "true" if booleans == "string" else Number("1")
    assert [loads(row) for row in rows] == [{**loads(records[0]), ":": true}, loads(records[1])]


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_vendor_without_booleans_gets_none_whatever_the_schema_says(kind: str) -> None:
    """A source may declare a text, a number or a time and send true."""
    records = ['{"k":true}', '{"k":null}', '{"k":false}']
    rows = encode(records, {"k": kind}, RowRules(booleans="string"))
    assert rows == ['{"k":"true"}', '{"k":null}', '{"k":"false"}']


@given(case=cases())
def test_any_run_is_encoded_as_the_reference_says(case: Case) -> None:
    """Columns, values, keys, cursors, tombstones and rejects; no run leaves a trace in the next."""
    codec, raws = case.codec(), case.raws()
    for _ in range(2):
        block, rejected = codec.encode(raws)
        assert_as_expected(case, block, rejected)
        assert [row.row for row in rejected] == [bytes(raws[row.index]) for row in rejected]


@given(case=cases())
def test_rows_that_the_reader_decoded_come_out_the_same(case: Case) -> None:
    """Decoding a record together with its line changes nothing about its row."""
    case.data = [
        # decoded natively, an integer loses its sign there, which a named example below says
        {name: Number("0") if value == Number("-0") else value for name, value in record.items()}
        for record in case.data
        if isinstance(record, dict)
    ]
    codec = case.codec()
    for row_type in codec.row_types if case.data else ():
        try:
            rows = [msgspec.json.decode(raw, type=row_type) for raw in case.raws()]
        except msgspec.ValidationError:
            assert row_type is not codec.row_types[-1]
            continue
        block, rejected = codec.encode_rows(rows)
        assert_as_expected(case, block, rejected)
        assert all(isinstance(loads(row.row), dict) for row in rejected)


# --- named examples


def encode(
    records: Sequence[str],
    properties: dict[str, str],
    rules: RowRules | None = None,
    mapping: list[tuple[str, str]] | None = None,
) -> list[str]:
    """The encoded rows of records that are all good."""
    case = Case(properties, mapping, rules or RowRules(), "json_string")
    block, rejected = case.codec().encode([Raw(record.encode()) for record in records])
    assert rejected == []
    return [row.decode() for row in block.rows()]


@pytest.mark.parametrize("nulls", ["send", "omit"])
def test_numbers_keep_all_their_digits(nulls: Literal["send", "omit"]) -> None:
    """Integers and decimals of any size and spelling leave byte for byte, beside other work."""
    tokens = ["-0", "1E400", "0.10", "123456789012345678901234567890", "-1.0e-7"]
    rows = encode(
        [f'{{"n":{token},"t":true,"x":[]}}' for token in tokens],
        {"n": "number", "t": "boolean"},
        RowRules(nulls=nulls, booleans="string"),
    )
    assert rows == [f'{{"n":{token},"t":"true"}}' for token in tokens]


@pytest.mark.parametrize("token", ["7", "-7", str(-(2**64)), "9" * 5000, "1.0", "1e3", "1E400"])
def test_integers_keep_all_their_digits(token: str) -> None:
    """Of any size, also where a column of integers holds something else; only -0 becomes 0."""
    assert encode([f'{{"n":{token}}}'] * 2, {"n": "integer"}) == [f'{{"n":{token}}}'] * 2


def test_nulls_are_sent_or_omitted() -> None:
    """An absent field is a null, and a vendor that wants no nulls gets neither."""
    records = ['{"a":null,"b":1}', '{"b":2}', '{"a":3}', "{}"]
    properties = {"a": "integer", "b": "integer"}
    assert encode(records, properties, RowRules(nulls="send")) == [
        '{"a":null,"b":1}',
        '{"a":null,"b":2}',
        '{"a":3,"b":null}',
        '{"a":null,"b":null}',
    ]
    assert encode(records, properties, RowRules(nulls="omit")) == [
        '{"b":1}',
        '{"b":2}',
        '{"a":3}',
        "{}",
    ]


def test_nested_values_are_found_beside_data_that_is_no_object() -> None:
    """A count of braces that happens to fit does not let a nested value through."""
    case = Case({"a": "object"}, None, RowRules(), "json_string")
    block, rejected = case.codec().encode([Raw(b'{"a":{"b": 1}}'), Raw(b"5")])
    assert loads(block.enclosed(b"", b"")) == {"a": '{"b":1}'}
    assert [(row.index, row.code) for row in rejected] == [(1, "bad_data")]


@pytest.mark.parametrize("kind", ["object", "string", "timestamp", "anything"])
def test_nested_values_may_stay_json(kind: str) -> None:
    """Whatever the column declares, and in one line also where the record spans several."""
    case = Case({"id": "integer", "a": kind}, None, RowRules(timestamps="iso"), "json")
    records = ['{"id":1,"a":{"b": [1.0,\n"x, y"]}}', '{"id":2,"a":[]}', '{"id":3,"a":null}']
    block, rejected = case.codec().encode([Raw(record.encode()) for record in records])
    assert rejected == []
    assert block.rows() == [
        b'{"id":1,"a":{"b":[1.0,"x, y"]}}',
        b'{"id":2,"a":[]}',
        b'{"id":3,"a":null}',
    ]


@pytest.mark.parametrize("depth", [10, 900, 1100, 5000, 200_000])
def test_deep_nesting_ends_in_a_row_or_a_rejected_row(depth: int) -> None:
    """Whatever the depth, nothing is raised and the records beside it are encoded."""
    case = Case({"a": "object"}, None, RowRules(), "json_string")
    deep = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    block, rejected = case.codec().encode([Raw(b'{"a":1}'), Raw(deep), Raw(b'{"a":2}')])
    assert len(block) + len(rejected) == 3
    assert {row.index for row in rejected} <= {1}
    assert {b'{"a":1}', b'{"a":2}'} <= set(block.rows())


def test_reasons_hold_no_value_of_the_row() -> None:
    """A reason may name a field, never what stands in it."""
    case = Case({"id": "string", "a": "object"}, None, RowRules(), "reject", keys=["id"])
    records = [b'{"id":null,"a":"secret"}', b'{"id":"secret","a":["secret"]}', b'"secret"']
    _, rejected = case.codec().encode([Raw(record) for record in records])
    assert sorted(row.code for row in rejected) == ["bad_data", "bad_key", "nested_value"]
    assert not any("secret" in row.reason for row in rejected)


# --- columns


def test_columns_follow_the_schema_without_a_mapping() -> None:
    """All declared fields, under their own names, in the schema's order."""
    schema: JsonObject = {"properties": {"b": TYPES["string"], "a": TYPES["timestamp"]}}
    columns = columns_of(schema, TableEntry("deals"), "Stream deals")
    assert [(c.field, c.name, c.is_text, c.is_timestamp) for c in columns] == [
        ("b", "b", True, False),
        ("a", "a", False, True),
    ]


STAMP: JsonObject = {"type": "string", "format": "date-time"}


@pytest.mark.parametrize(
    "declared",
    [
        {"$ref": "#/definitions/stamp"},
        {"allOf": [{"$ref": "#/definitions/stamp"}]},
        {"anyOf": [{"type": "null"}, {"$ref": "#/definitions/nullable"}]},
    ],
)
def test_a_type_is_seen_behind_a_reference(declared: JsonObject) -> None:
    """A date-time is one however its property says so."""
    nullable: JsonObject = {"oneOf": [{"type": "null"}, {"$ref": "#/definitions/stamp"}]}
    definitions: JsonObject = {"stamp": STAMP, "nullable": nullable}
    schema: JsonObject = {"properties": {"at": declared}, "definitions": definitions}
    [column] = columns_of(schema, TableEntry("deals"), "Stream")
    assert (column.is_timestamp, column.is_text) == (True, False)


def test_a_circular_reference_says_nothing() -> None:
    """Looking for a type ends."""
    loop: JsonObject = {"allOf": [{"$ref": "#/properties/a"}, {"$ref": "#/properties/a"}]}
    schema: JsonObject = {"properties": {"a": loop}, "allOf": [{"$ref": "#"}]}
    [column] = columns_of(schema, TableEntry("deals"), "Stream")
    assert (column.field, column.is_timestamp, column.may_be_decimal) == ("a", False, True)


@pytest.mark.parametrize("schema", [{}, {"properties": None}, {"properties": {}}])
def test_without_declared_fields_a_mapping_is_taken_at_its_word(schema: JsonObject) -> None:
    """A schema that says nothing cannot refute a mapping, and alone gives no columns."""
    assert columns_of(schema, TableEntry("deals"), "Stream") == []
    assert [c.name for c in columns_of(schema, listing([("Id", "id")]), "Stream")] == ["id"]


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ([("nope", "x")], ["Stream deals", "'nope'", "a, b"]),
        ([("a", "x"), ("b", "x")], ["Stream deals", "two fields", "'x'"]),
        ([("a", "x"), ("a", "y")], ["Stream deals", "'a'", "twice"]),
    ],
    ids=["a field the stream has not", "one column for two fields", "one field for two columns"],
)
def test_a_mapping_that_cannot_hold_is_a_config_error(
    mapping: list[tuple[str, str]], words: list[str]
) -> None:
    """The message names the stream, what is wrong, and the setting."""
    schema: JsonObject = {"properties": {"b": {}, "a": {}}}
    with pytest.raises(ConfigError) as caught:
        columns_of(schema, listing(mapping), "Stream deals")
    assert all(word in caught.value.message for word in [*words, "tables[].columns"])


# --- timestamps

offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timedelta(minutes=minutes))
Spell = Callable[[datetime], str]
SPELLINGS: list[Spell] = [
    lambda t: t.isoformat(),
    lambda t: t.isoformat(" "),
    lambda t: t.isoformat(timespec="microseconds").replace("+", " +"),
    lambda t: re.sub(r":(\d\d)$", r"\1", t.isoformat()),
    lambda t: t.isoformat().replace("+00:00", "Z"),
    lambda t: t.isoformat().replace("+00:00", "z").replace("T", "t"),
    lambda t: t.isoformat().replace("+00:00", " UTC"),
    lambda t: t.isoformat().replace(".", ","),
]


@given(
    when=st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),  # noqa: DTZ001 - zone is drawn
    offset=offsets,
    spell=st.sampled_from(SPELLINGS),
)
@example(when=datetime(2024, 1, 1), offset=timedelta(0), spell=SPELLINGS[0])  # noqa: DTZ001
def test_every_spelling_of_a_timestamp_is_converted(
    when: datetime, offset: timedelta, spell: Spell
) -> None:
    """Dates are those of UTC, ISO text has milliseconds and Z, epochs count milliseconds."""
    local = when.replace(tzinfo=timezone(offset))
    utc = local.astimezone(UTC)
    record = json.dumps({"t": spell(local)})
    milliseconds = (utc - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    iso = utc.replace(microsecond=utc.microsecond // 1000 * 1000)
    expected = {
        "as_is": record.replace(" ", "", 1),
        "date": f'{{"t":"{utc.date().isoformat()}"}}',
        "iso": f'{{"t":"{iso.isoformat(timespec="milliseconds")[:-6]}Z"}}',
        "epoch_ms": f'{{"t":{milliseconds}}}',
    }
    for timestamps in ("date", "iso", "epoch_ms"):
        rules = RowRules(timestamps=timestamps)
        assert encode([record], {"t": "timestamp"}, rules) == [expected[timestamps]]


@pytest.mark.parametrize(
    "token",
    [
        "2024-13-01T00:00:00+01:00",
        "0000-01-01",
        "yesterday",
        "2024-1-1",
        "0001-01-01T00:00:00+02:00",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00X",
        "2023-02-30T10:00:00Z",
        "2023-02-28T25:00:00Z",
        "2023-02-28T10:61:00Z",
        "2023-02-28T10:00:61.5+02:00",
        "٢٠٢٤-01-01",
    ],
)
def test_what_is_no_timestamp_is_sent_as_it_is(token: str) -> None:
    """A vendor decides about a value that cannot be read as a moment."""
    assert moment(json.dumps(token, ensure_ascii=False).encode()) is None
    record = json.dumps({"t": token}, ensure_ascii=False, separators=(",", ":"))
    for timestamps in ("date", "iso", "epoch_ms"):
        assert encode([record], {"t": "timestamp"}, RowRules(timestamps=timestamps)) == [record]


stamps = st.builds(
    lambda when, offset, spell: spell(when.replace(tzinfo=timezone(offset))),
    st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 3)),  # noqa: DTZ001 - zone is drawn
    st.sampled_from([timedelta(0), timedelta(hours=2), timedelta(hours=-11, minutes=-30)]),
    st.sampled_from(SPELLINGS),
)


@given(run=st.lists(stamps | st.none() | st.sampled_from(["", "soon", "2024-01-01T99:00:00Z"])))
def test_a_run_of_timestamps_is_converted_like_each_of_them(run: list[str | None]) -> None:
    """Values of one layout are converted together; which stand beside them changes nothing."""
    records = [json.dumps({"t": value}) for value in run]
    for timestamps in ("date", "iso", "epoch_ms"):
        rules = RowRules(timestamps=timestamps)
        singly = [encode([record], {"t": "timestamp"}, rules)[0] for record in records]
        assert encode(records, {"t": "timestamp"}, rules) == singly


def test_keys_are_the_same_when_their_values_are() -> None:
    """However a key is spelled; another type is another key."""
    spellings = ["1", "1.0", "10e-1", "100E-2", '"1"', '"\\u0031"', "-0", "0", "0.0"]
    for fields in (["k"], ["k", "l"]):
        case = Case({"k": "anything", "l": "integer"}, None, RowRules(), "json_string", keys=fields)
        records = [Raw(f'{{"k":{token},"l":7}}'.encode()) for token in spellings]
        block, _ = case.codec().encode(records)
        assert block.keys is not None
        assert [len(set(part)) for part in (block.keys[:4], block.keys[4:6], block.keys[6:])] == [
            1
        ] * 3
        assert len(set(block.keys)) == 3


@pytest.mark.parametrize("timestamps", ["as_is", "date", "iso"])
@pytest.mark.parametrize("gone", ['"2024-01-01T00:00:00Z"', '{"at":1}', "true"])
def test_a_deletion_is_seen_however_its_column_is_sent(timestamps: Any, gone: str) -> None:
    """`_ab_cdc_deleted_at` may be declared, converted, nested or of another type."""
    properties = {"id": "string", DELETED: "timestamp"}
    rules = RowRules(timestamps=timestamps)
    case = Case(properties, None, rules, "json_string", keys=["id"], tombstones="delete")
    records = [f'{{"id":"{i}","{DELETED}":{at}}}'.encode() for i, at in enumerate(["null", gone])]
    block, rejected = case.codec().encode([Raw(record) for record in records])
    assert (block.count, len(block.tombstones), rejected) == (1, 1, [])


def test_a_record_may_span_lines() -> None:
    """White space in a value is no border between values."""
    records = ['{"x":\n1}', '{"x":{\n"y":\t2}}', '{"x":[3,\n4]}', '{"x":7}']
    assert encode(records, {"x": "anything"}) == [
        '{"x":1}',
        '{"x":"{\\"y\\":2}"}',
        '{"x":"[3,4]"}',
        '{"x":7}',
    ]


def test_keys_that_are_no_text_are_compared_by_their_tokens() -> None:
    """Booleans, and numbers beyond what any table holds."""
    for kind in ("boolean", "anything"):
        case = Case({"k": kind}, None, RowRules(booleans="string"), "json_string", keys=["k"])
        block, rejected = case.codec().encode([Raw(b'{"k":true}'), Raw(b'{"k":false}')])
        assert (block.keys, rejected) == (["true", "false"], [])
    huge = "1e9999999999999999999"
    case = Case({"k": "number"}, None, RowRules(), "json_string", keys=["k"])
    block, _ = case.codec().encode([Raw(f'{{"k":{huge}}}'.encode())])
    assert block.keys == [huge.encode()]


AS_SENT: list[tuple[str, RowRules, list[Any]]] = [
    ("timestamp", RowRules(timestamps="date"), [*TIMESTAMPS]),
    ("timestamp", RowRules(timestamps="iso"), [*TIMESTAMPS]),
    ("timestamp", RowRules(timestamps="epoch_ms"), [*TIMESTAMPS]),
    ("object", RowRules(), [{"a": [Number("1")]}, ["é"], "text"]),
]


@pytest.mark.parametrize("with_types", [False, True], ids=["encode", "encode_rows"])
@pytest.mark.parametrize("keys", [["id"], ["id", "n"], ["n", "id"]], ids=",".join)
@pytest.mark.parametrize(("kind", "rules", "found"), AS_SENT)
def test_a_key_is_that_of_the_value_as_it_is_sent(
    kind: str, rules: RowRules, found: list[Any], keys: list[str], *, with_types: bool
) -> None:
    """Of a timestamp and of a nested value the vendor knows only what they became."""
    case = Case({"id": kind, "n": "integer"}, None, rules, "json_string", keys=keys)
    records = [{"id": value, "n": Number("7")} for value in found]
    case.data = [*records, {"id": None, "n": Number("7")}, {"n": Number("7")}, {"id": None}]
    block, rejected = run(case, with_types=with_types)
    sent = [loads(row) for row in block.rows()]
    nulls = 0 if keys == ["id"] else 2  # of several columns some may be null
    assert len(sent) == len(found) + nulls
    assert block.keys is not None
    assert list(map(by_value, block.keys)) == [valued([row[k] for k in keys]) for row in sent]
    assert [row.code for row in rejected] == ["bad_key"] * (3 - nulls)


@pytest.mark.parametrize("with_types", [False, True], ids=["encode", "encode_rows"])
@pytest.mark.parametrize("keys", [["id"], ["id", "n"]], ids=",".join)
def test_a_key_that_is_not_sent_is_the_value_as_it_came(
    keys: list[str], *, with_types: bool
) -> None:
    """It has no column whose rules could change it; where it is absent there is no key."""
    properties = {"id": "timestamp", "n": "integer"}
    rules = RowRules(timestamps="date")
    case = Case(properties, [("n", "N")], rules, "json_string", keys=keys)
    n = Number("7")
    case.data = [{"id": stamp, "n": n} for stamp in TIMESTAMPS] + [{"n": n}, {"id": None, "n": n}]
    block, rejected = run(case, with_types=with_types)
    found = [*TIMESTAMPS] if keys == ["id"] else [*TIMESTAMPS, None, None]
    assert block.rows() == [b'{"N":7}'] * len(found)
    assert block.keys is not None
    assert list(map(by_value, block.keys)) == [[key, Decimal(7)][: len(keys)] for key in found]
    assert len(rejected) == len(case.data) - len(found)
    assert {row.code for row in rejected} <= {"bad_key"}


def run(case: Case, *, with_types: bool) -> tuple[RowBlock, list[RejectedRow]]:
    """Encode a case's records, or the rows that the reader decodes them to."""
    codec, raws = case.codec(), case.raws()
    if not with_types:
        return codec.encode(raws)
    return codec.encode_rows([msgspec.json.decode(raw, type=codec.row_types[0]) for raw in raws])


def test_an_empty_text_is_a_key_where_the_vendor_has_no_rule_about_it() -> None:
    """Only a vendor that identifies rows by one column refuses an empty one."""
    records = [Raw(b'{"id":"","n":null}'), Raw(b'{"id":null,"n":null}')]
    properties = {"id": "string", "n": "integer"}
    for required, codes in ((None, ["bad_key"]), ("id", ["bad_key", "bad_key"])):
        for keys in (["id"], ["id", "n"]):
            rules = RowRules(required_column=required)
            case = Case(properties, None, rules, "json_string", keys=keys)
            _, rejected = case.codec().encode(records)
            assert [row.code for row in rejected] == codes


def test_a_date_is_the_moment_of_its_midnight() -> None:
    """Parts that are absent count as zero, in UTC."""
    assert moment(b'"2024-03-01"') == datetime(2024, 3, 1, tzinfo=UTC)
    assert moment(b'"2024-03-01T10:30"') == datetime(2024, 3, 1, 10, 30, tzinfo=UTC)
    assert moment(b'"2024-03-01T10:30:00+05"') == datetime(2024, 3, 1, 5, 30, tzinfo=UTC)


def test_a_plain_date_column_is_not_converted() -> None:
    """`timestamp_format` is about date-time columns only."""
    rows = encode(['{"d":"2024-03-01T00:00:00Z"}'], {"d": "date"}, RowRules(timestamps="date"))
    assert rows == ['{"d":"2024-03-01T00:00:00Z"}']
