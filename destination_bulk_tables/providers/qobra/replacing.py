"""Replaces a table: in one request, or in several within one debounce window."""

from __future__ import annotations

import math

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import Table
from destination_bulk_tables.outcomes import Load, ReplacePlan
from destination_bulk_tables.providers.qobra.form import MAX_DEBOUNCE_S

_MIN_DEBOUNCE_S = 300
_DEBOUNCE_PER_REQUEST_S = 10.0
_LEAST_PER_REQUEST_S = 0.5


def begin(table: Table, load: Load, debounce_s: int | None) -> ReplacePlan:
    """One request replaces the table at once; more need one debounce window for them all."""
    if load.requests <= 1:
        return ReplacePlan(single=True, first_alone=True)
    needed = math.ceil(_LEAST_PER_REQUEST_S * load.requests)
    window = debounce_s
    if window is None:
        window = min(
            MAX_DEBOUNCE_S,
            max(_MIN_DEBOUNCE_S, math.ceil(_DEBOUNCE_PER_REQUEST_S * load.requests)),
        )
    if window < needed:
        remedy = "Leave it empty or raise it" if debounce_s is not None else "Send fewer rows"
        raise ConfigError(
            f"Replacing table {table.name} takes {load.requests} requests, which need a "
            f"debounce of at least {needed} s; debounce_seconds gives {window} s. {remedy}, or "
            "raise batching.max_rows. Nothing was sent."
        )
    return ReplacePlan(window_s=float(window), first_alone=True)
