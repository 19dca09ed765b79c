"""custom_http against written answers: what is sent, what they mean, what a form may not say."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import jwt
import pytest

from destination_bulk_tables.config import parse
from destination_bulk_tables.dispositions import Accept, Renew, Retry, Stop, Throw
from destination_bulk_tables.errors import ConfigError, TransientError, UnaccountedRows
from destination_bulk_tables.http import Ambiguous, HttpRequest, HttpResponse, Refused, TooLarge
from destination_bulk_tables.model import Batch, Epoch
from destination_bulk_tables.outcomes import Context, Load, ReadBack, ReplacePlan, WriteReport
from destination_bulk_tables.passage import Delivery
from destination_bulk_tables.providers import PROVIDERS
from destination_bulk_tables.providers.custom_http import CustomHttp
from unit_tests.custom_forms import (
    COUNT,
    ROWS,
    Wire,
    answer,
    block,
    dedup,
    judged,
    made,
    run,
    sent_by,
    table,
    write,
)
from unit_tests.fakes import Answer

DOCS = Path(__file__).parents[1] / "docs/custom_http.md"


# --- what is sent


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ({}, b'{"rows":[%b]}'),
        ({"body": {"body_type": "object", "rows_path": "a.b"}}, b'{"a":{"b":[%b]}}'),
        (
            {"body": {"body_type": "object", "extra_body": '{"t": "{table}", "x": true}'}},
            b'{"t":"deals","x":true,"rows":[%b]}',
        ),
        ({"body": {"body_type": "array"}}, b"[%b]"),
    ],
    ids=["rows under a member", "deeper", "beside other members", "bare array"],
)
def test_rows_stand_where_the_body_says(form: dict[str, Any], body: bytes) -> None:
    """The body is the rows as they were encoded, inside what the form says."""
    provider = made(**form)
    request = sent_by(provider)
    assert request.body == body % b",".join(ROWS)
    assert provider.body_size(table()) + len(b",".join(ROWS)) == len(request.body)


def test_json_lines_hold_a_row_each() -> None:
    """Rows of a lines body are separated by line ends, also where a text holds a comma."""
    provider = made(body={"body_type": "lines"})
    row = b'{"id":1,"n":"},{"}'
    request = next(provider.write(table(), block(row, row), Context()))
    assert request.body == row + b"\n" + row + b"\n"
    assert request.content_type == "application/x-ndjson"


@pytest.mark.parametrize(
    ("template", "first"),
    [
        ('{"fields": "{row}"}', b'{"fields":%b}'),
        (
            '["insert into {table}({columns}) values({parameters})", "{row}"]',
            b'["insert into deals(id,n) values(:id,:n)",%b]',
        ),
    ],
)
def test_a_row_template_wraps_each_row(template: str, first: bytes) -> None:
    """What stands around the row is the template with its names filled in."""
    request = sent_by(made(row_template=template))
    expected = b",".join(first.replace(b"%b", row) for row in ROWS)
    assert request.body == b'{"rows":[%b]}' % expected


def test_a_row_template_can_hold_the_rows_key() -> None:
    """`{row_key}` is an object of the key columns, each with the token it has in the row."""
    form = {
        "upsert": {
            "upsert_type": "request",
            "row_template": '{"require":"{row_key}","fields":"{row}"}',
        }
    }
    request = sent_by(made(**form), dedup())
    assert request.body is not None
    assert request.body.startswith(b'{"rows":[{"require":{"id":1},"fields":{"id":1,"n":"a"}},')


def test_a_body_that_its_row_template_makes_too_large_is_split_before_it_is_sent() -> None:
    """The batcher does not know of the template, so the write itself keeps the limit."""
    provider = made(
        row_template='{"x": "%s", "r": "{row}"}' % ("y" * 5000), max_megabytes_per_request=0.01
    )
    with pytest.raises(TooLarge):
        next(provider.write(table(), block(), Context()))


def test_a_tables_name_is_encoded_as_a_path_segment() -> None:
    """Nothing in a name can leave its segment."""
    provider = made()
    assert sent_by(provider, table("a/b ?#é%2e")).path == "/t/a%2Fb%20%3F%23%C3%A9%252e/rows"


@pytest.mark.parametrize("name", ["..", "."])
def test_a_name_that_means_another_path_is_refused(name: str) -> None:
    """Dot segments would be resolved away by the client or the server."""
    with pytest.raises(ConfigError, match="write_path cannot hold"):
        made().validate(table(name))


@pytest.mark.parametrize(
    "form",
    [
        {"write_path": "/?query=insert into {table} format JSONEachRow"},
        {"row_template": '["insert into {table} values(1)", "{row}"]'},
        {
            "replace": {
                "replace_type": "empty_first",
                "requests": [{"method": "POST", "path": "/", "body": "truncate table {table}"}],
            }
        },
    ],
    ids=["in a query", "inside a JSON text", "in plain text"],
)
def test_a_name_inside_other_text_must_be_plain(form: dict[str, Any]) -> None:
    """A source's stream name cannot become SQL; the error comes before any request."""
    provider = made(**form)
    provider.validate(table("deals-2.b"))
    for name in ("deals; drop table users", "deals,users", "deals--", ":deals", "a,:b"):
        with pytest.raises(ConfigError, match="must be made of letters"):
            provider.validate(table(name, replace="replace" in form))


def test_how_a_table_is_emptied_is_not_asked_of_one_that_is_not() -> None:
    """A name that the emptying statement cannot hold is one that an append may write to."""
    request = {"method": "POST", "path": "/", "body": "truncate table {table}"}
    provider = made(replace={"replace_type": "empty_first", "requests": [request]})
    provider.validate(table("my table"))
    with pytest.raises(ConfigError, match="must be made of letters"):
        provider.validate(table("my table", replace=True))


def test_a_column_that_is_no_plain_name_cannot_go_into_a_statement() -> None:
    """`{columns}` names the column and the remedy."""
    provider = made(row_template='["insert into {table}({columns})", "{row}"]')
    with pytest.raises(
        ConfigError, match=r"'a b' of table deals is not a plain name.*tables\[\]\.columns"
    ):
        provider.validate(table(columns=("id", "a b")))


def test_upsert_has_its_own_request() -> None:
    """Path, method, headers and members of upsert replace those of insert."""
    upsert = {
        "upsert_type": "request",
        "path": "/t/{table}/upsert?on={key_columns}",
        "method": "PATCH",
        "headers": "Prefer: merge",
        "extra_body": '{"keyColumn": "{key_column}"}',
    }
    request = sent_by(made(upsert=upsert), dedup())
    assert (request.method, request.path) == ("PATCH", "/t/deals/upsert?on=id")
    assert request.headers == {"Prefer": "merge"}
    assert (request.body or b"").startswith(b'{"keyColumn":"id","rows":[')
    assert request.repeat == "safe"
    insert = sent_by(made(upsert=upsert))
    assert (insert.method, insert.path, insert.repeat) == ("POST", "/t/deals/rows", "unsafe")


