"""Reading messages from any split of the bytes, and writing lines to a pipe."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from destination_bulk_tables.errors import BadInput, Stopped, TransientError
from destination_bulk_tables.ledger import Checkpoint
from destination_bulk_tables.messages import (
    BadRecord,
    Message,
    RecordRun,
    StateMessage,
    StatusMessage,
)
from destination_bulk_tables.model import StreamKey
from destination_bulk_tables.stdio import LineWriter, MessageReader


class Row(msgspec.Struct):
    """How the data of the stream `users` may be read where it stands."""

    a: msgspec.Raw = msgspec.Raw(b"null")


class TextRow(msgspec.Struct):
    """The fastest way to read it, where each value is text."""

    a: str | None = None


NOWHERE = os.open(os.devnull, os.O_RDONLY)  # for readers that are fed by hand
USERS = StreamKey(None, "users")
ROW_TYPES: dict[StreamKey, Sequence[type]] = {USERS: [TextRow, Row]}


class Pipes(NamedTuple):
    """A reader and the ends to feed and to wake it."""

    reader: MessageReader
    stdin: int
    wake: int


@contextmanager
def pipes() -> Iterator[Pipes]:
    stdin_r, stdin_w = os.pipe()
    wake_r, wake_w = os.pipe()
    try:
        yield Pipes(MessageReader(stdin_r, wake_r, ROW_TYPES), stdin_w, wake_w)
    finally:
        for fd in (stdin_r, stdin_w, wake_r, wake_w):
            os.close(fd)


def feed(reader: MessageReader, blocks: list[bytes], messages: list[Message]) -> None:
    for block in blocks:
        for message in reader._take(block):
            messages.append(message)  # noqa: PERF402 - what came before an error counts


def take(
    blocks: list[bytes], row_types: dict[StreamKey, Sequence[type]] | None = None
) -> list[Message]:
    """All messages of an input that arrives in these blocks, and then ends."""
    reader = MessageReader(NOWHERE, NOWHERE, row_types)
    messages: list[Message] = []
    feed(reader, [*(b for b in blocks if b), b""], messages)
    assert reader.ended
    return messages


def flat(messages: list[Message]) -> list[Any]:
    """Messages one by one: how records are grouped into runs is the reader's own business."""
    out: list[Any] = []
    for message in messages:
        if isinstance(message, RecordRun):
            for data in message.data:
                value = data.a if message.is_decoded else _member(data)
                token = value if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)
                out.append((message.stream, bytes(token)))
        else:
            out.append(message)
    return by_stream(out)


def by_stream(messages: list[Any]) -> list[Any]:
    """The records between two other messages, a stream at a time."""
    out: list[Any] = []
    for is_record, group in groupby(messages, key=lambda m: type(m) is tuple):
        between = list(group)
        out += sorted(between, key=lambda m: str(m[0])) if is_record else between
    return out


def _member(data: msgspec.Raw) -> msgspec.Raw:
    fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    return fields.get("a", msgspec.Raw(b"null"))


# --- lines, each with the message it means

NAMESPACES: list[tuple[str, str | None]] = [
    ("", None),
    (',"namespace":null', None),
    (',"namespace":""', None),
    (',"namespace":"crm"', "crm"),
]
names = st.sampled_from(["users", "users", "users", "deals", "é"])
tokens = st.sampled_from(["1", '"x"', "12345678901234567890123", '"\\n{é"', "[{}]", "null", "1.10"])


@st.composite
def record_lines(draw: st.DrawFn) -> tuple[bytes, list[Any]]:
    name, token = draw(names), draw(tokens)
    text, namespace = draw(st.sampled_from(NAMESPACES))
    extra = draw(st.sampled_from(["", ',"b":2', ',"b":{"c":[1]}']))
    line = (
        f'{{"type":"RECORD","record":{{"stream":"{name}","emitted_at":1.5,"meta":{{"changes":[5]}}'
        f'{text},"data":{{"a":{token}{extra}}}}}}}'
    )
    return line.encode(), [(StreamKey(namespace, name), token.encode())]


@st.composite
def state_lines(draw: st.DrawFn) -> tuple[bytes, list[Any]]:
    name = draw(names)
    text, namespace = draw(st.sampled_from(NAMESPACES))
    kind, scope = draw(
        st.sampled_from(
            [
                ('"type":"STREAM",', StreamKey(namespace, name)),
                ("", StreamKey(namespace, name)),
                ('"type":"GLOBAL",', None),
            ]
        )
    )
    number = draw(st.integers(-(10**30), 10**30))
    state = (
        f'{{{kind}"stream":{{"stream_descriptor":{{"name":"{name}"{text}}},"stream_state":'
        f'{{"n": {number}}}}},"id":{draw(st.integers(1, 9))},"odd\\u0020key":[1.0]}}'
    )
    line = f'{{"type":"STATE","state":{state}}}'
    return line.encode(), [StateMessage(state.encode(), scope)]


