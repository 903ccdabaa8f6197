"""Laws of the prompts: what the shipped ones hold, how they are filled, and what a user's file may hold."""

from dataclasses import asdict
from pathlib import Path

import pytest

from skillfactory.errors import ConfigError, InputError
from skillfactory.prompts import load_hints, load_phrases, load_reflection, load_variants
from skillfactory.records import Question

QUESTION = Question("q", "sums", "1", "What is {attempt} + {answer} + {question}?", "{answer_format}42")


def write(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text, "utf-8")
    return path


def test_the_shipped_phrases_are_as_many_as_the_official_ones_and_differ_from_each_other() -> None:
    phrases = asdict(load_phrases())
    least = {"neutral": 11, "affirm": 14, "retry": 14, "closing": 7, "backtrack": 9, "confirm": 7}
    assert {kind: len(phrases[kind]) >= count for kind, count in least.items()} == dict.fromkeys(least, True)
    every = [phrase for kind in phrases.values() for phrase in kind]
    assert len(set(every)) == len(every)
    assert all(phrase == phrase.strip() and "\n" not in phrase for phrase in every)


def test_the_shipped_variants_are_the_papers_four_and_only_the_first_has_no_system_turn() -> None:
    variants = load_variants()
    assert [variant.name for variant in variants] == ["original", "plan_and_execute", "alternatively", "rephrase"]
    assert [variant.system is None for variant in variants] == [True, False, False, False]
    for variant in variants:
        text = " ".join(content for _, content in variant.messages(QUESTION, "one number"))
        assert "one number" in text
        assert "<answer>" in text
        assert QUESTION.answer not in text


def test_the_question_stands_before_the_suffix_with_a_blank_line_between() -> None:
    (turn,) = load_variants(names=["original"])[0].messages(QUESTION, "a word")
    assert turn[0] == "user"
    assert turn[1].startswith(QUESTION.prompt + "\n\n")


def test_placeholders_in_a_question_or_an_attempt_stay_as_they_are() -> None:
    (turn,) = load_reflection().messages(QUESTION, "I say {question} and {attempt}, {0} {")
    assert QUESTION.prompt in turn[1]
    assert "I say {question} and {attempt}, {0} {" in turn[1]
    hinted = load_hints().variants[0].messages(QUESTION, "a {answer}")[-1][1]
    assert "correct answer is {answer_format}42." in hinted
    assert "answer, a {answer}, between" in hinted


def test_the_reflection_prompt_names_both_verdicts_and_does_not_say_which_is_true() -> None:
    (turn,) = load_reflection().messages(QUESTION, "attempt")
    assert turn[1].endswith("<verdict>Correct</verdict>\n<verdict>Incorrect</verdict>")
    assert QUESTION.answer not in turn[1]


@pytest.mark.parametrize(
    "text",
    [
        "The hint says 42.",
        "As the HINT\n  says, 42",
        "Since the correct answer is 42, I work back.",
        "I should reason as if I didn\N{RIGHT SINGLE QUOTATION MARK}t know it.",
        "(hint) 42",
        "The provided\tanswer is 42",
        "By the hint's logic, 42",
        "As the _hint_ has it, 42",
        "This is hint_original, so 42",
        "You are hinting at 42",
        "The \N{FULLWIDTH LATIN SMALL LETTER H}\N{FULLWIDTH LATIN SMALL LETTER I}nt says 42",
    ],
)
def test_a_response_that_mentions_the_hint_leaks(text: str) -> None:
    assert load_hints().leak(text)


@pytest.mark.parametrize(
    "text", ["", "6 * 7 = 42", "Hinterland and chintz hold no telling word.", "The answer is 42, as asked."]
)
def test_a_response_that_stands_by_itself_does_not_leak(text: str) -> None:
    assert load_hints().leak(text) is None


def test_the_leak_filter_takes_linear_time() -> None:
    assert load_hints().leak("given the correct " * 200_000) is None
    assert load_hints().leak("a" + "\u0301\u0316" * 100_000) is None  # 28 s if the library normalises it as a whole


