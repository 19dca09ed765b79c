"""Presets: each is a working configuration of custom_http, and its form asks for little."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from destination_bulk_tables import commands
from destination_bulk_tables import config as configuration
from destination_bulk_tables.dispositions import Retry, Stop, Throw
from destination_bulk_tables.errors import ConfigError, SettingError
from destination_bulk_tables.http import HttpResponse
from destination_bulk_tables.model import JsonObject, RowBlock, StreamKey, Table
from destination_bulk_tables.outcomes import Context
from destination_bulk_tables.provider import Provider
from destination_bulk_tables.providers import PROVIDERS
from destination_bulk_tables.providers.presets import PRESETS, Preset
from destination_bulk_tables.secrecy import SECRETS

DOCS = Path(__file__).parents[1] / "docs/presets.md"
each = pytest.mark.parametrize("preset", PRESETS, ids=[preset.name for preset in PRESETS])
NAMED = {preset.name: preset for preset in PRESETS}


def filled_in(preset: Preset, **more: Any) -> JsonObject:
    """The provider's section with every required field, as its example says."""
    fields = {
        name: field.example or "something"
        for name, field in preset.fields.items()
        if field.default is None
    }
    return {"provider_type": preset.name, preset.name: {**fields, **more}}


def parse(section: Any) -> Provider:
    return configuration.parse({"provider": section}, PROVIDERS, is_cloud=False).provider


def table(*, mode: Any = "append", replace: bool = False) -> Table:
    keys = ("id",) if mode == "dedup" else ()
    return Table("deals", StreamKey(None, "deals"), mode, replace, ("id", "n"), keys, ())


@each
def test_a_preset_is_what_one_would_write_by_hand(preset: Preset) -> None:
    """Its settings are a valid configuration of custom_http, and mean the same."""
    short, long = parse(filled_in(preset)), parse(preset.expanded(filled_in(preset)))
    assert type(short) is type(long)
    assert (short.base_url, short.limits) == (long.base_url, long.limits)
    assert (short.rules, short.traits) == (long.rules, long.traits)
    assert short.headers(0) == long.headers(0)


@each
def test_a_preset_can_send_a_table_in_each_of_its_modes(preset: Preset) -> None:
    """Every template renders, and what it cannot do it says."""
    provider = parse(filled_in(preset))
    provider.validate(table())
    if "upsert" in preset.settings:
        provider.validate(table(mode="dedup"))
    if "replace" in preset.settings:
        provider.validate(table(replace=True))
    else:
        with pytest.raises(ConfigError, match="replacing a table"):
            provider.validate(table(replace=True))


@each
def test_a_preset_asks_for_two_to_four_fields_and_uses_each(preset: Preset) -> None:
    """One of them is the credential, and none is asked for in vain."""
    used = set(re.findall(r"<(\w+)>", repr(preset.settings)))
    assert used == set(preset.fields), "fields are asked for that no setting uses, or the reverse"
    assert 2 <= len(preset.fields) <= 4
    assert any(field.secret for field in preset.fields.values()), 'no field has "secret": true'
    for name, field in preset.fields.items():
        assert field.example or field.default is not None, f"{name} needs an example or a default"


@each
def test_what_no_server_has_shown_says_so_in_the_form(preset: Preset) -> None:
    """A person sees in the list of providers which were never run."""
    assert ("from documentation" in str(preset.spec["title"])) == (not preset.proven)


@each
def test_what_no_server_has_shown_names_its_pages(preset: Preset) -> None:
    """Whoever doubts a setting finds where it is from."""
    has_pages = f"\n- {preset.title}: https://" in DOCS.read_text("utf-8")
    assert has_pages == (not preset.proven), f"docs/presets.md: the pages of {preset.title}"


@each
def test_the_docs_list_each_preset(preset: Preset) -> None:
    """With its name in JSON, its title, its modes, and what it was run against."""
    rows = [line for line in DOCS.read_text("utf-8").splitlines() if f"`{preset.name}`" in line]
    assert len(rows) == 1, f"docs/presets.md needs one row with `{preset.name}`"
    parts = [preset.title, preset.proven or "from documentation"]
    parts += [f"`{name}`" for name in preset.fields]
    lacking = [part for part in parts if part not in rows[0]]
    assert not lacking, f"the row of `{preset.name}` in docs/presets.md lacks {lacking}"
    modes = {"upsert": "append + deduped", "replace": "overwrite"}
    told = ["append", *(mode for setting, mode in modes.items() if setting in preset.settings)]
    assert f"| {', '.join(told)} |" in rows[0]


