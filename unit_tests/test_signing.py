"""Each attempt is signed: in headers, in the query, or with a token that is renewed."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

import pytest

from destination_bulk_tables.errors import ConfigError, SettingError, TransientError
from destination_bulk_tables.exchange import Exchange
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.providers.custom_http import CustomHttp
from destination_bulk_tables.secrecy import SECRETS
from destination_bulk_tables.signing import Signer
from destination_bulk_tables.transport import TransportError
from unit_tests.fakes import EPOCH_S, FakeClock, FakeTransport, status

TOKEN_URL = "https://auth.example/oauth/token"
OAUTH: dict[str, Any] = {
    "auth_type": "oauth2",
    "token_url": TOKEN_URL,
    "client_id": "the client",
    "client_secret": "s3cr3t+/value",
}
GET = HttpRequest("GET", "/rows?a=1")


def made(authentication: dict[str, Any]) -> CustomHttp:
    """Make an API with this authentication."""
    return CustomHttp.from_config(
        {
            "provider_type": "custom_http",
            "base_url": "https://api.example",
            "authentication": authentication,
            "write_path": "/{table}/rows",
            "body": {"body_type": "object"},
            "check_path": "/me",
        }
    )


class Vendor:
    """An API and its token server; each token is `token-N`."""

    def __init__(self, clock: FakeClock, lifetime: object = 3600) -> None:
        self.clock = clock
        self.lifetime = lifetime
        self.given = 0
        self.good: set[str] = set()
        self.troubles: list[HttpResponse | Exception] = []  # of the token server, one each time
        self.seen: list[tuple[str, str]] = []  # path and Authorization of what the API was asked
        self.asked: list[HttpRequest] = []
        self.transport = FakeTransport(clock, self.answer)

    def answer(self, request: HttpRequest) -> HttpResponse:
        if request.url is None:
            authorization = self.transport.sent[-1].headers.get("Authorization", "")
            self.seen.append((request.path, authorization))
            return status(200 if authorization.removeprefix("Bearer ") in self.good else 401)
        self.asked.append(request)
        if self.troubles:
            trouble = self.troubles.pop(0)
            if isinstance(trouble, Exception):
                raise trouble
            return trouble
        self.given += 1
        token = f"token-{self.given}"
        self.good.add(token)
        life = b"" if self.lifetime is None else b',"expires_in":%b' % str(self.lifetime).encode()
        return status(200, b'{"access_token":"%b"%b}' % (token.encode(), life))


def rig(lifetime: object = 3600, **more: str) -> tuple[Vendor, Signer, FakeClock]:
    clock = FakeClock()
    vendor = Vendor(clock, lifetime)
    return vendor, Signer(made({**OAUTH, **more}), vendor.transport, clock), clock


def test_a_key_in_the_query_is_added_to_each_path() -> None:
    """Encoded, after what the path asks for itself, and in no header."""
    clock = FakeClock()
    transport = FakeTransport(clock, lambda _: status(200))
    provider = made({"auth_type": "query", "query_name": "api key", "query_secret": "a&b=/c+"})
    signer = Signer(provider, transport, clock)
    for path in ("/rows?a=1", "/rows"):
        signer.send(HttpRequest("GET", path), 5.0)
    assert [(sent.request.path, dict(sent.headers)) for sent in transport.sent] == [
        ("/rows?a=1&api%20key=a%26b%3D%2Fc%2B", {}),
        ("/rows?api%20key=a%26b%3D%2Fc%2B", {}),
    ]


@pytest.mark.parametrize(
    ("more", "form", "has_basic"),
    [
        ({}, {}, True),
        (
            {"scope": "a b", "audience": "api:/x"},
            {"scope": "a b", "audience": "api:/x"},
            True,
        ),
        (
            {"client_authentication": "body"},
            {"client_id": "the client", "client_secret": "s3cr3t+/value"},
            False,
        ),
    ],
)
def test_a_token_is_asked_for_as_the_rfc_says(
    more: dict[str, str],
    form: dict[str, str],
    has_basic: bool,  # noqa: FBT001
) -> None:
    """As a form, with the client's name and secret in the header or in the body."""
    vendor, signer, _ = rig(**more)
    assert signer.send(GET, 5.0).status == 200
    [asked] = vendor.asked
    assert (asked.method, asked.url) == ("POST", TOKEN_URL)
    assert asked.content_type == "application/x-www-form-urlencoded"
    fields = {name: values[0] for name, values in parse_qs((asked.body or b"").decode()).items()}
    assert fields == {"grant_type": "client_credentials", **form}
    pair = base64.b64encode(b"the+client:s3cr3t%2B%2Fvalue").decode()
    assert asked.headers.get("Authorization") == (f"Basic {pair}" if has_basic else None)
    assert vendor.transport.sent[0].headers == {}
    assert vendor.seen == [("/rows?a=1", "Bearer token-1")]


