"""Requests that are answered before their rows are stored: their jobs are asked until over.

What the form says about answers (a count, results, errors of rows) is read in the last answer about
the job. A job that failed is like a request that was refused, and one that is not known any more
like a request without an answer. One that never ends is left to the time it is given.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import Ambiguous, HttpResponse, Refused, RowFault
from destination_bulk_tables.model import Table
from destination_bulk_tables.providers.custom_http.answers import OK, Request
from destination_bulk_tables.providers.custom_http.fields import dig, is_page, statuses, wrong
from destination_bulk_tables.providers.custom_http.templates import LITERAL, Path

log = logging.getLogger(__name__)

SETTING = "job.path"
GRACE_S = 30.0  # a job that was just made need not be known everywhere
_ADDRESS = re.compile(r"(?:https?:/)?/", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,40}")  # a name, and not a text that may quote a row


@dataclass(frozen=True, slots=True)
class Jobs:
    """Where a job is named, how it is asked for, and what its statuses mean."""

    base_url: str
    named: str
    path: Path | None
    status: str
    done: frozenset[str]
    failed: frozenset[str]
    success: frozenset[int]
    timeout_s: float
    unknown: set[str]  # statuses that were logged

    @classmethod
    def parse(cls, form: dict[str, Any], base_url: str) -> Jobs | None:
        """Raise `ConfigError` for what cannot work."""
        job = form.get("job", {})
        if job.get("job_type", "none") == "none":
            return None
        path = Path.parse("job.path", job["path"], {"job", "table"}) if job.get("path") else None
        if path and "job" not in path.names():
            raise wrong("job.path", "lacks {job}")
        status = job.get("status", "")
        done, failed = (
            _words(f"job.{name}", job.get(name, ""), are_statuses=not status)
            for name in ("done", "failed")
        )
        if not done:
            raise wrong("job.done", "is empty, so no job would ever be done")
        if both := done & failed:
            raise wrong("job.failed", f"holds {min(both)!r}, which job.done holds as well")
        replace = form.get("replace", {})
        if replace.get("replace_type") == "query" and replace.get("requests", "one") != "one":
            raise wrong("replace.requests", "must be 'one', as jobs end in no certain order (job)")
        return cls(
            base_url=base_url.rstrip("/"),
            named=job["id"],
            path=path,
            status=status,
            done=done,
            failed=failed,
            success=OK if status else OK | set(map(int, done | failed)),
            timeout_s=60.0 * float(job.get("timeout_minutes", 60)),
            unknown=set(),
        )

    def name(self, request: Request, response: HttpResponse) -> str:
        """The job of an accepted request: its id, or the path of its address."""
        if self.named.startswith("header:"):
            found: Any = response.headers.get(self.named.partition(":")[2].strip().lower())
        else:
            found = dig(response.parsed(), self.named)
        is_number = isinstance(found, int) and not isinstance(found, bool)
        if not (isinstance(found, str) and found) and not is_number:
            raise Ambiguous(f"HTTP {response.status} without a job where job.id says")
        text = str(found).strip()
        if self.path is None:
            return self._below(text, request)
        if _ADDRESS.match(
            text
        ):  # of a proxy or a server behind it, perhaps: its last step is the id
            return urlsplit(text).path.rstrip("/").rpartition("/")[2] or text
        return text

    def _below(self, address: str, request: Request) -> str:
        """The path of a job's address; the credential goes to no other place."""
        own = urlsplit(self.base_url)
        try:
            parts = urlsplit(urljoin(self.base_url + request.path, address.strip()))
        except ValueError:
            parts = urlsplit("")
        is_own = (parts.scheme, parts.netloc) == (own.scheme, own.netloc)
        if not is_own or not parts.path.startswith(own.path + "/"):
            message = (
                "The API names the address of a job that is not below base_url, where no request "
                "is sent. Set job.path, and job.id to where the job's id is."
            )
            raise ConfigError(message)
        path = quote(parts.path[len(own.path) :], safe=LITERAL)
        return path + (f"?{quote(parts.query, safe=LITERAL)}" if parts.query else "")

    def request(self, table: Table, job: str) -> Request:
        """It only reads."""
        path = self.path.render(table, {"job": job}) if self.path else job
        return Request("GET", path, setting=SETTING, table=table, success=self.success, job=job)

    def is_over(self, response: HttpResponse, table: Table) -> bool | None:
        """Whether the job is done (True), failed (False), or neither so far."""
        status = self._status(response)
        if status in self.done or status in self.failed:
            return status in self.done
        shown = status if _WORD.fullmatch(status) else "-"
        if shown not in self.unknown:
            self.unknown.add(shown)
            log.info("job_goes_on table=%s status=%s", table.name, shown)
        return None

    def failure(self, response: HttpResponse, reason: str, faults: tuple[RowFault, ...]) -> Refused:
        """A failed job as a refusal, with the rows that it names."""
        status = self._status(response)
        code = f"job_{status}" if _WORD.fullmatch(status) else "job_failed"
        return Refused(code, reason, faults=faults)

    def _status(self, response: HttpResponse) -> str:
        if not self.status:
            return str(response.status)
        found = None if is_page(response) else dig(response.parsed(), self.status)
        return str(found).casefold() if isinstance(found, str | int) else ""


def _words(field: str, text: str, *, are_statuses: bool) -> frozenset[str]:
    if not text.strip():
        return frozenset()
    if are_statuses:
        return frozenset(map(str, statuses(field, text)))
    return frozenset(part.strip().casefold() for part in text.split(",") if part.strip())
