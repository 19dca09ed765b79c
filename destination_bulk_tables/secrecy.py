"""What this process must never print: the secrets of its config, in every form they leave in.

A server echoes a credential as it got it, or escaped into JSON, HTML or a URL, or as the base64 of
a pair; a vendor's text may end in the middle of one, because it was cut. There is one set of
secrets in a process, as there is one log: whoever shows a text that is not his own asks it.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from destination_bulk_tables.model import JsonObject, JsonValue

MASK = "****"
SHORTEST = 3  # shorter ones ("1", "EU") would mask half of every text and give nothing away
_SHORTEST_START = 4
_MOST_GIVEN = 16
_PAIRS = (("username", "password"), ("client_id", "client_secret"))
# a JWT, or a Basic pair: base64, which no plain word is that has a capital or a digit inside
_MADE_OF_SECRETS = re.compile(
    r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*|[Bb]asic\s+(?=[a-zA-Z][a-z+/]*[A-Z0-9=])[A-Za-z0-9+/]{8,}={0,2}"
)
_SCHEME = re.compile(r"(?:(?:basic|bearer|token|key|apikey)[\s=]+)+(\S+)", re.IGNORECASE)
_CODE_POINT = re.compile(r"(?<=\\u)[0-9a-f]{4}")
_PERCENT = re.compile(r"%[0-9A-F]{2}")


class Secrets:
    """Texts that are masked; threads may add to them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._given: deque[str] = deque(maxlen=_MOST_GIVEN)
        self._forms: tuple[str, ...] = ()
        self._pattern: re.Pattern[str] | None = None
        self.replace(secrets)

    def replace(self, secrets: Iterable[str]) -> None:
        """Know these and no others."""
        self._secrets = frozenset(secrets)
        self._given.clear()
        self._compile()

    def add(self, token: str) -> None:
        """Know one more, which was given to this process; the oldest of many is forgotten."""
        if token not in self._given:
            self._given.append(token)
            self._compile()

    def _compile(self) -> None:
        known = {*self._secrets, *self._given}
        found = {form for secret in known for form in _forms_of(secret)}
        self._forms = tuple(sorted(found, key=len, reverse=True))
        joined = "|".join(map(re.escape, self._forms))
        self._pattern = re.compile(joined) if joined else None

    def mask(self, text: str, *, is_cut: bool = False) -> str:
        """The text without any secret, nor a pair or a signed token made of one.

        `is_cut`: it may end in the middle of one.
        """
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
            if is_cut:
                text = self._without_start_of_one(text)
        return _MADE_OF_SECRETS.sub(MASK, text)

    def _without_start_of_one(self, text: str) -> str:
        text = text.rstrip("\ufffd")  # a letter that was cut
        starts = [at for form in self._forms if (at := _start_at_end(text, form)) is not None]
        return text[: min(starts)] + MASK if starts else text


SECRETS = Secrets()


def _start_at_end(text: str, form: str) -> int | None:
    """Where the end of a text is the start of this form."""
    at = max(0, len(text) - len(form))
    while (at := text.find(form[:_SHORTEST_START], at)) >= 0:
        if form.startswith(text[at:]):
            return at
        at += 1
    return None


def _forms_of(secret: str) -> set[str]:
    """A secret as it is and as it may be echoed."""
    data = secret.encode("utf-8", "surrogatepass")
    found = {secret, quote_plus(data), repr(secret)[1:-1]}
    found |= {html.escape(secret), html.escape(secret, quote=False)}
    for safe in ("", "/"):
        percent = quote(data, safe=safe)
        found |= {percent, _PERCENT.sub(lambda match: match[0].lower(), percent)}
    for is_ascii in (True, False):
        once = json.dumps(secret, ensure_ascii=is_ascii)[1:-1]
        for text in (once, _CODE_POINT.sub(lambda match: match[0].upper(), once)):
            found |= {text, text.replace("/", "\\/"), json.dumps(text)[1:-1]}  # JSON in JSON too
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        found.add(encode(data).decode().rstrip("="))
    return {form for form in found if len(form) >= SHORTEST}


def secrets_of(config: JsonValue, spec: JsonObject) -> list[str]:
    """The values of all `airbyte_secret` members, longest first.

    Also each line of them, of a line such as `Name: value` the value, and the pairs that Basic
    authentication sends.
    """
    found: set[str] = set()

    def visit(value: JsonValue, schema: JsonValue) -> None:
        if not isinstance(schema, dict):
            return
        if schema.get("airbyte_secret") is True and isinstance(value, str):
            found.update(_parts_of(value))
        branches = schema.get("oneOf")
        for branch in branches if isinstance(branches, list) else []:
            visit(value, branch)
        properties = schema.get("properties")
        if isinstance(value, dict) and isinstance(properties, dict):
            found.update(_pairs_of(value, properties))
            for name, member in value.items():
                visit(member, properties.get(name))
        if isinstance(value, list):
            for member in value:
                visit(member, schema.get("items"))

    visit(config, spec)
    return sorted(found, key=len, reverse=True)


def _parts_of(secret: str) -> Iterator[str]:
    """A secret, its lines, what a header line holds, and the credential in that."""
    lines = [secret, *secret.splitlines()]
    values = [line.partition(":")[2] for line in lines]
    for text in (*lines, *values):
        if len(text.strip()) >= SHORTEST:
            yield text.strip()
        match = _SCHEME.fullmatch(text.strip())
        if match is not None and len(match[1]) >= SHORTEST:
            yield match[1]
            try:
                pair = base64.b64decode(match[1], validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                continue
            if len(pair.partition(":")[2]) >= SHORTEST:
                yield from (pair, pair.partition(":")[2])


def _pairs_of(section: JsonObject, properties: JsonObject) -> Iterator[str]:
    for name, secret in _PAIRS:
        first, second = section.get(name), section.get(secret, "")
        if {name, secret} <= properties.keys() and isinstance(first, str):
            yield f"{first}:{second}"
            yield f"{quote_plus(str(first))}:{quote_plus(str(second))}"  # as OAuth2 sends it
