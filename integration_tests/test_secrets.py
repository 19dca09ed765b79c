"""No secret in any output: a server echoes each in every form, on every path that ends badly.

Stdout, stderr, the report, the trace and what is left on disk are searched, as they are and as the
JSON in them reads, for each secret in each form, and for any part of one that is long enough to
matter.
"""

from __future__ import annotations

import base64
import html
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import jwt
import pytest

from integration_tests.connector import (
    Connector,
    Outcome,
    catalog,
    complete,
    configured,
    record,
    state,
)
from unit_tests.raw_server import Behaviour, certificate, read_request, serving

pytestmark = pytest.mark.timeout(600)

PART = "omega"  # of each secret, and a value of the rows
WINDOW = 8  # letters of a secret in a row that nobody may see
CATALOG = catalog(configured("deals", ["id", "name"]))
LINES = [
    *(record("deals", {"id": f"{n}", "name": PART}) for n in range(3)),
    state("deals", 1),
    complete("deals"),
]


def planted(name: str) -> str:
    """Return a secret with letters that each language escapes, and a part that rows hold."""
    return f'{name}"Zq9\\<s&7>/+%=4-{PART}-kXw83Lm'


FORMS: tuple[Callable[[str], str], ...] = (
    str,
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    lambda text: quote(text, safe=""),
    quote,
    quote_plus,
    html.escape,
    lambda text: repr(text)[1:-1],
    lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
)


@dataclass(frozen=True)
class Case:
    """A way to show who one is: the provider's part of a config, and what is secret of it."""

    name: str
    provider: Callable[[str], dict[str, Any]]
    own: tuple[str, ...]

    @property
    def secrets(self) -> tuple[str, ...]:
        """With those that stand beside the provider."""
        return (*self.own, SALT, STORE, ACCOUNT)


def custom(authentication: dict[str, Any], **more: str) -> Callable[[str], dict[str, Any]]:
    """Return an API with this authentication; URL in a text is where it is."""

    def provider(url: str) -> dict[str, Any]:
        filled = {
            name: value.replace("URL", url) if isinstance(value, str) else value
            for name, value in authentication.items()
        }
        return {
            "provider_type": "custom_http",
            "base_url": url,
            "authentication": filled,
            "write_path": "/{table}/rows",
            "body": {"body_type": "object"},
            "check_path": "/me",
            "errors_path": "errors",
            "error_index_member": "row",
            "error_message_member": "message",
            **more,
        }

    return provider


KEY, USER, OTHER = planted("key"), planted("user"), planted("othr")
SALT, STORE, ACCOUNT = planted("salt"), planted("store"), planted("accnt")
PAIR = f"{USER}:{KEY}"
JWT = jwt.encode({"appId": "cs-1", "exp": 4_102_444_800}, KEY * 2)
CASES = [
    Case("qobra", lambda url: {"provider_type": "qobra", "base_url": url, "api_key": KEY}, (KEY,)),
    Case(
        "kore app",
        lambda url: {
            "provider_type": "kore",
            "host": url,
            "authentication": {"auth_type": "jwt_app", "client_id": "cs-1", "client_secret": KEY},
        },
        (KEY,),
    ),
    Case(
        "kore token",
        lambda url: {
            "provider_type": "kore",
            "host": url,
            "authentication": {"auth_type": "static_jwt", "jwt": JWT},
        },
        (JWT,),
    ),
    Case("bearer", custom({"auth_type": "bearer", "token": KEY}), (KEY,)),
    Case(
        "header",
        custom(
            {"auth_type": "header", "header_name": "X-Key", "secret": KEY},
            extra_headers=f"X-Tenant: {OTHER}\nX-Log: INFO",
        ),
        (KEY, OTHER),
    ),
    Case(
        "basic",
        custom({"auth_type": "basic", "username": USER, "password": KEY}),
        (USER, KEY, PAIR),
    ),
    Case("user", custom({"auth_type": "basic", "username": USER}), (USER, f"{USER}:")),
    Case("jwt", custom({"auth_type": "jwt", "signing_secret": KEY}), (KEY,)),
    Case("query", custom({"auth_type": "query", "query_name": "key", "query_secret": KEY}), (KEY,)),
    Case(
        "oauth2",
        custom(
            {
                "auth_type": "oauth2",
                "token_url": "URL/token",
                "client_id": "an-application",
                "client_secret": KEY,
            }
        ),
        (KEY, OTHER),  # the other one is the token that it is given
    ),
]


