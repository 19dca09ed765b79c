"""How every request shows who it is from."""

from __future__ import annotations

from destination_bulk_tables.form.fields import (
    branch,
    choice,
    integer,
    long_text,
    secret,
    text,
    tiles,
)
from destination_bulk_tables.model import JsonObject

AUTHENTICATION: JsonObject = tiles(
    "Authentication",
    "How every request shows who it is from.",
    branch(
        "Bearer token",
        "A token in the header Authorization.",
        ("auth_type", "bearer"),
        ["token"],
        token=secret("Token", "Sent as `Authorization: Bearer ...`.", "dstok_..."),
    ),
    branch(
        "API key in a header",
        "A key in a header of any name.",
        ("auth_type", "header"),
        ["header_name", "secret"],
        header_name=text(
            "Header name", "Header that carries the key.", "X-API-Key", "xc-token", "apikey"
        ),
        secret=secret("Key", "The key or token.", "sb_secret_..."),
        value_template=text(
            "Header value",
            "`{secret}` is replaced by the key.",
            "Token {secret}",
            default="{secret}",
        ),
    ),
    branch(
        "User name and password",
        "HTTP Basic.",
        ("auth_type", "basic"),
        ["username"],
        # some APIs take a token here
        username=secret("User name", "Sent as HTTP Basic.", "loader"),
        password=secret("Password", "May be empty where the user name is a token.", "pass-..."),
    ),
    branch(
        "Signed token (JWT) per request",
        "A token made anew for each request.",
        ("auth_type", "jwt"),
        ["signing_secret"],
        signing_secret=long_text(
            "Signing secret or private key",
            "The secret for HS*, the private key in PEM form for RS*.",
            "-----BEGIN PRIVATE KEY-----\nMIIE...\n-----END PRIVATE KEY-----",
            airbyte_secret=True,
        ),
        algorithm=choice(
            "Algorithm",
            "How the token is signed. HS* with a secret, RS* with a private key.",
            ("HS256", "HS384", "HS512", "RS256", "RS384", "RS512"),
        ),
        claims=long_text(
            "Claims",
            "A JSON object; iat, exp and a fresh jti are added for each request.",
            '{"iss": "airbyte", "aud": "tables"}',
            default="{}",
        ),
        lifetime_seconds=integer(
            "Lifetime (seconds)", "How long a token is valid.", 10, 3600, 60, default=300
        ),
        key_id=text("Key id", "`kid` in the token's header, where the server wants one.", "key-1"),
        jwt_header_name=text(
            "Header name",
            "Header that carries the token.",
            "X-Auth",
            default="Authorization",
            known_as="header_name",
        ),
        jwt_header_value=text(
            "Header value",
            "`{token}` is replaced by the token.",
            "{token}",
            default="Bearer {token}",
            known_as="value_template",
        ),
    ),
    branch(
        "API key in the query",
        "A key as a parameter of each address.",
        ("auth_type", "query"),
        ["query_name", "query_secret"],
        query_name=text("Parameter", "Name of the parameter.", "api_key", "appid"),
        query_secret=secret("Key", "Added to each address, and never logged.", "sk_..."),
    ),
    branch(
        "OAuth2 client credentials",
        "A token that is asked for, and renewed before it ends.",
        ("auth_type", "oauth2"),
        ["token_url", "client_id", "client_secret"],
        token_url=text(
            "Token URL",
            "Where tokens are given for the client credentials.",
            "https://auth.example.com/oauth/token",
        ),
        client_id=text("Client ID", "The name of the application.", "airbyte-loader"),
        client_secret=secret("Client secret", "Its secret.", "cs_..."),
        scope=text("Scope", "Where the server wants one.", "tables.write"),
        audience=text("Audience", "Where the server wants one.", "https://api.example.com"),
        client_authentication=choice(
            "How the secret is sent",
            "To the token URL.",
            {"basic": "HTTP Basic", "body": "in the form that is sent"},
        ),
    ),
    branch("No credential", "For a server that asks for none.", ("auth_type", "none"), []),
)