def test_variants_are_chosen_by_name_in_the_order_asked() -> None:
    assert [variant.name for variant in load_variants(names=["rephrase", "original", "rephrase"])] == ["rephrase", "original"]
    with pytest.raises(ConfigError, match=r"unknown prompt variant 'origina'; did you mean 'original'\?"):
        load_variants(names=["origina"])


def test_a_users_file_replaces_the_shipped_one(tmp_path: Path) -> None:
    own = write(tmp_path, "variants: [{name: mine, system: null, suffix: 'Say {answer_format}.'}]")
    assert [variant.name for variant in load_variants(own)] == ["mine"]


VARIANT = "variants: [{name: a, system: null, suffix: 'give {answer_format}'}]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"own.yaml: expected a mapping with the keys variants, came nothing"),
        ("- a", r"expected a mapping with the keys variants, came a list"),
        ("variant: []", r"unknown key 'variant'; did you mean 'variants'\?"),
        ("variants: []", r"variants: expected a list of at least one variant, came a list"),
        ("variants: [{name: a, suffix: b}]", r"variant 1: the key 'system' is missing"),
        ("variants: [{name: a, system: null, sufix: b}]", r"variant 1: unknown key 'sufix'; did you mean 'suffix'\?"),
        ("variants: [{name: a/b, system: null, suffix: '{answer_format}'}]", r"name: expected up to 64 letters.*came 'a/b'"),
        ("variants: [{name: a, system: null, suffix: 5}]", r"suffix: expected text, came 5"),
        ("variants: [{name: a, system: '{answer}', suffix: '{answer_format}'}]", r"only hint variants may hold it"),
        (VARIANT[:-1] + ", " + VARIANT[11:], r"variants: 'a' stands twice"),
    ],
)
def test_a_variants_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_variants(write(tmp_path, text))


PHRASES = "{neutral: [a], affirm: [a], retry: [a], closing: [a], backtrack: [a], confirm: [a]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PHRASES.replace("retry: [a]", "retry: []"), r"retry: expected a list of at least one text, came a list"),
        (PHRASES.replace("retry: [a]", "retry: [a, a]"), r"retry: 'a' stands twice"),
        (PHRASES.replace("retry: [a]", "retry: [so <think>]"), r"retry: a phrase may hold no tag: 'so <think>'"),
        (PHRASES.replace("retry: [a]", "retry: [no]"), r"retry: expected text, came False"),
        (PHRASES.replace("retry", "retries"), r"unknown key 'retries'; did you mean 'retry'\?"),
        (PHRASES.replace("retry: [a], ", ""), r"the key 'retry' is missing"),
    ],
)
def test_a_phrases_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_phrases(write(tmp_path, text))


def test_hints_and_reflections_need_their_placeholders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"suffix: the placeholder \{answer\} is missing"):
        load_hints(write(tmp_path, f"{VARIANT}\nleaks: [hint]"))
    with pytest.raises(ConfigError, match=r"leaks: expected words, came '\.\.\.'"):
        load_hints(write(tmp_path, f"{VARIANT.replace('give', '{answer}')}\nleaks: [...]"))
    with pytest.raises(ConfigError, match=r"template: the placeholder \{attempt\} is missing"):
        load_reflection(write(tmp_path, "{system: null, template: 'Check {question}'}"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.yaml: can't read the file: No such file"):
        load_phrases(tmp_path / "gone.yaml")
    with pytest.raises(InputError, match=r"own.yaml: not a YAML file: .*line 1"):
        load_phrases(write(tmp_path, "{"))


def test_the_brief_prompts_hold_the_same_variants_in_fewer_words() -> None:
    brief, full = Path("brief"), None
    assert [variant.name for variant in load_variants(brief)] == [variant.name for variant in load_variants(full)]
    assert sum(len(variant.suffix) for variant in load_variants(brief)) < sum(len(v.suffix) for v in load_variants(full)) / 10
    assert len(load_reflection(brief).template) < len(load_reflection(full).template) / 10
    assert max(len(text) for text in load_phrases(brief).retry) < max(len(text) for text in load_phrases(full).retry)
