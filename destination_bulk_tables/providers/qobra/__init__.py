"""Qobra data tables.

Source: https://docs.qobra.co/api_reference/v1/endpoints/data_tables/ingest_records
(read 2026-11-22)
Source: https://docs.qobra.co/api_reference/v1/endpoints/imports/fetch_import (read 2026-11-22)
Ingest: POST /v1/tables/{api name}/records/bulk, body {"items": [...]}; an upsert by the table's id
field. The answer {"import_id", "objects_imported"} only counts the request; the rows are imported
in the background, and GET /v1/imports/{id} tells how that went. An import may hold other tables'
entries and entries of other clients. `all=true` deletes the table's content before the import;
`debounce=N` has the import wait N seconds for further requests.

Not documented, and therefore: errors, limits and rates (decided by status alone, modest batches);
whether the debounce window starts with the first or the last request (we finish within it, counted
from the first); whether requests of one load share an import id (we follow each). Every request may
be repeated: the write is keyed.

`writing` sends rows, `imports` tells what became of them, `replacing` sizes the window of a load;
`answers` is what comes back, `provider` hands the verbs to the sync; `form` is what its name says.
"""

from destination_bulk_tables.providers.qobra.provider import Qobra

__all__ = ["Qobra"]
