"""What a task is: questions, and an exact check of an answer with a reason code."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from skillfactory.records import Drop, Grade, Question


class Task(Protocol):
    """A family of questions. Implementations are frozen dataclasses; their fields are the task's options."""

    @property
    def name(self) -> str:
        """The name it is known by, e.g. "countdown"."""

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels it has, the default first; ("all",) if it has but one."""

    @property
    def answer_format(self) -> str:
        """What stands between the answer tags, as a noun phrase for prompts, e.g. "one arithmetic expression"."""

    def questions(self, n: int | None, level: str, seed: int, split: str) -> Iterator[Question | Drop]:
        """The first `n` questions of a level and split ("sft", "rl" or "eval"), or all there are; unusable rows come as drops.

        Generated questions are a pure function of (seed, level, split, index), solvable by construction, and the splits
        share no canonical question, whatever the seeds. They have no end, so there `n` None is an InputError at the call.
        """

    def question(self, facts: Mapping[str, Any]) -> Question:
        """The question that `facts` describe; InputError names the missing or unusable fact, an unparseable gold included."""

    def canonical(self, question: Question) -> str:
        """What makes `question` the same as another, whatever its wording and order; equal for equal questions of a task.

        Splits and the search for contamination rest on it.
        """

    def check(self, question: Question, answer: str) -> Grade:
        """Whether `answer` (the text between the answer tags, model text) is right, with a reason code."""
