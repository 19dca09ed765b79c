"""`check` says what is wrong, each way to be wrong with a message of its own, and writes nothing.

It prints exactly one CONNECTION_STATUS and exits with 0 (`Outcome.check`), whatever it finds.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from integration_tests.connector import Connector
from integration_tests.emulator import Emulator
from integration_tests.vendor_configs import Vendor, config_for

Emulate = Callable[..., Emulator]
ALL: tuple[Vendor, Vendor] = ("qobra", "kore")
CLOUD = {"DEPLOYMENT_MODE": "CLOUD"}
JWT_APP = {"auth_type": "jwt_app", "client_id": "cs-demo", "client_secret": "kore-secret-1"}


def changed(config: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Set one setting, given by its path; None removes it."""
    *parents, last = path.split(".")
    section = config
    for name in parents:
        section = section.setdefault(name, {})
    section[last] = value
    if value is None:
        del section[last]
    return config


def kore(url: str, authentication: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a Kore.ai config with some other authentication."""
    config = config_for("kore", url, **more)
    if authentication:
        config["provider"]["authentication"] = authentication
    return config


def static_jwt(expires_in: timedelta) -> dict[str, str]:
    """Sign a token for the emulator's app."""
    claims = {"appId": "cs-demo", "sub": "airbyte", "exp": datetime.now(UTC) + expires_in}
    token = jwt.encode(claims, "kore-secret-1".ljust(32), "HS256")
    return {"auth_type": "static_jwt", "jwt": token}


def failure(connector: Connector, config: object, env: Mapping[str, str] | None = None) -> str:
    """Return the message of a check that must fail."""
    status, message = connector.check(config, env).check
    assert status == "FAILED", message
    return message


# --- good


@pytest.mark.parametrize("vendor", ALL)
def test_a_good_config_succeeds_and_writes_nothing(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """With the provider alone, and with an existing table, one or two requests that only read."""
    emulator = emulate()
    emulator.create_table(vendor, "deals")
    for more in ({}, {"tables": [{"stream": "deals"}]}):
        assert connector.check(config_for(vendor, emulator.url, **more)).check == ("SUCCEEDED", "")
    assert {request.kind for request in emulator.requests} <= {"structures", "query"}
    assert len(emulator.requests) == 2
    assert emulator.count(vendor, "deals") == 0
    assert emulator.tables() == [(vendor, "deals")]


@pytest.mark.parametrize("algorithm", ["HS256", "HS512", "RS256", "RS512"])
def test_every_algorithm_signs(connector: Connector, emulate: Emulate, algorithm: str) -> None:
    """Tokens are signed with the algorithm that the app was made with."""
    emulator = emulate(kore_enforce_jti=True)
    secret = verifier = "s" * 64
    if algorithm.startswith("RS"):
        secret, verifier = pem_pair()
    emulator.add_app("cs-2", verifier, algorithm=algorithm)
    section = {**JWT_APP, "client_id": "cs-2", "client_secret": secret, "algorithm": algorithm}
    assert connector.check(kore(emulator.url, section)).check == ("SUCCEEDED", "")


def test_a_column_that_the_table_lacks_is_told(connector: Connector, emulate: Emulate) -> None:
    """With the nearest name; it is no error under policy skip, or where the vendor says nothing."""
    emulator = emulate()
    emulator.create_table("kore", "deals", {"id": "string", "Amount": "number"})
    columns = [{"field": "id", "column": "id"}, {"field": "amount", "column": "amount"}]
    tables: dict[str, Any] = {"tables": [{"stream": "deals", "columns": columns}]}
    message = failure(connector, kore(emulator.url, **tables))
    assert "Table deals has no column 'amount' (but 'Amount')" in message
    skip: dict[str, Any] = {"rejected_records": {"policy": "skip"}}
    assert connector.check(kore(emulator.url, **tables, **skip)).check == ("SUCCEEDED", "")
    emulator.create_table("kore", "deals")
    assert connector.check(kore(emulator.url, **tables)).check == ("SUCCEEDED", "")


def test_a_static_token_succeeds(connector: Connector, emulate: Emulate) -> None:
    """A token made elsewhere works until it expires."""
    emulator = emulate()
    emulator.add_app("cs-demo", "kore-secret-1".ljust(32))
    config = kore(emulator.url, static_jwt(timedelta(hours=1)))
    assert connector.check(config).check == ("SUCCEEDED", "")


# --- the credential and what it may do


def test_a_wrong_key_is_told(connector: Connector, emulate: Emulate) -> None:
    """The key is named as the thing to correct."""
    config = changed(config_for("qobra", emulate().url), "provider.api_key", "wrong-key-1")
    message = failure(connector, config)
    assert "api_key" in message
    assert "wrong-key-1" not in message


def test_a_wrong_secret_is_told(connector: Connector, emulate: Emulate) -> None:
    """Client id, secret and algorithm are named; with a table it is still told from a right."""
    emulator = emulate()
    emulator.create_table("kore", "deals")
    section = {**JWT_APP, "client_secret": "wrong-secret-1"}
    for more in ({}, {"tables": [{"stream": "deals"}]}):
        message = failure(connector, kore(emulator.url, section, **more))
        assert "does not accept the token" in message
        assert "wrong-secret-1" not in message


def test_an_expired_token_is_told_without_a_request(connector: Connector, emulate: Emulate) -> None:
    """An expired static token is seen here, before the vendor is asked."""
    emulator = emulate()
    message = failure(connector, kore(emulator.url, static_jwt(timedelta(hours=-1))))
    assert "expired" in message
    assert emulator.requests == []


@pytest.mark.parametrize("secret", ["not a PEM", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END"])
def test_a_bad_private_key_is_told(connector: Connector, emulate: Emulate, secret: str) -> None:
    """What cannot sign is named, and not quoted."""
    emulator = emulate()
    section = {**JWT_APP, "client_secret": secret, "algorithm": "RS256"}
    message = failure(connector, kore(emulator.url, section))
    assert "PEM" in message
    assert secret not in message
    assert emulator.requests == []


@pytest.mark.parametrize("status", [400, 404])
def test_a_missing_table_is_told(connector: Connector, emulate: Emulate, status: int) -> None:
    """The table is named, whatever the status."""
    emulator = emulate(kore_unknown_table_status=status)
    message = failure(connector, kore(emulator.url, tables=[{"stream": "s", "table": "no-deals"}]))
    assert "no-deals" in message
    assert "may not read" not in message


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_right_is_told(connector: Connector, emulate: Emulate, status: int) -> None:
    """The table and the right are named, and the token is not blamed."""
    emulator = emulate(kore_missing_right_status=status)
    emulator.create_table("kore", "deals")
    emulator.add_app("cs-demo", "kore-secret-1", rights={"deals": "w"})
    message = failure(connector, kore(emulator.url, tables=[{"stream": "deals"}]))
    assert "may not read table deals" in message
    assert "Read" in message


# --- the address


def test_a_closed_port_is_told(connector: Connector) -> None:
    """A refused connection names host and port as what to check."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # not listening
        message = failure(
            connector, config_for("qobra", f"http://127.0.0.1:{bound.getsockname()[1]}")
        )
    assert "cannot be reached" in message


def test_an_unknown_host_is_told(connector: Connector) -> None:
    """A name that does not resolve is told from a host that does not answer."""
    assert "does not resolve" in failure(connector, config_for("kore", "https://no-such.invalid"))


def test_a_port_without_tls_is_told(connector: Connector, emulate: Emulate) -> None:
    """Plain HTTP behind an https address is a TLS problem."""
    config = config_for("qobra", emulate().url.replace("http://", "https://"))
    assert "TLS" in failure(connector, config)


def test_a_certificate_nobody_signed_is_told(connector: Connector, tmp_path: Path) -> None:
    """A self-signed certificate is refused, and no credential reaches its server."""
    asked: list[str] = []
    with serving(asked, certificate(tmp_path)) as port:
        message = failure(connector, config_for("qobra", f"https://127.0.0.1:{port}"))
    assert "certificate" in message
    assert asked == []


def test_another_service_is_told(connector: Connector) -> None:
    """A page that is not the vendor's API is not a success, for either vendor."""
    asked: list[str] = []
    with serving(asked) as port:
        for vendor in ALL:
            config = config_for(vendor, f"http://127.0.0.1:{port}", tables=[{"stream": "deals"}])
            message = failure(connector, config)
            assert re.search("address|host", message), message
    assert asked


def test_a_redirect_is_not_followed(connector: Connector, emulate: Emulate) -> None:
    """The credential goes to no other place than the configured one."""
    emulator = emulate()
    asked: list[str] = []
    with serving(asked) as port:
        elsewhere = f"http://127.0.0.1:{port}/"
        emulator.faults([{"kind": "redirect", "status": 307, "location": elsewhere, "count": None}])
        for vendor in ALL:
            failure(connector, config_for(vendor, emulator.url, tables=[{"stream": "deals"}]))
    assert asked == []


@pytest.mark.parametrize("vendor", ALL)
def test_plain_http_is_for_loopback_only(connector: Connector, vendor: Vendor) -> None:
    """On a public host the credential would travel in the clear."""
    for url in ("http://api.example.com", "http://127.0.0.1.example.com", "http://10.0.0.1"):
        assert "https://" in failure(connector, config_for(vendor, url))


@pytest.mark.parametrize("vendor", ALL)
def test_plain_http_is_not_for_the_cloud(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """There loopback is somebody else's machine."""
    emulator = emulate()
    assert "https://" in failure(connector, config_for(vendor, emulator.url), CLOUD)
    assert emulator.requests == []


# --- the config itself


BROKEN = {
    "provider.provider_type": ("hubspot", "provider.provider_type must be one of"),
    "provider": (None, "provider"),
    "provider.api_key": (None, "provider.api_key is missing"),
    "provider.timestamp_format": ("epoch", "provider.timestamp_format must be one of: date, iso"),
    "provider.debounce_seconds": (7200, "provider.debounce_seconds must be at most 3600"),
    "provider.import_timeout_minutes": ("1 h", "import_timeout_minutes must be of type number"),
    "provider.base_url": ("api.qobra.co", "must be a URL"),
    "batching.max_rows": (0, "batching.max_rows must be at least 1"),
    "batching.max_parallel_requests": (9, "max_parallel_requests must be at most 8"),
    "batching.max_megabytes": ("ten", "batching.max_megabytes must be of type number"),
    "tables": ({"stream": "deals"}, "tables must be of type array"),
    "truncate_mode": ("sometimes", "truncate_mode must be one of"),
    "nested_values": ("flatten", "nested_values must be one of"),
    "rejected_records.policy": ("ignore", "rejected_records.policy must be one of: fail, skip"),
}


@pytest.mark.parametrize(("path", "case"), BROKEN.items())
def test_a_broken_setting_is_named(
    connector: Connector, path: str, case: tuple[object, str]
) -> None:
    """The message names the setting and what it may be, before anything is asked."""
    value, expected = case
    message = failure(connector, changed(config_for("qobra", "http://127.0.0.1:9"), path, value))
    assert expected in message


def test_a_column_without_its_name_is_named(connector: Connector) -> None:
    """The place inside a list is part of the message."""
    tables = [{"stream": "deals"}, {"stream": "calls", "columns": [{"field": "id"}]}]
    message = failure(connector, config_for("qobra", "http://127.0.0.1:9", tables=tables))
    assert "tables[1].columns[0].column is missing" in message


def test_a_stream_configured_twice_is_told(connector: Connector) -> None:
    """Which of the two entries would hold is not left open."""
    tables = [{"stream": "deals", "table": "a"}, {"stream": "deals", "table": "b"}]
    message = failure(connector, config_for("qobra", "http://127.0.0.1:9", tables=tables))
    assert "two entries for stream 'deals'" in message


@pytest.mark.parametrize("config", ["", "{", "[]", "null", '"text"', '{"provider": NaN'])
def test_a_file_that_holds_no_config_is_told(connector: Connector, config: str) -> None:
    """Text that is not a JSON object fails the check and not the process."""
    assert re.search("not valid JSON|not a JSON object", failure(connector, config))


def test_a_file_that_is_missing_is_told(connector: Connector) -> None:
    """The check reports it like anything else."""
    outcome = connector.start("check", "--config", str(connector.folder / "none.json")).finish()
    assert outcome.check == (
        "FAILED",
        "The config file cannot be read (No such file or directory).",
    )


def test_no_two_ways_to_be_wrong_share_a_message(connector: Connector, emulate: Emulate) -> None:
    """The ways that issue trackers mix up most are told apart."""
    emulator = emulate(kore_missing_right_status=401)
    emulator.create_table("kore", "deals")
    emulator.create_table("kore", "locked")
    emulator.add_app("cs-demo", "kore-secret-1", rights={"locked": ""})
    url = emulator.url
    tables: dict[str, Any] = {"tables": [{"stream": "deals"}]}
    wrong = [
        kore(url, {**JWT_APP, "client_secret": "other"}, **tables),
        kore(url, {**JWT_APP, "algorithm": "RS256"}, **tables),
        kore(url, static_jwt(timedelta(hours=-1)), **tables),
        kore(url, tables=[{"stream": "locked"}]),
        kore(url, tables=[{"stream": "unknown"}]),
        kore(url.replace("http:", "https:"), **tables),
        kore("http://example.com", **tables),
        kore("https://no-such.invalid", **tables),
        kore(f"{url}/elsewhere", **tables),
        changed(kore(url, **tables), "provider.authentication", None),
    ]
    messages = [failure(connector, config) for config in wrong]
    assert len(set(messages)) == len(wrong), messages


# --- what the tests speak to


def pem_pair() -> tuple[str, str]:
    """Make a private key and its public one, as PEM."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


def certificate(folder: Path) -> Path:
    """Write a key and a certificate that is signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def serving(asked: list[str], certificate_file: Path | None = None) -> Iterator[int]:
    """Run a web server that is neither vendor; `asked` gets the paths of its requests."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Welcome!</html>")

        do_POST = do_GET  # noqa: N815 - the name is given

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # failed handshakes
    if certificate_file:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_file)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()
