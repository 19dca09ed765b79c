"""Tells what became of rows that Qobra imports in the background.

An import that is finished need not have succeeded, may hold other tables' entries and those of
other clients, and several ids may show one import: only what is ours counts, and all of it must be
there.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import unquote

import msgspec

from destination_bulk_tables.errors import (
    BadRows,
    ConfigError,
    DestinationError,
    TransientError,
    UnaccountedRows,
)
from destination_bulk_tables.http import (
    Ambiguous,
    Flow,
    HttpRequest,
    HttpResponse,
    Refused,
    segment,
)
from destination_bulk_tables.model import RowBlock, Table
from destination_bulk_tables.outcomes import Mingled, Unverified, VendorFault, Verdict
from destination_bulk_tables.providers.qobra.answers import (
    Fetched,
    Import,
    ImportStatus,
    ParsingDetail,
    TableDetails,
)
from destination_bulk_tables.redact import mask_values

log = logging.getLogger(__name__)

PATH = "/v1/imports/"
_TITLE = re.compile(r"[A-Za-z0-9_ -]{1,60}")  # a name and not a sentence that may quote a row
_UNKNOWN_IMPORT_GRACE_S = 30.0
_SPLIT_TOLERANCE_S = 2.0


def named_in(request: HttpRequest, response: HttpResponse) -> str | None:
    """The import that a request asks about, or that its answer announces."""
    if request.path.startswith(PATH):
        return unquote(request.path.removeprefix(PATH))
    answer = response.parsed() if request.rows is not None else None
    named = answer.get("import_id") if isinstance(answer, dict) else None
    return named if isinstance(named, str) else None


def verify(unverified: Unverified, id_field: str) -> Flow[Verdict | None]:
    """All imports of these rows finished, with our count and without our table in an error."""
    table = unverified.table
    imports = []
    for receipt in unverified.receipts:
        try:
            response = yield HttpRequest("GET", PATH + segment(receipt.id, "an import id"))
            # what is not over need not have its final shape
            if response.decode(Fetched[ImportStatus]).data_import.status != "finished":
                return None
            imports.append(response.decode(Fetched[Import]).data_import)
        except Refused:
            if unverified.age_s < _UNKNOWN_IMPORT_GRACE_S:
                return None
            raise UnaccountedRows(
                f"Qobra does not know import {receipt.id} of table {table.name}, which it "
                "announced itself."
            ) from None
        except Ambiguous as error:
            if not isinstance(error.__cause__, msgspec.ValidationError):
                return None
            raise UnaccountedRows(
                f"Qobra's answer about import {receipt.id} of table {table.name} is JSON, but "
                "not as documented, so it cannot be told whether its rows are in. Please "
                "report it; Qobra's import page shows how the import ended."
            ) from None
    own = [
        [
            entry
            for entry in found.data_tables_details
            if entry.type == "api" and entry.data_table_key == table.name
        ]
        for found in imports
    ]
    faults = _faults(table, [entry for entries in own for entry in entries], id_field)
    _require_count(unverified, own, faults)
    if unverified.replace is not None and unverified.replace.window_s is not None:
        _require_one_run(unverified, imports)
    return Verdict(tuple(faults))


def _faults(table: Table, entries: Sequence[TableDetails], id_field: str) -> list[VendorFault]:
    faults: dict[str, VendorFault] = {}
    for entry in entries:
        if entry.error is None:
            continue
        title = entry.error.title or ""
        title = title if _TITLE.fullmatch(title) else "ImportError"
        details = entry.error.parsing_error_details or []
        for detail in details:
            row = bytes(detail.row)
            key = _id_text(row, table.id_column or id_field)
            faults[key or f"line {detail.line_number}"] = VendorFault(
                key, title, detail.details or entry.error.description or title, row
            )
        if not details:
            raise ConfigError(
                f"Qobra's import into table {table.name} failed ({title}). Its import page "
                "shows why."
            )
        if entry.number_of_records is None:
            text = mask_values(entry.error.description or "", _quoted(details))
            raise ConfigError(
                f"Qobra imported nothing into table {table.name} because of {len(details)} bad "
                f"row(s) ({title}: {text}). Correct them at the source or map the column in "
                "tables[].columns."
            )
    return list(faults.values())


def _require_count(
    unverified: Unverified,
    own: Sequence[Sequence[TableDetails]],
    faults: Sequence[VendorFault],
) -> None:
    if not unverified.rows:
        return
    counts = [sum(entry.number_of_records or 0 for entry in entries) for entries in own]
    expected = unverified.rows - len(faults)
    views = {sum(counts)}
    if len(counts) > 1 and len(set(counts)) == 1:
        views.add(counts[0])  # each id may show the one import that all requests of the load joined
    most = expected + unverified.resent
    if any(expected <= view <= most for view in views):
        return
    error = _cannot_tell(unverified, max(views), expected, faults)
    # an attempt that was cut off, or another client, has rows in it: they may hide a lost one
    raise Mingled(error) if max(views) > most else error


def _cannot_tell(
    unverified: Unverified, found: int, expected: int, faults: Sequence[VendorFault]
) -> DestinationError:
    table = unverified.table
    message = (
        f"Qobra imported {found} records into table {table.name} where {expected} were expected, "
        "so it cannot be told which rows are in. "
    )
    if faults and expected >= 0:
        codes = ", ".join(sorted({fault.code for fault in faults}))
        message += (
            f"It names {len(faults)} bad row(s) ({codes}), maybe not all. Correct them at "
            "the source or map the column in tables[].columns; its import page shows why."
        )
        return BadRows(message)
    if found <= expected:
        return UnaccountedRows(message + "Look at its import page.")
    message = (
        f"Qobra imported {found} records into table {table.name}, more than were sent: what an "
        "earlier attempt or another client sent is in the same import, so it cannot be told which "
        "rows are in. The next attempt sends them again. If this repeats, let nothing else write "
        "to the table meanwhile."
    )
    return TransientError(message, stream=table.stream)


def _id_text(row: bytes, id_field: str) -> str:
    try:
        members = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return ""
    token = bytes(members.get(id_field, b""))
    return str(msgspec.json.decode(token)) if token.startswith(b'"') else token.decode()


def _quoted(details: Sequence[ParsingDetail]) -> RowBlock:
    rows = [bytes(detail.row) for detail in details]
    return RowBlock(rows, len(rows), range(len(rows)))


def _require_one_run(unverified: Unverified, imports: Sequence[Import]) -> None:
    """The vendor's own times must show that all requests of the load were imported together."""
    launches = [moment for found in imports if (moment := _time(found.launched_at))]
    created = [moment for found in imports if (moment := _time(found.created_at))]
    are_known = len(launches) == len(created) == len(imports)
    if len(imports) > 1 and (not are_known or len(set(created)) == 1):
        log.warning(
            "load_not_proven_whole table=%s imports=%d cause=times_do_not_tell",
            unverified.table.name,
            len(imports),
        )
    if not launches or not created:
        return
    waited = (min(launches) - min(created)).total_seconds()
    # joined requests launch together, others as far apart as they came
    spread = max(launches) - min(launches)
    is_apart = len(imports) > 1 and spread > (max(created) - min(created)) / 2
    if waited + _SPLIT_TOLERANCE_S < unverified.pushed_s or is_apart:
        message = (
            f"Qobra launched the load into table {unverified.table.name} in parts or too early, so "
            "the table may hold a part of it. The next attempt replaces it again; if this repeats, "
            "raise debounce_seconds, or batching.max_rows so that one request holds the load."
        )
        raise Mingled(TransientError(message, stream=unverified.table.stream))


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
