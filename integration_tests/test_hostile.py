"""Wrong answers x requests x policies x providers: no false success, no row lost in silence.

A sync of five rows in three requests meets one class of wrong answer at one kind of request: at the
first, the last or each of them. Whatever it then ends with, a row before an acknowledged state is
in the table or named as rejected, a sync that says "success" has delivered or rejected each row,
and rows are not doubled behind the user's back. A connection test that gets such an answer does not
succeed. Engine and sender are the real ones; the network and the time are in memory, and so the
vendors, which is why thousands of syncs take less than a minute.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from destination_bulk_tables.errors import DestinationError
from destination_bulk_tables.exchange import Exchange
from destination_bulk_tables.http import Ambiguous, HttpRequest, HttpResponse, Refused, TooLarge
from destination_bulk_tables.messages import Message
from destination_bulk_tables.provider import Provider
from unit_tests.custom_forms import made
from unit_tests.custom_vendor import JOBS, CustomVendor, JobVendor
from unit_tests.fakes import Answer, FakeClock, FakeTransport, Fault
from unit_tests.hostile import EMPTY_SUCCESSES, SPOILED, classes
from unit_tests.syncs import Sync, SyncMode, catalog_of, complete, kore, qobra, records, state
from unit_tests.vendors import KoreVendor, QobraVendor, Row

ROWS: list[Row] = [{"id": f"r{i}", "name": "n", "amount": i, "version": 1} for i in range(5)]
SCRIPT: list[Message] = [
    records(ROWS[:3]),
    state(3),
    records(ROWS[3:]),
    state(5),
    complete(),
]
TIMES: dict[str, Callable[[int], bool]] = {
    "the first": lambda number: number == 1,
    "the last": lambda number: number == 3,  # which holds one row
    "each": lambda number: number > 0,
}
# the policy is about refused rows only, and under `fail` the first of them ends the sync
PLAN = [*((when, "skip") for when in TIMES), ("the last", "fail")]


def _wrote(request: HttpRequest) -> bool:
    parts = request.path.partition("?")[0].rsplit("/", 1)
    return request.method in {"POST", "PUT"} and parts[1] in {"bulk", "rows"}


def _emptied(request: HttpRequest) -> bool:
    return request.method == "DELETE"


def _read(request: HttpRequest) -> bool:
    return not _wrote(request) and not _emptied(request)


REQUESTS = {"write": _wrote, "delete": _emptied, "read": _read}


@dataclass
class Case:
    """A provider, a mode, and which of its requests are hit."""

    name: str
    provider: Callable[[], Provider]
    vendor: Callable[[FakeClock], Any]
    mode: SyncMode
    hit: tuple[str, ...] = ("write",)
    is_proof_the_status: bool = False
    is_atomic: bool = False
    old: list[Row] = field(default_factory=list)


def custom(
    name: str,
    says: Callable[[list[Row]], Any],
    mode: SyncMode = "append",
    *hit: str,
    keyed: bool = False,
    **form: Any,
) -> Case:
    def api(_: FakeClock) -> CustomVendor:
        return CustomVendor(is_keyed=keyed or mode == "append_dedup", says=says)

    return Case(
        f"custom_http {name}",
        lambda: made(**form),
        api,
        mode,
        hit or ("write",),
        is_proof_the_status=not {"count_path", "results_path", "success_text"} & set(form),
        is_atomic="refusals_store_nothing" in form,
    )


COUNT: dict[str, Any] = {"table_count_path": "/t/{table}/count", "table_count_value": "n"}
UPSERT: dict[str, Any] = {
    "upsert": {"upsert_type": "request", "method": "PUT", "headers": "X-Upsert: yes"}
}
EMPTY: dict[str, Any] = {
    "replace_type": "empty_first",
    "requests": [{"method": "DELETE", "path": "/t/{table}/rows"}],
}
TEXT: dict[str, Any] = {"success_text": '"emptied": true'}


def _number(rows: list[Row]) -> Any:
    return {"n": len(rows)}


def _results(rows: list[Row]) -> Any:
    return {"r": [{"status": 201} for _ in rows]}


def jobs() -> Iterator[Case]:
    """An API that works in jobs, with what may tell of a lost one."""
    told: dict[str, dict[str, Any]] = {
        "status": {},
        "count of the table": {"count_path": "n", **COUNT},
        "safe to repeat": {"count_path": "n", "repeat_is_safe": True},
    }
    for name, form in told.items():
        is_keyed = name == "safe to repeat"
        yield Case(
            f"custom_http jobs, {name}",
            partial(made, job=JOBS, **form),
            partial(_jobs_of, is_keyed),
            "append",
            ("read",) if name == "status" else ("write", "read"),
        )


def _jobs_of(is_keyed: bool, _: FakeClock) -> JobVendor:  # noqa: FBT001 - bound above
    return JobVendor(is_keyed=is_keyed)


RESULTS: dict[str, Any] = {"results_path": "r", "result_status_member": "status"}
CASES = [
    Case("kore append", kore, lambda _: KoreVendor(), "append", ("write", "read")),
    Case("kore append_dedup", kore, lambda _: KoreVendor(), "append_dedup", ("write", "delete")),
    Case("kore overwrite", kore, lambda _: KoreVendor(), "overwrite", ("write", "delete", "read")),
    Case("qobra append_dedup", qobra, QobraVendor, "append_dedup", ("write", "read")),
    Case("qobra overwrite", qobra, QobraVendor, "overwrite", ("write", "read")),
    custom("status", lambda _: {}),
    custom("text", lambda _: {"ok": "yes"}, success_text='"ok": "yes"'),
    custom("count of the answer", _number, count_path="n"),
    custom("results", _results, **RESULTS),
    custom(
        "error members",
        lambda rows: {"r": [{"id": row["id"]} for row in rows]},
        results_path="r",
        result_error_member="error",
    ),
    custom("errors", lambda _: {"errors": []}, errors_path="errors"),
    custom("count of the table", _number, "append", "write", "read", count_path="n", **COUNT),
    custom("safe to repeat", _number, keyed=True, count_path="n", repeat_is_safe=True),
    custom("all or nothing", _results, **RESULTS, refusals_store_nothing=True),
    custom("upsert", _number, "append_dedup", count_path="n", **UPSERT),
    *jobs(),
    custom(
        "overwrite",
        _number,
        "overwrite",
        "write",
        "delete",
        "read",
        count_path="n",
        replace=EMPTY,
        **COUNT,
    ),
    custom(
        "overwrite told by a text",
        _number,
        "overwrite",
        "write",
        "delete",
        count_path="n",
        replace=EMPTY | TEXT,
    ),
]


class Trial:
    """One sync against one class of answers."""

    def __init__(self, case: Case, fault: Fault, hit: str, when: str, policy: Any) -> None:
        clock = FakeClock()
        vendor = case.vendor(clock)
        provider = case.provider()
        self.case, self.asked, self.met = case, 0, 0
        self.sync = Sync(
            provider, vendor, clock, catalog_of(case.mode), SCRIPT, policy=policy, max_rows=2
        )
        self.early: list[int] = []
        self.sync.on_state = self._look
        self.vendor = vendor
        is_hit = REQUESTS[hit]

        def answer(request: HttpRequest) -> HttpResponse:
            if is_hit(request):
                self.asked += 1
                if TIMES[when](self.asked):
                    self.met += 1
                    return fault(request, vendor.answer)
            answered: HttpResponse = vendor.answer(request)
            return answered

        self.sync.transport.answer = answer

    def _settled(self) -> set[str]:
        return {row["id"] for row in self.vendor.rows()} | set(self.sync.rejected_ids)

    def _look(self, number: int, _: Sync) -> None:
        if not {row["id"] for row in ROWS[:number]} <= self._settled():
            self.early.append(number)

    def problems(self) -> Iterator[str]:
        """Run it, and tell what was wrong."""
        self.sync.run()
        if self.early:
            yield f"states {self.early} left before their rows were in"
        if self.sync.error is not None:
            return
        if lost := {row["id"] for row in ROWS} - self._settled():
            yield f"success without {sorted(lost)}"
        stored = Counter(row["id"] for row in self.vendor.rows())
        if doubled := [name for name, number in stored.items() if number > 1]:
            yield f"success with {doubled} doubled"


def check_succeeds(case: Case, fault: Fault) -> bool:
    """Whether a connection test that gets this answer succeeds."""
    clock, provider = FakeClock(), case.provider()
    answer: Answer = case.vendor(clock).answer
    transport = FakeTransport(clock, lambda request: fault(request, answer))
    exchange = Exchange(provider, transport, clock, threading.Event(), max_elapsed_s=20)
    try:
        exchange.run(None, provider.check([]))
    except (DestinationError, Refused, TooLarge, Ambiguous):
        return False
    return True


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


def trials(case: Case) -> Iterator[tuple[str, Trial]]:
    """Everything that is tried with one provider and mode."""
    kinds = classes(is_proof_the_status=case.is_proof_the_status, is_atomic=case.is_atomic)
    for name, fault in kinds:
        for hit in case.hit:
            for when, policy in PLAN:
                label = f"{name}; {when} {hit}; policy {policy}"
                yield label, Trial(case, fault, hit, when, policy)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_wrong_answer_loses_or_doubles_a_row(case: Case) -> None:
    """At whichever request it comes, and however often."""
    found, number = [], 0
    for label, trial in trials(case):
        found += [f"{label}: {problem}" for problem in trial.problems()]
        number += trial.met > 0
    print(f"{case.name}: {number} syncs met a wrong answer")
    assert number > 100
    assert not found, "\n".join(found[:40])


CHECKED = [
    Case("kore", kore, lambda _: KoreVendor(), "append"),
    Case("qobra", qobra, QobraVendor, "append"),
    custom("a text", lambda _: {}, check_text='"actor"'),
    custom("a status", lambda _: {}, check_statuses="200"),
]
# a status is all such a check asks for, so an empty answer with it is one; and what a list of
# things holds is theirs
NO_PROOF = {name for name in EMPTY_SUCCESSES if name.startswith("200")} | {
    '200 [{"error":"conflict"}]',
    '200 {"results":[{"error":"conflict"}]}',
}


@pytest.mark.parametrize("case", CHECKED, ids=lambda case: case.name)
def test_no_wrong_answer_passes_for_a_check(case: Case) -> None:
    """A connection test succeeds with the right answer only."""
    passed = [
        name
        for name, fault in classes(is_proof_the_status=False)
        if check_succeeds(case, fault) and not name.endswith(", applied")
    ]
    # a right answer that is spoiled may still hold what is asked for, and comes from the API
    expected = set(SPOILED) | (NO_PROOF if case.name == "custom_http a status" else set())
    assert set(passed) <= expected
