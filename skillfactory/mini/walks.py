"""Arithmetic of the small world: random walks that combine numbers into a target, and what recomputing an answer brings.

A walk joins numbers two at a time. All steps but the last are random; the last hits the target if any way does, most of the
time. So imitating walks makes a weak solver that knows what it is doing, as a small instruct model is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import NamedTuple

HIGHEST = 99  # the largest result of a step
_LIKING = {"+": 3.0, "-": 3.0, "*": 2.0, "/": 1.5}  # how readily an operator is taken in a random step


class Step(NamedTuple):
    """One operation, `left op right = result`, over whole numbers."""

    left: int
    op: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} {self.op} {self.right} = {self.result}"


@dataclass(frozen=True, slots=True)
class Walk:
    """Steps that use every number once, and the expression that they make."""

    steps: tuple[Step, ...]
    expression: str

    @property
    def value(self) -> int:
        """What the expression comes to."""
        return self.steps[-1].result


class _Part(NamedTuple):
    value: int
    text: str


def apply(left: int, op: str, right: int) -> int | None:
    """The result of a step, or None where it leaves the whole numbers from 0 to HIGHEST."""
    if op == "/":
        if right == 0 or left % right:
            return None
        return left // right
    result = {"+": left + right, "-": left - right, "*": left * right}[op]
    return result if 0 <= result <= HIGHEST else None


def _ways(a: _Part, b: _Part) -> list[tuple[_Part, str, _Part, int]]:
    """Every way to join two parts into a whole number above 0; sums and products begin with the larger one."""
    high, low = (a, b) if a.value >= b.value else (b, a)
    found = []
    for op in "+-*/":
        result = apply(high.value, op, low.value)
        if result and not (op == "/" and low.value == 1):
            found.append((high, op, low, result))
    return found


def walk(numbers: Sequence[int], target: int | None, random: Random, aim: float = 0.0) -> Walk | None:
    """A random walk over all `numbers` whose last step hits `target`, if one can, with chance `aim`; None at a dead end."""
    parts = [_Part(number, str(number)) for number in numbers]
    steps = []
    while len(parts) > 1:
        last = len(parts) == 2 and target is not None
        i, j = sorted(random.sample(range(len(parts)), 2))
        ways = _ways(parts[i], parts[j])
        if not ways:
            return None
        if last:
            assert target is not None
            hits = [way for way in ways if way[3] == target]
            if hits and random.random() < aim:
                way = random.choice(hits)
            else:
                way = random.choices(ways, [1 / (3 + abs(result - target)) for *_, result in ways])[0]
        else:
            way = random.choices(ways, [_LIKING[op] * (0.3 if result > 70 else 1.0) for _, op, _, result in ways])[0]
        left, op, right, result = way
        steps.append(Step(left.value, op, right.value, result))
        joined = _Part(result, f"{_bracketed(left.text)} {op} {_bracketed(right.text)}")
        parts = [part for k, part in enumerate(parts) if k not in (i, j)] + [joined]
    return Walk(tuple(steps), parts[0].text)


def _bracketed(text: str) -> str:
    return text if text.isdigit() else f"({text})"


def solution(numbers: Sequence[int], target: int, random: Random, aim: float) -> Walk:
    """A walk towards `target`, tried until one comes to an end."""
    while True:
        found = walk(numbers, target, random, aim)
        if found is not None:
            return found


class Worth(NamedTuple):
    """What an expression holds and comes to."""

    numbers: tuple[int, ...]  # in order
    value: Fraction
    small: bool  # whether every step stays within the whole numbers from 0 to HIGHEST


def worth(expression: str) -> Worth | None:
    """The worth of a fully bracketed expression such as `(7 + 3) * 2`, or None if it isn't one."""
    tokens = re.findall(r"\d+|\S", expression)
    numbers, small = tuple(int(token) for token in tokens if token.isdigit()), True
    stack: list[list[Fraction | str]] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
            continue
        stack[-1].append(Fraction(token) if token.isdigit() else token)
        if token == ")":
            stack[-1].pop()
            inner = stack.pop()
            value = _joined(inner)
            if value is None or not stack:
                return None
            small = small and value.denominator == 1 and 0 <= value <= HIGHEST
            stack[-1].append(value)
    value = _joined(stack[0]) if len(stack) == 1 else None
    if value is None:
        return None
    return Worth(numbers, value, small and value.denominator == 1 and 0 <= value <= HIGHEST)


def _joined(items: list[Fraction | str]) -> Fraction | None:
    """The value of a chain without brackets, read from the left (chains of two operators only occur in spoiled answers)."""
    if not items or isinstance(items[0], str):
        return None
    value = items[0]
    for op, right in zip(items[1::2], items[2::2], strict=False):
        if not isinstance(op, str) or isinstance(right, str) or op not in "+-*/" or (op == "/" and right == 0):
            return None
        value = {"+": value + right, "-": value - right, "*": value * right}[op] if op != "/" else value / right
    return value if len(items) % 2 else None
