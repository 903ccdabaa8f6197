"""The value of a hostile arithmetic expression over given numbers, read by a grammar of our own.

    expression = term   { ("+" | "-" | "−") term }
    term       = factor { ("*" | "×" | "x" | "/" | "÷") factor }
    factor     = number | "(" expression ")"
    number     = one of the given numbers, written as given: ASCII digits, no sign, no leading zero

Spaces, tabs and line breaks may stand between these. The text is read once, from left to right, and the first fault ends
it; nothing is evaluated by Python or by a library. Numbers are compared as text before they become numbers, and values are
pairs (numerator, denominator) of integers, so time and size are bounded by the text's length and the given numbers.
"""

import re
from collections.abc import Sequence

from skillfactory.records import Grade
from skillfactory.tasks import reasons

Ratio = tuple[int, int]  # numerator, denominator (not 0, not reduced, may be negative)

_TOKEN = re.compile(r"[0-9]+|[^ \t\r\n]")
_PLUS, _MINUS, _TIMES, _DIVIDED = "+", "-−", "*×x", "/÷"
_SYMBOLS = frozenset(_PLUS + _MINUS + _TIMES + _DIVIDED + "()")


def tokens_of(text: str) -> list[str]:
    """The runs of digits and the single other characters of `text`, blanks left out; linear in its length."""
    return _TOKEN.findall(text)


def evaluate(tokens: Sequence[str], given: Sequence[str]) -> tuple[Ratio, int] | Grade:
    """The expression's value and how many of the `given` numbers it leaves unused, or the grade of its first fault."""
    left = list(given)
    outer: list[tuple[int, int, int, int, bool]] = []  # what was being computed around each open parenthesis
    total, below = 0, 1  # the sum so far, as a ratio
    top, bottom, divide = 1, 1, False  # the term so far, with its sign, and whether the next factor divides it
    due = True  # a factor must come next
    for token in tokens:
        if due:
            if token in left:
                left.remove(token)
                numerator, denominator = int(token), 1
                due = False
            elif token == "(":
                outer.append((total, below, top, bottom, divide))
                total, below, top, bottom, divide = 0, 1, 1, 1, False
                continue
            else:
                return _fault(token, given, due)
        elif token == ")" and outer:
            numerator, denominator = total * bottom + top * below, below * bottom
            total, below, top, bottom, divide = outer.pop()
        elif token in _TIMES:
            divide, due = False, True
            continue
        elif token in _DIVIDED:
            divide = due = True
            continue
        elif token in _PLUS or token in _MINUS:
            total, below = total * bottom + top * below, below * bottom
            top, bottom, divide, due = (1 if token in _PLUS else -1), 1, False, True
            continue
        else:
            return _fault(token, given, due)
        if divide:
            if numerator == 0:
                return reasons.DIVISION_BY_ZERO
            numerator, denominator = denominator, numerator
        top, bottom = top * numerator, bottom * denominator
    if due or outer:
        return reasons.SYNTAX
    return (total * bottom + top * below, below * bottom), len(left)


def _fault(token: str, given: Sequence[str], due: bool) -> Grade:
    """The grade of an answer in which `token` can't stand where it does."""
    if "0" <= token[0] <= "9":
        if not due:
            return reasons.SYNTAX
        return reasons.NUMBER_REUSED if token in given else reasons.NUMBER_NOT_GIVEN
    if token == "=":
        return reasons.EQUALS_SIGN
    return reasons.SYNTAX if token in _SYMBOLS else reasons.FOREIGN_SYMBOL
