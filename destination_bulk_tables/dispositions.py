"""What one response means: a provider says it, the retry loop acts on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from destination_bulk_tables.errors import ConfigError, DestinationError, InternalError
from destination_bulk_tables.http import HttpResponse, Refused, TooLarge

BUSY_STATUSES = frozenset({408, 425, 503})


@dataclass(frozen=True, slots=True)
class Accept:
    """Hand the response to the flow."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again. `applied="maybe"`: ambiguous if unsafe to repeat; `pause` holds the table."""

    after_s: float | None = None
    applied: Literal["no", "maybe"] = "no"
    pause: bool = False


@dataclass(frozen=True, slots=True)
class Renew:
    """Credential refused: try once with a fresh one, then stop with (or throw) `error`."""

    error: DestinationError | Refused


@dataclass(frozen=True, slots=True)
class Stop:
    """End the sync with this error."""

    error: DestinationError


@dataclass(frozen=True, slots=True)
class Throw:
    """Throw into the flow."""

    error: Refused | TooLarge


Disposition = Accept | Retry | Renew | Stop | Throw


def classify_by_status(
    response: HttpResponse, vendor: str, settings: Mapping[int, str]
) -> Disposition:
    """The usual meaning of a status; `settings` says per status which setting to check.

    The texts of a response never enter a message here: they may quote rows.
    """
    status = response.status
    if 200 <= status < 300:
        return Accept()
    if status == 413:
        return Throw(TooLarge())
    if status in {400, 422}:
        return Throw(Refused(f"http_{status}", response.text))
    if status == 429:
        return Retry(pause=True)
    if status in BUSY_STATUSES:
        # a gateway says so as well where the connection behind it broke after it passed this on
        return Retry(applied="maybe")
    if status >= 500 and status not in {501, 505}:
        # gateways have numbers of their own (520 to 529), and the vendor behind one may have acted
        return Retry(applied="maybe")
    if 300 <= status < 400:
        message = (
            f"{vendor} redirects ({status}). Set the address it redirects to; redirects are not "
            "followed."
        )
        return Stop(ConfigError(message))
    hint = settings.get(status)
    if hint is not None:
        error = ConfigError(f"{vendor} answered {status}. {hint}")
        return Renew(error) if status == 401 else Stop(error)
    return Stop(
        InternalError(f"{vendor} answered {status}, which its documentation does not mention.")
    )
