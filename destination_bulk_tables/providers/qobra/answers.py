"""What Qobra answers, as far as it is read."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Ingested(msgspec.Struct):
    """What a write is answered with: a count of the request, not of what was stored."""

    import_id: str
    objects_imported: int


class ParsingDetail(msgspec.Struct):
    """A row that an import names as bad, as it was sent."""

    line_number: int | None = None
    row: msgspec.Raw = msgspec.Raw(b"null")
    details: str | None = None


class TableError(msgspec.Struct):
    """Why a table's part of an import failed, or which rows did."""

    title: str | None = None
    description: str | None = None
    parsing_error_details: list[ParsingDetail] | None = None


class TableDetails(msgspec.Struct):
    """A table's part of an import; no number where nothing went in."""

    type: str | None = None
    data_table_key: str | None = None
    number_of_records: int | None = None
    error: TableError | None = None


class ImportStatus(msgspec.Struct):
    """How far an import is, whatever else is there."""

    status: str


class Import(msgspec.Struct):
    """An import that is over."""

    created_at: str | None = None
    launched_at: str | None = None
    data_tables_details: list[TableDetails] = []


class Fetched(msgspec.Struct, Generic[T]):
    data_import: T
