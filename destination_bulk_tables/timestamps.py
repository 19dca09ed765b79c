"""Timestamps: read, compared, and converted a column at a time, as `values.py` does it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import cast

from msgspec import Raw

from destination_bulk_tables.values import SEPARATOR, Convert

_SEPARATOR = SEPARATOR.decode()
_NULL = Raw(b"null")

_UTC = re.compile(r'"0000-00-00T00:00:00(?:\.(0+))?Z?"')
_OFFSET = re.compile(r'"0000-00-00T00:00:00(?:\.(0+))?[+-]00:00"')
_STAMP = re.compile(
    rb'"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)?\s?'
    rb'(?:(Z|z|UTC)|([+-])(\d\d):?(\d\d)?)?"'
)
_MICROSECOND_DIGITS = 6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZEROS = bytes.maketrans(b"123456789", b"000000000")


def moment(token: bytes) -> datetime | None:
    """Read an ISO 8601 timestamp as UTC, also one without an offset; None for anything else."""
    match = _STAMP.fullmatch(token)
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, offset_h, offset_m = match.groups()
    try:
        stamp = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or b"0").ljust(_MICROSECOND_DIGITS, b"0")[:_MICROSECOND_DIGITS]),
            tzinfo=UTC,
        )
        if sign:
            offset = timedelta(hours=int(offset_h), minutes=int(offset_m or 0))
            zone = timezone(offset if sign == b"+" else -offset)
            stamp = stamp.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return stamp


def instant(token: bytes) -> tuple[datetime, bytes] | None:
    """A timestamp to compare by: as `moment`, then the digits of its fraction beyond those."""
    stamp = moment(token)
    match = _STAMP.fullmatch(token)
    if stamp is None or match is None:
        return None
    return stamp, (match[7] or b"")[_MICROSECOND_DIGITS:].rstrip(b"0")


@lru_cache(1 << 14)
def _hour_in_utc(hour: str, offset: str) -> str | None:
    """Move "2026-06-25T07" by an offset of whole hours; None where that cannot be told."""
    stamp = moment(f'"{hour}:00:00{offset}"'.encode()) if offset.endswith(":00") else None
    return stamp.isoformat()[:13] if stamp else None


def _dates(hours: Sequence[str], texts: Sequence[str], digits: int) -> list[str]:  # noqa: ARG001
    return [hour[:10] for hour in hours]


def _isos(hours: Sequence[str], texts: Sequence[str], digits: int) -> list[str]:
    """The UTC hour, the minutes and seconds as they came, three digits of their fraction."""
    end = 21 + min(3, digits) if digits else 20
    rest = f"{'' if digits else '.'}{'0' * max(0, 3 - digits)}Z"
    return [f"{hour}{text[14:end]}{rest}" for hour, text in zip(hours, texts, strict=True)]


class _Timestamps:
    """A conversion by `alike` where many values have one layout, by `one` where that needs a look.

    A layout is a value with each digit as 0. A source writes a column in one layout or a few, and
    then no value need be parsed: only offsets are computed, once for each hour that occurs.
    """

    def __init__(
        self,
        one: Callable[[datetime], object],
        alike: Callable[[Sequence[str], Sequence[str], int], list[str]] | None = None,
    ) -> None:
        self._one = one
        self._alike = alike

    def __call__(self, tokens: Sequence[Raw], text: bytes) -> Sequence[object]:
        texts = text.decode().split(_SEPARATOR)
        layouts = text.translate(_ZEROS).decode().split(_SEPARATOR)
        if layouts.count(layouts[0]) == len(tokens):
            values = self._of_layout(texts, text, layouts[0])
        else:
            values = self._of_layouts(texts, layouts)
        if None not in values:
            return values
        return [token if v is None else v for token, v in zip(tokens, values, strict=True)]

    def _of_layouts(self, texts: Sequence[str], layouts: Sequence[str]) -> Sequence[object]:
        values: list[object] = [None] * len(texts)
        groups: dict[str, list[int]] = {}
        for i, layout in enumerate(layouts):
            groups.setdefault(layout, []).append(i)
        for layout, where in groups.items():
            group = [texts[i] for i in where]
            found = self._of_layout(group, _SEPARATOR.join(group).encode(), layout)
            for i, value in zip(where, found, strict=True):
                values[i] = value
        return values

    def _of_layout(self, texts: Sequence[str], text: bytes, layout: str) -> Sequence[object]:
        """Convert texts of one layout, also given joined; None for what is no timestamp."""
        match = self._alike and (_UTC.fullmatch(layout) or _OFFSET.fullmatch(layout))
        if self._alike and match:
            hours = _hours_in_utc(texts, text, has_offset=match.re is _OFFSET)
            if hours is not None:
                return self._alike(hours, texts, len(match[1] or ""))
        moments = [moment(text.encode()) for text in texts]
        return [stamp and self._one(stamp) for stamp in moments]


def _hours_in_utc(texts: Sequence[str], text: bytes, *, has_offset: bool) -> list[str] | None:
    """The hours of timestamps of one layout; None where one needs a closer look.

    Where all have one length, the same place of each is a slice of the joined text with a step.
    """
    step = len(texts[0]) + 1
    if (text[15::step] + text[18::step]).translate(None, b"012345"):
        return None  # minutes or seconds beyond 59
    hours: list[str] = [stamp[1:14] for stamp in texts]
    zone = texts[0][-7:-1] if has_offset else "+00:00"
    if has_offset and text.count(zone.encode()) != len(texts):
        moved = [_hour_in_utc(hour, stamp[-7:-1]) for hour, stamp in zip(hours, texts, strict=True)]
    else:
        known = {hour: _hour_in_utc(hour, zone) for hour in set(hours)}
        moved = list(map(known.__getitem__, hours))
    return None if None in moved else cast("list[str]", moved)


TIMESTAMPS: dict[str, Convert] = {
    "date": _Timestamps(lambda stamp: stamp.date().isoformat(), _dates),
    "iso": _Timestamps(lambda stamp: stamp.isoformat(timespec="milliseconds")[:23] + "Z", _isos),
    "epoch_ms": _Timestamps(lambda stamp: (stamp - _EPOCH) // timedelta(milliseconds=1)),
}


_MILLISECONDS = re.compile(rb"\d{1,14}")


def emitted_at(tokens: Sequence[Raw], timestamps: str) -> list[object]:
    """Times of messages, Unix milliseconds, as timestamps are sent; in ISO 8601 where as they are.

    Many records share one. What is no such number is null.
    """
    known = {bytes(token): _emitted_at(bytes(token), timestamps) for token in tokens}
    return [known[bytes(token)] for token in tokens]


def _emitted_at(token: bytes, timestamps: str) -> object:
    whole = token.partition(b".")[0]
    if not _MILLISECONDS.fullmatch(whole):
        return _NULL
    milliseconds = int(whole)
    if timestamps == "epoch_ms":
        return milliseconds
    stamp = (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds")
    return stamp[:10] if timestamps == "date" else stamp[:23] + "Z"
