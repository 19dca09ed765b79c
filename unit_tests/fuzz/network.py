"""What goes wrong on the way to the vendor, and who else writes there, as a seed says.

Invariant: what it does to a request is something that a network, a gateway or a vendor does; a
vendor that says that it stored what it did not is left out, for nothing helps against that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.transport import TransportError
from unit_tests.fakes import FakeClock, status
from unit_tests.fuzz.plan import Plan
from unit_tests.vendors import KoreVendor, QobraVendor, Row

# a connector waits so long for a request without an answer before it relies on what it reads
SETTLED_S = {"broken": 0.9, "timeout": 9.0}
MAYBE_APPLIED = (408, 425, 500, 502, 503, 504, 520)


def make_vendor(plan: Plan, clock: FakeClock) -> KoreVendor | QobraVendor:
    """The plan's vendor with its tables as they were before the job."""

    def is_bad(row: Row) -> bool:
        return row.get("amount") in plan.bad

    vendor: KoreVendor | QobraVendor
    switches = dict(plan.switches)
    if plan.vendor == "kore":
        order = Random(plan.seed) if switches.pop("order") else None
        vendor = KoreVendor(order=order, is_bad=is_bad, **switches)
    else:
        jitter = Random(plan.seed) if switches.pop("jitter") else None
        vendor = QobraVendor(clock, jitter=jitter, is_bad=is_bad, **switches)
    for stream in plan.streams:
        vendor.tables[stream.name] = [] if plan.vendor == "kore" else {}  # type: ignore[assignment]  # the two differ
        vendor.put(stream.old, stream.name)
    return vendor


def rows_of(request: HttpRequest) -> list[Row]:
    """The rows a request carries."""
    if not request.path.partition("?")[0].endswith("/bulk"):
        return []
    body = json.loads(request.body or b"{}")
    rows: list[Row] = body.get("data", body.get("items", []))
    return rows


