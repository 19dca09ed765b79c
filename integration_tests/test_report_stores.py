"""Rejected rows in an object store: all of them, before their states, or no state.

S3 is moto's server, Azure azurite, both real; for Google's store see `servers/object_stores.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cases import Stand
from integration_tests.scenario import (
    COMMAND,
    QUICK,
    TABLE,
    Ended,
    Row,
    Sync,
    WatchedEmulator,
    catalog,
    record,
    state,
    status,
)
from integration_tests.servers.object_stores import Azurite, FakeGcs, Moto, StoreRelay
from integration_tests.vendor_configs import config_for

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("object_stores")]

SCHEMA = {"id": {"type": "integer"}, "amount": {"type": "string"}}
SECRETS = ("store-secret-1", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq")
_STORES = "destination_bulk_tables.stores:"
FAST = {
    **QUICK,
    f"{_STORES}_RETRIES": 1,
    "destination_bulk_tables.reports:_GATHER_S": 0.0,
}
IMPATIENT = {**FAST, f"{_STORES}_TIMEOUT_S": 1}  # for a store that does not answer


def bad(row: Row) -> bool:
    return bool(row["id"] % 10 == 3)


ROWS: list[Row] = [
    {"id": n, "amount": "too-long-for-it" if n % 10 == 3 else "1", "undeclared": n}
    for n in range(40)
]
BAD = [row["id"] for row in ROWS if bad(row)]


@pytest.fixture
def emulator() -> Iterator[WatchedEmulator]:
    with WatchedEmulator(kore_bulk_mode="atomic") as emulator:
        columns = [
            {"name": "id", "type": "number"},
            {"name": "amount", "type": "string", "maxLength": "7"},
        ]
        emulator.create_table("kore", TABLE, definition={"schemaDef": columns})
        yield emulator


class Paced(Sync):
    """A sync that gets its next rows when the state before them was acknowledged, or at its end."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._acknowledged = threading.Semaphore(0)
        super().__init__(*arguments, on_state=lambda _: self._acknowledged.release(), **more)

    def feed_rows(self, start: int = 0) -> Ended:
        """Send the rows from this one on, with a state after each tenth."""
        return self.finish(self._paced(start))

    def _paced(self, start: int) -> Iterator[bytes]:
        for number, row in enumerate(ROWS[start:], start + 1):
            yield record(row)
            if number % 10 == 0:
                yield state(number)
                while not self._acknowledged.acquire(timeout=0.05) and not self.has_ended:
                    pass
        yield status()


def start(
    stand: Stand,
    emulator: WatchedEmulator,
    folder: Path,
    address: str,
    settings: dict[str, Any],
    *,
    environment: dict[str, str] | None = None,
    scaled: dict[str, Any] = FAST,
) -> Paced:
    config = config_for(
        "kore",
        emulator.url,
        rejected_records={"policy": "skip", "report_path": address},
        batching={"max_rows": 10},
        object_store=settings,
    )
    return Paced(
        folder,
        config,
        catalog("append", SCHEMA),
        nursery=stand.nursery,
        scaled=scaled,
        environment=environment,
    )


def reported(objects: dict[str, bytes], folder: str) -> list[int]:
    """The ids in the objects under a folder, whose lines are the records as they were sent."""
    found = []
    for key, data in sorted(objects.items()):
        if not key.startswith(f"{folder}/"):
            continue
        _, stream, sync, number = key.rsplit("/", 3)
        assert stream == TABLE
        assert (len(sync.split("-")), number.removesuffix(".jsonl").isdecimal()) == (2, True)
        for line in data.splitlines():
            read = json.loads(line)["record"]
            assert read["meta"].pop("rejection")["stage"] == "vendor"
            assert read == json.loads(record(ROWS[read["data"]["id"]]))["record"] | {"meta": {}}
            found.append(read["data"]["id"])
    return found


def assert_kept(ended: Ended, objects: dict[str, bytes], folder: str) -> None:
    """Each rejected row before an acknowledged state is in the store, and no secret was printed."""
    missing = {n for n in BAD if n < ended.acknowledged} - set(reported(objects, folder))
    assert not missing, (ended.seen, ended.message)
    assert not any(secret in repr(ended.lines) + ended.stderr for secret in SECRETS)


@pytest.mark.parametrize(
    "kind",
    [Moto, FakeGcs, pytest.param(Azurite, marks=pytest.mark.slow_servers)],
    ids=lambda kind: kind.name,
)
def test_all_rejected_rows_are_in_the_store(
    stand: Stand, emulator: WatchedEmulator, tmp_path: Path, kind: Callable[[], Any]
) -> None:
    """One address after the other; two syncs write beside each other and nothing over the other."""
    store = kind()
    store.install()
    if store.unavailable:
        pytest.skip(store.unavailable)
    store.start()
    try:
        for times in (1, 2):
            with start(stand, emulator, tmp_path, f"{store.address}/all/", store.settings) as sync:
                ended = sync.feed_rows()
            assert (ended.code, ended.seen) == (0, [10, 20, 30, 40]), ended.message
            assert_kept(ended, store.objects(), "all")
            assert sorted(reported(store.objects(), "all")) == sorted(BAD * times)
            summary = f"rejected_rows stream={TABLE} code=http_400 column=amount rows={len(BAD)}"
            assert any(text.endswith(summary) for text in ended.logs)
    finally:
        store.stop()


