"""The configured catalog: the streams and what each asks for. Read leniently, judged strictly."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from unicodedata import normalize

from destination_bulk_tables.columns import Column, Extra, columns_of, extras_of, fields_of
from destination_bulk_tables.config import Config
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.mapping import TableEntry, table_name
from destination_bulk_tables.model import JsonObject, JsonValue, StreamKey, Table
from destination_bulk_tables.sync_modes import is_pyairbyte, may_resume, mode_of


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What to do with one stream.

    `expects_status`: the platform will say COMPLETE at its end. `may_resume`: a later attempt of
    the job keeps this generation, and its source may go on from a state that was acknowledged.
    `declared`: the fields of its schema. `cursor_path`: where in the cursor field the cursor is.
    """

    key: StreamKey
    table: Table
    columns: tuple[Column, ...]
    key_fields: tuple[str, ...]
    cursor_field: str | None
    expects_status: bool
    may_resume: bool = False
    declared: tuple[str, ...] = ()
    cursor_path: tuple[str, ...] = ()
    extras: tuple[Extra, ...] = ()


def plan_streams(raw: JsonValue, config: Config) -> dict[StreamKey, StreamPlan]:
    """Raises `ConfigError` when the catalog asks for something that cannot be done."""
    streams = raw.get("streams") if isinstance(raw, dict) else None
    if not isinstance(streams, list) or not streams:
        raise ConfigError("The catalog has no streams. Select at least one in the connection.")
    plans: dict[StreamKey, StreamPlan] = {}
    owners: dict[str, list[StreamPlan]] = {}
    for configured in streams:
        plan = _plan(configured, config)
        if plan.key in plans:
            message = f"Stream {plan.key} is in the catalog twice."
            raise ConfigError(message, stream=plan.key)
        sharing = owners.setdefault(plan.table.name, [])
        for other in sharing:
            if not _can_share(other, plan, config):
                message = (
                    f"Streams {other.key} and {plan.key} both go to table {plan.table.name!r}. "
                    "Give each its own table in 'tables'. Only streams that are appended to a "
                    "table without an id column may share one, where tables[].constants or "
                    "tables[].message_columns tell their rows apart."
                )
                raise ConfigError(message, stream=plan.key)
        sharing.append(plan)
        plans[plan.key] = plan
    for sharing in owners.values():
        table = _shared([plan.table for plan in sharing])
        plans.update({plan.key: replace(plan, table=table) for plan in sharing})
    return plans


def find_stream(stream: StreamKey, known: Collection[StreamKey]) -> StreamKey | None:
    """The catalog's stream that a message is about, None where that cannot be told.

    PyAirbyte's cache leaves the namespace out, and a platform may rename it: a namespace that
    the catalog lacks, or none, stands for the only stream of that name.
    """
    if stream in known:
        return stream
    named = [key for key in known if key.name == stream.name]
    is_loose = stream.namespace is None or stream.namespace not in {key.namespace for key in known}
    return named[0] if is_loose and len(named) == 1 else None


def _can_share(one: StreamPlan, other: StreamPlan, config: Config) -> bool:
    """Whether two streams may go to one table: plain inserts, and a column tells the rows apart."""
    if config.provider.rules.keyed:
        return False  # rows of one id would replace each other, whatever else they hold
    if any(plan.table.replace or plan.table.mode != "append" for plan in (one, other)):
        return False
    theirs = {extra.name: extra.token for extra in other.extras}
    return any(
        None not in (extra.token, theirs.get(extra.name)) and extra.token != theirs[extra.name]
        for extra in one.extras
    )


def _shared(tables: Sequence[Table]) -> Table:
    """The table of all these streams, under the first one's name."""
    names = dict.fromkeys(name for table in tables for name in table.columns)
    others = {name for table in tables for name in table.columns if name not in table.text_columns}
    texts = tuple(name for name in names if name not in others)
    return replace(tables[0], columns=tuple(names), text_columns=texts)


def unmatched_entries(config: Config, keys: Collection[StreamKey]) -> list[str]:
    """What to tell about `tables` entries of no stream: right for another connection, or a typo."""
    names = {key.name for key in keys}
    told = []
    for entry in config.tables:
        if entry.namespace is None and entry.stream in names:
            continue
        if entry.namespace is not None and StreamKey(entry.namespace, entry.stream) in keys:
            continue
        close = get_close_matches(entry.stream, names, 1)
        hint = f" did_you_mean={close[0]!r}" if close and close[0] != entry.stream else ""
        namespace = "" if entry.namespace is None else f" namespace={entry.namespace!r}"
        told.append(f"tables_entry_of_no_stream stream={entry.stream!r}{namespace}{hint}")
    return told


def similar_names(tables: Iterable[Table]) -> list[str]:
    """What to tell of names that are one to a vendor who reads them in any case or spelling."""
    tables = list(tables)
    told = [
        f"tables_of_similar_names table={name!r} other={other!r}"
        for name, other in _similar(table.name for table in tables)
    ]
    for table in tables:
        told += [
            f"columns_of_similar_names table={table.name!r} column={name!r} other={other!r}"
            for name, other in _similar(table.columns)
        ]
    return told


