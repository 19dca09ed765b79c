"""An API of tables as a form of custom_http describes it, which may do its work in jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from destination_bulk_tables.http import HttpRequest, HttpResponse
from unit_tests.vendors import Row, answer_of

JOBS: dict[str, Any] = {
    "job_type": "poll",
    "id": "job.id",
    "path": "/jobs/{job}",
    "status": "state",
    "done": "done",
    "failed": "failed, cancelled",
}


class CustomVendor:
    """Tables keyed by `id`, or of rows without a key; it stores when it answers."""

    def __init__(self, *, is_keyed: bool, says: Callable[[list[Row]], Any]) -> None:
        self.stored: list[Row] = []
        self.is_keyed = is_keyed
        self.says = says

    def rows(self) -> list[Row]:
        """What a reader of the table sees."""
        return list(self.stored)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Serve one request."""
        if request.path == "/me":
            return answer_of(200, {"actor": "me"})
        if request.method == "GET":
            return answer_of(200, {"n": len(self.stored)})
        if request.method == "DELETE":
            self.stored.clear()
            return answer_of(200, {"emptied": True})
        return self.write(json.loads(request.body or b"")["rows"])

    def write(self, rows: list[Row]) -> HttpResponse:
        """Take rows."""
        self.store(rows)
        return answer_of(201, self.says(rows))

    def store(self, rows: list[Row]) -> None:
        """Have rows in the table, in place of those of the same key if it is keyed."""
        if self.is_keyed:
            ids = {row["id"] for row in rows}
            self.stored = [row for row in self.stored if row["id"] not in ids]
        self.stored += rows


@dataclass
class Job:
    """What a request asked for; `fate`: how it goes, `polls`: how often it was asked for."""

    rows: list[Row]
    fate: str
    polls: int = 0
    is_over: bool = False


@dataclass
class JobVendor(CustomVendor):
    """It answers 202 and stores at the second poll. A row without a name is a bad row.

    `fates`: of the jobs in their order, the last of all that follow: done (bad rows are named and
    the others stored), whole (one bad row fails the job), failed, half (failed with a half
    stored), lost (stored and forgotten), gone (forgotten before it began), endless, strange.
    """

    fates: tuple[str, ...] = ("done",)
    is_keyed: bool = False
    says: Callable[[list[Row]], Any] = lambda rows: {"n": len(rows)}
    stored: list[Row] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Serve one request."""
        if request.path.startswith("/jobs/"):
            self.asked.append(request.path)
            names = [f"j{number}" for number in range(len(self.jobs))]
            name = request.path.rpartition("/")[2]
            return self._tell(self.jobs[names.index(name)] if name in names else Job([], "gone"))
        return super().answer(request)

    def write(self, rows: list[Row]) -> HttpResponse:
        """Take rows for later."""
        number = len(self.jobs)
        self.jobs.append(Job(rows, self.fates[min(number, len(self.fates) - 1)]))
        return answer_of(202, {"job": {"id": f"j{number}"}})

    def _tell(self, job: Job) -> HttpResponse:
        job.polls += 1
        if job.fate == "gone":
            return answer_of(404, {"message": "no such job"})
        if job.polls == 1 or job.fate == "endless":
            return answer_of(200, {"state": "running"})
        bad = [number for number, row in enumerate(job.rows) if row["name"] is None]
        good = [row for row in job.rows if row["name"] is not None]
        self._end(job, good, is_bad=bool(bad))
        if job.fate == "lost":
            return answer_of(404, {"message": "no such job"})
        if job.fate == "strange":
            return answer_of(200, {"state": "zombie"})
        if job.fate in {"failed", "half"} or (job.fate == "whole" and bad):
            return answer_of(200, {"state": "Failed", "errors": self._named(bad)})
        return answer_of(200, {"state": "done", "errors": self._named(bad), **self.says(good)})

    def _end(self, job: Job, good: list[Row], *, is_bad: bool) -> None:
        if job.is_over:
            return
        job.is_over = True
        if job.fate == "half":
            self.store(good[: len(good) // 2])
        elif job.fate in {"done", "lost"} or (job.fate == "whole" and not is_bad):
            self.store(good)

    @staticmethod
    def _named(bad: list[int]) -> list[dict[str, Any]]:
        return [{"row": number, "reason": "no name"} for number in bad]