def test_a_key_column_needs_a_key_of_one_column() -> None:
    """Two key columns cannot fill `{key_column}`."""
    provider = made(
        upsert={"upsert_type": "request", "extra_body": '{"k": "{key_column}"}'},
    )
    with pytest.raises(ConfigError, match="exactly one primary key column"):
        provider.validate(table(mode="dedup", key_columns=("id", "n")))


def test_modes_need_what_the_form_leaves_out() -> None:
    """Append + deduped needs upsert, overwrite needs replace, and the error names the setting."""
    with pytest.raises(ConfigError, match=r"provider\.upsert"):
        made().validate(dedup())
    with pytest.raises(ConfigError, match=r"provider\.replace"):
        made().validate(table(replace=True))
    made().validate(table())


# --- authentication


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        ({"auth_type": "none"}, {}),
        ({"auth_type": "bearer", "token": " t "}, {"Authorization": "Bearer t"}),
        ({"auth_type": "header", "header_name": "X-Key", "secret": "k"}, {"X-Key": "k"}),
        (
            {
                "auth_type": "header",
                "header_name": "A",
                "secret": "k",
                "value_template": "Token {secret}",
            },
            {"A": "Token k"},
        ),
        (
            {"auth_type": "basic", "username": "ü", "password": "p:q"},
            {"Authorization": "Basic " + base64.b64encode("ü:p:q".encode()).decode()},
        ),
        (
            {"auth_type": "basic", "username": "u"},
            {"Authorization": "Basic " + base64.b64encode(b"u:").decode()},
        ),
    ],
    ids=["none", "bearer", "header", "header with a template", "basic", "basic without a password"],
)
def test_each_request_shows_the_credential(form: dict[str, Any], headers: dict[str, str]) -> None:
    """The header is what the form says, beside the extra ones."""
    provider = made(authentication=form, extra_headers="X-Tenant: acme\n\n X-Two:  2 ")
    assert provider.headers(0) == {"X-Tenant": "acme", "X-Two": "2", **headers}


def test_a_token_is_signed_for_each_request() -> None:
    """The claims are those of the form with times and a fresh jti; the header is the form's."""
    secret = "a secret that is long enough for HS256"
    form = {
        "auth_type": "jwt",
        "signing_secret": secret,
        "claims": '{"iss": "airbyte"}',
        "lifetime_seconds": 60,
        "key_id": "k1",
        "header_name": "X-Auth",
        "value_template": "{token}",
    }
    provider = made(authentication=form)
    first, second = (provider.headers(1000)["X-Auth"] for _ in range(2))
    claims = jwt.decode(
        first, secret, ["HS256"], options={"verify_exp": False, "verify_iat": False}
    )
    assert (claims["iss"], claims["iat"], claims["exp"]) == ("airbyte", 970, 1030)
    assert jwt.get_unverified_header(first)["kid"] == "k1"
    assert claims["jti"] not in jwt.decode(second, options={"verify_signature": False})["jti"]


@pytest.mark.parametrize(
    ("lifetime", "issued", "ends"),
    [(3600, 970, 4570), (60, 970, 1030), (59, 971, 1030), (10, 995, 1005)],
)
def test_a_signed_token_lives_as_long_as_is_set(lifetime: int, issued: int, ends: int) -> None:
    """From its own start, which is before ours: a server that allows an hour refuses more."""
    secret = "a secret that is long enough for HS256"
    form = {"auth_type": "jwt", "signing_secret": secret, "lifetime_seconds": lifetime}
    token = made(authentication=form).headers(1000)["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["iat"], claims["exp"]) == (issued, ends)


def test_a_shared_secret_is_used_as_it_is() -> None:
    """Only a private key has its line ends mended."""
    secret = "a secret with \\n that is long enough"
    provider = made(authentication={"auth_type": "jwt", "signing_secret": secret})
    token = provider.headers(1000)["Authorization"].removeprefix("Bearer ")
    jwt.decode(token, secret, ["HS256"], options={"verify_exp": False, "verify_iat": False})


def test_space_around_the_address_does_not_matter() -> None:
    """It comes with copying."""
    assert made(base_url=" https://api.example.com ").base_url == "https://api.example.com"


# --- what a form may not say


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"write_path": "/t/rows"}, "provider.write_path lacks {table}"),
        ({"write_path": "t/{table}"}, "provider.write_path must start with /"),
        ({"write_path": "/t/{tables}"}, "write_path holds {tables}, which is unknown there"),
        (
            {"write_path": "/{table}/{key_column}"},
            "write_path holds {key_column}, which is unknown",
        ),
        ({"check_path": "/{table}"}, "check_path holds {table}"),
        ({"check_method": "DELETE"}, "provider.check_method must be one of: GET, POST, HEAD"),
        ({"check_method": "HEAD", "check_text": "x"}, "check_text needs an answer with a body"),
        ({"row_template": '{"fields": "{rwo}"}'}, "row_template holds {rwo}"),
        ({"row_template": '{"fields": 1}'}, 'row_template needs "{row}" exactly once'),
        ({"row_template": '{"a": "x {row}"}'}, 'row_template needs "{row}" exactly once'),
        (
            {"row_template": '{"a": "{row}", "b": "{row}"}'},
            'row_template needs "{row}" exactly once',
        ),
        ({"row_template": "{row}"}, "row_template is not valid JSON"),
        ({"write_path": "/v0/{base-id}/{table}"}, "write_path holds {base-id}, which is unknown"),
        ({"write_path": "/{table1}/{table}"}, "write_path holds {table1}, which is unknown"),
        ({"write_path": "/{table}/{table"}, "write_path holds {table without its }"),
        ({"row_template": '["{table x", "{row}"]'}, "row_template holds {table without its }"),
        ({"check_path": "/{x}"}, "check_path holds {x}, which is unknown there. No name is known"),
        (
            {"body": {"body_type": "object", "extra_body": '{"a": [{"{table}": 1}]}'}},
            "body.extra_body holds {table} in a member's name, where it is not replaced",
        ),
        *(
            ({"body": {"body_type": "object", "rows_path": path}}, "body.rows_path must be names")
            for path in ("a..b", "{table}")
        ),
        (
            {"body": {"body_type": "object", "extra_body": "[1]"}},
            "body.extra_body must be a JSON object",
        ),
        ({"success_statuses": "2xx"}, "success_statuses must be statuses and ranges"),
        ({"extra_headers": "no colon s3cret"}, "extra_headers line 1 must look like Name: value"),
        ({"extra_headers": "X: s3cr\u00e9t"}, "extra_headers holds characters"),
        (
            {"authentication": {"auth_type": "bearer", "token": "s3cr\net"}},
            "authentication.token holds characters",
        ),
        (
            {
                "authentication": {
                    "auth_type": "header",
                    "header_name": "A",
                    "secret": "s3cret",
                    "value_template": "Token",
                }
            },
            "authentication.value_template lacks {secret}",
        ),
        (
            {
                "authentication": {
                    "auth_type": "jwt",
                    "signing_secret": "s3cret",
                    "algorithm": "RS256",
                }
            },
            "authentication.signing_secret cannot sign with RS256",
        ),
        (
            {
                "authentication": {
                    "auth_type": "jwt",
                    "signing_secret": "s3cret",
                    "claims": '{"iss": 5}',
                }
            },
            "authentication.claims hold a value that no token can: Issuer (iss) must be a string",
        ),
        ({"table_count_path": "/n/{table}"}, "table_count_value is missing"),
        ({"table_count_value": "n"}, "table_count_path is missing"),
        (COUNT | {"table_count_path": "/n"}, "table_count_path lacks {table}"),
        ({"results_path": "items"}, "results_path needs result_error_member"),
        ({"upsert": {"upsert_type": "request"}}, "upsert says nothing that differs"),
        (
            {
                "body": {"body_type": "array"},
                "upsert": {"upsert_type": "request", "extra_body": "{}x"},
            },
            "upsert.extra_body needs a body that is an object",
        ),
        (
            {
                "replace": {
                    "replace_type": "empty_first",
                    "requests": [{"method": "DELETE", "path": "/all"}],
                }
            },
            "replace.requests[0] lacks {table}",
        ),
        ({"sucess_statuses": "2"}, "sucess_statuses is not a setting (did you mean success_stat"),
        ({"zzz": "s3cret"}, "provider.zzz is not a setting."),
        ({"body": {"body_type": "array", "row_path": "r"}}, "body.row_path is not a setting"),
        (
            {"rate_limits": [{"requests": 1, "seconds": 1, "minutes": 1}]},
            "rate_limits[0].minutes is not a setting",
        ),
        ({"error_index_member": "at"}, "error_index_member needs errors_path"),
        ({"result_error_member": "error"}, "result_error_member needs results_path"),
        ({"result_status_member": "s"}, "result_status_member needs results_path or errors_path"),
        ({"error_message_member": "m"}, "error_message_member needs results_path or errors_path"),
        ({"reset_header_format": "unix_time"}, "reset_header_format needs reset_header"),
        ({"success_statuses": "299-200"}, "success_statuses must be statuses and ranges"),
        ({"extra_headers": "content-length: 3"}, "extra_headers holds the header content-length"),
        *(
            ({"authentication": form}, f"authentication.{name} is empty")
            for name, form in (
                ("token", {"auth_type": "bearer", "token": " "}),
                ("secret", {"auth_type": "header", "header_name": "A", "secret": " "}),
                ("signing_secret", {"auth_type": "jwt", "signing_secret": "\n"}),
            )
        ),
        *(
            ({"replace": {"replace_type": "query", "query": query}}, "replace.query is empty")
            for query in ("?", " & ")
        ),
        ({"base_url": "http://api.example.com"}, "must start with https://"),
    ],
)
def test_a_wrong_form_is_an_error_that_names_the_field(form: dict[str, Any], message: str) -> None:
    """The error says what the field lacks, and shows no secret."""
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        made(**form)
    assert "s3cr" not in caught.value.message


