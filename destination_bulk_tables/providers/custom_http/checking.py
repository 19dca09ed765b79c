"""The connection test: one request, which reads and is the user's choice."""

from __future__ import annotations

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import Flow, Refused, TooLarge
from destination_bulk_tables.providers.custom_http.answers import Request
from destination_bulk_tables.providers.custom_http.doubts import trouble_in
from destination_bulk_tables.providers.custom_http.fields import is_page, says, squeeze
from destination_bulk_tables.providers.custom_http.reading import Check


def try_credential(check: Check) -> Flow[None]:
    """Raise `ConfigError` for an answer that is not the one asked for."""
    try:
        response = yield Request(
            check.method, check.path, setting="check_path", success=check.success
        )
    except (Refused, TooLarge):
        message = (
            "The API refuses the request of check_path. Correct the path, or see what the "
            "API wants there."
        )
        raise ConfigError(message) from None
    if is_page(response) and not check.text:
        message = (
            "The API answers check_path with a page of HTML or XML. Check base_url and "
            "check_path, and whether a login, proxy or maintenance page is in between. Where "
            "the API does answer so, set check_text."
        )
        raise ConfigError(message)
    trouble = None if check.text else trouble_in(response)
    if trouble is not None:
        message = (
            f"The API answers check_path with {trouble[0]!r}, which tells of trouble. Check "
            "the credential (authentication) and its rights, or set check_text where that is "
            "a good answer."
        )
        raise ConfigError(message)
    if check.text and not says(squeeze(response.body), check.text):
        message = (
            "The API answers check_path without the text that check_text asks for. Check the "
            "credential (authentication) and its "
            "rights, or check_text."
        )
        raise ConfigError(message)
