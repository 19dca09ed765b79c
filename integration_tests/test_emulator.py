"""The emulator does what the vendors document, and each switch and fault does what it says.

Everything goes through plain `requests`, as a client would; emulated time is advanced and never
waited for.
"""

from __future__ import annotations

import gc
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from decimal import Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from integration_tests.connector import wait_until
from integration_tests.emulator import Emulator, EmulatorProcess, checksum
from integration_tests.emulator.storage import Storage

KEY = {"X-API-Key": "qobra-key-1"}
SECRET = "kore-secret-1"
COLUMNS = {"id": "string", "name": "string", "amount": "number"}
ALL = {"query": {"expressions": [{"field": "sys_Id", "operand": "!=", "value": ""}]}}

pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")


@pytest.fixture(scope="module")
def _shared() -> Iterator[Emulator]:
    """One server for the module: starting it is the dear part."""
    with Emulator(manual_clock=True) as emulator:
        yield emulator


@pytest.fixture
def emulator(_shared: Emulator) -> Emulator:
    """Both vendors with one typed table `deals`, nothing else, and a clock that stands still."""
    _shared.reset()
    _shared.create_table("qobra", "deals", COLUMNS)
    _shared.create_table("kore", "deals", COLUMNS)
    return _shared


def row(number: int, amount: Any = 1.5) -> dict[str, Any]:
    return {"id": str(number), "name": f"deal {number}", "amount": amount}


def rows(*numbers: int) -> list[dict[str, Any]]:
    return [row(number) for number in numbers]


def push(
    emulator: Emulator, items: Any, query: str = "", table: str = "deals"
) -> requests.Response:
    url = f"{emulator.url}/v1/tables/{table}/records/bulk{query}"
    return requests.post(url, json={"items": items}, headers=KEY, timeout=60)


def pushed(emulator: Emulator, items: Any, query: str = "", table: str = "deals") -> str:
    answer = push(emulator, items, query, table)
    assert answer.status_code == 200
    return str(answer.json()["import_id"])


def fetch(emulator: Emulator, import_id: str) -> Any:
    answer = requests.get(f"{emulator.url}/v1/imports/{import_id}", headers=KEY, timeout=60)
    return answer.json()["data_import"] if answer.status_code == 200 else answer.status_code


def entry(emulator: Emulator, import_id: str) -> Any:
    """Return the one entry of our table after all imports are due."""
    emulator.advance(10_000)
    entries = fetch(emulator, import_id)["data_tables_details"]
    (own,) = [entry for entry in entries if entry["data_table_key"] == "deals"]
    return own


def ids(emulator: Emulator, vendor: Any = "qobra") -> list[str]:
    return [row["id"] for row in emulator.rows(vendor, "deals")]


def token(
    emulator: Emulator | None = None, secret: Any = SECRET, algorithm: str = "HS256", **claims: Any
) -> str:
    now = emulator.clock.now() if emulator else time.time()  # noqa: TID251
    given = {
        "appId": "cs-demo",
        "sub": "test",
        "exp": int(now) + 300,
        "jti": uuid.uuid4().hex,
        **claims,
    }
    given = {name: value for name, value in given.items() if value is not None}
    return jwt.encode(given, secret, algorithm=algorithm)


def call(
    emulator: Emulator, verb: str, path: str, payload: Any, auth: str | None = None
) -> requests.Response:
    url = f"{emulator.url}/api/public/tables/{path}"
    headers = {"auth": token(emulator) if auth is None else auth}
    return requests.request(verb, url, json=payload, headers=headers, timeout=60)


def insert(
    emulator: Emulator, data: Any, auth: str | None = None, table: str = "deals"
) -> requests.Response:
    return call(emulator, "POST", f"{table}/bulk", {"data": data}, auth)


def where(field: str, operand: str, value: Any) -> Any:
    return {"query": {"expressions": [{"field": field, "operand": operand, "value": value}]}}


def message(answer: requests.Response) -> str:
    return str(answer.json()["errors"][0]["msg"])


def test_qobra_import_runs_in_the_background(emulator: Emulator) -> None:
    """A POST counts its rows at once; they appear when the import is finished."""
    answer = push(emulator, rows(1, 2)).json()
    assert answer["objects_imported"] == 2
    assert len(answer["import_id"]) == 24
    started = fetch(emulator, answer["import_id"])
    assert (started["status"], started["finished_at"]) == ("started", None)
    assert started["data_tables_details"][0]["number_of_records"] is None
    assert emulator.count("qobra", "deals") == 0
    emulator.advance(1)
    finished = fetch(emulator, answer["import_id"])
    assert (finished["id"], finished["status"], finished["progress"]) == (
        answer["import_id"],
        "finished",
        100,
    )
    assert finished["data_tables_details"] == [
        {
            "type": "api",
            "status": "finished",
            "data_table_key": "deals",
            "progress": 100,
            "number_of_records": 2,
            "error": None,
        }
    ]
    assert emulator.rows("qobra", "deals")[0] == {
        "id": "1",
        "name": "deal 1",
        "amount": Decimal("1.5"),
    }


def test_qobra_upserts_by_id_and_leaves_missing_fields(emulator: Emulator) -> None:
    """A row of a known id replaces what it names, null empties, a missing key leaves."""
    entry(emulator, pushed(emulator, rows(1, 2)))
    entry(
        emulator,
        pushed(emulator, [{"id": "1", "amount": 7}, {"id": "2", "name": None, "amount": 8}]),
    )
    assert emulator.rows("qobra", "deals") == [
        {"id": "1", "name": "deal 1", "amount": 7},
        {"id": "2", "name": None, "amount": 8},
    ]
    emulator.set(qobra_missing_field="emptied")
    entry(emulator, pushed(emulator, [{"id": "1", "amount": 9}]))
    assert emulator.rows("qobra", "deals")[0] == {"id": "1", "amount": 9}


