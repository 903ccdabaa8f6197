"""Word problems and competition mathematics from data sets: GSM8K, AIME 2025, AMC 2023, MATH-500, OpenThoughts.

The public names, configurations, splits and columns are the defaults; each can point to a local copy instead.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from skillfactory.errors import InputError
from skillfactory.records import Check, Grade, Question
from skillfactory.tasks import reasons
from skillfactory.tasks.boxed import after_thinking, boxed, settled, still_thinking
from skillfactory.tasks.dataset import DataTask, UnusableRowError
from skillfactory.tasks.equivalence import equivalent, usable_gold
from skillfactory.tasks.generated import Facts
from skillfactory.tasks.numbers import MAX_CHARS, amount, unwrapped
from skillfactory.tasks.source import Row, column

_AIME = re.compile(r"[0-9]{1,3}")
_MATH_GOLD = "one mathematical expression in LaTeX or plain text, without words around it"


def number_grade(gold: str, answer: str) -> Grade:
    """Whether `answer` is the number `gold`, exactly; `numbers.amount` says what is read as a number."""
    if len(answer) > MAX_CHARS:
        return reasons.TOO_LONG
    if not answer.strip():
        return reasons.EMPTY
    value = amount(answer)
    if value is None:
        return Grade(Check.WRONG, "not_a_number")
    return reasons.EQUAL if value == amount(gold) else reasons.WRONG_VALUE


@dataclass(frozen=True)
class GSM8K(DataTask):
    """Grade-school word problems; the gold is the number after `####`."""

    source: str = "openai/gsm8k"
    config: str | None = "main"

    name: ClassVar[str] = "gsm8k"
    answer_format: ClassVar[str] = "one number without units"

    def row_facts(self, row: Row, seed: int) -> dict[str, Any]:
        """Columns `question` and `answer` (a worked solution that ends in "#### 42")."""
        solution = str(column(row, "answer", self.source))
        _, mark, gold = solution.rpartition("####")
        if not mark:
            raise UnusableRowError("no_gold", "the answer has no ####")
        return {"question": str(column(row, "question", self.source)).strip(), "answer": gold.strip()}

    def gold(self, facts: Facts) -> str:
        """The number, without commas."""
        value = amount(str(facts["answer"]))
        if value is None:
            raise UnusableRowError("bad_gold", f"not a number: {facts['answer']}")
        return unwrapped(str(facts["answer"])).replace(",", "")

    def check(self, question: Question, answer: str) -> Grade:
        """Whether `answer` is the number; see `number_grade`."""
        return number_grade(question.answer, answer)


@dataclass(frozen=True)
class AIME2025(DataTask):
    """The thirty problems of the AIME 2025; every answer is an integer from 0 to 999."""

    source: str = "math-ai/aime25"
    train: str = ""

    name: ClassVar[str] = "aime2025"
    answer_format: ClassVar[str] = "one integer from 0 to 999"

    def row_facts(self, row: Row, seed: int) -> dict[str, Any]:
        """Columns `problem` and `answer`."""
        return {"question": str(column(row, "problem", self.source)).strip(), "answer": column(row, "answer", self.source)}

    def gold(self, facts: Facts) -> str:
        """The integer without leading zeros."""
        text = unwrapped(str(facts["answer"]))
        if not _AIME.fullmatch(text):
            raise UnusableRowError("bad_gold", "not an integer from 0 to 999")
        return str(int(text))

    def check(self, question: Question, answer: str) -> Grade:
        """Whether `answer` is the integer; leading zeros up to three digits, as on the answer sheet, don't count."""
        if len(answer) > MAX_CHARS:
            return reasons.TOO_LONG
        text = unwrapped(answer).removesuffix(".")
        if not text:
            return reasons.EMPTY
        if not _AIME.fullmatch(text):
            return reasons.NOT_AN_INTEGER
        return reasons.EQUAL if int(text) == int(question.answer) else reasons.WRONG_VALUE


