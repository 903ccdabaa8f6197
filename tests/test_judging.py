"""Laws of grading: each answer is asked for once, and a response full of what hangs a verifier costs a bounded time."""

from functools import partial

from easy_task import Sevens

from skillfactory.examination import Evaluated, Examination, respond
from skillfactory.flow import Completion, Sampling
from skillfactory.records import Check, Grade, Question, Stop
from skillfactory.tasks.judging import MAX_LOST, NOT_ASKED, Judging


class Hanging(Sevens):
    """A task whose verifier runs out of time over what begins with an h."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check(self, question: Question, answer: str) -> Grade:
        """The grade of Sevens, or undecided."""
        self.asked.append(answer)
        return Grade(Check.UNDECIDED, "timeout") if answer.startswith("h") else super().check(question, answer)


def trace(attempts: list[str], final: str) -> str:
    blocks = [f"<sample>\n<answer>{answer}</answer>\n</sample>\n" for answer in attempts]
    return "".join(["<think>\n", *blocks, f"</think>\n\nSo.\n\n<answer>\n{final}\n</answer>"])


def evaluated(task: Hanging, *texts: str) -> Evaluated:
    flow = respond(task.question({"left": 2, "right": 3}), Examination("g", task, len(texts), Sampling(), Sampling()))
    asked = next(flow)
    try:
        flow.send([Completion(each.key, text, Stop.END, 5, 5, 10) for each, text in zip(asked, texts, strict=True)])
    except StopIteration as end:
        found: Evaluated = end.value
        return found
    raise AssertionError("there are no retries")


def test_a_question_loses_the_verifier_to_its_attempts_a_few_times_only() -> None:
    task = Hanging()
    hostile, honest = evaluated(task, trace([f"h{n}" for n in range(200)], "7"), trace(["5", "7"], "17")).responses
    assert sum(answer.startswith("h") for answer in task.asked) == MAX_LOST
    assert (hostile.check, hostile.reason, hostile.skills.attempts) == (Check.RIGHT, "seven", 200)
    assert set(hostile.skills.course) == {"u"}
    assert (honest.check, honest.skills.course) == (Check.RIGHT, "ur"), "5 isn't asked for any more; 7 is known"


def test_a_final_answer_is_always_asked_for() -> None:
    task = Hanging()
    texts = [trace([], f"h{n}") for n in range(MAX_LOST + 1)]
    found = evaluated(task, *texts, trace([], "7")).responses
    assert [each.reason for each in found] == ["timeout"] * (MAX_LOST + 1) + ["seven"]


def test_each_answer_is_asked_for_once_and_what_the_verifier_leaves_undecided_at_once_is_no_loss() -> None:
    asked: list[str] = []

    def check(answer: str) -> Grade:
        asked.append(answer)
        return Grade(Check.UNDECIDED, "raised_ValueError")

    judge = Judging(check)
    for ask in (judge.attempt, judge, judge.attempt):
        assert [ask(str(n)).reason for n in range(20)] == ["raised_ValueError"] * 20
    assert asked == [str(n) for n in range(20)]
    task = Hanging()
    lost = Judging(partial(task.check, task.question({"left": 2, "right": 3})))
    assert [lost.attempt(f"h{n}") for n in range(9)][MAX_LOST:] == [NOT_ASKED] * (9 - MAX_LOST)