def test_qobra_all_empties_once_per_load(emulator: Emulator) -> None:
    """`all=true` replaces; debounced requests are one load, others wipe each other."""
    entry(emulator, pushed(emulator, rows(1)))
    first = pushed(emulator, rows(2), "?all=true&debounce=300")
    emulator.advance(200)
    assert pushed(emulator, rows(3), "?all=true&debounce=300") == first
    assert fetch(emulator, first)["status"] == "scheduled"
    assert ids(emulator) == ["1"]
    emulator.advance(101)
    shown = fetch(emulator, first)
    assert shown["data_tables_details"][0]["number_of_records"] == 2
    assert ids(emulator) == ["2", "3"]
    pushed(emulator, rows(4), "?all=true")
    entry(emulator, pushed(emulator, rows(5), "?all=true"))
    assert ids(emulator) == ["5"]
    assert entry(emulator, pushed(emulator, [], "?all=true"))["number_of_records"] == 0
    assert ids(emulator) == []


def test_qobra_row_errors_have_the_documented_texts(emulator: Emulator) -> None:
    """A value that is no float is named by line, row and Python's text; so is a missing id."""
    bad = [row(1), row(2, "AAAAA"), {"name": "x"}, row(4, "12.5")]
    shown = entry(emulator, pushed(emulator, bad))
    assert shown["status"] == "finished"
    assert shown["number_of_records"] == 2
    error = shown["error"]
    assert error["title"] == "ParsingError"
    assert error["description"] == "Can't parse 'AAAAA' as float for user attribute amount"
    first, second = error["parsing_error_details"]
    assert first == {
        "line_number": 2,
        "row": bad[1],
        "details": "ValueError: could not convert string to float: 'AAAAA'",
    }
    assert (second["line_number"], second["row"]) == (3, {"name": "x"})
    assert ids(emulator) == ["1", "4"]
    assert emulator.imports()[0]["data_tables_details"][0]["error"] == error


def test_qobra_drops_unknown_keys_in_silence(emulator: Emulator) -> None:
    """A key that is no column is neither stored nor an error."""
    shown = entry(emulator, pushed(emulator, [{**row(1), "junk": 1}]))
    assert (shown["number_of_records"], shown["error"]) == (1, None)
    assert emulator.rows("qobra", "deals") == [row(1, Decimal("1.5"))]


def test_numbers_stay_exact(emulator: Emulator) -> None:
    """Integers and decimals of any size are stored as the text that was sent, on both vendors."""
    text = '{"id":"1","amount":123456789012345678901234567890.1234567890123456789}'
    big = '{"id":"2","amount":98765432109876543210987654321098765432109876543210}'
    body = f'{{"items":[{text}, {big}]}}'
    requests.post(
        f"{emulator.url}/v1/tables/deals/records/bulk", data=body, headers=KEY, timeout=60
    )
    body = body.replace("items", "data")
    url = f"{emulator.url}/api/public/tables/deals/bulk"
    answer = requests.post(url, data=body, headers={"auth": token(emulator)}, timeout=60)
    assert text[:-1] in answer.text
    emulator.advance(1)
    for vendor in ("qobra", "kore"):
        assert emulator.raw_rows(vendor, "deals") == [text.encode(), big.encode()]
        assert emulator.rows(vendor, "deals")[1]["amount"] == int(big[19:-1])


def test_checksum_counts_values_and_nothing_else(emulator: Emulator) -> None:
    """Equal rows have equal sums whatever their order, vendor, nulls and spelling of numbers."""
    entry(emulator, pushed(emulator, [row(1, 10), {**row(2), "name": None}]))
    insert(emulator, [{"id": "2", "amount": 1.50}, row(1, 10.0)])
    own = checksum([{"amount": Decimal("1.5"), "id": "2"}, row(1, 10)])
    assert emulator.checksum("qobra", "deals") == emulator.checksum("kore", "deals") == own
    assert checksum([row(1, 10), row(2, 1.6)]) != own


@pytest.mark.parametrize(
    ("url", "body", "key", "status"),
    [
        pytest.param("deals/records/bulk", '{"items":[]}', "wrong", 401, id="wrong key"),
        pytest.param("nothing/records/bulk", '{"items":[]}', None, 404, id="unknown table"),
        pytest.param("deals/records/bulk", '{"data":[]}', None, 422, id="no items"),
        pytest.param("deals/records/bulk", '{"items":[NaN]}', None, 422, id="not JSON"),
        pytest.param(
            "deals/records/bulk", '{"items":[{"id":"\\ud800"}]}', None, 422, id="surrogate"
        ),
        pytest.param(
            "deals/records/bulk?debounce=-1", '{"items":[]}', None, 422, id="bad debounce"
        ),
        pytest.param("deals/records/bulk?all=maybe", '{"items":[]}', None, 422, id="bad all"),
    ],
)
def test_qobra_refusals(
    emulator: Emulator, url: str, body: str, key: str | None, status: int
) -> None:
    """Each wrong request has its status and starts no import."""
    headers = {"X-API-Key": key} if key else KEY
    answer = requests.post(
        f"{emulator.url}/v1/tables/{url}", data=body, headers=headers, timeout=60
    )
    assert answer.status_code == status
    assert emulator.imports() == []


def test_qobra_credential_test_and_unknown_import(emulator: Emulator) -> None:
    """`GET /v2/data-structures` tells a good key from a bad one; an unknown import is a 404."""
    url = f"{emulator.url}/v2/data-structures"
    assert (
        requests.get(url, headers=KEY, timeout=60).json()["data"][0]["type"] == "record_reporting"
    )
    assert requests.get(url, timeout=60).status_code == 401
    assert fetch(emulator, "0" * 24) == 404


def test_qobra_window_from_first_or_sliding(emulator: Emulator) -> None:
    """The same three requests are one load in a sliding window, and two in a fixed one."""
    for window, left in (("from_first", ["3"]), ("sliding", ["1", "2", "3"])):
        emulator.set(qobra_window=window)
        for number in (1, 2, 3):
            pushed(emulator, rows(number), "?all=true&debounce=100")
            emulator.advance(60)
        emulator.advance(1_000)
        assert ids(emulator) == left


def test_qobra_unjoined_loads_wipe_each_other(emulator: Emulator) -> None:
    """With qobra_join off each debounced request is a load of its own."""
    emulator.set(qobra_join=False)
    assert pushed(emulator, rows(1), "?all=true&debounce=9") != pushed(
        emulator, rows(2), "?all=true&debounce=9"
    )
    emulator.advance(10)
    assert ids(emulator) == ["2"]


