"""The calls on a table: insert, delete and query, each as a request or a flow of one."""

from __future__ import annotations

from typing import Literal

from destination_bulk_tables.http import Ambiguous, Flow, HttpRequest, Refused, segment
from destination_bulk_tables.model import RowBlock
from destination_bulk_tables.providers.kore.answers import Queried
from destination_bulk_tables.providers.kore.filters import EVERY_ROW

PAGE = 100  # the most rows a query returns
SHORT_FILTER = 100  # expressions that any table is taken to read
LONG = SHORT_FILTER + 1  # a delete that may be done without


class Calls:
    """The tables below one path prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = "/" + prefix.strip("/") if prefix.strip("/") else ""

    def _path(self, table: str, rest: str = "") -> str:
        return f"{self._prefix}/tables/{segment(table)}{rest}"

    def insert(self, table: str, block: RowBlock) -> HttpRequest:
        body = block.enclosed(b'{"data":[', b"]}")
        path = self._path(table, "/bulk")
        return HttpRequest("POST", path, body=body, repeat="unsafe", rows=block.count)

    def delete(self, table: str, query: bytes, n_expressions: int) -> HttpRequest:
        return HttpRequest(
            "DELETE",
            self._path(table),
            body=b'{"query":%b}' % query,
            repeat="once" if n_expressions > SHORT_FILTER else "settled",
        )

    def query(
        self,
        table: str,
        query: bytes,
        limit: int,
        offset: int = 0,
        repeat: Literal["safe", "once"] = "safe",
    ) -> Flow[Queried]:
        path = self._path(table, f"/query?sys_limit={limit}&sys_offset={offset}")
        response = yield HttpRequest("POST", path, body=b'{"query":%b}' % query, repeat=repeat)
        try:
            return response.decode(Queried)
        except Ambiguous:
            code = "unreadable_answer"
            raise Refused(
                code,
                "the answer is not the documented JSON; check provider.host and api_path_prefix",
            ) from None

    def total(self, table: str) -> Flow[int | None]:
        return (yield from self.query(table, EVERY_ROW, limit=1)).total
