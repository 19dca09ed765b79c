"""Requests that are answered before their rows are stored: their jobs are asked until over.

What the form says about answers (a count, results, errors of rows) is read in the last answer about
the job. A job that failed is like a request that was refused, and one that is not known any more
like a request without an answer. One that never ends is left to the time it is given.
"""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import Ambiguous, Flow, HttpResponse, Refused, TooLarge
from destination_bulk_tables.model import Receipt, RowBlock, Table
from destination_bulk_tables.outcomes import Context, Outcome, Unverified
from destination_bulk_tables.providers.custom_http.answers import OK, Answers, Request
from destination_bulk_tables.providers.custom_http.batches import Batches
from destination_bulk_tables.providers.custom_http.fields import dig, is_page, statuses, wrong
from destination_bulk_tables.providers.custom_http.results import Results
from destination_bulk_tables.providers.custom_http.templates import LITERAL, Path

log = logging.getLogger(__name__)

_GRACE_S = 30.0  # a job that was just made need not be known everywhere
_ADDRESS = re.compile(r"(?:https?:/)?/", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,40}")  # a name, and not a text that may quote a row


class Jobs:
    """Where a job is named, how it is asked for, and what its statuses mean."""

    def __init__(
        self,
        form: dict[str, Any],
        base_url: str,
        batches: Batches,
        results: Results,
        answers: Answers,
    ) -> None:
        """Raises `ConfigError` for what cannot work."""
        self._batches, self._results, self._answers = batches, results, answers
        job = form["job"]
        self._base_url = base_url.rstrip("/")
        self._named: str = job["id"]
        self._path: Path | None = None
        if job.get("path"):
            self._path = Path.parse("job.path", job["path"], {"job", "table"})
            if "job" not in self._path.names():
                raise wrong("job.path", "lacks {job}")
        self._status_path: str = job.get("status", "")
        self._done, self._failed = (
            _words(f"job.{name}", job.get(name, ""), are_statuses=not self._status_path)
            for name in ("done", "failed")
        )
        if not self._done:
            raise wrong("job.done", "is empty, so no job would ever be done")
        if both := self._done & self._failed:
            raise wrong("job.failed", f"holds {min(both)!r}, which job.done holds as well")
        replace = form.get("replace", {})
        if replace.get("replace_type") == "query" and replace.get("requests", "one") != "one":
            raise wrong("replace.requests", "must be 'one', as jobs end in no certain order (job)")
        are_named = bool(self._status_path)
        self._success = OK if are_named else OK | set(map(int, self._done | self._failed))
        self.timeout_s = 60.0 * float(job.get("timeout_minutes", 60))
        self._unknown: set[str] = set()  # statuses that were logged

    def begin(self, table: Table, block: RowBlock, context: Context) -> Flow[Receipt]:
        """Send the rows; their job is known then."""
        request = self._batches.request(table, block, context)
        response = yield request
        self._results.judge_accepted(response, block.count, table.columns)
        if context.replace is not None:
            context.replace.begun = True
        resent = block.count * (response.resent + context.repeated)
        return Receipt(self.name(request, response), block.count, resent, block)

    def verify(self, unverified: Unverified) -> Flow[Outcome | None]:
        """Ask for the one job of a request."""
        (receipt,), table = unverified.receipts, unverified.table
        block = receipt.block
        assert block is not None
        try:
            response = yield self._request(table, receipt.id)
        except Refused as refused:
            if unverified.age_s < _GRACE_S:
                return None
            return Outcome(fate=Ambiguous(f"the API does not know the job: {refused.code}"))
        except (Ambiguous, TooLarge):
            return None
        is_done = self._is_over(response, table)
        if is_done is None:
            return None
        if not is_done:
            faults = self._results.faults_in_refusal(response, block.count)
            status = self._status(response)
            code = f"job_{status}" if _WORD.fullmatch(status) else "job_failed"
            failure = Refused(code, response.text, faults=faults)
            return Outcome(fate=self._answers.about_failed_job(response, block, failure))
        safe = self._batches.repeats_safely(table)
        try:
            judged = self._results.judge_success(
                response,
                block.count,
                columns=table.columns,
                count_path=self._batches.write_of(table).count_path,
                is_repeat=receipt.resent > 0 and safe,
                is_repeatable=safe,
            )
        except (Refused, Ambiguous) as fate:
            return Outcome(fate=fate)
        if not receipt.resent:
            return judged
        bad = [f for f in judged.faults if not self._results.is_stored_before(f.reason)]
        if own := len(judged.faults) - len(bad):
            warn_stored_before(table, own)
        return Outcome(tuple(bad), judged.again)

    def name(self, request: Request, response: HttpResponse) -> str:
        """The job of an accepted request: its id, or the path of its address."""
        if self._named.startswith("header:"):
            found: Any = response.headers.get(self._named.partition(":")[2].strip().lower())
        else:
            found = dig(response.parsed(), self._named)
        is_number = isinstance(found, int) and not isinstance(found, bool)
        if not (isinstance(found, str) and found) and not is_number:
            raise Ambiguous(f"HTTP {response.status} without a job where job.id says")
        text = str(found).strip()
        if self._path is None:
            return self._below(text, request)
        if _ADDRESS.match(
            text
        ):  # of a proxy or a server behind it, perhaps: its last step is the id
            return urlsplit(text).path.rstrip("/").rpartition("/")[2] or text
        return text

    def _below(self, address: str, request: Request) -> str:
        """The path of a job's address; the credential goes to no other place."""
        own = urlsplit(self._base_url)
        try:
            parts = urlsplit(urljoin(self._base_url + request.path, address.strip()))
        except ValueError:
            parts = urlsplit("")
        is_own = (parts.scheme, parts.netloc) == (own.scheme, own.netloc)
        if not is_own or not parts.path.startswith(own.path + "/"):
            raise ConfigError(
                "The API names the address of a job that is not below base_url, where no request "
                "is sent. Set job.path, and job.id to where the job's id is."
            )
        path = quote(parts.path[len(own.path) :], safe=LITERAL)
        return path + (f"?{quote(parts.query, safe=LITERAL)}" if parts.query else "")

    def _request(self, table: Table, job: str) -> Request:
        """It only reads."""
        path = self._path.render(table, {"job": job}) if self._path else job
        return Request("GET", path, setting="job.path", table=table, success=self._success, job=job)

    def _is_over(self, response: HttpResponse, table: Table) -> bool | None:
        """Whether the job is done (True), failed (False), or neither so far."""
        status = self._status(response)
        if status in self._done or status in self._failed:
            return status in self._done
        shown = status if _WORD.fullmatch(status) else "-"
        if shown not in self._unknown:
            self._unknown.add(shown)
            log.info("job_goes_on table=%s status=%s", table.name, shown)
        return None

    def _status(self, response: HttpResponse) -> str:
        if not self._status_path:
            return str(response.status)
        found = None if is_page(response) else dig(response.parsed(), self._status_path)
        return str(found).casefold() if isinstance(found, str | int) else ""


def warn_stored_before(table: Table, rows: int) -> None:
    """Tell that rows were taken for those of an earlier attempt."""
    log.warning(
        "stored_before table=%s rows=%d setting=already_stored_texts old_rows=possible",
        table.name,
        rows,
    )


def _words(field: str, text: str, *, are_statuses: bool) -> frozenset[str]:
    if not text.strip():
        return frozenset()
    if are_statuses:
        return frozenset(map(str, statuses(field, text)))
    return frozenset(part.strip().casefold() for part in text.split(",") if part.strip())