def _similar(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(normalize("NFKC", name).casefold(), name)
        if other != name:
            yield name, other


def _plan(configured: JsonValue, config: Config) -> StreamPlan:
    stream = configured.get("stream") if isinstance(configured, dict) else None
    if (
        not isinstance(configured, dict)
        or not isinstance(stream, dict)
        or not isinstance(stream.get("name"), str)
    ):
        raise ConfigError(
            "The catalog holds a stream without a name. It must be a configured catalog, whose "
            "entries have a 'stream' and a 'destination_sync_mode'."
        )
    namespace = stream.get("namespace")
    key = StreamKey.of(namespace if isinstance(namespace, str) else None, str(stream["name"]))
    entry = config.entry(key) or TableEntry(key.name)
    schema = stream.get("json_schema")
    schema = schema if isinstance(schema, dict) else {}
    fields = fields_of(schema)
    _require_text(key, entry, fields)
    columns = tuple(columns_of(schema, entry, f"Stream {key}"))
    if not columns:
        message = (
            f"Stream {key} declares no columns, so its rows would be sent empty. Refresh the "
            "stream's schema in the connection, or name its fields in tables[].columns."
        )
        raise ConfigError(message, stream=key)
    mode, replaces = mode_of(configured, key, config.truncate_mode)
    key_fields: tuple[str, ...] = ()
    cursor: tuple[str, ...] = ()
    if mode == "dedup":
        key_fields = _key_fields(configured, stream, fields, key)
        cursor = _cursor(configured, fields, key)
    names = {column.field: column.name for column in columns}
    missing = [field for field in key_fields if field not in names]
    if missing:
        message = (
            f"Stream {key}: the primary key field {missing[0]!r} is not sent, so rows cannot be "
            "updated by it. Add it to tables[].columns, or take it out of tables[].exclude."
        )
        raise ConfigError(message, stream=key)
    extras = extras_of(entry, key, configured.get("generation_id"), columns)
    table = Table(
        name=entry.table or table_name(config.table_name_pattern, key),
        stream=key,
        mode=mode,
        replace=replaces,
        columns=(*(column.name for column in columns), *(extra.name for extra in extras)),
        key_columns=tuple(names[field] for field in key_fields),
        text_columns=tuple(column.name for column in columns if column.is_text),
        id_column=entry.id_field or config.provider.rules.required_column,
        job="" if is_pyairbyte(configured) else str(configured.get("sync_id") or ""),
    )
    _require_keys_in_clear(columns, table, key)
    expects_status = (
        configured.get("generation_id") is not None or configured.get("sync_id") is not None
    )
    return StreamPlan(
        key,
        table,
        columns,
        key_fields,
        cursor[0] if cursor else None,
        expects_status,
        may_resume=may_resume(configured),
        declared=tuple(fields),
        cursor_path=cursor[1:],
        extras=extras,
    )


def _require_keys_in_clear(columns: Sequence[Column], table: Table, key: StreamKey) -> None:
    """A masked key must still tell rows apart."""
    for column in columns:
        is_key = column.name in table.key_columns or column.name == table.id_column
        if is_key and column.mask not in {None, "hash"}:
            message = (
                f"Stream {key}: the column {column.name!r} identifies rows, and the mask "
                f"{column.mask!r} would make them one. Use 'hash', or no mask, for it."
            )
            raise ConfigError(message, stream=key)


def _require_text(key: StreamKey, entry: TableEntry, fields: JsonObject) -> None:
    """Names go into messages and requests, which hold no half of a surrogate pair."""
    for name in (key.namespace or "", key.name, *fields, *entry.names):
        try:
            name.encode()
        except UnicodeEncodeError:
            message = f"The name {name!a} holds half of a surrogate pair. Rename it."
            raise ConfigError(message) from None


def _key_fields(
    configured: JsonObject, stream: JsonObject, declared: JsonObject, key: StreamKey
) -> tuple[str, ...]:
    paths = configured.get("primary_key") or stream.get("source_defined_primary_key") or []
    fields = []
    for path in paths if isinstance(paths, list) else []:
        names = path if isinstance(path, list) else [path]
        if len(names) != 1:
            message = f"Stream {key}: a primary key inside a nested object is not supported."
            raise ConfigError(message, stream=key)
        fields.append(str(names[0]))
    if not fields:
        message = (
            f"Stream {key}: append + deduped needs a primary key. Choose one in the connection."
        )
        raise ConfigError(message, stream=key)
    _require_declared(fields, declared, key, "primary key")
    return tuple(dict.fromkeys(fields))


def _cursor(configured: JsonObject, declared: JsonObject, key: StreamKey) -> tuple[str, ...]:
    """The path of the cursor; what lies inside a nested field is seen in its values only."""
    path = configured.get("cursor_field")
    if not isinstance(path, list) or not path:
        return ()
    names = tuple(map(str, path))
    _require_declared(names[:1], declared, key, "cursor")
    return names


def _require_declared(
    fields: Sequence[str], declared: JsonObject, key: StreamKey, what: str
) -> None:
    for field in fields:
        if declared and field not in declared:  # a schema that says nothing cannot refute it
            message = (
                f"Stream {key}: its {what} field {field!r} is not in the stream's schema. Refresh "
                "the schema."
            )
            raise ConfigError(message, stream=key)
