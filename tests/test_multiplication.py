import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillfactory.errors import InputError
from skillfactory.records import Check, Grade
from skillfactory.tasks.multiplication import MAX_FACTOR, Multiplication

TASK = Multiplication()
CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "cases/multiplication.json").read_text())
factors = st.integers(0, MAX_FACTOR)


@pytest.mark.parametrize("case", CASES, ids=[ascii(case["answer"][:40]) for case in CASES])
def test_an_answer_is_graded_as_the_table_says(case: dict[str, Any]) -> None:
    assert TASK.check(TASK.question(case["facts"]), case["answer"]) == Grade(Check(case["check"]), case["reason"])


@pytest.mark.parametrize("level", TASK.levels)
def test_the_gold_answer_is_right_and_every_spoiled_one_is_not(level: str) -> None:
    for question in TASK.questions(300, level, seed=0, split="sft"):
        a, b = question.facts["factors"]
        digits = (len(str(a)), len(str(b)))
        assert digits == (2, 1) if level == "mini" else digits == (int(level), int(level))
        assert TASK.check(question, question.answer).check is Check.RIGHT
        assert TASK.check(question, f"{int(question.answer):,}").check is Check.RIGHT
        for spoiled in (question.answer[:-1], question.answer + "0", str(a * b + 1), str(a * b - 10), str(a + b)):
            assert TASK.check(question, spoiled).reason == "wrong_value"
        for spoiled in ("0" + question.answer, question.answer + ".0", f"{a} * {b}", f"-{question.answer}"):
            assert TASK.check(question, spoiled).reason == "not_an_integer"


@settings(deadline=None, max_examples=200)
@given(a=factors, b=factors, answer=st.one_of(st.text(), st.integers().map(str), st.integers().map("{:,}".format)))
def test_an_answer_is_right_only_if_it_reads_as_the_product(a: int, b: int, answer: str) -> None:
    question = TASK.question({"factors": [a, b]})
    read = answer.strip(" \t\r\n") in (str(a * b), f"{a * b:,}")
    assert (TASK.check(question, answer).check is Check.RIGHT) == read
    assert TASK.check(question, str(a * b)).check is Check.RIGHT


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, r"multiplication: the fact 'factors' is missing \(found: none\)"),
        ({"factors": 12}, "'factors' must be a list, not the int 12"),
        ({"factors": [12]}, "'factors' must hold 2 to 2 entries, not 1"),
        ({"factors": [12, "34"]}, "'factors' must be a whole number, not the str '34'"),
        ({"factors": [12, -34]}, "'factors' must be from 0 to 999,999,999,999, not the int -34"),
        ({"factors": [12, 10**5000]}, "'factors' must be from .* not an int of more than 40 digits"),
    ],
)
def test_unusable_facts_are_refused_by_name(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TASK.question(facts)


def test_swapped_factors_are_the_same_question() -> None:
    one, other = TASK.question({"factors": [12, 34]}), TASK.question({"factors": [34, 12]})
    assert TASK.canonical(one) == TASK.canonical(other)
    assert TASK.canonical(one) != TASK.canonical(TASK.question({"factors": [12, 35]}))


@pytest.mark.parametrize("attack", ["1" * 10_000_000, " " * 10_000_000, "9" * 64, "1" + ",000" * 15, "1" + ",000" * 15 + "x"])
def test_no_input_takes_a_millisecond(attack: str) -> None:
    question = TASK.question({"factors": [MAX_FACTOR, MAX_FACTOR]})

    def seconds() -> float:
        start = time.process_time()
        TASK.check(question, attack)
        return time.process_time() - start

    assert min(seconds() for _ in range(5)) < 1e-3
