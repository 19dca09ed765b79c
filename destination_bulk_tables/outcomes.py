"""What a provider is told about a write, and what it says came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from destination_bulk_tables.errors import DestinationError
from destination_bulk_tables.http import Ambiguous, Refused, RowFault, TooLarge
from destination_bulk_tables.model import Receipt, Table


@dataclass(frozen=True, slots=True)
class Load:
    """The size of a staged load, before it is sent."""

    rows: int
    n_bytes: int
    requests: int


@dataclass(slots=True)
class ReplacePlan:
    """How one load replaces a table's content; made by `replace_begin`, spent by `replace_end`."""

    window_s: float | None = None  # all requests within this time of the first, or not at all
    not_after: float | None = None  # monotonic; set by the engine when the first request goes out
    first_alone: bool = False
    single: bool = False
    begun: bool = False  # the provider's own: a request of this load was accepted
    stored: int | None = None
    old_ids: list[str] = field(default_factory=list)
    hint: str = ""  # what to change when a row is refused while old rows are there
    refused: set[str] = field(default_factory=set)  # codes of such rows; set by the engine


@dataclass(frozen=True, slots=True)
class Context:
    """What a write may rely on. `stored`: rows by the last count plus those accepted since.

    `alone`: no other batch of the table is under way. `repeated`: how often these rows may have
    been written before. `is_over`: of writes that are looked at, what is not in by now will not
    come.
    """

    alone: bool = True
    stored: int | None = None
    repeated: int = 0
    is_over: bool = False
    replace: ReplacePlan | None = None


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What one write did: all of it together accounts for the whole block.

    `again`: positions of rows that are not in and are to be sent again, as a part of their own.
    """

    delivered: int = 0
    faults: tuple[RowFault, ...] = ()
    receipt: Receipt | None = None
    again: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What a table tells about a write of unknown outcome.

    `stored`: the positions that are in, counted through the blocks, None where that cannot be told.
    `total`: the rows that the table counted, where it did.
    """

    stored: set[int] | None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Unverified:
    """Accepted rows whose background work is not proven yet. `age_s`: since the last acceptance."""

    table: Table
    receipts: tuple[Receipt, ...]
    rows: int
    age_s: float
    pushed_s: float = 0.0
    replace: ReplacePlan | None = None

    @property
    def resent(self) -> int:
        """Rows that may have been accepted twice."""
        return sum(receipt.resent for receipt in self.receipts)


@dataclass(frozen=True, slots=True)
class VendorFault:
    """A row a finished background job names as bad; `key` is the text of its id."""

    key: str
    code: str
    reason: str
    row: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finished background job: everything was stored but for `faults`."""

    faults: tuple[VendorFault, ...] = ()


class Mingled(Exception):
    """Background work holds more than these rows, so it proves nothing of them: send them again.

    Only for writes that may be repeated. `error`: what to say where that is over.
    """

    def __init__(self, error: DestinationError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an answer, or a job that is over, says of the rows of a request, by their positions.

    `faults`: these are bad; `again`: these are to be sent again; the others are in.
    `fate`: nothing is known of any row but what this says, as if the write had ended with it.
    """

    faults: tuple[RowFault, ...] = ()
    again: tuple[int, ...] = ()
    fate: Refused | TooLarge | Ambiguous | None = None
