"""The config: its form, its defaults, and the message for each way to be wrong."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from destination_bulk_tables import commands
from destination_bulk_tables import config as configuration
from destination_bulk_tables.config import Batching, Config, RejectedRecords, TableEntry
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.form.connection import connection_specification
from destination_bulk_tables.model import JsonObject, JsonValue, StreamKey
from destination_bulk_tables.providers import FORMS, PROVIDERS

GOLDEN = Path(__file__).parent / "golden" / "spec.json"
QOBRA: JsonObject = {"provider_type": "qobra", "api_key": "s3cret-value"}
KORE: JsonObject = {
    "provider_type": "kore",
    "host": "https://platform.kore.ai",
    "authentication": {
        "auth_type": "jwt_app",
        "client_id": "cs-1",
        "client_secret": "s3cret-value",
    },
}
CUSTOM: JsonObject = {
    "provider_type": "custom_http",
    "base_url": "https://api.example.com",
    "authentication": {"auth_type": "none"},
    "write_path": "/{table}",
    "body": {"body_type": "array"},
    "check_path": "/",
}


def parse(provider: JsonValue = None, *, is_cloud: bool = False, **settings: JsonValue) -> Config:
    raw: JsonObject = {"provider": QOBRA if provider is None else provider, **settings}
    return configuration.parse(raw, PROVIDERS, is_cloud=is_cloud)


# --- the form


def test_the_specification_is_the_golden_one() -> None:
    """Each change of the form shows in review; `write_golden` below accepts one."""
    assert json.loads(GOLDEN.read_text("utf-8")) == commands.specification(), (
        "The specification has changed. If that is meant: python unit_tests/test_config.py"
    )


def write_golden() -> None:
    text = json.dumps(commands.specification(), indent=2, ensure_ascii=False)
    GOLDEN.write_text(text + "\n", "utf-8")


def members_of(schema: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every setting of the form with its path."""
    found = []
    for name, member in schema.get("properties", {}).items():
        found += [(f"{path}{name}", member), *members_of(member, f"{path}{name}.")]
    for branch in schema.get("oneOf", []):
        found += members_of(branch, f"{path}{branch['title']}: ")
    return found + (members_of(schema["items"], f"{path}[]") if "items" in schema else [])


FORM: Any = connection_specification(FORMS)


def test_the_form_is_a_json_schema() -> None:
    """Draft 7, as Airbyte reads it."""
    Draft7Validator.check_schema(FORM)


@pytest.mark.parametrize(("path", "member"), members_of(FORM), ids=[p for p, _ in members_of(FORM)])
def test_each_setting_is_described(path: str, member: dict[str, Any]) -> None:
    """A title, a description and an order, but for the constant that tells branches apart."""
    assert "order" in member or path.count("[]") or "oneOf" in member, path
    assert "const" in member or {"title", "description", "type"} <= set(member)


def test_defaults_of_the_form_are_those_of_the_parser() -> None:
    """A config that spells out each default is the config that leaves them out."""
    spelled: dict[str, Any] = {}
    for path, member in members_of({"properties": {**FORM["properties"], "provider": {}}}):
        if "default" in member:
            *parents, name = path.split(".")
            place = spelled
            for parent in parents:
                place = place.setdefault(parent, {})
            place[name] = member["default"]
    plain, full = parse(), parse(**spelled)
    assert spelled
    assert plain.batching == full.batching
    assert plain.rejected_records == full.rejected_records
    assert plain.staging == full.staging
    assert (plain.truncate_mode, plain.nested_values) == (full.truncate_mode, full.nested_values)


# --- values


@pytest.mark.parametrize("provider", [QOBRA, KORE], ids=["qobra", "kore"])
def test_the_required_fields_of_a_provider_are_enough(provider: JsonObject) -> None:
    """Everything optional has the documented default."""
    config = parse(provider)
    assert config.provider.name == provider["provider_type"]
    assert config.tables == ()
    assert (config.truncate_mode, config.nested_values) == ("sync_mode", "json_string")
    assert config.batching == Batching(None, None, 30.0, 2)
    assert config.rejected_records == RejectedRecords("fail", 1000, None)
    assert config.staging.max_bytes == 20 * 10**9


def test_a_null_counts_as_absent() -> None:
    """A config may spell out its empty settings, at any depth."""
    config = parse(
        {**QOBRA, "debounce_seconds": None},
        tables=[{"stream": "a", "namespace": None, "table": None, "columns": None}],
        batching={"max_rows": None, "max_megabytes": None},
        rejected_records={"report_path": None},
        truncate_mode=None,
    )
    assert config.tables == (TableEntry("a", None, None, None),)
    assert config.batching == Batching(None, None, 30.0, 2)


