"""The questions of a reinforcement are distinct, of the split for it, in the shares asked for, and come in rounds."""

from collections import Counter

import pytest

from skillfactory.errors import ConfigError
from skillfactory.supply import gather, sources
from skillfactory.tasks.generated import split_of
from skillfactory.train.questions import Asking, course, messages

TASKS = ("countdown:mini@2", "multiplication:mini", "acronym:mini", "letter_countdown:mini")


def test_no_question_is_of_the_evaluation_and_none_comes_twice() -> None:
    pool = gather(sources(TASKS, {}), 400, seed=3, split="rl")
    keys = [(one.source.task.name, one.source.task.canonical(one.question)) for one in pool.asked]
    assert len(set(keys)) == len(keys) == pool.funnel.kept
    assert {split_of(canonical) for _, canonical in keys} == {"rl"}


def test_weights_share_the_questions_out() -> None:
    pool = gather(sources(("countdown:mini@2", "countdown:3", "multiplication:2@0.5"), {}), 100, seed=0, split="rl")
    assert Counter(one.source.label for one in pool.asked) == {"countdown:mini": 57, "countdown:3": 29, "multiplication:2": 14}


def test_a_source_with_too_few_questions_gives_all_it_has_and_says_so() -> None:
    pool = gather(sources(("easy_task:Sevens",), {}), 50, seed=0, split="rl")
    assert len(pool.asked) == 20
    assert pool.notes == ("easy_task:Sevens:all: 20 distinct questions of the split rl were found, not 50",)


def test_more_questions_leave_the_earlier_ones_as_they_are() -> None:
    few, many = (gather(sources(("countdown:mini",), {}), n, seed=1, split="rl").asked for n in (20, 40))
    assert [one.question for one in few] == [one.question for one in many][:20]


def test_options_are_of_the_one_task_or_name_theirs() -> None:
    alone = sources(("countdown:3",), {"use_all": "true"})
    named = sources(("countdown:3", "gsm8k"), {"countdown.use_all": "true"})
    assert alone[0].task == named[0].task
    assert getattr(alone[0].task, "use_all", None) is True


def test_a_level_is_the_first_one_unless_it_is_named() -> None:
    assert [source.level for source in sources(("countdown", "countdown:5"), {})][1] == "5"
    assert sources(("easy_task:Sevens",), {})[0].level == "all"


@pytest.mark.parametrize("entry", ["countdown@x", "countdown@-1", "countdown@nan", "countdown@inf", "@1", ""])
def test_a_weight_is_a_number_above_0(entry: str) -> None:
    with pytest.raises(ConfigError, match="with a weight above 0, came"):
        sources((entry,), {})


def test_the_course_holds_every_question_once_a_round_and_depends_on_the_seed_alone() -> None:
    found = list(course(7, 30, seed=5))
    assert [sorted(found[start : start + 7]) for start in (0, 7, 14, 21)] == [list(range(7))] * 4
    assert found[:7] != found[7:14]
    assert list(course(7, 12, seed=5)) == found[:12]
    assert list(course(7, 30, seed=6)) != found


def test_a_question_is_put_as_in_the_traces_unless_texts_are_added() -> None:
    one = gather(sources(("countdown:mini",), {}), 1, seed=0, split="rl").asked[0]
    assert messages(Asking(), one) == [{"role": "user", "content": one.question.prompt}]
    assert messages(Asking("Think.", " Use tags."), one) == [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": f"{one.question.prompt} Use tags."},
    ]