@pytest.mark.parametrize(
    ("lifetime", "times"),
    [
        (3600, [(0, 1), (3500, 1), (3545, 2)]),
        ('"3600"', [(0, 1), (3500, 1), (3545, 2)]),
        (100, [(0, 1), (79, 1), (81, 2)]),
        (0, [(0, 1), (0, 2)]),
        (None, [(0, 1), (1_000_000, 1)]),
        ("true", [(0, 1), (1_000_000, 1)]),
    ],
)
def test_a_token_is_renewed_before_it_ends(
    lifetime: object, times: list[tuple[float, int]]
) -> None:
    """A minute before, or a fifth of a short life; one without an end is kept."""
    vendor, signer, clock = rig(lifetime)
    for at, given in times:
        clock.advance(max(0.0, at - clock.elapsed))
        assert signer.send(GET, 5.0).status == 200
        assert vendor.given == given


def test_a_refused_token_is_renewed_once_whoever_notices() -> None:
    """Two threads are refused with the same one: the second finds a new one already there."""
    vendor, signer, _ = rig()
    signer.send(GET, 5.0)
    vendor.good.clear()
    both = threading.Barrier(2, timeout=100)

    def go() -> int:
        signer.send(GET, 5.0)
        both.wait()
        signer.renew()
        both.wait()
        return signer.send(GET, 5.0).status

    with ThreadPoolExecutor(2) as pool:
        assert [job.result() for job in [pool.submit(go) for _ in range(2)]] == [200, 200]
    assert vendor.given == 2


def test_a_late_refusal_does_not_throw_a_new_token_away() -> None:
    """A thread that is refused with the old one after another renewed it uses the new one."""
    vendor, signer, _ = rig()
    signer.send(GET, 5.0)
    vendor.good.clear()

    def other() -> None:
        assert signer.send(GET, 5.0).status == 401
        signer.renew()
        assert signer.send(GET, 5.0).status == 200

    with ThreadPoolExecutor(1) as pool:
        pool.submit(other).result()
    signer.renew()  # what this thread was last given is token-1
    assert signer.send(GET, 5.0).status == 200
    assert vendor.given == 2


def test_many_threads_ask_for_one_token() -> None:
    """The others wait for what the first one gets."""
    vendor, signer, _ = rig()
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(signer.send, GET, 5.0) for _ in range(40)]
        assert {job.result().status for job in jobs} == {200}
    assert vendor.given == 1


def sending(vendor: Vendor) -> Callable[[], None]:
    """Return a check through one sender, which repeats and gives up."""
    provider, never = made(OAUTH), threading.Event()
    exchange = Exchange(provider, vendor.transport, vendor.clock, never, jitter=lambda: 0.5)
    return lambda: exchange.run(None, provider.check([]))


def test_the_sender_renews_after_a_401_and_goes_on() -> None:
    """The token ended early: the request was not taken, so it is sent again."""
    vendor, _, _ = rig()
    check = sending(vendor)
    check()
    vendor.good.clear()
    check()
    assert [authorization for _, authorization in vendor.seen] == [
        "Bearer token-1",
        "Bearer token-1",
        "Bearer token-2",
    ]


