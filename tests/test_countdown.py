import ast
import json
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillfactory.errors import ConfigError, InputError
from skillfactory.records import Check, Grade
from skillfactory.tasks.countdown import MAX_CHARS, WORLDS, Countdown

TASK = Countdown()
CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "cases/countdown.json").read_text())

Solved = tuple[Fraction, str]


def grade(facts: dict[str, Any], answer: str) -> Grade:
    return TASK.check(TASK.question(facts), answer)


def joined(left: Solved, operator: str, right: Solved) -> Solved | None:
    """The fully parenthesised combination and its exact value; None for a division by zero."""
    a, b = left[0], right[0]
    if operator == "/" and b == 0:
        return None
    value = {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[operator]()
    return value, f"({left[1]} {operator} {right[1]})"


def everything_from(numbers: tuple[int, ...]) -> Iterator[Solved]:
    """Every way to combine all `numbers`, by brute force: any ordered pair, any operator, until one is left."""

    def combine(parts: list[Solved]) -> Iterator[Solved]:
        if len(parts) == 1:
            yield parts[0]
            return
        for i, j in product(range(len(parts)), repeat=2):
            if i == j:
                continue
            others = [part for k, part in enumerate(parts) if k not in (i, j)]
            for operator in "+-*/":
                made = joined(parts[i], operator, parts[j])
                if made is not None:
                    yield from combine([*others, made])

    yield from combine([(Fraction(number), str(number)) for number in numbers])


@pytest.mark.parametrize("case", CASES, ids=[ascii(case["answer"][:40]) for case in CASES])
def test_an_answer_is_graded_as_the_table_says(case: dict[str, Any]) -> None:
    assert grade(case["facts"], case["answer"]) == Grade(Check(case["check"]), case["reason"])


def test_every_expression_that_brute_force_finds_is_graded_as_its_value_says() -> None:
    random = Random(1)
    graded = 0
    for size in (2, 3, 3, 4):
        numbers = tuple(random.randint(1, 12) for _ in range(size))
        found = list(everything_from(numbers))
        target = random.choice([int(value) for value, _ in found if value.denominator == 1 and value > 0])
        for use_all in (False, True):
            question = TASK.question({"numbers": list(numbers), "target": target, "use_all": use_all})
            for value, expression in found:
                wanted = Check.RIGHT if value == target else Check.WRONG
                assert TASK.check(question, expression).check is wanted, (numbers, target, expression)
                graded += 1
    assert graded > 5_000


def test_a_question_is_solved_by_brute_force_too() -> None:
    for question in TASK.questions(20, "mini", seed=3, split="rl"):
        values = {value for value, _ in everything_from(tuple(question.facts["numbers"]))}
        assert question.facts["target"] in values


@pytest.mark.parametrize("task", [Countdown(), Countdown(use_all=True), Countdown(numbers=(1, 9), targets=(20, 30))])
@pytest.mark.parametrize("level", TASK.levels)
def test_the_gold_answer_is_right_and_every_spoiled_one_is_not(task: Countdown, level: str) -> None:
    for question in task.questions(40, level, seed=0, split="sft"):
        facts = question.facts
        assert task.check(question, question.answer).check is Check.RIGHT
        assert task.check(question, str(facts["target"])).reason == "number_not_given"
        assert task.check(question, f"{question.answer} = {facts['target']}").reason == "equals_sign"
        assert task.check(question, f"{question.answer} + {facts['numbers'][0]}").reason == "number_reused"
        assert task.check(question, f"{question.answer} - 1000000").reason == "number_not_given"
        assert task.check(question, question.answer[:-1]).check is Check.WRONG
        assert task.check(question, f"({question.answer}").reason == "syntax"


@pytest.mark.parametrize("level", TASK.levels)
def test_a_level_keeps_to_its_ranges_and_its_target_is_none_of_the_numbers(level: str) -> None:
    world = WORLDS[level]
    for question in TASK.questions(200, level, seed=5, split="eval"):
        numbers, target = question.facts["numbers"], question.facts["target"]
        assert len(numbers) == world.size
        assert all(world.numbers[0] <= number <= world.numbers[1] for number in numbers)
        assert world.targets[0] <= target <= world.targets[1]
        assert target not in numbers


OPERATIONS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def results(node: ast.expr) -> Iterator[Fraction]:
    """The value of every step of an expression, as Python's grammar groups it, the last step last."""
    if isinstance(node, ast.BinOp):
        left, right = list(results(node.left)), list(results(node.right))
        made = joined(
            (left[-1] if left else number(node.left), ""),
            OPERATIONS[type(node.op)],
            (right[-1] if right else number(node.right), ""),
        )
        assert made is not None
        yield from (*left, *right, made[0])


def number(node: ast.expr) -> Fraction:
    """The value of a number."""
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int)
    return Fraction(node.value)


