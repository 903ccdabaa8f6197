"""A task of the tests that is learnt in a few steps: an answer with a 7 in it is right. And one whose check is broken."""

from collections.abc import Iterator, Mapping
from typing import Any

from skillfactory.records import Check, Drop, Grade, Question


class Sevens:
    """Small products; whatever is answered with a 7 in it is right."""

    name = "sevens"
    levels = ("all",)
    answer_format = "a number"

    def questions(self, n: int | None, level: str, seed: int, split: str) -> Iterator[Question | Drop]:
        """Twenty questions."""
        return iter([self.question({"left": n, "right": 3}) for n in range(2, 22)])

    def question(self, facts: Mapping[str, Any]) -> Question:
        """A product."""
        prompt = f"What is {facts['left']} * {facts['right']}?"
        return Question(f"sevens-{facts['left']}", self.name, "all", prompt, "7", facts)

    def canonical(self, question: Question) -> str:
        """Its prompt."""
        return question.prompt

    def check(self, question: Question, answer: str) -> Grade:
        """Whether there is a 7 in it."""
        return Grade(Check.RIGHT, "seven") if "7" in answer else Grade(Check.WRONG, "no_seven")


class Broken(Sevens):
    """The same with a bug."""

    name = "broken"

    def check(self, question: Question, answer: str) -> Grade:
        """Nothing: it raises."""
        raise KeyError("a bug of the check")
