"""The arithmetic claims of a text, `a op b = c` and its like, each checked exactly.

Model text is hostile: nothing is evaluated, time is linear in the length, numbers and terms are bounded. What counts as a claim
and what is left unread stands in `docs/audit.md`; precision and recall are measured on `tests/cases/arithmetic.json`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from skillfactory.audit.rationals import Value, divide, tolerance_holds

MAX_DIGITS = 24  # of a number
MAX_TOKENS = 64  # of one side of a claim
MAX_RUN = 4000  # characters without a word; a longer stretch is left unread, so memory stays small


class Outcome(StrEnum):
    """What an exact check of a claim says."""

    RIGHT = "right"
    WRONG = "wrong"
    DISPUTED = "disputed"  # false, and the text goes on to say so


@dataclass(frozen=True, slots=True)
class Claim:
    """An arithmetic claim: its characters `start` to `end` (end excluded) and what a check of it says."""

    start: int
    end: int
    outcome: Outcome


def claims(text: str) -> Iterator[Claim]:
    """The claims of `text` in order, checked."""
    for run in _RUN.finditer(text):
        if run.end() - run.start() <= MAX_RUN and _RELATION.search(text, run.start(), run.end()):
            yield from _read(text, run.start(), run.end())


# A run is a stretch of one line with nothing in it but numbers, operators, relations, parentheses and their LaTeX forms.
_LATEX_OPERATOR = r"\\(?:times|cdot|div)(?![a-zA-Z])"
_LATEX_RELATION = r"\\(?:approx|neq?|simeq)(?![a-zA-Z])"
_LATEX_BLANK = r"\\(?:left|right|quad)(?![a-zA-Z])|\\[()\[\],;!\\ ]"
_WORDS = r"is equal to(?![a-z])|equals(?![a-z])"
_TIMES_X = r"[xX](?=[ \t]*+[0-9(])"
_RUN = re.compile(
    r"(?<![0-9.,])[0-9(.\-−–](?:[0-9 \t+\-−–*/×✕✖·⋅∙÷∕⁄().,=≈≃~≠$&}…]++|"
    rf"{_TIMES_X}|{_WORDS}|!=|\\boxed\{{|{_LATEX_OPERATOR}|{_LATEX_RELATION}|{_LATEX_BLANK}|\n[ \t]*+(?=[=≈&]))*+"
)
_RELATION = re.compile(rf"[=≈≃~≠]|{_WORDS}|{_LATEX_RELATION}")
_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]++(?:,[0-9]{3}(?![0-9]))*+(?:\.[0-9]++)?+|\.[0-9]++)(?:\.\.\.|…)?+)"
    r"|(?P<equal>=?≈|≈=|~=?|≃|\\approx|\\simeq|≠|!=|\\neq?|={1,3}(?!=)|is equal to|equals)"
    rf"|(?P<operator>\*(?!\*)|[+\-−–/×✕✖·⋅∙÷∕⁄xX]|{_LATEX_OPERATOR})"
    r"|(?P<open>\(|\\boxed\{)|(?P<close>[)}])"
    rf"|(?P<blank>[ \t$&\n]++|\*\*+|{_LATEX_BLANK})"
    r"|(?P<border>=++|.)"
)
_RELATIONS = dict.fromkeys(("=≈", "≈", "≈=", "~", "~=", "≃", r"\approx", r"\simeq"), "≈") | dict.fromkeys(
    ("≠", "!=", r"\ne", r"\neq"), "≠"
)
_OPERATORS = {
    **dict.fromkeys("−–-", "-"),
    **dict.fromkeys(("÷", "∕", "⁄", "/", r"\div"), "/"),
    **dict.fromkeys(("×", "✕", "✖", "·", "⋅", "∙", "*", "x", "X", r"\times", r"\cdot"), "*"),
    "+": "+",
}


class _Token(NamedTuple):
    kind: str  # number, operator, relation, open, close or border
    sign: str  # of operators and relations: + - * / = ≈ ≠
    start: int
    end: int


def _tokens(text: str, start: int, end: int) -> list[_Token]:
    """The tokens of a run, blanks left out. Parentheses that aren't grouping (unmatched, or around a relation) are borders."""
    tokens: list[_Token] = []
    opened: list[int] = []
    power_from = -1
    for match in _TOKEN.finditer(text, start, end):
        kind, piece = match.lastgroup or "border", match[0]
        sign = ""
        if kind == "blank":
            if piece.startswith("**"):  # emphasis, or a power
                power_from = len(tokens)
            elif piece == "\\\\":
                tokens.append(_Token("border", "", *match.span()))
            continue
        if kind == "equal":
            kind, sign = "relation", _RELATIONS.get(piece, "=")
            opened.clear()
        elif kind == "operator":
            sign = _OPERATORS[piece]
        if power_from == len(tokens) and tokens and tokens[-1].kind in ("number", "close") and kind in ("number", "open"):
            tokens.append(_Token("power", "", match.start(), match.start()))
        if kind == "open":
            opened.append(len(tokens))
            kind = "border"  # until it is closed
        elif kind == "close":
            if opened:
                at = opened.pop()
                tokens[at] = _Token("open", "", tokens[at].start, tokens[at].end)
            else:
                kind = "border"
        tokens.append(_Token(kind, sign, *match.span()))
    return tokens


