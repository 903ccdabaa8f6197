"""Countdown: combine given numbers with + - * / into a target. The grammar of answers is in `expressions`."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, NamedTuple

from skillfactory.errors import ConfigError, InputError
from skillfactory.records import Grade, Question
from skillfactory.tasks import reasons
from skillfactory.tasks.expressions import evaluate, tokens_of
from skillfactory.tasks.generated import Facts, draw_questions, given_question, is_brief, listed, need, shown, whole_number

MAX_CHARS = 256  # of an answer: 16 numbers of 9 digits with spaces and every sensible parenthesis fit
MAX_NUMBERS = 16
MAX_NUMBER = 999_999_999
MAX_TARGET = 10**12

Range = tuple[int, int]  # both ends included


class World(NamedTuple):
    """What a level draws from."""

    size: int  # how many numbers are given
    numbers: Range
    targets: Range
    most: int | None = None  # no step of the solution passes it, read from left to right


MINI = {"mini": 3, "mini-4": 4, "mini-5": 5, "mini-6": 6}  # for models too small to know larger numbers or many words
WORLDS = {
    **{str(size): World(size, (1, 99), (10, 999)) for size in (3, 4, 5, 6)},
    **{level: World(size, (1, 20), (5, 99), most=99) for level, size in MINI.items()},
}

_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2}
_ATOM = 3


@dataclass(frozen=True)
class Countdown:
    """Given numbers and a target, wanted is an expression; each number may be used once at most, nothing else may be used."""

    use_all: bool = False  # every given number must be used
    numbers: Range | None = None  # smallest and largest given number, in place of the level's
    targets: Range | None = None  # the same for the target

    name: ClassVar[str] = "countdown"
    levels: ClassVar[tuple[str, ...]] = tuple(WORLDS)
    answer_format: ClassVar[str] = "one arithmetic expression over the given numbers, without an equals sign"

    def __post_init__(self) -> None:
        _check_range("numbers", self.numbers, MAX_NUMBER)
        _check_range("targets", self.targets, MAX_TARGET)
        if type(self.use_all) is not bool:
            raise ConfigError(f"countdown: 'use_all' must be true or false, not {shown(self.use_all)}")

    def questions(self, n: int | None, level: str, seed: int, split: str) -> Iterator[Question]:
        """The first `n` items; see Task."""
        return draw_questions(self, n, level, seed, split)

    def draw(self, level: str, random: Random) -> tuple[Facts, str] | None:
        """Numbers and a target made from all of them; None if a step or the target is out of range, or the target is given."""
        world = WORLDS[level]
        low, high = self.numbers or world.numbers
        lowest, highest = self.targets or world.targets
        numbers = [random.randint(low, high) for _ in range(world.size)]
        most = world.most and max(world.most, highest)
        made = _combined(numbers, random, limit=most or 10 * highest)
        if not lowest <= made.value <= highest or made.value in numbers or (most and _peak(made) > most):
            return None
        return _facts(numbers, made.value, self.use_all, level in MINI), _written(made)[0]

    def question(self, facts: Facts) -> Question:
        """The question of {"numbers": [..], "target": n} and, if wanted, "use_all" and "brief"; its level is their number."""
        numbers = listed(self.name, "numbers", need(self.name, facts, "numbers"), 1, MAX_NUMBERS)
        for number in numbers:
            whole_number(self.name, "numbers", number, 0, MAX_NUMBER)
        target = whole_number(self.name, "target", need(self.name, facts, "target"), -MAX_TARGET, MAX_TARGET)
        use_all = facts.get("use_all", self.use_all)
        if type(use_all) is not bool:
            raise InputError(f"{self.name}: 'use_all' must be true or false, not {shown(use_all)}")
        brief = is_brief(self.name, facts)
        level = str(len(numbers)) if not brief else "mini" if len(numbers) == MINI["mini"] else f"mini-{len(numbers)}"
        return given_question(self, _facts(numbers, target, use_all, brief), level)

    def key(self, facts: Facts) -> str:
        """The numbers in order and the target. `use_all` and `brief` are left out: with and without, it is the same puzzle."""
        return f"countdown {' '.join(map(str, sorted(facts['numbers'])))} = {facts['target']}"

    def canonical(self, question: Question) -> str:
        """What makes two questions the same: the numbers in any order, and the target."""
        return self.key(question.facts)

    def prompt(self, facts: Facts) -> str:
        """What the user turn says."""
        if facts.get("brief"):
            some = "" if facts.get("use_all") else "some of "
            return f"Make {facts['target']} from {some}{' '.join(map(str, facts['numbers']))}."
        rule = "every number must be used exactly once" if facts.get("use_all") else "each number may be used at most once"
        return (
            f"Make {facts['target']} from the numbers {', '.join(map(str, facts['numbers']))}. You may add (+), subtract (-), "
            f"multiply (*) and divide (/) and use parentheses; {rule}, and no other number may appear. "
            "Write the final expression, without an equals sign, inside <answer> and </answer>."
        )

    def check(self, question: Question, answer: str) -> Grade:
        """Whether `answer` is an expression of the grammar over the given numbers whose value is the target."""
        if len(answer) > MAX_CHARS:
            return reasons.TOO_LONG
        tokens = tokens_of(answer)
        if not tokens:
            return reasons.EMPTY
        facts = question.facts
        found = evaluate(tokens, [str(number) for number in facts["numbers"]])
        if isinstance(found, Grade):
            return found
        (numerator, denominator), unused = found
        if unused and facts.get("use_all"):
            return reasons.NUMBER_UNUSED
        return reasons.EQUAL if numerator == facts["target"] * denominator else reasons.WRONG_VALUE


def _facts(numbers: list[int], target: int, use_all: bool, brief: bool) -> dict[str, Any]:
    flags = {"use_all": use_all, "brief": brief}
    return {"numbers": numbers, "target": target, **{name: True for name, is_set in flags.items() if is_set}}


def _check_range(option: str, bounds: object, highest: int) -> None:
    if bounds is None:
        return
    pair = isinstance(bounds, tuple) and len(bounds) == 2 and all(type(bound) is int for bound in bounds)
    if not (isinstance(bounds, tuple) and pair and 1 <= bounds[0] <= bounds[1] <= highest):
        raise ConfigError(f"countdown: '{option}' must be two numbers, 1 <= low <= high <= {highest:,}, not {shown(bounds)}")


class _Made(NamedTuple):
    """A whole number above 0 and how it was made."""

    value: int
    operator: str = ""  # "" for a given number
    left: Any = None  # _Made
    right: Any = None


def _combined(numbers: list[int], random: Random, limit: int) -> _Made:
    """A number made from all `numbers`; no product passes `limit` and no step changes nothing."""
    parts = [_Made(number) for number in numbers]
    while len(parts) > 1:
        left = parts.pop(int(random.random() * len(parts)))
        right = parts.pop(int(random.random() * len(parts)))
        if left.value < right.value:
            left, right = right, left
        high, low = left.value, right.value
        results = [("+", high + low)]
        if high > low:
            results.append(("-", high - low))
        if low > 1 and high * low <= limit:
            results.append(("*", high * low))
        if low > 1 and high % low == 0:
            results.append(("/", high // low))
        operator, value = results[int(random.random() * len(results))]
        parts.append(_Made(value, operator, left, right))
    return parts[0]


def _written(made: _Made) -> tuple[str, int]:
    """The expression, with the parentheses that it needs and no others, and the strength of its weakest operator."""
    if not made.operator:
        return str(made.value), _ATOM
    strength = _STRENGTH[made.operator]
    (left, left_strength), (right, right_strength) = _written(made.left), _written(made.right)
    if left_strength < strength:
        left = f"({left})"
    if right_strength < strength or (right_strength == strength and made.operator in "-/"):
        right = f"({right})"
    return f"{left} {made.operator} {right}", strength


def _peak(made: _Made) -> int:
    """The largest result on the way to `made`, as its expression reads: 60 + (50 - 20) is written 60 + 50 - 20."""
    if not made.operator:
        return 0
    (_, first), *others = _chain(made, _STRENGTH[made.operator])
    value, peak = first.value, _peak(first)
    for operator, part in others:
        value = {"+": value + part.value, "-": value - part.value, "*": value * part.value, "/": value // part.value}[operator]
        peak = max(peak, value, _peak(part))
    return peak


def _chain(made: _Made, strength: int) -> list[tuple[str, _Made]]:
    """What is joined by operators of one strength without parentheses, each part with the operator before it."""
    if _STRENGTH.get(made.operator) != strength:
        return [("", made)]
    right = _chain(made.right, strength) if made.operator in "+*" else [("", made.right)]
    return [*_chain(made.left, strength), (made.operator, right[0][1]), *right[1:]]