@st.composite
def status_lines(draw: st.DrawFn) -> tuple[bytes, list[Any]]:
    name, status = draw(names), draw(st.sampled_from(["COMPLETE", "STARTED", "INCOMPLETE"]))
    text, namespace = draw(st.sampled_from(NAMESPACES))
    kind = draw(st.sampled_from(['"type":"STREAM_STATUS",', ""]))
    line = (
        f'{{"type":"TRACE","trace":{{{kind}"emitted_at":1,"stream_status":{{"stream_descriptor":'
        f'{{"name":"{name}"{text}}},"status":"{status}"}}}}}}'
    )
    return line.encode(), [StatusMessage(StreamKey(namespace, name), status, bool(text))]


ignored_lines = st.sampled_from(
    [
        b"",
        b"  ",
        b"\r",
        b'{"type":"LOG","log":{"level":"INFO","message":"x"}}',
        b'{"type":"CONTROL"}',
        b'{"type":"SOMETHING_NEW","record":7,"state":"x"}',
        b'{"type":"TRACE","trace":{"type":"ANALYTICS","analytics":{"type":"x"}}}',
        b'{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"x"}}}',
        b'{"type":"TRACE","trace":{"type":"STREAM_STATUS"}}',
        b'{"type":"LOG","log":{"message":"\\ud800 NaN"}}',
    ]
).map(lambda line: (line, list[Any]()))
odd_records = st.sampled_from(
    [
        (b'{"a":NaN}', b'{"a": NaN}'),
        (b'{"a":-Infinity}', b'{"a": -Infinity}'),
        (b'{"a":"\\ud800"}', b'{"a": "\\ud800"}'),
        (b'{"a":"\\udc00x"}', b'{"a": "\\udc00x"}'),
    ]
).map(
    lambda pair: (
        b'{"type":"RECORD","record":{"stream":"users","data":%b}}' % pair[0],
        [BadRecord(USERS, "not_json", ODD, pair[1])],
    )
)
ODD = "the record holds NaN, Infinity or half a surrogate pair, which is not JSON"
lines = st.one_of(
    record_lines(), record_lines(), record_lines(), state_lines(), status_lines(), ignored_lines
)


def cut(text: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(edges)]


@given(
    drawn=st.lists(st.one_of(lines, lines, lines, odd_records), max_size=12),
    places=st.lists(st.integers(0, 5000), max_size=12),
    ends_with_newline=st.booleans(),
)
def test_any_split_of_the_bytes_gives_the_same_messages(
    drawn: list[tuple[bytes, list[Any]]], places: list[int], *, ends_with_newline: bool
) -> None:
    """Blocks may end anywhere, also inside a character; the last line may lack its newline."""
    text = b"\n".join(line for line, _ in drawn) + (b"\n" if ends_with_newline else b"")
    expected = by_stream([message for _, messages in drawn for message in messages])
    for row_types in ({}, ROW_TYPES):
        assert flat(take(cut(text, places), row_types)) == expected
        assert flat(take([text], row_types)) == expected


@given(
    drawn=st.lists(
        st.tuples(st.sampled_from(["users", "users", "deals"]), st.integers(0, 10**13)), max_size=12
    ),
    places=st.lists(st.integers(0, 2000), max_size=8),
)
def test_each_record_keeps_its_time_where_that_is_wanted(
    drawn: list[tuple[str, int]], places: list[int]
) -> None:
    """Read as text, in place or one by one; a stream that does not want it gets none."""
    text = b"".join(
        b'{"type":"RECORD","record":{"stream":"%b","data":{"a":%d},"emitted_at":%d}}\n'
        % (name.encode(), time, time)
        for name, time in drawn
    )
    reader = MessageReader(NOWHERE, NOWHERE, {USERS: [Row]}, {USERS})
    found: list[int] = []
    for block in [*cut(text, places), b""]:
        for run in reader._take(block):
            assert isinstance(run, RecordRun)
            if run.stream != USERS:
                assert run.times == ()
                continue
            rows = (
                run.data if run.is_decoded else [msgspec.json.decode(d, type=Row) for d in run.data]
            )
            assert [bytes(row.a) for row in rows] == [bytes(time) for time in run.times]
            found += map(int, map(bytes, run.times))
    assert found == [time for name, time in drawn if name == "users"]


