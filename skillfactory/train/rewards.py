"""The reward of a response: 1 if the task's check finds its final answer right, else 0; the rest is a choice."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from skillfactory.errors import InputError
from skillfactory.markup import final_answer
from skillfactory.records import Check, Question
from skillfactory.skills import shown
from skillfactory.tasks.base import Task


class Outcome(StrEnum):
    """What became of a response."""

    RIGHT = "right"
    WRONG = "wrong"
    MALFORMED = "malformed"  # it ended, and has no final answer
    CUT_OFF = "cut_off"  # the token limit ended it, whatever it holds
    UNDECIDED = "undecided"  # the check could not tell: it ran out of time, say


Treatment = Literal["zero", "mask"]


@dataclass(frozen=True)
class Rewards:
    """What responses get that can't be graded; a right final answer gets 1, any other 0."""

    truncated: Treatment = field(
        default="zero",
        metadata={"help": "a response that the token limit cut off: zero is reward 0, mask leaves it out of the loss too"},
    )
    malformed: Treatment = field(
        default="zero", metadata={"help": "a response that ended without a final answer: reward 0, or out of the loss too"}
    )

    def masks(self, outcome: Outcome) -> bool:
        """Whether responses of an outcome stay out of the loss. In their group's mean they count with their reward."""
        if outcome is Outcome.CUT_OFF:
            return self.truncated == "mask"
        return outcome is Outcome.MALFORMED and self.malformed == "mask"


@dataclass(frozen=True, slots=True)
class Judged:
    """What a response is worth and what it shows."""

    reward: float | None  # None: it could not be graded, and counts nowhere
    outcome: Outcome
    reason: str
    answers: int  # attempts with an explicit answer
    reflections: int


def judged(task: Task, question: Question, text: str, ended: bool) -> Judged:
    """The judgement on a response; `ended` says that the model ended its turn itself.

    An error in the task's own check goes through, and InputError tells of one in a grader of the user's: scored 0, it would
    teach the model to please the error.
    """
    seen = shown(text, lambda _: Check.UNDECIDED)
    outcome, reason = _outcome(task, question, text, ended)
    reward = None if outcome is Outcome.UNDECIDED else float(outcome is Outcome.RIGHT)
    return Judged(reward, outcome, reason, seen.attempts, seen.reflections)


def _outcome(task: Task, question: Question, text: str, ended: bool) -> tuple[Outcome, str]:
    if not ended:
        return Outcome.CUT_OFF, "cut_off"
    answer, reason = final_answer(text)
    if answer is None:
        return Outcome.MALFORMED, reason
    grade = task.check(question, answer)
    if grade.reason.startswith("raised_"):
        raise InputError(
            f"the grader of the task {task.name} raised {grade.reason.removeprefix('raised_')} on the question {question.id} "
            f"and the answer {answer[:200]!r}; mend it, so that it gives a grade for any text"
        )
    if grade.check is Check.UNDECIDED:
        return Outcome.UNDECIDED, grade.reason
    return (Outcome.RIGHT if grade.check is Check.RIGHT else Outcome.WRONG), grade.reason