def test_qobra_own_import_ids_count_parts_or_the_whole(emulator: Emulator) -> None:
    """Requests of one load can have ids of their own, which count their rows or all."""
    emulator.set(qobra_same_import_id=False)
    first = pushed(emulator, rows(1, 2), "?all=true&debounce=9")
    second = pushed(emulator, rows(3), "?all=true&debounce=9")
    assert first != second
    assert [entry(emulator, one)["number_of_records"] for one in (first, second)] == [2, 1]
    emulator.set(qobra_part_count="whole")
    assert [entry(emulator, one)["number_of_records"] for one in (first, second)] == [3, 3]
    assert ids(emulator) == ["1", "2", "3"]


def test_qobra_entries_per_request(emulator: Emulator) -> None:
    """An import can list each request of a table apart."""
    emulator.set(qobra_entries="per_request")
    pushed(emulator, rows(1, 2), "?all=true&debounce=9")
    shared = pushed(emulator, rows(3), "?all=true&debounce=9")
    emulator.advance(10)
    assert [e["number_of_records"] for e in fetch(emulator, shared)["data_tables_details"]] == [
        2,
        1,
    ]


def test_qobra_stacks_appends_of_several_tables(emulator: Emulator) -> None:
    """With qobra_stack appends join the pending import, one entry per table."""
    emulator.set(qobra_stack=True)
    emulator.create_table("qobra", "others")
    shared = pushed(emulator, rows(1))
    assert pushed(emulator, rows(2)) == pushed(emulator, rows(1, 2, 3), table="others") == shared
    emulator.advance(1)
    entries = fetch(emulator, shared)["data_tables_details"]
    assert [(e["data_table_key"], e["number_of_records"]) for e in entries] == [
        ("deals", 2),
        ("others", 3),
    ]


@pytest.mark.parametrize(
    ("switches", "number", "left"),
    [
        pytest.param({}, 1, ["1"], id="the bad row alone"),
        pytest.param({"qobra_error_count": "null"}, None, ["1"], id="without a count"),
        pytest.param({"qobra_row_errors": "reject_table"}, None, [], id="the table, emptied"),
        pytest.param(
            {"qobra_row_errors": "reject_table", "qobra_failed_replace": "keep"},
            None,
            ["9"],
            id="the table, kept",
        ),
    ],
)
def test_qobra_what_a_bad_row_does(
    emulator: Emulator, switches: Any, number: Any, left: Any
) -> None:
    """A bad row in a replacing load costs itself or the load, and the old rows or not."""
    entry(emulator, pushed(emulator, rows(9)))
    emulator.set(**switches)
    shown = entry(emulator, pushed(emulator, [row(1), row(2, "x")], "?all=true"))
    assert shown["number_of_records"] == number
    assert len(shown["error"]["parsing_error_details"]) == 1
    assert ids(emulator) == left


def test_qobra_counts(emulator: Emulator) -> None:
    """number_of_records counts rows, or distinct ids, or lies."""
    assert entry(emulator, pushed(emulator, rows(1, 1, 2)))["number_of_records"] == 3
    emulator.set(qobra_count="unique_ids")
    assert entry(emulator, pushed(emulator, rows(1, 1, 2)))["number_of_records"] == 2
    emulator.set(qobra_count_offset=-2)
    assert entry(emulator, pushed(emulator, rows(1)))["number_of_records"] == -1


@pytest.mark.parametrize("name", ["has_error", "has_errors", "error"])
def test_qobra_error_flag_and_foreign_entry(emulator: Emulator, name: str) -> None:
    """Another client's failed entry raises the flag of an import in which ours is fine."""
    emulator.set(qobra_error_flag=name, qobra_foreign_entry="failed")
    one = pushed(emulator, rows(1))
    assert entry(emulator, one)["error"] is None
    shown = fetch(emulator, one)
    assert shown[name] is True
    assert shown["data_tables_details"][0]["type"] == "integration"
    emulator.set(qobra_foreign_entry="ok")
    assert fetch(emulator, one)[name] is False


def test_qobra_failed_import_is_finished(emulator: Emulator) -> None:
    """A failed import has status finished, an error and no count."""
    emulator.set(qobra_fail_imports=True)
    shown = entry(emulator, pushed(emulator, rows(1)))
    assert (shown["status"], shown["number_of_records"], shown["error"]["title"]) == (
        "finished",
        None,
        "InternalError",
    )
    assert ids(emulator) == []


def test_qobra_imports_may_overtake(emulator: Emulator) -> None:
    """With qobra_order reversed the later import is finished first, and the earlier one wins."""
    emulator.set(qobra_order="reversed", qobra_import_s=1.0)
    first, second = pushed(emulator, [row(1, 1)]), pushed(emulator, [row(1, 2)])
    emulator.advance(2)
    assert [fetch(emulator, one)["status"] for one in (first, second)] == ["started", "finished"]
    emulator.advance(3)
    assert emulator.rows("qobra", "deals")[0]["amount"] == 1


def test_qobra_imports_may_never_finish_or_be_invisible(emulator: Emulator) -> None:
    """An import can stay started for ever, wait in a queue, and be unknown at first."""
    emulator.set(qobra_never_finish=True, qobra_hidden_s=5.0, qobra_queue_s=20.0)
    one = pushed(emulator, rows(1))
    assert fetch(emulator, one) == 404
    emulator.advance(6)
    assert fetch(emulator, one)["status"] == "scheduled"
    emulator.advance(10_000)
    assert fetch(emulator, one)["status"] == "started"


def test_time_scale_shortens_the_debounce(emulator: Emulator) -> None:
    """With time_scale 1000 a debounce of 300 s takes 0.3 s."""
    emulator.set(time_scale=1000.0)
    pushed(emulator, rows(1), "?all=true&debounce=300")
    emulator.advance(0.2)
    assert ids(emulator) == []
    emulator.advance(0.2)
    assert ids(emulator) == ["1"]


