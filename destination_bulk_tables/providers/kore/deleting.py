"""Deletes by key and by id that prove themselves.

Not documented: a limit of rows per request, how long a filter may be, and whether what is beyond
that is refused or not read. So a delete is repeated until nothing is left to count, and a long one
is asked as a query first.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from itertools import count

import msgspec

from destination_bulk_tables.errors import ConfigError, UnaccountedRows
from destination_bulk_tables.http import Ambiguous, Flow, Refused, TooLarge, cause_of
from destination_bulk_tables.keys import key_of, key_tokens
from destination_bulk_tables.model import Key, Table
from destination_bulk_tables.providers.kore.answers import NO_READ, deleted_rows, ids_of
from destination_bulk_tables.providers.kore.calls import SHORT_FILTER, Calls
from destination_bulk_tables.providers.kore.filters import (
    EVERY_ROW,
    any_of,
    key_filter,
    long_filter,
    null_columns,
)

log = logging.getLogger(__name__)

_MOST_KEYS = 1000  # per delete, where the table shows that it reads a filter of this length
_CUT = "a delete does not read a long filter to its end"
_NULL = b"null"
_MOST_DELETES = 100  # by the same filter, before its rows are counted
_MOST_UNREAD = 3  # answers to deletes by the same filter that do not tell how many rows went


class Deletes:
    """The deletes of one account, with what is known of each table's filters."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._most_deleted = 1  # by one request; known, it saves the request that finds nothing
        self._keys_per_delete: dict[str, int] = {}  # by the table's name, once it is known
        self._read_whole: set[str] = set()  # tables where a delete read a long filter to its end
        self._null_found: set[tuple[str, tuple[str, ...]]] = set()  # table, columns of its key

    def delete_keys(self, table: Table, keys: Sequence[Key]) -> Flow[bool]:
        """Delete the rows with these keys; True when a request may be applied late."""
        is_composite = len(table.key_columns) > 1
        if is_composite:
            yield from self._delete_two(table, keys[:2])
        size = 1 if is_composite else (yield from self.size(table, len(keys)))
        in_doubt = False
        done = 0
        while done < len(keys):
            # fewer rows than some delete took are known to be all, without asking once more
            width = size - 1 if 1 < size == self._most_deleted else size
            group = keys[done : done + width]
            try:
                is_resent = yield from self._delete_group(table, group)
            except (Refused, TooLarge, Ambiguous) as error:
                if is_composite and isinstance(error, Refused):
                    _require_no_null(table, group[0], error)
                if len(group) <= SHORT_FILTER:
                    raise
                size = self.take_fewer(table, cause_of(error))
                in_doubt = in_doubt or isinstance(error, Ambiguous)
            else:
                in_doubt = in_doubt or is_resent
                done += len(group)
        return in_doubt

    def _delete_two(self, table: Table, keys: Sequence[Key]) -> Flow[None]:
        """Delete a row of each key at once, if there are two: a delete can then take more than one.

        Keys of several columns take a delete each. As long as none took two rows, each would need
        another request to see that nothing is left.
        """
        if self._most_deleted > 1 or len(keys) < 2:
            return
        ids: list[str] = []
        with contextlib.suppress(Refused, msgspec.DecodeError):
            for key in keys:
                ids += ids_of(
                    (yield from self._calls.query(table.name, key_filter(table, [key]), 1))
                )
            if len(ids) == len(keys):
                doomed = any_of("sys_Id", map(msgspec.json.encode, ids))
                response = yield self._calls.delete(table.name, doomed, len(ids))
                self._most_deleted = max(self._most_deleted, deleted_rows(response) or 0)

    def _delete_group(self, table: Table, keys: Sequence[Key]) -> Flow[bool]:
        """Delete by one filter; True when a request may have been applied twice.

        It is done when it finds nothing, or fewer rows than some request did: no limit stopped it;
        an answer that cannot be read tells neither. Until a delete has read a long filter to its
        end, the rows are counted before.
        """
        expected, is_telling = None, False
        if len(keys) > SHORT_FILTER and table.name not in self._read_whole:
            keys, expected, is_telling = yield from self._count_keys(table, keys)
        filter_ = key_filter(table, keys)
        request = self._calls.delete(table.name, filter_, len(keys))
        is_resent = False
        gone = unread = 0
        left: float = float("inf")
        for n_deletes in count(1):
            response = yield request
            is_resent = is_resent or response.resent > 0
            deleted, most = deleted_rows(response), self._most_deleted
            if deleted is None:
                unread += 1
                if unread == _MOST_UNREAD:
                    raise Ambiguous("the answers to deletes do not tell how many rows were deleted")
                continue
            self._most_deleted = max(deleted, most)
            gone += deleted
            if deleted < most or (expected is not None and gone >= expected):
                break
            if n_deletes % _MOST_DELETES == 0:
                left = yield from self._require_fewer(table, filter_, left)
        # an insert that was given up may still have put a row of each key there
        if expected is not None and gone > expected + len(keys):
            raise UnaccountedRows(
                f"A delete at table {table.name} took {gone} rows where its filter found "
                f"{expected}. Something else may write to the table; if not, look for rows that "
                "are gone."
            )
        if expected is not None and gone < expected:
            raise Refused(f"deleted_{gone}_of_{expected}_rows", _CUT)
        if is_telling:
            self._read_whole.add(table.name)
        return is_resent

    def _require_fewer(self, table: Table, filter_: bytes, before: float) -> Flow[int]:
        """Raise when deletes count rows that stay; how many rows the filter finds."""
        total = (yield from self._calls.query(table.name, filter_, limit=1)).found
        if total >= before:
            raise UnaccountedRows(
                f"Kore.ai counts rows of table {table.name} as deleted that stay there."
            )
        return total

    def require_null_found(self, table: Table, keys: Sequence[Key]) -> Flow[None]:
        """Raise unless rows just inserted are found by an empty part of their key.

        Not documented: whether a filter finds null. It is asked once per table and set of columns.
        """
        if len(table.key_columns) == 1:
            return
        for key in keys:
            columns = null_columns(table, key) if _NULL in key_tokens(key) else ()
            known = (table.name, columns)
            if not columns or known in self._null_found:
                continue
            try:
                found = yield from self._calls.query(table.name, key_filter(table, [key]), limit=1)
            except Refused as refused:
                if refused.code in NO_READ:
                    return
                _require_no_null(table, key, refused)
                raise
            if not found.queryResult:
                _require_no_null(table, key, None)
            self._null_found.add(known)

    def _count_keys(
        self, table: Table, keys: Sequence[Key]
    ) -> Flow[tuple[Sequence[Key], int, bool]]:
        """The keys with one that is in the table put last, the rows they have, whether one is."""
        filter_ = key_filter(table, keys)
        try:
            found = yield from self._calls.query(table.name, filter_, limit=1, repeat="once")
        except Ambiguous as error:  # no delete that may be applied late
            raise Refused("no_answer", str(error)) from None
        if found.total is None:
            raise Refused("no_total", "the answer does not count the rows")
        with contextlib.suppress(msgspec.DecodeError, IndexError, KeyError):
            row = msgspec.json.decode(found.queryResult[0], type=dict[str, msgspec.Raw])
            known = key_of([bytes(row[table.key_columns[0]])])
            if known in keys:
                return [*(key for key in keys if key != known), known], found.total, True
        return keys, found.total, False

    def size(self, table: Table, n_keys: int) -> Flow[int]:
        """How many of `n_keys` keys one delete may hold; asked of each table until it is known.

        Expressions beyond a limit may be ignored, so that old rows would stay, or void the filter,
        so that every row would go. So a query as long as the longest delete must find the two rows
        that its first and last expressions name, and no third. A delete is taken to match no row
        that a query by the same filter does not.
        """
        if n_keys <= SHORT_FILTER:
            return SHORT_FILTER
        known = self._keys_per_delete.get(table.name)
        if known is not None:
            return known
        try:
            some = yield from self._calls.query(table.name, EVERY_ROW, limit=2)
            if len(some.queryResult) < 2 or (some.total is not None and some.total < 3):
                return SHORT_FILTER  # too few rows to tell; there may be more by the next batch
            ids = ids_of(some)
            query = long_filter(ids[0], ids[-1], _MOST_KEYS)
            # what ends without an answer may do so each time, for its length
            found = yield from self._calls.query(table.name, query, limit=3, repeat="once")
            is_read = found.total == len(ids) and sorted(ids_of(found)) == sorted(ids)
            cause = f"found_{found.total}_of_{len(ids)}_rows"
        except (Refused, TooLarge, Ambiguous, msgspec.DecodeError) as error:
            is_read, cause = False, cause_of(error)
        # another batch may know by now, and its deletes may have taken the rows asked for
        known = self._keys_per_delete.get(table.name)
        if known is None and not is_read:
            return self.take_fewer(table, cause)
        return self._keys_per_delete.setdefault(table.name, _MOST_KEYS)

    def take_fewer(self, table: Table, cause: str) -> int:
        """Go back to the few keys per delete for the rest of the sync: how many that is."""
        log.info("short_deletes table=%s keys=%d cause=%s", table.name, SHORT_FILTER, cause)
        self._keys_per_delete[table.name] = SHORT_FILTER
        return SHORT_FILTER

    def delete_ids(self, table: Table, ids: Sequence[bytes]) -> Flow[None]:
        """Delete the rows with these sys_Ids; a count of fewer is judged by the table's total."""
        request = self._calls.delete(table.name, any_of("sys_Id", ids), len(ids))
        left = len(ids)
        while left > 0:
            deleted = deleted_rows((yield request))
            if not deleted:
                break
            left -= deleted
        if left > 0 and len(ids) > SHORT_FILTER:
            raise Refused(f"left_{left}_of_{len(ids)}_rows", _CUT)


def _require_no_null(table: Table, key: Key, refused: Refused | None) -> None:
    """Raise for a key with an empty part, which Kore.ai's filter refuses or does not find."""
    columns = null_columns(table, key)
    if not columns:
        return
    how = f"is refused for it ({refused.code})" if refused else "does not find rows by it"
    raise ConfigError(
        f"A row of table {table.name} has no value in {', '.join(columns)}, which is a part of its "
        f"primary key, and Kore.ai's filter {how}: older versions of the row could not be deleted. "
        "Choose a primary key whose columns always have a value, or fill the column at the source."
    ) from refused
