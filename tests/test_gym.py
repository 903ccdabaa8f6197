"""reasoning-gym: reproducible questions, disjoint splits, and scorers that can't hurt us."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from skillfactory.errors import ConfigError, InputError
from skillfactory.records import Check, Drop, Grade, Question
from skillfactory.tasks.gym import Gym
from skillfactory.tasks.sandbox import Returned, Sandbox

LEGS = Gym("leg_counting")


@pytest.fixture(scope="module")
def another_worker() -> Iterator[Sandbox]:
    with Sandbox("skillfactory.tasks.gym:serve", fresh=True) as sandbox:
        yield sandbox


def read(task: Gym, n: int, split: str = "sft", seed: int = 0) -> list[Question]:
    return [item for item in task.questions(n, "all", seed, split) if isinstance(item, Question)]


def test_questions_depend_on_seed_split_and_index_alone() -> None:
    assert read(LEGS, 6)[:3] == read(LEGS, 3)
    assert LEGS.question(json.loads(json.dumps(dict(read(LEGS, 1)[0].facts)))) == read(LEGS, 1)[0]
    assert read(LEGS, 3, seed=1) != read(LEGS, 3)


@pytest.mark.parametrize("name", ["word_ladder", "isomorphic_strings", "ransom_note", "polynomial_multiplication"])
def test_every_worker_makes_the_same_question_of_a_seed(name: str, another_worker: Sandbox) -> None:
    for seed in range(2):
        question = Gym(name).question({"seed": seed})
        assert another_worker.call(name, "{}", "entry", seed, "", "") == Returned([question.facts["question"], question.answer])


def test_neighbouring_seeds_share_no_question() -> None:
    keys = [LEGS.canonical(q) for seed in (0, 1, 2) for q in read(LEGS, 10, seed=seed)]
    assert len(set(keys)) == 30


def test_splits_are_disjoint_across_seeds_even_where_there_are_few_questions() -> None:
    small = Gym("basic_arithmetic", {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1})
    keys = {
        split: {small.canonical(q) for seed in (0, 1) for q in read(small, 5, split, seed)} for split in ("sft", "rl", "eval")
    }
    assert not keys["sft"] & keys["rl"] | keys["sft"] & keys["eval"] | keys["rl"] & keys["eval"]
    assert min(map(len, keys.values())) >= 5


def test_a_data_set_that_runs_out_drops_what_is_missing() -> None:
    tiny = Gym("coin_flip", {"min_trials": 1, "max_trials": 1})
    items = list(tiny.questions(12, "all", 0, "eval"))
    assert len(items) == 12
    drops = [item for item in items if isinstance(item, Drop)]
    assert drops
    assert {drop.reason for drop in drops} == {"no_new_question"}


@pytest.mark.parametrize("name", ["leg_counting", "n_queens", "graph_color", "word_ladder", "polynomial_multiplication"])
def test_gold_scores_right_and_spoiled_gold_does_not(name: str) -> None:
    task = Gym(name)
    (question,) = read(task, 1)
    assert task.check(question, question.answer) == Grade(Check.RIGHT, "score_1")
    assert task.check(question, question.answer + " 7").check is Check.WRONG
    assert task.check(question, f"It is {question.answer}, I think").check is Check.WRONG
    assert task.check(question, " ") == Grade(Check.MISSING, "empty")
    assert task.check(question, "1" * 30_000) == Grade(Check.WRONG, "too_long")


def test_a_scorer_that_evaluates_answers_reaches_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.write_text("intact")
    task = Gym("string_insertion")
    (question,) = read(task, 1)
    for attack in [
        f"__import__('os').system('rm {mark}')",
        f"__import__('pathlib').Path('{mark}').unlink()",
        f"open('{mark}', 'w').write('x')",
        "setattr(__import__('reasoning_gym').dataset.ProceduralDataset, 'score_answer', lambda *a: 1.0)",
        "__import__('os')._exit(0)",
        "[__import__('os').write(d, b'{\"value\": 1.0}\\n') for d in range(3, 9)]",
    ]:
        assert task.check(question, attack).check is not Check.RIGHT
    assert mark.read_text() == "intact"
    assert task.check(question, "nothing").check is Check.WRONG
    assert task.check(question, question.answer).check is Check.RIGHT


def test_a_scorer_that_hangs_is_undecided() -> None:
    task = Gym("string_insertion", timeout=0.5)
    (question,) = read(task, 1)
    assert task.check(question, "9**9**9") == Grade(Check.UNDECIDED, "timeout")


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="use the task 'countdown', which has its own verifier"):
        Gym("countdown")
    with pytest.raises(ConfigError, match="unknown data set of reasoning-gym 'leg_count'; did you mean 'leg_counting'"):
        read(Gym("leg_count"), 1)
    with pytest.raises(ConfigError, match="unexpected keyword argument 'legs'"):
        read(Gym("leg_counting", {"legs": 3}), 1)
    with pytest.raises(ConfigError, match="'seed' is derived"):
        Gym("leg_counting", {"seed": 3})
    with pytest.raises(InputError, match="say how many questions you want"):
        LEGS.questions(None, "all", 0, "sft")
    with pytest.raises(InputError, match="is another question here; was it made by another version or config"):
        LEGS.question({"seed": 1, "question": "How many legs has a table?"})
    with pytest.raises(InputError, match="the fact 'seed' is missing"):
        LEGS.question({"answer": "4"})
