"""Laws of suites and of the questions held out for them."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from skillfactory.errors import ConfigError, InputError, SkillFactoryError
from skillfactory.records import Question
from skillfactory.suites import SUITES, Group, groups_of, load_suite
from skillfactory.suites.questions import DEV, held_out, part_of
from skillfactory.tasks import resolve

GROUP = Group("cd", "in-domain", "countdown", level="mini", questions=60)


def questions(group: Group, seed: int = 0) -> list[Question]:
    found = held_out(group, resolve(group.task, group.option), seed)
    return [item for item in found if isinstance(item, Question)]


def canonical(group: Group, seed: int = 0) -> list[str]:
    task = resolve(group.task, group.option)
    return [task.canonical(question) for question in questions(group, seed)]


@pytest.mark.parametrize("name", SUITES)
def test_the_shipped_suites_name_tasks_and_levels_that_there_are(name: str) -> None:
    for group in load_suite(name):
        task = resolve(group.task, group.option)
        assert not group.level or group.level in task.levels
        if group.questions is not None:
            assert len(list(islice(held_out(group, task, 0), 10))) == 10


def test_the_papers_suites_hold_what_its_tables_hold() -> None:
    paper, math = ({group.name: group for group in load_suite(name)} for name in ("paper", "math"))
    levels = {"countdown": "3456", "letter_countdown": "45", "acronym": "45", "multiplication": "2345"}
    assert list(paper) == [*(f"{task}-{level}" for task in levels for level in levels[task]), "commonsenseqa", "gsm8k"]
    assert {group.samples for group in paper.values()} == {4}
    assert {name: group.samples for name, group in math.items()} == {"gpqa": 34, "aime2025": 34, "amc2023": 34, "math500": 4}
    assert {group.part for group in math.values()} == {"all"}
    assert {group.max_tokens for group in (*paper.values(), *math.values())} == {4096}


def test_a_list_of_tasks_makes_groups() -> None:
    found = groups_of(["countdown:4@100", "countdown", "gsm8k", "easy_task:Sevens@5"], {"countdown.use_all": "true"}, 40)
    assert [(group.name, group.kind, group.level, group.questions, group.part) for group in found] == [
        ("countdown-4", "countdown", "4", 100, "test"),
        ("countdown-3", "countdown", "3", 40, "test"),
        ("gsm8k", "gsm8k", "all", 40, "all"),
        ("easy_task.Sevens", "easy_task.Sevens", "all", 5, "test"),
    ]
    assert groups_of(["gsm8k"], {})[0].questions is None, "a data set is asked in whole"
    assert [group.option for group in found] == [{"use_all": "true"}, {"use_all": "true"}, {}, {}]


@pytest.mark.parametrize(
    ("entries", "options", "message"),
    [
        (["countdwn:3"], {}, "unknown task 'countdwn'; did you mean 'countdown'"),
        (["countdown:7"], {}, "unknown level of countdown '7'"),
        (["countdown:3@0"], {}, r"task: expected TASK\[:LEVEL\]\[@QUESTIONS\] with a number of questions of 1 or more, came"),
        (["countdown:3@many"], {}, "came 'countdown:3@many'"),
        (["@3"], {}, "came '@3'"),
        (["countdown:4"], {}, "task: questions of countdown have no end; say how many: countdown:4@500, or --questions 500"),
        (["countdown:3@5", "countdown@9"], {}, "task: 'countdown-3' stands twice; give it once"),
        (["countdown@5", "acronym"], {"use_all": "true"}, "there are several tasks; say whose it is, e.g. countdown.use_all"),
        (["countdown"], {"acronim.x": 1}, "unknown task of the option acronim.x: 'acronim'"),
        (["countdown"], {"use_some": 1}, "unknown option of task countdown: 'use_some'"),
    ],
)
def test_a_list_of_tasks_that_can_not_be_read_is_refused(entries: list[str], options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        groups_of(entries, options)


def test_a_group_has_different_questions_of_the_eval_split() -> None:
    found = canonical(GROUP)
    assert len(set(found)) == len(found) == 60
    taught = {resolve("countdown").canonical(item) for item in resolve("countdown").questions(3000, "mini", 1, "sft")}  # type: ignore[arg-type]
    assert not set(found) & taught


def test_development_questions_are_never_test_questions_whatever_the_seed() -> None:
    dev = {text for seed in (0, 1) for text in canonical(replace(GROUP, part="dev"), seed)}
    test = {text for seed in (0, 2) for text in canonical(GROUP, seed)}
    assert dev
    assert not dev & test
    assert {part_of(text) for text in dev} == {"dev"}


def test_a_quarter_of_the_questions_is_for_development() -> None:
    parts = [part_of(text) for text in canonical(replace(GROUP, level="4", questions=1000, part="all"))]
    assert abs(parts.count("dev") / len(parts) - DEV / 100) < 0.05


def test_more_questions_leave_the_first_ones_as_they_were() -> None:
    assert questions(replace(GROUP, questions=90))[:60] == questions(GROUP)


def test_a_world_that_is_too_small_says_how_many_questions_it_has() -> None:
    small = Group("few", "k", "countdown", {"numbers": [1, 4], "targets": [5, 9]}, "3", questions=500, part="dev")
    with pytest.raises(InputError, match=r"group few: countdown \(level 3, dev part of eval\) has (\d+) different") as caught:
        questions(small)
    number = int(str(caught.value).split(" has ")[1].split()[0])
    assert len(questions(replace(small, questions=number))) == number
    with pytest.raises(InputError):
        questions(replace(small, questions=number + 1))
    assert len(questions(replace(small, exhaust=True))) == number


def test_a_data_set_gives_all_that_it_holds() -> None:
    source = str(Path(__file__).parent / "data" / "gsm8k")
    whole = Group("words", "k", "gsm8k", {"source": source}, part="all")
    parts = [questions(replace(whole, part=part)) for part in ("dev", "test")]
    assert sorted(item.id for part in parts for item in part) == sorted(item.id for item in questions(whole))
    with pytest.raises(InputError, match="different questions, not the 1,000 that are wanted"):
        questions(replace(whole, questions=1000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups: []", "groups: expected a list of at least one group, came a list"),
        ("- 1", "expected a mapping with the one key 'groups', came a list"),
        ("groups: [{name: a, kind: b}]", "group 1, task is missing: a task's name"),
        ("groups: [{name: a, kind: b, task: c, levl: 3}]", "unknown key 'levl'; did you mean 'level'"),
        ("groups: [{name: a b, kind: b, task: c}]", "group 1, name: expected up to 64 letters.* came 'a b'"),
        ("groups: [{name: a, kind: b, task: c, samples: 0}]", "group 1, samples: expected 1 or more, came 0"),
        ("groups: [{name: a, kind: b, task: c, part: tst}]", "part: expected one of dev, test, all, came 'tst'"),
        ("groups: [{name: a, kind: b, task: c}, {name: a, kind: b, task: d}]", "two groups are called 'a'"),
        ("groups: [", "not a YAML file"),
    ],
)
def test_a_suite_file_that_is_none_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError if "YAML" not in message else InputError, match=message) as caught:
        load_suite(str(path))
    assert str(caught.value).startswith(str(path))


def test_an_unknown_suite_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        SkillFactoryError, match=r"unknown suite 'minni'; did you mean 'mini'\? \(known: FILE.yaml, math, mini, paper\)"
    ):
        load_suite("minni")
    with pytest.raises(InputError, match="can't read the suite"):
        load_suite("nowhere.yaml")
