"""The config: its form, its defaults, and the message for each way to be wrong."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from destination_bulk_tables import commands
from destination_bulk_tables import config as configuration
from destination_bulk_tables.config import Batching, Config, RejectedRecords
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.mapping import FieldMapping, TableEntry
from destination_bulk_tables.model import JsonObject, JsonValue, StreamKey
from destination_bulk_tables.providers import PROVIDERS
from destination_bulk_tables.providers.custom_http import CustomHttp
from unit_tests.airbyte_form import members_of

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


CUSTOM_FORM: Any = CustomHttp.spec
FORM: Any = commands.specification()["connectionSpecification"]


def test_the_form_is_a_json_schema() -> None:
    """Draft 7, as Airbyte reads it."""
    Draft7Validator.check_schema(FORM)


def test_defaults_of_the_form_are_those_of_the_parser() -> None:
    """A config that spells out each default is the config that leaves them out."""
    spelled: dict[str, Any] = {}
    for path, member in members_of({"properties": {**FORM["properties"], "provider": {}}}):
        if "default" in member and "[" not in path:  # a list is empty by default
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
    assert plain.coerce_scalars is full.coerce_scalars is False


# --- values


@pytest.mark.parametrize("provider", [QOBRA, KORE], ids=["qobra", "kore"])
def test_the_required_fields_of_a_provider_are_enough(provider: JsonObject) -> None:
    """Everything optional has the documented default."""
    config = parse(provider)
    assert config.provider.name == provider["provider_type"]
    assert config.tables == ()
    assert (config.truncate_mode, config.nested_values) == ("sync_mode", "json_string")
    assert config.batching == Batching(None, None, 30.0, None)
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
    assert config.batching == Batching(None, None, 30.0, None)


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
        TableEntry("a", "n", "t", (FieldMapping("f", "c"),)),
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


# --- how it is written

RENAMED: list[tuple[str, JsonObject, JsonObject]] = [
    ("kore", {"timestamp_format": "date"}, {"kore_timestamps": "date"}),
    ("kore", {"boolean_format": "number"}, {"kore_booleans": "number"}),
    ("kore", {"on_ambiguous_write": "fail"}, {"kore_after_lost_answer": "fail"}),
    ("custom_http", {"base_url": "https://other.example"}, {"api_address": "https://other.example"}),
    ("custom_http", {"timestamp_format": "epoch_ms"}, {"timestamps": "epoch_ms"}),
    ("custom_http", {"boolean_format": "number"}, {"booleans": "number"}),
    ("custom_http", {"on_ambiguous_write": "retry"}, {"after_lost_answer": "retry"}),
    ("custom_http",
     {"authentication": {"auth_type": "header", "header_name": "X-A", "secret": "s"}},
     {"api_authentication": {"auth_type": "header", "header_name": "X-A", "secret": "s"}}),
    ("custom_http",
     {"authentication": {"auth_type": "jwt", "signing_secret": "s" * 32, "algorithm": "HS256",
                         "header_name": "X-A", "value_template": "T {token}"}},
     {"api_authentication": {"auth_type": "jwt", "signing_secret": "s" * 32, "algorithm": "HS256",
                             "jwt_header_name": "X-A", "jwt_header_value": "T {token}"}}),
    ("custom_http",
     {"replace": {"replace_type": "query", "query": "all=true", "requests": "every"}},
     {"replace": {"replace_type": "query", "query": "all=true", "which_requests": "every"}}),
]  # fmt: skip


def least(provider: str, **more: JsonValue) -> JsonObject:
    """The required fields under their old or new names, whichever `more` leaves out."""
    form: JsonObject = dict(KORE if provider == "kore" else CUSTOM)
    for old, new in (("base_url", "api_address"), ("authentication", "api_authentication")):
        if new in more and old in form:
            del form[old]
    return form | more


def settings_of(provider: Any) -> list[object]:
    """What a provider was made of, as far as the renamed settings go."""
    headers = [name for name in provider.headers(1_700_000_000.0) if name != "auth"]
    replace = vars(provider).get("_replace")
    how = None if replace is None else vars(replace)
    return [provider.base_url, provider.rules, provider.traits, headers, how]


@pytest.mark.parametrize(("provider", "old", "new"), RENAMED)
def test_an_old_name_is_read_as_the_new_one(
    provider: str, old: JsonObject, new: JsonObject
) -> None:
    """A saved config keeps its meaning, and the new name wins where both stand."""
    plain = settings_of(parse(least(provider)).provider)
    by_old = settings_of(parse(least(provider, **old)).provider)
    by_new = settings_of(parse(least(provider, **new)).provider)
    assert by_old == by_new != plain
    if old.keys() != new.keys():
        empty: JsonObject = dict.fromkeys(new, "")
        assert settings_of(parse(least(provider, **old) | empty).provider) == by_old
        kept = settings_of(parse({**least(provider, **old), **new}).provider)
        assert kept == by_new


def test_the_new_name_wins() -> None:
    """An old form may have left its value beside the one that was typed since."""
    both: JsonObject = {"kore_timestamps": "iso", "timestamp_format": "date"}
    for section in (both, dict(reversed(both.items()))):
        assert parse({**KORE, **section}).provider.rules.timestamps == "iso"


def test_an_error_speaks_of_the_name_that_was_written() -> None:
    """Whoever wrote the old name looks for it, and for the title in the form."""
    with pytest.raises(ConfigError) as old:
        parse({**CUSTOM, "base_url": "ftp://x"})
    assert "provider.base_url must be a URL" in old.value.message
    new = {name: value for name, value in CUSTOM.items() if name != "base_url"}
    with pytest.raises(ConfigError) as caught:
        parse({**new, "api_address": "ftp://x"})
    assert "provider.api_address must be a URL" in caught.value.message
    assert '("Address of the API" in the form)' in caught.value.message


def test_a_left_over_of_another_option_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """The form of an older version kept such values; none of them reaches the provider."""
    with caplog.at_level(logging.WARNING):
        config = parse({**QOBRA, "host": "https://evil.example", "kore_timestamps": "nonsense"})
    assert config.provider.base_url == "https://api.qobra.co"
    assert caplog.text.count("setting_ignored") == 2
    assert "evil" not in caplog.text


def test_an_empty_text_and_an_empty_choice_count_as_absent() -> None:
    """At every optional text and choice of every provider."""
    empties: JsonObject = {
        path.removeprefix("provider."): {} if "oneOf" in member else ""
        for path, member in members_of(CUSTOM_FORM, "provider")
        if path.count(".") == 1
        and (member["type"] == "string" or "oneOf" in member)
        and path.removeprefix("provider.") not in CUSTOM_FORM["required"]
    }
    assert {"success_statuses", "refused_statuses", "upsert", "replace"} <= set(empties)
    plain, empty = parse(CUSTOM).provider, parse({**empties, **CUSTOM}).provider
    assert settings_of(plain) == settings_of(empty)
    assert parse(truncate_mode="", batching={}, staging={"directory": ""}) is not None


def test_texts_are_lines_or_a_list() -> None:
    """Airbyte's form cannot enter a list whose texts hold commas; JSON can."""
    texts: JsonValue = ["Code: 27,", 'a "b"; c']
    listed = parse({**CUSTOM, "stop_texts": texts}).provider
    lines = parse({**CUSTOM, "stop_texts": "  Code: 27,\n\n" + 'a "b"; c\n'}).provider
    assert vars(listed)["_answers"].__dict__["_stop"] == vars(lines)["_answers"].__dict__["_stop"]
    assert len(vars(lines)["_answers"].__dict__["_stop"]) == 2


