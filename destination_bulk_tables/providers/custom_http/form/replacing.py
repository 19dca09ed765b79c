"""How a table is replaced."""

from __future__ import annotations

from destination_bulk_tables.form.fields import (
    branch,
    choice,
    long_text,
    members,
    objects,
    open_choice,
    text,
    tiles,
)
from destination_bulk_tables.model import JsonObject
from destination_bulk_tables.providers.custom_http.form.answers import STATUS_LIST

_REQUEST = members(
    ["method", "path"],
    method=open_choice("Method", "HTTP method.", ("POST", "PUT", "PATCH", "DELETE", "GET")),
    path=text("Path", "`{table}` is the table's name, encoded.", "/{table}/truncate"),
    body=long_text(
        "Body", "JSON or plain text; `{table}` is the table's name.", '{"deleteAllRows": true}'
    ),
)

REPLACE: JsonObject = tiles(
    "Replace (overwrite)",
    (
        "How a table's content is replaced. Nothing is sent before the source has completed the "
        "stream. Without it overwrite is refused."
    ),
    branch("No replacing", "Overwrite is refused.", ("replace_type", "none"), []),
    branch(
        "Empty the table first",
        "Requests that delete every row, before the first new one.",
        ("replace_type", "empty_first"),
        ["requests"],
        requests=objects(
            "Requests",
            (
                "Sent in this order before the first row. Until the load ends the table is empty "
                "or partly filled."
            ),
            _REQUEST,
            minItems=1,
            examples=[[{"method": "DELETE", "path": "/{table}/rows"}]],
        ),
        success_statuses=text("Success statuses", STATUS_LIST, "200,204,404", default="200-299"),
        success_text=text(
            "Text of a good answer",
            "Needed where a failure is answered with a success status.",
            '"ok":true',
        ),
    ),
    branch(
        "Query parameter on the load",
        "For APIs that replace a table's content by a flag.",
        ("replace_type", "query"),
        ["query"],
        query=text("Query", "Added to the path of a replacing load.", "all=true", "mode=overwrite"),
        which_requests=choice(
            "Which requests",
            "The requests of a load that carry the query.",
            {
                "one": (
                    "a load that does not fit in one request is refused before anything is sent"
                ),
                "first": "the first request replaces, the others add to it",
                "every": "only where the API is documented to collect the requests of a load",
            },
            known_as="requests",
        ),
    ),
)
