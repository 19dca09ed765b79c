"""Object stores by an address: `s3://bucket/path`, `gs://bucket/path`, `az://container/path`.

Objects are written whole and never over another one: whoever reads a store sees an object complete
or not at all. `obstore` is loaded when a store is opened, not before. What a setting leaves empty
comes from the environment, in the names of each cloud's own tools, or from the machine's role.
Errors name a setting and an answer's status, never what the store said: it may quote a key.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from destination_bulk_tables.errors import (
    ConfigError,
    DestinationError,
    SettingError,
    Stopped,
    TransientError,
)

T = TypeVar("T")

PART_BYTES = 5_000_000  # what is kept in memory before it becomes an object
_ADDRESS = re.compile(r"(?P<scheme>s3|gs|az)://(?P<bucket>[\w.-]+)(?:/(?P<prefix>[^?#]*))?")
# also a misspelt one: in a folder `s3:` of the container the rows would be gone with it
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://|(?:s3|gs|az):", re.IGNORECASE)
_STORES = {  # the class for a scheme, and which settings it takes
    "s3": ("S3Store", ("region", "endpoint", "access_key_id", "secret_access_key")),
    "gs": ("GCSStore", ("service_account_key",)),
    "az": ("AzureStore", ("account_name", "account_key", "endpoint")),
}
_NO_CREDENTIAL = re.compile(r"169\.254\.|instance metadata|token request|credential", re.IGNORECASE)
_STATUS = re.compile(r"status code: (\d{3})")
_TIMEOUT_S, _CONNECT_S, _RETRY_S = 30, 10, 60
_RETRIES = 6
_POLL_S = 0.2
_STOP_GRACE_S = 4.0
_READ_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What `object_store` holds; None: from the environment."""

    region: str | None = None
    endpoint: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    service_account_key: str | None = None
    account_name: str | None = None
    account_key: str | None = None


def is_store(address: str | None) -> bool:
    """Whether an address is meant for an object store, and not a local path."""
    return address is not None and _SCHEME.match(address) is not None


def require_address(address: str, setting: str) -> None:
    """Raise `SettingError` for an address that leads to no store."""
    match = _ADDRESS.fullmatch(address)
    if match is None or {".", ".."} & set((match["prefix"] or "").split("/")):
        what = "must look like s3://bucket/path, gs://bucket/path or az://container/path"
        raise SettingError(setting, what)


def require_own_credential(address: str, settings: StoreSettings) -> None:
    """On Airbyte Cloud: the machine's role is the platform's, and its network is not the user's.

    Raises `SettingError` where the settings would fall back to either.
    """
    _, names = _STORES[address.partition(":")[0]]
    for name in names:
        if name not in {"region", "endpoint"} and not getattr(settings, name):
            raise SettingError(f"object_store.{name}", "is missing, and Airbyte Cloud lends none")
    # a Google key may name another place to send rows to
    if address.startswith("gs:") and "gcs_base_url" in (settings.service_account_key or ""):
        what = "names an address of its own (gcs_base_url), which Airbyte Cloud does not reach"
        raise SettingError("object_store.service_account_key", what)


def key_part(text: str) -> str:
    """A name as one step of a key: without slashes, and never `.` or `..`."""
    return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")


