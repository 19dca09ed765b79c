"""What shows who a request is from: headers, a member of the query, or where to ask for a token."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.provider import Token, credential
from destination_bulk_tables.providers.custom_http.fields import header_name, header_value, wrong
from destination_bulk_tables.providers.custom_http.templates import Template, require_known

_CLOCK_SKEW_S = 30
# Source: https://www.rfc-editor.org/rfc/rfc6749#section-5.2 (read 2026-11-28)
_TOKEN_ERRORS = frozenset(
    {
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)


def _no_headers(_: float) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Credential:
    """`headers`: those of one attempt at a Unix time; `query`: encoded, added to each path."""

    headers: Callable[[float], Mapping[str, str]] = _no_headers
    query: str = ""
    tokens: ClientCredentials | None = None


def authentication(form: dict[str, Any]) -> Credential:
    """Read the form's `authentication`; raises `ConfigError` for what cannot be sent."""
    match form["auth_type"]:
        case "jwt":
            return Credential(_signed(form))
        case "bearer":
            token = credential(form["token"], "authentication.token")
            headers = {"Authorization": f"Bearer {token}"}
        case "header":
            headers = _credential(
                form, "secret", form.get("value_template", "{secret}"), _filled(form, "secret")
            )
        case "basic":
            headers = {"Authorization": _basic(form["username"], form.get("password", ""))}
        case "query":
            pair = (_filled(form, "query_name"), _filled(form, "query_secret"))
            return Credential(query="=".join(quote(text, safe="") for text in pair))
        case "oauth2":
            return Credential(tokens=ClientCredentials(form))
        case _:
            headers = {}
    return Credential(lambda _: headers)


def _filled(form: dict[str, Any], name: str) -> str:
    text: str = form[name].strip()
    if not text:
        raise wrong(f"authentication.{name}", "is empty")
    return text


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _credential(form: dict[str, Any], name: str, template: str, secret: str) -> dict[str, str]:
    where = "authentication.value_template"
    require_known(where, template, {name})
    if f"{{{name}}}" not in template:
        raise wrong(where, f"lacks {{{name}}}")
    header = header_name("authentication.header_name", form.get("header_name", "Authorization"))
    value = template.replace(f"{{{name}}}", header_value(f"authentication.{name}", secret))
    return {header: header_value(where, value)}


# --- a token made here


def _signed(form: dict[str, Any]) -> Callable[[float], Mapping[str, str]]:
    import jwt  # noqa: PLC0415 - slow, and neither `spec` nor another credential needs it

    claims = Template.object("authentication.claims", form.get("claims"), ()).value
    assert isinstance(claims, dict)
    algorithm = form.get("algorithm", "HS256")
    secret = _filled(form, "signing_secret")
    if algorithm.startswith("RS"):
        # a form with one line per field turns the line ends of a key into \n
        secret = secret.replace("\\n", "\n")
    lifetime, key_id = int(form.get("lifetime_seconds", 300)), form.get("key_id")
    # a server's clock may be behind; it measures the life from here, and may bound it
    skew = min(_CLOCK_SKEW_S, lifetime // 2)

    def headers(now: float) -> Mapping[str, str]:
        times = {
            "iat": int(now) - skew,
            "exp": int(now) - skew + lifetime,
            "jti": str(uuid.uuid4()),
        }
        token = jwt.encode(
            {**claims, **times}, secret, algorithm, headers={"kid": key_id} if key_id else None
        )
        return _credential(form, "token", form.get("value_template", "Bearer {token}"), token)

    try:
        jwt.encode(claims, "", "none")
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        what = f"hold a value that no token can: {error}".rstrip(".")
        raise wrong("authentication.claims", what) from error
    try:
        headers(0)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise wrong(
            "authentication.signing_secret",
            f"cannot sign with {algorithm}; RS* need a private key in PEM form",
        ) from error
    return headers


# --- a token that is asked for


class ClientCredentials:
    """OAuth2's client credentials grant.

    Source: https://www.rfc-editor.org/rfc/rfc6749#section-4.4 (read 2026-11-28); `audience` is of
    vendors, not of the RFC.
    """

    def __init__(self, form: dict[str, Any]) -> None:
        client, secret = _filled(form, "client_id"), _filled(form, "client_secret")
        fields = {"grant_type": "client_credentials"}
        for name in ("scope", "audience"):
            if text := form.get(name, "").strip():
                fields[name] = text
        headers = {"Accept": "application/json"}
        if form.get("client_authentication", "basic") == "basic":
            # each is encoded as a form before (section 2.3.1)
            headers["Authorization"] = _basic(quote_plus(client), quote_plus(secret))
        else:
            fields |= {"client_id": client, "client_secret": secret}
        self.request = HttpRequest(
            "POST",
            "",
            urlencode(fields).encode(),
            headers,
            content_type="application/x-www-form-urlencoded",
            url=_filled(form, "token_url"),
        )

    def read(self, response: HttpResponse) -> Token:
        """The token of an answer; raises `ConfigError` where there is none."""
        answer = response.parsed()
        answer = answer if isinstance(answer, dict) else {}
        if not 200 <= response.status < 300:
            said = answer.get("error")
            code = f", {said}" if isinstance(said, str) and said in _TOKEN_ERRORS else ""
            what = (
                "authentication.client_id, client_secret, scope, audience and client_authentication"
                if response.status in {400, 401, 403}
                else "authentication.token_url"
            )
            raise ConfigError(
                f"token_url gives no token (HTTP {response.status}{code}). Check {what}."
            )
        token, lifetime = answer.get("access_token"), _seconds(answer.get("expires_in"))
        if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
            raise ConfigError(
                "token_url answers without an access_token. Check authentication.token_url: it is "
                "the address that gives tokens, not that of a sign-in page."
            )
        return Token(token, lifetime)


def _seconds(value: Any) -> float:
    """How long a token lives; without a bound where the server does not tell."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else float("inf")