def test_settings_of_a_branch_that_is_not_chosen_are_left_alone() -> None:
    """A form may keep what was filled in before another kind was chosen."""
    made(
        authentication={"auth_type": "none", "token": "old"},
        upsert={"upsert_type": "none", "path": "/x"},
    )


def test_braces_of_other_languages_are_sent_as_they_are() -> None:
    """JSON in a query and an array literal in SQL are no names."""
    form = {
        "write_path": '/{table}?filter={"id":{"_gt":0}}&a={}',
        "row_template": "[\"insert into {table} values('{a,b}', '{1}')\", \"{row}\"]",
    }
    request = sent_by(made(**form))
    assert request.path == "/deals?filter=%7B%22id%22:%7B%22_gt%22:0%7D%7D&a=%7B%7D"
    assert b"insert into deals values('{a,b}', '{1}')" in (request.body or b"")


def test_a_member_cannot_be_filled_twice() -> None:
    """The rows may not go where extra_body says something else; found before any request."""
    provider = made(body={"body_type": "object", "extra_body": '{"t": "{table}", "rows": 1}'})
    with pytest.raises(ConfigError, match=r"body\.rows_path names a member that extra_body fills"):
        provider.validate(table())


# --- what an answer means


def test_a_status_alone_is_the_proof_where_the_form_promises_nothing() -> None:
    """Any body will do, also none."""
    assert write(made(), answer(201)) == WriteReport(delivered=3)


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ({"count_path": "inserted"}, {"inserted": 2}),
        ({"count_path": "inserted"}, {"inserted": True}),
        ({"count_path": "inserted"}, {}),
        ({"count_path": "records"}, {"records": [1, 2]}),
        ({"count_path": "."}, {"id": 1}),  # an array that became one row
        ({"results_path": ".", "result_error_member": "error"}, [{}, {}]),
        ({"results_path": "items", "result_error_member": "error"}, {"item": []}),
        ({"results_path": ".", "result_error_member": "error"}, b"<html>"),
        ({"count_path": "inserted"}, b""),
        ({"errors_path": "errors"}, b"<html>"),
    ],
    ids=[
        "fewer",
        "a boolean",
        "nothing",
        "a shorter list",
        "an object",
        "fewer results",
        "no results",
        "html",
        "empty",
        "html for errors",
    ],
)
def test_an_answer_without_what_it_promises_proves_nothing(form: dict[str, Any], body: Any) -> None:
    """A success that does not account for each row is ambiguous."""
    with pytest.raises(Ambiguous):
        write(made(**form), answer(200, body))


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ({"count_path": "inserted"}, {"inserted": 3}),
        ({"count_path": "records"}, {"records": [1, 2, 3]}),
        ({"results_path": ".", "result_error_member": "error"}, [{"ok": True}] * 3),
        ({"results_path": "r", "result_status_member": "s"}, {"r": [{"s": 201}] * 3}),
        ({"errors_path": "errors"}, {"errors": []}),
        ({"errors_path": "errors"}, {}),
        ({"errors_path": "errors"}, b""),
    ],
)
def test_an_answer_that_accounts_for_each_row_is_a_success(form: dict[str, Any], body: Any) -> None:
    """A count, a list, or results without errors."""
    assert write(made(**form), answer(200, body)) == WriteReport(delivered=3)


