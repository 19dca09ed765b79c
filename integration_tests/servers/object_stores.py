"""Object stores for tests: moto's server speaks S3, azurite speaks Azure Blob.

Neither emulator of Google's store that the registries have can be used: obstore writes over the XML
API, which fake-gcs-server 1.52 answers with 400 (invalid uploadType), and gcp-storage-emulator
2026.7.19 without the ETag that each answer must have. `FakeGcs` takes their place.
"""

from __future__ import annotations

import base64
import hmac
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import parse_qs, unquote, urlsplit

import requests
from obstore import get
from obstore import list as listed
from obstore.store import AzureStore, S3Store

from integration_tests.servers.base import (
    LocalServer,
    UnavailableError,
    cache_folder,
    free_port,
    npm_install,
    pip_install,
    temporary_folder,
)

BUCKET = "rejected"
# the account that azurite has when nothing is set, as its documentation names it
_ACCOUNT = "devstoreaccount1"
_ACCOUNT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


class ObjectStore(Protocol):
    """A store with one bucket; `settings` are the connector's, `address` is of the bucket."""

    address: str
    settings: dict[str, Any]
    base_url: str

    def objects(self) -> dict[str, bytes]: ...


def _read(store: Any) -> dict[str, bytes]:
    return {
        found["path"]: bytes(get(store, found["path"]).bytes())
        for page in listed(store)
        for found in page
    }


class Moto(LocalServer):
    """S3 by moto's server, which keeps its objects in memory."""

    name = "moto"

    def __init__(self) -> None:
        super().__init__()
        self.program = Path()
        self.address = f"s3://{BUCKET}"
        self.settings: dict[str, Any] = {}

    def install(self, folder: Path | None = None) -> None:
        """Install with pip; the second call is fast."""
        home = (folder or cache_folder()) / self.name
        self.program = pip_install(home, "moto[server,s3]==5.*") / "moto_server"

    def start(self) -> None:
        """Start on a free port with an empty bucket."""
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        command = (str(self.program), "--host", "127.0.0.1", "--port", str(port))
        self.launch(command, temporary_folder(self.name), "/moto-api/")
        self.settings = {
            "region": "us-east-1",
            "endpoint": self.base_url,
            "access_key_id": "AKIAEXAMPLE",
            "secret_access_key": "store-secret-1",
        }
        self.must("PUT", f"/{BUCKET}")

    def objects(self) -> dict[str, bytes]:
        options: Any = {"allow_http": True}
        settings: Any = self.settings
        return _read(S3Store(BUCKET, config=settings, client_options=options))


class Azurite(LocalServer):
    """Azure Blob by azurite, in memory."""

    name = "azurite"

    def __init__(self) -> None:
        super().__init__()
        self.modules = Path()
        self.address = f"az://{BUCKET}"
        self.settings: dict[str, Any] = {}

    def install(self, folder: Path | None = None) -> None:
        """Install with npm; the second call is fast."""
        try:
            self.modules = npm_install((folder or cache_folder()) / self.name, "azurite@3.35.0")
        except UnavailableError as error:
            self.unavailable = str(error)

    def start(self) -> None:
        """Start on a free port with an empty container."""
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        program = str(self.modules / ".bin/azurite-blob")
        options = (
            "--silent",
            "--skipApiVersionCheck",
            "--inMemoryPersistence",
            "--disableTelemetry",
        )
        command = (program, *options, "--blobHost", "127.0.0.1", "--blobPort", str(port))
        self.launch(command, temporary_folder(self.name), f"/{_ACCOUNT}")
        self.settings = {
            "endpoint": f"{self.base_url}/{_ACCOUNT}",
            "account_name": _ACCOUNT,
            "account_key": _ACCOUNT_KEY,
        }
        self._make_container()

    def _make_container(self) -> None:
        """Send the one request that obstore does not know, signed with the account's key."""
        resource = f"/{_ACCOUNT}/{BUCKET}"
        date = formatdate(usegmt=True)
        version = "2021-08-06"
        signed = "\n".join(
            [
                "PUT",
                *[""] * 11,
                f"x-ms-date:{date}",
                f"x-ms-version:{version}",
                f"/{_ACCOUNT}{resource}",
                "restype:container",
            ]
        )
        digest = hmac.digest(base64.b64decode(_ACCOUNT_KEY), signed.encode(), "sha256")
        headers = {
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}",
        }
        self.call(
            "PUT", f"/{_ACCOUNT}/{BUCKET}?restype=container", None, headers
        ).raise_for_status()

    def objects(self) -> dict[str, bytes]:
        options: Any = {"allow_http": True}
        settings: Any = self.settings
        return _read(AzureStore(BUCKET, config=settings, client_options=options))