def test_kore_bulk_answers_with_the_rows(emulator: Emulator) -> None:
    """Each record comes back with the six system fields; every insert adds rows."""
    answer = insert(emulator, rows(1, 2))
    assert answer.status_code == 200
    first = answer.json()["records"][0]
    assert {"Updated_On", "Created_On", "Updated_By", "Created_By", "sys_Id", "_id"} | row(
        1
    ).keys() == first.keys()
    assert first["sys_Id"].startswith("sys-")
    insert(emulator, rows(1, 2))
    assert ids(emulator, "kore") == ["1", "2", "1", "2"]


def test_kore_single_insert_is_not_wrapped(emulator: Emulator) -> None:
    """POST on the table takes one object and answers with the row itself."""
    answer = call(emulator, "POST", "deals", {"data": row(1)})
    assert answer.json()["id"] == "1"
    assert answer.json()["sys_Id"]


def test_kore_query_pages(emulator: Emulator) -> None:
    """A query has total, hasMore and metaInfo; sys_limit is 10 by default and at most 100."""
    insert(emulator, rows(*range(150)))
    page = call(emulator, "POST", "deals/query", {"query": {}}).json()
    assert (page["total"], page["hasMore"], len(page["queryResult"])) == (150, True, 10)
    assert {"name": "amount", "type": "number"} in page["metaInfo"]
    page = call(emulator, "POST", "deals/query?sys_limit=1000&sys_offset=100", ALL).json()
    assert (page["hasMore"], [r["id"] for r in page["queryResult"]][::49]) == (
        False,
        ["100", "149"],
    )
    assert (
        len(call(emulator, "POST", "deals/query?sys_limit=1000", ALL).json()["queryResult"]) == 100
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param(where("id", "=", "2"), ["2"], id="equal text"),
        pytest.param(where("amount", "=", 20.0), ["2"], id="equal number"),
        pytest.param(where("amount", "=", "20"), [], id="another type"),
        pytest.param(where("amount", "<", 20), ["1"], id="less"),
        pytest.param(where("amount", ">", 20), ["3"], id="greater"),
        pytest.param(where("amount", ">", value=True), [], id="no order between types"),
        pytest.param(where("_id", "=", "no such"), [], id="equal system field"),
        pytest.param(where("amount", "!=", 20), ["1", "3", "4"], id="unequal, also absent"),
        pytest.param(
            where("Created_On", ">", "1970-01-01"), ["1", "2", "3", "4"], id="system field"
        ),
        pytest.param(
            {
                "query": {
                    "expressions": [
                        *where("id", "=", "1")["query"]["expressions"],
                        *where("id", "=", "3")["query"]["expressions"],
                    ],
                    "operator": "or",
                }
            },
            ["1", "3"],
            id="or",
        ),
        pytest.param(
            {
                "query": {
                    "expressions": [
                        *where("id", "=", "1")["query"]["expressions"],
                        *where("amount", ">", 15)["query"]["expressions"],
                    ],
                    "operator": "and",
                }
            },
            [],
            id="and",
        ),
    ],
)
def test_kore_filters(emulator: Emulator, query: Any, found: list[str]) -> None:
    """The four operands, joined by and / or, find what they say, also after rows came and went."""
    insert(emulator, [row(9, 90)])
    call(emulator, "POST", "deals/query", where("id", "=", "9"))  # builds the index
    insert(emulator, [row(1, 10), row(2, 20), row(3, 30), {"id": "4"}])
    assert call(emulator, "DELETE", "deals", where("id", "=", "9")).json() == {"nDeleted": 1}
    answer = call(emulator, "POST", "deals/query", query).json()
    assert [r["id"] for r in answer["queryResult"]] == found
    assert answer["total"] == len(found)


def test_kore_update_and_delete(emulator: Emulator) -> None:
    """PUT changes the named columns of all matching rows, DELETE removes them."""
    insert(emulator, rows(1, 2))
    change = {**where("id", "=", "1"), "data": {"amount": 9}}
    assert call(emulator, "PUT", "deals", change).json() == {"nModified": 1}
    emulator.set(kore_put_reply="records")
    assert call(emulator, "PUT", "deals", change).json()["records"][0]["amount"] == 9
    assert emulator.rows("kore", "deals")[0] == row(1, 9)
    assert call(emulator, "DELETE", "deals", ALL).json() == {"nDeleted": 2}
    assert emulator.count("kore", "deals") == 0


def test_kore_empty_delete_and_delete_limit(emulator: Emulator) -> None:
    """An empty filter is refused or means all; one call may remove a limited number only."""
    insert(emulator, rows(1, 2, 3))
    assert call(emulator, "DELETE", "deals", {"query": {}}).status_code == 400
    emulator.set(kore_empty_delete="all", kore_delete_max=2)
    assert call(emulator, "DELETE", "deals", {"query": {}}).json() == {"nDeleted": 2}
    assert ids(emulator, "kore") == ["3"]


@pytest.mark.parametrize(
    ("more", "found"),
    [("reject", None), ("ignore", ["1", "2"]), ("match_all", ["1", "2", "3", "4"])],
)
def test_kore_long_filters(emulator: Emulator, more: str, found: list[str] | None) -> None:
    """A filter of too many expressions is refused, cut or void, for queries and deletes alike."""
    insert(emulator, rows(1, 2, 3, 4))
    emulator.set(kore_max_expressions=2, kore_more_expressions=more)
    one, two, three = (where("id", "=", n)["query"]["expressions"][0] for n in "123")
    short = {"query": {"expressions": [one, three], "operator": "or"}}
    long = {"query": {"expressions": [one, two, three], "operator": "or"}}
    assert call(emulator, "POST", "deals/query", short).json()["total"] == 2
    answers = [call(emulator, "POST", "deals/query", long), call(emulator, "DELETE", "deals", long)]
    if found is None:
        assert [answer.status_code for answer in answers] == [400, 400]
        assert emulator.count("kore", "deals") == 4
    else:
        assert [row["id"] for row in answers[0].json()["queryResult"]] == found
        assert answers[1].json() == {"nDeleted": len(found)}
        assert emulator.count("kore", "deals") == 4 - len(found)


