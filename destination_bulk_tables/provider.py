"""What a provider is: it turns rows into HTTP requests and responses into facts. It does no I/O.

Read this first to add one: `Provider` lists what it must give, in the order in which the engine
asks; a verb with a body answers for a vendor that needs nothing special. Most verbs are flows
(`http.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from destination_bulk_tables.dispositions import Disposition
from destination_bulk_tables.errors import SettingError
from destination_bulk_tables.http import Flow, HttpRequest, HttpResponse
from destination_bulk_tables.model import JsonObject, RowBlock, Table
from destination_bulk_tables.outcomes import (
    Context,
    Load,
    Outcome,
    ReadBack,
    ReplacePlan,
    Unverified,
    Verdict,
    WriteReport,
)

_SCHEME = re.compile(r"^bearer\s+", re.IGNORECASE)

ColumnKind = Literal["text", "number", "date", "boolean"]


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
    follows: bool = False  # each accepted request is a job, of which `verify` tells the `Outcome`
    slow_hint: str = ""  # what to do where background work does not end in time


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


class Provider(Protocol):
    """One vendor. Sender threads share an instance; it keeps no state that a sync depends on.

    The flows of `check`, `columns`, `write` and `stored_rows` may let `Refused`, `TooLarge` and
    `Ambiguous` pass; those of the other verbs handle them: there they end a sync as our own error.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    spec: ClassVar[JsonObject]
    address_setting: ClassVar[str]
    base_url: str
    limits: Limits
    rules: RowRules
    traits: Traits
    query: str = ""  # of the credential: encoded, added to the path of each attempt, secret
    tokens: TokenSource | None = None

    @staticmethod
    def asked_as(_: str) -> str | None:
        """As of `ProviderType`; these two are for forms that ask for another's settings."""
        return None

    @staticmethod
    def is_decided(_: str) -> bool:
        return False

    def headers(self, now: float) -> Mapping[str, str]:
        """Authentication for one attempt at Unix time `now`."""

    def classify(self, request: HttpRequest, response: HttpResponse) -> Disposition:
        """What this response to this request means."""

    def job_of(self, request: HttpRequest, response: HttpResponse) -> str | None:
        """The vendor's name of the background work that a request began or asked about."""
        return None

    def check(self, tables: Sequence[str]) -> Flow[None]:
        """Try the credential without writing; raise what is wrong."""

    def validate(self, table: Table) -> None:
        """Raise `ConfigError` when the vendor cannot take this table's mode and columns."""

    def warnings(self, table: Table) -> list[str]:
        """What an operator should know about this table before the first row."""
        return []

    def columns(self, table: str) -> Flow[Mapping[str, ColumnKind | None] | None]:
        """The table's own columns and what they hold; None where the vendor does not say."""
        yield from ()
        return None

    def body_size(self, table: Table) -> int:
        """Bytes of a request body beyond its rows and the commas between them."""

    def prepare(self, table: Table) -> Flow[int | None]:
        """Before the first append, or a replace: the table's rows, None where none can know."""
        yield from ()
        return None

    def write(self, table: Table, block: RowBlock, context: Context) -> Flow[WriteReport]:
        """Write the block in one step."""

    def examine(self, table: Table) -> Flow[bool | None]:
        """After a refusal: True when the table is fine, None: unknown; raises when it is not."""
        yield from ()
        return True

    def repeats_safely(self, table: Table) -> bool:
        """Whether a whole write may be repeated without doubling rows."""
        return True

    def refusals_store_nothing(self, table: Table) -> bool:
        """Whether a refused request is known to have stored none of its rows."""
        return True

    def stored_rows(
        self, table: Table, blocks: Sequence[RowBlock], context: Context
    ) -> Flow[ReadBack]:
        """Read back which rows are in; `blocks` are all of which that is not known."""
        yield from ()
        return ReadBack(None)

    def verify(self, unverified: Unverified) -> Flow[Verdict | Outcome | None]:
        """Ask whether background work is done; None: not yet. May raise `Mingled`."""
        yield from ()
        return Verdict()

    def verify_timeout_s(self, unverified: Unverified) -> float:
        """How long after the last acceptance the background work may take."""
        return 0.0

    def replace_begin(self, table: Table, load: Load) -> Flow[ReplacePlan]:
        """Before a staged load is sent."""

    def replace_end(self, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:
        """After each row of a staged load is delivered."""
        yield from ()

    def copies(self, table: Table, block: RowBlock) -> Flow[Sequence[int] | None]:
        """How often the table holds each of these rows, by key where it keeps one of each.

        Asked where a replace that failed leaves its rows beside the old ones; None where none does,
        or nothing tells.
        """
        yield from ()
        return None


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

    def is_decided(self, _: str) -> bool:
        """Whether it has decided a setting of which its form has no field."""

    def from_config(self, section: JsonObject) -> Provider:
        """Make the provider from its validated part of the config."""


def credential(text: str, setting: str) -> str:
    """A token as it is sent; raises `SettingError` when no header can hold it.

    It may have been copied from a header, with the word before it; no token holds a blank.
    """
    text = _SCHEME.sub("", text.strip(), count=1)
    if not (text.isascii() and text.isprintable()):
        what = "holds characters that no credential has: copy it again, in one line"
        raise SettingError(f"provider.{setting}", what)
    if not text:
        raise SettingError(f"provider.{setting}", "is empty")
    return text
