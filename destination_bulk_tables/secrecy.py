"""What this process must never print: the secrets of its config, in every form they leave in.

A server echoes a credential as it got it, or escaped into JSON, HTML or a URL, or as the base64 of
a pair; a vendor's text may end in the middle of one, because it was cut. There is one set of
secrets in a process, as there is one log: whoever shows a text that is not his own asks it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from html.entities import codepoint2name
from urllib.parse import quote_plus

from destination_bulk_tables.model import JsonObject, JsonValue

MASK = "****"
SHORTEST = 3  # shorter ones ("1", "EU") would mask half of every text and give nothing away
_SHORTEST_START = 4
_MOST_GIVEN = 16
_LONGEST_LETTER = 24


def _percent(byte: int) -> str:
    """A pattern of a byte in a URL, also in one inside a URL."""
    return f"%(?:25){{0,3}}{byte:02x}"


# bounded, or a long run of them would be tried in very many ways
_ESCAPE = rf"(?:\\|{_percent(0x5C)}|&#92;)"
_AMPERSAND = rf"(?:&|{_percent(0x26)}|{_ESCAPE}{{1,15}}u0026)(?:amp(?:;|{_percent(0x3B)})){{0,3}}"
_HASH, _SEMICOLON = f"(?:#|{_percent(0x23)})", f"(?:;|{_percent(0x3B)})"
_WHITE = {"\n": "n", "\r": "r", "\t": "t"}
_RUNS = re.compile(r"\\+|[^\\]", re.DOTALL)
_HALF_A_LETTER = re.compile(r"(?:\\+u?[0-9a-fA-F]{0,3}|[%&][\w#;%]{0,12})?")
_PAIRS = (("username", "password"), ("client_id", "client_secret"))
# a JWT, or a Basic pair: base64, which no plain word is that has a capital or a digit inside
_MADE_OF_SECRETS = re.compile(
    r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*|[Bb]asic\s+(?=[a-zA-Z][a-z+/]*[A-Z0-9=])[A-Za-z0-9+/]{8,}={0,2}"
)
_SCHEME = re.compile(r"(?:(?:basic|bearer|token|key|apikey)[\s=]+)+(\S+)", re.IGNORECASE)


class Secrets:
    """Texts that are masked; threads may add to them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._given: deque[str] = deque(maxlen=_MOST_GIVEN)
        self._ends: list[_End] = []
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
        texts = {text for secret in {*self._secrets, *self._given} for text in _texts_of(secret)}
        longest_first = sorted(texts, key=len, reverse=True)
        joined = "|".join("".join(_spelling(text)) for text in longest_first)
        self._ends = [_End(text) for text in longest_first]
        self._pattern = re.compile(joined) if joined else None

    def mask(self, text: str, *, is_cut: bool = False) -> str:
        """The text without any secret, nor a pair or a signed token made of one.

        `is_cut`: it may end in the middle of one.
        """
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
            if is_cut:
                text = text.rstrip("\ufffd")  # a letter that was cut
                starts = [end.find(text) for end in self._ends]
                found = min((start for start in starts if start is not None), default=None)
                text = text if found is None else text[:found] + MASK
        return _MADE_OF_SECRETS.sub(MASK, text)


SECRETS = Secrets()


def _texts_of(secret: str) -> Iterator[str]:
    """A secret, and what base64 makes of it."""
    data = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield base64.b64encode(data).decode().rstrip("=")
    yield base64.urlsafe_b64encode(data).decode().rstrip("=")


def _spelling(text: str) -> list[str]:
    """A pattern for each of its letters, as any language writes it, also one inside another."""
    return [
        f"(?i:{_ESCAPE}{{{len(run)},{16 * len(run)}}})" if run[0] == "\\" else _letter(run)
        for run in _RUNS.findall(text)
    ]


@functools.cache
def _letter(letter: str) -> str:
    """JSON, HTML, URLs, Python: with escapes of escapes, however deep."""
    if letter.isascii() and letter.isalnum():
        return letter
    return f"(?i:{_ESCAPE}{{0,15}}(?:{'|'.join(_ways(letter))}))"


def _ways(letter: str) -> list[str]:
    code = ord(letter)
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    ways = [
        re.escape(letter),
        "".join(_percent(byte) for byte in letter.encode("utf-8", "surrogatepass")),
        f"{_ESCAPE}{{1,15}}".join(f"u{units[at : at + 4]}" for at in range(0, len(units), 4)),
        f"x{code:02x}",
        f"{_AMPERSAND}{_HASH}(?:{code}|x0{{0,6}}{code:x}){_SEMICOLON}",
    ]
    if code in codepoint2name:
        ways.append(f"{_AMPERSAND}{codepoint2name[code]}{_SEMICOLON}")
    if letter == " ":
        ways += [r"\+", _percent(ord("+"))]
    if letter == "%":
        ways += [f"%(?:25){{{times}}}" for times in range(1, 5)]  # digits may follow it
    if letter in _WHITE:
        ways.append(_WHITE[letter])
    return ways


class _End:
    """Finds where the end of a text is the start of a secret that goes on."""

    def __init__(self, text: str) -> None:
        self._longest = len(text) * _LONGEST_LETTER
        self._start = re.compile("".join(_spelling(text[:_SHORTEST_START])))
        self._letters = _RUNS.findall(text)

    def find(self, text: str) -> int | None:
        at = max(0, len(text) - self._longest)
        while match := self._start.search(text, at):
            if self._goes_to_the_end(text, match.start()):
                return match.start()
            at = match.start() + 1
        return None

    def _goes_to_the_end(self, text: str, start: int) -> bool:
        """Follow every way to read the letters: a % may be one, or the start of another."""
        ends = {start}
        for letter in self._letters:
            following = {
                match.end()
                for way in _compiled(letter)
                for end in ends
                if (match := way(text, end))
            }
            if any(_HALF_A_LETTER.fullmatch(text, end) for end in ends | following):
                return True
            if not following:
                return False
            ends = following
        return False


@functools.cache
def _compiled(letter: str) -> list[Callable[[str, int], re.Match[str] | None]]:
    if letter[0] == "\\":
        return [re.compile(_spelling(letter)[0]).match]
    escape = f"{_ESCAPE}{{0,15}}"
    return [re.compile(f"(?i:{escape}{way})").match for way in _ways(letter)]


def secrets_of(config: JsonValue, spec: JsonObject) -> list[str]:
    """The values of all `airbyte_secret` members, longest first.

    Also each line of them, of a line such as `Name: value` the value, and the pairs that Basic
    authentication sends.
    """
    found: set[str] = set()

    def visit(value: JsonValue, schema: JsonObject) -> None:
        if schema.get("airbyte_secret") and isinstance(value, str):
            found.update(_parts_of(value))
        for branch in schema.get("oneOf", ()):
            visit(value, branch)
        if isinstance(value, dict) and "properties" in schema:
            found.update(_pairs_of(value, schema["properties"]))
            for name, member in value.items():
                visit(member, schema["properties"].get(name, {}))
        if isinstance(value, list):
            for member in value:
                visit(member, schema.get("items", {}))

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
