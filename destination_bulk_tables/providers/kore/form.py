"""The form of Kore.ai: data only."""

from __future__ import annotations

from destination_bulk_tables.form.fields import branch, choice, secret, text, tiles
from destination_bulk_tables.model import JsonObject

_AUTHENTICATION = tiles(
    "Authentication",
    "An app under Data > Apps that is assigned to the tables, or a token made elsewhere.",
    branch(
        "JWT app",
        "The app's client id and secret sign a token for each request.",
        ("auth_type", "jwt_app"),
        ["client_id", "client_secret"],
        client_id=text(
            "Client ID", "The app's client id.", "cs-1a2b3c4d-0000-0000-0000-000000000000"
        ),
        client_secret=secret(
            "Client secret or private key",
            "The app's client secret; for RS256 and RS512 the private key in PEM form.",
            multiline=True,
        ),
        algorithm=choice(
            "Signing algorithm",
            "As chosen when the app was made.",
            {
                "HS256": "",
                "HS512": "",
                "RS256": "with a private key",
                "RS512": "with a private key",
            },
        ),
        subject=text(
            "Subject",
            "The token's sub claim; Kore.ai shows it as the author of the rows.",
            default="airbyte",
        ),
    ),
    branch(
        "Static token",
        "A token made elsewhere.",
        ("auth_type", "static_jwt"),
        ["jwt"],
        jwt=secret("Token", "A signed JWT. It does not work with apps that enforce JTI."),
    ),
)

FORM: JsonObject = branch(
    "Kore.ai",
    "Data tables of Kore.ai's AI for Service (XO) platform.",
    ("provider_type", "kore"),
    ["host", "authentication"],
    host=text(
        "Host",
        "The address you open the platform at.",
        "https://platform.kore.ai",
        "https://eu-bots.kore.ai",
    ),
    authentication=_AUTHENTICATION,
    replace_strategy=choice(
        "How to replace a table",
        "In which order old rows go and new rows come.",
        {
            "insert_then_delete": (
                "at each moment the table holds all old or all new rows. When rows are refused "
                "because of a unique index the old ones stay and the sync fails"
            ),
            "delete_then_insert": (
                "for tables with a unique index; the table is empty in between, and stays so if "
                "the sync is ended there"
            ),
        },
    ),
    kore_after_lost_answer=choice(
        "After a write without an answer",
        "The table is read back to see whether the rows are in. What to do where that cannot tell.",
        {
            "verify_then_retry": "the write is repeated, which may double rows",
            "fail": "the sync ends",
        },
        known_as="on_ambiguous_write",
    ),
    kore_timestamps=choice(
        "Timestamps",
        "How date-time values are sent.",
        {
            "iso": "ISO 8601 in UTC",
            "date": "the UTC date",
            "epoch_ms": "milliseconds since 1970",
        },
        known_as="timestamp_format",
    ),
    kore_booleans=choice(
        "Booleans",
        "Kore.ai has no boolean column.",
        {"string": "the text true or false", "number": "the number 1 or 0"},
        known_as="boolean_format",
    ),
    api_path_prefix=text(
        "API path",
        "Only to be changed where a gateway moves the public API.",
        default="/api/public",
    ),
)