class FakeGcs:
    """The two requests of Google's XML API that a report needs: put where nothing is, and get."""

    name = "gcs"

    def __init__(self) -> None:
        self.address = f"gs://{BUCKET}"
        self.unavailable: str | None = None
        self._objects: dict[str, bytes] = {}
        handler = type("Handler", (_GcsHandler,), {"objects": self._objects})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        key = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        key |= {"gcs_base_url": self.base_url}
        text = json.dumps({**key, "disable_oauth": True})
        self.settings: dict[str, Any] = {"service_account_key": text}

    def install(self, folder: Path | None = None) -> None:
        """Nothing is to be installed."""

    def start(self) -> None:
        """Listen in a thread."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()

    def objects(self) -> dict[str, bytes]:
        return dict(self._objects)


class _GcsHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    objects: dict[str, bytes]

    def do_PUT(self) -> None:
        key = unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/")
        data = self.rfile.read(int(self.headers["Content-Length"]))
        is_new = key not in self.objects
        if self.headers.get("x-goog-if-generation-match") == "0" and not is_new:
            self._answer(412)
            return
        self.objects[key] = data
        self._answer(200)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if "list-type=2" in parts.query:
            prefix = parse_qs(parts.query).get("prefix", [""])[0]
            found = "".join(
                f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
                f"<ETag>e</ETag><Size>{len(data)}</Size></Contents>"
                for key, data in sorted(self.objects.items())
                if key.startswith(prefix)
            )
            self._answer(200, f"<ListBucketResult>{found}</ListBucketResult>".encode())
            return
        data = self.objects.get(unquote(parts.path).removeprefix(f"/{BUCKET}/"))
        self._answer(404 if data is None else 200, data or b"")

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("x-goog-generation", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Print nothing."""


class StoreRelay:
    """Stands before moto, counts what is put and may break it.

    `before` and `after` are asked for each object with its number, from 1: before it is passed on,
    where a status takes the place of the answer, and when the store has it and nobody else knows.
    """

    def __init__(self, store: Moto) -> None:
        self.store = store
        self.puts = 0
        self._is_over = threading.Event()
        self.before: Callable[[int], int | None] = lambda _: None
        self.after: Callable[[int], None] = lambda _: None
        relay = self

        class Handler(_RelayHandler):
            owner = relay

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.settings = {
            **store.settings,
            "endpoint": f"http://127.0.0.1:{self._server.server_port}",
        }

    def wait(self, seconds: float) -> None:
        """Keep an answer back, at most until the test is over."""
        self._is_over.wait(seconds)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()


class _RelayHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: StoreRelay

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_put = self.command == "PUT"
        status = None
        if is_put:
            self.owner.puts += 1
            status = self.owner.before(self.owner.puts)
        if status is not None:
            self._answer(status, {}, b"<Error><Code>Broken</Code></Error>")
            return
        answer = requests.request(
            self.command,
            self.owner.store.base_url + self.path,
            data=body,
            headers={**self.headers, "Host": urlsplit(self.owner.store.base_url).netloc},
            timeout=30,
        )
        if is_put:
            self.owner.after(self.owner.puts)
        self._answer(answer.status_code, answer.headers, answer.content)

    do_PUT = do_GET = do_HEAD = do_POST = _pass_on  # noqa: N815 - the library's names

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        with suppress(OSError):  # the connector was killed
            self.send_response(status)
            for name in ("ETag", "Last-Modified", "Content-Type"):
                if name in headers:
                    self.send_header(name, headers[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Print nothing."""
