"""What is said of rows and batches that a vendor refused, and of requests that it did not take."""

from __future__ import annotations

from collections.abc import Sequence

from destination_bulk_tables.errors import ConfigError, DestinationError, TransientError
from destination_bulk_tables.http import Refused, RowFault, name_of
from destination_bulk_tables.model import RejectedRow, RowBlock, Table
from destination_bulk_tables.outcomes import ReplacePlan
from destination_bulk_tables.provider import Provider
from destination_bulk_tables.redact import mask_values


def rejected_rows(table: Table, block: RowBlock, faults: Sequence[RowFault]) -> list[RejectedRow]:
    """The rows of a block that a vendor names as bad."""
    rows = block.rows() if faults else []
    positions = [fault.position for fault in faults]
    brought = block.originals.at(positions) if block.originals else [b""] * len(positions)
    return [
        RejectedRow(
            table.stream,
            "vendor",
            fault.code,
            fault.reason,
            rows[fault.position],
            block.indexes[fault.position],
            line,
        )
        for fault, line in zip(faults, brought, strict=True)
    ]


def refusal(
    provider: Provider, table: Table, block: RowBlock, fate: Refused, plan: ReplacePlan | None
) -> ConfigError:
    """The error of a batch that is refused where one refused row ends the sync."""
    message = (
        f"{provider.title} refused {block.count} rows of table {table.name} "
        f"({fate.code}): {mask_values(fate.reason, block)} Correct the rows or their mapping, "
        "or set rejected_records.policy to 'skip' to deliver the good rows and list the bad "
        f"ones in rejected_records.report_path. {plan.hint if plan else ''}"
    ).rstrip()
    return ConfigError(message, stream=table.stream)


def indivisible(provider: Provider, table: Table, fate: Exception) -> ConfigError:
    """The error of a replacing request that is refused and must not be cut."""
    message = (
        f"{provider.title} refused the one request that replaces table "
        f"{table.name} ({name_of(fate)}). It cannot be sent in parts, because each would "
        "replace the one before. Lower batching.max_rows or batching.max_megabytes, or correct "
        "the rows. The table was not touched."
    )
    return ConfigError(message, stream=table.stream)


def exhausted(
    provider: Provider, trouble: str, attempts: int, after_s: float | None, table: Table | None
) -> TransientError:
    """The error of a request that was tried often or long enough."""
    asked = ""
    if after_s:
        asked = f" It asked to wait {after_s:.0f} s, longer than the retries may take."
    message = (
        f"{provider.title} did not take a request after {attempts} attempt(s): "
        f"{trouble}.{asked} If it is up, check its address, the network and the vendor's "
        "limits; the next attempt starts where this one stopped."
    )
    return TransientError(message, stream=table.stream if table else None)


def about(table: Table | None, error: Exception) -> Exception:
    """An answer's error with the table it is about: the setting to check may be that table's."""
    if table is None or not isinstance(error, DestinationError):
        return error
    message = f"Table {table.name}: {error.message}"
    return type(error)(message, detail=error.detail, stream=table.stream)
