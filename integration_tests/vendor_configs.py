"""The connector's config for a vendor as the emulator plays it."""

from __future__ import annotations

from typing import Any, Literal

Vendor = Literal["qobra", "kore"]


def config_for(vendor: Vendor, url: str, **more: Any) -> dict[str, Any]:
    """Return a config for the emulator at this URL; `more` are top-level settings."""
    if vendor == "qobra":
        provider: dict[str, Any] = {
            "provider_type": "qobra",
            "base_url": url,
            "api_key": "qobra-key-1",
        }
    else:
        provider = {
            "provider_type": "kore",
            "host": url,
            "authentication": {
                "auth_type": "jwt_app",
                "client_id": "cs-demo",
                "client_secret": "kore-secret-1",
            },
        }
    return {"provider": provider, **more}
