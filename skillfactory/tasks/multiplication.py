"""Multiplication: the exact product of two whole numbers of as many digits as the level says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from skillfactory.records import Grade, Question
from skillfactory.tasks import reasons
from skillfactory.tasks.generated import Facts, draw_questions, given_question, is_brief, listed, need, whole_number

MAX_CHARS = 64  # of an answer: the longest product has 24 digits
MAX_FACTOR = 10**12 - 1
MINI = "mini"  # the level for models too small to multiply larger numbers

_INTEGER = re.compile(r"0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+")


@dataclass(frozen=True)
class Multiplication:
    """Two factors, wanted is their product: ASCII digits, bare or with a comma before every third one from the right."""

    name: ClassVar[str] = "multiplication"
    levels: ClassVar[tuple[str, ...]] = ("2", "3", "4", "5", MINI)
    answer_format: ClassVar[str] = "one whole number, in digits"

    def questions(self, n: int | None, level: str, seed: int, split: str) -> Iterator[Question]:
        """The first `n` items; see Task."""
        return draw_questions(self, n, level, seed, split)

    def draw(self, level: str, random: Random) -> tuple[Facts, str]:
        """Two numbers with the level's number of digits; `mini`: one of two digits and one of a single digit."""
        if level == MINI:
            a, b = random.randint(11, 99), random.randint(3, 9)
            return {"factors": [a, b], "brief": True}, str(a * b)
        digits = int(level)
        a, b = (random.randrange(10 ** (digits - 1), 10**digits) for _ in range(2))
        return {"factors": [a, b]}, str(a * b)

    def question(self, facts: Facts) -> Question:
        """The question of {"factors": [a, b]} and, if wanted, "brief"; the level is the number of digits of the longer one."""
        factors = listed(self.name, "factors", need(self.name, facts, "factors"), 2, 2)
        for factor in factors:
            whole_number(self.name, "factors", factor, 0, MAX_FACTOR)
        if is_brief(self.name, facts):
            return given_question(self, {"factors": factors, "brief": True}, MINI)
        return given_question(self, {"factors": factors}, str(len(str(max(factors)))))

    def key(self, facts: Facts) -> str:
        """The factors, smaller first."""
        return "multiplication {} {}".format(*sorted(facts["factors"]))

    def canonical(self, question: Question) -> str:
        """What makes two questions the same: the factors, in any order."""
        return self.key(question.facts)

    def prompt(self, facts: Facts) -> str:
        """What the user turn says."""
        a, b = facts["factors"]
        if facts.get("brief"):
            return f"What is {a} * {b}?"
        return f"What is {a} * {b}? Write the exact product, in digits only, inside <answer> and </answer>."

    def check(self, question: Question, answer: str) -> Grade:
        """Whether `answer` is the product, digit for digit; well-placed commas between thousands don't count."""
        if len(answer) > MAX_CHARS:
            return reasons.TOO_LONG
        number = answer.strip(" \t\r\n")
        if not number:
            return reasons.EMPTY
        if not _INTEGER.fullmatch(number):
            return reasons.NOT_AN_INTEGER
        a, b = question.facts["factors"]
        return reasons.EQUAL if int(number.replace(",", "")) == a * b else reasons.WRONG_VALUE
