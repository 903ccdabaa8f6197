"""Multiplication, Acronym and Letter Countdown in the small world: attempts in the four prompt styles, and honest reviews."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from skillfactory.mini.countdown import verdict
from skillfactory.records import Question
from skillfactory.tasks.generated import Drawable, split_of
from skillfactory.tasks.multiplication import Multiplication
from skillfactory.tasks.words import Acronym, LetterCountdown

SPLIT = "sft"
WRONG = 0.25  # share of attempts with a wrong answer
TASKS = ("multiplication", "multiplication", "acronym", "acronym", "letter_countdown")


@dataclass(frozen=True, slots=True)
class Other:
    """A question of one of these tasks and its gold answer."""

    task: str
    facts: Mapping[str, Any]
    prompt: str
    gold: str

    @property
    def key(self) -> str:
        """What no two questions of one context share."""
        return self.prompt

    @property
    def question(self) -> Question:
        """The question as prompts take it."""
        return Question("", self.task, "mini", self.prompt, self.gold)


def draw(random: Random, tasks: dict[str, Drawable]) -> Other:
    """A question of SPLIT of a random task."""
    name = random.choice(TASKS)
    task = tasks[name]
    while True:
        drawn = task.draw("mini", random)
        if drawn is not None and split_of(task.key(drawn[0])) == SPLIT:
            facts, gold = drawn
            return Other(name, facts, task.prompt(facts), gold)


def all_tasks() -> dict[str, Drawable]:
    """The tasks by name."""
    return {"multiplication": Multiplication(), "acronym": Acronym(), "letter_countdown": LetterCountdown()}


def guess(asked: Other, random: Random, golds: list[str], wrong: float = WRONG) -> str:
    """An answer, wrong with a given chance: a product a little off, or another word of `golds`."""
    if random.random() >= wrong:
        return asked.gold
    if asked.task == "multiplication":
        return str(max(1, int(asked.gold) + random.choice([-10, 10, -1, 1, -2, 2, -20, 20, -100, 100])))
    return random.choice(golds)


def attempt(asked: Other, answer: str, style: str) -> tuple[str, str]:
    """An attempt in the manner of a prompt variant, in two parts: what opens it, and the work with the answer."""
    openings = {
        "original": "Step by step:",
        "plan_and_execute": "Plan: first combine. Execute:",
        "alternatively": "Alternatively,",
        "rephrase": asked.prompt,
    }
    return openings[style], f"{_work(asked, answer)}.\n<answer>{answer}</answer>"


def _work(asked: Other, answer: str) -> str:
    """The steps that lead to an answer."""
    if asked.task == "multiplication":
        a, b = map(int, asked.facts["factors"])
        tens, units = a // 10 * 10 * b, a % 10 * b
        return f"{a} * {b} = {a // 10 * 10} * {b} + {a % 10} * {b} = {tens} + {units} = {answer}"
    return f"{_letters(asked)} is {answer}"


def _letters(asked: Other) -> str:
    """The letters that the answer is made of, in the order given."""
    given = asked.facts["words"] if asked.task == "acronym" else asked.facts["letters"]
    return " ".join(str(each)[0] for each in given)


def review(asked: Other, answer: str) -> str:
    """A truthful review of an answer."""
    right = answer == asked.gold
    if asked.task != "multiplication":
        return verdict(f"{_letters(asked)} is {asked.gold}.", right)
    a, b = map(int, asked.facts["factors"])
    return verdict(f"{a // 10 * 10 * b} + {a % 10 * b} = {asked.gold}.", right)
