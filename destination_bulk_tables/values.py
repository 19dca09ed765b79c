"""Conversions of JSON tokens: timestamps, booleans, numbers as text, nested values, nulls.

Each takes the bytes of a value and gives bytes back; nothing is parsed that need not be. A value
that is not what its column says is left as it is: the vendor decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone

import msgspec
from msgspec import Raw

Convert = Callable[[Raw], Raw]

_encode = msgspec.json.Encoder().encode
_decode_raws = msgspec.json.Decoder(list[Raw]).decode
_OPENING = (b"[", b"{")


def _table(texts: Sequence[tuple[bytes, bytes]]) -> Convert:
    raws: Mapping[bytes, Raw] = {old: Raw(new) for old, new in texts}
    return lambda raw: raws.get(bytes(raw), raw)


BOOLEAN_TEXTS = {
    "string": [(b"true", b'"true"'), (b"false", b'"false"')],
    "number": [(b"true", b"1"), (b"false", b"0")],
}
BOOLEANS = {name: _table(texts) for name, texts in BOOLEAN_TEXTS.items()}


def number_text(raw: Raw) -> Raw:
    """A number as a string with the same digits."""
    token = bytes(raw)
    return Raw(b'"%b"' % token) if token[0] in b"-0123456789" else raw


# --- timestamps

_UTC = re.compile(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d{1,3})\d*)?(?:Z|\+00:00)?"')
_OFFSET = re.compile(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d:\d\d"')
_STAMP = re.compile(
    rb'"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?\s?'
    rb'(?:(Z|z|UTC)|([+-])(\d\d):?(\d\d)?)?"'
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(token: bytes) -> datetime | None:
    """Read an ISO 8601 timestamp as UTC, also one without an offset; None for anything else."""
    try:
        if _OFFSET.fullmatch(token):
            return datetime.fromisoformat(token[1:-1].decode()).astimezone(UTC)
        match = _STAMP.fullmatch(token)
        if not match:
            return None
        year, month, day, hour, minute, second, fraction, _, sign, offset_h, offset_m = (
            match.groups()
        )
        stamp = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or b"0").ljust(6, b"0")[:6]),
            tzinfo=UTC,
        )
        if sign:
            offset = timedelta(hours=int(offset_h), minutes=int(offset_m or 0))
            zone = timezone(offset if sign == b"+" else -offset)
            stamp = stamp.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return stamp


def _to_date(raw: Raw) -> Raw:
    token = bytes(raw)
    if _UTC.fullmatch(token):
        return Raw(token[:11] + b'"')
    stamp = moment(token)
    return raw if stamp is None else Raw(b'"%b"' % stamp.date().isoformat().encode())


def _to_iso(raw: Raw) -> Raw:
    token = bytes(raw)
    match = _UTC.fullmatch(token)
    if match:
        return Raw(b'%b.%bZ"' % (token[:20], (match[1] or b"").ljust(3, b"0")))
    stamp = moment(token)
    if stamp is None:
        return raw
    return Raw(b'"%bZ"' % stamp.isoformat(timespec="milliseconds")[:23].encode())


def _to_epoch_ms(raw: Raw) -> Raw:
    stamp = moment(bytes(raw))
    return raw if stamp is None else Raw(b"%d" % ((stamp - _EPOCH) // timedelta(milliseconds=1)))


TIMESTAMPS: dict[str, Convert] = {"date": _to_date, "iso": _to_iso, "epoch_ms": _to_epoch_ms}


# --- columns and rows


def nested_at(tokens: Sequence[Raw]) -> list[int]:
    """Positions of the objects and arrays in a column; costs little where there is none."""
    text = b"\n".join(tokens)
    # a token of one value holds a newline only inside an object or array
    if text[:1] not in _OPENING and b"\n[" not in text and b"\n{" not in text:
        return []
    return [i for i, token in enumerate(tokens) if bytes(token)[:1] in _OPENING]


def json_strings(tokens: Sequence[Raw]) -> tuple[list[Raw], bytes]:
    """Nested values as strings of compact JSON, and all these strings as one text."""
    text = msgspec.json.format(b"[%b]" % b",".join(tokens), indent=-1)
    strings = _encode([bytes(value).decode() for value in _decode_raws(text)])
    return _decode_raws(strings), strings[1:]


def without_nulls(body: bytes, names: frozenset[bytes]) -> bytes:
    """Drop the null members of encoded flat rows; costs only where a null occurs."""
    parts = body.split(b'":null')
    kept = []
    was_first = False  # the member dropped last opened its row, so the comma after it goes
    for part in parts[:-1]:
        head, quote, name = part.rpartition(b'"')
        if was_first and head[:1] == b",":
            head = head[1:]
        # inside a string the quote before the name is escaped, so that is no column's name
        if name in names:
            was_first = head[-1:] != b","
            kept.append(head if was_first else head[:-1])
        else:
            kept += [head, quote, name, b'":null']
            was_first = False
    last = parts[-1]
    kept.append(last[1:] if was_first and last[:1] == b"," else last)
    return b"".join(kept)
