"""Background jobs."""

from __future__ import annotations

from destination_bulk_tables.form.fields import branch, decimal, text, tiles
from destination_bulk_tables.model import JsonObject

JOB: JsonObject = tiles(
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