@pytest.mark.parametrize(
    ("dates", "matching"),
    [
        ("work", 2),
        ("refused", None),
        ("ignored", 3),
        ("ignored_by_deletes", 2),
        ("as_text", 2),
        ("seconds", 2),
        ("other_zone", 3),
    ],
)
def test_kore_filters_by_date(emulator: Emulator, dates: str, matching: int | None) -> None:
    """Rows made before the last one, by its own date as it is shown."""
    emulator.set(manual_clock=True, kore_dates=dates)
    made = []
    for number in (1, 2, 3):
        emulator.advance(2)
        made.append(insert(emulator, rows(number)).json()["records"][0]["Created_On"])
    earlier = where("Created_On", "<", made[-1])
    answer = call(emulator, "POST", "deals/query", earlier)
    assert (answer.status_code == 400) == (matching is None)
    assert answer.json().get("total") == matching
    deleted = call(emulator, "DELETE", "deals", earlier)
    expected = 3 if dates == "ignored_by_deletes" else matching
    assert deleted.json().get("nDeleted") == expected


def test_kore_wrong_verb_and_bad_queries(emulator: Emulator) -> None:
    """405 for GET, 400 for an unknown operand, for a wrong limit and for a body that is no JSON."""
    assert call(emulator, "GET", "deals", None).json() == {
        "errors": [{"msg": "Method Not Allowed", "code": 405}]
    }
    assert call(emulator, "POST", "deals/query", where("id", ">=", "1")).status_code == 400
    assert call(emulator, "POST", "deals/query?sys_limit=x", {}).status_code == 400
    assert call(emulator, "POST", "deals/bulk", {"items": []}).status_code == 400


DEFINITION = {
    "name": "strict",
    "indexes": [{"columns": ["code"], "isUnique": True}],
    "schemaDef": [
        {"name": "code", "type": "string", "isRequired": True, "maxLength": "4", "default": ""},
        {"name": "state", "type": "string", "isRequired": True, "maxLength": "", "default": "new"},
        {"name": "size", "type": "number", "isRequired": False, "maxLength": "", "default": ""},
        {"name": "day", "type": "date", "isRequired": False, "maxLength": "", "default": ""},
    ],
}


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"size": 1}, id="required missing"),
        pytest.param({"code": None}, id="required null"),
        pytest.param({"code": "12345"}, id="too long"),
        pytest.param({"code": "b", "size": "1"}, id="text in a number column"),
        pytest.param({"code": "b", "size": True}, id="boolean in a number column"),
        pytest.param({"code": 5}, id="number in a text column"),
        pytest.param({"code": "b", "day": "tomorrow"}, id="no date"),
        pytest.param({"code": "b", "colour": "red"}, id="unknown column"),
        pytest.param({"code": "b", "sys_Id": "sys-1"}, id="system field"),
        pytest.param({"code": "a"}, id="unique, within the call"),
        pytest.param({"code": "old"}, id="unique, in the table"),
    ],
)
def test_kore_refuses_bad_rows(emulator: Emulator, bad: dict[str, Any]) -> None:
    """Each rule of the exported definition is kept, and one bad row refuses the call."""
    emulator.create_table("kore", "strict", definition=DEFINITION)
    assert insert(emulator, [{"code": "old"}], table="strict").status_code == 200
    good = {"code": "a", "size": 1, "day": "2026-01-02T03:04:05.678Z"}
    answer = insert(emulator, [good, bad], table="strict")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, 400)
    assert emulator.rows("kore", "strict") == [{"state": "new", "code": "old"}]


def test_kore_lenient_switches(emulator: Emulator) -> None:
    """Text in a number column and unknown columns can be taken; the latter are not stored."""
    emulator.set(kore_string_in_number="accept", kore_unknown_column="ignore")
    assert insert(emulator, [{**row(1, "1.5"), "junk": 1}]).status_code == 200
    assert emulator.rows("kore", "deals") == [row(1, "1.5")]


@pytest.mark.parametrize(
    ("mode", "status", "stored"),
    [
        ("atomic", 400, []),
        ("ordered_partial", 400, ["1"]),
        ("skip_bad", 200, ["1", "3"]),
        ("skip_bad_4xx", 400, ["1", "3"]),
    ],
)
def test_kore_bulk_modes(emulator: Emulator, mode: str, status: int, stored: list[str]) -> None:
    """One bad row costs the call, the rows behind it, or itself."""
    emulator.set(kore_bulk_mode=mode)
    answer = insert(emulator, [row(1), row(2, "x"), row(3)])
    assert answer.status_code == status
    assert ids(emulator, "kore") == stored
    if status == 200:
        assert [r["id"] for r in answer.json()["records"]] == stored


@pytest.mark.parametrize(
    ("claims", "secret", "text"),
    [
        pytest.param({}, "another-secret", "Invalid SDK credentials", id="wrong secret"),
        pytest.param({"appId": "cs-unknown"}, SECRET, "Invalid SDK credentials", id="unknown app"),
        pytest.param({"appId": None}, SECRET, "Invalid SDK credentials", id="no app"),
        pytest.param({"exp": 1}, SECRET, "expired", id="expired"),
        pytest.param({"exp": 2**33}, SECRET, "<= 1 hour(s)", id="jti with a far exp"),
    ],
)
def test_kore_refuses_tokens(emulator: Emulator, claims: Any, secret: str, text: str) -> None:
    """A token that is forged, of no app, expired or too long-lived is refused with 401."""
    answer = insert(emulator, rows(1), token(emulator, secret, **claims))
    assert answer.status_code == 401
    assert text in message(answer)
    assert emulator.count("kore", "deals") == 0


def test_kore_refuses_no_token_and_alg_none(emulator: Emulator) -> None:
    """No header, rubbish and an unsigned token get the documented envelope."""
    unsigned = jwt.encode({"appId": "cs-demo"}, "", algorithm="none")
    for auth in ("", "rubbish", unsigned):
        answer = insert(emulator, rows(1), auth)
        assert answer.status_code == 401
        assert answer.json() == {"errors": [{"msg": "Invalid SDK credentials", "code": 4002}]}