def test_all_settings_arrive() -> None:
    """Megabytes are 10^6 bytes, gigabytes 10^9."""
    config = parse(
        tables=[
            {
                "stream": "a",
                "namespace": "n",
                "table": "t",
                "columns": [{"field": "f", "column": "c"}],
            },
            {"stream": "b", "namespace": "", "table": "", "columns": []},
        ],
        truncate_mode="always",
        nested_values="reject",
        batching={
            "max_rows": 7,
            "max_megabytes": 1.5,
            "max_wait_seconds": 0.5,
            "max_parallel_requests": 8,
        },
        rejected_records={"policy": "skip", "max_rejected": 0, "report_path": "/r"},
        staging={"directory": "/s", "max_gigabytes": 0.5},
    )
    assert config.tables == (
        TableEntry("a", "n", "t", (("f", "c"),)),
        TableEntry("b", None, None, None),
    )
    assert (config.truncate_mode, config.nested_values) == ("always", "reject")
    assert config.batching == Batching(7, 1_500_000, 0.5, 8)
    assert config.rejected_records == RejectedRecords("skip", 0, "/r")
    assert (config.staging.directory, config.staging.max_bytes) == ("/s", 500_000_000)


def test_whole_numbers_may_be_written_with_a_point() -> None:
    """JSON schema calls 7.0 an integer, and a list cannot be cut by it."""
    config = parse(batching={"max_rows": 7.0, "max_parallel_requests": 3.0})
    assert (repr(config.batching.max_rows), repr(config.batching.max_parallel)) == ("7", "3")


def test_which_entry_is_a_streams() -> None:
    """One with its namespace, else a general one, else none."""
    config = parse(tables=[{"stream": "a"}, {"stream": "a", "namespace": "n"}, {"stream": "b"}])
    found = [
        config.entry(key)
        for key in (StreamKey("n", "a"), StreamKey("m", "a"), StreamKey(None, "a"))
    ]
    assert [entry and entry.namespace for entry in found] == ["n", None, None]
    assert config.entry(StreamKey(None, "c")) is None


# --- errors

HIDDEN = "s3cret-value"
LIMIT: JsonObject = {"max_megabytes": 60}
SAME: JsonValue = [{"stream": "deals"}, {"stream": "deals", "namespace": ""}]
WRONG: list[tuple[str, JsonValue, str]] = [
    ("not an object", [HIDDEN], "not a JSON object"),
    ("nothing", {}, "provider.provider_type must be one of: "),
    ("an unknown provider", {"provider": {"provider_type": HIDDEN}}, "provider.provider_type"),
    ("a provider that is text", {"provider": HIDDEN}, "provider.provider_type"),
    ("no key", {"provider": {"provider_type": "qobra"}}, "provider.api_key is missing"),
    ("a null key", {"provider": {**QOBRA, "api_key": None}}, "provider.api_key is missing"),
    ("a key that is a list", {"provider": {**QOBRA, "api_key": [HIDDEN]}}, "provider.api_key"),
    ("no host", {"provider": {"provider_type": "kore"}}, "is missing"),
    ("no authentication", {"provider": {k: v for k, v in KORE.items() if k != "authentication"}},
     "provider.authentication is missing"),
    ("an unknown authentication", {"provider": {**KORE, "authentication": {"auth_type": HIDDEN}}},
     "provider.authentication"),
    ("tables as text", {"provider": QOBRA, "tables": HIDDEN}, "tables must be of type array"),
    ("a table without stream", {"provider": QOBRA, "tables": [{"table": HIDDEN}]},
     "tables[0].stream is missing"),
    ("a column without field",
     {"provider": QOBRA, "tables": [{"stream": HIDDEN, "columns": [{"column": HIDDEN}]}]},
     "tables[0].columns[0].field is missing"),
    ("two entries for a stream", {"provider": QOBRA, "tables": SAME}, "tables has two entries"),
    ("a truncate mode", {"provider": QOBRA, "truncate_mode": HIDDEN},
     "truncate_mode must be one of: sync_mode, always, never"),
    ("nested values", {"provider": QOBRA, "nested_values": HIDDEN}, "nested_values must be one of"),
    ("batching as text", {"provider": QOBRA, "batching": HIDDEN}, "batching must be of"),
    ("no rows", {"provider": QOBRA, "batching": {"max_rows": 0}},
     "batching.max_rows must be at least 1"),
    ("rows as text", {"provider": QOBRA, "batching": {"max_rows": HIDDEN}},
     "batching.max_rows must be of type integer"),
    ("half a row", {"provider": QOBRA, "batching": {"max_rows": 1.5}}, "batching.max_rows"),
    ("no megabyte", {"provider": QOBRA, "batching": {"max_megabytes": 0}},
     "batching.max_megabytes must be at least 0.001"),
    ("more than the vendor takes", {"provider": KORE, "batching": LIMIT},
     "batching.max_megabytes is above the 50 MB that Kore.ai allows"),
    ("more rows than the vendor takes",
     {"provider": {**CUSTOM, "max_rows_per_request": 10}, "batching": {"max_rows": 11}},
     "batching.max_rows is above the 10 rows of a request that The API allows"),
    ("a negative wait", {"provider": QOBRA, "batching": {"max_wait_seconds": -1}},
     "batching.max_wait_seconds must be at least 0"),
    ("nine requests", {"provider": QOBRA, "batching": {"max_parallel_requests": 9}},
     "batching.max_parallel_requests must be at most 8"),
    ("a policy", {"provider": QOBRA, "rejected_records": {"policy": HIDDEN}},
     "rejected_records.policy must be one of: fail, skip"),
    ("a negative limit", {"provider": QOBRA, "rejected_records": {"max_rejected": -1}},
     "rejected_records.max_rejected must be at least 0"),
    ("no disk", {"provider": QOBRA, "staging": {"max_gigabytes": 0}}, "staging.max_gigabytes"),
    ("a debounce of two hours", {"provider": {**QOBRA, "debounce_seconds": 7200}},
     "provider.debounce_seconds must be at most 3600"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "words"), [pytest.param(raw, words, id=name) for name, raw, words in WRONG]
)
def test_an_error_names_the_setting_and_never_its_value(raw: JsonValue, words: str) -> None:
    """What a user reads leads to the field of the form; a value may be a secret."""
    before = copy.deepcopy(raw)
    with pytest.raises(ConfigError) as caught:
        configuration.parse(raw, PROVIDERS, is_cloud=False)
    assert words in caught.value.message
    assert HIDDEN not in caught.value.message + str(caught.value.detail)
    assert raw == before


