"""What a request with rows looks like: body and upsert."""

from __future__ import annotations

from destination_bulk_tables.form.fields import branch, long_text, open_choice, text, tiles
from destination_bulk_tables.model import JsonObject

BODY: JsonObject = tiles(
    "Insert: body",
    "Where the rows are in the request body.",
    branch(
        "Object with the rows",
        'The rows under a member: `{"rows": [{...}, {...}]}`.',
        ("body_type", "object"),
        [],
        rows_path=text(
            "Rows member",
            "Member that holds the rows; dots go deeper.",
            "records",
            "data.items",
            default="rows",
        ),
        extra_body=long_text(
            "Other members",
            (
                "JSON object of constant members beside the rows. `{table}` and "
                "`{idempotency_key}` may stand in its texts."
            ),
            '{"typecast": true}',
            '{"table_name": "{table}"}',
        ),
    ),
    branch("Bare array", "`[{...}, {...}]`", ("body_type", "array"), []),
    branch(
        "JSON lines",
        "One row per line, without an array.",
        ("body_type", "lines"),
        [],
        line_before=long_text(
            "Line before each row",
            "JSON, on a line of its own. `{table}` and `{row_number}` may stand in it.",
            '{"create": {"_index": "{table}"}}',
        ),
    ),
    branch(
        "Template",
        "Any JSON with the rows somewhere in it.",
        ("body_type", "template"),
        ["body_template"],
        body_template=long_text(
            "Body",
            (
                'JSON in which `"{rows}"` is replaced by the array of rows. `{table}`, '
                "`{columns}`, `{parameters}` and `{idempotency_key}` may stand in texts and in "
                "names of members."
            ),
            '{"jsonrpc": "2.0", "id": 1, "method": "insert", "params": ["{table}", "{rows}"]}',
            '{"query": "mutation ($r: [Row!]!) { add(rows: $r) { id } }", "variables": '
            '{"r": "{rows}", "t": "{table}"}}',
        ),
    ),
)

UPSERT: JsonObject = tiles(
    "Upsert (append + deduped)",
    "How rows replace the rows of the same key. Without it append + deduped is refused.",
    branch("No upsert", "Append + deduped is refused.", ("upsert_type", "none"), []),
    branch(
        "The insert itself",
        "The API keeps rows by key: an insert replaces the row of the same key.",
        ("upsert_type", "insert"),
        [],
    ),
    branch(
        "A request of its own",
        "Another path, method, header, member or row template makes the API replace rows.",
        ("upsert_type", "request"),
        [],
        path=text(
            "Path",
            (
                "Empty: as for insert. `{key_column}` and `{key_columns}` are the primary key; "
                "`{key}` is its value, for one row per request."
            ),
            "/lab/{table}/-/upsert",
            "/{table}?on_conflict={key_columns}",
            "/{table}/{key}",
        ),
        method=open_choice(
            "Method",
            (
                "Empty: as for insert. To empty it again, choose another option of this upsert and "
                "come back."
            ),
            ("POST", "PUT", "PATCH"),
        ),
        headers=long_text(
            "Extra headers",
            "One `Name: value` per line. Not secret.",
            "Prefer: resolution=merge-duplicates",
        ),
        extra_body=long_text(
            "Other members",
            "JSON object, in place of the one for insert. `{key_column}` may stand in its texts.",
            '{"keyColumn": "{key_column}"}',
        ),
        row_template=long_text(
            "Row template",
            (
                'In place of the one for insert. `"{row_key}"` is replaced by an object of the key '
                'columns, `"{key}"` by the value of the only one; inside a text it is encoded for '
                "a path."
            ),
            '{"require": "{row_key}", "fields": "{row}"}',
            '{"method": "PUT", "path": "/rows/{key}", "body": "{row}"}',
        ),
        line_before=long_text(
            "Line before each row",
            "In place of the one for insert; `{key}` may stand in it as in a row template.",
            '{"index": {"_index": "{table}", "_id": "{key}"}}',
        ),
        body_template=long_text(
            "Body",
            "In place of the template for insert.",
            '{"upsert": {"{table}": "{rows}"}, "key": "{key_column}"}',
        ),
        success_statuses=text("Success statuses", "Empty: as for insert.", "200,201"),
        count_path=text(
            "Path to the number of rows stored",
            "Empty: as for insert. `none` where an upsert's answer does not tell it.",
            "upserted",
            "none",
        ),
    ),
)
