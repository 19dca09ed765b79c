"""The three verbs inside the built image, against the emulator; `make image` runs these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, get_args

import pytest
import yaml

from integration_tests.emulator import Emulator
from integration_tests.image.container import Container, container
from integration_tests.vendor_configs import Vendor, config_for

pytestmark = pytest.mark.image
ROOT = Path(__file__).parents[2]
ROWS = 500
CATALOG = {
    "streams": [
        {
            "stream": {
                "name": "deals",
                "json_schema": {
                    "properties": {"id": {"type": "string"}, "amount": {"type": "number"}}
                },
                "supported_sync_modes": ["full_refresh"],
            },
            "sync_mode": "full_refresh",
            "destination_sync_mode": "append",
            "generation_id": 1,
            "minimum_generation_id": 0,
            "sync_id": 1,
        }
    ]
}


@pytest.fixture(scope="module")
def image() -> Iterator[Container]:
    """Open the image that `make image` has built."""
    with container() as opened:
        yield opened


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """Both vendors with one table."""
    with Emulator() as running:
        for vendor in get_args(Vendor):
            running.create_table(vendor, "deals", {"id": "string", "amount": "number"})
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that uid 1000 may read."""
    tmp_path.chmod(0o755)
    return tmp_path


def messages(done: CompletedProcess[bytes], kind: str) -> list[dict[str, Any]]:
    """Return the messages of a type; every line of stdout must be one."""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line for line in lines if line["type"] == kind]


def stream_of_messages() -> bytes:
    """Return records, a state after them, and the source's COMPLETE."""
    stream = {"name": "deals"}
    lines: list[dict[str, Any]] = [
        {
            "type": "RECORD",
            "record": {
                "stream": "deals",
                "emitted_at": 1,
                "data": {"id": f"d{number}", "amount": number},
            },
        }
        for number in range(ROWS)
    ]
    state = {"stream_descriptor": stream, "stream_state": {"at": ROWS}}
    status = {"stream_descriptor": stream, "status": "COMPLETE"}
    trace = {"type": "STREAM_STATUS", "emitted_at": 1, "stream_status": status}
    lines.append({"type": "STATE", "state": {"type": "STREAM", "stream": state}})
    lines.append({"type": "TRACE", "trace": trace})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def test_labels_and_entry_point(image: Container) -> None:
    """The labels name what metadata.yaml names; the entry point is absolute and stated twice."""
    metadata = yaml.safe_load((ROOT / "metadata.yaml").read_text(encoding="utf-8"))["data"]
    assert image.config["Labels"]["io.airbyte.name"] == metadata["dockerRepository"]
    assert image.config["Labels"]["io.airbyte.version"] == metadata["dockerImageTag"]
    environment = dict(line.split("=", 1) for line in image.config["Env"])
    (entry_point,) = image.config["Entrypoint"]
    assert entry_point.startswith("/")
    assert environment["AIRBYTE_ENTRYPOINT"] == entry_point
    assert environment["PYTHONUNBUFFERED"] == "1"


def test_runs_as_a_user_who_cannot_change_it(image: Container) -> None:
    """The image's user is 1000 and owns nothing of the connector."""
    assert image.config["User"] == "1000:1000"
    done = image.run("id -u; find /opt/connector -writable ! -type l | wc -l")
    assert done.stdout.split() == [b"1000", b"0"]


def test_spec(image: Container) -> None:
    """The verb spec prints one SPEC and nothing else."""
    done = image.verb("spec")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(messages(done, "SPEC")) == 1


@pytest.mark.parametrize("vendor", get_args(Vendor))
def test_check(image: Container, emulator: Emulator, folder: Path, vendor: Vendor) -> None:
    """The verb check tells a good credential from a bad one and ends with 0 for both."""
    config = config_for(vendor, emulator.url)
    (folder / "good.json").write_text(json.dumps(config))
    (folder / "bad.json").write_text(json.dumps(config).replace("-1", "-2"))
    for name, expected in {"good": "SUCCEEDED", "bad": "FAILED"}.items():
        done = image.verb("check", "--config", f"/secrets/{name}.json", folder=folder)
        (status,) = messages(done, "CONNECTION_STATUS")
        assert (name, done.returncode) == (name, 0), done.stderr
        assert status["connectionStatus"]["status"] == expected, status


@pytest.mark.parametrize("vendor", get_args(Vendor))
def test_write(image: Container, emulator: Emulator, folder: Path, vendor: Vendor) -> None:
    """The verb write takes records from stdin, delivers them all and gives the state back."""
    (folder / "config.json").write_text(json.dumps(config_for(vendor, emulator.url)))
    (folder / "catalog.json").write_text(json.dumps(CATALOG))
    paths = ["--config", "/secrets/config.json", "--catalog", "/secrets/catalog.json"]
    done = image.verb("write", *paths, folder=folder, stdin=stream_of_messages())
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (state,) = messages(done, "STATE")
    assert state["state"]["stream"]["stream_state"] == {"at": ROWS}
    assert {row["id"] for row in emulator.rows(vendor, "deals")} == {
        f"d{number}" for number in range(ROWS)
    }
    assert emulator.count(vendor, "deals") == ROWS