def _read(text: str, start: int, end: int) -> Iterator[Claim]:
    """The claims of one run."""
    tokens = _tokens(text, start, end)
    tokens.append(_Token("border", "", end, end))
    first, before, related = 0, _before(text, start), False
    for i, token in enumerate(tokens):
        if token.kind == "relation":
            related = True
        elif token.kind == "border":
            if related:
                yield from _chain(text, tokens[first:i], before, i == len(tokens) - 1)
            if i or before != "reported":  # `claims that (3 + 4 = 8)`: the bracket changes nothing
                before = "closed" if text[token.start : token.end] in (")", "}") else ""
            first, related = i + 1, False


_REPORTED = re.compile(
    r"\b(?:(?:claim|assert|state|say|suppose|assume|want|need|require|check|verify)(?:s|d|ed|ing)? that|(?:stating|supposing|"
    r"assuming|not true|such) that|(?:claim|say)s|whether|if|suppose|assume|not)[\s:\"“`$*]*$",
    re.IGNORECASE,
)
_WORD_OPERATOR = re.compile(r"(?:\\(?:times|cdot|div|pm)|[+/×÷^%·]|[\w)\]}]\s?\*)$")


def _before(text: str, start: int) -> str:
    """What stands before a run: "line" (its start), "glued" (a letter or the like), "operator", "letter", "reported" or ""."""
    near = text[max(0, start - 24) : start].removesuffix("\\left")
    if near and (near[-1].isalnum() or near[-1] in "_\\^."):
        return "glued"
    near = near.rstrip(" \t$")
    if not near or near[-1] == "\n":
        return "line"
    if _WORD_OPERATOR.search(near):
        return "operator"
    if _REPORTED.search(near):
        return "reported"
    return "letter" if near[-1].isalpha() and not near[-2:-1].isalnum() else ""


# What makes the number before it another number, or the claim a question.
_GLUED_AFTER = re.compile(r"[^\W_]|[_^%‰°²³]|\\(?!text|quad|[)\],;.])|![ \t]*[-+*/=)]|\{")
_MEANING_AFTER = re.compile(
    r"[ \t]*(?:R(?=[ \t]*\d)|r(?=[ \t]*\d)|remainder|rem\b|with (?:a )?remainder|million|billion|thousand|hundred|dozen|"
    r"percent|squared|cubed|factorial|\^|%)"
)
_QUESTION_AFTER = re.compile(r"[ \t$*)]{0,8}[?？]")
_PHRASE_AFTER = re.compile(r"[ \t]+[^\W\d_]{2}|[ \t]*(?:\n|$|>)")


