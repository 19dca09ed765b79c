"""Follows the job of a request until it is over, and tells what became of its rows."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from destination_bulk_tables.http import Ambiguous, Flow, Refused, TooLarge
from destination_bulk_tables.model import Receipt, RowBlock, Table
from destination_bulk_tables.outcomes import Context, Outcome, Unverified
from destination_bulk_tables.providers.custom_http.answers import Answers
from destination_bulk_tables.providers.custom_http.batches import Batches
from destination_bulk_tables.providers.custom_http.jobs import GRACE_S, Jobs
from destination_bulk_tables.providers.custom_http.results import Results

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Following:
    """Where the form describes jobs."""

    jobs: Jobs
    _batches: Batches
    _results: Results
    _answers: Answers

    def begin(self, table: Table, block: RowBlock, context: Context) -> Flow[Receipt]:
        """Send the rows; their job is known then."""
        request = self._batches.request(table, block, context)
        response = yield request
        self._results.judge_accepted(response, block.count, table.columns)
        if context.replace is not None:
            context.replace.begun = True
        resent = block.count * (response.resent + context.repeated)
        return Receipt(self.jobs.name(request, response), block.count, resent, block)

    def verify(self, unverified: Unverified) -> Flow[Outcome | None]:
        """Ask for the one job of a request."""
        (receipt,), table, jobs = unverified.receipts, unverified.table, self.jobs
        block = receipt.block
        assert block is not None
        try:
            response = yield jobs.request(table, receipt.id)
        except Refused as refused:
            if unverified.age_s < GRACE_S:
                return None
            return Outcome(fate=Ambiguous(f"the API does not know the job: {refused.code}"))
        except (Ambiguous, TooLarge):
            return None
        is_done = jobs.is_over(response, table)
        if is_done is None:
            return None
        if not is_done:
            faults = self._results.faults_in_refusal(response, block.count)
            failure = jobs.failure(response, response.text, faults)
            return Outcome(fate=self._answers.about_failed_job(response, block, failure))
        safe = self._batches.repeats_safely(table)
        try:
            judged = self._results.judge_success(
                response,
                block.count,
                columns=table.columns,
                count_path=self._batches.write_of(table).prepare(table).count_path,
                is_repeat=receipt.resent > 0 and safe,
                is_repeatable=safe,
            )
        except (Refused, Ambiguous) as fate:
            return Outcome(fate=fate)
        if not receipt.resent:
            return Outcome(judged.faults, judged.again)
        bad = [f for f in judged.faults if not self._results.is_stored_before(f.reason)]
        if own := len(judged.faults) - len(bad):
            warn_stored_before(table, own)
        return Outcome(tuple(bad), judged.again)


def warn_stored_before(table: Table, rows: int) -> None:
    """Tell that rows were taken for those of an earlier attempt."""
    log.warning(
        "stored_before table=%s rows=%d setting=already_stored_texts old_rows=possible",
        table.name,
        rows,
    )
