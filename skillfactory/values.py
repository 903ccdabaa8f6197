"""Values of configuration fields: text given by a recipe or a flag, turned into what the field's type says.

Types: str, int, float, bool, Path, StrEnum, Literal, tuples and string-keyed mappings of these, and each of them `| None`.
`Any` reads text as YAML does, unless it is to be left `raw` for a consumer that knows the type. A Path is one on this machine;
where fields are `remote` it may be a URL.
"""

import types
from collections.abc import Mapping
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from skillfactory.errors import ConfigError
from skillfactory.places import is_url, place

_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NONE = ("", "~", "none", "null")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path", str: "text"}


def bare(kind: Any) -> Any:
    """The type without its `| None`."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(argument for argument in get_args(kind) if argument is not types.NoneType)
    return kind


def is_many(kind: Any) -> bool:
    """Whether values of a type hold several: a tuple or a mapping."""
    return get_origin(bare(kind)) is tuple or is_mapping(kind)


def is_mapping(kind: Any) -> bool:
    """Whether values of a type are key=value pairs."""
    return get_origin(bare(kind)) in (dict, Mapping)


def choices(kind: Any) -> tuple[str, ...]:
    """The values of an enumeration or a Literal; () for other types."""
    kind = bare(kind)
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else ()


def coerce(value: Any, kind: Any, where: str, *, split: bool = True, raw: bool = False, remote: bool = False) -> Any:
    """`value` as a `kind`, text parsed; ConfigError says what was expected at `where` and what came.

    A tuple takes a list or one value; text items are split at commas unless `split` is off. `raw` leaves what is of any type
    as it came. A mapping may come as the text of a YAML (so also JSON) flow mapping. A URL is taken for a path if `remote`.
    """
    if kind is Any:
        return value if raw else _untyped(value, where)
    inner = bare(kind)
    if inner is not kind and (value is None or (isinstance(value, str) and value.lower() in _NONE)):
        return None
    if is_mapping(inner):
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value, raw = _untyped(value, where), True  # its values have their types already
        return {key: coerce(item, get_args(inner)[1], f"{where} {key}", raw=raw) for key, item in _pairs(value, where)}
    if is_many(inner):
        items = value if isinstance(value, (list, tuple)) else [value]
        parts = [part for item in items for part in (_parts(item) if split else [item])]
        return tuple(coerce(part, get_args(inner)[0], where, remote=remote) for part in parts)
    if inner is Path and is_url(value):
        if remote:
            return place(str(value))
        raise ConfigError(_elsewhere(where, value))
    if _is_scalar(value):
        result = _scalar(value, inner)
        if result is not None:
            return result
    raise ConfigError(f"{where}: expected {describe(kind)}, came {came(value)}")


def on_this_machine(text: str, where: str) -> Path:
    """The path that a text names; ConfigError if it is a URL, which would be taken for a strange path."""
    if is_url(text):
        raise ConfigError(_elsewhere(where, text))
    return Path(text)


def _elsewhere(where: str, url: str) -> str:
    return f"{where}: expected a path on this machine, came the URL '{url}'"


def describe(kind: Any) -> str:
    """What values of a type look like, in words, e.g. "a whole number"."""
    inner = bare(kind)
    if is_mapping(inner):
        words = "key=value pairs"
    elif is_many(inner):
        words = f"a list (each {describe(get_args(inner)[0])})"
    else:
        words = "one of " + ", ".join(choices(inner)) if choices(inner) else _WORDS.get(inner, "a value")
    return words if inner is kind else f"{words} or none"


def shown(value: Any) -> str:
    """A default as the help shows it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None or value == {} else str(value) or "empty"


def came(value: Any) -> str:
    """A value that doesn't fit, as messages call it."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "nothing" if value in ("", None) else repr(value)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float, Path))


def _scalar(value: str | int | float | Path, kind: Any) -> Any:
    """`value` as a scalar type, None if it doesn't fit."""
    text = str(value)
    if kind is bool:
        return _SWITCH.get(text.lower())
    if isinstance(value, bool):
        return None
    if choices(kind):
        return None if text not in choices(kind) else kind(text) if isinstance(kind, type) else text
    if kind in (str, Path):
        return kind(text) if text or kind is str else None
    try:
        number = kind(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _untyped(value: Any, where: str) -> Any:
    """`value` with its texts read as YAML scalars or flow lists, at any depth."""
    if isinstance(value, Mapping):
        return {key: _untyped(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_untyped(item, where) for item in value]
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: expected a YAML value, came {value!r}") from error


def _parts(item: Any) -> list[Any]:
    """The items of a comma list; anything but text is one item."""
    return [part.strip() for part in item.split(",") if part.strip()] if isinstance(item, str) else [item]


def _pairs(value: Any, where: str) -> list[tuple[str, Any]]:
    """The pairs of a mapping, or of `key=value` texts."""
    if isinstance(value, Mapping):
        return list(value.items())
    pairs = []
    for item in value if isinstance(value, (list, tuple)) else [value]:
        key, equals, text = item.partition("=") if isinstance(item, str) else ("", "", "")
        if not equals or not key:
            raise ConfigError(f"{where}: expected key=value, came {came(item)}")
        pairs.append((key.strip(), text))
    return pairs
