"""Multiple choice: the strict reading of a letter, and the two public schemas."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from skillfactory.errors import ConfigError, InputError
from skillfactory.records import Check, Drop, Grade, Question
from skillfactory.tasks.choice import GPQA, Choice, CommonsenseQA, letter_grade

DATA = Path(__file__).parent / "data"
CASES = json.loads((Path(__file__).parent / "cases" / "choice.json").read_text(encoding="utf-8"))
COMMONSENSE = CommonsenseQA(source=str(DATA / "commonsense_qa"))
SCIENCE = GPQA(source=str(DATA / "gpqa_diamond.csv"))


def read(task: Choice, split: str, seed: int = 0) -> tuple[list[Question], Counter[str]]:
    """The questions of a split and the drops by reason."""
    items = list(task.questions(None, "all", seed, split))
    return [i for i in items if isinstance(i, Question)], Counter(i.reason for i in items if isinstance(i, Drop))


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case["answer"])[:30]) for case in CASES])
def test_a_letter_is_read_as_the_table_says(case: dict[str, Any]) -> None:
    assert letter_grade(case["gold"], case["answer"], case["choices"]) == Grade(Check(case["check"]), case["reason"])


def test_a_long_answer_is_not_read() -> None:
    assert letter_grade("A", "A" + " " * 1_000_000, []) == Grade(Check.WRONG, "too_long")


@pytest.mark.parametrize("task", [COMMONSENSE, SCIENCE], ids=lambda task: task.name)
def test_gold_scores_right_and_every_other_letter_does_not(task: Choice) -> None:
    questions, _ = read(task, "eval")
    assert questions
    for question in questions:
        choices = question.facts["choices"]
        right = [letter for letter in "ABCDE"[: len(choices)] if task.check(question, letter).check is Check.RIGHT]
        assert right == [question.answer]
        assert all(f"{letter}. {choice}\n" in question.prompt for letter, choice in zip("ABCDE", choices, strict=False))
        assert "the letter of one option, inside <answer> and </answer>" in question.prompt
        assert task.question(json.loads(json.dumps(dict(question.facts)))) == question


def test_commonsenseqa_takes_its_validation_split_for_evaluation_and_drops_rows_without_a_key() -> None:
    evaluation, _ = read(COMMONSENSE, "eval")
    assert [q.answer for q in evaluation] == ["B", "E"]
    parts = [read(COMMONSENSE, split) for split in ("sft", "rl")]
    assert sum(len(questions) for questions, _ in parts) == 3
    assert all(drops == {"no_gold": 1} for _, drops in parts)


def test_gpqa_shuffles_the_options_by_seed_and_record_and_stays_the_same_question() -> None:
    orders = set()
    for seed in range(20):
        questions, drops = read(SCIENCE, "eval", seed)
        assert drops == {"bad_choices": 1}
        assert [q.facts["choices"]["ABCD".index(q.answer)] for q in questions] == ["gluon", "24", "uracil"]
        orders.add(tuple(q.answer for q in questions))
        assert read(SCIENCE, "eval", seed)[0] == questions
    assert len(orders) > 5
    (one, *_), (other, *_) = read(SCIENCE, "eval", 0)[0], read(SCIENCE, "eval", 3)[0]
    assert one.facts["choices"] != other.facts["choices"]
    assert one.id != other.id
    assert SCIENCE.canonical(one) == SCIENCE.canonical(other)


def test_gpqa_is_for_evaluation_only() -> None:
    with pytest.raises(ConfigError, match="gpqa is a benchmark: it has the split 'eval' only, as training on it"):
        SCIENCE.questions(1, "all", 0, "rl")


def test_a_gold_that_is_no_letter_of_an_option_is_refused() -> None:
    assert COMMONSENSE.question({"answer": "c"}).answer == "C"
    for facts in ({"answer": "F", "choices": ["x", "y"]}, {"answer": "oven"}, {"answer": ""}):
        with pytest.raises(InputError, match="commonsenseqa: bad_gold"):
            COMMONSENSE.question(facts)
