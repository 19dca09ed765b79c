"""No value of a row survives in a text about it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from destination_bulk_tables.model import RowBlock
from destination_bulk_tables.redact import mask_values
from destination_bulk_tables.secrecy import MASK, SECRETS

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


def test_a_secret_is_masked_before_the_values_and_before_the_cut() -> None:
    """A value that is a part of one would leave the rest, and so would the end of the text."""
    SECRETS.replace(["tok-alpha-9876543210-omega"])
    row = RowBlock([b'{"a":"omega"}'], 1, range(1))
    text = "key tok-alpha-9876543210-omega is not omega"
    assert mask_values(text, row) == "key **** is not ****"
    for length in range(470, 500):
        masked = mask_values("x" * length + " tok-alpha-9876543210-omega", row)
        assert "tok" not in masked
    assert mask_values("cut at tok-alpha-98", row) == "cut at ****"