def test_rows_without_a_value_come_as_they_were_written() -> None:
    """Only the text tells a null from a field that was renamed; the next block is read in place."""
    line = b'{"type":"RECORD","record":{"stream":"users","data":{"%b":1}}}\n'
    reader = MessageReader(NOWHERE, NOWHERE, {USERS: [Row]})
    seen = []
    for names in (b"a", b"aa", b"b", b"bb", b"ab", b"a"):
        for run in reader._take(b"".join(line % bytes([name]) for name in names)):
            assert isinstance(run, RecordRun)
            seen.append((len(run.data), run.is_decoded))
    assert seen == [(1, False), (2, True), (1, False), (2, False), (2, True), (1, True)]


BAD_LINES = [
    b"secret words",
    b'{"type":"RECORD","record":{"stream":"users","data":{"a":"secret"}}',
    b'{"type":"RECORD","record":{"stream":"users","data":{"a":"sec\\xret"}}}',
    b'{"type":"RECORD","record":{"stream":5,"data":{"a":"secret"}}}',
    b'{"type":"RECORD","record":{"data":{"a":"secret"}}}',
    b'{"type":"RECORD","record":{"stream":"secret"}}',
    b'{"type":"RECORD","secret":1}',
    b'{"type":"STATE","secret":1}',
    b'{"type":"STATE","state":{"type":"STREAM","secret":1}}',
    b'{"type":"STATE","state":{"secret":NaN}}',
    b'{"type":"STATE","state":["secret"]}',
    b'{"type":"TRACE","secret":1}',
    b'{"type":"TRACE","trace":{"stream_status":{"status":"secret"}}}',
    b'{"secret":1}',
    b'["secret"]',
    b'"secret"',
    b'{"type":"RECORD","record":{"stream":"users","data":{"a":"secret\xff"}}}',
    b"[" * 100_000 + b"secret",
]


@pytest.mark.parametrize("bad", BAD_LINES, ids=[repr(line[:60]) for line in BAD_LINES])
@pytest.mark.parametrize("row_types", [{}, ROW_TYPES], ids=["as text", "in place"])
def test_a_bad_line_is_an_error_with_its_number(
    bad: bytes, row_types: dict[StreamKey, Sequence[type]]
) -> None:
    """What came before it is handed out first; nothing of its content is in the error."""
    good = b'{"type":"RECORD","record":{"stream":"users","data":{"a":1}}}\n'
    log = b'{"type":"LOG"}\n'
    for blocks in ([good, good, log, bad + b"\n" + good], [good * 2 + log + bad]):
        reader = MessageReader(NOWHERE, NOWHERE, row_types)
        messages: list[Message] = []
        with pytest.raises(BadInput, match=r"^Line 4 of the input") as caught:
            feed(reader, [*blocks, b""], messages)
        assert flat(messages) == [(USERS, b"1")] * 2
        assert "secret" not in caught.value.message
        assert caught.value.detail is None


def test_a_state_comes_back_byte_for_byte() -> None:
    """From the pipe to the acknowledgement only `destinationStats` is added."""
    state = (
        b'{"type":"STREAM","stream":{"stream_descriptor":{"name":"users","namespace":""},'
        b'"stream_state":{"big":123456789012345678901234567890,"d":1.10,"\xc3\xa9":"\\u00e9"}},'
        b'"sourceStats":{"recordCount":3.0},"id":7,"partition_id":"p"}'
    )
    (message,) = take([b'{"type":"STATE","state":%b}\n' % state])
    assert message == StateMessage(state, USERS)
    printed = Checkpoint(state, ()).acknowledge()
    stats = b',"destinationStats":{"recordCount":0.0}}}'
    assert printed == b'{"type":"STATE","state":' + state[:-1] + stats


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=10,
)


state_names = st.text(st.characters(codec="utf-8"), max_size=6).filter(lambda n: n != "stream")


@given(members=st.dictionaries(state_names, json_values))
def test_any_state_comes_back_with_equal_values(members: dict[str, Any]) -> None:
    """Whatever a source keeps in a state, under whatever keys, in the order they came."""
    state = {**members, "type": "GLOBAL"}
    line = json.dumps({"type": "STATE", "state": state}, separators=(",", ":")).encode()
    (message,) = take([line])
    assert isinstance(message, StateMessage)
    back = json.loads(Checkpoint(message.state, ()).acknowledge())["state"]
    assert back.pop("destinationStats") == {"recordCount": 0.0}
    state.pop("destinationStats", None)
    assert list(back.items()) == list(state.items())


def test_the_records_of_a_stream_keep_their_order_however_its_namespace_is_written() -> None:
    """Null, absent and empty are one namespace."""
    spellings = ["", ',"namespace":null', ',"namespace":""', ""]
    lines = [
        f'{{"type":"RECORD","record":{{"stream":"users","data":{{"a":{i}}}{text}}}}}\n'.encode()
        for i, text in enumerate(spellings)
    ]
    other = b'{"type":"RECORD","record":{"stream":"other","data":{"a":9}}}\n'
    messages = take([b"".join([*lines, other])])
    (users,) = [m for m in messages if isinstance(m, RecordRun) and m.stream == USERS]
    assert [bytes(_member(data)) for data in users.data] == [b"0", b"1", b"2", b"3"]


