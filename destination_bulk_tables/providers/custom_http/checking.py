"""The connection test: one request, which reads and is the user's choice."""

from __future__ import annotations

from typing import Any

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import Flow, Refused, TooLarge
from destination_bulk_tables.providers.custom_http.answers import Request
from destination_bulk_tables.providers.custom_http.doubts import trouble_in
from destination_bulk_tables.providers.custom_http.fields import (
    is_page,
    says,
    squeeze,
    statuses,
    texts,
    wrong,
)
from destination_bulk_tables.providers.custom_http.templates import Path


class Check:
    def __init__(self, form: dict[str, Any]) -> None:
        self._method: str = form.get("check_method", "GET")
        self._path = Path.parse("check_path", form["check_path"], ()).text
        self._success = statuses("check_statuses", form.get("check_statuses", "200-299"))
        self._text = texts([form.get("check_text", "")])
        if self._text and self._method == "HEAD":
            raise wrong("check_text", "needs an answer with a body, and check_method is HEAD")

    def run(self) -> Flow[None]:
        """Raise `ConfigError` for an answer that is not the one asked for."""
        try:
            response = yield Request(
                self._method, self._path, setting="check_path", success=self._success
            )
        except (Refused, TooLarge):
            raise ConfigError(
                "The API refuses the request of check_path. Correct the path, or see what the "
                "API wants there."
            ) from None
        if is_page(response) and not self._text:
            raise ConfigError(
                "The API answers check_path with a page of HTML or XML. Check base_url and "
                "check_path, and whether a login, proxy or maintenance page is in between. Where "
                "the API does answer so, set check_text."
            )
        trouble = None if self._text else trouble_in(response)
        if trouble is not None:
            raise ConfigError(
                f"The API answers check_path with {trouble[0]!r}, which tells of trouble. Check "
                "the credential (authentication) and its rights, or set check_text where that is "
                "a good answer."
            )
        if self._text and not says(squeeze(response.body), self._text):
            raise ConfigError(
                "The API answers check_path without the text that check_text asks for. Check the "
                "credential (authentication) and its "
                "rights, or check_text."
            )
