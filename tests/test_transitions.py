"""Laws of transitions: what a course says, what led from wrong to right, and where a text loops."""

import random
import time
from collections import Counter
from itertools import pairwise

import pytest

from skillfactory.measure import COLUMNS, VERDICTS, measured
from skillfactory.records import Check
from skillfactory.skills import shown
from skillfactory.skills.loops import Loop, Rule, loops, repeated_share
from skillfactory.skills.transitions import BETWEEN, LONGEST, TURNS, Courses, ends_verified, steps, summed
from skillfactory.suites import Group

SMALL = Rule(copies=4, length=16, period=12)
LONG = Rule(copies=4, length=16, period=60)  # of which most places are searched for the short loops alone


def judge(answer: str) -> Check:
    """r is right, u can't be decided, all others are wrong."""
    return {"r": Check.RIGHT, "u": Check.UNDECIDED}.get(answer, Check.WRONG)


def written(course: str) -> str:
    """A response that takes this course."""
    words = {"+": "Correct", "-": "Incorrect", "?": "perhaps"}
    blocks = []
    for sign in course:
        if sign in words:
            blocks.append(f"<reflect>\n<verdict>{words[sign]}</verdict>\n</reflect>\n")
        else:
            answer = "" if sign == "0" else f"<answer>{sign}</answer>"
            blocks.append(f"<sample>\nhm {answer}\n</sample>\n")
    return f"<think>\n{''.join(blocks)}</think>\n\nSo\n\n<answer>\nr\n</answer>"


@pytest.mark.parametrize("course", ["w-r+", "w", "r+w-r+", "w?w-0-u-r+", "+w", "w--+r", "rrww"])
def test_a_response_is_read_back_as_the_course_that_it_took(course: str) -> None:
    assert shown(written(course), judge).course == course


def test_the_course_has_what_is_tried_in_a_second_thinking_and_not_the_final_answer_after_attempts() -> None:
    tried = "<sample>4 <answer>w</answer></sample>"
    found = shown(f"<think></think><think>{tried}</think><answer>r</answer>", judge)
    assert (found.course, found.attempts, found.first_right, found.well_formed) == ("w", 1, False, False)


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        ("", {}),
        ("w-", {}),
        ("w-r+", {("incorrect", "wrong_right"): 1}),
        ("r+w", {("correct", "right_wrong"): 1}),
        ("wr", {("none", "wrong_right"): 1}),
        ("w?r", {("none", "wrong_right"): 1}),  # a reflection without a verdict says nothing
        ("w+-r", {("incorrect", "wrong_right"): 1}),  # the last of several counts
        ("w-0-r", {}),  # an attempt without an answer stands between
        ("w-u-r", {}),  # and so does one that nobody could decide
        ("-w-w-w", {("incorrect", "wrong_wrong"): 2}),
    ],
)
def test_a_step_is_from_one_known_attempt_to_the_next_with_the_verdict_between(
    course: str, expected: dict[tuple[str, str], int]
) -> None:
    assert dict(steps(course)) == expected


def test_steps_agree_with_a_plain_count_over_random_courses() -> None:
    dice = random.Random(4)
    said = {"+": "correct", "-": "incorrect", "?": "none", "": "none"}
    is_ = {"r": "right", "w": "wrong"}
    for _ in range(300):
        pairs = [(dice.choice("rwu0"), dice.choice(["", "+", "-", "?"])) for _ in range(dice.randint(0, 8))]
        expected: Counter[tuple[str, str]] = Counter()
        for (first, sign), (second, _) in pairwise(pairs):
            if first in is_ and second in is_:
                expected[said[sign], f"{is_[first]}_{is_[second]}"] += 1
        assert steps("".join(letter + sign for letter, sign in pairs)) == expected


def test_numbers_hold_every_kind_of_transition_and_the_shares_that_follow() -> None:
    courses = Courses()
    courses.add("w-r+", False, True)
    courses.add("w-w-r+", False, True)
    courses.add("r-w+", True, False)
    courses.add("r+", True, True)
    found = courses.numbers()
    assert found["first_final"] == {"right_right": 1, "right_wrong": 1, "wrong_right": 2, "wrong_wrong": 0}
    assert {said: list(row) for said, row in found["transitions"].items()} == {said: list(TURNS) for said in BETWEEN}
    assert found["transitions"]["incorrect"] == {"right_right": 0, "right_wrong": 1, "wrong_right": 2, "wrong_wrong": 1}
    assert found["corrected"] == pytest.approx(2 / 3)
    assert found["spoiled"] == 1.0


def test_groups_are_summed_and_unknown_courses_leave_no_zero_behind() -> None:
    known, unknown = Courses(), Courses()
    known.add("w-r+", False, True)
    unknown.add(None, True, True)
    assert unknown.numbers()["transitions"] is None
    assert unknown.numbers()["corrected"] is None
    both = summed([known.numbers(), unknown.numbers()])
    assert both["first_final"] == {"right_right": 1, "right_wrong": 0, "wrong_right": 1, "wrong_wrong": 0}
    assert both["transitions"]["incorrect"]["wrong_right"] == 1


@pytest.mark.parametrize(
    ("course", "verified"), [("w-r+", True), ("w+", True), ("w+r", False), ("r-", False), ("+", False), ("", False)]
)
def test_a_response_ends_verified_if_its_last_word_on_the_last_attempt_is_correct(course: str, verified: bool) -> None:
    assert ends_verified(course) is verified


