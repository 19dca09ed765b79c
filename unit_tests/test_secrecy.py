"""Nothing secret of a config survives in a text, in no form that it leaves in."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from destination_bulk_tables.form.connection import connection_specification
from destination_bulk_tables.form.reading import with_old_names
from destination_bulk_tables.model import JsonObject
from destination_bulk_tables.providers import FORMS
from destination_bulk_tables.secrecy import MASK, Secrets, secrets_of

SPEC: JsonObject = {
    "properties": {
        "plain": {"type": "string"},
        "auth": {
            "oneOf": [
                {"properties": {"kind": {"const": "a"}, "token": {"airbyte_secret": True}}},
                {
                    "properties": {
                        "kind": {"const": "b"},
                        "deep": {"oneOf": [{"properties": {"key": {"airbyte_secret": True}}}]},
                    }
                },
            ]
        },
        "list": {"items": {"properties": {"pin": {"airbyte_secret": True}}}},
    }
}


def test_secrets_are_found_in_every_branch() -> None:
    """Inside oneOf in oneOf, in lists, and also when another branch is the chosen one."""
    config: JsonObject = {
        "plain": "visible",
        "auth": {"kind": "b", "token": "t-secret", "deep": {"key": "longer-secret"}},
        "list": [{"pin": "pin-1"}, {"pin": "pin-22"}],
        "unknown": {"token": "not in the spec"},
    }
    assert secrets_of(config, SPEC) == ["longer-secret", "t-secret", "pin-22", "pin-1"]


def test_each_line_of_a_secret_is_a_secret() -> None:
    """A log shows a PEM key line by line, so each line is masked by itself."""
    key = "-----BEGIN KEY-----\nMIIB\n  Cg=  \n\nab\n-----END KEY-----\n"
    found = secrets_of({"auth": {"token": key}}, SPEC)
    assert found == [key.strip(), "-----BEGIN KEY-----", "-----END KEY-----", "MIIB", "Cg="]
    assert Secrets(found).mask(f"bad {key} and MIIB") == f"bad {MASK}\n and {MASK}"


def test_the_value_of_a_secret_header_line_is_a_secret() -> None:
    """A server that echoes a header of `Name: value` lines echoes the value alone."""
    headers = "X-Api-Key: s3cr3tvalue\nX-Two:a:b-c\nX-Empty:"
    found = secrets_of({"auth": {"token": headers}}, SPEC)
    assert {"X-Api-Key: s3cr3tvalue", "s3cr3tvalue", "a:b-c"} < set(found)
    assert "s3cr3tvalue" not in Secrets(found).mask('bad key "s3cr3tvalue"')


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("got Basic dXNlcjpwYXNz, no", f"got {MASK}, no"),
        ('{"auth":"basic dTpwYXNzd29yZA=="}', f'{{"auth":"{MASK}"}}'),
        ("bad token eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln-x_y!", f"bad token {MASK}!"),
        ("Basic authentication required", "Basic authentication required"),
        ("the key eyJ is unknown", "the key eyJ is unknown"),
    ],
)
def test_a_credential_made_of_secrets_is_masked(text: str, masked: str) -> None:
    """A server that echoes the header shows a pair or a token that no setting holds as it is."""
    assert Secrets([]).mask(text) == masked


@pytest.mark.parametrize("config", [None, [], "text", {"auth": "text"}, {"list": {"pin": 5}}])
def test_a_config_of_the_wrong_shape_has_no_secrets(config: JsonObject) -> None:
    """Nothing is raised about a config that was not validated yet."""
    assert secrets_of(config, SPEC) == []


@given(
    secret=st.text(st.characters(codec="ascii", exclude_categories=["Cc", "Z"]), min_size=3),
    provider=st.sampled_from([("qobra", "api_key"), ("kore", "client_secret"), ("kore", "jwt")]),
    around=st.text(),
)
def test_secrets_of_the_real_form_are_masked(
    secret: str, provider: tuple[str, str], around: str
) -> None:
    """The form marks each credential, at the top of a provider and inside its authentication."""
    assume(secret not in MASK * 3)
    kind, name = provider
    section: JsonObject = {"provider_type": kind}
    if kind == "kore":
        section["authentication"] = {name: secret}
    else:
        section[name] = secret
    secrets = secrets_of({"provider": section}, connection_specification(FORMS))
    assert secrets[0] == secret
    assert secret not in Secrets(secrets).mask(f"{around} {secret}{secret} {around}")


ECHOES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON of UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON of PHP": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "percent": lambda text: quote(text, safe=""),
    "percent in small letters": lambda text: re.sub(
        "%..", lambda match: match[0].lower(), quote(text, safe="")
    ),
    "percent in a path": quote,
    "a form": quote_plus,
    "HTML": html.escape,
    "Python": lambda text: repr(text)[1:-1],
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of a URL": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
}
AWKWARD = [
    "key%=4-omega-25%25%-and",
    "plain-0123456789",
    "a+b/SECRETPART==",
    'aa"bb\\cc-SECRETPART-dd',
    "<s&cret> 'word' part",
    "p\u00e4ssw\u00f6rt/\u20ac-part",
    "line one\nline two",
]


@pytest.mark.parametrize("form", ECHOES)
@pytest.mark.parametrize("secret", AWKWARD)
def test_a_secret_is_masked_in_each_form_it_leaves_in(secret: str, form: str) -> None:
    """A server echoes what it got as its own language writes it."""
    shown = ECHOES[form](secret)
    masked = Secrets([secret]).mask(f"bad key {shown}, sorry")
    assert shown not in masked
    assert masked.rstrip("=") in {f"bad key {MASK}, sorry", f"bad key {MASK}=, sorry"} | {
        f"bad key {MASK}==, sorry"
    }


@pytest.mark.parametrize("outer", ECHOES)
@pytest.mark.parametrize("inner", ECHOES)
def test_a_form_inside_another_is_masked(inner: str, outer: str) -> None:
    """A vendor quotes an escaped header in its JSON, and that stands in a page of a proxy."""
    for secret in AWKWARD:
        if "base64" not in outer:
            shown = ECHOES[outer](f"no {ECHOES[inner](secret)} yes")
            masked = Secrets([secret]).mask(shown)
            assert "part" not in masked.casefold()
            assert len(masked) < 25, masked


@pytest.mark.parametrize("form", ECHOES)
@pytest.mark.parametrize("secret", AWKWARD)
def test_the_start_of_a_secret_is_masked_where_a_text_was_cut(secret: str, form: str) -> None:
    """Wherever the cut is, not even a few letters of it stay."""
    shown = ECHOES[form](secret).rstrip("=")
    secrets = Secrets([secret])
    for end in range(len(ECHOES[form](secret[:4])), len(shown) + 1):
        assert secrets.mask(f"bad key {shown[:end]}", is_cut=True) == f"bad key {MASK}"


def test_the_pair_of_basic_authentication_is_a_secret() -> None:
    """Its base64 is echoed also without the word Basic."""
    config: JsonObject = {
        "provider": {
            "provider_type": "custom_http",
            "authentication": {"auth_type": "basic", "username": "loader", "password": "SECRET99"},
        }
    }
    secrets = Secrets(secrets_of(config, with_old_names(connection_specification(FORMS))))
    pair = base64.b64encode(b"loader:SECRET99").decode()
    assert secrets.mask(f"bad credential {pair}") == f"bad credential {MASK}"


def test_a_token_as_user_name_is_a_secret() -> None:
    """Where the password is empty the user name is all there is."""
    config: JsonObject = {
        "provider": {
            "provider_type": "custom_http",
            "authentication": {"auth_type": "basic", "username": "sk_live_USERTOKEN"},
        }
    }
    secrets = Secrets(secrets_of(config, with_old_names(connection_specification(FORMS))))
    assert secrets.mask("unknown user sk_live_USERTOKEN") == f"unknown user {MASK}"
    pair = base64.b64encode(b"sk_live_USERTOKEN:").decode()
    assert pair not in secrets.mask(f"bad credential {pair}")


@pytest.mark.parametrize(
    ("line", "echo"),
    [
        ("Authorization: Bearer s3cr3t-token", "s3cr3t-token"),
        ("Authorization: Token token=s3cr3t-token", "s3cr3t-token"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "user:password"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "password"),
    ],
)
def test_the_credential_in_a_header_line_is_a_secret(line: str, echo: str) -> None:
    """A server that echoes a header may leave its scheme out, or show what is in it."""
    secrets = Secrets(secrets_of({"auth": {"token": line}}, SPEC))
    assert echo not in secrets.mask(f"no user for {echo}.")


def test_a_secret_may_be_added() -> None:
    """A token that was given to this process is one as well."""
    secrets = Secrets(["first-secret"])
    secrets.add("second-secret")
    assert secrets.mask("first-secret second-secret third") == f"{MASK} {MASK} third"
    secrets.replace(["third"])
    assert secrets.mask("first-secret third") == f"first-secret {MASK}"


def test_many_escapes_take_no_time() -> None:
    """A pattern that may take a run of them in many ways would take them all."""
    secrets = Secrets(["\\" * 20 + "x", '"\\' * 20 + "x", "a" + "%" * 30])
    for text in ("\\" * 50_000, '"\\' * 20_000, "a" + "%25" * 20_000, "&amp;" * 20_000):
        assert secrets.mask(text, is_cut=True)[:10]
