import json
import re
from pathlib import Path

import pytest

from skillfactory.errors import ConfigError
from skillfactory.records import Grade
from skillfactory.tasks import TASKS, reasons, resolve
from skillfactory.tasks.countdown import Countdown

ROOT = Path(__file__).parent.parent
GENERATED = ("countdown", "letter_countdown", "acronym", "multiplication")
READY_MADE = Countdown(use_all=True)


def test_a_name_resolves_to_its_task_with_its_options() -> None:
    assert resolve("countdown") == Countdown()
    assert resolve("countdown", {"use_all": True, "numbers": [1, 9]}) == Countdown(use_all=True, numbers=(1, 9))
    assert resolve("acronym").name == "acronym"


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
