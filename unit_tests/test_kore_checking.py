"""Kore.ai: what is wrong is found before the first row."""

from __future__ import annotations

from typing import Any

import pytest

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import Refused
from destination_bulk_tables.model import Table
from unit_tests.fakes import play, status
from unit_tests.syncs import DEALS, kore
from unit_tests.vendors import answer_of


def test_the_check_queries_each_table() -> None:
    """One row each; it needs the right to read and changes nothing."""
    page = answer_of(200, {"queryResult": [], "total": 0})
    _, requests = play(kore().check(["a", "b c"]), page, page)
    assert [r.path.partition("?")[0] for r in requests] == [
        "/api/public/tables/a/query",
        "/api/public/tables/b%20c/query",
    ]


@pytest.mark.parametrize(
    ("tables", "answers", "words"),
    [
        (["a"], [Refused("http_401", ""), Refused("http_401", "")], "token"),
        (["a"], [Refused("http_401", ""), Refused("http_400", "It says: no.")], "right to Read"),
        (["a"], [Refused("http_403", ""), Refused("http_404", "It says: no.")], "right to Read"),
        (["a"], [Refused("http_400", "")], "table's name"),
        ([], [Refused("http_401", "")], "token"),
        ([], [Refused("http_404", "")], "host and api_path_prefix"),
        ([], [status(200, b"<html>")], "host and api_path_prefix"),
        ([], [status(200, b"{}")], "host and api_path_prefix"),
    ],
)
def test_the_check_says_what_is_wrong(tables: list[str], answers: list[Any], words: str) -> None:
    """A bad token, a missing right and an unknown table are told apart."""
    with pytest.raises(ConfigError, match=words):
        play(kore().check(tables), *answers)


def test_the_check_without_tables_accepts_a_good_token() -> None:
    """A table that cannot exist is refused with anything but 401."""
    play(kore().check([]), Refused("http_400", "It says: no such table."))


@pytest.mark.parametrize("column", ["sys_Id", "_id", "Created_On", "Updated_By"])
def test_system_columns_are_refused(column: str) -> None:
    """Kore.ai fills them itself."""
    with pytest.raises(ConfigError, match=column):
        kore().validate(Table("t", DEALS, "append", columns=("id", column)))


def test_reserved_words_and_many_columns_are_warned_of() -> None:
    """The vendor's page advises against both; neither stops a sync."""
    assert kore().warnings(Table("t", DEALS, "append", columns=("id", "name"))) == []
    [warning] = kore().warnings(Table("t", DEALS, "append", columns=("id", "Date", "size")))
    assert "Date,size" in warning
    columns = tuple(f"c{i}" for i in range(21))
    [warning] = kore().warnings(Table("t", DEALS, "append", columns=columns))
    assert "21" in warning