def test_a_207_without_results_proves_nothing() -> None:
    """It says that rows may have failed, and the form does not say where."""
    with pytest.raises(Ambiguous, match="207"):
        write(made(), answer(207))
    with pytest.raises(Ambiguous, match="207"):
        write(made(errors_path="errors"), answer(207))
    assert write(made(errors_path="errors"), answer(207, {"errors": []})).delivered == 3
    assert write(made(count_path="n"), answer(207, {"n": 3})).delivered == 3


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (
            {"results_path": ".", "result_error_member": "error", "error_message_member": "why"},
            [{"ok": 1}, {"error": "conflict", "why": "bad n"}, {"ok": 1}],
        ),
        (
            {"results_path": "r", "result_status_member": "s", "error_message_member": "why"},
            {"r": [{"s": 201}, {"s": 409, "why": "bad n"}, {"s": 201}]},
        ),
        (
            {"errors_path": "errors", "error_index_member": "at", "error_message_member": "why"},
            {"errors": [{"at": 1, "why": "bad n"}]},
        ),
        ({"errors_path": "errors"}, {"errors": {"1": "bad n"}}),
        ({"errors_path": "errors", "count_path": "n"}, {"errors": {"1": "bad n"}, "n": 2}),
    ],
    ids=["error member", "status member", "index member", "by row number", "with a count"],
)
def test_failed_rows_of_a_success_are_reported(form: dict[str, Any], body: Any) -> None:
    """The others are delivered, and the report has the API's reason."""
    report = write(made(**form), answer(200, body))
    (fault,) = report.faults
    assert (report.delivered, fault.position, fault.reason) == (2, 1, "bad n")


def test_failed_rows_of_an_api_that_stores_all_or_nothing_refuse_the_request() -> None:
    """One error in a success means that nothing is in: the rest goes out again without that row."""
    form = {
        "results_path": "results",
        "result_error_member": "error",
        "refusals_store_nothing": True,
    }
    with pytest.raises(Refused) as caught:
        write(made(**form), answer(200, {"results": [{}, {"error": "NOT NULL"}]}))
    assert [fault.position for fault in caught.value.faults] == [1]
    assert not caught.value.partial


@pytest.mark.parametrize(
    ("form", "status", "body", "positions"),
    [
        (
            {"results_path": "_items", "result_error_member": "_issues"},
            422,
            {"_items": [{"_issues": {"n": "x"}}, {}, {"_issues": {"n": "y"}}]},
            [0, 2],
        ),
        ({"errors_path": "data.requests"}, 400, {"data": {"requests": {"1": {"code": "x"}}}}, [1]),
        ({"errors_path": "errors"}, 400, {"errors": ["no row named"]}, []),
        ({"errors_path": "errors"}, 400, {"errors": {"7": "not a row of ours"}}, []),
        ({}, 400, b"plain", []),
    ],
)
def test_a_refusal_names_rows_as_far_as_it_does(
    form: dict[str, Any], status: int, body: Any, positions: list[int]
) -> None:
    """Rows named by the answer are known; without them the batch is taken apart."""
    with pytest.raises(Refused) as caught:
        write(made(**form), answer(status, body))
    assert [fault.position for fault in caught.value.faults] == positions


def test_rows_may_be_counted_from_one() -> None:
    """In the member names of an object as well as in an index member."""
    form = {"errors_path": "errors", "error_index_member": "at", "error_index_base": 1}
    for errors in ({"1": "bad"}, [{"at": 1}], [{"at": "1"}]):
        report = write(made(**form), answer(200, {"errors": errors}))
        assert [fault.position for fault in report.faults] == [0]
    with pytest.raises(Refused, match="row_errors"):
        write(made(**form), answer(200, {"errors": [{"at": 0}]}))


@pytest.mark.parametrize("name", ["\u00b2", "9" * 5000, "-1", "1.0", ""])
def test_a_member_name_that_is_no_row_number_names_no_row(name: str) -> None:
    """Whatever it looks like, the answer is judged and nothing crashes."""
    with pytest.raises(Refused) as caught:
        write(made(errors_path="errors"), answer(200, {"errors": {name: "bad"}}))
    assert caught.value.partial


def test_errors_that_name_no_row_make_a_success_partial() -> None:
    """Some rows are in and nobody knows which."""
    with pytest.raises(Refused) as caught:
        write(made(errors_path="errors"), answer(200, {"errors": ["a row is bad"]}))
    assert caught.value.partial


def test_a_bare_result_of_one_row_is_its_own_result() -> None:
    """An API that answers an array of one with the bare item is read all the same."""
    provider = made(
        results_path="_items",
        result_error_member="_issues",
        result_status_member="_status",
        result_success_statuses="OK",
    )
    for body, faults in (({"_status": "OK"}, 0), ({"_issues": {"n": "bad"}}, 1)):
        flow = provider.write(table(), block(ROWS[0]), Context())
        assert len(run(provider, flow, answer(201, body)).faults) == faults


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"", Accept),
        (400, b"", Throw),
        (409, b"", Throw),
        (413, b"<html>", Throw),
        (422, b"", Throw),
        (429, b"<html>", Retry),
        (401, b"", Renew),
        (403, b"", Stop),
        (404, b"", Stop),
        (301, b"", Stop),
        (500, b"Code: 27, e.displayText()", Throw),
        (500, b"Code: 164, read only", Stop),
        (500, b"Code: 999", Retry),
        (400, b'{"status": 403, "why": "superusers only"}', Stop),
        (418, b"slow down, rate limit exceeded", Retry),
        (500, b"exceeds max bound parameters", Throw),
        (503, b"", Retry),
        (501, b"", Stop),
    ],
)
def test_statuses_and_texts_decide(status: int, body: bytes, expected: type) -> None:
    """A text goes before a status: a 500 can be final, a 400 a matter of rights."""
    provider = made(
        refused_texts=["Code: 27,"],
        stop_texts=["Code: 164,", '"why":"superusers only"'],
        rate_limit_texts=["rate limit exceeded"],
        too_large_texts=["max bound parameters"],
    )
    assert isinstance(judged(provider, answer(status, body)), expected)


def test_the_lists_of_statuses_are_the_users() -> None:
    """What is success, bad rows or worth another try can be said; what is none of them stops."""
    provider = made(success_statuses="202", refused_statuses="499", retry_statuses="500-502")
    kinds = [type(judged(provider, answer(status))) for status in (202, 499, 501, 200, 503, 409)]
    assert kinds == [Accept, Throw, Retry, Stop, Stop, Stop]
    for status in (400, 408, 412, 415, 418, 422, 425):
        found = judged(provider, answer(status))
        assert isinstance(found, Stop)
        assert "retry_statuses or refused_statuses" in found.error.message


