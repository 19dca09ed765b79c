"""What the fields of a stream's first records tell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import StreamKey
from destination_bulk_tables.sample import FieldSample
from unit_tests.syncs import catalog_of, complete, records, state, sync

DEALS = StreamKey(None, "deals")


def sample(*, is_open: bool = False) -> FieldSample:
    """A stream that sends two fields and has one that is left out on purpose."""
    return FieldSample(DEALS, ["Account ID", "name"], ["left out"], is_open=is_open)


def raws(*records: str) -> list[Raw]:
    return [Raw(record.encode()) for record in records]


@pytest.mark.parametrize(
    "found",
    [
        ['{"account_id":"secret","NAME":"secret"}'],
        ["{}", '{"x":"secret"}'],
        ['{"left out":"secret"}'],
        ["5", '{"x":1}', '{"y":2}'],
    ],
)
def test_records_without_a_declared_field_are_another_streams(found: list[str]) -> None:
    """Each column would become null; the message names both sides and no value."""
    with pytest.raises(ConfigError, match=r"Sent are: Account ID, name\.") as caught:
        sample().look(raws(*found))
    assert caught.value.stream == DEALS
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "found", [["{}"], ['{"name":null}'], ["5", "[]"], ['{"x":1}', '{"name":1}'], []]
)
def test_records_that_may_be_right_pass(found: list[str]) -> None:
    """A source may leave each null out, so an empty record tells nothing."""
    sample().look(raws(*found))


def test_the_cache_of_pyairbyte_is_recognised() -> None:
    """Also where its plain names are those of the schema; a declared field is the source's own."""
    row = '{"name":"x","_airbyte_raw_id":"1","_airbyte_extracted_at":"t","_airbyte_meta":{}}'
    with pytest.raises(ConfigError, match="cache=False"):
        sample().look(raws(row))
    declared = FieldSample(DEALS, ["name", "_airbyte_raw_id"], [], is_open=False)
    declared.look(raws(row))


def undeclared(caplog: pytest.LogCaptureFixture) -> Sequence[str]:
    return [record.getMessage() for record in caplog.records if "undeclared" in record.msg]


def test_undeclared_fields_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each once, and not those that are left out on purpose."""
    looked = sample()
    with caplog.at_level(logging.WARNING):
        looked.look(raws('{"name":"secret","b":1,"left out":2}'))
        looked.look(raws('{"name":1,"b":2,"a":3}', '{"name":1,"c":3}'))
        sample(is_open=True).look(raws('{"name":1,"x":2}'))
    assert undeclared(caplog) == [
        f"undeclared_fields stream=deals fields={names} effect=not_sent" for names in ("b", "a, c")
    ]


def test_looking_ends() -> None:
    """After the first records a stream costs nothing more."""
    looked = sample()
    looked.look(raws(*['{"name":1}'] * 99, "{}"))
    assert not looked.is_done
    looked.look(raws('{"name":1}', '{"x":1}'))
    assert looked.is_done


@pytest.mark.parametrize(
    ("later", "is_strange"),
    [
        (['{"Account Name":"secret","b":1}'], True),
        (["{}", '{"Name":"secret"}', "5"], True),
        (['{"Name":1}', '{"name":null}'], False),
        (["{}", "{}"], False),
        (['{"left out":1}', '{"seen":2}'], False),
    ],
)
def test_fields_that_are_renamed_later_are_seen(later: list[str], is_strange: bool) -> None:  # noqa: FBT001
    """A run without a value holds fields that nobody has seen, and none that is sent."""
    looked = sample()
    looked.look(raws('{"name":1,"seen":2}'))
    if not is_strange:
        looked.look_at_blank(raws(*later))
        return
    with pytest.raises(ConfigError, match="from some record on") as caught:
        looked.look_at_blank(raws(*later))
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_stream_whose_fields_are_renamed_midway_ends_the_sync(mode: Any) -> None:
    """What came before is right; no row of nulls is written, nor a table replaced."""
    good = [{"id": f"d{i}", "name": "x"} for i in range(120)]
    strange = [{"ID": f"e{i}", "Name": "x"} for i in range(3)]
    script: list[Any] = [records(good), state(1), records(strange), state(2), complete()]
    done = sync("kore", mode, script, catalog=catalog_of(mode))
    done.vendor.put([{"id": "old"}])
    done.run()
    assert isinstance(done.error, ConfigError)
    assert "Name" in done.error.message
    assert 2 not in done.acknowledged
    assert all(row.get("id") for row in done.vendor.rows())
    assert mode == "append" or [row["id"] for row in done.vendor.rows()] == ["old"]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_stream_of_unknown_fields_reaches_no_table(mode: str) -> None:
    """The sync ends before a row is sent, and a table to replace stays."""
    rows = [{"Id": "d1", "Name": "x"}]
    done = sync("kore", mode, [records(rows), state(1), complete()], catalog=catalog_of(mode))  # type: ignore[arg-type]
    done.vendor.put([{"id": "old"}])
    done.run()
    assert isinstance(done.error, ConfigError)
    assert done.acknowledged == []
    assert [row["id"] for row in done.vendor.rows()] == ["old"]
