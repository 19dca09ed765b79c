"""Airbyte destination for SaaS data tables that take rows in bulk over HTTP.

`DestinationBulkTables` is made on demand: importing it brings in the whole Airbyte CDK, which the
connector itself does not need to run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from destination_bulk_tables.destination import DestinationBulkTables

__all__ = ["DestinationBulkTables"]


def __getattr__(name: str) -> Any:
    if name == "DestinationBulkTables":
        from destination_bulk_tables.destination import DestinationBulkTables  # noqa: PLC0415

        return DestinationBulkTables
    raise AttributeError(name)
