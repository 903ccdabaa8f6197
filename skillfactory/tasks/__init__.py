"""The tasks by name. A task is a frozen dataclass that fulfils `tasks.base.Task`; its fields are its options."""

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

import yaml

from skillfactory.config import settings
from skillfactory.errors import ConfigError, searched, unknown
from skillfactory.tasks.base import Task
from skillfactory.values import bare, choices, coerce, is_many, is_mapping

TASKS: dict[str, str] = {
    # generated
    "countdown": "skillfactory.tasks.countdown:Countdown",
    "letter_countdown": "skillfactory.tasks.words:LetterCountdown",
    "acronym": "skillfactory.tasks.words:Acronym",
    "multiplication": "skillfactory.tasks.multiplication:Multiplication",
    # from data sets
    "gsm8k": "skillfactory.tasks.mathematics:GSM8K",
    "commonsenseqa": "skillfactory.tasks.choice:CommonsenseQA",
    "gpqa": "skillfactory.tasks.choice:GPQA",
    "aime2025": "skillfactory.tasks.mathematics:AIME2025",
    "amc2023": "skillfactory.tasks.mathematics:AMC2023",
    "math500": "skillfactory.tasks.mathematics:MATH500",
    "openthoughts": "skillfactory.tasks.mathematics:OpenThoughts",
    # from a library, and yours
    "gym": "skillfactory.tasks.gym:Gym",
    "custom": "skillfactory.tasks.custom:Custom",
}

_MEMBERS = ("name", "levels", "answer_format", "questions", "question", "canonical", "check")


def resolve(name: str, options: Mapping[str, Any] | None = None) -> Task:
    """The task `name` with `options`: a name in TASKS, or "module:object" where the object makes a task or is one.

    Options of a dataclass are read as its fields' types say, texts too: "1,10" is (1, 10). ConfigError for a name, module,
    object or option that isn't there, an option that is missing or of another type, and an object that isn't a task.
    """
    if ":" not in name and name not in TASKS:
        raise unknown("task", name, TASKS)
    found = _imported(TASKS.get(name, name))
    values = dict(options or {})
    if callable(found):
        _check_options(name, found, values)
        found = found(**_typed(name, found, values))
    elif values:
        raise ConfigError(f"'{name}' is a ready-made task and takes no options, but got: {', '.join(values)}")
    absent = [member for member in _MEMBERS if not hasattr(found, member)]
    if absent:
        raise ConfigError(f"'{name}' isn't a task: it lacks {', '.join(absent)}; see skillfactory.tasks.base.Task")
    return cast(Task, found)


def _imported(path: str) -> Any:
    """The object that "module:object" names."""
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"the module of the task '{path}' can't be imported ({error}); {searched()}") from error
    if not hasattr(module, attribute):
        raise unknown(f"object in {module_name}", attribute, [key for key in vars(module) if not key.startswith("_")])
    return getattr(module, attribute)


def _check_options(name: str, maker: Any, options: Mapping[str, Any]) -> None:
    """Raises ConfigError if `maker` doesn't take these options, or needs others too."""
    parameters = inspect.signature(maker).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for option in options:
            if option not in parameters:
                raise unknown(f"option of task {name}:", option, parameters)
    any_number = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    lacking = [k for k, p in parameters.items() if p.default is p.empty and p.kind not in any_number and k not in options]
    if lacking:
        raise ConfigError(f"task {name} needs the option{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}")


def _typed(name: str, maker: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the fields of the dataclass `maker` have them; for other makers, and other types, see `_plain`."""
    known = isinstance(maker, type) and dataclasses.is_dataclass(maker)
    kinds = {each.name: each.kind for each in settings(maker)} if known else {}
    return {key: _read(f"option {key} of task {name}", value, kinds.get(key, Any)) for key, value in options.items()}


def _read(where: str, value: Any, kind: Any) -> Any:
    """`value` as a `kind`, if that is a type which texts can be read as."""
    many, inner = is_many(kind), bare(kind)
    readable = many or choices(kind) or inner in (str, int, float, bool, Path)
    if not readable or kind not in (inner, inner | None):  # a choice of types is the maker's own affair
        return _plain(tuple(value) if isinstance(value, list) else value)
    if many and isinstance(value, str) and value.startswith("["):
        value = coerce(value, Any, where)
    if is_mapping(kind) and isinstance(value, Mapping):
        return _plain(value)
    if value is None and kind is str:  # what YAML makes of an empty text
        return ""
    places = [place for place in get_args(inner) if place is not ...] if many and not is_mapping(kind) else []
    form = f"; a list is written {'[1,10]' if places[:1] == [int] else '[a,b]'}"
    try:
        found = coerce(value, kind, where, split=isinstance(value, str))
    except ConfigError as error:
        raise ConfigError(f"{error}{form}" if places else str(error)) from error
    if len(places) > 1 and found is not None and len(found) != len(places):
        raise ConfigError(f"{where}: expected {len(places)} values, came {len(found)}{form}")
    return found


def _plain(value: Any) -> Any:
    """`value`, its texts that read as a number, true or false turned into these: recipes and flags give nothing but text."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    try:
        found = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        return value
    return found if isinstance(found, int | float) else value