def test_kore_token_life(emulator: Emulator) -> None:
    """A jti is good once; without jti a token works until it expires, unless jtis are enforced."""
    once = token(emulator)
    assert insert(emulator, rows(1), once).status_code == 200
    assert "replay" in message(insert(emulator, rows(1), once))
    again = token(emulator, jti=None, appId=None, iss="cs-demo")
    assert (
        insert(emulator, rows(1), again).status_code
        == insert(emulator, rows(1), again).status_code
        == 200
    )
    emulator.advance(301)
    assert "expired" in message(insert(emulator, rows(1), again))
    emulator.set(kore_enforce_jti=True)
    assert insert(emulator, rows(1), token(emulator, jti=None, exp=None)).status_code == 401


def test_kore_algorithms(emulator: Emulator) -> None:
    """HS512, RS256 and RS512 work; a public key is no HMAC secret; an app can have one of them."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    emulator.add_app("cs-rsa", public.decode())
    emulator.add_app("cs-512", SECRET, algorithm="HS512")
    for algorithm in ("RS256", "RS512"):
        auth = token(emulator, private, algorithm, appId="cs-rsa")
        assert insert(emulator, rows(1), auth).status_code == 200
    assert (
        insert(emulator, rows(1), token(emulator, SECRET, "HS512", appId="cs-512")).status_code
        == 200
    )
    assert (
        insert(emulator, rows(1), token(emulator, SECRET, "HS256", appId="cs-512")).status_code
        == 401
    )
    assert insert(emulator, rows(1), token(emulator, SECRET, "HS384")).status_code == 401


@pytest.mark.parametrize("status", [401, 403])
def test_kore_rights(emulator: Emulator, status: int) -> None:
    """A write-only app can insert, not query, update or delete."""
    emulator.add_app("cs-w", SECRET, rights={"deals": "w"}, other_rights="")
    emulator.set(kore_missing_right_status=status)
    statuses = [
        call(emulator, verb, path, payload, token(emulator, appId="cs-w")).status_code
        for verb, path, payload in [
            ("POST", "deals/bulk", {"data": rows(1)}),
            ("POST", "deals/query", {}),
            ("PUT", "deals", {**ALL, "data": {}}),
            ("DELETE", "deals", ALL),
        ]
    ]
    assert statuses == [200, status, status, status]


def test_kore_unknown_table(emulator: Emulator) -> None:
    """An unknown table is 400 or 404, with a bad token 401; it can be created instead."""
    assert insert(emulator, rows(1), table="none").status_code == 400
    emulator.set(kore_unknown_table_status=404)
    assert insert(emulator, rows(1), table="none").status_code == 404
    assert insert(emulator, rows(1), "bad", table="none").status_code == 401
    emulator.set(auto_create_tables=True)
    assert insert(emulator, rows(1), table="a%20%2F%C3%A9").status_code == 200
    assert push(emulator, rows(1), table="new").status_code == 200
    emulator.advance(1)
    assert emulator.count("kore", "a /é") == emulator.count("qobra", "new") == 1


def test_kore_answer_switches(emulator: Emulator) -> None:
    """Answers can miscount, lack `records`, lack totals, show epochs and come in another order."""
    insert(emulator, rows(*range(20)))
    for echo, number in (("one_less", 1), ("one_more", 3)):
        emulator.set(kore_echo=echo)
        assert len(insert(emulator, rows(1, 2)).json()["records"]) == number
    emulator.set(kore_echo="no_records", kore_query_totals=False, kore_timestamps="epoch")
    assert "records" not in insert(emulator, rows(1)).json()
    plain = call(emulator, "POST", "deals/query?sys_limit=100", ALL).json()
    assert plain.keys() == {"metaInfo", "queryResult"}
    assert isinstance(plain["queryResult"][0]["Created_On"], int)
    emulator.set(kore_row_order="reverse")
    reverse = call(emulator, "POST", "deals/query?sys_limit=100", ALL).json()
    assert reverse["queryResult"] == plain["queryResult"][::-1]
    emulator.set(kore_row_order="random", kore_sys_limit="reject")
    assert call(emulator, "POST", "deals/query?sys_limit=101", ALL).status_code == 400
    mixed = call(emulator, "POST", "deals/query?sys_limit=100", ALL).json()["queryResult"]
    assert mixed != plain["queryResult"]
    assert sorted(r["sys_Id"] for r in mixed) == sorted(r["sys_Id"] for r in plain["queryResult"])


def test_kore_rate_windows(emulator: Emulator) -> None:
    """Both rolling windows refuse with the documented texts, per table, or only count."""
    emulator.set(kore_rate_limit="refuse", kore_rate_windows=[(2, 10.0), (3, 100.0)])
    emulator.create_table("kore", "other")
    assert [insert(emulator, rows(1)).status_code for _ in range(3)] == [200, 200, 429]
    assert insert(emulator, rows(1), table="other").status_code == 200
    emulator.advance(11)
    assert insert(emulator, rows(1)).status_code == 200
    emulator.set(kore_rate_status=400, kore_rate_retry_after=True)
    answer = insert(emulator, rows(1))
    assert (answer.status_code, answer.headers["Retry-After"]) == (400, "100")
    assert "hourly rate limit" in message(answer)
    assert emulator.rate_violations == 2
    emulator.set(kore_rate_limit="record")
    assert insert(emulator, rows(1)).status_code == 200
    assert emulator.rate_violations == 3


@pytest.mark.parametrize("mode", ["early", "after_reading"])
def test_too_large(emulator: Emulator, mode: str) -> None:
    """A body over the cap is a 413 on both vendors; an early one closes with it unread."""
    emulator.set(kore_max_body_bytes=300, qobra_max_body_bytes=300, too_large=mode)
    for send in (insert, push):
        assert send(emulator, rows(1)).status_code == 200
        answer = send(emulator, rows(*range(20)))
        assert answer.status_code == 413
        assert (answer.headers.get("Connection") == "close") == (mode == "early")
    assert emulator.count("kore", "deals") == 1
    assert [request.bytes > 0 for request in emulator.requests] == [True, mode != "early"] * 2


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("refuse", 0), ("cut_before", 0), ("cut_after", 1), ("half_body", 1), ("invalid_json", 1)],
)
def test_fault_breaks_the_answer(emulator: Emulator, kind: str, stored: int) -> None:
    """Cut connections and broken bodies come before or after the request is applied, and once."""
    emulator.faults([{"kind": kind}])
    with pytest.raises(requests.RequestException):
        insert(emulator, rows(1)).json()
    assert emulator.count("kore", "deals") == stored
    assert emulator.requests[-1].fault == kind
    assert insert(emulator, rows(2)).status_code == 200


@pytest.mark.parametrize(("kind", "stored"), [("stall_before", 0), ("stall_after", 1)])
def test_fault_stalls(emulator: Emulator, kind: str, stored: int) -> None:
    """A stall for ever outlasts the client's patience; a short one ends with the answer."""
    url, auth = f"{emulator.url}/api/public/tables/deals/bulk", token(emulator)
    emulator.faults([{"kind": kind}, {"kind": kind, "at": 2, "seconds": 0.05}])
    with pytest.raises(requests.ReadTimeout):
        requests.post(url, json={"data": rows(1)}, headers={"auth": auth}, timeout=0.3)
    wait_until(lambda: [r.applied for r in emulator.requests] == [bool(stored)])
    assert emulator.count("kore", "deals") == stored
    began = time.monotonic()
    assert insert(emulator, rows(2)).status_code == 200
    assert time.monotonic() - began >= 0.05


