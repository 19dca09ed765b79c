"""The three verbs inside the built image, against the emulator; `make image` runs these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, get_args

import pytest
import yaml

from integration_tests.connector import wait_until
from integration_tests.emulator import Emulator
from integration_tests.image.container import CONNECTOR, Container, container
from integration_tests.vendor_configs import Vendor, config_for

pytestmark = pytest.mark.image
ROOT = Path(__file__).parents[2]
PROVIDERS = (*get_args(Vendor), "custom_http")
PRESETS = "destination_bulk_tables/providers/presets"
MOST_MEGABYTES = 60  # of what the Dockerfile adds to whichever base
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


def config(provider: str, emulator: Emulator) -> dict[str, Any]:
    """Return a config; custom_http loads Qobra's tables, an HTTP API like any other."""
    if provider != "custom_http":
        return config_for("qobra" if provider == "qobra" else "kore", emulator.url)
    key = config_for("qobra", emulator.url)["provider"]["api_key"]
    custom = {
        "provider_type": provider,
        "base_url": emulator.url,
        "authentication": {"auth_type": "header", "header_name": "X-API-Key", "secret": key},
        "write_path": "/v1/tables/{table}/records/bulk",
        "body": {"body_type": "object", "rows_path": "items"},
        "count_path": "objects_imported",
        "check_path": "/v2/data-structures",
    }
    return {"provider": custom}


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
    """The image's user is 1000, may write to nothing of the connector, and has no HOME here."""
    assert image.config["User"] == "1000:1000"
    his = r"\( -user 1000 -o -group 1000 -o -perm /002 \) ! -type l"
    done = image.run(f"id -u; find {CONNECTOR} {his} | wc -l; echo ${{HOME-none}}")
    assert done.stdout.split() == [b"1000", b"0", b"none"]


def test_its_files_are_read_only_here(image: Container) -> None:
    """No test here could write beside the code even if its permissions allowed it."""
    done = image.run(f"touch {CONNECTOR}/bin/x")
    assert b"Read-only file system" in done.stderr


def test_size(image: Container, capsys: pytest.CaptureFixture[str]) -> None:
    """The connector with all it needs stays small."""
    size_of = "du -sx --block-size=MB --apparent-size"
    done = image.run(f"{size_of} {CONNECTOR}; {size_of} /")
    megabytes, with_base = (int(line.split(b"MB")[0]) for line in done.stdout.splitlines())
    with capsys.disabled():
        print(f"\nsize: {megabytes} MB (at most {MOST_MEGABYTES}), with the base {with_base} MB")
    assert megabytes <= MOST_MEGABYTES


def test_spec(image: Container) -> None:
    """The verb spec prints one SPEC and nothing else, with every provider in it."""
    done = image.verb("spec")
    assert done.returncode == 0
    (message,) = messages(done, "SPEC")
    assert len(done.stdout.splitlines()) == 1
    provider = message["spec"]["connectionSpecification"]["properties"]["provider"]
    branches = [branch["properties"]["provider_type"]["const"] for branch in provider["oneOf"]]
    presets = {file.stem for file in (ROOT / PRESETS).glob("*.json")}
    assert [name for name in branches if name not in presets] == list(PROVIDERS)
    assert set(branches) - set(PROVIDERS) == presets


@pytest.mark.parametrize("provider", PROVIDERS)
def test_check(image: Container, emulator: Emulator, folder: Path, provider: str) -> None:
    """The verb check tells a good credential from a bad one and ends with 0 for both."""
    text = json.dumps(config(provider, emulator))
    (folder / "good.json").write_text(text)
    (folder / "bad.json").write_text(text.replace("-1", "-2"))
    for name, expected in {"good": "SUCCEEDED", "bad": "FAILED"}.items():
        done = image.verb("check", "--config", f"/secrets/{name}.json", folder=folder)
        (status,) = messages(done, "CONNECTION_STATUS")
        assert (name, done.returncode) == (name, 0), done.stderr
        assert status["connectionStatus"]["status"] == expected, status


@pytest.mark.parametrize("provider", PROVIDERS)
def test_write(image: Container, emulator: Emulator, folder: Path, provider: str) -> None:
    """The verb write takes records from stdin, delivers them all and gives the state back."""
    vendor: Vendor = "kore" if provider == "kore" else "qobra"
    (folder / "config.json").write_text(json.dumps(config(provider, emulator)))
    (folder / "catalog.json").write_text(json.dumps(CATALOG))
    paths = ["--config", "/secrets/config.json", "--catalog", "/secrets/catalog.json"]
    done = image.verb("write", *paths, folder=folder, stdin=stream_of_messages())
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (state,) = messages(done, "STATE")
    assert state["state"]["stream"]["stream_state"] == {"at": ROWS}
    # custom_http takes Qobra's word and does not wait for the import
    wait_until(lambda: emulator.count(vendor, "deals") == ROWS)
    assert {row["id"]: row["amount"] for row in emulator.rows(vendor, "deals")} == {
        f"d{number}": number for number in range(ROWS)
    }
