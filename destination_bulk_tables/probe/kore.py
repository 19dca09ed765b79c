"""Kore.ai: rights, filters, partial refusals, unknown columns, limits."""

from __future__ import annotations

from collections.abc import Callable

from destination_bulk_tables.http import segment
from destination_bulk_tables.probe.session import OK, ROW_PREFIX, Probe, say

_SENT_BESIDE_BAD = 3
_LONG_FILTER = 1000  # as long as a sync's longest delete


def probe_kore(probe: Probe, prefix: str) -> None:
    """Rights, filters, partial refusals, unknown columns, limits; deletes the rows it inserted."""
    path = f"/{prefix.strip('/')}/tables/{segment(probe.table)}"
    mine = {"field": probe.text_column, "operand": "=", "value": ROW_PREFIX}
    every = {"field": "sys_Id", "operand": "!=", "value": ""}

    def row(**members: object) -> dict[str, object]:
        return {probe.text_column: ROW_PREFIX, probe.number_column: 1, **members}

    def total(*expressions: dict[str, str]) -> int | None:
        query = {"query": {"expressions": expressions, "operator": "or"}}
        status, answer = probe.send("POST", f"{path}/query?sys_limit=1&sys_offset=0", query)
        return answer.get("total") if status == OK and isinstance(answer, dict) else None

    probe.step("Read", writes=False)
    before = total(every)
    probe.learn("rows in the table", "unknown: no Read right?" if before is None else str(before))
    earlier = total(mine) or 0
    if earlier:
        probe.learn("of them from a probe that was stopped", str(earlier))
    status, _ = probe.send("POST", f"{path}/query?sys_limit=200", {"query": {}})
    probe.learn("a query for 200 rows is answered", str(status))
    status, _ = probe.send("POST", f"{path}/query?sys_limit=1", {"query": {}}, now=1.0)
    probe.learn("an expired token is answered", str(status))
    probe.warn(
        f"This run inserts a handful of rows into Kore.ai table {probe.table} and deletes them by "
        f"a filter on column {probe.text_column}. Should Kore.ai read that filter in another way "
        "than documented, OTHER ROWS of the table are deleted too."
    )
    probe.step("Insert one row", writes=True)
    status, answer = probe.send("POST", f"{path}/bulk", {"data": [row()]})
    records = answer.get("records") if isinstance(answer, dict) else None
    probe.learn("an insert of one row is answered", f"{status}, {len(records or [])} record(s)")
    if status != OK:
        say("   The row was not inserted: check the Write right and the column names.")
        return
    probe.learn("the row is found by its text", str(total(mine) == earlier + 1))
    _judge_long_filters(probe, mine, total)
    probe.step("One good and one bad row", writes=True)
    known = total(every)
    bad = row(**{probe.number_column: "not a number"})
    status, _ = probe.send("POST", f"{path}/bulk", {"data": [row(), bad, row()]})
    after = total(every)
    stored = None if after is None or known is None else after - known
    _judge_partial(probe, stored, status)
    probe.step("An unknown column", writes=True)
    status, _ = probe.send("POST", f"{path}/bulk", {"data": [row(airbyte_no_such_column=1)]})
    probe.learn("an unknown column is answered", str(status))
    if status == OK:
        probe.settings.append(
            "Unknown columns are dropped here without a word: compare the names in "
            "tables[].columns with the table's."
        )
    probe.step("Delete the rows of this probe", writes=True)
    query = {"query": {"expressions": [mine], "operator": "and"}}
    status, answer = probe.send("DELETE", path, query)
    deleted = answer.get("nDeleted") if isinstance(answer, dict) else None
    probe.learn("a delete by filter is answered", f"{status}, nDeleted {deleted}")
    left = total(every)
    if left is None or before is None:
        return  # that it cannot be counted is told
    if left == before - earlier:
        probe.settings.append(
            "Delete works: append + deduped and replace_strategy 'insert_then_delete' can be used."
        )
    else:
        probe.settings.append(
            "Rows are left: give the app the Delete right, or use plain append only."
        )


def _judge_partial(probe: Probe, stored: int | None, status: int) -> None:
    """What of a good, a bad and another good row is in the table."""
    meaning = {
        None: "unknown: the table cannot be counted",
        0: "nothing: a refused batch stores no row",
        1: "the row before the bad one",
        2: "each row but the bad one",
        3: "each of them: a text in a number column is taken",
    }
    told = meaning.get(stored, f"{stored} rows: somebody else writes to the table")
    probe.learn("of good, bad, good is stored", f"{told} (status {status})")
    if stored is None:
        probe.settings.append("Give the app the Read right: without it no write can be verified.")
    elif stored == _SENT_BESIDE_BAD and status == OK:
        probe.ask_for_number_column()
    elif stored:
        probe.settings.append(
            "Refused batches store rows here: keep the Read right, with it the connector finds out "
            "which, and kore_after_lost_answer 'verify_then_retry' holds."
        )


def _judge_long_filters(
    probe: Probe, mine: dict[str, str], total: Callable[..., int | None]
) -> None:
    """Whether the last of many expressions counts, and none of them matches what it should not."""
    others = [{**mine, "value": f"{ROW_PREFIX}-{i}"} for i in range(_LONG_FILTER)]
    held = total(mine)
    is_read = held is not None and (total(*others), total(*others[1:], mine)) == (0, held) != (0, 0)
    probe.learn(f"a filter of {_LONG_FILTER} expressions is read", "whole" if is_read else "not")
    if not is_read:
        probe.settings.append(
            "append + deduped and replacing delete 100 keys per request here, not 1,000: allow ten "
            "times the requests under the rate limit."
        )
