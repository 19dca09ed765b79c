"""The headers that show who a request is from."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING, Any

from destination_bulk_tables.providers.custom_http.fields import header_name, header_value, wrong
from destination_bulk_tables.providers.custom_http.templates import Template, require_known

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CLOCK_SKEW_S = 30


def authentication(form: dict[str, Any]) -> Callable[[float], Mapping[str, str]]:
    """A function of the Unix time that gives the headers of one attempt."""
    kind = form["auth_type"]
    if kind == "jwt":
        return _signed(form)
    headers: dict[str, str] = {}
    if kind == "bearer":
        token = header_value("authentication.token", _filled(form, "token"))
        headers = {"Authorization": f"Bearer {token}"}
    elif kind == "header":
        headers = _credential(
            form, "secret", form.get("value_template", "{secret}"), _filled(form, "secret")
        )
    elif kind == "basic":
        pair = f"{form['username']}:{form.get('password', '')}"
        headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return lambda _: headers


def _filled(form: dict[str, Any], name: str) -> str:
    text: str = form[name].strip()
    if not text:
        raise wrong(f"authentication.{name}", "is empty")
    return text


def _credential(form: dict[str, Any], name: str, template: str, secret: str) -> dict[str, str]:
    where = "authentication.value_template"
    require_known(where, template, {name})
    if f"{{{name}}}" not in template:
        raise wrong(where, f"lacks {{{name}}}")
    header = header_name("authentication.header_name", form.get("header_name", "Authorization"))
    value = template.replace(f"{{{name}}}", header_value(f"authentication.{name}", secret))
    return {header: header_value(where, value)}


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

    def headers(now: float) -> Mapping[str, str]:
        issued = int(now) - min(_CLOCK_SKEW_S, lifetime // 2)
        times = {
            "iat": issued,
            "exp": issued + lifetime,  # servers that bound a lifetime take it from these two
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
