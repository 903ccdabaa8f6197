"""The reward is the task's check of the final answer, for responses that ended; everything else has a name of its own."""

import pytest
from easy_task import Broken

from skillfactory.errors import InputError
from skillfactory.records import Check, Grade, Question
from skillfactory.tasks.countdown import Countdown
from skillfactory.train.rewards import Outcome, Rewards, judged

TASK = Countdown()
QUESTION = TASK.question({"numbers": [3, 5, 7], "target": 15})
RIGHT = "<think>\n<sample>\n<answer>3 * 5</answer>\n</sample>\n<reflect>\n<verdict>Correct</verdict>\n</reflect>\n</think>\n"


@pytest.mark.parametrize(
    ("text", "outcome", "reward"),
    [
        ("<answer>3 * 5</answer>", Outcome.RIGHT, 1.0),
        (f"{RIGHT}<answer>3 * 5</answer>", Outcome.RIGHT, 1.0),
        (f"{RIGHT}<answer>3 + 5</answer>", Outcome.WRONG, 0.0),
        ("<answer>3 * 5</answer> or <answer>7</answer>", Outcome.WRONG, 0.0),
        (RIGHT, Outcome.MALFORMED, 0.0),
        ("<think><answer>3 * 5</answer>", Outcome.MALFORMED, 0.0),
        ("3 * 5", Outcome.MALFORMED, 0.0),
        ("", Outcome.MALFORMED, 0.0),
        ("<answer>__import__('os').system('true')</answer>", Outcome.WRONG, 0.0),
        ("<answer>" + "9**" * 50_000 + "9</answer>", Outcome.WRONG, 0.0),
    ],
)
def test_the_reward_is_the_check_of_the_final_answer(text: str, outcome: Outcome, reward: float) -> None:
    found = judged(TASK, QUESTION, text, ended=True)
    assert (found.outcome, found.reward) == (outcome, reward)


def test_a_response_that_was_cut_off_gets_nothing_even_with_a_right_answer() -> None:
    found = judged(TASK, QUESTION, "<answer>3 * 5</answer> and", ended=False)
    assert (found.outcome, found.reward) == (Outcome.CUT_OFF, 0.0)


def test_answers_and_reflections_are_counted() -> None:
    found = judged(TASK, QUESTION, f"{RIGHT}<answer>3 * 5</answer>", ended=True)
    assert (found.answers, found.reflections) == (1, 1)


def test_a_bug_in_a_check_goes_through() -> None:
    with pytest.raises(KeyError, match="a bug of the check"):
        judged(Broken(), Broken().question({"left": 1, "right": 2}), "<answer>1</answer>", ended=True)


class _Undecided(Broken):
    reason = "timeout"

    def check(self, question: Question, answer: str) -> Grade:
        return Grade(Check.UNDECIDED, self.reason)


class _Raising(_Undecided):
    reason = "raised_ZeroDivisionError"


def test_what_a_check_cannot_decide_counts_neither_way() -> None:
    task = _Undecided()
    found = judged(task, task.question({"left": 1, "right": 2}), "<answer>1</answer>", ended=True)
    assert (found.outcome, found.reward, found.reason) == (Outcome.UNDECIDED, None, "timeout")


def test_a_grader_of_the_users_that_raises_stops_the_training() -> None:
    task = _Raising()
    with pytest.raises(InputError, match="the grader of the task broken raised ZeroDivisionError on the question sevens-1"):
        judged(task, task.question({"left": 1, "right": 2}), "<answer>1</answer>", ended=True)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_what_is_asked_for_is_masked(outcome: Outcome) -> None:
    assert not Rewards().masks(outcome)
    assert Rewards(truncated="mask").masks(outcome) is (outcome is Outcome.CUT_OFF)
    assert Rewards(malformed="mask").masks(outcome) is (outcome is Outcome.MALFORMED)