def test_a_course_has_an_end_whatever_the_text() -> None:
    assert len(shown("<think>" + "<reflect></reflect>" * 5000, judge).course) == LONGEST


def slow_loops(text: str, rule: Rule) -> bool:
    """Whether a text has a loop, found by trying every period."""
    for period in range(1, rule.period + 1):
        run = 0
        for at in range(period, len(text)):
            run = run + 1 if text[at] == text[at - period] else 0
            if run + period >= max(rule.length, rule.copies * period):
                return True
    return False


@pytest.mark.parametrize("rule", [SMALL, LONG])
def test_a_loop_is_found_exactly_where_the_rule_says_there_is_one(rule: Rule) -> None:
    dice = random.Random(7)
    found = Counter[bool]()
    for _ in range(600):
        parts = []
        for _ in range(dice.randint(1, 4)):
            unit = "".join(dice.choice("ab") for _ in range(dice.randint(1, dice.choice((6, 14, rule.period + 2)))))
            parts.append(unit * dice.randint(1, 7) + unit[: dice.randint(0, len(unit))])
        text = "".join(parts)
        expected = slow_loops(text, rule)
        found[expected] += 1
        assert bool(loops(text, rule)) is expected, text
    assert min(found.values()) > 50  # both kinds were met


def test_found_loops_stand_in_order_apart_and_repeat_what_they_say() -> None:
    dice = random.Random(9)
    for _ in range(500):
        text = "".join("".join(dice.choice("abc") for _ in range(dice.randint(1, 9))) * dice.randint(1, 9) for _ in range(5))
        end = 0
        for loop in loops(text, SMALL):
            assert loop.start >= end
            assert text[loop.start : loop.end - loop.period] == text[loop.start + loop.period : loop.end]
            assert loop.end - loop.start >= max(16, 4 * loop.period)
            end = loop.end


def test_the_same_sentence_again_and_again_is_one_loop_with_its_place() -> None:
    head, unit, tail = "Let me think about it. ", "It must be 12 then, so try 12 again. ", "No: 15."
    text = head + unit * 40 + tail
    (loop,) = loops(text)
    assert (loop.period, loop.end) == (len(unit), len(text) - len(tail))
    assert loop.start in range(len(head) - 3, len(head) + 1)  # what stands before may end alike
    assert repeated_share(text) == pytest.approx((loop.end - loop.start - loop.period) / len(text))
    assert loops(head + unit * 3 + tail) == []  # three times is no loop
    assert shown(text, judge).looped == repeated_share(text) > 0.9


def test_a_long_stretch_that_begins_alike_is_found_by_its_own_period() -> None:
    unit = "-" * 300 + " and one more row\n"
    (loop,) = loops("x" + unit * 5)
    assert loop == Loop(1, 1 + 5 * len(unit), len(unit))


def test_an_empty_text_has_no_loop() -> None:
    assert repeated_share("") == 0.0


@pytest.mark.parametrize(
    "piece", ["a", "ab" * 70 + "c", "<answer>", "a" * 63 + "b", "a" * 200 + "b" * 200, "\x00", "ab" * 499 + "ba"]
)
def test_hostile_text_takes_time_in_proportion_to_its_length(piece: str) -> None:
    dice = random.Random(1)
    mixed = "".join(piece[: dice.randint(1, len(piece))] for _ in range(min(10_000, 600_000 // len(piece))))
    started = time.process_time()
    loops(piece * (500_000 // len(piece)))
    loops(mixed * (500_000 // len(mixed)))
    assert time.process_time() - started < 2


def row(**known: object) -> dict[str, object]:
    """A stored response as evaluations kept it before there were courses and loops."""
    made: dict[str, object] = dict.fromkeys(name for name in COLUMNS if name not in ("course", "looped", "blocks", "untagged"))
    made |= dict.fromkeys(VERDICTS, 0) | {"group": "g", "question_id": "q", "check": "right", "stop": "end", "tokens": 100}
    return made | {"first_right": False, "after_right": 0.25} | known


def test_evaluations_hold_the_numbers_of_steps_ends_and_loops() -> None:
    rows = [row(course="w-r+", looped=0.0), row(course="w-w-", looped=0.5, check="wrong", stop="length", after_right=None)]
    found = measured([Group("g", "harder", "countdown")], rows, {})
    for numbers in (found["groups"][0], found["kinds"][0]):
        assert (numbers["ends_verified"], numbers["loops"], numbers["looped"]) == (0.5, 0.5, 0.25)
        assert numbers["tokens_after_right"] == 25
        assert numbers["first_final"] == {"right_right": 0, "right_wrong": 0, "wrong_right": 1, "wrong_wrong": 1}
        assert numbers["transitions"]["incorrect"] == {"right_right": 0, "right_wrong": 0, "wrong_right": 1, "wrong_wrong": 1}
        assert (numbers["corrected"], numbers["spoiled"]) == (0.5, None)


def test_an_evaluation_without_courses_says_that_it_knows_nothing_of_them() -> None:
    (numbers,) = measured([Group("g", "harder", "countdown")], [row()], {})["groups"]
    assert [numbers[name] for name in ("transitions", "corrected", "ends_verified", "loops", "looped")] == [None] * 5
    assert numbers["first_final"]["wrong_right"] == 1
