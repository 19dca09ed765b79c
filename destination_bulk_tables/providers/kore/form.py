"""The form of Kore.ai: data only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from destination_bulk_tables.form.fields import branch, choice, one_of, secret, text

if TYPE_CHECKING:
    from destination_bulk_tables.model import JsonObject

_AUTHENTICATION = one_of(
    "Authentication",
    "An app under Data > Apps that is assigned to the tables, or a token made elsewhere.",
    branch(
        "JWT app",
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
            "HS256",
            "HS512",
            "RS256",
            "RS512",
            default="HS256",
        ),
        subject=text(
            "Subject",
            "The token's sub claim; Kore.ai shows it as the author of the rows.",
            default="airbyte",
        ),
    ),
    branch(
        "Static token",
        ("auth_type", "static_jwt"),
        ["jwt"],
        jwt=secret("Token", "A signed JWT. It does not work with apps that enforce JTI."),
    ),
)

FORM: JsonObject = branch(
    "Kore.ai",
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
        (
            "'insert_then_delete' inserts the new rows and then deletes the old ones: at each "
            "moment the table holds all old or all new rows. When rows are refused because of a "
            "unique index the old ones stay and the sync fails. 'delete_then_insert' is for such "
            "tables; the table is empty in between, and stays so if the sync is ended there."
        ),
        "insert_then_delete",
        "delete_then_insert",
        default="insert_then_delete",
    ),
    on_ambiguous_write=choice(
        "After a write without an answer",
        (
            "The table is read back to see whether the rows are in. Where that cannot tell, "
            "'verify_then_retry' repeats the write, which may double rows, and 'fail' ends the "
            "sync."
        ),
        "verify_then_retry",
        "fail",
        default="verify_then_retry",
    ),
    timestamp_format=choice(
        "Timestamps",
        (
            "How date-time values are sent: ISO 8601 in UTC, the UTC date, or milliseconds since "
            "1970."
        ),
        "iso",
        "date",
        "epoch_ms",
        default="iso",
    ),
    boolean_format=choice(
        "Booleans",
        "Kore.ai has no boolean column: send the text true or false, or the number 1 or 0.",
        "string",
        "number",
        default="string",
    ),
    api_path_prefix=text(
        "API path",
        "Only to be changed where a gateway moves the public API.",
        default="/api/public",
    ),
) | {"description": "Data tables of Kore.ai's AI for Service (XO) platform."}