@dataclass(frozen=True)
class Equivalence(DataTask):
    """Mathematics graded by equivalence; for any data set with a column for the problem and one for the answer."""

    source: str
    problem: str = "problem"  # the column of the question
    solution: str = "answer"  # the column of the gold answer

    name: ClassVar[str] = "mathematics"
    answer_format: ClassVar[str] = _MATH_GOLD

    def row_facts(self, row: Row, seed: int) -> dict[str, Any]:
        """The two columns."""
        answer = column(row, self.solution, self.source)
        if isinstance(answer, float) and answer.is_integer():
            answer = int(answer)
        return {"question": str(column(row, self.problem, self.source)).strip(), "answer": str(answer)}

    def gold(self, facts: Facts) -> str:
        """The gold answer as it is written, provided that it can be parsed and is equal to itself."""
        gold = str(facts["answer"]).strip()
        reason = usable_gold(gold)
        if reason:
            raise UnusableRowError("bad_gold", f"{reason}: {gold}")
        return gold

    def check(self, question: Question, answer: str) -> Grade:
        """Whether `answer` is equivalent to the gold answer; see `equivalence`."""
        return equivalent(question.answer, answer)


@dataclass(frozen=True)
class AMC2023(Equivalence):
    """The AMC 12 problems of 2023 (forty of them), with numbers as answers."""

    source: str = "math-ai/amc23"
    train: str = ""
    problem: str = "question"

    name: ClassVar[str] = "amc2023"


@dataclass(frozen=True)
class MATH500(Equivalence):
    """Five hundred problems of the MATH test set, in five levels."""

    source: str = "HuggingFaceH4/MATH-500"
    train: str = ""

    name: ClassVar[str] = "math500"
    levels: ClassVar[tuple[str, ...]] = ("all", "1", "2", "3", "4", "5")  # all first: it is what one gets without asking

    def row_facts(self, row: Row, seed: int) -> dict[str, Any]:
        """Columns `problem`, `answer` and `level`."""
        level = str(column(row, "level", self.source)).removeprefix("Level ")
        if level not in self.levels:
            raise UnusableRowError("bad_level", level)
        return {**super().row_facts(row, seed), "level": level}


@dataclass(frozen=True)
class OpenThoughts(Equivalence):
    r"""Questions with a reasoning model's response; the gold is the `\boxed{…}` after its thinking.

    Rows without one, or with several that differ, become drops (method section 2, OpenThoughts).
    """

    source: str = "open-thoughts/OpenThoughts3-1.2M"
    test: str = ""
    domain: str = ""  # only rows with this value in the column `domain`, such as "math"; "" takes all

    name: ClassVar[str] = "openthoughts"

    def row_facts(self, row: Row, seed: int) -> dict[str, Any]:
        """Column `conversations`: turns of `from` (human or user, gpt or assistant) and `value`."""
        if self.domain and column(row, "domain", self.source) != self.domain:
            raise UnusableRowError("other_domain", str(row["domain"]))
        question, response = _first_exchange(column(row, "conversations", self.source), self.source)
        if still_thinking(response):
            raise UnusableRowError("no_thinking_end")
        answers = boxed(after_thinking(response))
        if not answers or not all(answers):
            raise UnusableRowError("no_boxed")
        gold = settled(answers, lambda a, b: equivalent(a, b).check is Check.RIGHT)
        if gold is None:
            raise UnusableRowError("boxed_differ", " | ".join(answers[:4]))
        return {"question": question, "answer": gold}


def _first_exchange(turns: Any, where: str) -> tuple[str, str]:
    """The first question and the response to it."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InputError(f"{where}: 'conversations' must be a list of {{from, value}}")
    said = [(turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))) for turn in turns]
    for (asker, question), (answerer, response) in pairwise(said):
        if asker in ("human", "user") and answerer in ("gpt", "assistant") and question and response:
            return str(question).strip(), str(response)
    raise UnusableRowError("no_exchange", ", ".join(str(who) for who, _ in said))