def test_a_5xx_may_have_been_applied() -> None:
    """A gateway's answer proves nothing about an insert; a 429 or a time to wait does."""
    told = {
        status: found.applied
        for status in (500, 502, 503, 504, 520, 524, 429, 408)
        if isinstance(found := judged(made(), answer(status)), Retry)
    }
    maybe = dict.fromkeys((500, 502, 503, 504, 520, 524), "maybe")
    assert told == {**maybe, 429: "no", 408: "no"}
    assert judged(made(), answer(503, retry_after="7")) == Retry(applied="no")


def test_texts_in_a_success_count_only_in_the_errors_of_rows() -> None:
    """A stored row that quotes a stop text ends nothing; the error of a row does."""
    form = {"results_path": ".", "result_error_member": "error", "stop_texts": ["unauthorized"]}
    quoted = [{"id": 1, "note": "unauthorized"}] * 3
    assert isinstance(judged(made(**form), answer(201, quoted)), Accept)
    denied = [{"id": 1, "error": "unauthorized"}] * 3
    assert isinstance(judged(made(**form), answer(201, denied)), Stop)
    single = next(made(**form).write(table(), block(ROWS[0]), Context()))
    bare = form | {"results_path": "items"}  # an answer about one row may leave the list out
    assert isinstance(made(**bare).classify(single, answer(201, denied[0])), Stop)


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (
            {"results_path": ".", "result_error_member": "error"},
            [{"ok": 1}, {"ok": 1}, {"error": "rate limit exceeded"}],
        ),
        ({"errors_path": "errors"}, {"errors": {"2": "rate limit exceeded"}}),
    ],
)
def test_a_rate_limit_of_some_rows_proves_nothing_about_the_others(
    form: dict[str, Any], body: Any
) -> None:
    """The others may be stored, so an insert is not simply sent again."""
    form |= {"rate_limit_texts": ["rate limit exceeded"]}
    assert judged(made(**form), answer(207, body)) == Retry(applied="maybe", pause=True)
    atomic = made(**form, refusals_store_nothing=True)
    assert judged(atomic, answer(207, body)) == Retry(applied="no", pause=True)


def test_a_row_too_large_beside_stored_ones_is_rejected_alone() -> None:
    """Only what can be sent again without doubling rows is split."""
    form = {
        "results_path": ".",
        "result_error_member": "error",
        "too_large_texts": ["document_too_large"],
    }
    response = answer(201, [{"ok": 1}, {"ok": 1}, {"error": "document_too_large"}])
    assert [fault.position for fault in write(made(**form), response).faults] == [2]
    for more in ("refusals_store_nothing", "repeat_is_safe"):
        assert isinstance(judged(made(**form, **{more: True}), response), Throw)


def test_no_vendor_text_reaches_a_config_error() -> None:
    """Answers may quote rows and credentials, so the messages are our own."""
    provider = made(stop_texts=["denied"])
    for status in (400, 401, 403, 404, 405, 500, 501):
        found = judged(provider, answer(status, b"denied for row-value-42"))
        assert isinstance(found, Stop | Renew)
        assert "row-value-42" not in str(found.error)


@pytest.mark.parametrize(
    ("form", "headers", "after_s"),
    [
        ({}, {"retry_after": "7"}, None),  # the sender reads it
        ({"rate_limit_wait_seconds": 30}, {"retry_after": "7"}, 30.0),
        ({"rate_limit_wait_seconds": 30}, {"retry_after": "45"}, 45.0),
        (
            {"rate_limit_wait_seconds": 30},
            {"retry_after": "Sun Nov  6 08:50:22 1994", "date": "Sun, 06 Nov 1994 08:49:37 GMT"},
            45.0,
        ),
        ({"reset_header": "X-Reset"}, {"x_reset": "12"}, 12.0),
        (
            {"reset_header": "X-Reset", "reset_header_format": "unix_time"},
            {"x_reset": "784111790", "date": "Sun, 06 Nov 1994 08:49:37 GMT"},
            13.0,
        ),
        ({"reset_header": "X-Reset"}, {}, None),
    ],
)
@pytest.mark.usefixtures("far_from_utc")
def test_a_rate_limit_waits_for_the_longest(
    form: dict[str, Any], headers: dict[str, str], after_s: float | None
) -> None:
    """Of the form's wait, Retry-After and the reset header."""
    found = judged(made(**form), answer(429, **headers))
    assert found == Retry(after_s=after_s, pause=True)


def test_rate_limits_are_those_of_the_form_for_all_tables() -> None:
    """Windows, rows, bytes and parallel requests become the limits."""
    limits = made(
        rate_limits=[{"requests": 5, "seconds": 1}, {"requests": 100, "seconds": 60}],
        max_rows_per_request=10,
        max_megabytes_per_request=0.5,
        max_parallel_requests=3,
    ).limits
    assert limits.windows == ((5, 1.0), (100, 60.0))
    assert (limits.max_rows, limits.max_bytes, limits.max_parallel) == (10, 500_000, 3)
    assert (limits.hard_max_rows, limits.hard_max_bytes) == (10, 500_000)
    assert limits.shared_windows


def test_whole_numbers_with_a_point_are_whole() -> None:
    """JSON schema takes 10.0 for an integer, and slices, ranges and positions do not."""
    provider = made(
        rate_limits=[{"requests": 5.0, "seconds": 1}],
        max_rows_per_request=10.0,
        max_parallel_requests=3.0,
        errors_path="errors",
        error_index_base=1.0,
    )
    limits = provider.limits
    numbers = (limits.max_rows, limits.hard_max_rows, limits.max_parallel, limits.windows[0][0])
    assert [repr(number) for number in numbers] == ["10", "10", "3", "5"]
    (fault,) = write(provider, answer(200, {"errors": {"1": "bad"}})).faults
    assert repr(fault.position) == "0"


# --- repeating


def test_a_row_stored_before_is_delivered_when_it_is_sent_again() -> None:
    """A conflict counts as stored only where an earlier attempt may have been applied."""
    provider = made(
        results_path=".", result_error_member="error", already_stored_texts=["conflict"]
    )
    body = [{"ok": 1}, {"error": "conflict"}, {"error": "bad value"}]
    assert [f.position for f in write(provider, answer(201, body)).faults] == [1, 2]
    again = write(provider, answer(201, body), repeated=True)
    assert (again.delivered, [f.position for f in again.faults]) == (2, [2])


def test_a_refused_row_stored_before_is_delivered_when_it_is_sent_again_alone() -> None:
    """A batch refused for it is taken apart, and the single row is known to be in."""
    provider = made(already_stored_texts=["UNIQUE"], refusals_store_nothing=True)
    refusal = answer(400, b"UNIQUE constraint failed")
    with pytest.raises(Refused):
        write(provider, refusal, repeated=True)
    single = provider.write(table(), block(ROWS[0]), Context(repeated=True))
    assert run(provider, single, refusal) == WriteReport(delivered=1)
    with pytest.raises(Refused):
        run(provider, provider.write(table(), block(ROWS[0]), Context()), refusal)


