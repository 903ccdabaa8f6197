"""Countdown in the small world: questions, attempts in the four prompt styles, spoiled answers, honest reviews."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from skillfactory.mini.walks import Walk, solution, walk, worth
from skillfactory.records import Question
from skillfactory.tasks.countdown import Countdown
from skillfactory.tasks.generated import split_of

NUMBERS, TARGETS = (1, 20), (5, 99)
SIZES, SIZE_WEIGHTS = (2, 3, 4, 5, 6, 7), (1.0, 3.0, 3.0, 2.5, 2.0, 1.0)
AIM = 0.65  # how often an attempt's last step hits the target if it can
SPLIT = "sft"  # the base model sees questions of this split alone
_TASK = Countdown(use_all=True)


@dataclass(frozen=True, slots=True)
class Sum:
    """A question, and one way to solve it."""

    numbers: tuple[int, ...]
    target: int
    way: Walk
    some: bool = False  # worded so that numbers may be left over

    @property
    def prompt(self) -> str:
        """What the user turn says: the brief wording of the task."""
        return f"Make {self.target} from {'some of ' if self.some else ''}{' '.join(map(str, self.numbers))}."

    @property
    def key(self) -> str:
        """The numbers in order of size, which no two questions of one context share."""
        return key_of(self.numbers)

    @property
    def question(self) -> Question:
        """The question as prompts take it."""
        return Question("", "countdown", "mini", self.prompt, self.way.expression)


def key_of(numbers: Sequence[int]) -> str:
    """A text for a multiset of numbers."""
    return "numbers " + " ".join(map(str, sorted(numbers)))


def draw(random: Random, size: int | None = None) -> Sum:
    """A question of SPLIT, of a random size if none is given; one in sixteen lets numbers be left over."""
    count = size or random.choices(SIZES, SIZE_WEIGHTS)[0]
    while True:
        numbers = tuple(random.randint(*NUMBERS) for _ in range(count))
        way = walk(numbers, None, random)
        if way is None or not TARGETS[0] <= way.value <= TARGETS[1] or way.value in numbers:
            continue
        if split_of(_TASK.key({"numbers": numbers, "target": way.value})) == SPLIT:
            return Sum(numbers, way.value, way, random.random() < 1 / 16)


def try_it(asked: Sum, random: Random) -> Walk:
    """A fresh walk towards the target, which one in some finds."""
    return solution(asked.numbers, asked.target, random, AIM)


def attempt(asked: Sum, way: Walk, answer: str, style: str) -> tuple[str, str]:
    """An attempt in the manner of a prompt variant, in two parts: what opens it, and the work with the answer."""
    steps = [str(step) for step in way.steps]
    first = way.steps[0]
    if style == "plan_and_execute":
        opening, work = "Plan:", f"combine {first.left} and {first.right} first. Execute: {', '.join(steps)}."
    elif style == "alternatively":
        opening = "Alternatively,"
        work = f"start with {first.left} {first.op} {first.right}: {'. '.join(steps)}."
    elif style == "rephrase":
        opening, work = asked.prompt, f"{'. '.join(steps)}."
    else:
        opening, work = "Step by step:", f"{'. '.join(steps)}."
    return opening, f"{work}\n<answer>{answer}</answer>"


def spoiled(expression: str, random: Random) -> str:
    """An expression with a fault of the kinds that a model makes: a wrong number, one used twice, or one too many."""
    tokens = expression.replace("(", "( ").replace(")", " )").split()
    places = [i for i, token in enumerate(tokens) if token.isdigit()]
    place, fault = random.choice(places), random.random()
    if fault < 0.5:
        tokens[place] = str(random.randint(*NUMBERS))
    elif fault < 0.8:
        tokens[place] = tokens[random.choice(places)]
    else:
        tokens = [tokens[place], random.choice("+-"), "(", *tokens, ")"]
    return " ".join(tokens).replace("( ", "(").replace(" )", ")")


def review(asked: Sum, answer: str) -> str | None:
    """A truthful review of an answer, or None if its steps leave the small whole numbers."""
    found = worth(answer)
    if found is None:
        return verdict("no answer.", right=False)
    left = list(asked.numbers)
    for number in found.numbers:
        if number not in left:
            return verdict(f"no {number} in {' '.join(map(str, asked.numbers))}.", right=False)
        left.remove(number)
    if left and not asked.some:
        return verdict(f"{left[0]} is missing.", right=False)
    if not found.small:
        return None
    return verdict(f"{found.value}. The target is {asked.target}.", right=found.value == asked.target)


def verdict(finding: str, right: bool) -> str:
    """A review: what was found, and the verdict."""
    return f"Check: {finding}\n<verdict>{'Correct' if right else 'Incorrect'}</verdict>"
