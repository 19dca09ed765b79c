"""Real servers keep what their Facts say: each is started, written to in bulk and read back.

Plain requests only; the connector is not involved. Datasette, PocketBase and nginx are never
skipped: a machine that cannot install them fails here. The others carry the mark slow_servers.
"""

from collections.abc import Callable, Iterator, Sequence

import pytest
import requests

from integration_tests.servers import FAST, SLOW, BulkServer, Column, Datasette, Facts, Nginx
from integration_tests.servers.base import TableRow
from integration_tests.servers.nginx import Fault
from integration_tests.servers.pool import Pool, start

pytestmark = pytest.mark.timeout(600)  # the first run installs

COLUMNS = (Column("id"), Column("name", required=True), Column("amount", "number"))


# what a server must have for a test to be about it; all other tests are about every server
NEEDS: dict[str, Callable[[Facts], bool]] = {
    "test_credentials_are_checked_as_measured": lambda facts: bool(facts.authentication),
    "test_an_unknown_table_is_answered_as_measured": lambda facts: "unknown_table" in facts.answers,
    "test_an_upsert_changes_and_adds": lambda facts: facts.upsert is not None,
    "test_a_killed_server_comes_back_with_its_rows": lambda facts: facts.survives_kill,
    "test_limits_are_those_of_the_facts": lambda facts: facts.max_rows is not None,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with `server` once for each server it is about."""
    if "server" not in metafunc.fixturenames:
        return
    metafunc.config.addinivalue_line("markers", "slow_servers: servers from npm and apt")
    about = NEEDS.get(metafunc.function.__name__)
    marks = dict.fromkeys(SLOW, pytest.mark.slow_servers)
    chosen = [
        pytest.param(kind, id=kind.name, marks=marks.get(kind, ()))
        for kind in (*FAST, *SLOW)
        if about is None or about(kind.facts)
    ]
    metafunc.parametrize("server", chosen, indirect=True)


@pytest.fixture
def server(pool: Pool, request: pytest.FixtureRequest) -> BulkServer:
    return pool.get(request.param)


@pytest.fixture
def table(server: BulkServer) -> str:
    return server.new_table(COLUMNS, "id")


def some_rows(number: int, start: int = 0, text: str = "näme \u2603") -> list[TableRow]:
    return [
        {"id": f"r{index:06}", "name": f"{text} {index}", "amount": index + 0.5}
        for index in range(start, start + number)
    ]


def assert_answer(server: BulkServer, response: requests.Response, case: str) -> None:
    """Compare an answer with the one the server's Facts promise for the case."""
    expected = server.facts.answers[case]
    assert (response.status_code, expected.body in response.text) == (expected.status, True), (
        f"{server.name}, {case}: {response.status_code} {response.text[:300]}"
    )


def assert_holds(server: BulkServer, table: str, rows: Sequence[TableRow]) -> None:
    """Compare a table with the rows, in any order, by the server's own API."""
    assert server.count(table) == len(rows)
    found = server.rows(table)
    assert sorted(found, key=lambda row: str(row["id"])) == list(rows)


def test_rows_inserted_in_bulk_are_read_back(server: BulkServer, table: str) -> None:
    """A full request's rows, a thousand or the server's limit, are what the server gives back."""
    rows = some_rows(min(1000, server.facts.max_rows or 1000))
    assert_answer(server, server.insert(table, rows), "good")
    assert_holds(server, table, rows)


def test_a_table_of_several_pages_is_read_back_whole(server: BulkServer, table: str) -> None:
    """Reading back follows the server's pages."""
    # Kinto gives all rows in one page, and each of them takes 13 ms of CPU
    rows = some_rows(500 if server.name == "kinto" else 2500)
    size = min(500, server.facts.max_rows or 500)
    for first in range(0, len(rows), size):
        assert_answer(server, server.insert(table, rows[first : first + size]), "good")
    assert_holds(server, table, rows)


def test_a_bad_row_is_answered_as_measured(server: BulkServer, table: str) -> None:
    """One bad row in a batch is refused, and the good ones beside it fare as the Facts say."""
    rows = some_rows(10)
    bad = [*rows[:5], {**rows[5], **server.facts.bad_row}, *rows[6:]]
    assert_answer(server, server.insert(table, bad), "bad_row")
    kept = rows[:5] + rows[6:] if server.facts.stored_beside_bad_row else []
    if server.facts.bad_row_stored is not None:
        kept.insert(5, {**rows[5], **server.facts.bad_row_stored})
    assert_holds(server, table, kept)


def test_a_repeated_insert_is_answered_as_measured(server: BulkServer, table: str) -> None:
    """The same rows once more clash with themselves, or double where nothing is unique."""
    rows = some_rows(10)
    assert_answer(server, server.insert(table, rows), "good")
    assert_answer(server, server.insert(table, rows), "repeated_insert")
    assert server.count(table) == (20 if server.facts.repeat_doubles else 10)


def test_credentials_are_checked_as_measured(server: BulkServer, table: str) -> None:
    """A wrong and an absent credential get the answers of the Facts, and nothing is stored."""
    wrong = {key: value[:-4] + "Zz9z" for key, value in server.headers.items()}
    assert_answer(server, server.insert(table, some_rows(2), wrong), "wrong_credentials")
    assert_answer(server, server.insert(table, some_rows(2), {}), "no_credentials")
    assert_holds(server, table, [])


def test_an_unknown_table_is_answered_as_measured(server: BulkServer) -> None:
    """A table that does not exist gets the answer of the Facts."""
    assert_answer(server, server.insert("no_such_table", some_rows(1)), "unknown_table")


def test_limits_are_those_of_the_facts(server: BulkServer, table: str) -> None:
    """A request at the row limit passes, one over the row or byte limit is refused whole."""
    max_rows, max_bytes = server.facts.max_rows or 0, server.facts.max_bytes
    assert_answer(server, server.insert(table, some_rows(max_rows + 1)), "over_rows")
    if max_bytes is not None:
        wide = some_rows(100, text="x" * (max_bytes // 100))
        assert_answer(server, server.insert(table, wide), "over_bytes")
    assert_holds(server, table, [])
    assert_answer(server, server.insert(table, some_rows(max_rows)), "good")


def test_an_upsert_changes_and_adds(server: BulkServer, table: str) -> None:
    """Upserting twice ends in one row per key, with the later values."""
    assert_answer(server, server.insert(table, some_rows(5)), "good")
    changed = some_rows(5, start=3, text="changed")
    assert_answer(server, server.upsert(table, changed), "good_upsert")
    has_own = "upsert_without_new_rows" in server.facts.answers
    again = "upsert_without_new_rows" if has_own else "good_upsert"
    assert_answer(server, server.upsert(table, changed), again)
    assert_holds(server, table, some_rows(3) + changed)


def test_emptying_leaves_no_row(server: BulkServer, table: str) -> None:
    """The server's way to empty a table leaves none."""
    assert_answer(server, server.insert(table, some_rows(5)), "good")
    server.empty(table)
    assert_holds(server, table, [])


def test_a_killed_server_comes_back_with_its_rows(server: BulkServer, table: str) -> None:
    """Killed and restarted, a server has the same address, credentials and rows."""
    assert_answer(server, server.insert(table, some_rows(30)), "good")
    server.kill()
    with pytest.raises(requests.ConnectionError):
        server.insert(table, some_rows(1, start=30))
    server.restart()
    assert_answer(server, server.insert(table, some_rows(1, start=30)), "good")
    assert_holds(server, table, some_rows(31))


@pytest.fixture(scope="module")
def proxied(pool: Pool) -> Iterator[tuple[Nginx, BulkServer]]:
    datasette = pool.get(Datasette)
    nginx = Nginx(datasette)
    start(nginx)
    yield nginx, datasette
    nginx.stop()


def insert_through(
    nginx: Nginx, base_url: str, table: str, rows: Sequence[TableRow]
) -> requests.Response:
    """Insert into Datasette behind nginx, on a connection of its own."""
    return requests.post(
        f"{base_url}/lab/{table}/-/insert",
        json={"rows": rows},
        headers={**nginx.headers, "Connection": "close"},
        timeout=30,
    )


@pytest.fixture
def proxied_table(proxied: tuple[Nginx, BulkServer]) -> str:
    return proxied[1].new_table(COLUMNS, "id")


@pytest.mark.parametrize(
    ("fault", "status", "is_stored"),
    [("down", 502, False), ("busy", 429, False), ("late", 504, True)],
)
def test_nginx_answers_the_first_writes_with_its_own_page(
    proxied: tuple[Nginx, BulkServer],
    proxied_table: str,
    fault: Fault,
    status: int,
    is_stored: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    """The counted writes get nginx's HTML page, the next one reaches the upstream."""
    nginx, datasette = proxied
    url = nginx.url(fault, times=2)
    for first in (0, 5):
        refused = insert_through(nginx, url, proxied_table, some_rows(5, start=first))
        assert (refused.status_code, refused.headers["Content-Type"]) == (status, "text/html")
        assert refused.headers.get("Retry-After") == ("1" if fault == "busy" else None)
        assert "<center>nginx/" in refused.text
    assert requests.get(f"{url}/-/versions.json", timeout=30).status_code == 200
    assert_answer(
        datasette, insert_through(nginx, url, proxied_table, some_rows(5, start=10)), "good"
    )
    assert_holds(datasette, proxied_table, some_rows(15) if is_stored else some_rows(5, start=10))


@pytest.mark.parametrize(("fault", "is_stored"), [("drop", False), ("lost", True)])
def test_nginx_closes_the_first_writes_without_an_answer(
    proxied: tuple[Nginx, BulkServer],
    proxied_table: str,
    fault: Fault,
    is_stored: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    """The counted write ends without a byte, stored or not; the next one passes."""
    nginx, datasette = proxied
    url = nginx.url(fault)
    with pytest.raises(requests.ConnectionError):
        insert_through(nginx, url, proxied_table, some_rows(5))
    assert_answer(
        datasette, insert_through(nginx, url, proxied_table, some_rows(5, start=5)), "good"
    )
    assert_holds(datasette, proxied_table, some_rows(10) if is_stored else some_rows(5, start=5))


def test_nginx_refuses_a_body_over_its_limit(
    proxied: tuple[Nginx, BulkServer], proxied_table: str
) -> None:
    """A body over max_bytes gets an HTML 413, a smaller one passes."""
    nginx, datasette = proxied
    url = f"{nginx.base_url}/small"
    refused = insert_through(nginx, url, proxied_table, some_rows(70, text="x" * 1000))
    assert (refused.status_code, refused.headers["Content-Type"]) == (413, "text/html")
    assert_answer(datasette, insert_through(nginx, url, proxied_table, some_rows(5)), "good")
    assert_holds(datasette, proxied_table, some_rows(5))


def test_nginx_limits_the_rate(proxied: tuple[Nginx, BulkServer], proxied_table: str) -> None:
    """Requests in quick succession get 429 with Retry-After and store nothing."""
    nginx, datasette = proxied
    url = f"{nginx.base_url}/rate"
    answers = [
        insert_through(nginx, url, proxied_table, some_rows(1, start=number))
        for number in range(10)
    ]
    stored = [number for number, answer in enumerate(answers) if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(stored) + len(refused) == 10
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    assert_holds(datasette, proxied_table, [some_rows(10)[number] for number in stored])


def test_a_large_table_is_written_through_nginx(
    proxied: tuple[Nginx, BulkServer], proxied_table: str
) -> None:
    """Without a fault nginx passes large bodies and answers on."""
    nginx, datasette = proxied
    rows = some_rows(900, text="x" * 1000)
    assert_answer(datasette, insert_through(nginx, nginx.base_url, proxied_table, rows), "good")
    assert_holds(datasette, proxied_table, rows)