UPSERT = {"upsert_type": "request", "method": "PUT"}


@pytest.mark.parametrize(
    ("counted", "body", "is_proof"),
    [
        (None, {"n": 3}, True),
        (None, {"m": 3}, False),
        ("m", {"m": 3}, True),
        ("m", {"n": 3}, False),
        ("none", b"null", True),
    ],
)
def test_an_upsert_may_be_counted_otherwise(counted: str | None, body: Any, is_proof: bool) -> None:  # noqa: FBT001 - a column of the table above
    """As an insert, at a path of its own, or not at all."""
    upsert = UPSERT | ({} if counted is None else {"count_path": counted})
    provider = made(count_path="n", upsert=upsert)
    flow = provider.write(dedup(), block(), Context())
    if is_proof:
        assert run(provider, flow, answer(200, body)) == WriteReport(delivered=3)
    else:
        with pytest.raises(Ambiguous):
            run(provider, flow, answer(200, body))


@pytest.mark.parametrize("stored", [0, 2, 3])
def test_a_repeat_counts_the_rows_that_were_new(stored: int) -> None:
    """An API that counts new rows tells fewer of them when rows are sent again."""
    provider = made(count_path="n", repeat_is_safe=True)
    body = {"n": stored}
    assert write(provider, answer(200, body), repeated=True) == WriteReport(delivered=3)
    if stored != 3:
        with pytest.raises(Ambiguous):
            write(provider, answer(200, body))
    unsafe = made(count_path="n")
    if stored != 3:
        with pytest.raises(Ambiguous):
            write(unsafe, answer(200, body), repeated=True)
    with pytest.raises(Ambiguous):
        write(provider, answer(200, {"n": 4}), repeated=True)


@pytest.mark.parametrize(
    ("total", "stored"),
    [(10, set()), (13, {0, 1, 2}), (11, None), (14, None), (9, None)],
)
def test_a_count_tells_all_or_nothing(total: int, stored: set[int] | None) -> None:
    """Three rows on top of ten: all in, none in, or it cannot be told."""
    provider = made(**COUNT)
    run(provider, provider.prepare(table()), answer(200, {"n": 4}))
    flow = provider.stored_rows(table(), [block()], Context(stored=10))
    assert run(provider, flow, answer(200, {"n": total})) == ReadBack(stored, total)


def test_traits_follow_the_form() -> None:
    """Reading back needs a count path; a repeated insert is safe where the form says so."""
    plain, counting, keyed = made(), made(**COUNT), made(repeat_is_safe=True)
    assert (plain.traits.reads_back, plain.traits.on_unknown) == (False, "fail")
    assert counting.traits.reads_back
    assert made(on_ambiguous_write="retry").traits.on_unknown == "retry"
    assert [p.repeats_safely(table()) for p in (plain, keyed)] == [False, True]
    assert sent_by(keyed).repeat == "safe"


@pytest.mark.parametrize(
    ("value", "response"),
    [
        ("n", answer(200, {"n": 7})),
        ("0.n", answer(200, [{"n": 7}])),
        (".", answer(200, b"7\n")),
        ("a.0.b", answer(200, {"a": [{"b": "7"}]})),
        ("header:Content-Range", answer(200, b"", **{"content-range": "0-0/7"})),
    ],
)
def test_a_count_is_read_where_the_form_says(value: str, response: HttpResponse) -> None:
    """A member, a list position, the answer itself, or a header."""
    provider = made(**COUNT | {"table_count_value": value})
    assert run(provider, provider.prepare(table()), response) == 7


def test_a_count_that_is_not_there_is_a_wrong_setting() -> None:
    """The sync does not begin with a count that cannot be read."""
    provider = made(**COUNT)
    with pytest.raises(ConfigError, match="table_count_value"):
        run(provider, provider.prepare(table()), answer(200, {"m": 7}))


# --- checking


def test_check_reads_once_and_writes_nothing() -> None:
    """One GET; its statuses and text decide."""
    provider = made(check_statuses="200", check_text='"admin": true')
    sent: list[HttpRequest] = []
    run(provider, provider.check(["deals"]), answer(200, b'{"admin": true}'), sent=sent)
    assert [(r.method, r.path, r.body) for r in sent] == [("GET", "/me", None)]


def test_texts_of_good_answers_do_not_depend_on_white_space() -> None:
    """The form's own example finds its member however the server writes JSON."""
    provider = made(check_text='"ok": true', replace=EMPTY | {"success_text": '"ok":true'})
    for body in (b'{"ok":true}', b'{"ok" : true}'):
        run(provider, provider.check([]), answer(200, body))
        run(provider, provider.replace_begin(table(), LOAD), answer(200, body), answer(200, body))


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_check_may_use_another_method(method: str) -> None:
    """Its statuses decide for each of them."""
    provider = made(check_method=method, check_statuses="204")
    sent: list[HttpRequest] = []
    run(provider, provider.check([]), answer(204), sent=sent)
    assert [(r.method, r.path, r.body) for r in sent] == [(method, "/me", None)]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (answer(200, b'{"actor": null}'), "check_text"),
        (answer(401), "authentication"),
        (answer(404), "check_path"),
        (answer(400), "check_path"),
    ],
)
def test_a_failed_check_names_the_setting(response: HttpResponse, message: str) -> None:
    """A wrong credential answered with 200 fails as well."""
    provider = made(check_statuses="200", check_text='"actor": {')
    with pytest.raises(ConfigError, match=message):
        run(provider, provider.check([]), response)


# --- replacing


EMPTY = {
    "replace_type": "empty_first",
    "requests": [
        {"method": "POST", "path": "/sql", "body": '{"sql": "delete from {table}"}'},
        {"method": "DELETE", "path": "/t/{table}"},
    ],
}
LOAD = Load(rows=3, n_bytes=100, requests=1)


def test_a_table_is_emptied_by_the_requests_in_order() -> None:
    """Then it is counted, and must be empty before the first row."""
    provider = made(replace=EMPTY, **COUNT)
    sent: list[HttpRequest] = []
    flow = provider.replace_begin(table(), LOAD)
    plan = run(provider, flow, answer(), answer(204), answer(200, {"n": 0}), sent=sent)
    assert [(r.method, r.path, r.body) for r in sent[:2]] == [
        ("POST", "/sql", b'{"sql":"delete from deals"}'),
        ("DELETE", "/t/deals", None),
    ]
    assert plan.stored == 0


