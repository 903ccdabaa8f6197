"""A small language for what a text may say, made so that no pattern can take more than a fixed time at any place of a text.

`let me check` are words, one after the other. `(check|verify)` is one of several, `[just]` may be left out, `...` stands for up
to four words of the same sentence, `#` for a number, and `^` for the beginning of a sentence. Case, the kind of apostrophe and
the amount of white space don't count. Nothing repeats without a bound.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from skillfactory.errors import ConfigError

_TOKEN = re.compile(r"\.\.\.|[()|\[\]^]|[^\s()|\[\]^]+")
_SPACE = r"\s{1,3}"
_GAP = rf"(?:[^\s.!?;]{{1,30}}{_SPACE}){{0,4}}"
_START = r"(?:(?<![\s\S])|(?<=\n)|(?<=[.!?:;]\s)|(?<=\n\s))"
_NUMBER = r"(?<![\w.])-?\d{1,12}(?:[.,]\d{1,12})?(?!\w)"
KEYS = re.compile(r"\w+|[^\w\s]")  # the pieces of a text at which matches begin
LONGEST = 600  # characters of a pattern


NUMBERS = "#"  # the key of patterns that begin with a number


class Pattern(NamedTuple):
    """A pattern as a regular expression without capturing groups, for text as `plain` gives it, and what it can begin with."""

    expression: str
    keys: frozenset[str]  # the pieces, as KEYS finds them, at which a match can begin


def compiled(pattern: str) -> Pattern:
    """The pattern in a form that can be run; ConfigError says what is wrong with it."""
    if len(pattern) > LONGEST:
        raise ConfigError(f"a pattern may have {LONGEST} characters, and this has {len(pattern)}: {pattern[:60]}…")
    found, rest = _sequence(pattern, _TOKEN.findall(plain(pattern)))
    if rest:
        raise ConfigError(f"'{rest[0]}' closes nothing in the pattern: {pattern}")
    return found


def plain(text: str) -> str:
    """The text in lower case with straight apostrophes, each character in its place."""
    low = text.lower()
    if len(low) != len(text):  # a few capitals have small letters of two characters
        low = "".join(chain.from_iterable(c.lower() if len(c.lower()) == 1 else c for c in text))
    return low.replace("’", "'")


def _sequence(pattern: str, tokens: list[str]) -> tuple[Pattern, list[str]]:
    """What stands up to the end or to a closing bracket or bar, and the tokens from there."""
    parts: list[str] = []
    keys: set[str] = set()
    whole = begun = False  # whether white space must follow the last part; whether a match begins before the next one
    while tokens and tokens[0] not in (")", "]", "|"):
        token, *tokens = tokens
        if token == "^":
            parts.append(_START)
            continue
        if whole:
            parts.append(_SPACE)
        if token == "..." and not begun:
            raise ConfigError(f"a pattern begins with words, not with '...': {pattern}")
        whole = token not in ("...", "[")
        if token == "...":
            parts.append(_GAP)
            continue
        piece, tokens = _choice(pattern, tokens, ")" if token == "(" else "]") if token in "([" else (_word(token), tokens)
        parts.append(piece.expression if whole else f"(?:{piece.expression}{_SPACE})?")
        if not begun:
            keys |= piece.keys
        begun = begun or whole
    if not whole:
        raise ConfigError(f"words are missing where a part of the pattern ends: {pattern}")
    return Pattern("".join(parts), frozenset(keys)), tokens


def _choice(pattern: str, tokens: list[str], close: str) -> tuple[Pattern, list[str]]:
    """The alternatives up to the bracket that closes them."""
    found = []
    while True:
        one, tokens = _sequence(pattern, tokens)
        found.append(one)
        if not tokens or tokens[0] not in ("|", close):
            raise ConfigError(f"'{close}' is missing in the pattern: {pattern}")
        mark, *tokens = tokens
        if mark == close:
            keys = frozenset[str]().union(*(each.keys for each in found))
            return Pattern(f"(?:{'|'.join(each.expression for each in found)})", keys), tokens


def _word(word: str) -> Pattern:
    """A word as it stands, not as a part of another one; or a number."""
    if word == NUMBERS:
        return Pattern(_NUMBER, frozenset({NUMBERS}))
    left = r"(?<!\w)" if word[0].isalnum() else ""
    right = r"(?!\w)" if word[-1].isalnum() else ""
    return Pattern(f"{left}{re.escape(word)}{right}", frozenset({KEYS.findall(word)[0]}))


_END = re.compile(r"[.!?](?=\s)|\n")


def sentence(text: str, start: int, end: int, reach: int = 300) -> tuple[int, int]:
    """The span of the sentence around a match, which goes no further than `reach` characters to either side."""
    low = max(0, start - reach)
    for mark in _ends(text, low, start):
        low = mark
    high = next(_ends(text, end, min(len(text), end + reach + 1)), min(len(text), end + reach))
    return low, high


def _ends(text: str, start: int, end: int) -> Iterator[int]:
    return (found.end() for found in _END.finditer(text, start, end))