def test_thousands_of_tables_are_read_in_one_pass() -> None:
    """Twice the entries take twice the time; by pairs this would not end within the test's time."""
    tables: JsonValue = [{"stream": f"s{number}"} for number in range(30_000)]
    assert len(parse(tables=tables).tables) == 30_000


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
    ("two entries for a stream", {"provider": QOBRA, "tables": SAME},
     "tables has two entries for stream 'deals': keep one (\"Tables\" in the form)"),
    ("a provider in capitals", {"provider": {**QOBRA, "provider_type": "QOBRA"}},
     'custom_http (did you mean qobra?) ("Provider" in the form)'),
    ("a provider by its title", {"provider": {**KORE, "provider_type": "Kore.ai"}},
     "(did you mean kore?)"),
    ("nothing of a preset", {"provider": {"provider_type": "baserow", "baserow": {}}},
     'provider.baserow.token is missing ("Baserow > Database token" in the form)'),
    ("a preset's settings in the wrong place",
     {"provider": {"provider_type": "datasette", "address": HIDDEN}},
     "provider.address is not a setting (did you mean datasette.address?)"),
    ("a key in the wrong place", {"provider": {"provider_type": "qobra"}, "api_key": HIDDEN},
     "api_key is not a setting (did you mean provider.api_key?)"),
    ("a choice that is text", {"provider": {**KORE, "authentication": HIDDEN}},
     'Config: provider.authentication must be of type object ("Authentication" in the form).'),
    ("a switch for a word", {"provider": QOBRA, "truncate_mode": True},
     'Config: truncate_mode must be one of: sync_mode, always, never ("Replace the table\'s'),
    ("the address of a table",
     {"provider": QOBRA, "tables": [{"stream": "a", "table": f"https://q.example/{HIDDEN}"}]},
     "tables[0].table is an address: put in the table's API name"),
    ("an id column for who has none",
     {"provider": KORE, "tables": [{"stream": "a", "id_field": HIDDEN}]},
     "tables[0].id_field means nothing to Kore.ai"),
    ("a misspelt store", {"provider": QOBRA, "rejected_records": {"report_path": "s3:/b/p"}},
     "rejected_records.report_path must look like s3://bucket/path"),
    ("a store in capitals", {"provider": QOBRA, "diagnostics": {"trace_path": "S3://b/p"}},
     "diagnostics.trace_path must look like s3://bucket/path"),
    ("a key with a letter that no header holds", {"provider": {**QOBRA, "api_key": HIDDEN + "é"}},
     'provider.api_key holds characters that no credential has: copy it again, in one line ("API'),
    ("a key of blanks", {"provider": {**QOBRA, "api_key": "  "}}, "provider.api_key is empty"),
    ("a secret that cannot sign",
     {"provider": {**KORE, "authentication": {"auth_type": "jwt_app", "client_id": "c",
                                              "client_secret": HIDDEN, "algorithm": "RS256"}}},
     ('provider.authentication.client_secret cannot sign with RS256: RS256 and RS512 need a '
      'private key in PEM form ("Authentication > Client secret or private key" in the form)')),
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
    ("a misspelt lock", {"provider": QOBRA, "truncat_mode": "never"},
     "truncat_mode is not a setting (did you mean truncate_mode?)"),
    ("a misspelt section", {"provider": QOBRA, "rejected_record": {"policy": "skip"}},
     "rejected_record is not a setting (did you mean rejected_records?)"),
    ("a misspelt member", {"provider": QOBRA, "batching": {"max_row": 5}},
     "batching.max_row is not a setting (did you mean max_rows?)"),
    ("a misspelt column list", {"provider": QOBRA, "tables": [{"stream": "a", "column_names": []}]},
     "tables[0].column_names is not a setting (did you mean columns?)"),
    ("a misspelt column",
     {"provider": QOBRA, "tables": [{"stream": "a", "columns": [{"fields": "f", "column": "c"}]}]},
     "tables[0].columns[0].fields is not a setting (did you mean field?)"),
    ("a misspelt setting of a provider", {"provider": {**QOBRA, "timestam_format": HIDDEN}},
     "provider.timestam_format is not a setting (did you mean timestamp_format?)"),
    ("a misspelt credential",
     {"provider": {**KORE, "authentication": {"auth_type": "jwt_app", "client": HIDDEN}}},
     "provider.authentication.client is not a setting (did you mean client_id?)"),
    ("an empty key", {"provider": {"provider_type": "qobra", "api_key": ""}},
     'provider.api_key is missing ("API key" in the form)'),
    ("no request to empty by",
     {"provider": {**CUSTOM, "replace": {"replace_type": "empty_first", "requests": []}}},
     'replace.requests needs at least one request ("Replace (overwrite) > Requests" in the form)'),
    ("a request without a path",
     {"provider": {**CUSTOM, "replace": {"replace_type": "empty_first",
                                         "requests": [{"method": "POST"}]}}},
     'provider.replace.requests[0].path is missing ("Replace (overwrite) > Requests > Path"'),
    ("an unknown way to replace", {"provider": {**CUSTOM, "replace": {"replace_type": HIDDEN}}},
     "provider.replace.replace_type must be one of: none, empty_first, query"),
    ("more than any disk", {"provider": QOBRA, "staging": {"max_gigabytes": 1e300}},
     "staging.max_gigabytes must be at most 1000000"),
    ("no number", {"provider": QOBRA, "staging": {"max_gigabytes": float("inf")}},
     "staging.max_gigabytes is a number that is too large"),
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