def test_the_readme_counts_the_presets() -> None:
    """How many were run against a real server is the first thing it says of them."""
    numbers = {8: "eight", 9: "nine", 10: "ten", 11: "eleven", 12: "twelve", 13: "thirteen"}
    proven = numbers[sum(bool(preset.proven) for preset in PRESETS)]
    page = (DOCS.parents[1] / "README.md").read_text("utf-8")
    assert f"real servers of {proven} of the presets" in page


def test_the_credential_of_a_preset_is_a_secret() -> None:
    """It is masked in every output."""
    for preset in PRESETS:
        secret = next(name for name, field in preset.fields.items() if field.secret)
        section = filled_in(preset, **{secret: "s3cret-v4lue"})
        commands.keep_secrets({"provider": section})
        assert SECRETS.mask("bad s3cret-v4lue") == "bad ****"


# --- what is filled in stays a value


def test_a_value_is_encoded_in_a_path() -> None:
    """It cannot leave its segment, nor become a name of the templates."""
    section = NAMED["grist"].expanded(filled_in(NAMED["grist"], document="../a b/{table}"))
    assert section["check_path"] == "/api/docs/..%2Fa%20b%2F%7Btable%7D/tables"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_value_that_is_no_segment_is_refused(name: str) -> None:
    """A path would climb."""
    with pytest.raises(SettingError, match=r"provider\.grist\.document must be made of letters"):
        NAMED["grist"].expanded({"grist": {"api_key": "k", "document": name}})


def test_a_value_inside_other_text_has_to_be_plain(tmp_path: Path) -> None:
    """Nothing knows how to encode it for the language around it."""
    del tmp_path
    preset = Preset(
        "one",
        b"""{"title": "One", "proven": "", "description": "d",
            "fields": {"base": {"title": "Base", "description": "d"}},
            "settings": {"replace": {"replace_type": "empty_first", "requests": [
                {"method": "POST", "path": "/{table}", "body": {"sql": "delete from <base>.t"}}]}}}
        """,
    )
    for bad in ('a"b', "a;drop", "a b", "{table}"):
        with pytest.raises(SettingError, match=r"provider\.one\.base"):
            preset.expanded({"one": {"base": bad}})
    body = preset.expanded({"one": {"base": "my_db"}})["replace"]
    assert '{"sql": "delete from my_db.t"}' in repr(body)


def test_a_header_holds_any_text_of_one_line() -> None:
    """A user name may be a mail address, and no line end slips in."""
    section = filled_in(NAMED["clickhouse"], username="me@example.com")
    assert parse(section).headers(0)["X-ClickHouse-User"] == "me@example.com"
    with pytest.raises(ConfigError, match=r"provider\.clickhouse\.username must be made of"):
        parse(filled_in(NAMED["clickhouse"], username="me\nX-Other: 1"))


def test_an_error_names_the_field_of_the_preset() -> None:
    """Not the setting of custom_http behind it, which the form does not show."""
    with pytest.raises(ConfigError) as caught:
        parse(filled_in(NAMED["datasette"], address="ftp://x"))
    assert "provider.datasette.address must be a URL" in caught.value.message
    assert '("Datasette > Address" in the form)' in caught.value.message
    with pytest.raises(ConfigError) as caught:
        parse(filled_in(NAMED["datasette"], token="bad\u20ac"))
    assert caught.value.message.startswith("Config: provider.datasette.token does not fit")
    assert "\u20ac" not in caught.value.message


@pytest.mark.parametrize("end", [",", ". DB::Exception:"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, Throw) for code in (26, 27, 69, 130, 467, 691)),
        *((c, Stop) for c in (60, 117, 164)),
    ],
)
def test_clickhouses_codes_are_known_in_both_spellings(code: int, kind: type, end: str) -> None:
    """Old servers write a comma after a code, newer ones a full stop; either way it is a 500."""
    provider = parse(filled_in(NAMED["clickhouse"]))
    block = RowBlock([b'{"id":1}'], 1, range(1))
    request = next(provider.write(table(), block, Context()))
    said = HttpResponse(500, {}, f"Code: {code}{end} e.displayText() = no".encode())
    assert isinstance(provider.classify(request, said), kind)