def test_other_messages_do_not_count_against_a_type() -> None:
    """A LOG line is no sign that the values are of another type."""
    block = b'{"type":"RECORD","record":{"stream":"users","data":{"a":"x"}}}\n' * 2
    messages = take([*[block, block + b'{"type":"LOG"}\n'] * 9, block, block], ROW_TYPES)
    last = messages[-1]
    assert isinstance(last, RecordRun)
    assert type(last.data[0]) is TextRow


def test_a_record_nested_too_deeply_is_an_error_that_says_so() -> None:
    """It is valid JSON, and nothing here can look into it."""
    data = b'{"a":' * 5000 + b"1" + b"}" * 5000
    line = b'{"type":"RECORD","record":{"stream":"users","data":%b}}\n' % data
    with pytest.raises(BadInput, match=r"^Line 1 of the input is nested too deeply"):
        take([line])


def test_a_type_that_the_values_keep_failing_gives_way_to_the_next() -> None:
    """A source whose text columns hold numbers is read as fast as any that is read as tokens."""
    block = b'{"type":"RECORD","record":{"stream":"users","data":{"a":1}}}\n' * 2
    types = {
        type(message.data[0])
        for message in take([block] * 9, ROW_TYPES)[-2:]
        if isinstance(message, RecordRun)
    }
    assert types == {Row}


# --- waiting


def test_a_read_ends_with_its_timeout_while_stdin_is_silent() -> None:
    """A tick: nothing is yielded and nothing is over."""
    with pipes() as p:
        assert list(p.reader.read(0, wants_input=True)) == []
        assert not p.reader.ended


def test_a_wake_up_ends_a_wait() -> None:
    """One byte on the other pipe is enough, and is used up."""
    with pipes() as p:
        os.write(p.wake, b"..")
        assert list(p.reader.read(60, wants_input=True)) == []
        os.write(p.stdin, b'{"type":"STATE","state":{}}\n')
        assert list(p.reader.read(60, wants_input=True)) == [StateMessage(b"{}", None)]


def test_input_that_is_not_wanted_is_not_read() -> None:
    """Not reading is the backpressure."""
    with pipes() as p:
        os.write(p.stdin, b'{"type":"STATE","state":{}}\n')
        assert list(p.reader.read(0, wants_input=False)) == []
        assert len(list(p.reader.read(0, wants_input=True))) == 1


def test_a_message_may_take_many_reads() -> None:
    """A line is handed out when its newline is there."""
    with pipes() as p:
        for part in (b'{"type":"STATE"', b',"state":', b"{}}"):
            os.write(p.stdin, part)
            assert list(p.reader.read(0, wants_input=True)) == []
        os.write(p.stdin, b"\n")
        assert len(list(p.reader.read(0, wants_input=True))) == 1
        assert not p.reader.ended


# --- writing


def test_lines_are_written_whole_and_at_once() -> None:
    """More than a pipe holds goes out while somebody reads."""
    read_end, write_end = os.pipe()
    lines = [b"%d" % i * 5000 for i in range(10)] * 4
    received = bytearray()

    def drain() -> None:
        while block := os.read(read_end, 65536):
            received.extend(block)

    thread = threading.Thread(target=drain)
    thread.start()
    LineWriter(write_end, threading.Event()).write(lines)
    os.close(write_end)
    thread.join()
    os.close(read_end)
    assert bytes(received) == b"".join(line + b"\n" for line in lines)


def test_a_closed_pipe_is_a_transient_error() -> None:
    """Whoever read the output is gone; the next attempt sends again what was not acknowledged."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(TransientError, match="Nobody reads"):
        LineWriter(write_end, threading.Event()).write([b"line"])
    os.close(write_end)


def test_a_full_pipe_does_not_outlast_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a stop is asked for and nobody reads, the write gives up."""
    monkeypatch.setattr("destination_bulk_tables.stdio._WRITE_WAIT_S", 0.0)
    read_end, write_end = os.pipe()
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        LineWriter(write_end, stop).write([b"x" * 1_000_000])
    os.close(read_end)
    os.close(write_end)


def test_a_full_pipe_is_waited_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that pauses is no failure, one that never comes back is."""
    monkeypatch.setattr("destination_bulk_tables.stdio._WRITE_WAIT_S", 0.001)
    monkeypatch.setattr("destination_bulk_tables.stdio._LONGEST_WRITE_S", 0.005)
    read_end, write_end = os.pipe()
    with pytest.raises(TransientError, match="an hour"):
        LineWriter(write_end, threading.Event()).write([b"x" * 1_000_000])
    os.close(read_end)
    os.close(write_end)
