from collections import Counter
from typing import Any

import pytest

from skillfactory.errors import ConfigError, InputError
from skillfactory.records import Drop, Question
from skillfactory.tasks import resolve
from skillfactory.tasks.generated import SHARES, SPLITS, split_of

# items per (seed, split): with 2 seeds and 3 splits more than 100,000 in all
PLAN = {
    ("countdown", "mini"): 1_500,
    ("countdown", "3"): 1_500,
    ("countdown", "6"): 500,
    ("countdown", "mini-6"): 500,
    ("letter_countdown", "4"): 2_500,
    ("letter_countdown", "5"): 2_000,
    ("acronym", "4"): 1_500,
    ("acronym", "mini"): 500,
    ("letter_countdown", "mini"): 500,
    ("multiplication", "2"): 4_000,
    ("multiplication", "5"): 4_000,
    ("multiplication", "mini"): 500,
}
GENERATED = ("countdown", "letter_countdown", "acronym", "multiplication")


def items(name: str, level: str, n: int, seed: int, split: str) -> list[Question]:
    found = list(resolve(name).questions(n, level, seed, split))
    assert not any(isinstance(item, Drop) for item in found)
    return [item for item in found if isinstance(item, Question)]


def test_no_canonical_question_of_one_split_is_in_another_over_100_000_items() -> None:
    home: dict[str, str] = {}
    total = 0
    for (name, level), n in PLAN.items():
        task = resolve(name)
        for seed in (0, 1):
            for split in SPLITS:
                for question in items(name, level, n, seed, split):
                    assert home.setdefault(task.canonical(question), split) == split, question
                    total += 1
    assert total >= 100_000
    assert set(home.values()) == set(SPLITS)
    assert 60_000 < len(home) < total  # some questions did come up again


def test_the_shares_of_the_splits_are_as_stated() -> None:
    counts = Counter(split_of(f"question {i}") for i in range(20_000))
    for split, share in SHARES.items():
        assert abs(counts[split] / 200 - share) < 1.5


def test_options_and_levels_cannot_carry_a_question_into_another_split() -> None:
    options: tuple[dict[str, Any], ...] = ({}, {"use_all": True}, {"numbers": (1, 9), "targets": (10, 40)})
    home: dict[str, str] = {}
    for chosen in options:
        task = resolve("countdown", chosen)
        for split in SPLITS:
            for question in task.questions(400, "3" if chosen else "mini", 0, split):
                assert isinstance(question, Question)
                assert home.setdefault(task.canonical(question), split) == split


@pytest.mark.parametrize("name", GENERATED)
def test_an_item_depends_on_seed_level_split_and_index_alone(name: str) -> None:
    level = resolve(name).levels[0]
    few, many = items(name, level, 5, 7, "rl"), items(name, level, 40, 7, "rl")
    assert many[:5] == few
    assert items(name, level, 40, 8, "rl")[1:] != many[1:]
    assert items(name, level, 40, 8, "rl")[:39] != many[1:]  # a neighbouring seed is no shift of the same items
    assert items(name, level, 40, 7, "sft") != many
    assert len({question.id for question in many}) == 40


@pytest.mark.parametrize("name", GENERATED)
def test_a_question_rebuilt_from_its_facts_is_the_same_one(name: str) -> None:
    task = resolve(name)
    for level in task.levels:
        for question in items(name, level, 5, 0, "eval"):
            again = task.question(question.facts)
            assert (again.prompt, again.facts, again.answer) == (question.prompt, question.facts, "")
            assert task.canonical(again) == task.canonical(question)
            assert again.level == question.level == level
            assert ("<answer>" in again.prompt) != bool(question.facts.get("brief"))  # brief prompts leave it to the variants


@pytest.mark.parametrize("name", GENERATED)
def test_a_brief_question_is_the_same_question_as_the_one_in_many_words(name: str) -> None:
    task = resolve(name)
    brief = items(name, "mini", 1, 0, "eval")[0]
    facts = {key: value for key, value in brief.facts.items() if key != "brief"}
    plain = task.question(facts)
    assert plain.prompt != brief.prompt
    assert task.canonical(plain) == task.canonical(brief)
    assert not plain.level.startswith("mini")
    with pytest.raises(InputError, match=f"{name}: 'brief' must be true or false, not the int 1"):
        task.question({**facts, "brief": 1})


@pytest.mark.parametrize(
    ("name", "level", "facts", "prompt"),
    [
        ("countdown", "mini", {"numbers": [3, 7, 12], "target": 24}, "Make 24 from some of 3 7 12."),
        ("countdown", "mini-5", {"numbers": [3, 7, 12, 1, 1], "target": 24}, "Make 24 from some of 3 7 12 1 1."),
        ("countdown", "mini", {"numbers": [3, 7, 12], "target": 24, "use_all": True}, "Make 24 from 3 7 12."),
        ("multiplication", "mini", {"factors": [47, 6]}, "What is 47 * 6?"),
        (
            "acronym",
            "mini",
            {"words": ["stone", "tiger", "apple", "rain"], "length": 4},
            "Initials of: stone tiger apple rain?",
        ),
        ("letter_countdown", "mini", {"letters": "rast", "length": 4}, "Unscramble: r a s t."),
    ],
)
def test_a_brief_question_is_worded_like_this(name: str, level: str, facts: dict[str, Any], prompt: str) -> None:
    question = resolve(name).question({**facts, "brief": True})
    assert (question.prompt, question.level) == (prompt, level)
    assert resolve(name).question({**facts, "brief": False}).facts == facts


def test_every_split_has_its_share_of_the_few_words_of_letter_countdown_mini() -> None:
    task = resolve("letter_countdown")
    counts = {split: len({task.canonical(q) for q in items("letter_countdown", "mini", 1_000, 0, split)}) for split in SPLITS}
    assert counts == {"sft": 71, "rl": 71, "eval": 36}  # docs/tasks.md tells them


def test_items_of_other_options_have_other_ids() -> None:
    plain = next(resolve("countdown").questions(1, "3", 0, "sft"))
    strict = next(resolve("countdown", {"use_all": True}).questions(1, "3", 0, "sft"))
    assert isinstance(plain, Question)
    assert isinstance(strict, Question)
    assert plain.id == "countdown-3-sft-0-0"
    assert strict.id.startswith("countdown-3-sft-0-0-")


@pytest.mark.parametrize("name", GENERATED)
def test_an_endless_request_an_unknown_level_and_an_unknown_split_are_refused_at_the_call(name: str) -> None:
    task = resolve(name)
    level = task.levels[0]
    with pytest.raises(InputError, match=rf"{name} is generated without end: say how many questions you want"):
        task.questions(None, level, 0, "sft")
    with pytest.raises(InputError, match=r"\(n >= 0\), not -1"):
        task.questions(-1, level, 0, "sft")
    with pytest.raises(ConfigError, match=rf"unknown level of {name} '99' \(known: "):
        task.questions(1, "99", 0, "sft")
    with pytest.raises(ConfigError, match="unknown split 'evl'; did you mean 'eval'"):
        task.questions(1, level, 0, "evl")