@pytest.mark.parametrize("is_store", [False, True], ids=["a file", "a store"])
def test_the_library_of_stores_is_loaded_where_one_is_used(
    tmp_path: Path, *, is_store: bool
) -> None:
    """A sync that writes its report into a file does not pay for it."""
    address = "s3://bucket/reports" if is_store else str(tmp_path / "rejected.jsonl")
    config = config_for(
        "qobra",
        "http://127.0.0.1:9",
        rejected_records={"policy": "skip", "report_path": address},
        object_store={"access_key_id": "a", "secret_access_key": "b", "region": "r"},
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "catalog.json").write_text(json.dumps(catalog("append", SCHEMA)))
    files = [f"--{name}={tmp_path}/{name}.json" for name in ("config", "catalog")]
    done = subprocess.run(
        [COMMAND, "write", *files],
        input=status() + b"\n",
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        check=True,
    )
    assert (b"obstore" in done.stderr) is is_store


def test_credentials_come_from_the_environment(
    stand: Stand, emulator: WatchedEmulator, tmp_path: Path, moto: Moto
) -> None:
    """What the settings leave empty has the names of the cloud's own tools."""
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "store-secret-1",
        "AWS_REGION": "us-east-1",
    }
    address = f"{moto.address}/environment"
    settings = {"endpoint": moto.base_url}
    with start(stand, emulator, tmp_path, address, settings, environment=environment) as sync:
        ended = sync.feed_rows()
    assert ended.code == 0, ended.message
    assert sorted(reported(moto.objects(), "environment")) == BAD


@pytest.mark.parametrize("sent", [1, 3])
@pytest.mark.parametrize(
    ("answer", "failure", "words"),
    [
        (403, "config_error", "Correct the credential in object_store"),
        (404, "config_error", "Create the bucket or container"),
        (503, "transient_error", "answered 503, also when asked again"),
        (507, "transient_error", "answered 507, also when asked again"),
        (None, "transient_error", "did not answer, also when asked again"),
    ],
    ids=["denied", "no bucket", "busy", "full", "slow"],
)
def test_a_store_that_fails_ends_the_sync_without_the_state(
    stand: Stand,
    emulator: WatchedEmulator,
    tmp_path: Path,
    moto: Moto,
    sent: int,
    answer: int | None,
    failure: str,
    words: str,
) -> None:
    """From its first object on, or from a later one: one clear error, and nothing too early."""
    folder = f"fails-{answer}-{sent}"
    with StoreRelay(moto) as relay:

        def before(number: int) -> int | None:
            if number < sent:
                return None
            if answer is None:
                relay.wait(3)
            return answer or 500

        relay.before = before
        address, scaled = f"{moto.address}/{folder}", IMPATIENT if answer is None else FAST
        with start(stand, emulator, tmp_path, address, relay.settings, scaled=scaled) as sync:
            ended = sync.feed_rows()
    assert (ended.code, ended.failure) == (1, failure), ended.message
    assert len(ended.errors) == 1
    for expected in (words, "rejected_records.report_path", "Report"):
        assert expected in ended.message
    assert len(ended.seen) < 4
    assert_kept(ended, moto.objects(), folder)


def test_a_store_that_is_killed_ends_the_sync_without_the_state(
    stand: Stand, emulator: WatchedEmulator, tmp_path: Path
) -> None:
    """Between two objects; what was acknowledged before is in objects that were read before."""
    store = Moto()
    store.install()
    store.start()
    had: dict[str, bytes] = {}
    with StoreRelay(store) as relay:

        def before(number: int) -> None:
            if number == 2:
                had.update(store.objects())
                store.kill()

        relay.before = before
        with start(stand, emulator, tmp_path, f"{store.address}/killed", relay.settings) as sync:
            ended = sync.feed_rows()
    store.stop()
    assert (ended.code, ended.failure) == (1, "transient_error"), ended.message
    assert ended.acknowledged <= 10
    assert_kept(ended, had, "killed")


@pytest.mark.parametrize("moment", ["asked", "stored"])
@pytest.mark.parametrize("part", [1, 2, 3, 4])
def test_no_acknowledged_reject_is_missing_after_kill_9(
    stand: Stand,
    emulator: WatchedEmulator,
    tmp_path: Path,
    moto: Moto,
    part: int,
    moment: str,
) -> None:
    """The connector dies while it writes each of its parts; the next attempt reports the rest."""
    folder = f"dies-{part}-{moment}"
    address = f"{moto.address}/{folder}"
    with StoreRelay(moto) as relay:
        sync = start(stand, emulator, tmp_path, address, relay.settings)

        def kill(number: int) -> None:
            if number == part:
                sync.process.send_signal(signal.SIGKILL)

        if moment == "asked":
            relay.before = kill
        else:
            relay.after = kill
        with sync:
            ended = sync.feed_rows()
        assert ended.code == -signal.SIGKILL
        assert_kept(ended, moto.objects(), folder)
        relay.before = relay.after = lambda _: None
        with start(stand, emulator, tmp_path / "again", address, relay.settings) as again:
            ended = again.feed_rows(ended.acknowledged)
    assert ended.code == 0, ended.message
    assert {*reported(moto.objects(), folder)} == {*BAD}
