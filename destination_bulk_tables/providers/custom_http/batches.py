"""The request that carries a batch: insert or upsert, with what its load and its key add."""

from __future__ import annotations

import gzip
from typing import Any, Literal

from destination_bulk_tables.http import Refused, TooLarge
from destination_bulk_tables.model import RowBlock, Table
from destination_bulk_tables.outcomes import Context, ReplacePlan
from destination_bulk_tables.providers.custom_http.answers import Request
from destination_bulk_tables.providers.custom_http.batch_keys import LENGTH, BatchKeys
from destination_bulk_tables.providers.custom_http.emptying import Replace
from destination_bulk_tables.providers.custom_http.fields import header_name
from destination_bulk_tables.providers.custom_http.writing import Write


class Batches:
    def __init__(self, form: dict[str, Any], replace: Replace, max_bytes: int) -> None:
        self._insert = Write.insert(form)
        way = form.get("upsert", {}).get("upsert_type", "none")
        self.upsert = Write.upsert(form, self._insert) if way == "request" else None
        if way == "insert":
            self.upsert = self._insert
        key_header = form.get("idempotency_header")
        self._key_header = header_name("idempotency_header", key_header) if key_header else ""
        self._keys = BatchKeys()
        self._zips = form.get("request_compression") == "gzip"
        self._repeats = bool(form.get("repeat_is_safe")) or self.upsert is self._insert
        self._replace = replace
        self._max_bytes = max_bytes

    def write_of(self, table: Table) -> Write:
        """How rows go into this table."""
        return self.upsert if table.mode == "dedup" and self.upsert is not None else self._insert

    def repeats_safely(self, table: Table) -> bool:
        """Whether rows that are sent again are in once."""
        return table.mode == "dedup" or self._repeats

    def body_size(self, table: Table) -> int:
        """Bytes beside the rows."""
        prepared = self.write_of(table).prepare(table)
        return len(prepared.filled(prepared.before + prepared.after, "-" * LENGTH))

    def request(self, table: Table, block: RowBlock, context: Context) -> Request:
        write = self.write_of(table)
        prepared = write.prepare(table)
        body = prepared.body(block)
        if prepared.row is not None and len(body) > self._max_bytes and block.count > 1:
            raise TooLarge  # what the row template adds is not in the batcher's sizes
        shown = None if isinstance(prepared.path, str) else prepared.path.shown
        if shown is not None and not block.count:
            raise Refused("no_row", "the path of a request needs a row")
        plan, path = context.replace, prepared.path_of(block)
        if plan is not None and self._replace.is_flagged(plan):
            path += ("&" if "?" in path else "?") + self._replace.query
        headers = dict(write.headers)
        if self._key_header or write.holds_key:
            lasts = plan is None and not self.repeats_safely(table)
            key = self._keys.key(path, body, block, table.job if lasts else "")
            if self._key_header:
                headers[self._key_header] = key
            if write.holds_key:
                body = prepared.filled(body, key)
        if self._zips:
            headers["Content-Encoding"] = "gzip"
        return Request(
            write.method,
            path,
            body=gzip.compress(body, 6, mtime=0) if self._zips else body,
            plain=body if self._zips else None,
            headers=headers,
            repeat=self._repeat_of(table, plan),
            content_type="application/x-ndjson" if write.kind == "lines" else "application/json",
            setting=write.setting,
            table=table,
            success=write.success,
            rows=block.count,
            shown=shown,
        )

    def _repeat_of(
        self, table: Table, plan: ReplacePlan | None
    ) -> Literal["safe", "settled", "unsafe"]:
        if plan is not None and self._replace.is_first(plan):
            return "settled"
        # the same request again is known by its key; other rows in one body are not
        is_known = bool(self._key_header) or self.write_of(table).holds_key
        return "safe" if is_known or self.repeats_safely(table) else "unsafe"