def test_fault_trickle(emulator: Emulator) -> None:
    """A trickled answer is whole and slow."""
    emulator.faults([{"kind": "trickle", "seconds": 0.1}])
    began = time.monotonic()
    assert len(insert(emulator, rows(1, 2)).json()["records"]) == 2
    assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize(
    ("fault", "retry_after"),
    [
        pytest.param({"status": 429, "retry_after": 7}, "7", id="429 with seconds"),
        pytest.param({"status": 429}, None, id="429 without"),
        pytest.param({"status": 503, "body": "<h1>gone</h1>"}, None, id="503 with a page"),
        pytest.param({"status": 401, "body": {"errors": []}}, None, id="401"),
        pytest.param({"status": 500, "applied": True}, None, id="500, applied"),
        pytest.param({"status": 413}, None, id="413"),
    ],
)
def test_fault_status(emulator: Emulator, fault: dict[str, Any], retry_after: str | None) -> None:
    """Any status can be scripted, with its body and Retry-After, applied or not."""
    emulator.faults([{"kind": "status", **fault}])
    answer = insert(emulator, rows(1))
    assert answer.status_code == fault["status"]
    assert answer.headers.get("Retry-After") == retry_after
    assert emulator.count("kore", "deals") == int(fault.get("applied", False))
    if isinstance(fault.get("body"), str):
        assert (answer.text, answer.headers["Content-Type"][:9]) == (fault["body"], "text/html")


def test_fault_retry_after_date(emulator: Emulator) -> None:
    """Retry-After can be an HTTP date."""
    emulator.faults([{"kind": "status", "status": 429, "retry_after": "date:60"}])
    moment = parsedate_to_datetime(insert(emulator, rows(1)).headers["Retry-After"])
    assert 0 < moment.timestamp() - time.time() < 61  # noqa: TID251


def test_fault_redirect(emulator: Emulator) -> None:
    """A redirect names another place and applies nothing."""
    emulator.faults([{"kind": "redirect", "status": 302, "location": "http://127.0.0.1:9/x"}])
    url = f"{emulator.url}/v1/tables/deals/records/bulk"
    answer = requests.post(
        url, json={"items": rows(1)}, headers=KEY, timeout=60, allow_redirects=False
    )
    assert (answer.status_code, answer.headers["Location"]) == (302, "http://127.0.0.1:9/x")
    assert emulator.imports() == []


def test_fault_wrong_counts(emulator: Emulator) -> None:
    """Each count of an answer can be falsified, whatever its route."""
    emulator.faults([{"kind": "wrong_count", "count": None}])
    assert push(emulator, rows(1, 2)).json()["objects_imported"] == 1
    assert len(insert(emulator, rows(1, 2)).json()["records"]) == 1
    assert call(emulator, "POST", "deals/query", {}).json()["total"] == 1
    emulator.faults([{"kind": "wrong_count", "offset": 3}])
    assert call(emulator, "DELETE", "deals", ALL).json()["nDeleted"] == 5


def test_fault_addresses_requests(emulator: Emulator) -> None:
    """A fault hits the n-th request of those its expression matches, `count` times."""
    emulator.faults(
        [{"kind": "status", "status": 502, "match": "POST .*/bulk$", "at": 2, "count": 2}]
    )
    statuses = []
    for _ in range(4):
        statuses.append(insert(emulator, rows(1)).status_code)
        assert call(emulator, "POST", "deals/query", {}).status_code == 200
    assert statuses == [200, 502, 502, 200]
    with pytest.raises(ValueError, match="unknown fault"):
        emulator.faults([{"kind": "nonsense"}])


def test_refusal_reaches_kept_connections(emulator: Emulator) -> None:
    """The answer before a refusal closes its connection: the next request has to connect."""
    emulator.faults([{"kind": "refuse", "at": 2, "count": 2}])
    with requests.Session() as session:
        url = f"{emulator.url}/v2/data-structures"
        assert session.get(url, headers=KEY, timeout=60).headers["Connection"] == "close"
        for _ in range(2):
            with pytest.raises(requests.ConnectionError):
                session.get(url, headers=KEY, timeout=60)
        assert session.get(url, headers=KEY, timeout=60).status_code == 200


def test_down_for_a_while(emulator: Emulator) -> None:
    """While down nothing listens on the port; afterwards the same port answers again."""
    emulator.faults([{"kind": "down", "seconds": 1.0}])
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            insert(emulator, rows(1))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            assert insert(emulator, rows(1)).status_code == 200
            break
        except requests.ConnectionError:
            continue
    assert emulator.count("kore", "deals") == 1


def _listens(port: int | None) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_down_while_connections_arrive_leaves_none_open(emulator: Emulator) -> None:
    """A connection that is being accepted as the port closes is closed as well."""
    port = urlsplit(emulator.url).port
    for _ in range(10):
        with ExitStack() as stack:
            clients = [stack.enter_context(socket.socket()) for _ in range(20)]
            for client in clients:
                client.settimeout(0)
                client.connect_ex(("127.0.0.1", port))
            emulator.down(0.0)
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert time.monotonic() < deadline
    gc.collect()  # what is open and nobody's is an error of this test


