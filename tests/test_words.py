import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillfactory.errors import ConfigError, InputError
from skillfactory.records import Check, Grade
from skillfactory.tasks.words import Acronym, LetterCountdown, dictionary, mini_words

FOLDER = Path(__file__).parent / "cases"
TASKS: dict[str, LetterCountdown | Acronym] = {"letter_countdown": LetterCountdown(), "acronym": Acronym()}
CASES: list[tuple[str, dict[str, Any]]] = [
    (name, case) for name in TASKS for case in json.loads((FOLDER / f"{name}.json").read_text())
]
LEVELS = [(name, level) for name in TASKS for level in ("4", "5", "mini")]


def available(facts: dict[str, Any]) -> Counter[str]:
    """The letters that a question lets one use, counted independently of the verifier."""
    return Counter(facts["letters"]) if "letters" in facts else Counter(word[0] for word in facts["words"])


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case['answer'][:30]!a}" for name, case in CASES])
def test_an_answer_is_graded_as_the_table_says(name: str, case: dict[str, Any]) -> None:
    task = TASKS[name]
    assert task.check(task.question(case["facts"]), case["answer"]) == Grade(Check(case["check"]), case["reason"])


def test_the_dictionary_holds_lower_case_words_only_in_order_and_no_roman_numerals() -> None:
    words = list(dictionary())
    assert len(words) > 30_000
    assert all(word.isascii() and word.isalpha() and word.islower() and 3 <= len(word) <= 8 for word in words)
    assert words == sorted(set(words))
    assert not {"xiv", "viii", "xxiii", "clix"} & set(words)
    assert {"dill", "livid", "mix", "plea", "skin"} <= set(words)


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_the_gold_answer_is_right_and_every_spoiled_one_is_not(name: str, level: str) -> None:
    task = TASKS[name]
    for question in task.questions(200, level, seed=0, split="sft"):
        gold = question.answer
        assert task.check(question, gold).check is Check.RIGHT
        assert task.check(question, gold[:-1]).reason == "wrong_length"
        assert task.check(question, gold + gold[0]).reason == "wrong_length"
        absent = next(letter for letter in "qjxzvkwybp" if letter not in available(dict(question.facts)))
        assert task.check(question, absent + gold[1:]).reason == "letter_not_given"
        assert task.check(question, " ".join(gold)).reason == "not_a_word"


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_exactly_the_words_that_can_be_spelled_are_right(name: str, level: str) -> None:
    task = TASKS[name]
    for question in task.questions(2, level, seed=9, split="eval"):
        letters = available(dict(question.facts))
        for word in dictionary():
            fits = len(word) == question.facts["length"] and Counter(word) <= letters
            assert (task.check(question, word).check is Check.RIGHT) == fits, (question.facts, word)


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_a_question_does_not_show_its_answer_and_its_words_differ(name: str, level: str) -> None:
    for question in TASKS[name].questions(300, level, seed=2, split="rl"):
        length, extra = len(question.answer), 0 if level == "mini" else 2
        assert question.facts["length"] == length
        assert length in (3, 4) if level == "mini" else length == int(level)
        if name == "acronym":
            words = question.facts["words"]
            assert len({*words, question.answer}) == len(words) + 1 == length + extra + 1
            assert all(word in dictionary() for word in words)
        else:
            assert question.answer not in question.facts["letters"]
            assert len(question.facts["letters"]) == length + extra


def test_the_words_of_mini_are_common_ones_with_one_solution_each() -> None:
    answers, spelling = mini_words()
    given_words = [word for group in spelling.values() for word in group]
    assert len(set(answers)) == len({"".join(sorted(word)) for word in answers}) == len(answers) > 150
    assert len(set(given_words)) == len(given_words) > 100
    assert {*answers, *given_words} <= set(dictionary())
    assert {len(word) for word in answers} == {3, 4}
    assert {len(word) for word in given_words} == {5, 6}
    assert all(len(spelling[letter]) >= max(word.count(letter) for word in answers) for word in answers for letter in word)


def test_mini_gives_the_letters_of_its_answer_alone_and_initials_in_their_order() -> None:
    for question in LetterCountdown(extra=5).questions(200, "mini", 0, "sft"):
        letters = question.facts["letters"]
        assert sorted(letters) == sorted(question.answer)
        assert letters != question.answer
    for question in Acronym(extra=5).questions(200, "mini", 0, "sft"):
        assert "".join(word[0] for word in question.facts["words"]) == question.answer


