"""No value of a row and no secret of a config survives in a text."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from destination_bulk_tables.form.connection import connection_specification
from destination_bulk_tables.model import JsonObject, RowBlock
from destination_bulk_tables.providers import FORMS
from destination_bulk_tables.redact import MASK, mask_secrets, mask_values, secrets_of

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
members = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
rows = st.lists(st.dictionaries(texts, members, max_size=4), max_size=3)


def block_of(rows: list[dict[str, object]]) -> RowBlock:
    pieces = [json.dumps(row).encode() for row in rows]
    return RowBlock(pieces, len(rows), range(len(rows)))


def leaves(value: object) -> list[str]:
    if isinstance(value, dict):
        return [leaf for member in value.values() for leaf in leaves(member)]
    if isinstance(value, list):
        return [leaf for member in value for leaf in leaves(member)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


@given(rows=rows, words=st.lists(texts), order=st.randoms(use_true_random=False))
def test_no_value_of_three_characters_survives(
    rows: list[dict[str, object]], words: list[str], order: object
) -> None:
    """Wherever a text quotes a value of its rows, whole or inside a word, the value is gone."""
    values = [leaf for row in rows for leaf in leaves(row)]
    pieces = [*words, *values]
    order.shuffle(pieces)  # type: ignore[attr-defined]
    for glue in ("", " ", "', '"):
        masked = mask_values(glue.join(pieces), block_of(rows))
        for value in values:
            if len(value) >= 3 and value not in MASK * len(pieces):
                assert value not in masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Row 'Jane' is bad", "Row '****' is bad"),
        ("xJaney", "x****y"),
        ("id 7, not 77", "id ****, not 77"),
        ("12.50 or 12.5", "**** or ****"),
        ("1e5 or 100000.0", "**** or ****"),
        ("0.30000000000000000001", "****"),
        ("the EU of EUR", "the **** of EUR"),
        ('{"n":123456789012345678901234567890}', '{"n":****}'),
        ("inner", "****"),
        ("true null", "true null"),
        ("Jane Doe lives", "**** lives"),
    ],
)
def test_values_are_masked_where_they_stand(text: str, expected: str) -> None:
    """Short values are masked only as whole words, which keeps the text readable."""
    row = (
        b'{"a":"Jane","ab":"Jane Doe","b":7,"c":"EU","d":{"e":["inner"]},"f":true,"g":null,'
        b'"h":123456789012345678901234567890,"i":12.50,"j":1e5,"k":0.30000000000000000001}'
    )
    assert mask_values(text, RowBlock([row], 1, range(1))) == expected


def test_a_text_is_cut_to_a_readable_length() -> None:
    """A vendor's page of HTML does not fill the log, and the cut comes after the masking."""
    row = RowBlock([b'{"a":"secret"}'], 1, range(1))
    masked = mask_values("x" * 497 + "secret", row)
    assert masked == "x" * 497 + "***"


@pytest.mark.parametrize(
    "row", [b"null", b"[1]", b"{bad", b'{"a":"\xff"}', b'{"a":%b}' % (b"9" * 5000)]
)
def test_nothing_is_shown_of_a_text_about_rows_that_cannot_be_read(row: bytes) -> None:
    """An entry without its row, half a row, an integer of thousands of digits."""
    assert mask_values("Jane is bad", RowBlock([row], 1, range(1))) == MASK


# --- secrets

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
    assert mask_secrets(f"bad {key} and MIIB", found) == f"bad {MASK}\n and {MASK}"


def test_the_value_of_a_secret_header_line_is_a_secret() -> None:
    """A server that echoes a header of `Name: value` lines echoes the value alone."""
    headers = "X-Api-Key: s3cr3tvalue\nX-Two:a:b-c\nX-Empty:"
    found = secrets_of({"auth": {"token": headers}}, SPEC)
    assert {"X-Api-Key: s3cr3tvalue", "s3cr3tvalue", "a:b-c"} < set(found)
    assert "s3cr3tvalue" not in mask_secrets('bad key "s3cr3tvalue"', found)


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
    assert mask_secrets(text, []) == masked


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
    assert secret not in mask_secrets(f"{around} {secret}{secret} {around}", secrets)
