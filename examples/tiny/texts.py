"""Synthetic texts that the tiny model learns from: single attempts at small Countdown questions, and reviews of attempts.

An attempt is a random walk with a little foresight: it joins two of the three numbers at random and then picks a way to
add the third, preferring one that hits the target. About one attempt in three is right, so a model that imitates them is
a weak solver, as curation wants it. A review recomputes the answer and compares the outcome with the target.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

HIGHEST = 225  # 15 × 15, the largest result of one step over the numbers of level `mini`
_ANSWER = re.compile(r"<answer>(.*?)</answer>")


@dataclass(frozen=True)
class Step:
    """One operation `left op right = result`, all non-negative integers."""

    left: int
    op: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} {self.op} {self.right} = {self.result}"


@dataclass(frozen=True)
class Walk:
    """Two steps over three numbers and the expression that they make."""

    steps: tuple[Step, Step]
    expression: str

    @property
    def value(self) -> int:
        """What the expression comes to."""
        return self.steps[1].result


def _options(a: int, b: int) -> list[Step]:
    """The steps that join `a` and `b` into a whole number from 1 to HIGHEST, the larger number first."""
    high, low = max(a, b), min(a, b)
    found = [Step(high, "+", low, high + low), Step(high, "-", low, high - low), Step(high, "*", low, high * low)]
    if low > 1 and high % low == 0:
        found.append(Step(high, "/", low, high // low))
    return [step for step in found if 0 < step.result <= HIGHEST]


def _weight(step: Step) -> float:
    """How readily a first step is taken: large results seldom lead to small targets."""
    return {"+": 3.0, "-": 3.0, "*": 2.0, "/": 1.5}[step.op] * (0.2 if step.result > 70 else 1.0)


def walk(numbers: Sequence[int], target: int, random: Random, aim: float = 0.9) -> Walk:
    """A random walk over three numbers that takes a last step onto the target, if there is one, with probability `aim`."""
    while True:
        a, b, c = random.sample(list(numbers), 3)
        firsts = _options(a, b)
        if not firsts:
            continue
        first = random.choices(firsts, [_weight(step) for step in firsts])[0]
        lasts = _options(first.result, c)
        hits = [step for step in lasts if step.result == target]
        if hits and random.random() < aim:
            last = random.choice(hits)
        elif lasts:
            last = random.choices(lasts, [1 / (3 + abs(step.result - target)) for step in lasts])[0]
        else:
            continue
        inner = f"({first})".split(" =")[0] + ")"
        left_is_inner = last.left == first.result and (last.left != c or random.random() < 0.5)
        expression = f"{inner} {last.op} {c}" if left_is_inner else f"{c} {last.op} {inner}"
        return Walk((first, last), expression)


def attempt(variant: str, numbers: Sequence[int], target: int, random: Random) -> str:
    """An attempt in the manner that a prompt variant asks for, right about one time in three."""
    path = walk(numbers, target, random)
    first, last = path.steps
    if variant == "plan_and_execute":
        plan = f"join {first.left} and {first.right} first, then use {_third(numbers, first)}"
        body = f"Plan: {plan}.\nExecute: {first}, {last}."
    elif variant == "alternatively":
        other = walk(numbers, target, random, aim=0.0)
        body = f"{other.steps[0]}, {other.steps[1]}. Alternatively, {first}, {last}."
        if path.value != target and other.value == target:
            path = other
    elif variant == "rephrase":
        body = f"Rewritten Question: make {target} from {', '.join(map(str, numbers))}.\n{first}. {last}."
    else:
        body = f"{random.choice(['Step by step:', 'First', 'Try'])} {first}. Then {last}."
    return f"{body}\n<answer>{path.expression}</answer>"


def _third(numbers: Sequence[int], first: Step) -> int:
    """The number that a first step leaves over."""
    left = list(numbers)
    left.remove(first.left)
    left.remove(first.right)
    return left[0]


def spoiled(text: str, random: Random) -> str:
    """An attempt with a fault of the kinds that a model makes: a wrong result, a wrong number in the answer, or no answer."""
    fault = random.random()
    if fault < 0.1:
        return text.split("<answer>")[0].strip()
    head, tag, tail = text.partition("<answer>")
    if fault < 0.6:
        results = list(re.finditer(r"(?<== )\d+", head))
        spot = random.choice(results)
        result = max(1, int(spot[0]) + random.choice([-2, -1, 1, 2]))
        return f"{head[: spot.start()]}{result}{head[spot.end() :]}{tag}{tail}"
    spot = random.choice(list(re.finditer(r"\d+", tail)))
    return head + tag + tail[: spot.start()] + str(random.randint(1, 15)) + tail[spot.end() :]


def review(text: str, numbers: Sequence[int], target: int, random: Random) -> str | None:
    """A truthful review of an attempt, or None if recomputing its answer leaves the small whole numbers."""
    found = _ANSWER.findall(text)
    if not found:
        return "Check: there is no answer.\n<verdict>Incorrect</verdict>"
    expression = found[-1]
    used = [int(number) for number in re.findall(r"\d+", expression)]
    left = list(numbers)
    for number in used:
        if number not in left:
            return f"Check: {expression}. The number {number} is not one to use.\n<verdict>Incorrect</verdict>"
        left.remove(number)
    steps = _recomputed(expression)
    if steps is None:
        return None
    first, last = steps
    right = last.result == target
    finding = "so it works" if right else "so it fails"
    ways = [
        f"Check: {expression}. {first}. {last}. The target is {target}.",
        f"Check: {first}, {last}. The result is {last.result} and the target is {target}, {finding}.",
        f"Let me recompute {expression}: first {first}, then {last}. Wanted: {target}.",
    ]
    return f"{random.choice(ways)}\n<verdict>{'Correct' if right else 'Incorrect'}</verdict>"


def _recomputed(expression: str) -> tuple[Step, Step] | None:
    """The two steps of `(a op b) op c` or `c op (a op b)`, or None if a result isn't a whole number from 0 to HIGHEST."""
    inner = re.search(r"\((\d+) (.) (\d+)\)", expression)
    if inner is None:
        return None
    first = _apply(int(inner[1]), inner[2], int(inner[3]))
    if first is None:
        return None
    outer = re.fullmatch(r"(\d+) (.) (\d+)", expression.replace(inner[0], str(first.result)))
    last = _apply(int(outer[1]), outer[2], int(outer[3])) if outer else None
    return (first, last) if last else None


def _apply(a: int, op: str, b: int) -> Step | None:
    """The step `a op b`, or None if its result isn't a whole number from 0 to HIGHEST."""
    if op == "/":
        if b == 0 or a % b:
            return None
        return Step(a, op, b, a // b)
    result = {"+": a + b, "-": a - b, "*": a * b}[op]
    return Step(a, op, b, result) if 0 <= result <= HIGHEST else None
