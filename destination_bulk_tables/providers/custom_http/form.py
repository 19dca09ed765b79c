"""The form of `custom_http`: data only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from destination_bulk_tables.form.fields import (
    branch,
    choice,
    decimal,
    flag,
    integer,
    long_text,
    members,
    objects,
    secret,
    text,
    texts,
    tiles,
)

if TYPE_CHECKING:
    from destination_bulk_tables.model import JsonObject


_STATUS_LIST = "Statuses and ranges joined by commas."
_SAID = "Looked for in answers that are no success, and in the errors of rows of those that are."

_AUTHENTICATION = tiles(
    "Authentication",
    "How every request shows who it is from.",
    branch(
        "Bearer token",
        "A token in the header Authorization.",
        ("auth_type", "bearer"),
        ["token"],
        token=secret("Token", "Sent as `Authorization: Bearer ...`.", "dstok_..."),
    ),
    branch(
        "API key in a header",
        "A key in a header of any name.",
        ("auth_type", "header"),
        ["header_name", "secret"],
        header_name=text(
            "Header name", "Header that carries the key.", "X-API-Key", "xc-token", "apikey"
        ),
        secret=secret("Key", "The key or token.", "sb_secret_..."),
        value_template=text(
            "Header value",
            "`{secret}` is replaced by the key.",
            "Token {secret}",
            default="{secret}",
        ),
    ),
    branch(
        "User name and password",
        "HTTP Basic.",
        ("auth_type", "basic"),
        ["username"],
        # some APIs take a token here
        username=secret("User name", "Sent as HTTP Basic.", "loader"),
        password=secret("Password", "May be empty where the user name is a token.", "pass-..."),
    ),
    branch(
        "Signed token (JWT) per request",
        "A token made anew for each request.",
        ("auth_type", "jwt"),
        ["signing_secret"],
        signing_secret=long_text(
            "Signing secret or private key",
            "The secret for HS*, the private key in PEM form for RS*.",
            "-----BEGIN PRIVATE KEY-----\nMIIE...\n-----END PRIVATE KEY-----",
            airbyte_secret=True,
        ),
        algorithm=choice(
            "Algorithm",
            "How the token is signed. HS* with a secret, RS* with a private key.",
            dict.fromkeys(("HS256", "HS384", "HS512", "RS256", "RS384", "RS512"), ""),
            default="HS256",
        ),
        claims=long_text(
            "Claims",
            "A JSON object; iat, exp and a fresh jti are added for each request.",
            '{"iss": "airbyte", "aud": "tables"}',
            default="{}",
        ),
        lifetime_seconds=integer(
            "Lifetime (seconds)", "How long a token is valid.", 10, 3600, 60, default=300
        ),
        key_id=text("Key id", "`kid` in the token's header, where the server wants one.", "key-1"),
        jwt_header_name=text(
            "Header name",
            "Header that carries the token.",
            "X-Auth",
            default="Authorization",
            known_as="header_name",
        ),
        jwt_header_value=text(
            "Header value",
            "`{token}` is replaced by the token.",
            "{token}",
            default="Bearer {token}",
            known_as="value_template",
        ),
    ),
    branch(
        "API key in the query",
        "A key as a parameter of each address.",
        ("auth_type", "query"),
        ["query_name", "query_secret"],
        query_name=text("Parameter", "Name of the parameter.", "api_key", "appid"),
        query_secret=secret("Key", "Added to each address, and never logged.", "sk_..."),
    ),
    branch(
        "OAuth2 client credentials",
        "A token that is asked for, and renewed before it ends.",
        ("auth_type", "oauth2"),
        ["token_url", "client_id", "client_secret"],
        token_url=text(
            "Token URL",
            "Where tokens are given for the client credentials.",
            "https://auth.example.com/oauth/token",
        ),
        client_id=text("Client ID", "The name of the application.", "airbyte-loader"),
        client_secret=secret("Client secret", "Its secret.", "cs_..."),
        scope=text("Scope", "Where the server wants one.", "tables.write"),
        audience=text("Audience", "Where the server wants one.", "https://api.example.com"),
        client_authentication=choice(
            "How the secret is sent",
            "To the token URL.",
            {"basic": "HTTP Basic", "body": "in the form that is sent"},
            default="basic",
        ),
    ),
    branch("No credential", "For a server that asks for none.", ("auth_type", "none"), []),
)

_BODY = tiles(
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

_UPSERT = tiles(
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
        method=choice(
            "Method",
            (
                "Empty: as for insert. To empty it again, choose another option of this upsert and "
                "come back."
            ),
            dict.fromkeys(("POST", "PUT", "PATCH"), ""),
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

_JOB = tiles(
    "Background jobs",
    "Whether rows are stored when the insert is answered, or later.",
    branch("Stored when answered", "No job is asked for.", ("job_type", "none"), []),
    branch(
        "A job that is asked until it is over",
        (
            "The insert is answered by a job, of which an answer tells when it is done. What "
            "answers hold (count, results, errors of rows) is read in the last one about the job."
        ),
        ("job_type", "poll"),
        ["id", "done"],
        id=text(
            "Where the job is named",
            "Path in the answer to its id or its address, or `header:NAME`.",
            "job.id",
            "header:Location",
        ),
        path=text(
            "Path to ask for it",
            (
                "`{job}` is its id, encoded; of an address the last step. Empty: the answer names "
                "its address, below the API's."
            ),
            "/jobs/{job}",
        ),
        status=text(
            "Where its status is",
            "Path in the answer about the job. Empty: the HTTP status of that answer.",
            "state",
        ),
        done=text(
            "Statuses that mean done",
            "Joined by commas. All in neither list mean that it goes on.",
            "completed,success",
            "200,303",
        ),
        failed=text(
            "Statuses that mean failed",
            "Joined by commas. Such a job is like a refused request.",
            "failed,error,cancelled",
        ),
        timeout_minutes=decimal(
            "Longest time (minutes)",
            "A job that takes longer ends the sync.",
            0.01,
            10_000,
            60,
            default=60,
        ),
    ),
)

_REQUEST = members(
    ["method", "path"],
    method=choice(
        "Method", "HTTP method.", dict.fromkeys(("POST", "PUT", "PATCH", "DELETE", "GET"), "")
    ),
    path=text("Path", "`{table}` is the table's name, encoded.", "/{table}/truncate"),
    body=long_text(
        "Body", "JSON or plain text; `{table}` is the table's name.", '{"deleteAllRows": true}'
    ),
)

_REPLACE = tiles(
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
        success_statuses=text("Success statuses", _STATUS_LIST, "200,204,404", default="200-299"),
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
            default="one",
            known_as="requests",
        ),
    ),
)

SPEC: JsonObject = branch(
    "Custom HTTP API",
    "Any HTTP API that takes rows of a table as JSON, many in one request.",
    ("provider_type", "custom_http"),
    ["api_address", "api_authentication", "write_path", "body", "check_path"],
    api_address=text(
        "Address of the API",
        ("The address all paths below are added to. Plain http is accepted for this machine only."),
        "https://api.example.com",
        known_as="base_url",
    ),
    api_authentication={**_AUTHENTICATION, "known_as": "authentication"},
    write_path=text(
        "Insert: path",
        ("Path and query of the request that takes rows. `{table}` is the table's name, encoded."),
        "/lab/{table}/-/insert",
        "/api/batch?fields=status",
    ),
    body=_BODY,
    upsert=_UPSERT,
    replace=_REPLACE,
    job=_JOB,
    check_path=text(
        "Check: path",
        (
            "Path of a request that reads and needs the credential; the connection test "
            "sends it, and nothing else but the question for columns where that is set."
        ),
        "/-/actor.json",
        "/api/collections?perPage=1",
    ),
    check_method=choice(
        "Check: method",
        "Sent without a body. It must not write.",
        dict.fromkeys(("GET", "POST", "HEAD"), ""),
        default="GET",
    ),
    check_statuses=text("Check: success statuses", _STATUS_LIST, "200", default="200-299"),
    check_text=text(
        "Check: text of a good answer",
        "Needed where a wrong credential is answered with a success status.",
        '"actor": {',
    ),
    write_method=choice(
        "Insert: method",
        "HTTP method.",
        dict.fromkeys(("POST", "PUT", "PATCH"), ""),
        default="POST",
    ),
    row_template=long_text(
        "Insert: row template",
        (
            'JSON for one row, in which `"{row}"` is replaced by the row. Empty: the row '
            "as it is. `{table}`, `{columns}` "
            "(`a,b`) and `{parameters}` (`:a,:b`) may stand in its texts. In place of the row: "
            '`"{row_values}"`, a list; `"{row_text}"`; `"{row_base64}"`. `{row_number}` counts, '
            "`{column:NAME}` is a value of the row; inside a text it is encoded for a path."
        ),
        '{"fields": "{row}"}',
        '["insert into {table}({columns}) values({parameters})", "{row}"]',
    ),
    request_compression=choice(
        "Insert: compression",
        "Of the request's body; only where the API reads it.",
        {"none": "sent as it is", "gzip": "compressed, with Content-Encoding: gzip"},
        default="none",
    ),
    extra_headers=long_text(
        "Extra headers",
        "One `Name: value` per line. Sent with every request and kept secret.",
        "X-Tenant: acme",
        airbyte_secret=True,
    ),
    max_rows_per_request=integer(
        "Limits: rows per request",
        "Most rows the API takes at once.",
        1,
        100_000,
        1000,
        default=100,
    ),
    max_megabytes_per_request=decimal(
        "Limits: megabytes per request",
        "Largest request body, in 10^6 bytes.",
        0.01,
        100,
        5,
        default=1,
    ),
    rate_limits=objects(
        "Limits: requests per time",
        "All of them hold at once, for all tables together.",
        members(
            ["requests", "seconds"],
            requests=integer("Requests", "At most this many", 1, 1_000_000, 5),
            seconds=decimal("Seconds", "in any time of this length.", 0.1, 86_400, 1),
        ),
        examples=[[{"requests": 5, "seconds": 1}]],
    ),
    max_parallel_requests=integer(
        "Limits: parallel requests",
        (
            "At most this many at a time. Empty: as many as the API answers quickly, 1 to 8. Rows "
            "of several requests may arrive in another order; 1 keeps it. A background job counts "
            "until it is over."
        ),
        1,
        8,
        1,
        2,
    ),
    success_statuses=text(
        "Answer: success statuses",
        (
            f"{_STATUS_LIST} A 202 counts as stored: where the API only queues rows, describe "
            "its background jobs. A 207 needs a path to results, errors or a count."
        ),
        "200,201",
        default="200-299",
    ),
    success_text=text(
        "Answer: text of a good answer",
        "For answers that are no JSON. Without it a page (HTML, XML) is never a success.",
        "OK",
    ),
    count_path=text(
        "Answer: path to the number of rows stored",
        "It must equal the rows sent: a number, or a list whose length counts.",
        "inserted",
        "records",
    ),
    results_path=text(
        "Answer: path to one result per row",
        (
            "A list in the order of the rows; `.` is the whole answer. Looked at in "
            "successes and refusals."
        ),
        "results",
        ".",
    ),
    result_error_member=text(
        "Answer: a result is an error when it has",
        "Path inside one result; absent, null, false and empty mean success.",
        "error",
    ),
    result_status_member=text(
        "Answer: status inside a result",
        "Path to a number, or to a text such as OK.",
        "status",
    ),
    result_success_statuses=text(
        "Answer: statuses inside a result that mean stored",
        (
            "Statuses, ranges and texts joined by commas; all others are errors of the row. A row "
            "with one of the statuses for retries is sent again; 401, 403 and 404 end the sync."
        ),
        "201",
        "OK",
        default="200-299",
    ),
    errors_path=text(
        "Answer: path to the errors of rows",
        ("A list, an object whose member names are row numbers, or a text. Absent or empty: none."),
        "errors",
        "data.requests",
    ),
    error_index_member=text(
        "Answer: row number inside an error",
        "For a list of errors.",
        "index",
    ),
    error_index_base=integer(
        "Answer: number of the first row",
        "0 or 1, for row numbers inside errors and as member names.",
        0,
        1,
        1,
        default=0,
    ),
    error_message_member=text(
        "Answer: reason inside an error or result",
        "For the report of rejected rows.",
        "reason",
        "response.data",
    ),
    refusals_store_nothing=flag(
        "Answer: a refused request stores nothing",
        "True where all rows of a request are stored or none.",
    ),
    refused_statuses=text(
        "Answer: statuses that mean bad rows",
        _STATUS_LIST,
        "400,422",
        default="400,409,422",
    ),
    refused_texts=texts(
        "Answer: texts that mean bad rows",
        "Never retried, even with a 5xx status. Looked for in answers that are no success.",
        "Code: 27,",
    ),
    too_large_texts=texts(
        "Answer: texts that mean too many rows",
        f"The request is split. {_SAID}",
        "Too many rows",
    ),
    stop_texts=texts(
        "Answer: texts that mean a wrong setting",
        f"Credential, right or table: the sync ends, even after a success status. {_SAID}",
        "no such table",
    ),
    retry_statuses=text(
        "Retry: statuses",
        _STATUS_LIST,
        "429,502-504",
        default="408,425,429,500,502-504,520-524",
    ),
    rate_limit_texts=texts(
        "Retry: texts that mean a rate limit",
        f"Whatever the status. {_SAID}",
        "rate limit exceeded",
    ),
    rate_limit_wait_seconds=integer(
        "Retry: wait after a rate limit (seconds)",
        "At least this long; a longer Retry-After of the server wins.",
        0,
        300,
        30,
        default=0,
    ),
    reset_header=text(
        "Retry: header that tells when to go on",
        "Beside Retry-After, which is always read.",
        "x-ratelimit-reset",
    ),
    reset_header_format=choice(
        "Retry: what that header holds",
        "When the next request is welcome.",
        {"seconds": "seconds from now", "unix_time": "seconds since 1970"},
        default="seconds",
    ),
    idempotency_header=text(
        "Retry: header for an idempotency key",
        (
            "For an API that knows a repeated request by a key: an insert without an answer is "
            "sent again with the same key, also at a later attempt of a job. For one in the body, "
            "put `{idempotency_key}` there."
        ),
        "Idempotency-Key",
    ),
    repeat_is_safe=flag(
        "Retry: a repeated insert changes nothing",
        (
            "True where rows are kept by a key that each row holds, so that sending rows "
            "again cannot double them."
        ),
    ),
    after_lost_answer=choice(
        "Retry: an insert without an answer",
        (
            "Where a repeated insert is not safe. With a count path the table is counted first; "
            "what to do where that cannot tell."
        ),
        {"fail": "the sync ends", "retry": "the rows are sent again, which may double them"},
        default="fail",
        known_as="on_ambiguous_write",
    ),
    already_stored_texts=texts(
        "Retry: texts that mean stored before",
        (
            "In the error of a row that was sent again: it is in from the first time, and "
            "not rejected."
        ),
        "Document update conflict",
    ),
    table_count_path=text(
        "Count: path",
        (
            "Path of a request that tells how many rows a table has, with every write that was "
            "answered before: not the number of a replica or an index that lags."
        ),
        "/{table}/count",
    ),
    table_count_method=choice(
        "Count: method",
        "It must not write.",
        dict.fromkeys(("GET", "HEAD", "POST"), ""),
        default="GET",
    ),
    table_count_body=long_text(
        "Count: body",
        "JSON, for POST; `{table}` may stand in it.",
        '{"query": "select count(*) from {table}"}',
    ),
    table_count_value=text(
        "Count: where the number is",
        (
            "Path in the answer, `.` where it is the answer, or `header:NAME` (the number "
            "after the last slash)."
        ),
        "totalItems",
        "header:Content-Range",
    ),
    table_count_is_exact=flag(
        "Count: it is exact",
        (
            "True where the rows are counted when asked, not estimated, cached or counted by a "
            "replica. Then a count that has not moved proves that nothing was stored, also before "
            "the first row of a sync is in."
        ),
    ),
    table_columns_path=text(
        "Columns: path",
        (
            "Path of a request that tells which columns a table has. They are compared with what "
            "is sent before the first row and in the connection test; without an answer the sync "
            "goes on."
        ),
        "/collections/{table}",
    ),
    table_columns_method=choice(
        "Columns: method",
        "It must not write.",
        dict.fromkeys(("GET", "POST"), ""),
        default="GET",
    ),
    table_columns_body=long_text(
        "Columns: body",
        "JSON, for POST; `{table}` may stand in it.",
        '{"query": "describe {table}"}',
    ),
    table_columns_list=text(
        "Columns: where they are",
        (
            "Path in the answer to a list, or to an object whose members are named like the "
            "columns; a step may be `{table}`. Empty: the answer itself, a list."
        ),
        "fields",
        "definitions.{table}.properties",
    ),
    table_columns_name=text(
        "Columns: name inside one",
        "Path in an entry of the list. Empty: the entries are names.",
        "name",
    ),
    table_columns_type=text(
        "Columns: type inside one",
        (
            "Path to the name of its type, such as `bigint`; one that does not hold what is sent "
            "is warned of. Empty: types are not compared."
        ),
        "type",
    ),
    nulls=choice(
        "Values: null",
        "What becomes of a column without a value.",
        {
            "send": "every row has every column",
            "omit": "left out; the server decides what an absent column of an upsert means",
        },
        default="send",
    ),
    timestamps=choice(
        "Values: date-times",
        "How date-time columns are sent.",
        {
            "as_is": "as they come",
            "iso": "ISO 8601 in UTC",
            "date": "the UTC date",
            "epoch_ms": "milliseconds since 1970",
        },
        default="as_is",
        known_as="timestamp_format",
    ),
    decimal_format=choice(
        "Values: numbers",
        "How numbers are sent.",
        {"number": "as JSON numbers", "string": "as texts"},
        default="number",
    ),
    booleans=choice(
        "Values: booleans",
        "How booleans are sent.",
        {"json": "true", "string": 'the text "true"', "number": "1 or 0"},
        default="json",
        known_as="boolean_format",
    ),
)
