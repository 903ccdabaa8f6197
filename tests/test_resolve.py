import ast
import json
import re
from pathlib import Path

import pytest

from skillfactory.errors import ConfigError
from skillfactory.records import Check, Grade
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
    assert codes <= {code for code, _ in documented("right|wrong|missing|undecided")}


def documented(second: str) -> set[tuple[str, str]]:
    """The rows of the documentation's tables whose second column is one of `second`: its first two columns."""
    text = (ROOT / "docs/tasks.md").read_text()
    return set(re.findall(rf"^\| `([\w…]+)` \| ({second}) \|", text, re.MULTILINE))


def constants(node: ast.AST) -> set[str]:
    """The texts that an expression can be; of an f-string its beginning, with … for the rest."""
    if isinstance(node, ast.IfExp):
        return constants(node.body) | constants(node.orelse)
    if isinstance(node, ast.JoinedStr):
        return {f"{part}…" for part in constants(node.values[0])}
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_the_tables_of_reason_codes_and_drops_hold_exactly_those_of_the_code() -> None:
    checks, drops = {check.value for check in Check}, set[str]()
    codes: set[tuple[str, str]] = set()
    for path in (ROOT / "skillfactory/tasks").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(ast.Name("Grade"), [ast.Attribute(attr=check), reason]):
                    codes |= {(code, check.lower()) for code in constants(reason)}
                case ast.Tuple([ast.Constant(str(check)), reason]) if check in checks:
                    codes |= {(code, check) for code in constants(reason)}
                case ast.Call(ast.Name("UnusableRowError"), [reason, *_]) | ast.Call(ast.Name("Drop"), [_, _, reason, *_]):
                    drops |= constants(reason)
                case ast.FunctionDef("_repeated"):
                    drops.update(
                        *(constants(part.value) for part in ast.walk(node) if isinstance(part, ast.Return) and part.value)
                    )
    assert documented("right|wrong|missing|undecided") == codes
    assert {code for code, _ in documented(rf"all|(?:{'|'.join(TASKS)})(?:, (?:{'|'.join(TASKS)}))*")} == drops
