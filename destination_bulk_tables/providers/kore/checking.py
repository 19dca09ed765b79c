"""Before the first row: whether the token and the tables are right, and the columns' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import Flow, Refused
from destination_bulk_tables.model import Table
from destination_bulk_tables.provider import ColumnKind
from destination_bulk_tables.providers.kore.answers import NO_READ, MetaColumn, no_table
from destination_bulk_tables.providers.kore.calls import Calls
from destination_bulk_tables.providers.kore.filters import EVERY_ROW

_NO_SUCH_TABLE = "airbyte-check-no-such-table"
_SYSTEM_COLUMNS = {"_id", "sys_Id", "Created_On", "Updated_On", "Created_By", "Updated_By"}
_ADDED_COLUMNS = {*_SYSTEM_COLUMNS, "Created_On_TimeStamp", "Updated_On_TimeStamp"}
_KINDS: dict[str, ColumnKind] = {"string": "text", "number": "number", "date": "date"}
# Source: https://docs.kore.ai/xo/administration/data/data-table/ (reserved words; read 2026-11-22)
_RESERVED_WORDS = """
ACCESS ADD ALL ALTER AND ANY AS ASC AUDIT BETWEEN BY CHAR CHECK CLUSTER COLUMN COMMENT
COMPRESS CONNECT CREATE CURRENT DATE DECIMAL DEFAULT DELETE DESC DISTINCT DROP ELSE
EXCLUSIVE EXISTS FILE FLOAT FOR FROM GRANT GROUP HAVING IDENTIFIED IMMEDIATE IN
INCREMENT INDEX INITIAL INSERT INTEGER INTERSECT INTO IS LEVEL LIKE LOCK LONG MAXEXTENTS
MINUS MLSLABEL MODE MODIFY NOAUDIT NOCOMPRESS NOT NOWAIT NULL NUMBER OF ON ONLINE
OFFLINE OPTION ORDER PCTFREE PRIOR PRIVILEGES PUBLIC RAW RENAME RESOURCE REVOKE ROW
ROWID ROWNUM ROWS SELECT SESSION SET SHARE SIZE SMALLINT START SUCCESSFUL SYNONYM
SYSDATE TABLE THEN TO TRIGGER UID UNION UNIQUE UPDATE USER VALIDATE VALUES VARCHAR
VARCHAR2 VIEW WHENEVER WHERE WITH
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())
_ADVISED_COLUMNS = 20


def check(calls: Calls, tables: Sequence[str]) -> Flow[None]:
    """Query one row of each table: it needs the Read right and changes nothing."""
    for name in tables:
        try:
            yield from calls.total(name)
        except Refused as refused:
            if refused.code in NO_READ:
                yield from _check_token(calls)
                raise ConfigError(
                    f"The app may not read table {name}. Give it the right to Read in the "
                    "table's App Assignments; the check and the verification of writes need it."
                ) from None
            raise ConfigError(no_table(name, refused)) from None
    if not tables:
        yield from _check_token(calls)


def _check_token(calls: Calls) -> Flow[None]:
    """A good token is refused a table that cannot exist with anything but 401, by Kore.ai."""
    try:
        yield from calls.total(_NO_SUCH_TABLE)
    except Refused as refused:
        if refused.code == "http_401":
            raise ConfigError(
                f"Kore.ai does not accept the token (401). {refused.reason} Check "
                "authentication: the client id, the secret and the algorithm, or the static "
                "token, and that they are of an app of this host."
            ) from None
        if refused.code == "unreadable_answer" or not refused.reason:
            raise ConfigError(
                f"The host answers, but not like Kore.ai's API ({refused.code}). Check "
                "provider.host and api_path_prefix."
            ) from None


def columns(calls: Calls, table: str) -> Flow[Mapping[str, ColumnKind | None] | None]:
    """The columns that a query's `metaInfo` names beside the vendor's own.

    Source: https://koreai.mintlify.app/ai-for-service/apis/automation/query-table-data
    (read 2026-11-22)
    None where it names no other: whether it does for an empty table is not documented.
    """
    try:
        found = yield from calls.query(table, EVERY_ROW, limit=1)
        named = msgspec.json.decode(found.metaInfo, type=list[MetaColumn])
    except (Refused, msgspec.DecodeError):
        return None
    own = {c.name: _KINDS.get(c.type.casefold()) for c in named if c.name not in _ADDED_COLUMNS}
    return own or None


def validate(table: Table) -> None:
    system = sorted(set(table.columns) & _SYSTEM_COLUMNS)
    if system:
        raise ConfigError(
            f"Stream {table.stream}: {system[0]!r} is a column that Kore.ai fills itself. Send "
            "the field under another name, or leave it out, with tables[].columns."
        )


def warnings(table: Table) -> list[str]:
    """Source: https://docs.kore.ai/xo/administration/data/data-table/ (read 2026-11-22)."""
    found = []
    reserved = [column for column in table.columns if column.upper() in _RESERVED]
    if reserved:
        names = ",".join(reserved)
        found.append(
            f"reserved_columns table={table.name} columns={names} remedy=rename_in_tables[].columns"
        )
    if len(table.columns) > _ADVISED_COLUMNS:
        found.append(
            f"many_columns table={table.name} columns={len(table.columns)} "
            f"advised={_ADVISED_COLUMNS}"
        )
    return found