@dataclass
class Network:
    """Stands between the sender and a vendor for a whole job; `left`: faults that may still come.

    `late`: names of rows whose request was applied when nobody could expect it any more; they may
    be in a table beside what belongs there. `removed`: rows that somebody else deleted.
    """

    plan: Plan
    vendor: KoreVendor | QobraVendor
    clock: FakeClock
    random: Random
    left: int = 0
    is_foreign: bool = False
    late: set[str] = field(default_factory=set)
    removed: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    _pending: list[tuple[float, HttpRequest]] = field(default_factory=list)
    _foreign: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))
    _requests: int = 0

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Serve one request, or let something go wrong with it."""
        self._requests += 1
        self.apply_late()
        if self.is_foreign and self.random.random() < 0.15:
            self._write_as_somebody_else()
        is_write = request.method == "DELETE" or bool(rows_of(request))
        share = self.plan.fault_share * (1.0 if is_write else 0.3)
        if self.left > 0 and self.random.random() < share:
            self.left -= 1
            name = self.random.choice(self._names(request))
            self.met[name] += 1
            self.faults.append(f"{name}@{self._requests}:{request.method} {request.path[-24:]}")
            return self._fail(name, request)
        return self.apply(request)

    def apply(self, request: HttpRequest) -> HttpResponse:
        """Serve one request as the vendor does."""
        if len(rows_of(request)) > self.plan.limit:
            return status(413, b"too large")
        return self.vendor.answer(request)

    def apply_late(self, *, everything: bool = False) -> None:
        """Apply requests that were under way since their connection ended."""
        now = self.clock.monotonic()
        due = [request for at, request in self._pending if everything or at <= now]
        self._pending = [] if everything else [(at, r) for at, r in self._pending if at > now]
        for request in due:
            self.apply(request)

    def _names(self, request: HttpRequest) -> list[str]:
        names = [
            *["refuse", "before", "before", "after", "after", "timeout before", "timeout after"],
            *["429", "429 in seconds", *self._statuses(), *self._statuses()],
            *["401", "413", "half a body", "not JSON", "miscount"],
        ]
        if self.random.random() < 0.1:
            names += ["400", "403", "503 for long"]
        if self.plan.vendor == "kore" and (rows_of(request) or request.method == "DELETE"):
            names += ["late", "late"]
        if rows_of(request) and self.plan.vendor == "kore":
            names += ["stored half, cut"]
        return names

    def _statuses(self) -> list[str]:
        return [
            str(self.random.choice(MAYBE_APPLIED)),
            f"{self.random.choice(MAYBE_APPLIED)} applied",
        ]

    def _fail(self, name: str, request: HttpRequest) -> HttpResponse:  # noqa: C901, PLR0912 - a table of faults
        kind: str = "timeout" if "timeout" in name else "broken"
        match name:
            case "refuse":
                raise TransportError("no", "connection refused", "broken")
            case "before" | "timeout before":
                raise _without_answer(kind)
            case "after" | "timeout after":
                self.apply(request)
                raise _without_answer(kind)
            case "late":
                kind = self.random.choice(["timeout", "broken"])
                self._delay(request, kind)
                raise _without_answer(kind)
            case "stored half, cut":
                self.apply(_first_half(request))
                raise _without_answer(kind)
            case "429":
                return status(429, b"{}")
            case "429 in seconds":
                return status(429, b"{}", retry_after=str(self.random.randint(1, 20)))
            case "503 for long":
                return status(503, b"{}", retry_after="4000")
            case "half a body":
                good = self.apply(request)
                return replace(good, body=good.body[: len(good.body) // 2])
            case "not JSON":
                return replace(self.apply(request), body=b"<html>")
            case "miscount":
                good = self.apply(request)
                return replace(good, body=_miscounted(good.body)) if good.status == 200 else good
            case _:
                if name.endswith(" applied"):
                    self.apply(request)
                return status(int(name[:3]), b"upstream")

    def _delay(self, request: HttpRequest, kind: str) -> None:
        """Have the request applied later: a delete while it is waited for, an insert at any time.

        Nothing helps against a delete that comes later still.
        """
        settled = SETTLED_S[kind]
        rows = rows_of(request)
        after = self.random.uniform(0.0, settled if not rows else self.random.choice([settled, 60]))
        if after > settled:
            self.late |= {str(row.get("name")) for row in rows}
        self._pending.append((self.clock.monotonic() + after, request))

    def _write_as_somebody_else(self) -> None:
        """Insert rows, or delete rows that the connector did not write."""
        stream = self.random.choice(self.plan.streams)
        rows = self.vendor.rows(stream.name)
        others = [row for row in rows if str(row.get("name")).startswith(("old.", "foreign."))]
        if others and self.random.random() < 0.5:
            self._remove(stream.name, self.random.choice(others))
            return
        number = next(self._foreign)
        new = {"id": f"f{number}", "name": f"foreign.{number}.0", "amount": -1000 - number}
        self.vendor.put([{**new, "version": 0}], stream.name)

    def _remove(self, table: str, row: Row) -> None:
        self.removed[str(row.get("name"))] += 1
        if isinstance(self.vendor, KoreVendor):
            kept = self.vendor.tables[table]
            for index, found in enumerate(kept):
                if found.get("name") == row["name"]:
                    del kept[index]
                    return
        else:
            del self.vendor.tables[table][row["id"]]


def _without_answer(kind: str) -> TransportError:
    return TransportError("maybe", "no answer", "timeout" if kind == "timeout" else "broken")


def _first_half(request: HttpRequest) -> HttpRequest:
    body = json.loads(request.body or b"{}")
    body["data"] = body["data"][: len(body["data"]) // 2]
    return replace(request, body=json.dumps(body).encode())


def _miscounted(body: bytes) -> bytes:
    """One less than the truth, but never that nothing was deleted, nor what a table holds."""
    answer = json.loads(body)
    if answer.get("objects_imported"):
        answer["objects_imported"] -= 1
    if answer.get("nDeleted", 0) > 1:
        answer["nDeleted"] -= 1
    if answer.get("records"):
        answer["records"] = answer["records"][1:]
    return json.dumps(answer).encode()
