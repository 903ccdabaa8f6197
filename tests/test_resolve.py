import json
import re
from pathlib import Path

import pytest

from skillfactory.errors import ConfigError
from skillfactory.records import Grade
from skillfactory.tasks import TASKS, reasons, resolve
from skillfactory.tasks.countdown import Countdown
from skillfactory.tasks.custom import Custom
from skillfactory.tasks.gym import Gym

ROOT = Path(__file__).parent.parent
GENERATED = ("countdown", "letter_countdown", "acronym", "multiplication")
READY_MADE = Countdown(use_all=True)


def test_a_name_resolves_to_its_task_with_its_options() -> None:
    assert resolve("countdown") == Countdown()
    assert resolve("countdown", {"use_all": True, "numbers": [1, 9]}) == Countdown(use_all=True, numbers=(1, 9))
    assert resolve("countdown", {"numbers": "1,10", "targets": None}) == Countdown(numbers=(1, 10))
    assert resolve("acronym").name == "acronym"


def test_options_become_what_their_fields_say() -> None:
    levels = {"level_column": "level", "level_names": "easy,hard"}
    assert resolve("custom", {"source": 123, "train": None, **levels}) == Custom(
        "123", train="", level_column="level", level_names=("easy", "hard")
    )
    named = Custom("x", level_column="level", level_names=("a, b", "c"))
    assert resolve("custom", {"source": "x", "level_column": "level", "level_names": ["a, b", "c"]}) == named
    assert resolve("countdown", {"numbers": "[1, 10]", "use_all": "yes"}) == Countdown(numbers=(1, 10), use_all=True)
    gym = Gym("coin_flip", {"terms": 2, "signs": ["+", "*", "-"]})
    for config in ({"terms": "2", "signs": ["+", "*", "-"]}, '{terms: 2, signs: ["+", "*", "-"]}'):
        assert resolve("gym", {"dataset": "coin_flip", "config": config}) == gym
    assert resolve(f"{__name__}:made_by_hand", {"numbers": ["1", "x"], "use_all": "true"}) is READY_MADE


def made_by_hand(**options: object) -> Countdown:
    """A maker that is no dataclass."""
    assert options == {"numbers": (1, "x"), "use_all": True}
    return READY_MADE


def test_a_module_and_object_resolve_to_a_task_made_or_ready() -> None:
    assert resolve("skillfactory.tasks.countdown:Countdown", {"use_all": True}) == READY_MADE
    assert resolve(f"{__name__}:READY_MADE") is READY_MADE


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_task_is_known_by_the_name_it_carries(name: str) -> None:
    assert resolve(name).name == name
    assert TASKS[name].startswith("skillfactory.tasks.")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("countdwn", {}, "unknown task 'countdwn'; did you mean 'countdown'"),
        ("countdown", {"use_al": True}, "unknown option of task countdown: 'use_al'; did you mean 'use_all'"),
        ("countdown", {"name": "x"}, "unknown option of task countdown: 'name'"),
        (
            "countdown",
            {"numbers": "low"},
            r"option numbers of task countdown: expected a whole number, .*is written \[1,10\]",
        ),
        ("countdown", {"numbers": 5}, r"numbers of task countdown: expected 2 values, came 1; a list is written \[1,10\]"),
        ("countdown", {"use_all": 3}, "option use_all of task countdown: expected true or false, came 3"),
        ("gym", {"dataset": "coin_flip", "config": "abc"}, "option config of task gym: expected key=value, came 'abc'"),
        ("gsm8k", {"source": True}, "option source of task gsm8k: expected text, came True"),
        ("custom", {"source": "x", "timeout": "soon"}, "option timeout of task custom: expected a number, came 'soon'"),
        ("no_such_module:Task", {}, "the module of the task 'no_such_module:Task' can't be imported"),
        (":Task", {}, "the module of the task ':Task' can't be imported"),
        (
            "skillfactory.tasks.countdown:Countdwn",
            {},
            "unknown object in skillfactory.tasks.countdown 'Countdwn'; did you mean",
        ),
        ("skillfactory.records:Grade", {}, "task skillfactory.records:Grade needs the options check, reason"),
        ("skillfactory.tasks.countdown:WORLDS", {}, "isn't a task: it lacks name, levels, answer_format, questions"),
        (f"{__name__}:READY_MADE", {"extra": 1}, "is a ready-made task and takes no options, but got: extra"),
    ],
)
def test_what_cannot_be_resolved_is_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(name, options)


def test_every_reason_code_is_in_a_table_of_cases_and_in_the_documentation() -> None:
    codes = {value.reason for value in vars(reasons).values() if isinstance(value, Grade)}
    tables = [json.loads((ROOT / f"tests/cases/{name}.json").read_text()) for name in GENERATED]
    assert {case["reason"] for table in tables for case in table} == codes
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/tasks.md").read_text(), re.MULTILINE))
    assert codes <= documented
