"""Any HTTP API that takes rows in bulk, described in the config form.

`form` says what can be asked for, `provider` turns a filled-in form into flows: `sending` a batch,
following its `jobs`, `replacing` a table, `checking` a credential. `batches` makes the requests of
rows of what `writing` prepares, `emptying` and `questions` make the others, `answers` and `results`
judge what comes back, `credentials` shows who asks, and `templates` and `fields` know the small
languages of the form.
"""

from destination_bulk_tables.providers.custom_http.provider import CustomHttp

__all__ = ["CustomHttp"]