@pytest.mark.parametrize(
    "answers",
    [
        (answer(400),),
        (answer(200, b"no"), answer(200, b"no")),
        (answer(403),),
    ],
    ids=["refused", "another answer", "no right"],
)
def test_a_table_that_is_not_emptied_gets_no_row(answers: tuple[HttpResponse, ...]) -> None:
    """The expected answer is a status and, where the form says so, a text."""
    provider = made(replace=EMPTY | {"success_text": "ok"})
    with pytest.raises(ConfigError):
        run(provider, provider.replace_begin(table(), LOAD), *answers[:1])


def test_rows_left_after_emptying_stop_the_load() -> None:
    """Nothing new is sent on top of old rows."""
    provider = made(replace=EMPTY, **COUNT)
    with pytest.raises(TransientError, match="holds 2 rows after it was emptied"):
        run(
            provider,
            provider.replace_begin(table(), LOAD),
            answer(),
            answer(),
            answer(200, {"n": 2}),
        )


def test_a_load_of_which_nothing_was_stored_is_found_by_the_count() -> None:
    """An API that answered 201 and stored nothing does not pass for a replaced table."""
    provider = made(replace=EMPTY, **COUNT)
    with pytest.raises(TransientError, match="holds 0 rows after 3 were sent"):
        run(provider, provider.replace_end(table(), ReplacePlan(), 3), answer(200, {"n": 0}))


def flagged(provider: CustomHttp, plan: ReplacePlan, *, is_accepted: bool = True) -> str:
    """The path of the next write of a load."""
    flow = provider.write(table(), block(), Context(replace=plan))
    path = next(flow).path
    if is_accepted:
        with pytest.raises(StopIteration):
            flow.send(answer(200))
    return path


@pytest.mark.parametrize(
    ("requests", "paths"),
    [
        ("first", ["/t/deals/rows?all=true", "/t/deals/rows"]),
        ("every", ["/t/deals/rows?all=true", "/t/deals/rows?all=true"]),
    ],
)
def test_a_replacing_query_goes_on_the_requests_that_the_form_says(
    requests: str, paths: list[str]
) -> None:
    """On the first until it was accepted, or on every one."""
    provider = made(replace={"replace_type": "query", "query": "all=true", "requests": requests})
    plan = run(provider, provider.replace_begin(table(), Load(9, 100, 3)))
    assert plan.first_alone
    assert flagged(provider, plan, is_accepted=False) == paths[0]
    assert [flagged(provider, plan) for _ in range(2)] == paths


def test_one_replacing_request_is_the_rule() -> None:
    """A load of several is refused before anything is sent; one of no rows is a request too."""
    provider = made(replace={"replace_type": "query", "query": "?all=true"})
    with pytest.raises(ConfigError, match="takes up to 3 requests"):
        run(provider, provider.replace_begin(table(), Load(9, 100, 3)))
    assert run(provider, provider.replace_begin(table(), Load(0, 0, 0))).single


def test_the_first_replacing_request_may_be_repeated() -> None:
    """It replaces the content again; the ones after it would double rows."""
    provider = made(replace={"replace_type": "query", "query": "a=1", "requests": "first"})
    plan = ReplacePlan()
    assert sent_by(provider, replace=plan).repeat == "settled"
    plan.begun = True
    assert sent_by(provider, replace=plan).repeat == "unsafe"


def first_of(provider: CustomHttp, **more: Any) -> Context:
    """The context of the first write of a load that replaces by a query."""
    plan = run(provider, provider.replace_begin(table(), Load(6, 100, 2)))
    return Context(replace=plan, stored=plan.stored, **more)


QUERY = {"replace_type": "query", "query": "all=true", "requests": "first"}


def test_a_replacing_request_is_never_read_back() -> None:
    """As many old rows as were sent look like the new ones; it replaces again instead."""
    provider = made(replace=QUERY, **COUNT)
    context = first_of(provider)
    assert run(provider, provider.stored_rows(table(), [block()], context)) == ReadBack(set())
    flow = provider.write(table(), block(), context)
    assert run(provider, flow, answer(201)).delivered == 3
    flow_after = provider.stored_rows(
        table(), [block()], Context(replace=context.replace, stored=3)
    )
    assert run(provider, flow_after, answer(200, {"n": 6})) == ReadBack({0, 1, 2}, 6)


def test_a_replacing_row_stored_by_an_earlier_attempt_has_begun_the_load() -> None:
    """The next request must add to it."""
    provider = made(replace=QUERY, already_stored_texts=["UNIQUE"])
    context = first_of(provider, repeated=True)
    flow = provider.write(table(), block(ROWS[0]), context)
    assert run(provider, flow, answer(409, b"UNIQUE")).delivered == 1
    assert sent_by(provider, replace=context.replace).path == "/t/deals/rows"


def test_a_load_whose_rows_are_all_rejected_leaves_no_old_row() -> None:
    """No request with the flag was accepted, so one without a row is sent at the end."""
    provider = made(replace=QUERY)
    plan = first_of(provider).replace
    assert plan is not None
    sent: list[HttpRequest] = []
    run(provider, provider.replace_end(table(), plan, 0), answer(200), sent=sent)
    assert [(r.path, r.body) for r in sent] == [("/t/deals/rows?all=true", b'{"rows":[]}')]
    with pytest.raises(ConfigError, match="old content"):
        run(provider, provider.replace_end(table(), ReplacePlan(), 0), answer(400))


# --- the form and the docs


def fields_without_an_example(place: str, field: Any) -> list[str]:
    """Every place of a form where something is to be typed and no example says what."""
    found = [
        where
        for branch in field.get("oneOf", ())
        for where in fields_without_an_example(place, branch)
    ]
    for name, member in field.get("properties", {}).items():
        found += fields_without_an_example(f"{place}.{name}", member)
    items = field.get("items", {})
    if "properties" in items:
        return found + fields_without_an_example(f"{place}[]", items)
    is_typed = field["type"] not in {"object", "boolean"} and not {"enum", "const"} & set(field)
    return found + ([place] if is_typed and not field.get("examples") else [])


def test_each_field_has_an_example() -> None:
    """A form is filled in by what it shows."""
    assert fields_without_an_example("provider", CustomHttp.spec) == []


def configurations() -> list[dict[str, Any]]:
    """Those of the docs."""
    return list(map(json.loads, re.findall(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)))


def test_every_configuration_of_the_docs_is_valid() -> None:
    """Each one parses, and can render a table it is meant for."""
    assert configurations()
    for form in configurations():
        provider = parse({"provider": form}, PROVIDERS, is_cloud=False).provider
        has_upsert = "upsert" in form
        where = dedup(replace="replace" in form) if has_upsert else table(replace="replace" in form)
        provider.validate(where)


OLD_NAMES = {
    "api_address": "base_url",
    "api_authentication": "authentication",
    "booleans": "boolean_format",
    "timestamps": "timestamp_format",
    "after_lost_answer": "on_ambiguous_write",
}