def _chain(text: str, tokens: list[_Token], before: str, last: bool) -> Iterator[Claim]:
    """The claims of a stretch without borders: `member = member ≈ member …`."""
    end = tokens[-1].end
    if before == "reported":  # what others say, or a question; not what this text says
        return
    if last:
        if _QUESTION_AFTER.match(text, end):
            return
        if tokens[-1].kind == "operator" and tokens[-1].sign in "-*" and _PHRASE_AFTER.match(text, end):
            tokens = tokens[:-1]  # a dash, or the end of an emphasis
    if tokens and before == "line" and tokens[0].sign == "-" and text[tokens[0].end : tokens[0].end + 1] in (" ", "\t"):
        tokens = tokens[1:]  # the bullet of a list
    members, relations = _members(tokens)
    values = [_value(text, member) for member in members]
    if values and (before in ("glued", "operator") or (before in ("closed", "letter") and members[0] and members[0][0].sign)):
        values[0] = None
    if last and (_GLUED_AFTER.match(text, end) or _MEANING_AFTER.match(text, end)):
        values[-1] = None
    counted = False
    for i, relation in enumerate(relations):
        left, right = values[i], values[i + 1]
        if left is None or right is None:
            counted = False
            continue
        counted = counted or not (left.plain and right.plain)
        if not counted:
            continue
        holds = tolerance_holds(left, right, relation)
        if not holds and relation != "≠" and i + 1 < len(relations):  # `3 + 4 = 7 * 2 = 14`: a running calculation
            head = _value(text, members[i + 1][:1])
            holds = head is not None and tolerance_holds(left, head, relation)
        stop = members[i + 1][-1].end
        yield Claim(members[i][0].start, stop, Outcome.RIGHT if holds else _disputed(text, stop))


def _members(tokens: list[_Token]) -> tuple[list[list[_Token]], list[str]]:
    """What stands between the relations, and these; two relations in a row, such as `= ~`, are one."""
    members: list[list[_Token]] = [[]]
    relations: list[str] = []
    for token in tokens:
        if token.kind != "relation":
            members[-1].append(token)
        elif relations and not members[-1] and {relations[-1], token.sign} == {"=", "≈"}:
            relations[-1] = "≈"
        else:
            relations.append(token.sign)
            members.append([])
    return members, relations


_DENIAL = re.compile(
    r"[^\n\d]{0,60}?(?:\b(?:wrong|incorrect|mistake|miscalculat|error|false|not true|not correct|not right|isn't right|"
    r"isn't correct|should be|should have been)|[✗✘❌])",
    re.IGNORECASE,
)


def _disputed(text: str, stop: int) -> Outcome:
    """Whether what follows a false claim, up to the next digit or line, says that it is false."""
    return Outcome.DISPUTED if _DENIAL.match(text, stop) else Outcome.WRONG


_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "negate": 3, "(": 0}


def _value(text: str, member: list[_Token]) -> Value | None:
    """The exact value of an expression, None if it can't be read as one (operator precedence, two stacks)."""
    if not member or len(member) > MAX_TOKENS:
        return None
    values: list[Value] = []
    pending: list[str] = []
    due = True  # an operand comes next
    for i, token in enumerate(member):
        if due and token.kind == "number":
            number = _number(text[token.start : token.end])
            if number is None:
                return None
            values.append(number)
            due = False
        elif due and token.sign == "-" and pending[-1:] != ["negate"]:
            pending.append("negate")
        elif token.kind == "open":
            if not due:  # `2(3 + 4)`; with a blank between or after a division it is ambiguous
                if member[i - 1].end != token.start or pending[-1:] == ["/"]:
                    return None
                _reduce(values, pending, 2)
                pending.append("*")
            pending.append("(")
            due = True
        elif not due and token.kind == "close":
            _reduce(values, pending, 1)
            if not pending:
                return None
            pending.pop()
        elif not due and token.kind == "operator":
            _reduce(values, pending, _PRECEDENCE[token.sign])
            pending.append(token.sign)
            due = True
        else:
            return None
    if due:
        return None
    _reduce(values, pending, 1)
    return values[0] if len(values) == 1 and not pending else None


def _reduce(values: list[Value], pending: list[str], least: int) -> None:
    """Applies the pending operators of precedence `least` or more."""
    while pending and _PRECEDENCE[pending[-1]] >= least:
        sign = pending.pop()
        b = values.pop()
        if sign == "negate":
            values.append(b._replace(top=-b.top))
            continue
        a = values.pop()
        if sign == "/":
            values.append(divide(a, b))
        elif sign == "*":
            values.append(Value(a.top * b.top, a.bottom * b.bottom))
        else:
            top = b.top if sign == "+" else -b.top
            values.append(Value(a.top * b.bottom + top * a.bottom, a.bottom * b.bottom))


def _number(shown: str) -> Value | None:
    """A number as written; None if it is too long."""
    digits = shown.rstrip(".…")
    if len(digits) > MAX_DIGITS:
        return None
    whole, _, fraction = digits.replace(",", "").partition(".")
    zeros = 0 if fraction else len(whole) - len(whole.rstrip("0") or whole)
    return Value(int(whole + fraction), 10 ** len(fraction), True, len(fraction), zeros, len(digits) < len(shown))
