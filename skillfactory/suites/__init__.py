"""Suites as data: which groups of questions an evaluation asks, shipped or in a file of yours; see `docs/evaluation.md`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from skillfactory.config import from_options
from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.values import came

SUITES = ("mini", "paper")
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
    names = [group.name for group in groups]
    twice = next((group for group in names if names.count(group) > 1), None)
    if twice is not None:
        raise ConfigError(f"{name}: two groups are called '{twice}'; give each a name of its own")
    return groups


def _group(where: str, row: Any) -> Group:
    try:
        return from_options(Group, row, f"{where},")
    except ConfigError as error:
        raise error if str(error).startswith(where) else ConfigError(f"{where}, {error}") from error