def test_three_errors_are_told_at_once() -> None:
    """A user need not find them one by one, nor read thirty."""
    with pytest.raises(ConfigError) as caught:
        parse(
            truncate_mode="x",
            nested_values="x",
            batching={"max_rows": 0},
            rejected_records={"policy": "x"},
        )
    assert caught.value.message.count(" must be ") == 3


@pytest.mark.parametrize(
    ("url", "on_premises", "in_the_cloud"),
    [
        ("https://api.qobra.co", True, True),
        ("https://api.qobra.co:8443/base", True, True),
        ("http://api.qobra.co", False, False),
        ("http://localhost:8000", True, False),
        ("http://127.0.0.1:8000", True, False),
        ("http://127.9.9.9", True, False),
        ("http://[::1]:8000", True, False),
        ("http://localhost.evil.example", False, False),
        ("http://127.0.0.1.evil.example", False, False),
        ("http://10.0.0.1", False, False),
        ("http://0.0.0.0", False, False),
        ("http://localhost@evil.example", False, False),
        ("https://user:s3cret-value@api.qobra.co", False, False),
        ("https://api.qobra.co?key=s3cret-value", False, False),
        ("https://api.qobra.co#s3cret-value", False, False),
        ("https://api.qobra.co/?", False, False),
        ("https://api.qobra.co/v1?", False, False),
        ("https://api.qobra.co/#", False, False),
        ("https://:s3cret-value@api.qobra.co", False, False),
        ("https://@api.qobra.co", False, False),
        ("http://@localhost:8000", False, False),
        ("https://10.0.0.1", True, False),
        ("https://[fd00::1]:8443/base", True, False),
        ("https://169.254.169.254", True, False),
        ("https://93.184.216.34", True, True),
        ("https://", False, False),
        ("https://api.qobra.co:s3cret-value", False, False),
        ("https://[s3cret-value", False, False),
        ("https://s3cret-value host", False, False),
        ("https://s3cret-value.example\x00", False, False),
        ("https://s3cret-value.example/\napi", False, False),
        ("ftp://api.qobra.co", False, False),
        ("api.qobra.co", False, False),
        ("", False, False),
    ],
)
def test_which_addresses_are_taken(url: str, *, on_premises: bool, in_the_cloud: bool) -> None:
    """Credentials leave over https, or over http to this very machine, never so in the cloud."""
    for is_cloud, is_taken in ((False, on_premises), (True, in_the_cloud)):
        if is_taken:
            base_url = parse({**QOBRA, "base_url": url}, is_cloud=is_cloud).provider.base_url
            assert base_url.startswith(url)
            continue
        with pytest.raises(ConfigError) as caught:
            parse({**QOBRA, "base_url": url}, is_cloud=is_cloud)
        assert "address" in caught.value.message or "base_url" in caught.value.message
        assert HIDDEN not in caught.value.message


if __name__ == "__main__":
    write_golden()
