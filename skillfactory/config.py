"""Configuration: a stage's frozen dataclass, filled from a recipe and from flags, each value checked against its field.

Fields carry `metadata={"help": "..."}`. Other keys: `metavar`; `positional` (takes the bare arguments); `split=False` (a comma
belongs to the value); `shown` (what the help calls the default); `remote` (a path may be a URL: `places`). The types are those
of `values`, and one level of nested dataclasses, whose flags are flattened.
"""

import argparse
import dataclasses
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.places import address, is_url
from skillfactory.values import bare, came, choices, coerce, describe, is_many, is_mapping, shown

C = TypeVar("C")
Key = tuple[str, ...]
_METAVARS = {int: "N", float: "X", Path: "PATH"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field that a caller sets: its type, its default (MISSING if it must be given) and its metadata."""

    name: str
    kind: Any
    default: Any
    metadata: Mapping[str, Any]

    @property
    def nested(self) -> type[Any] | None:
        """The dataclass that it holds, if it holds one."""
        return self.kind if isinstance(self.kind, type) and dataclasses.is_dataclass(self.kind) else None


@dataclass(frozen=True, slots=True)
class Option:
    """A setting with its place in the stage's dataclass and its flag."""

    key: Key
    flag: str
    setting: Setting

    @property
    def name(self) -> str:
        """What a recipe calls it: the flag's name in snake case."""
        return self.flag[2:].replace("-", "_")

    @property
    def positional(self) -> bool:
        """Whether it takes the bare arguments instead of a flag."""
        return bool(self.setting.metadata.get("positional"))

    @property
    def spelled(self) -> str:
        """How it is written on the command line, e.g. `--limit N`."""
        if self.positional:
            return self.metavar
        return f"{self.flag}, --no-{self.flag[2:]}" if self.setting.kind is bool else f"{self.flag} {self.metavar}"

    @property
    def metavar(self) -> str:
        """What stands for its value in the help."""
        kind = bare(self.setting.kind)
        if choices(kind):
            fallback = "{" + ",".join(choices(kind)) + "}"
        else:
            fallback = "KEY=VALUE" if is_mapping(kind) else _METAVARS.get(kind, self.key[-1].upper())
        return str(self.setting.metadata.get("metavar", fallback))

    @property
    def text(self) -> str:
        """What it does, and its default."""
        metadata, default = self.setting.metadata, self.setting.default
        ending = "required" if default is MISSING else f"default: {metadata.get('shown') or shown(default)}"
        ending += "; may be a URL" if metadata.get("remote") else ""
        return f"{metadata.get('help', '')} ({ending})".strip()

    @property
    def help(self) -> str:
        """The text of its flag: also whether it may be given several times."""
        if self.positional or not is_many(self.setting.kind) or "repeatable" in self.text:
            return self.text
        return f"{self.text[:-1]}; repeatable)"


def settings(config_type: type[Any]) -> list[Setting]:
    """The fields of a dataclass that a caller sets, with their types resolved."""
    hints = get_type_hints(config_type)
    found = []
    for field in dataclasses.fields(config_type):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if field.init:
            found.append(Setting(field.name, hints[field.name], default, field.metadata))
    return found


def options(config_type: type[Any]) -> list[Option]:
    """The settings of a stage in the order of its fields, nested ones flattened.

    A nested setting's flag is its bare name where that is unique (`--temperature`), else its parent's name leads.
    """
    found: list[tuple[Key, Setting]] = []
    for outer in settings(config_type):
        if outer.nested is None:
            found.append(((outer.name,), outer))
            continue
        for inner in settings(outer.nested):
            default = inner.default if outer.default is MISSING else getattr(outer.default, inner.name)
            found.append(((outer.name, inner.name), dataclasses.replace(inner, default=default)))
    leaves = [key[-1] for key, _ in found]
    return [Option(key, _flag(key if leaves.count(key[-1]) > 1 else key[-1:]), setting) for key, setting in found]


def add_arguments(parser: argparse.ArgumentParser, config_type: type[Any]) -> None:
    """Gives `parser` an argument for every option. Values stay text: `given` reads and checks them."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in options(config_type):
        if len(option.key) == 1:
            _add_argument(parser, option)
            continue
        name = option.key[0]
        if name not in groups:
            about = next(setting.nested.__doc__ for setting in settings(config_type) if setting.name == name and setting.nested)
            groups[name] = parser.add_argument_group(name.replace("_", " "), about)
        _add_argument(groups[name], option)


def given(namespace: argparse.Namespace, config_type: type[Any]) -> dict[str, Any]:
    """The options that the command line sets, checked, as nested mappings; errors name the flag."""
    names: dict[Key, str] = {}
    values: dict[str, Any] = {}
    for option in options(config_type):
        *outer, leaf = option.key
        names[option.key] = option.metavar if option.positional else option.flag
        if hasattr(namespace, ".".join(option.key)):
            place = values.setdefault(outer[0], {}) if outer else values
            place[leaf] = getattr(namespace, ".".join(option.key))
    return checked(config_type, values, lambda key: names[key], raw=True)


def read_recipe(path: Path, stage: str, config_type: type[Any], stages: Iterable[str]) -> dict[str, Any]:
    """The options that a recipe sets for one stage, checked.

    A recipe is a YAML mapping of stages (`curate:`, `build:` …) to their options. A nested option may also stand beside the
    others, under its flag's name. Errors name the file, the key, what was expected and what came; a recipe that says nothing of
    the stage is one.
    """
    content = read_text_yaml(path)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: expected a mapping of stages to their options, came {came(content)}")
    known = tuple(stages)
    for name in content:
        if name not in known:
            raise ConfigError(f"{path}: {unknown('stage', name, known)}")
    if stage not in content:
        raise ConfigError(f"{path}: says nothing of '{stage}' (it has: {', '.join(content) or 'nothing'})")
    return checked(config_type, content[stage] or {}, lambda key: f"{path}: {'.'.join((stage, *key))}", raw=True)


def read_text_yaml(path: Path) -> Any:
    """The content of a recipe, every scalar as text: the type of the field that it is for gives it meaning."""
    try:
        return yaml.load(path.read_text("utf-8"), Loader=_TextLoader)
    except OSError as error:
        raise InputError(f"{path}: can't read the recipe: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        advice = "; a text that begins with * must be quoted, e.g. '*C_full'" if "alias" in str(error) else ""
        raise InputError(f"{path}: not a YAML file: {' '.join(str(error).split())}{advice}") from error


def checked(
    config_type: type[Any], values: Any, name: Callable[[Key], str], outer: Key = (), *, raw: bool = False
) -> dict[str, Any]:
    """`values` with every key known and every value of its field's type; `name` says how messages call a key.

    `raw` leaves text under Mapping[str, Any] as it is: these are options of a task or an engine, whose own fields type them.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name(outer)}: expected a mapping of options, came {came(values)}")
    known = {setting.name: setting for setting in settings(config_type)}
    homes = {option.name: option.key for option in options(config_type) if option.name not in known}
    result: dict[str, Any] = {}
    for key, value in _housed(values, homes, lambda key: name((*outer, key))).items():
        setting = known.get(key)
        if setting is None:
            raise ConfigError(f"{name(outer)}: {unknown('key', str(key), [*known, *homes])}")
        if setting.nested is not None:
            result[key] = checked(setting.nested, value, name, (*outer, key), raw=raw)
        else:
            split, remote = bool(setting.metadata.get("split", True)), bool(setting.metadata.get("remote"))
            result[key] = coerce(value, setting.kind, name((*outer, key)), split=split, raw=raw, remote=remote)
    return result