@pytest.mark.parametrize("level", [level for level in TASK.levels if WORLDS[level].most])
def test_no_step_of_a_mini_solution_passes_99_as_it_reads_and_all_are_whole(level: str) -> None:
    seen: list[Fraction] = []
    for question in TASK.questions(400, level, seed=1, split="rl"):
        steps = list(results(ast.parse(question.answer, mode="eval").body))
        assert steps[-1] == question.facts["target"]
        seen += steps
    assert max(seen) <= 99
    assert all(step.denominator == 1 for step in seen)


def test_a_larger_target_lifts_the_limit_of_a_mini_level() -> None:
    task = Countdown(targets=(500, 600), numbers=(1, 99))
    assert all(500 <= question.facts["target"] <= 600 for question in task.questions(20, "mini", seed=0, split="sft"))


def test_options_take_the_place_of_the_ranges_of_the_level() -> None:
    for question in Countdown(numbers=(2, 5), targets=(6, 20)).questions(50, "4", seed=0, split="sft"):
        assert all(2 <= number <= 5 for number in question.facts["numbers"])
        assert 6 <= question.facts["target"] <= 20


def test_ranges_that_leave_no_question_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"no sft question of countdown \(level 3\).*widen its ranges"):
        list(Countdown(numbers=(1, 1), targets=(900, 900)).questions(1, "3", seed=0, split="sft"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numbers": (5, 2)}, "'numbers' must be two numbers, 1 <= low <= high"),
        ({"numbers": (0, 2)}, "'numbers' must be two numbers"),
        ({"targets": (1,)}, "'targets' must be two numbers"),
        ({"targets": 12}, "'targets' must be two numbers.*the int 12"),
        ({"use_all": "yes"}, "'use_all' must be true or false, not the str 'yes'"),
    ],
)
def test_an_unusable_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Countdown(**options)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"target": 5}, r"the fact 'numbers' is missing \(found: target\)"),
        ({"numbers": [1, 2]}, r"the fact 'target' is missing \(found: numbers\)"),
        ({}, r"'numbers' is missing \(found: none\)"),
        ({"numbers": "1 2", "target": 5}, "'numbers' must be a list, not the str '1 2'"),
        ({"numbers": [], "target": 5}, "'numbers' must hold 1 to 16 entries, not 0"),
        ({"numbers": [1] * 17, "target": 5}, "'numbers' must hold 1 to 16 entries, not 17"),
        ({"numbers": [1, 2.0], "target": 5}, r"'numbers' must be a whole number, not the float 2\.0"),
        ({"numbers": [1, True], "target": 5}, "'numbers' must be a whole number, not the bool True"),
        ({"numbers": [1, -2], "target": 5}, "'numbers' must be from 0 to 999,999,999, not the int -2"),
        ({"numbers": [1, 2], "target": "5"}, "'target' must be a whole number, not the str '5'"),
        ({"numbers": [1, 2], "target": 10**5000}, "'target' must be from .* not an int of more than 40 digits"),
        ({"numbers": [1, 2], "target": float("nan")}, "'target' must be a whole number, not the float nan"),
        ({"numbers": [1, 2], "target": 3, "use_all": 1}, "'use_all' must be true or false, not the int 1"),
    ],
)
def test_unusable_facts_are_refused_by_name(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TASK.question(facts)


def test_the_order_of_the_numbers_does_not_make_another_question() -> None:
    facts = {"numbers": [7, 3, 5], "target": 56}
    again = {"numbers": [5, 7, 3], "target": 56, "use_all": True}
    other = {"numbers": [5, 7, 3], "target": 57}
    assert TASK.canonical(TASK.question(facts)) == TASK.canonical(TASK.question(again))
    assert TASK.canonical(TASK.question(facts)) != TASK.canonical(TASK.question(other))


leaves = st.integers(0, 60).map(lambda n: (Fraction(n), str(n), [n]))
Tree = tuple[Fraction, str, list[int]]
PRINTED = {"+": "+", "-": "-−", "*": "*×x", "/": "/÷"}


@st.composite
def branches(draw: st.DrawFn, children: st.SearchStrategy[Tree]) -> Tree:
    """Two trees under an operator, blanks and redundant parentheses thrown in at random."""
    left, right = draw(children), draw(children)
    operator = draw(st.sampled_from("+-*/" if right[0] != 0 else "+-*"))
    made = joined(left[:2], operator, right[:2])
    assert made is not None
    symbol = draw(st.sampled_from(PRINTED[operator]))
    blank = draw(st.sampled_from(["", " ", "\n", "\t  "]))
    text = f"({left[1]}{blank}{symbol}{blank}{right[1]})"
    return made[0], f"({text})" if draw(st.booleans()) else text, left[2] + right[2]


trees = st.recursive(leaves, branches, max_leaves=6)


@settings(deadline=None, max_examples=150)
@given(tree=trees)
def test_a_random_tree_has_the_value_that_exact_fractions_give(tree: Tree) -> None:
    value, text, numbers = tree
    if len(text) > MAX_CHARS:
        return
    whole = value.denominator == 1 and abs(value) < 10**11
    target = int(value) if whole else 1
    assert grade({"numbers": numbers, "target": target}, text).check is (Check.RIGHT if whole else Check.WRONG)
    assert grade({"numbers": numbers, "target": target + 1}, text).reason == "wrong_value"
    if len(numbers) > 1:
        assert grade({"numbers": numbers[1:], "target": target}, text).reason in ("number_not_given", "number_reused")
    used = grade({"numbers": [*numbers, 61], "target": target, "use_all": True}, text)
    assert used.reason == "number_unused"


@settings(deadline=None, max_examples=300)
@given(text=st.one_of(st.text(), st.text(alphabet="0123456789+-*/x×÷−() .=!^", max_size=60)))
def test_random_text_never_raises_and_an_impossible_target_is_never_right(text: str) -> None:
    facts = {"numbers": [1, 2, 3], "target": 1_000_003}
    assert grade(facts, text).check in (Check.WRONG, Check.MISSING)


@pytest.mark.parametrize(
    "attack",
    [
        "1" * 10_000_000,
        " " * 10_000_000,
        "(" * 100_000,
        "9**9**9**9",
        "9" * MAX_CHARS,
        "(" * MAX_CHARS,
        "(" * 127 + "9" + ")" * 127,
        "9*" * 127 + "9",
        "\x00" * MAX_CHARS,
        "９" * MAX_CHARS,
        "\ud800" * MAX_CHARS,
        "/".join(["999999999"] * 16),
        "(" * 47 + "-".join(["999999999/999999999)"] * 8),
    ],
    ids=lambda attack: ascii(attack[:12]),
)
def test_no_input_takes_a_millisecond(attack: str) -> None:
    question = TASK.question({"numbers": [999_999_999] * 16, "target": 1, "use_all": True})

    def seconds() -> float:
        start = time.process_time()
        TASK.check(question, attack)
        return time.process_time() - start

    assert min(seconds() for _ in range(5)) < 1e-3