class Echo:
    """Says all that it was told, and the secrets in each form, in answers of one kind."""

    def __init__(self, case: Case, status: int, shift: int, shape: str) -> None:
        self.case, self.status, self.shift, self.shape = case, status, shift, shape
        self.requests = 0

    def __call__(self, connection: socket.socket) -> None:
        while request := read_request(connection):
            self.requests += 1
            path = request.split(b" ")[1]
            if path.startswith(b"/token") and self.shape != "token":
                body = json.dumps({"access_token": OTHER, "expires_in": 60})
                connection.sendall(_answer(200, body.encode()))
            else:
                connection.sendall(self._say(request))
            if self.shape in {"cut", "lengths"}:
                return

    def _say(self, request: bytes) -> bytes:
        heard = request.decode("latin-1")
        headers = [line.partition(": ")[2] for line in heard.split("\r\n")[1:] if ": " in line]
        told = [*headers, heard.split(" ")[1]]
        told += [form(secret) for secret in self.case.secrets for form in FORMS]
        text = "x" * self.shift + " no: ".join(["", *told]) * 3
        match self.shape:
            case "text" | "cut" | "lengths":
                body = text
            case "html":
                body = f"<html><title>{html.escape(text)}</title></html>"
            case "kore":
                body = json.dumps({"errors": [{"msg": text, "code": 4002}]})
            case _:
                rows = [{"row": 1, "message": text, "error": text}]
                body = json.dumps({"message": text, "error": text, "errors": rows})
        data = body.encode("latin-1", "replace")
        if self.shape == "cut":
            return _answer(self.status, data)[:-5]
        if self.shape == "lengths":
            head = f"HTTP/1.1 200 {text[:200]}\r\nContent-Length: 5, 6\r\n{text[:300]}\r\n\r\n"
            return head.encode("latin-1", "replace") + data
        return _answer(self.status, data, "Location: https://elsewhere.example/?" + quote(KEY))


def _answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} No", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def parts_of(secrets: tuple[str, ...]) -> set[str]:
    """Return each part of each secret in each form that is long enough to give something away."""
    parts = set()
    for secret in secrets:
        for form in FORMS:
            shown = form(secret)
            parts |= {shown[at : at + WINDOW] for at in range(len(shown) - WINDOW + 1)}
    # what two of the planted ones have in common with words of the program is none
    return {part for part in parts if part.strip("\\ ")}


def texts_in(value: Any) -> Iterator[str]:
    """Yield each text in a JSON value."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from texts_in(member)
    elif isinstance(value, list):
        for member in value:
            yield from texts_in(member)
    elif isinstance(value, str):
        yield value


@dataclass
class Search:
    """Looks through what runs left behind."""

    case: Case
    connector: Connector
    report: Path
    runs: int = 0
    spoken: int = 0  # runs that showed something of what the server said

    def look(self, outcome: Outcome, what: str) -> None:
        """Fail if a part of a secret is anywhere."""
        self.runs += 1
        shown = [outcome.text]
        for line in outcome.lines:
            shown += texts_in(json.loads(line))
        files = [path for path in self.report.parent.rglob("*") if path.is_file()]
        files += [path for path in (self.connector.folder).rglob("tmp/**/*") if path.is_file()]
        for path in files:
            content = path.read_text("utf-8", "replace")
            shown.append(content)
            for row in content.splitlines():
                with suppress(ValueError):
                    shown += texts_in(json.loads(row))
        self.spoken += any("****" in text for text in shown)
        for part in parts_of(self.case.secrets):
            for text in shown:
                assert part not in text, f"{self.case.name}, {what}: {part!r} in {text[:3000]}"


@pytest.fixture
def search(request: pytest.FixtureRequest, connector: Connector, tmp_path: Path) -> Search:
    folder = tmp_path / "reports"
    folder.mkdir()
    return Search(request.param, connector, folder / "report.jsonl")


every_case = pytest.mark.parametrize("search", CASES, ids=lambda case: case.name, indirect=True)
ANSWERS = [
    *((status, shift, "json") for status in (400, 422) for shift in (0, 493, 1990)),
    (400, 3, "text"),
    (400, 0, "kore"),
    (401, 0, "kore"),
    *((status, 0, "json") for status in (200, 302, 401, 403, 404, 409, 418)),
    (200, 0, "html"),
    (200, 0, "cut"),
    (200, 0, "lengths"),
    (500, 0, "json"),
    (400, 0, "token"),
    (503, 0, "token"),
]


def config_of(search: Search, url: str, policy: str = "skip") -> dict[str, Any]:
    """Return the config of a case, with a report."""
    return {
        "provider": search.case.provider(url),
        "rejected_records": {"policy": policy, "report_path": str(search.report)},
        "diagnostics": {"trace_path": str(search.report.parent / "trace.jsonl")},
        "mask_salt": SALT,
        "object_store": {"secret_access_key": STORE, "account_key": ACCOUNT},
    }


def write(search: Search, config: dict[str, Any], env: dict[str, str]) -> Outcome:
    """Run a sync; one that tries again and again is asked to end."""
    running = search.connector.writing(config, CATALOG, env=env)

    def end_it() -> None:
        with suppress(AssertionError):
            running.wait_for(lambda line: b"attempt_failed" in line or b"_read_back" in line, 60)
            running.signal(signal.SIGTERM)

    watcher = threading.Thread(target=end_it)
    watcher.start()
    with suppress(BrokenPipeError):
        running.send(*LINES)
    running.process.stdin.close() if running.process.stdin else None
    watcher.join()
    return running.ended()


@every_case
@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_no_answer_makes_a_secret_show(search: Search, policy: str) -> None:
    """Whatever an API says of what it was told, and however it says it, at a write."""
    env = {"LOG_LEVEL": "DEBUG"}
    for status, shift, shape in ANSWERS if policy == "skip" else ANSWERS[:7]:
        if shape == "token" and search.case.name != "oauth2":
            continue
        with serving(Echo(search.case, status, shift, shape)) as url:
            outcome = write(search, config_of(search, url, policy), env)
        search.look(outcome, f"write, {status} {shape} {shift} {policy}")
    # there was something to mask; Kore.ai's syncs may be asked to end before a row is rejected
    assert search.spoken or policy == "fail" or search.case.name.startswith("kore")
    print(f"runs: {search.runs}, of which {search.spoken} showed a masked text")


@pytest.mark.parametrize("search", CASES[:1], ids=["store"], indirect=True)
def test_no_store_makes_a_secret_show(search: Search) -> None:
    """A store that quotes what it was told, as it refuses the report and the trace."""
    for status in (400, 403, 404):
        with serving(Echo(search.case, status, 0, "text")) as url:
            config = config_of(search, url)
            config["rejected_records"]["report_path"] = "s3://bucket/rejected"
            config["diagnostics"]["trace_path"] = "s3://bucket/trace"
            config["object_store"] = {
                "access_key_id": "a-name",
                "secret_access_key": STORE,
                "endpoint": url,
            }
            outcome = search.connector.write(config, CATALOG, LINES, env={"LOG_LEVEL": "DEBUG"})
        assert outcome.code == 1
        search.look(outcome, f"store, {status}")


@every_case
def test_no_check_makes_a_secret_show(search: Search) -> None:
    """A person reads what a check says."""
    for status, shift, shape in ANSWERS[::3]:
        if status < 500:
            with serving(Echo(search.case, status, shift, shape)) as url:
                outcome = search.connector.check(config_of(search, url))
            search.look(outcome, f"check, {status} {shape} {shift}")
    print(f"runs: {search.runs}")


@pytest.mark.parametrize("search", CASES[::3], ids=lambda case: case.name, indirect=True)
def test_no_address_makes_a_secret_show(search: Search, tmp_path: Path) -> None:
    """One that does not resolve, refuses, speaks no TLS, or has a certificate nobody signed."""
    closed = "http://127.0.0.1:9"
    file = certificate(tmp_path)
    echo: Behaviour = Echo(search.case, 200, 0, "json")
    with serving(echo) as clear, serving(echo, file) as tls:
        urls = ["https://nowhere.invalid", closed, clear.replace("http:", "https:"), tls]
        for url in urls:
            search.look(search.connector.check(config_of(search, url)), f"check, {url}")
    print(f"runs: {search.runs}")


CRASH = """
import destination_bulk_tables.transport as transport

