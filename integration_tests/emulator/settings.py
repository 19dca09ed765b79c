"""The emulator's switches: a field per documented variation and per question the docs leave open.

Each field's comment is its documentation. [vendor] marks documented behaviour, [choice] what the
emulator had to invent. A client that is correct must be correct under every combination. Nothing
here holds state: state lives in `world.py`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Settings:
    """All switches of one emulator; the class body says what each does."""

    # --- both vendors
    # [choice] create a table without declared columns when a request names an unknown one.
    auto_create_tables: bool = False
    # [choice] the clock stands still and moves with `advance(seconds)` only.
    manual_clock: bool = False
    # [choice] divides `debounce` seconds, so that a client that asks for 300 s waits 300 /
    # time_scale.
    time_scale: float = 1.0
    # [choice] added to each vendor request, as a stand-in for distance and work.
    latency_s: float = 0.0
    # [choice] over the cap: 413 at once, connection closed with the body unread, or only after
    # reading all of it.
    too_large: Literal["early", "after_reading"] = "after_reading"

    # --- Qobra
    # [choice] value of `X-API-Key` that is accepted.
    qobra_api_key: str = "qobra-key-1"
    # [choice] bytes above which a body is refused with 413; 0 = no cap.
    qobra_max_body_bytes: int = 0
    # [choice] seconds an import waits before it is launched, on top of its debounce.
    qobra_queue_s: float = 0.0
    # [choice] seconds from launch to finish; the rows appear at the finish.
    qobra_import_s: float = 0.05
    # [choice] the debounce window counts from the first request of a load, or starts again with
    # each.
    qobra_window: Literal["from_first", "sliding"] = "from_first"
    # [choice] debounced requests of one table inside the window are one load that empties once;
    # off: each empties.
    qobra_join: bool = True
    # [choice] all requests of a joined load are answered with one import id, or each with its own.
    qobra_same_import_id: bool = True
    # [choice] with ids of their own: each shows the rows of its own request, or of the whole load.
    qobra_part_count: Literal["part", "whole"] = "part"
    # [choice] one entry per table in an import, or one per request.
    qobra_entries: Literal["per_table", "per_request"] = "per_table"
    # [vendor: imports stack together] plain appends join the import that is not launched yet, also
    # of other tables.
    qobra_stack: bool = False
    # [choice] a bad row is left out alone, or the whole import of its table fails.
    qobra_row_errors: Literal["reject_row", "reject_table"] = "reject_row"
    # [choice] number_of_records beside row errors: the rows that went in, or null.
    qobra_error_count: Literal["good", "null"] = "good"
    # [choice] after a failed `all=true` import: the table is empty, or keeps its old rows.
    qobra_failed_replace: Literal["empty", "keep"] = "empty"
    # [choice] name of the import's boolean error flag.
    qobra_error_flag: Literal["absent", "has_error", "has_errors", "error"] = "absent"
    # [choice] number_of_records counts rows, or distinct ids.
    qobra_count: Literal["rows", "unique_ids"] = "rows"
    # [choice] added to every number_of_records: a count that lies.
    qobra_count_offset: int = 0
    # [choice] every import ends finished with an error, number_of_records null and nothing stored.
    qobra_fail_imports: bool = False
    # [vendor: types api, csv, integration] an entry of another table stands in each import, in
    # order or failed.
    qobra_foreign_entry: Literal["none", "ok", "failed"] = "none"
    # [choice] reversed: every other import, from the first on, takes four times as long, so its
    # successor overtakes it.
    qobra_order: Literal["first_in_first_out", "reversed"] = "first_in_first_out"
    # [choice] imports start and never finish.
    qobra_never_finish: bool = False
    # [choice] seconds for which a new import id is answered with 404.
    qobra_hidden_s: float = 0.0
    # [vendor for users, choice for tables] a key missing in an upsert leaves the stored value, or
    # empties it.
    qobra_missing_field: Literal["untouched", "emptied"] = "untouched"

    # --- Kore.ai
    # [vendor: 50 MB] bytes above which a body is refused with 413.
    kore_max_body_bytes: int = 50_000_000
    # [vendor] tokens need a `jti` that was not used before and an `exp` at most one hour ahead.
    kore_enforce_jti: bool = False
    # [choice] status when the app lacks a right on the table.
    kore_missing_right_status: Literal[401, 403] = 401
    # [choice] status for a table that does not exist.
    kore_unknown_table_status: Literal[400, 404] = 400
    # [choice] a bulk call with bad rows: 400 and nothing stored; 400 and the rows before the first
    # bad one stored; 200 with the good rows only; 400 with the good rows stored.
    kore_bulk_mode: Literal["atomic", "ordered_partial", "skip_bad", "skip_bad_4xx"] = "atomic"
    # [choice] a string in a number column.
    kore_string_in_number: Literal["accept", "reject"] = "reject"
    # [choice] a column the table does not have; ignored ones are not stored.
    kore_unknown_column: Literal["reject", "ignore"] = "reject"
    # [choice] a `sys_limit` above the documented 100.
    kore_sys_limit: Literal["clamp", "reject"] = "clamp"
    # [choice] order of the rows of a query; random is the same from page to page.
    kore_row_order: Literal["insertion", "random", "reverse"] = "insertion"
    # [vendor: both are seen] form of Created_On and Updated_On.
    kore_timestamps: Literal["iso", "epoch"] = "iso"
    # [choice] a filter by Created_On or Updated_On: works; is refused with 400; is ignored, by all
    # calls or by deletes only; compares texts, whatever the value's type; the times have whole
    # seconds; they are shown in another time zone than the filter reads.
    kore_dates: Literal[
        "work", "refused", "ignored", "ignored_by_deletes", "as_text", "seconds", "other_zone"
    ] = "work"
    # [vendor: older docs lack them] `total` and `hasMore` in a query's answer.
    kore_query_totals: bool = True
    # [choice] the answer of a bulk call: all stored rows, one too few, one too many, or no
    # `records` at all.
    kore_echo: Literal["full", "one_less", "one_more", "no_records"] = "full"
    # [vendor: both are documented] the answer of PUT.
    kore_put_reply: Literal["nModified", "records"] = "nModified"
    # [choice] DELETE with an empty query.
    kore_empty_delete: Literal["all", "reject"] = "reject"
    # [choice] most rows one DELETE removes; 0 = no limit.
    kore_delete_max: int = 0
    # [choice] most expressions of a filter; 0 = no limit.
    kore_max_expressions: int = 0
    # [choice] a filter with more of them is refused with 400, is read without those beyond the
    # limit, or is void and matches every row.
    kore_more_expressions: Literal["reject", "ignore", "match_all"] = "reject"
    # [vendor: the windows] off, refuse, or let pass and count in `rate_violations`.
    kore_rate_limit: Literal["off", "refuse", "record"] = "off"
    # [vendor: 600 per 60 s and 18,000 per 3,600 s, rolling, per table] as (requests, seconds)
    # pairs.
    kore_rate_windows: tuple[tuple[int, float], ...] = ((600, 60.0), (18_000, 3_600.0))
    # [choice] status of a rate-limit refusal; the text is the documented one.
    kore_rate_status: Literal[429, 400] = 429
    # [choice] a rate-limit refusal names its Retry-After seconds.
    kore_rate_retry_after: bool = False

    def changed(self, **switches: Any) -> Settings:
        """Return a changed copy; ValueError names an unknown switch or a value it cannot have."""
        hints = get_type_hints(Settings)
        for name, value in switches.items():
            if name not in hints:
                raise ValueError(f"unknown switch {name!r}")
            switches[name] = _checked(name, hints[name], value)
        return dataclasses.replace(self, **switches)

    def not_default(self) -> dict[str, Any]:
        """Name the switches that differ from their defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }


def _checked(name: str, hint: Any, value: Any) -> Any:
    """Return the value as the switch holds it."""
    if get_origin(hint) is Literal:
        good = value in get_args(hint)
    elif get_origin(hint) is tuple:
        value = tuple((int(requests), float(seconds)) for requests, seconds in value)
        good = True
    elif hint is float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        good = type(value) is hint
    if not good:
        raise ValueError(f"switch {name!r} cannot be {value!r}")
    return value


def parse_switch(text: str) -> tuple[str, Any]:
    """Read one `name=value` of the command line; the value is JSON, or else a plain string."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
