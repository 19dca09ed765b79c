"""One Kore.ai account behind the provider interface: each verb, in the module it is read in."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import Flow, Refused
from destination_bulk_tables.model import JsonObject, RowBlock, Table
from destination_bulk_tables.outcomes import Context, Load, ReadBack, ReplacePlan, WriteReport
from destination_bulk_tables.provider import ColumnKind, Limits, Provider, RowRules, Traits
from destination_bulk_tables.providers.kore import (
    answers,
    checking,
    reading_back,
    replacing,
    writing,
)
from destination_bulk_tables.providers.kore.calls import Calls
from destination_bulk_tables.providers.kore.deleting import Deletes
from destination_bulk_tables.providers.kore.form import FORM
from destination_bulk_tables.providers.kore.tokens import token_maker

log = logging.getLogger(__name__)


class Kore(Provider):
    name = "kore"
    title = answers.TITLE
    spec = FORM
    address_setting = "host"
    # Source: https://koreai.mintlify.app/ai-for-service/apis/automation/rate-limit
    # (read 2026-11-22)
    limits = Limits(
        max_rows=1000,
        max_bytes=5_000_000,
        hard_max_bytes=50_000_000,
        windows=((600, 60.0), (18_000, 3600.0)),
        advised_rows=10_000,
        advised_row_bytes=100_000,
    )

    def __init__(self, section: JsonObject) -> None:
        """Raises `ConfigError` if the key cannot sign or the token is over."""
        self.base_url = section["host"].strip()
        self.rules = RowRules(
            nulls="omit",
            timestamps=section.get("timestamp_format", "iso"),
            booleans=section.get("boolean_format", "string"),
            deletes=True,
        )
        is_strict = section.get("on_ambiguous_write") == "fail"
        self.traits = Traits(reads_back=True, on_unknown="fail" if is_strict else "retry")
        self._token = token_maker(section["authentication"])
        self._replace_strategy = section.get("replace_strategy", "insert_then_delete")
        self._calls = Calls(section.get("api_path_prefix", "/api/public"))
        self._deletes = Deletes(self._calls)

    @classmethod
    def from_config(cls, section: JsonObject) -> Kore:
        return cls(section)

    def headers(self, now: float) -> Mapping[str, str]:
        return {"auth": self._token(now)}

    classify = staticmethod(answers.classify)

    # --- before the first row

    def check(self, tables: Sequence[str]) -> Flow[None]:
        return checking.check(self._calls, tables)

    validate = staticmethod(checking.validate)
    warnings = staticmethod(checking.warnings)

    def columns(self, table: str) -> Flow[Mapping[str, ColumnKind | None] | None]:
        return checking.columns(self._calls, table)

    def prepare(self, table: Table) -> Flow[int | None]:
        try:
            return (yield from self._calls.total(table.name))
        except Refused as refused:
            if refused.code in answers.NO_READ:
                log.warning("table_not_readable table=%s needs=read_right", table.name)
            return None

    # --- writing

    def body_size(self, table: Table) -> int:  # noqa: ARG002 - the same for all
        return len(b'{"data":[]}')

    def write(self, table: Table, block: RowBlock, context: Context) -> Flow[WriteReport]:
        return writing.write(self._calls, self._deletes, table, block, context)

    repeats_safely = refusals_store_nothing = staticmethod(writing.repeats_safely)

    def examine(self, table: Table) -> Flow[bool | None]:
        try:
            yield from self._calls.total(table.name)
        except Refused as refused:
            if refused.code in answers.NO_READ:
                return None
            raise ConfigError(answers.no_table(table.name, refused)) from None
        return True

    def stored_rows(
        self, table: Table, blocks: Sequence[RowBlock], context: Context
    ) -> Flow[ReadBack]:
        return reading_back.stored_rows(self._calls, table, blocks, context)

    # --- replacing

    def replace_begin(self, table: Table, load: Load) -> Flow[ReplacePlan]:  # noqa: ARG002
        return replacing.begin(self._calls, table, self._replace_strategy)

    def replace_end(self, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:
        return replacing.end(self._calls, self._deletes, table, plan, delivered)

    def copies(self, table: Table, block: RowBlock) -> Flow[Sequence[int] | None]:
        return reading_back.copies(self._calls, table, block)
