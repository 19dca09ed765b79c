"""What a provider is: it turns rows into HTTP requests and responses into facts. It does no I/O.

A provider's verbs are *flows*: generators that yield an `HttpRequest` and receive the
`HttpResponse` to it. The sender pays the rate limit, retries, waits and authenticates each attempt;
a flow sees only accepted responses. What it cannot retry is thrown into the flow as one of three
exceptions (`Refused`, `TooLarge`, `Ambiguous`), which the flow may handle and otherwise lets pass
to the sender.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from destination_bulk_tables.errors import ConfigError, DestinationError, InternalError

if TYPE_CHECKING:
    from destination_bulk_tables.model import JsonObject, Receipt, RowBlock, Table

BUSY_STATUSES = frozenset({408, 425, 503})

T = TypeVar("T")
Flow = Generator["HttpRequest", "HttpResponse", T]
D = TypeVar("D")
ColumnKind = Literal["text", "number", "date", "boolean"]
_BOM = b"\xef\xbb\xbf"  # some servers begin JSON with it


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. `path` is below the provider's base URL and already encoded.

    `repeat="unsafe"`: applying it twice differs from once, so an ambiguous outcome is not retried
    blindly; "settled": it may be repeated, but what follows must not overtake an earlier attempt,
    so that is given time; "once": the flow has another way, so whatever keeps an answer away is
    thrown as `Ambiguous`, after time to settle. `not_after`: monotonic time after which it must not
    be sent any more.
    """

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeat: Literal["safe", "settled", "unsafe", "once"] = "safe"
    not_after: float | None = None
    content_type: str = "application/json"
    url: str | None = None  # in place of base URL and path: a token server is at another address


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete response; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    resent: int = 0  # earlier attempts of this request that may have been applied as well

    def decode(self, kind: type[D]) -> D:
        """The JSON body as `kind`; raises `Ambiguous`: an unreadable answer proves nothing."""
        try:
            return msgspec.json.decode(self.body.removeprefix(_BOM), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = f"HTTP {self.status} with an answer that is not the documented JSON"
            raise Ambiguous(message) from error

    def parsed(self) -> Any:
        """The JSON body as it is, None where it is none."""
        try:
            return self.decode(object)
        except Ambiguous:
            return None

    @property
    def text(self) -> str:
        """The start of the body. It may quote rows: mask it before it reaches a log."""
        return self.body[:2000].decode("utf-8", "replace").strip()


class Refused(Exception):
    """The vendor refused content of the request; `reason` may quote rows.

    `partial`: it took some of the rows and the answer does not tell which. `faults`: the rows it
    names as bad, maybe not all of them; the others are sent again without these. `resent`, set by
    the sender: earlier attempts of the request that may have been applied.
    """

    def __init__(
        self, code: str, reason: str, *, partial: bool = False, faults: tuple[RowFault, ...] = ()
    ) -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason
        self.partial = partial
        self.faults = faults
        self.resent = 0


class TooLarge(Exception):
    """The vendor refused the size of the request."""


class Ambiguous(Exception):
    """The request may or may not have been applied; `is_slow`: it may even still be under way.

    `is_busy`: the answer says "not now", maybe after `after_s` seconds; a gateway may say so of a
    request that it passed on.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_slow: bool = False,
        is_busy: bool = False,
        after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.is_slow = is_slow
        self.is_busy = is_busy
        self.after_s = after_s


# --- dispositions: what one response means


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


# --- what a provider declares


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and how long from when it was asked for it is good."""

    value: str
    lifetime_s: float


class TokenSource(Protocol):
    """Where to ask for a token that each request then carries."""

    request: HttpRequest

    def read(self, response: HttpResponse) -> Token:
        """The token of an answer; raises `ConfigError` where there is none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Defaults and bounds. `windows`: (requests, seconds), all at once, per table unless shared."""

    max_rows: int
    max_bytes: int
    hard_max_rows: int | None = None
    hard_max_bytes: int | None = None
    windows: tuple[tuple[int, float], ...] = ()
    shared_windows: bool = False
    read_timeout_s: float = 120.0
    max_parallel: int | None = None
    advised_rows: int | None = None  # what the vendor recommends at most; more is a warning
    advised_row_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RowRules:
    """How values are encoded for this vendor; `rows.py` compiles them into the stream's codec."""

    nulls: Literal["send", "omit"] = "send"
    timestamps: Literal["as_is", "date", "iso", "epoch_ms"] = "as_is"
    booleans: Literal["json", "string", "number"] = "json"
    decimals: Literal["number", "string"] = "number"
    required_column: str | None = None  # a row without a value there is rejected
    keyed: bool = False  # every write is an upsert by `required_column`
    deletes: bool = False  # rows can be deleted by key
    nested_json: bool = False  # a column may hold an object or an array


@dataclass(frozen=True, slots=True)
class Traits:
    """What the engine must know about a vendor's writes."""

    reads_back: bool = False  # `stored_rows` can tell what an ambiguous write did
    on_unknown: Literal["retry", "fail"] = "retry"  # when nothing can tell
    unknown_hint: str = ""  # which settings would have told
    imports: bool = False  # what is accepted is stored later, in no promised order


@dataclass(frozen=True, slots=True)
class Context:
    """What a write may rely on. `stored`: rows by the last count plus those accepted since.

    `alone`: no other batch of the table is under way. `others`: rows of other batches whose fate is
    unknown, of the same batch too. `repeated`: how often these rows may have been written before.
    """

    alone: bool = True
    stored: int | None = None
    others: int = 0
    repeated: int = 0
    replace: ReplacePlan | None = None


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
class ReadBack:
    """What a table tells about a write of unknown outcome.

    `stored`: the positions of the block that are in, None where that cannot be told. `total`: the
    rows that the table counted, where it did.
    """

    stored: set[int] | None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class RowFault:
    """A row the vendor rejected while it took others; `position` is that in the block."""

    position: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What one write did: `delivered` + `faults` + a receipt's rows account for the whole block."""

    delivered: int = 0
    faults: tuple[RowFault, ...] = ()
    receipt: Receipt | None = None


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


class Provider(Protocol):
    """One vendor. Sender threads share an instance; it keeps no state that a sync depends on."""

    name: ClassVar[str]
    title: ClassVar[str]
    spec: ClassVar[JsonObject]
    address_setting: ClassVar[str]
    base_url: str
    limits: Limits
    rules: RowRules
    traits: Traits
    query: str  # of the credential: encoded, added to the path of each attempt, secret
    tokens: TokenSource | None

    def headers(self, now: float) -> Mapping[str, str]:
        """Authentication for one attempt at Unix time `now`."""

    def classify(self, request: HttpRequest, response: HttpResponse) -> Disposition:
        """What this response to this request means."""

    def check(self, tables: Sequence[str]) -> Flow[None]:
        """Try the credential without writing; raise what is wrong."""

    def validate(self, table: Table) -> None:
        """Raise `ConfigError` when the vendor cannot take this table's mode and columns."""

    def warnings(self, table: Table) -> list[str]:
        """What an operator should know about this table before the first row."""

    def columns(self, table: str) -> Flow[Mapping[str, ColumnKind | None] | None]:
        """The table's own columns and what they hold; None where the vendor does not say."""

    def body_size(self, table: Table) -> int:
        """Bytes of a request body beyond its rows and the commas between them."""

    def prepare(self, table: Table) -> Flow[int | None]:
        """Before the first append, or a replace: the table's rows, None where none can know."""

    def write(self, table: Table, block: RowBlock, context: Context) -> Flow[WriteReport]:
        """Write the block in one step."""

    def examine(self, table: Table) -> Flow[bool | None]:
        """After a refusal: True when the table is fine, None: unknown; raises when it is not."""

    def repeats_safely(self, table: Table) -> bool:
        """Whether a whole write may be repeated without doubling rows."""

    def refusals_store_nothing(self, table: Table) -> bool:
        """Whether a refused request is known to have stored none of its rows."""

    def stored_rows(self, table: Table, block: RowBlock, context: Context) -> Flow[ReadBack]:
        """Read back which positions of the block are in the table."""

    def verify(self, unverified: Unverified) -> Flow[Verdict | None]:
        """Ask whether background work is done; None: not yet."""

    def verify_timeout_s(self, unverified: Unverified) -> float:
        """How long after the last acceptance the background work may take."""

    def replace_begin(self, table: Table, load: Load) -> Flow[ReplacePlan]:
        """Before a staged load is sent."""

    def replace_end(self, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:
        """After each row of a staged load is delivered."""


class ProviderType(Protocol):
    """An option of the config form: a provider's class, or a preset."""

    @property
    def name(self) -> str: ...

    @property
    def spec(self) -> JsonObject: ...

    @property
    def address_setting(self) -> str:
        """Where, below `provider`, the address is set."""

    def asked_as(self, _: str) -> str | None:
        """The field in which the form asks for a setting that it does not have by this name."""

    def from_config(self, section: JsonObject) -> Provider:
        """Make the provider from its validated part of the config."""


class Base:
    """Answers of a vendor that needs nothing special; providers override what differs."""

    query: str = ""
    tokens: TokenSource | None = None

    @staticmethod
    def asked_as(_: str) -> str | None:
        return None

    def columns(self, table: str) -> Flow[Mapping[str, ColumnKind | None] | None]:
        yield from ()
        return None

    def warnings(self, table: Table) -> list[str]:
        return []

    def prepare(self, table: Table) -> Flow[int | None]:
        yield from ()
        return None

    def examine(self, table: Table) -> Flow[bool | None]:
        yield from ()
        return True

    def repeats_safely(self, table: Table) -> bool:
        return True

    def refusals_store_nothing(self, table: Table) -> bool:
        return True

    def stored_rows(self, table: Table, block: RowBlock, context: Context) -> Flow[ReadBack]:
        yield from ()
        return ReadBack(None)

    def verify(self, unverified: Unverified) -> Flow[Verdict | None]:
        yield from ()
        return Verdict()

    def verify_timeout_s(self, unverified: Unverified) -> float:
        return 0.0

    def replace_end(self, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:
        yield from ()


def credential(text: str, setting: str) -> str:
    """Strip a credential; raises `ConfigError` when it cannot be sent as a header."""
    text = text.strip()
    if not (text.isascii() and text.isprintable()):
        message = f"{setting} holds characters that no credential has. Copy it again, in one line."
        raise ConfigError(message)
    return text


def segment(text: str, what: str = "a table name (tables[].table)") -> str:
    """Encode text as one segment of a URL path; `ConfigError` for one that leaves its place."""
    if text in {"", ".", ".."}:  # whatever is between makes another path of it
        message = f"{text!r} cannot be {what}: in an address it stands for another place."
        raise ConfigError(message)
    return quote(text, safe="")