def test_log_has_no_secrets(emulator: Emulator) -> None:
    """The log names route, rows, bytes and status of each request, and neither key nor token."""
    push(emulator, rows(1, 2), "?all=true")
    auth = token(emulator)
    insert(emulator, rows(3), auth)
    first, second = emulator.requests
    assert (first.number, first.vendor, first.kind, first.query) == (1, "qobra", "bulk", "all=true")
    assert (second.status, second.rows, second.bytes > 0, second.applied) == (200, 1, True, True)
    assert auth not in repr(second)
    assert KEY["X-API-Key"] not in repr(first)


def test_page_shows_and_escapes(emulator: Emulator) -> None:
    """The page names tables, rows, imports and switches, and no cell becomes markup."""
    insert(emulator, [{**row(1), "name": "<script>x</script>"}])
    emulator.set(kore_bulk_mode="skip_bad")
    pushed(emulator, rows(7))
    emulator.advance(1)
    page = requests.get(emulator.url, timeout=60).text
    for text in ("deals", "deal 7", "finished", "kore_bulk_mode = skip_bad", "&lt;script&gt;x"):
        assert text in page
    assert "<script>x" not in page
    assert len(emulator.requests) == 2


def test_tables_whose_names_differ_by_case_are_two() -> None:
    """Neither vendor says that it reads a name in any case."""
    storage, names = Storage(), ("deals", "Deals", "^deals", "sqlite_x")
    with closing(storage):
        for name in names:
            storage.create(name)
        storage.insert("Deals", [("a", b"{}")], 0.0)
        assert [storage.count(name) for name in names] == [0, 1, 0, 0]


def test_real_time_and_a_storage_file(tmp_path: Path) -> None:
    """Without a manual clock imports finish by themselves; a storage file starts empty."""
    for _ in range(2):
        with Emulator(str(tmp_path / "rows.db"), qobra_import_s=0.01, latency_s=0.05) as emulator:
            emulator.create_table("qobra", "deals")
            assert emulator.count("qobra", "deals") == 0
            one = pushed(emulator, rows(1))
            deadline = time.monotonic() + 60
            while fetch(emulator, one)["status"] != "finished":
                assert time.monotonic() < deadline
            assert ids(emulator) == ["1"]
            assert min(request.duration_ms for request in emulator.requests) >= 50


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        pytest.param("date", ["2026-01-31", None], ["31.01.2026", 5], id="date"),
        pytest.param("boolean", [True, "false", None], ["maybe", 1], id="boolean"),
        pytest.param("number", [1, "1e3", True, None], ["1,5", [1]], id="number"),
        pytest.param("string", ["x", 1, None], [["x"], {"a": 1}], id="string"),
        pytest.param("any", [[1], {"a": 1}, "x", None], [], id="any"),
    ],
)
def test_qobra_column_types(emulator: Emulator, kind: str, good: list[Any], bad: list[Any]) -> None:
    """Each column type takes its values and names the lines of the others."""
    emulator.create_table("qobra", "deals", {"id": "string", "x": kind})
    sent = [{"id": str(number), "x": value} for number, value in enumerate(good + bad)]
    shown = entry(emulator, pushed(emulator, sent))
    details = shown["error"]["parsing_error_details"] if shown["error"] else []
    assert [e["line_number"] for e in details] == [len(good) + n + 1 for n in range(len(bad))]
    assert emulator.count("qobra", "deals") == len(good)


def test_unknown_paths_and_types(emulator: Emulator) -> None:
    """Other paths are 404s of their vendor, and a table cannot have a type that does not exist."""
    for path in ("v1/elsewhere", "v2/reporting", "elsewhere"):
        assert requests.get(f"{emulator.url}/{path}", headers=KEY, timeout=60).status_code == 404
    assert requests.get(f"{emulator.url}/api/1.1/public/users", timeout=60).status_code == 404
    for vendor in ("qobra", "kore"):
        with pytest.raises(ValueError, match="no column type"):
            emulator.create_table(vendor, "wrong", {"id": "jsonb"})


def test_wrong_switches_are_refused(emulator: Emulator) -> None:
    """A misspelt switch or value is an error, not a silent default."""
    with pytest.raises(ValueError, match="unknown switch 'nonsense'"):
        emulator.set(nonsense=1)
    with pytest.raises(ValueError, match="qobra_window"):
        emulator.set(qobra_window="wrong")


def test_process_has_the_same_powers() -> None:
    """An emulator process is configured, filled, advanced and read through its admin API."""
    with EmulatorProcess("--table=qobra:deals:key", manual_clock=True) as emulator:
        url = f"{emulator.url}/v1/tables/deals/records/bulk"
        emulator.faults(
            [{"kind": "refuse", "count": 1}, {"kind": "status", "at": 2, "status": 503}]
        )
        with pytest.raises(requests.ConnectionError):
            requests.post(url, headers=KEY, timeout=60)
        assert requests.post(url, json={"items": []}, headers=KEY, timeout=60).status_code == 503
        requests.post(url, json={"items": [{"key": "a", "n": 1.10}]}, headers=KEY, timeout=60)
        emulator.advance(1)
        assert emulator.count("qobra", "deals") == 1
        assert emulator.rows("qobra", "deals") == [{"key": "a", "n": Decimal("1.1")}]
        assert emulator.raw_rows("qobra", "deals") == [b'{"key": "a", "n": 1.1}']
        assert emulator.checksum("qobra", "deals") == checksum([{"key": "a", "n": 1.1}])
        assert [r["status"] for r in emulator.requests] == [0, 503, 200]
        assert emulator.imports()[0]["status"] == "finished"
        emulator.create_table("kore", "strict", definition=DEFINITION)
        emulator.add_app("cs-2", SECRET, rights={"strict": "r"})
        emulator.set(kore_bulk_mode="skip_bad")
        assert emulator.summary()["settings"]["kore_bulk_mode"] == "skip_bad"
        emulator.reset()
        assert emulator.count("qobra", "deals") == emulator.rate_violations == 0
        assert (
            requests.post(f"{emulator.url}/_admin/settings", json={"x": 1}, timeout=60).status_code
            == 400
        )