def test_pocketbases_limit_inside_a_batch_is_no_bad_row() -> None:
    """A row with a 429 of its own is put off with its request, under whatever status."""
    provider = parse(filled_in(NAMED["pocketbase"]))
    block = RowBlock([b'{"id":"a"}', b'{"id":"b"}'], 2, range(2))
    request = next(provider.write(table(), block, Context()))
    inner = {"response": {"status": 429, "message": "Too Many Requests.", "data": {}}}
    said = {
        "status": 400,
        "message": "Batch transaction failed.",
        "data": {"requests": {"1": inner}},
    }
    found = provider.classify(request, HttpResponse(400, {}, json.dumps(said).encode()))
    assert isinstance(found, Retry)
    assert found.pause


def test_a_column_that_is_a_word_of_sql_ends_the_sync_at_rqlite() -> None:
    """Each row would be refused for it, and under policy skip be written off; seen on 8.26."""
    provider = parse(filled_in(NAMED["rqlite"]))
    request = next(provider.write(table(), RowBlock([b'{"id":"a"}'], 1, range(1)), Context()))
    said = {"results": [{"error": 'near "order": syntax error'}]}
    found = provider.classify(request, HttpResponse(200, {}, json.dumps(said).encode()))
    assert isinstance(found, Stop)
    assert "answered 200 with 'syntax error', one of stop_texts" in str(found.error)


def test_nocodbs_guest_is_no_success_of_a_check() -> None:
    """It answers 200 to any token, and says only inside whom it knows."""
    provider = parse(filled_in(NAMED["nocodb"]))
    for body, is_known in (
        (b'{"roles":{"guest":true}}', False),
        (b'{"roles":{"owner":true},"isAuthorized":true}', True),
    ):
        flow = provider.check([])
        next(flow)
        with pytest.raises(StopIteration if is_known else ConfigError):
            flow.send(HttpResponse(200, {}, body))


def test_an_error_says_which_settings_the_preset_decides() -> None:
    """They have no field: a person is told so once, and where they could be changed."""
    section = filled_in(NAMED["kinto"])
    naming = configuration.parse({"provider": section}, PROVIDERS, is_cloud=False).naming
    said = naming.in_words("Check base_url, write_path, stop_texts and tables[].table.")
    assert said == (
        'Check kinto.address ("Kinto > Address" in the form), write_path (decided by the preset; '
        "where it has to differ, choose Custom HTTP API), stop_texts and tables[].table "
        '("Tables > Table" in the form).'
    )
    plain = configuration.parse(
        {"provider": NAMED["kinto"].expanded(section)}, PROVIDERS, is_cloud=False
    )
    assert "preset" not in plain.naming.in_words("Check write_path and job.done.")
    other = configuration.parse(
        {"provider": filled_in(NAMED["clickhouse"])}, PROVIDERS, is_cloud=False
    ).naming
    assert other.in_words("Describe how in provider.upsert.").startswith(
        "Describe how in upsert (decided by the preset"
    )
    assert naming.says("provider.write_path", "puts it inside other text").startswith(
        "write_path (decided by the preset"
    )
    assert "job.done (decided by the preset" in naming.in_words("Check job.done and no_such_word.")


def test_a_refused_credential_leads_to_the_secret_one() -> None:
    """Not to the user name that stands before it; a fault of the user name itself does."""
    assert NAMED["couchdb"].asked_as("authentication") == "couchdb.password"
    assert NAMED["couchdb"].asked_as("authentication.username") == "couchdb.username"
    assert NAMED["couchdb"].asked_as("write_path") is None


def test_a_missing_and_a_misspelt_field_are_named() -> None:
    """As for any other provider."""
    for section, words in (
        ({"provider_type": "datasette"}, "provider.datasette is missing"),
        ({"provider_type": "datasette", "datasette": {"address": "https://x"}},
         "provider.datasette.token is missing"),
        (filled_in(NAMED["datasette"], databases="lab"), "databases is not a setting (did you"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=re.escape(words)):
            parse(section)