def test_a_setting_is_told_once() -> None:
    """Whatever is wrong with it, and each that is missing by its own name."""
    with pytest.raises(ConfigError) as caught:
        parse({"provider_type": "datasette", "datasette": {}}, truncate_mode=5)
    said = caught.value.message
    names = ["datasette.address is missing", "datasette.token is missing", "datasette.database is"]
    assert [said.count(name) for name in names] == [1, 1, 1]
    with pytest.raises(ConfigError) as caught:
        parse(truncate_mode=5)
    assert caught.value.message.count("truncate_mode") == 1


@pytest.mark.parametrize("copied", ["Bearer k-1", " bearer  k-1\n", "k-1\r\n", "\tk-1"])
def test_a_credential_may_be_copied_with_what_stands_beside_it(copied: str) -> None:
    """Blanks, a line end, and the word that stands before a token in a header."""
    by_key = parse({**QOBRA, "api_key": copied}).provider
    assert by_key.headers(0.0)["X-API-Key"] == "k-1"
    bearer: JsonObject = {"auth_type": "bearer", "token": copied}
    by_token = parse({**CUSTOM, "authentication": bearer}).provider
    assert by_token.headers(0.0)["Authorization"] == "Bearer k-1"


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


def test_on_cloud_a_store_needs_a_credential_of_its_own() -> None:
    """Both settings that take the address of a store ask for it; elsewhere the machine's may do."""
    with pytest.raises(ConfigError, match="access_key_id"):
        parse(is_cloud=True, rejected_records={"report_path": "s3://b/p"})
    with pytest.raises(ConfigError, match="access_key_id"):
        parse(is_cloud=True, diagnostics={"trace_path": "s3://b/p"})
    parse(rejected_records={"report_path": "s3://b/p"}, diagnostics={"trace_path": "s3://b/p"})


if __name__ == "__main__":
    write_golden()
