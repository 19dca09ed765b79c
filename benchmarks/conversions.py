"""What both hand-written contenders do to a value that cannot be sent as it came."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any


def converters(
    schema: Mapping[str, Any], provider: str, encode: Callable[[Any], str]
) -> dict[str, Callable[[Any], str]]:
    """Name the columns of one stream that need a conversion, and the conversion."""
    found: dict[str, Callable[[Any], str]] = {}
    # Kore.ai has no boolean column: "true" or "false"
    encoded = {"object", "array", *(["boolean"] if provider == "kore" else [])}
    for column, declared in schema["properties"].items():
        if declared.get("format") == "date-time":
            found[column] = _date if provider == "qobra" else _iso
        elif encoded & set(declared["type"]):
            found[column] = encode
    return found


def _date(value: str) -> str:
    return datetime.fromisoformat(value).astimezone(UTC).date().isoformat()


def _iso(value: str) -> str:
    moment = datetime.fromisoformat(value).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
