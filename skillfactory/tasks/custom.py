"""Your own questions: a file, folder or Hub id, the names of its columns, and a check of your choice."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, ClassVar

from skillfactory.errors import ConfigError
from skillfactory.records import Check, Grade, Question
from skillfactory.tasks import reasons
from skillfactory.tasks.choice import letter_grade
from skillfactory.tasks.dataset import DataTask, UnusableRowError
from skillfactory.tasks.equivalence import equivalent, usable_gold
from skillfactory.tasks.generated import Facts
from skillfactory.tasks.mathematics import number_grade
from skillfactory.tasks.numbers import amount
from skillfactory.tasks.sandbox import Raised, Returned, TimedOut, shared
from skillfactory.tasks.source import Row, column

MAX_CHARS = 20_000  # of an answer


@dataclass(frozen=True)
class Custom(DataTask):
    """Rows of yours, and how to grade them.

    `grader` is "exact" (the same text, spaces around it aside), "number", "choice", "math", or "module:function" of your own:
    it is called with (answer, gold, row) and gives back a bool or a Grade. It runs in a worker process, which is killed on
    time-out; it may do there what it likes, but sees nothing of our environment and prints nowhere.
    """

    question_column: str = "question"
    answer_column: str = "answer"
    level_column: str = ""
    level_names: tuple[str, ...] = ()  # those of the level column, as text, easiest first
    form: str = "and nothing else"  # what is said to the model of the answer's form
    grader: str = "exact"
    timeout: float = 5.0  # seconds of processor time for one grade by a function of yours

    name: ClassVar[str] = "custom"

    def __post_init__(self) -> None:
        known = ("exact", "number", "choice", "math")
        if self.grader not in known and ":" not in self.grader:
            raise ConfigError(f"custom: 'grader' is one of {', '.join(known)} or module:function, not '{self.grader}'")
        if bool(self.level_column) != bool(self.level_names):
            raise ConfigError("custom: 'level_column' and 'level_names' go together")

    @property
    def levels(self) -> tuple[str, ...]:
        """First "all", then the names given."""
        return ("all", *self.level_names)

    @property
    def answer_format(self) -> str:
        """What is said of the answer's form."""
        return self.form

    def row_facts(self, row: Row, seed: int) -> dict[str, Any]:
        """The columns named, and for a function of yours the whole row, as far as JSON can hold it (else as text)."""
        facts = {
            "question": str(column(row, self.question_column, self.source)).strip(),
            "answer": json.loads(json.dumps(column(row, self.answer_column, self.source), default=str)),
        }
        if facts["answer"] is None or not facts["question"]:
            raise UnusableRowError("empty_question" if facts["answer"] is not None else "no_gold")
        if self.level_column:
            facts["level"] = str(row.get(self.level_column, ""))  # rows of JSONL may lack it one by one
            if facts["level"] not in self.level_names:
                raise UnusableRowError("bad_level", facts["level"] or f"no {self.level_column}")
        if ":" in self.grader:
            facts["row"] = json.loads(json.dumps(dict(row), default=str))
        return facts

    def gold(self, facts: Facts) -> str:
        """The gold answer as text, provided that the grader can use it; your own function is not asked."""
        gold = facts["answer"] if isinstance(facts["answer"], str) else json.dumps(facts["answer"], ensure_ascii=False)
        gold = gold.strip()
        problem = ""
        if self.grader == "number" and amount(gold) is None:
            problem = "not a number"
        elif self.grader == "choice" and (len(gold) != 1 or gold.upper() not in ascii_uppercase):
            problem = "not a letter"
        elif self.grader == "math":
            problem = usable_gold(gold) or ""
        elif self.grader == "exact" and not gold:
            problem = "empty"
        if problem:
            raise UnusableRowError("bad_gold", f"{problem}: {gold}")
        return gold

    def check(self, question: Question, answer: str) -> Grade:
        """What the grader finds. A function of yours that raises or hangs makes it UNDECIDED."""
        text = answer.strip()
        if not text:
            return reasons.EMPTY
        if len(text) > MAX_CHARS:
            return reasons.TOO_LONG
        match self.grader:
            case "exact":
                return reasons.EQUAL if text == question.answer else Grade(Check.WRONG, "other_text")
            case "number":
                return number_grade(question.answer, text)
            case "choice":
                return letter_grade(question.answer.upper(), text, [])
            case "math":
                return equivalent(question.answer, text)
            case _:
                return self._own(question, text)

    def _own(self, question: Question, answer: str) -> Grade:
        """The grade by a function of the user's."""
        box = shared(f"{__name__}:serve", self.grader, timeout=self.timeout, trusted=True)
        match box.call(answer, question.facts["answer"], question.facts.get("row", {})):
            case Returned([str(check), str(reason)]):
                return Grade(Check(check), reason)
            case TimedOut():
                return Grade(Check.UNDECIDED, "timeout")
            case Raised("TypeError" as kind, message) if message.startswith(self.grader):
                raise ConfigError(f"custom: {message}")
            case Raised(kind):
                return Grade(Check.UNDECIDED, f"raised_{kind}")
            case _:
                return Grade(Check.UNDECIDED, "worker_died")


def serve(path: str) -> Callable[[str, Any, dict[str, Any]], tuple[str, str]]:
    """What a worker serves: the user's function, its result as (check, reason)."""
    import importlib

    module, _, name = path.partition(":")
    function = getattr(importlib.import_module(module), name)

    def grade(answer: str, gold: Any, row: dict[str, Any]) -> tuple[str, str]:
        found = function(answer, gold, row)
        if isinstance(found, Grade):
            return found.check.value, found.reason
        if isinstance(found, bool):
            return ("right", "own_check") if found else ("wrong", "own_check")
        raise TypeError(f"{path} must give back a bool or a Grade, not {type(found).__name__}")

    return grade