def test_every_configuration_of_the_docs_works_under_the_old_names() -> None:
    """As configs saved from an older version of the docs have them."""
    for form in configurations():
        old = {OLD_NAMES.get(name, name): value for name, value in form.items()}
        made, same = (
            parse({"provider": given}, PROVIDERS, is_cloud=False).provider for given in (form, old)
        )
        assert old != form
        assert (made.base_url, made.rules) == (same.base_url, same.rules)
        assert made.headers(0).keys() == same.headers(0).keys()


# --- with the sender


def naming(bad: set[int], *, only_first: bool = False) -> Answer:
    """An API that stores all rows of a request or none and names the bad ones."""

    def answer_to(request: HttpRequest) -> HttpResponse:
        rows = [row["id"] for row in json.loads(request.body or b"")["rows"]]
        errors = {str(i): "bad" for i, row in enumerate(rows) if row in bad}
        if only_first:
            errors = dict(list(errors.items())[:1])
        return answer(400, {"errors": errors}) if errors else answer(201)

    return answer_to


@pytest.mark.parametrize(
    ("only_first", "bad", "bodies"),
    [
        (False, {1, 3}, [[0, 1, 2, 3, 4], [1], [0, 2, 4]]),
        (True, {1, 3}, [[0, 1, 2, 3, 4], [1], [0, 2, 3, 4], [0, 2, 4]]),
        (False, {0, 1, 2, 3, 4}, [[0, 1, 2, 3, 4], [0]]),
    ],
    ids=["all named", "the first named", "all bad"],
)
def test_rows_that_a_refusal_names_are_left_out(
    only_first: bool,  # noqa: FBT001 - a column of the table above
    bad: set[int],
    bodies: list[list[int]],
) -> None:
    """They are rejected with their place in the batch, the first once it is refused alone too."""
    provider = made(errors_path="errors", refusals_store_nothing=True)
    wire = Wire(provider, naming(bad, only_first=only_first))
    result = wire.deliver(5)
    assert result.error is None
    assert wire.bodies == bodies
    assert result.delivered == 5 - len(bad)
    assert [(row.index, row.row, row.reason) for row in result.rejected] == [
        (i, b'{"id":%d}' % i, "bad") for i in sorted(bad)
    ]


def rolling_back(bad: set[int]) -> Answer:
    """An API that says of each row of a failed request that it failed, as Salesforce does."""

    def answer_to(request: HttpRequest) -> HttpResponse:
        rows = [row["id"] for row in json.loads(request.body or b"")["rows"]]
        if bad.isdisjoint(rows):
            return answer(200, [{"s": 201, "errors": []} for _ in rows])
        why = {True: (400, "REQUIRED_FIELD_MISSING"), False: (424, "ROLLED_BACK")}
        told = [why[row in bad] for row in rows]
        return answer(200, [{"s": status, "errors": [text]} for status, text in told])

    return answer_to


@pytest.mark.parametrize(
    "form", [{"result_status_member": "s"}, {"result_error_member": "errors"}], ids=["424", "text"]
)
@pytest.mark.parametrize("bad", [{0}, {2}, {1, 4}, {0, 1, 2, 3, 4}])
def test_rows_that_failed_with_a_bad_one_are_not_bad(form: dict[str, Any], bad: set[int]) -> None:
    """Each kind of fault is proven by itself: good rows of an all-or-nothing request go in."""
    provider = made(results_path=".", refusals_store_nothing=True, **form)
    wire = Wire(provider, rolling_back(bad))
    for _ in range(2):
        result = wire.deliver(5)
        assert result.error is None
        assert sorted(row.index for row in result.rejected) == sorted(bad)
        assert result.delivered == 5 - len(bad)


class KeyedApi:
    """An API whose key refuses a request with a row that is in already, as a whole."""

    def __init__(self) -> None:
        self.stored: set[int] = set()
        self.losses = 0

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method == "GET":
            return answer(200, {"n": len(self.stored)})
        rows = {row["id"] for row in json.loads(request.body or b"")["rows"]}
        if rows & self.stored:
            return answer(409, b"UNIQUE constraint failed")
        self.stored |= rows
        if self.losses:
            self.losses -= 1
            return answer(504, b"<html>")
        return answer(201)


@pytest.mark.parametrize("narrows", [True, False], ids=["skip", "fail"])
def test_a_repeated_insert_that_meets_its_own_rows_is_delivered(
    narrows: bool,  # noqa: FBT001 - the policy
) -> None:
    """A 504 but stored, sent again and refused for its key, costs no row under either policy."""
    api = KeyedApi()
    api.losses = 1
    provider = made(
        repeat_is_safe=True, already_stored_texts=["UNIQUE"], refusals_store_nothing=True
    )
    result = Wire(provider, api, narrows=narrows).deliver(5)
    assert result.error is None
    assert (result.delivered, result.rejected, api.stored) == (5, [], {0, 1, 2, 3, 4})


@pytest.mark.parametrize("is_safe", [True, False])
def test_unnamed_errors_in_a_success_are_found_only_where_rows_can_be_sent_again(
    is_safe: bool,  # noqa: FBT001 - the setting
) -> None:
    """Taken apart where that doubles nothing, otherwise the end of the sync."""

    def answer_to(request: HttpRequest) -> HttpResponse:
        is_bad = b'"id":3}' in (request.body or b"")
        return answer(200, {"errors": ["one is bad"] if is_bad else []})

    result = Wire(made(errors_path="errors", repeat_is_safe=is_safe), answer_to).deliver(5)
    if is_safe:
        assert (result.error, result.delivered) == (None, 4)
        assert [row.index for row in result.rejected] == [3]
    else:
        assert isinstance(result.error, UnaccountedRows)


def test_a_key_that_was_taken_before_is_a_rejected_row() -> None:
    """Without an earlier attempt the same refusal is about the row."""
    api = KeyedApi()
    api.stored = {2}
    provider = made(
        repeat_is_safe=True, already_stored_texts=["UNIQUE"], refusals_store_nothing=True
    )
    result = Wire(provider, api).deliver(5)
    assert result.error is None
    assert (result.delivered, [row.index for row in result.rejected]) == (4, [2])


def test_rate_windows_hold_for_all_tables_together() -> None:
    """Requests for two tables share the windows of the one credential."""
    provider = made(rate_limits=[{"requests": 1, "seconds": 10}])
    wire = Wire(provider, naming(set()))
    for name in ("deals", "orders"):
        batch = Batch(1, table(name), block(b'{"id":1}'), "end", [(Epoch(1), 1)])
        assert wire.sender.deliver(Delivery(batch)).error is None
    first, second = (sent.at for sent in wire.transport.sent)
    assert second - first >= 10