def test_a_token_that_is_refused_at_once_ends_the_sync() -> None:
    """Renewing it again and again would not help."""
    vendor, _, _ = rig()
    real = vendor.transport.answer

    def answer(request: HttpRequest) -> HttpResponse:
        return real(request) if request.url else status(401)

    vendor.transport.answer = answer
    with pytest.raises(ConfigError, match="answered 401"):
        sending(vendor)()
    assert vendor.given == 2


@pytest.mark.parametrize(
    "trouble",
    [
        status(503),
        status(429, retry_after="7"),
        status(429, retry_after=formatdate(EPOCH_S + 9, usegmt=True)),
        status(500, b"<html>"),
        TransportError("maybe", "no complete answer in time", "timeout"),
        TransportError("no", "the host name does not resolve", "dns"),
    ],
)
def test_what_may_pass_at_the_token_server_is_tried_again(
    trouble: HttpResponse | TransportError,
) -> None:
    """The API was sent nothing, so also an unsafe write may follow."""
    vendor, _, clock = rig()
    vendor.troubles = [trouble] * 2
    sending(vendor)()
    assert (len(vendor.asked), vendor.given, len(vendor.seen)) == (3, 1, 1)
    if isinstance(trouble, HttpResponse) and trouble.status == 429:
        assert clock.waits[0] >= 7.0


def test_a_token_server_that_stays_away_ends_the_sync() -> None:
    """It is named, and the failure is one that may pass."""
    vendor, _, _ = rig()
    vendor.troubles = [status(503)] * 100
    with pytest.raises(TransientError, match="no token from token_url: HTTP 503"):
        sending(vendor)()
    assert vendor.seen == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(401, b'{"error":"invalid_client"}'), r"HTTP 401, invalid_client.*client_id"),
        (status(400, b'{"error":"invalid_scope"}'), r"HTTP 400, invalid_scope.*scope"),
        (status(403, b"nobody"), r"HTTP 403\).*client_id"),
        (status(400, b'{"error":"s3cr3t+/value is wrong"}'), r"HTTP 400\)"),
        (status(404, b"nothing"), r"HTTP 404\).*token_url"),
        (status(302), r"HTTP 302\).*token_url"),
        (status(200, b"<html>Sign in</html>"), "without an access_token"),
        (status(200, b"[]"), "without an access_token"),
        (status(200, b'{"access_token":""}'), "without an access_token"),
        (status(200, b'{"access_token":5}'), "without an access_token"),
        (status(200, b'{"access_token":"a\\nb"}'), "without an access_token"),
        (status(200, b"[" * 100_000), "without an access_token"),
    ],
)
def test_an_answer_without_a_token_names_what_to_check(answer: HttpResponse, words: str) -> None:
    """Once; of the server's text only the codes of the RFC are shown."""
    vendor, signer, _ = rig()
    vendor.troubles = [answer]
    with pytest.raises(ConfigError, match=words) as caught:
        signer.send(GET, 5.0)
    assert "s3cr3t" not in caught.value.message
    assert vendor.seen == []


def test_a_token_is_a_secret_from_then_on() -> None:
    """Also the one before, of which an answer may still tell."""
    vendor, signer, _ = rig(0)
    for _ in range(2):
        signer.send(GET, 5.0)
    assert SECRETS.mask("bad token-1 and token-2") == "bad **** and ****"
    for _ in range(50):
        signer.send(GET, 5.0)
    assert vendor.given == 52
    assert SECRETS.mask("bad token-2") == "bad token-2"  # not all of them for ever
    assert SECRETS.mask("bad token-52") == "bad ****"


@pytest.mark.parametrize(
    ("authentication", "setting"),
    [
        ({**OAUTH, "token_url": " "}, "token_url"),
        ({**OAUTH, "client_secret": " "}, "client_secret"),
        ({"auth_type": "query", "query_name": " ", "query_secret": "x"}, "query_name"),
        ({"auth_type": "query", "query_name": "key", "query_secret": " "}, "query_secret"),
    ],
)
def test_an_empty_credential_is_named(authentication: dict[str, Any], setting: str) -> None:
    """Nothing can be sent of it."""
    with pytest.raises(SettingError, match=f"authentication.{setting}|is empty") as caught:
        made(authentication)
    assert setting in caught.value.setting
