"""Laws of what a response shows: what is an attempt, what a verdict is held against, what is undefined."""

import time

import pytest

from skillfactory.records import Check
from skillfactory.skills import MAX_ATTEMPTS, Shown, shown


def judge(answer: str) -> Check:
    """7 is right, ? can't be decided."""
    return {"7": Check.RIGHT, "?": Check.UNDECIDED}.get(answer, Check.WRONG)


def sample(answer: str) -> str:
    return f"<sample>\nlet me see\n<answer>{answer}</answer>\n</sample>\n"


def reflect(word: str) -> str:
    return f"<reflect>\nchecked\n<verdict>{word}</verdict>\n</reflect>\n"


def response(*blocks: str, answer: str = "7") -> str:
    return f"<think>\n{''.join(blocks)}</think>\n\nSo it is\n\n<answer>\n{answer}\n</answer>"


def test_a_trace_shows_its_attempts_and_reflections_and_the_final_answer_is_none_of_them() -> None:
    text = response(sample("5"), reflect("Incorrect"), "Another try.\n", sample("7"), reflect("Correct"))
    assert shown(text, judge) == Shown(
        attempts=2,
        repeats=0,
        first_right=False,
        any_right=True,
        after_right=(len(text) - text.index("</answer>", text.index(">7<"))) / len(text),
        reflections=2,
        true_correct=1,
        false_correct=0,
        true_incorrect=1,
        false_incorrect=0,
        no_verdict=0,
        stopped=True,
        uses_tags=True,
        well_formed=True,
        course="w-r+",
        looped=0.0,
        blocks=(("subgoals", 0),),
        untagged=(("subgoals", 0),),
    )


def test_a_bare_answer_is_one_attempt_without_tags() -> None:
    found = shown("7 it is: <answer>7</answer>", judge)
    assert (found.attempts, found.first_right, found.reflections, found.uses_tags, found.well_formed) == (
        1,
        True,
        0,
        False,
        False,
    )
    assert found.stopped is None


@pytest.mark.parametrize("text", ["", "no idea", "<answer></answer>", "<think>\n<sample>\nhm", "<answer>7"])
def test_a_text_without_an_answer_has_no_attempt_and_nothing_right(text: str) -> None:
    found = shown(text, judge)
    assert (found.attempts, found.first_right, found.any_right, found.after_right, found.stopped) == (
        0,
        False,
        False,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("text", "attempts"),
    [
        (response(answer="7"), 1),  # nothing in the thinking: the final answer is the attempt
        (response("I get <answer>5</answer> or <answer>7</answer>."), 2),  # bare answers in the thinking
        (response(sample("5"), "So <answer>5</answer>.\n"), 1),  # the attempt's answer said again
        (response(sample("5"), answer="8"), 1),  # a final answer that no attempt gave is a slip of the copy
        (sample("5") + "<answer>5</answer>", 1),  # blocks without <think>
        (sample("5") + "no: <answer>7</answer>", 2),
        (response("<sample>\nno answer\n</sample>\n", sample("7")), 1),  # a block without an answer is no attempt
        (response("<sample>\n<answer>1</answer> no, <answer>7</answer>\n</sample>\n"), 1),  # the last of a block counts
        (response("<reflect>\nit should be <answer>7</answer>\n</reflect>\n", sample("5")), 1),  # nor is a reflection
    ],
)
def test_what_counts_as_an_attempt(text: str, attempts: int) -> None:
    assert shown(text, judge).attempts == attempts


@pytest.mark.parametrize(
    ("answer", "word", "counted"),
    [
        ("7", "Correct", "true_correct"),
        ("5", "Correct", "false_correct"),
        ("5", "incorrect", "true_incorrect"),
        ("7", "INCORRECT", "false_incorrect"),
        ("7", "maybe", "no_verdict"),
    ],
)
def test_a_verdict_is_held_against_the_attempt_before_it(answer: str, word: str, counted: str) -> None:
    found = shown(response(sample("5"), sample(answer), reflect(word), sample("8")), judge)
    names = ("true_correct", "false_correct", "true_incorrect", "false_incorrect", "no_verdict")
    assert {name: getattr(found, name) for name in names} == {name: int(name == counted) for name in names}


@pytest.mark.parametrize("before", ["", sample("?"), sample("7") + "<sample>\nno answer\n</sample>\n"])
def test_a_verdict_on_nothing_that_is_known_counts_for_no_class(before: str) -> None:
    found = shown(response(before, reflect("Correct"), sample("5")), judge)
    assert found.reflections == 1
    assert found.true_correct + found.false_correct + found.true_incorrect + found.false_incorrect == 0


def test_the_same_answer_again_is_a_repeat_whatever_its_spaces() -> None:
    assert shown(response(sample("1+4"), sample("1 + 4"), sample("7"), sample("1+4")), judge).repeats == 2


def test_going_on_after_a_verdict_correct_is_not_stopping() -> None:
    going_on = response(sample("5"), reflect("Correct"), sample("7"), reflect("Correct"))
    assert shown(going_on, judge).stopped is False
    assert shown(response(sample("5"), reflect("Incorrect"), sample("7")), judge).stopped is None
    assert shown(response(sample("5"), reflect("Correct"), reflect("Correct")), judge).stopped is True


def test_each_different_answer_is_graded_once_and_not_more_than_a_bound() -> None:
    asked: list[str] = []

    def noting(answer: str) -> Check:
        asked.append(answer)
        return Check.WRONG

    shown(response(*[sample(str(n % 3)) for n in range(50)]), noting)
    assert asked == ["0", "1", "2"]
    found = shown(response(*[sample(str(n)) for n in range(1000)]), noting)
    assert len(asked) == 3 + MAX_ATTEMPTS
    assert (found.attempts, found.repeats) == (1000, 0)


@pytest.mark.parametrize(
    "piece", ["<answer>", "<sample>", "<reflect></reflect>", "<answer>1</answer>", "</answer><answer>", "<think>"]
)
def test_hostile_text_takes_time_in_proportion_to_its_length(piece: str) -> None:
    started = time.process_time()
    shown(piece * (400_000 // len(piece)), judge)
    assert time.process_time() - started < 2