def send(self, request, headers, timeout_s):
    raise RuntimeError(f"{request} {dict(headers)} " + SECRETS)

transport.Transport.send = send
"""


@pytest.mark.starts_the_command  # a fork has imported what is patched
@every_case
def test_no_crash_makes_a_secret_show(search: Search, tmp_path: Path) -> None:
    """A fault of ours names its place, and not what was at hand there."""
    (tmp_path / "patch").mkdir()
    text = f"SECRETS = {' '.join(search.case.secrets)!r}\n{CRASH}"
    (tmp_path / "patch" / "sitecustomize.py").write_text(text)
    env = {"PYTHONPATH": str(tmp_path / "patch"), "LOG_LEVEL": "DEBUG"}
    config = config_of(search, "http://127.0.0.1:9")
    checked = search.connector.check(config, env=env)
    assert "RuntimeError" in checked.text
    search.look(checked, "check, crash")
    written = search.connector.write(config, CATALOG, LINES, env=env)
    assert "RuntimeError" in written.text
    search.look(written, "write, crash")
    print(f"runs: {search.runs}")


def misplaced(value: Any, secrets: tuple[str, ...]) -> Iterator[Any]:
    """Yield the config with one secret after the other in a shape that it must not have."""
    for name, member in value.items():
        if isinstance(member, dict):
            yield from ({**value, name: changed} for changed in misplaced(member, secrets))
        elif isinstance(member, str) and any(secret in member for secret in secrets):
            rest = {other: kept for other, kept in value.items() if other != name}
            yield {**rest, f"{name}x": member}
            for wrong in ([member], {"value": member}, f"{member}\n\u20ac"):
                yield {**rest, name: wrong}


@every_case
def test_no_wrong_config_makes_a_secret_show(search: Search) -> None:
    """A credential in a list, in an object, under a misspelt name, with what no header may hold."""
    for config in misplaced(config_of(search, "http://127.0.0.1:9"), search.case.secrets):
        search.look(search.connector.check(config), "a wrong config")
    assert search.runs >= 4
    print(f"runs: {search.runs}")
