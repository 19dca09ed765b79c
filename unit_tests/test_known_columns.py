"""What is sent is compared with the columns that a table is known to have."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from destination_bulk_tables.catalog import plan_streams
from destination_bulk_tables.columns import Column
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.known_columns import _kinds, compare_columns, lacking_columns
from destination_bulk_tables.provider import RowRules
from unit_tests.syncs import Sync, sync
from unit_tests.vendors import KoreVendor, Row

ALL = {"id": "string", "name": "string", "amount": "number", "version": "number"}


def compared(columns: dict[str, str], *, is_strict: bool, **vendor: Any) -> Sync:
    """Compare a stream's columns with those of a table."""
    named: list[Row] = [{"name": name, "type": kind} for name, kind in columns.items()]
    named.append({"name": "Created_On", "type": "date"})
    done = sync("kore", "append", [], vendor=KoreVendor(columns=named, **vendor))
    plans = plan_streams(done.catalog, done._config())
    compare_columns(plans.values(), done.provider, done.sender.exchange, is_strict=is_strict)
    return done


@pytest.mark.parametrize("columns", [ALL, {}])
def test_columns_that_are_there_or_unknown_say_nothing(
    columns: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """One query; an answer that names only the vendor's own columns tells nothing."""
    done = compared(columns, is_strict=True)
    assert (len(done.transport.sent), caplog.text) == (1, "")


def test_a_column_that_the_table_lacks_is_an_error_with_the_nearest_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Under policy skip a warning; the message names the table and where to correct it."""
    columns = {"id": "string", "Name": "string", "amuont": "number", "version": "number"}
    with pytest.raises(ConfigError) as caught:
        compared(columns, is_strict=True)
    expected = "Table deals has no column 'name' (but 'Name'), 'amount' (but 'amuont'). "
    assert caught.value.message.startswith(expected)
    assert "tables[].rename" in caught.value.message
    compared(columns, is_strict=False)
    assert expected in caplog.text


def test_a_column_of_another_type_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """What the vendor does with it is its own affair; types it does not name are passed over."""
    compared({**ALL, "amount": "string", "version": "oid"}, is_strict=True)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("column_type table=deals column=amount sent=date/number held=text ")


def test_without_the_right_to_read_a_sync_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is known then, and nothing compared."""
    compared({"x": "string"}, is_strict=True, reads=False)
    assert "column" not in caplog.text


def test_the_question_ends_with_the_sync_and_soon() -> None:
    """An exchange in brief has the limits of the other and a patience of its own."""
    stop = threading.Event()
    whole = sync("kore", "append", []).sender.exchange
    brief = whole.in_brief(stop, 1.0)
    assert (brief._halt, brief.max_elapsed_s) == (stop, 1.0)
    assert brief._limiters is whole._limiters
    assert whole.max_elapsed_s != 1.0


@pytest.mark.parametrize(
    ("column", "rules", "kinds"),
    [
        (Column("a", "a", is_text=True), RowRules(), {"text", "date"}),
        (Column("a", "a", is_integer=True), RowRules(), {"number", "date"}),
        (Column("a", "a", is_number=True), RowRules(decimals="string"), {"text"}),
        (Column("a", "a", is_boolean=True), RowRules(), {"boolean"}),
        (Column("a", "a", is_boolean=True), RowRules(booleans="string"), {"text"}),
        (Column("a", "a", is_timestamp=True), RowRules(timestamps="epoch_ms"), {"number", "date"}),
        (Column("a", "a", is_timestamp=True), RowRules(timestamps="iso"), {"text", "date"}),
        (Column("a", "a", is_integer=True, mask="hash"), RowRules(), {"text"}),
        (Column("a", "a"), RowRules(), set()),
    ],
)
def test_what_a_column_may_be_sent_to(column: Column, rules: RowRules, kinds: set[str]) -> None:
    """By what becomes of its values on the way."""
    assert _kinds(column, rules) == kinds


def test_many_lacking_columns_are_not_all_named() -> None:
    """The message stays readable."""
    told = lacking_columns("t", [f"c{i}" for i in range(25)], {"zzz": None})
    assert told is not None
    assert "and 5 more" in told
    assert "'c20'" not in told
