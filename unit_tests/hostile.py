"""Answers that a server, a proxy, a login or a maintenance gives in place of the right one.

Each class is one kind of wrong answer. `applied`: the request was carried out all the same, as far
as that can be: of an answer that says "not now" or "no" it is taken at its word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.transport import TransportError
from unit_tests.fakes import Answer, Fault

PAGE = b"<!doctype html><title>Sign in</title><form action=/login></form>"
_JSON = {"content-type": "application/json"}
_HTML = {"content-type": "text/html; charset=utf-8"}


def _says(code: int, body: bytes, **headers: str) -> HttpResponse:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(code, _JSON | names, body)


def _plain(code: int, body: bytes = b"", **headers: str) -> Fault:
    def fault(request: HttpRequest, answer: Answer) -> HttpResponse:  # noqa: ARG001
        return _says(code, body, **headers)

    return fault


def _spoiled(spoil: Callable[[bytes], bytes]) -> Fault:
    def fault(request: HttpRequest, answer: Answer) -> HttpResponse:
        good = answer(request)
        return HttpResponse(good.status, good.headers, spoil(good.body))

    return fault


def _broken(sent: Any, kind: Any) -> Fault:
    def fault(request: HttpRequest, answer: Answer) -> HttpResponse:  # noqa: ARG001
        raise TransportError(sent, "the connection broke", kind)

    return fault


def _applied(fault: Fault) -> Fault:
    def both(request: HttpRequest, answer: Answer) -> HttpResponse:
        answer(request)
        return fault(request, answer)

    return both


# a success by its status, and nothing that says so
EMPTY_SUCCESSES: dict[str, Fault] = {
    **{f"{code} empty": _plain(code) for code in (200, 201, 202, 204, 205, 206)},
    **{
        f"200 {body}": _plain(200, body.encode())
        for body in ("{}", "[]", "null", "0", "true", '"ok"', '{"message":"please log in"}')
    },
}
# a success by its status, and trouble by its body
FALSE_SUCCESSES: dict[str, Fault] = {
    "200 login page": lambda _request, _answer: HttpResponse(200, _HTML, PAGE),
    "201 page said to be JSON": _plain(201, PAGE),
    "200 text that is said to be HTML": lambda _request, _answer: HttpResponse(
        200, _HTML, b"please wait"
    ),
    "200 XML": _plain(200, b'<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>'),
    "207 empty": _plain(207),
    **{
        f"200 {body}": _plain(200, body.encode())
        for body in (
            '{"error":"not stored"}',
            '{"errors":["denied"]}',
            '{"success":false}',
            '{"status":"error","message":"no"}',
            '{"FailedRecordCount":3}',
            '[{"error":"conflict"}]',
            '{"results":[{"error":"conflict"}]}',
        )
    },
}
# what says no, or not now
REFUSALS: dict[str, Fault] = {
    **{
        f"{code}": _plain(code, b'{"message":"no"}')
        for code in (400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413)
    },
    **{
        f"{code}": _plain(code, b'{"message":"no"}')
        for code in (414, 415, 418, 421, 422, 423, 425, 426, 429, 431, 451, 499)
    },
    **{f"{code} page": _plain(code, PAGE) for code in (400, 403, 404, 413, 422, 429)},
    **{f"{code}": _plain(code, b"", location="/login") for code in (300, 301, 302, 303, 304, 307)},
    "429 Retry-After": _plain(429, b"", retry_after="1"),
    "503 Retry-After": _plain(503, b"", retry_after="1"),
    "refused": _broken("no", "connect"),
}


def _partly(code: int) -> Fault:
    """It stores the rows up to the bad one, and says no to the request."""

    def fault(request: HttpRequest, answer: Answer) -> HttpResponse:
        body = json.loads(request.body or b"null")
        if _halve(body):
            answer(replace(request, body=json.dumps(body).encode()))
        return _says(code, b'{"message":"a row is bad"}')

    return fault


def _halve(body: Any) -> bool:
    """Leave the first half of the list that holds the rows; False where there is none."""
    inside = list(body.values()) if isinstance(body, dict) else []
    if isinstance(body, list) and body and isinstance(body[0], dict):
        del body[(len(body) + 1) // 2 :]
        return True
    return any(map(_halve, inside))


# what says no and stored a part all the same
PARTLY: dict[str, Fault] = {f"{code}, a part stored": _partly(code) for code in (400, 409, 422)}
# what says nothing about the request
SILENCES: dict[str, Fault] = {
    **{f"{code}": _plain(code, PAGE) for code in (500, 501, 502, 504, 505, 507, 520, 524, 529)},
    "cut": _broken("maybe", "broken"),
    "late": _broken("maybe", "timeout"),
}
# a right answer, spoiled on its way; the request was carried out
SPOILED: dict[str, Fault] = {
    "half a body": _spoiled(lambda body: body[: len(body) // 2]),
    "a byte order mark": _spoiled(lambda body: b"\xef\xbb\xbf" + body),
    "too deep": _spoiled(lambda body: b"[" * 50_000 + body),
    "not UTF-8": _spoiled(lambda body: b"\xff\xfe" + body),
    "twice": _spoiled(lambda body: body + body),
    "a number less": _spoiled(lambda body: _changed(body, -1)),
    "a number more": _spoiled(lambda body: _changed(body, 1)),
}


def _changed(body: bytes, by: int) -> bytes:
    """Every number and list of an answer by one off."""
    try:
        return json.dumps(_off(json.loads(body), by)).encode()
    except ValueError:
        return body


def _off(value: Any, by: int) -> Any:
    if isinstance(value, dict):
        return {name: _off(member, by) for name, member in value.items()}
    if isinstance(value, list):
        return value[:-1] if by < 0 else value + value[:1]
    is_number = isinstance(value, int) and not isinstance(value, bool) and value < 200
    return value + by if is_number else value


def classes(*, is_proof_the_status: bool, is_atomic: bool = False) -> Iterator[tuple[str, Fault]]:
    """Every class, each that may hide an applied request also as one that does.

    Where a status is the only proof there is, an empty success that stored nothing cannot be told
    from one that did: such a form says so in the log, and is not asked.
    `is_atomic`: the API stores all rows of a request or none, so that it never stores a part.
    """
    for name, fault in (FALSE_SUCCESSES | SILENCES).items():
        yield name, fault
        yield f"{name}, applied", _applied(fault)
    for name, fault in EMPTY_SUCCESSES.items():
        if not is_proof_the_status:
            yield name, fault
        yield f"{name}, applied", _applied(fault)
    yield from REFUSALS.items()
    if not is_atomic:
        yield from PARTLY.items()
    yield from SPOILED.items()
