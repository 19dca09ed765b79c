"""Sentences that several fields say."""

STATUS_LIST = "Statuses and ranges joined by commas."
SAID = "Looked for in answers that are no success, and in the errors of rows of those that are."
