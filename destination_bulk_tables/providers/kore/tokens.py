"""Tokens of a JWT app, made anew for each attempt, and tokens that were made elsewhere.

Source: https://docs.kore.ai/xo/sdk/sdk-security/ (read 2026-11-22)
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from destination_bulk_tables.errors import SettingError
from destination_bulk_tables.model import JsonObject
from destination_bulk_tables.provider import credential

_TOKEN_LIFE_S = 300  # with "Enforce JTI" at most an hour is allowed
_CLOCK_SKEW_S = 30


def token_maker(authentication: JsonObject) -> Callable[[float], str]:
    """A function of the Unix time that gives the token for one attempt."""
    import jwt  # noqa: PLC0415 - slow, and neither `spec` nor another credential needs it

    if authentication["auth_type"] == "static_jwt":
        token = credential(str(authentication["jwt"]), "authentication.jwt")
        try:
            expires = jwt.decode(token, options={"verify_signature": False}).get("exp")
        except jwt.PyJWTError as error:
            what = "is not a signed JWT (three parts joined by dots)"
            raise SettingError("provider.authentication.jwt", what) from error

        def static(now: float) -> str:
            if isinstance(expires, int | float) and expires <= now:
                when = datetime.fromtimestamp(expires, UTC).isoformat()
                what = (
                    f"expired at {when}: put in a new token, or use a JWT app, which makes its own"
                )
                raise SettingError("provider.authentication.jwt", what)
            return token

        return static

    algorithm = str(authentication.get("algorithm", "HS256"))
    secret = str(authentication["client_secret"]).strip().replace("\\n", "\n")
    client_id = str(authentication["client_id"]).strip()
    subject = str(authentication.get("subject", "airbyte"))

    def fresh(now: float) -> str:
        issued = int(now) - _CLOCK_SKEW_S
        claims = {
            "sub": subject,
            "appId": client_id,
            "iat": issued,
            "exp": issued + _TOKEN_LIFE_S,
            "jti": str(uuid.uuid4()),  # an app that enforces JTI takes each token once
        }
        return jwt.encode(claims, secret, algorithm=algorithm)

    try:
        fresh(0)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        what = f"cannot sign with {algorithm}: RS256 and RS512 need a private key in PEM form"
        raise SettingError("provider.authentication.client_secret", what) from error
    return fresh
