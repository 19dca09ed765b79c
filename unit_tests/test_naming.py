"""What a message calls a setting: its name in the config and the title in the form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from destination_bulk_tables import commands
from destination_bulk_tables import config as configuration
from destination_bulk_tables.form.naming import Naming
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.model import JsonObject
from destination_bulk_tables.providers import PROVIDERS
from destination_bulk_tables.transport import Transport

QOBRA: JsonObject = {"provider_type": "qobra", "api_key": "the-key"}
KORE: JsonObject = {
    "provider_type": "kore",
    "host": "https://platform.example",
    "authentication": {"auth_type": "jwt_app", "client_id": "c", "client_secret": "s" * 32},
}
CUSTOM: JsonObject = {
    "provider_type": "custom_http",
    "api_address": "https://api.example.com",
    "api_authentication": {"auth_type": "bearer", "token": "t"},
    "write_path": "/{table}",
    "body": {"body_type": "array"},
    "check_path": "/me",
}
OLD: JsonObject = {
    {"api_address": "base_url", "api_authentication": "authentication"}.get(name, name): value
    for name, value in CUSTOM.items()
}
DATASETTE: JsonObject = {
    "provider_type": "datasette",
    "datasette": {"address": "https://data.example", "token": "t", "database": "lab"},
}


def naming_of(provider: JsonObject) -> Naming:
    return configuration.parse({"provider": provider}, PROVIDERS, is_cloud=False).naming


@pytest.mark.parametrize(
    ("provider", "message", "told"),
    [
        (QOBRA, "Check api_key: keys end.", 'Check api_key ("API key" in the form): keys end.'),
        (CUSTOM, "Check authentication and base_url.",
         ('Check api_authentication ("Authentication" in the form) and '
         'api_address ("Address of the API" in the form).')),
        (OLD, "Check authentication.", 'Check authentication ("Authentication" in the form).'),
        (CUSTOM, "stops because on_ambiguous_write is 'fail'.",
         ('stops because after_lost_answer ("Retry: an insert without an answer" in the form) is '
         "'fail'.")),
        (KORE, "on_ambiguous_write", 'kore_after_lost_answer ("After a write without an answer"'),
        (DATASETTE, "Check base_url and authentication.",
         ('Check datasette.address ("Datasette > Address" in the form) and '
         'datasette.token ("Datasette > API token" in the form).')),
        (DATASETTE, "one of stop_texts", "one of stop_texts"),
        (QOBRA, "Raise staging.max_gigabytes.",
         'Raise staging.max_gigabytes ("Staging > Most gigabytes" in the form).'),
        (QOBRA, "Set tables[].table, tables[0].table too.",
         ('Set tables[].table ("Tables > Table" in the form), tables[0].table '
         '("Tables > Table" in the form) too.')),
        (QOBRA, "api_key and api_key", 'api_key ("API key" in the form) and api_key'),
        # names of tables and columns, and words, are none of ours
        (QOBRA, "Table 'api_key' has no column \"base_url\".",
         "Table 'api_key' has no column \"base_url\"."),
        (QOBRA, "The provider batching tables in /v1/api_key/x", None),
        (QOBRA, 'x is missing ("X" in the form). api_key', None),
    ],
)  # fmt: skip
def test_a_message_has_the_name_and_the_title(
    provider: JsonObject, message: str, told: str | None
) -> None:
    """Once each, in the words of the form that the user has before him."""
    found = naming_of(provider).in_words(message)
    assert found.startswith(told if told is not None else message)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 302, 400, 501])
@pytest.mark.parametrize("provider", [QOBRA, KORE, CUSTOM, OLD, DATASETTE])
def test_a_failed_check_leads_to_a_field(
    monkeypatch: pytest.MonkeyPatch, provider: JsonObject, status: int
) -> None:
    """Whatever the answer, no name is told that neither the config nor the form has."""

    def answer(*_: Any) -> HttpResponse:
        return HttpResponse(status, {}, b"{}")

    send: Callable[[Transport, HttpRequest, Any, float], HttpResponse] = answer
    monkeypatch.setattr(Transport, "send", send)
    message = commands.check({"provider": provider}) or ""
    hidden = {"base_url", "authentication"} - set(json.dumps(provider).split('"'))
    hidden -= {"base_url"} if provider is QOBRA else set()
    assert not [name for name in hidden if f" {name}" in message], message
    if status in {401, 403}:
        assert " in the form)" in message