def test_extra_sets_how_many_letters_or_words_are_to_spare() -> None:
    assert len(next(LetterCountdown(extra=0).questions(1, "4", 0, "sft")).facts["letters"]) == 4
    assert len(next(Acronym(extra=5).questions(1, "4", 0, "sft")).facts["words"]) == 9
    for extra in (-1, 9, 1.5, True):
        with pytest.raises(ConfigError, match="'extra' must be a whole number from 0 to 8, not the"):
            Acronym(extra=extra)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "facts", "message"),
    [
        ("letter_countdown", {"length": 4}, r"letter_countdown: the fact 'letters' is missing \(found: length\)"),
        ("letter_countdown", {"letters": "plea"}, r"the fact 'length' is missing \(found: letters\)"),
        ("letter_countdown", {"letters": "plea", "length": 5}, "'length' must be from 3 to 4, not the int 5"),
        ("letter_countdown", {"letters": "plea", "length": "4"}, "'length' must be a whole number, not the str '4'"),
        ("letter_countdown", {"letters": "p l e a", "length": 4}, "'letters' must be letters from a to z and nothing between"),
        ("letter_countdown", {"letters": "pleä", "length": 4}, "'letters' must be letters from a to z"),
        ("letter_countdown", {"letters": ["pl", "e", "a"], "length": 3}, "'letters' must be letters from a to z"),
        ("letter_countdown", {"letters": "a" * 33, "length": 4}, "'letters' must hold 3 to 32 entries, not 33"),
        ("letter_countdown", {"letters": None, "length": 4}, "'letters' must be a list, not the NoneType None"),
        ("acronym", {"letters": "plea", "length": 4}, r"the fact 'words' is missing \(found: length, letters\)"),
        ("acronym", {"words": "a b c d", "length": 4}, "'words' must be a list, not the str"),
        ("acronym", {"words": ["ab", "cd", "1e"], "length": 3}, "begin with a letter from a to z, not the str '1e'"),
        ("acronym", {"words": ["ab", "cd", ""], "length": 3}, "begin with a letter from a to z, not the str ''"),
        ("acronym", {"words": ["ab", "cd", 7], "length": 3}, "begin with a letter from a to z, not the int 7"),
        ("acronym", {"words": ["ab", "cd", "AB"], "length": 3}, "'words' must differ, but the str 'ab' comes twice"),
    ],
)
def test_unusable_facts_are_refused_by_name(name: str, facts: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TASKS[name].question(facts)


def test_the_order_of_letters_or_words_does_not_make_another_question() -> None:
    letters, acronym = TASKS["letter_countdown"], TASKS["acronym"]
    first = letters.question({"letters": "plea", "length": 4})
    assert letters.canonical(first) == letters.canonical(letters.question({"letters": ["A", "e", "l", "p"], "length": 4}))
    assert letters.canonical(first) != letters.canonical(letters.question({"letters": "plea", "length": 3}))
    one = acronym.question({"words": ["sun", "ice", "key"], "length": 3})
    assert acronym.canonical(one) == acronym.canonical(acronym.question({"words": ["key", "Sun", "ice"], "length": 3}))
    assert acronym.canonical(one) != acronym.canonical(acronym.question({"words": ["key", "sun", "ink"], "length": 3}))


@settings(deadline=None, max_examples=300)
@given(answer=st.one_of(st.text(), st.text(alphabet="plexaPLEXA \n", max_size=8)))
def test_an_answer_is_right_only_if_it_is_a_word_that_can_be_spelled(answer: str) -> None:
    task = TASKS["letter_countdown"]
    grade = task.check(task.question({"letters": "pealxe", "length": 4}), answer)
    word = answer.strip(" \t\r\n")
    fits = len(word) == 4 and word.isascii() and word.lower() in dictionary() and Counter(word.lower()) <= Counter("pealxe")
    assert (grade.check is Check.RIGHT) == fits


@pytest.mark.parametrize("attack", ["a" * 10_000_000, " " * 10_000_000, "\u0130" * 64, "a" * 64, "\x00" * 64])
def test_no_input_takes_a_millisecond(attack: str) -> None:
    task = TASKS["acronym"]
    question = task.question({"words": [f"{letter}{tail}" for letter in "abcdefghijklmnop" for tail in "xy"], "length": 8})

    def seconds() -> float:
        start = time.process_time()
        task.check(question, attack)
        return time.process_time() - start

    assert min(seconds() for _ in range(5)) < 1e-3