class Store:
    """One bucket and path. Each call ends: by itself, by a deadline, or soon after a stop."""

    def __init__(
        self, address: str, settings: StoreSettings, setting: str, stop: threading.Event
    ) -> None:
        """Raises `ConfigError`; `setting` is the one that holds the address."""
        require_address(address, setting)
        match = _ADDRESS.fullmatch(address)
        assert match is not None
        self.address = address.rstrip("/")
        self._setting = setting
        self._stop = stop
        self._pool = ThreadPoolExecutor(1, "store")
        self._store = self._open(match["scheme"], match["bucket"], match["prefix"] or "", settings)

    def _open(self, scheme: str, bucket: str, prefix: str, settings: StoreSettings) -> Any:
        # not before: a quarter of a second, and most syncs need none
        from obstore import store as stores  # noqa: PLC0415

        kind, names = _STORES[scheme]
        given = {name: value for name in names if (value := getattr(settings, name))}
        client: dict[str, Any] = {
            "timeout": timedelta(seconds=_TIMEOUT_S),
            "connect_timeout": timedelta(seconds=_CONNECT_S),
        }
        retries = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_S)}
        # of Google's stores another address stands in the key
        where = settings.service_account_key if scheme == "gs" else settings.endpoint
        if "http:" in (where or ""):
            client["allow_http"] = True
        make: Any = getattr(stores, kind)
        try:
            return make(
                bucket,
                prefix=prefix.strip("/") or None,
                config=given,
                client_options=client,
                retry_config=retries,
            )
        except Exception as error:
            raise ConfigError(
                f"The object store of {self._setting} cannot be opened ({type(error).__name__}). "
                "Correct the settings in object_store, or the environment's, where they are empty."
            ) from error

    def put(self, key: str, data: bytes) -> bool:
        """Write a new object; False where one of that name is there.

        In the thread of what `start` is given: a signal does not reach it.
        """
        import obstore  # noqa: PLC0415 - as above
        from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415 - as above

        try:
            obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Have the store's thread do something; `wait` for it."""
        return self._pool.submit(work)

    def read(self) -> Iterator[bytes]:
        """The bytes of the object at the address, or of all under it, in the order of their keys.

        Each object ends with a newline, so that lines of two do not run together.
        """
        import obstore  # noqa: PLC0415 - as above

        def listed() -> list[str]:
            return sorted(found["path"] for page in obstore.list(self._store) for found in page)

        def opened(path: str) -> Callable[[], bytes]:
            chunks = iter(obstore.get(self._store, path).stream(min_chunk_size=_READ_BYTES))
            return lambda: bytes(next(chunks, b""))

        for path in self.wait(self.start(listed), "read") or [""]:
            next_chunk = self.wait(self.start(partial(opened, path)), "read")
            last = b""
            while chunk := self.wait(self.start(next_chunk), "read"):
                yield chunk
                last = chunk
            if last and not last.endswith(b"\n"):
                yield b"\n"

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def wait(self, future: Future[T], done: str = "written") -> T:
        """What was started, when it is over. Raises the `DestinationError` that ended it.

        It runs beside this thread, which must notice a signal.
        """
        left = _STOP_GRACE_S
        while True:
            try:
                return future.result(_POLL_S)
            except NotYetError:
                left -= _POLL_S if self._stop.is_set() else 0
                if left <= 0:
                    message = f"The sync was asked to stop while {self._setting} was {done}."
                    raise Stopped(message) from None
            except DestinationError:
                raise
            except Exception as error:
                raise self._explained(error, done) from error

    def _explained(self, error: Exception, done: str) -> DestinationError:
        """What to say and to change; the store's own words may hold keys."""
        from obstore import exceptions  # noqa: PLC0415 - as above

        text = str(error)
        status = found[1] if (found := _STATUS.search(text)) else None
        is_denied = isinstance(
            error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
        )
        kind: type[DestinationError] = ConfigError
        if _NO_CREDENTIAL.search(text):
            why = "no credential was found"
            what = "Fill in object_store, or set the cloud's own variables in the environment."
        elif is_denied or status in {"401", "403"}:
            why = f"the store answered {status or '403'}"
            what = "Correct the credential in object_store, or let it write and read objects there."
        elif isinstance(error, FileNotFoundError):
            why = "it does not exist"
            what = "Create the bucket or container, or correct the address."
        else:
            kind = TransientError
            why = f"the store answered {status}" if status else "the store did not answer"
            why += ", also when asked again"
            what = "Look whether it is up and has room, and at the endpoint in object_store."
        return kind(f"{self._setting} cannot be {done}: {self.address} ({why}). {what}")
