"""Where requests with a credential may go: over https, or to this very machine."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from destination_bulk_tables.connections import is_public
from destination_bulk_tables.errors import SettingError


def check_address(url: str, setting: str, *, is_cloud: bool, may_query: bool = False) -> None:
    """Plain http reaches a loopback host of a self-managed deployment. Raises `SettingError`."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise SettingError(setting, "is an address that is not a valid URL") from error
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        raise SettingError(setting, "is an address with spaces or control characters")
    if not host or parts.scheme not in {"http", "https"}:
        raise SettingError(setting, "must be a URL such as https://host.example.com")
    # an empty query or fragment, and a user without a name, would also change where requests go
    if ("?" in url and not may_query) or "#" in url or "@" in parts.netloc:
        raise SettingError(
            setting, "is an address with a user, a query or a fragment: leave it out"
        )
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None  # a name is resolved, and looked at, when it is connected to
    is_loopback = host == "localhost" if address is None else address.is_loopback
    if parts.scheme == "http" and (is_cloud or not is_loopback):
        what = "must start with https://: no credential is sent over plain http"
        raise SettingError(setting, what)
    if is_cloud and address is not None and not is_public(str(address)):
        what = "is an address of a private or reserved network, not reached from Airbyte Cloud"
        raise SettingError(setting, what)
