"""Who may call Kore.ai: JWT apps, their tokens and their rights per table.

Source: https://docs.kore.ai/xo/sdk/sdk-security/ (read 2026-11-22)
A token names its app in `appId` (public APIs) or `iss` (SDK style). All refusals carry the
documented envelope. JWE is not emulated.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from .reply import Refused, as_json

_ALGORITHMS = ("HS256", "HS512", "RS256", "RS512")
_HOUR_S = 3_600
_INVALID = ("Invalid SDK credentials", 4002)


@dataclass
class App:
    """A JWT app: its secret (for RS* its public key as PEM) and its rights, letters of `rwd`."""

    client_id: str
    secret: str
    algorithm: str | None = None
    rights: dict[str, str] = field(default_factory=dict)
    other_rights: str = "rwd"

    def may(self, right: str, table: str) -> bool:
        """Tell whether the app has a right (r, w or d) on a table."""
        return right in self.rights.get(table, self.other_rights)


class Doorkeeper:
    """The apps of the account and the jtis that were used."""

    def __init__(self) -> None:
        self.apps: dict[str, App] = {}
        self._used: set[tuple[str, str]] = set()
        self.add(App("cs-demo", "kore-secret-1"))

    def add(self, app: App) -> None:
        """Register an app, or replace the one with its client id."""
        self.apps[app.client_id] = app

    def admit(self, token: str | None, now: float, *, enforce_jti: bool) -> App:
        """Return the app that signed the token, or refuse it."""
        app, claims = self._verified(token)
        expires, jti = claims.get("exp"), claims.get("jti")
        if expires is not None and not isinstance(expires, int | float):
            raise _refused(*_INVALID)
        if expires is not None and expires <= now:
            raise _refused("error verifying the jwt: jwt expired", 401)
        if enforce_jti and not jti:
            raise _refused('error verifying the jwt: "jti" claim is required', 401)
        if jti and (expires is None or expires > now + _HOUR_S):
            raise _refused(
                'error verifying the jwt: if "jti" claim "exp" must be <= 1 hour(s)', 401
            )
        if jti and (app.client_id, str(jti)) in self._used:
            raise _refused("error verifying the jwt: possibly a replay", 401)
        if jti:
            self._used.add((app.client_id, str(jti)))
        return app

    def _verified(self, token: str | None) -> tuple[App, Mapping[str, Any]]:
        """Check the signature with the key of the app that the token names."""
        try:
            claims = jwt.decode(token or "", options={"verify_signature": False})
            app = self.apps[claims.get("appId") or claims["iss"]]
            algorithm = jwt.get_unverified_header(token or "")["alg"]
            if algorithm not in _ALGORITHMS or (app.algorithm or algorithm) != algorithm:
                raise _refused(*_INVALID)
            if not _is_signed(token or "", algorithm, app.secret):
                raise _refused(*_INVALID)
            return app, claims  # noqa: TRY300 - the checks above belong to the same try
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            raise _refused(*_INVALID) from error


def _is_signed(token: str, algorithm: str, secret: str) -> bool:
    """Check a signature; HMAC by hand, because PyJWT warns about secrets as short as the demo's."""
    signed, _, signature = token.rpartition(".")
    given = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    if algorithm.startswith("HS") != ("BEGIN" not in secret):
        return False  # a public key must never serve as an HMAC secret
    if algorithm.startswith("HS"):
        return hmac.compare_digest(
            given, hmac.digest(secret.encode(), signed.encode(), f"sha{algorithm[2:]}")
        )
    key = jwt.get_algorithm_by_name(algorithm)
    return key.verify(signed.encode(), key.prepare_key(secret), given)


def _refused(message: str, code: int) -> Refused:
    return Refused(as_json(401, {"errors": [{"msg": message, "code": code}]}))
