"""Numbers written by people and models, read exactly: a bounded grammar of our own, no evaluation, no tolerance."""

import re
from fractions import Fraction

MAX_CHARS = 64

_NUMBER = re.compile(r"([+-]?)(?:([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.([0-9]*))?|\.([0-9]+))")
_RATIO = re.compile(r"([+-]?[0-9]+)/([0-9]+)")
_AMOUNT = re.compile(r"([+-]?) ?[$€£]? ?([0-9.,/+-]+) ?[%$€£]?")
_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
_BRACED = (r"\boxed{", r"\fbox{", r"\text{", r"\mathrm{", r"\textbf{", r"\mathbf{")


def unwrapped(text: str) -> str:
    r"""`text` without the spaces, `$…$`, `\(…\)`, `**…**`, `\boxed{…}` or `\text{…}` around the whole of it."""
    for _ in range(8):  # nobody wraps deeper
        text = text.strip()
        before = text
        for opening, closing in _WRAPPERS:
            inner = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and inner and opening not in inner and closing not in inner:
                text = inner
                break
        for opening in _BRACED:
            if text.startswith(opening) and closing_brace(text, len(opening) - 1) == len(text) - 1:
                text = text[len(opening) : -1]
                break
        if text == before:
            break
    return text


def closing_brace(text: str, opening: int) -> int:
    r"""The position of the brace that closes the one at `opening`, or -1; `\{` and `\}` are plain characters. Linear time."""
    depth = 0
    position = opening
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return -1


def exact(text: str) -> Fraction | None:
    """The value of a plain number: digits, thousands commas in their places, a decimal part, a sign; or a ratio of integers."""
    if len(text) > MAX_CHARS:
        return None
    ratio = _RATIO.fullmatch(text)
    if ratio:
        return Fraction(int(ratio[1]), int(ratio[2])) if int(ratio[2]) else None
    found = _NUMBER.fullmatch(text)
    if not found:
        return None
    sign, whole, decimals, bare_decimals = found.groups()
    digits = decimals or bare_decimals or ""
    value = Fraction(int((whole or "0").replace(",", "") + digits), 10 ** len(digits))
    return -value if sign == "-" else value


def amount(text: str) -> Fraction | None:
    """The value of a number as an answer to a word problem, or None.

    Beyond what `exact` reads it may have a currency sign before it, a percent sign or a currency sign after it (which change
    nothing: 50% is 50), one full stop at the end, and what `unwrapped` takes off around it. Words are not allowed.
    """
    if len(text) > MAX_CHARS:
        return None
    body = unwrapped(unwrapped(text).removesuffix(".")).replace(r"\$", "$").replace(r"\%", "%")
    found = _AMOUNT.fullmatch(body)
    return exact(found[1] + found[2]) if found else None
