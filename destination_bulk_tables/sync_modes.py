"""Append, dedup or replace: what the platform asks of a stream.

Airbyte says "replace" in two ways: `overwrite`, or, where the platform knows refreshes,
`minimum_generation_id == generation_id > 0` on any mode. PyAirbyte sends generation = minimum =
sync id = 1 on every run, which must not empty a table that is appended to.
"""

from __future__ import annotations

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import JsonObject, Mode, StreamKey

_MODES: dict[str, tuple[Mode, bool]] = {
    "append": ("append", False),
    "append_dedup": ("dedup", False),
    "overwrite": ("append", True),
    "overwrite_dedup": ("dedup", True),
}


def mode_of(configured: JsonObject, key: StreamKey, truncate_mode: str) -> tuple[Mode, bool]:
    """How rows go in, and whether the table is replaced. Raises `ConfigError`."""
    asked = configured.get("destination_sync_mode")
    if not isinstance(asked, str) or asked not in _MODES:
        message = (
            f"Stream {key}: the sync mode {asked!r} is not supported. Choose append, overwrite or "
            "append + deduped."
        )
        raise ConfigError(message, stream=key)
    mode, replace = _MODES[asked]
    generation, minimum = configured.get("generation_id"), configured.get("minimum_generation_id")
    if not replace and minimum:
        if minimum != generation:
            message = (
                f"Stream {key}: minimum_generation_id {minimum} with generation_id {generation} "
                "asks to keep a part of the table, which this destination cannot do."
            )
            raise ConfigError(message, stream=key)
        replace = not is_pyairbyte(configured)
    replace = replace or truncate_mode == "always"
    if replace and truncate_mode == "never":
        message = (
            f"Stream {key} asks to replace its table's content, and truncate_mode is 'never'. "
            "Choose an append mode in the connection, or set truncate_mode to 'sync_mode'."
        )
        raise ConfigError(message, stream=key)
    return mode, replace


def may_resume(configured: JsonObject) -> bool:
    """Whether this is a refresh of an incremental stream, which a platform's retry continues."""
    generation, minimum = configured.get("generation_id"), configured.get("minimum_generation_id")
    return (
        configured.get("sync_mode") == "incremental"
        and bool(minimum)
        and minimum == generation
        and not is_pyairbyte(configured)
    )


def is_pyairbyte(configured: JsonObject) -> bool:
    names = ("generation_id", "minimum_generation_id", "sync_id")
    return [configured.get(name) for name in names] == [1, 1, 1]
