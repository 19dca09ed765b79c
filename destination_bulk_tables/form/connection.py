"""The whole form: the providers to choose from, the tables, the delivery."""

from __future__ import annotations

from collections.abc import Iterable

from destination_bulk_tables.form.delivery import DELIVERY
from destination_bulk_tables.form.fields import one_of
from destination_bulk_tables.form.tables import TABLES
from destination_bulk_tables.model import JsonObject

DOCUMENTATION_URL = "https://docs.airbyte.com/integrations/destinations/bulk-tables"


def connection_specification(providers: Iterable[JsonObject]) -> JsonObject:
    """The JSON schema of the config with these providers' forms."""
    provider = one_of(
        "Provider",
        "The service that holds the data tables, and how to reach it.",
        *(dict(form) for form in providers),
    )
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Bulk Tables Destination Spec",
        "type": "object",
        "required": ["provider"],
        "groups": [
            {"id": "provider", "title": "Where the tables are"},
            {"id": "tables", "title": "Tables and columns"},
            # of an object the form shows no title, only that of its group
            {"id": "batching", "title": "Batches"},
            {"id": "rejected_records", "title": "Rejected rows"},
            {"id": "staging", "title": "Staging"},
            {"id": "diagnostics", "title": "Diagnostics"},
            {"id": "object_store", "title": "Object store"},
        ],
        "properties": {
            "provider": {**provider, "group": "provider", "order": 0},
            **TABLES,
            **DELIVERY,
        },
    }
