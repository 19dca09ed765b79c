"""Kore.ai data tables.

Source: https://koreai.mintlify.app/ai-for-service/apis/automation/bulk-data-insert
(read 2026-11-22)
Source: https://docs.kore.ai/xo/sdk/sdk-security/ (tokens; read 2026-11-22)
Insert: POST {prefix}/tables/{table}/bulk, body {"data": [...]}, at most 50 MB, answered with
{"records": [...]}, one per row stored. Delete and query by a filter of `=`, `!=`, `<`, `>`
expressions under one `and` or `or`; a query returns at most 100 rows and the total. No upsert, no
truncate. Rate: 600 requests in any 60 s and 18,000 in any 3,600 s per account and table; over it,
the text says "rate limit" and the status is not documented.

Not documented, and therefore: whether a refused insert stored some of its rows (the table's total
before and after tells), what happened to an insert without an answer (the same), null (left out),
dates (ISO 8601 as the API returns them), the status for a missing right (401 and 403 are read
alike), how long a filter may be (a query tells, before a long one deletes). An insert is not keyed:
repeating it blindly doubles rows. A delete that ended without an answer may be applied late and
take rows that were inserted since: it is repeated after a while, and the keys are counted after the
insert.

`calls` has the requests, `filters` what stands in them, `answers` what comes back; `checking`,
`writing`, `deleting`, `reading_back` and `replacing` make flows of them, `provider` hands these to
the sync; `tokens` and `form` are what their names say.
"""

from destination_bulk_tables.providers.kore.provider import Kore

__all__ = ["Kore"]