def _housed(values: Mapping[str, Any], homes: Mapping[str, Key], name: Callable[[str], str]) -> dict[str, Any]:
    """`values` with the nested options that stand under their flag's name moved to their place."""
    result = {key: value for key, value in values.items() if key not in homes}
    for key in (key for key in values if key in homes):
        outer, leaf = homes[key]
        place = result.get(outer, {})
        if isinstance(place, Mapping):
            if leaf in place:
                raise ConfigError(f"{name(key)}: stands under '{outer}' too; give it once")
            result[outer] = {**place, leaf: values[key]}
    return result


def construct(config_type: type[C], *layers: Mapping[str, Any]) -> C:
    """A stage's configuration: its defaults, overridden by each layer of checked values in turn.

    A setting that `replaces` others does away with what earlier layers say of them.
    """
    values: dict[str, Any] = {}
    known = settings(config_type)
    for place, layer in enumerate(layers):
        gone = {other for setting in known if setting.name in layer for other in setting.metadata.get("replaces", ())}
        layers = (*({k: v for k, v in each.items() if k not in gone} for each in layers[:place]), *layers[place:])
    for setting in known:
        found = [layer[setting.name] for layer in layers if setting.name in layer]
        if not found:
            if setting.default is MISSING:
                raise _missing(config_type, setting.name)
        elif setting.nested is None:
            values[setting.name] = found[-1]
        elif setting.default is MISSING:
            values[setting.name] = construct(setting.nested, *found)
        else:
            inner = {key: value for layer in found for key, value in layer.items()}
            values[setting.name] = dataclasses.replace(setting.default, **inner)
    return config_type(**values)


def from_options(config_type: type[C], values: Mapping[str, Any], what: str) -> C:
    """A dataclass filled from key=value options; messages call one `what` and its key, e.g. "engine option timeout"."""
    found = checked(config_type, values, lambda key: " ".join((what, *key)) if key else what.rstrip(","))
    for setting in settings(config_type):
        if setting.default is MISSING and setting.name not in found:
            raise ConfigError(f"{what} {setting.name} is missing: {setting.metadata.get('help', describe(setting.kind))}")
    return construct(config_type, found)


def dump(config: Any) -> dict[str, Any]:
    """The effective configuration as JSON-safe values, defaults included; a recipe with these values gives it back."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config) if field.init}


def _missing(config_type: type[Any], name: str) -> ConfigError:
    option = next(option for option in options(config_type) if option.key[0] == name)
    called = option.metavar if option.positional else option.flag
    return ConfigError(f"{called} is missing: give it on the command line, or '{name}' in a recipe")


def _flag(key: Key) -> str:
    return "--" + "-".join(key).replace("_", "-")


def _add_argument(target: argparse._ActionsContainer, option: Option) -> None:
    """Adds one option's argument; what isn't on the command line leaves no trace in the namespace."""
    dest, kind = ".".join(option.key), option.setting.kind
    common: dict[str, Any] = {"default": argparse.SUPPRESS, "help": option.help.replace("%", "%%")}
    if kind is bool:
        target.add_argument(option.flag, dest=dest, action=argparse.BooleanOptionalAction, **common)
    elif option.positional:
        target.add_argument(dest, nargs="*" if is_many(kind) else "?", metavar=option.metavar, **common)
    else:
        action = "append" if is_many(kind) else "store"
        target.add_argument(option.flag, dest=dest, action=action, metavar=option.metavar, **common)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return dump(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if value is None or type(value) in (str, int, float, bool):
        return value
    text = str(value)  # the member of an enumeration, or a place
    return address(value) if is_url(text) and not isinstance(value, str) else text


class _TextLoader(yaml.BaseLoader):
    """Reads scalars as text, so that the field's type gives them meaning: plain YAML makes 8 of 010 and text of 1e-6."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping; a key that stands twice is an error."""
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"the key '{twice}' stands twice in the mapping at line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)
