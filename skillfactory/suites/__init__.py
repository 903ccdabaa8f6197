"""Which groups of questions an evaluation asks: suites as data, shipped or in a file of yours, and lists of tasks.

See `docs/evaluation.md`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from skillfactory.config import from_options
from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.tasks import TASKS, resolve
from skillfactory.tasks.dataset import DataTask
from skillfactory.values import came

SUITES = ("mini", "paper", "math")
Part = Literal["dev", "test", "all"]


@dataclass(frozen=True)
class Group:
    """Questions of one task and level that are reported together."""

    name: str = field(metadata={"help": "what the group is called in tables and in --groups"})
    kind: str = field(metadata={"help": "what it is to the trained model, e.g. in-domain, harder, out-of-domain"})
    task: str = field(metadata={"help": "a task's name, or module:object"})
    option: Mapping[str, Any] = field(default_factory=dict, metadata={"help": "options of the task"})
    level: str = field(default="", metadata={"help": "level of the questions; the task's first if empty"})
    questions: int | None = field(default=None, metadata={"help": "how many different questions; none: all that the data hold"})
    exhaust: bool = field(
        default=False, metadata={"help": "take all there are where the level has fewer questions than wanted"}
    )
    part: Part = field(default="test", metadata={"help": "dev (a quarter), test (the rest) or all of the eval split"})
    samples: int = field(default=4, metadata={"help": "responses per question"})
    max_tokens: int = field(default=1024, metadata={"help": "new tokens of a response"})

    def __post_init__(self) -> None:
        for name in ("questions", "samples", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected 1 or more, came {value}")
        for name in ("name", "kind"):
            if not re.fullmatch(r"[\w.+-]{1,64}", getattr(self, name)):
                raise ConfigError(
                    f"{name}: expected up to 64 letters, digits, '_', '-', '+' or '.', came '{getattr(self, name)}'"
                )


def load_suite(name: str) -> tuple[Group, ...]:
    """The groups of a shipped suite, or of a YAML file `{groups: [{name: …, kind: …, task: …}, …]}`; errors name the place."""
    if name not in SUITES and not name.endswith((".yaml", ".yml")):
        raise unknown("suite", name, [*SUITES, "FILE.yaml"])
    place = resources.files(__name__).joinpath(f"{name}.yaml") if name in SUITES else Path(name)
    try:
        content = yaml.safe_load(place.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{name}: can't read the suite: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping) or list(content) != ["groups"]:
        raise ConfigError(f"{name}: expected a mapping with the one key 'groups', came {came(content)}")
    rows = content["groups"]
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{name}: groups: expected a list of at least one group, came {came(rows)}")
    groups = tuple(_group(f"{name}: group {number}", row) for number, row in enumerate(rows, 1))
    twice = _twice(groups)
    if twice is not None:
        raise ConfigError(f"{name}: two groups are called '{twice}'; give each a name of its own")
    return groups


def groups_of(entries: Sequence[str], options: Mapping[str, Any], questions: int | None = None) -> tuple[Group, ...]:
    """The groups that `TASK[:LEVEL][@QUESTIONS]` entries name; TASK is a name or module:object.

    A group is called TASK-LEVEL, or TASK if that is all of it, and its kind is the task, so that levels of a task have a mean.
    Data sets are asked in whole, as published; of a generated task the questions are those of the test part. An option is of
    the one task there is, or `TASK.OPTION`. `questions`: of the entries that give no number. ConfigError for an entry that
    can't be read or stands twice, an unknown task, level or option, and a generated task without a number of questions.
    """
    parts = [_parts(entry) for entry in entries]
    names = list(dict.fromkeys(name for name, _, _ in parts))
    groups = tuple(_listed(name, level, n or questions, options_of(name, names, options)) for name, level, n in parts)
    twice = _twice(groups)
    if twice is not None:
        raise ConfigError(f"task: '{twice}' stands twice; give it once")
    return groups


def _parts(entry: str) -> tuple[str, str, int | None]:
    """Name, level ("" for the task's first) and number of questions of an entry."""
    bare, at, number = entry.rpartition("@")
    bare = bare if at else entry
    if not bare or (at and not (number.isdecimal() and int(number))):
        raise ConfigError(f"task: expected TASK[:LEVEL][@QUESTIONS] with a number of questions of 1 or more, came '{entry}'")
    pieces = bare.split(":")
    own = pieces[0] in TASKS or len(pieces) == 1 or not pieces[1].isidentifier()
    size = 1 if own else 2  # module:object has a colon of its own
    return ":".join(pieces[:size]), ":".join(pieces[size:]), int(number) if at else None


def _listed(name: str, level: str, questions: int | None, options: Mapping[str, Any]) -> Group:
    task = resolve(name, options)
    level = level or task.levels[0]
    if level not in task.levels:
        raise unknown(f"level of {name}", level, task.levels)
    kind = re.sub(r"[^\w.+-]+", ".", name)
    called = kind if level == "all" or task.levels == (level,) else f"{kind}-{level}"
    if questions is None and not isinstance(task, DataTask):
        raise ConfigError(
            f"task: questions of {name} have no end; say how many: {name}:{level}@500, or --questions 500 for all"
        )
    return Group(called, kind, name, options, level, questions, part="all" if isinstance(task, DataTask) else "test")


def options_of(name: str, names: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are of the task `name`."""
    found = {}
    for key, value in options.items():
        owner, dot, option = key.rpartition(".")
        if not dot and len(names) > 1:
            raise ConfigError(f"option {key}: there are several tasks; say whose it is, e.g. {names[0]}.{key}")
        if dot and owner not in names:
            raise unknown(f"task of the option {key}:", owner, names)
        if owner in ("", name):
            found[option] = value
    return found


def _twice(groups: Sequence[Group]) -> str | None:
    """The name that two groups have, if there is one."""
    names = [group.name for group in groups]
    return next((name for name in names if names.count(name) > 1), None)


def _group(where: str, row: Any) -> Group:
    try:
        return from_options(Group, row, f"{where},")
    except ConfigError as error:
        raise error if str(error).startswith(where) else ConfigError(f"{where}, {error}") from error
