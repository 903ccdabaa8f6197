"""A study's recipe, read and checked: stages by name, arms as chains of them, evaluations, comparisons. `docs/studies.md`.

It holds values only. Every stage's options are checked against its command's configuration before anything starts.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from skillfactory.config import checked, read_text_yaml
from skillfactory.errors import ConfigError, unknown
from skillfactory.study.parts import part
from skillfactory.values import came

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_SECTIONS = ("run", "stages", "arms", "evaluate", "compare", "labels")
_OWN = ("command", "from")  # keys of a stage that are the study's, not the command's


@dataclass(frozen=True)
class RunSection:
    """What `run:` holds."""

    output: Path = field(metadata={"help": "the folder of the study"})
    title: str = field(default="", metadata={"help": "the title of the report", "shown": "the recipe's name"})
    about: str = field(default="", metadata={"help": "what is compared and why, for the report"})
    model: tuple[str, ...] = field(
        default=("mini",), metadata={"help": "the model that arms begin with; seed i takes model i, and round again"}
    )
    seeds: tuple[int, ...] = field(default=(0,), metadata={"help": "the study's seeds: each runs every arm once"})
    workers: int = field(default=1, metadata={"help": "stages that run at the same time"})

    def __post_init__(self) -> None:
        for name, value in (("model", self.model), ("seeds", self.seeds)):
            if not value or len({*value}) < len(value):
                raise ConfigError(f"{name}: expected one or more different values, came {list(value)}")
        if self.workers < 1:
            raise ConfigError(f"workers: expected 1 or more, came {self.workers}")


@dataclass(frozen=True, slots=True)
class Stage:
    """A named stage: a command, its options (checked, the stage's own first, then what an arm overrides), and its model."""

    name: str
    command: str
    origin: Literal["last", "base"]  # which model it takes: the last one of the chain, or the first
    layers: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to make a model: stages in order. No stage: the base model as it is."""

    name: str
    label: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation of the last models of some arms."""

    stage: Stage
    arms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A study."""

    path: Path
    run: RunSection
    stages: Mapping[str, Stage]
    arms: tuple[Arm, ...]
    evaluations: tuple[Evaluation, ...]
    compare: tuple[tuple[str, str], ...]  # (arm, baseline), either one perhaps as ARM/EVALUATION


def read(path: Path) -> Recipe:
    """The recipe in a file; errors name the file, the key, what was expected and what came."""
    content = read_text_yaml(path)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: expected a mapping of {', '.join(_SECTIONS)}, came {came(content)}")
    for key in content:
        if key not in _SECTIONS:
            raise ConfigError(f"{path}: {unknown('section', str(key), _SECTIONS)}")
    section = _mapping(path, "run", content.get("run", ""))
    if "output" not in section:
        raise ConfigError(f"{path}: run.output is missing: the folder of the study")
    run = _refine(f"{path}: run", lambda: RunSection(**_checked(path, ("run",), RunSection, section)))
    stages = {name: _stage(path, name, body) for name, body in _mapping(path, "stages", content.get("stages", {})).items()}
    chains = _mapping(path, "arms", content.get("arms", ""))
    labels = _labels(path, content.get("labels", {}), chains)
    arms = tuple(_arm(path, name, chain, stages, labels.get(name, name)) for name, chain in chains.items())
    evaluations = tuple(_evaluations(path, content.get("evaluate", []), stages, tuple(chains)))
    rows = tuple(_rows(tuple(chains), evaluations))
    return Recipe(path, run, stages, arms, evaluations, tuple(_pairs(path, content.get("compare", []), rows)))


def _stage(path: Path, name: str, body: Any) -> Stage:
    """A stage of `stages:`."""
    where = f"{path}: stages.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: a stage's name is made of letters, digits, '_', '.', '+' and '-'")
    values = _mapping(path, f"stages.{name}", body)
    if "command" not in values:
        raise ConfigError(f"{where}.command is missing: it says what the stage does, e.g. command: curate")
    bare = Stage(name, str(values["command"]), "last", ())
    _refine(f"{where}.command", lambda: part(bare.command))
    return _with(path, ("stages", name), bare, values)


def _with(path: Path, place: tuple[str, ...], stage: Stage, values: Mapping[str, Any]) -> Stage:
    """`stage` with more options; `place` is where in the recipe they stand."""
    config_type = part(stage.command).config()
    if "output" in values:
        raise ConfigError(f"{path}: {'.'.join(place)}.output: the study gives each stage its own folder; leave it out")
    origin = values.get("from", stage.origin)
    if origin not in ("last", "base"):
        raise ConfigError(f"{path}: {'.'.join(place)}.from: expected last or base, came {came(origin)}")
    rest = {key: value for key, value in values.items() if key not in _OWN}
    layer = _checked(path, place, config_type, rest)
    return replace(stage, origin=cast(Literal["last", "base"], origin), layers=(*stage.layers, layer))


def _arm(path: Path, name: str, chain: Any, stages: Mapping[str, Stage], label: str) -> Arm:
    """An arm: its chain of stages, with the options that it overrides."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{path}: arms.{name}: an arm's name is made of letters, digits, '_', '.', '+' and '-'")
    found = []
    for stage, more in _links(path, f"arms.{name}", chain, stages):
        if part(stage.command).gives == "numbers":
            raise ConfigError(f"{path}: arms.{name}: '{stage.name}' is an evaluation; name it under 'evaluate:'")
        if "command" in more:
            raise ConfigError(f"{path}: arms.{name}.{stage.name}.command: an arm overrides options; name another stage instead")
        found.append(_with(path, ("arms", name, stage.name), stage, more) if more else stage)
    return Arm(name, label, tuple(found))


def _evaluations(path: Path, items: Any, stages: Mapping[str, Stage], arms: tuple[str, ...]) -> Iterable[Evaluation]:
    """The evaluations, each with its arms: all of them unless it says `arms:`."""
    for stage, more in _links(path, "evaluate", items, stages):
        if part(stage.command).gives != "numbers":
            raise ConfigError(f"{path}: evaluate: '{stage.name}' is a stage of '{stage.command}'; expected one of 'evaluate'")
        chosen = more.get("arms", list(arms))
        for arm in _list(path, f"evaluate.{stage.name}.arms", chosen):
            if arm not in arms:
                raise ConfigError(f"{path}: evaluate.{stage.name}.arms: {unknown('arm', str(arm), arms)}")
        rest = {key: value for key, value in more.items() if key != "arms"}
        yield Evaluation(_with(path, ("evaluate", stage.name), stage, rest) if rest else stage, tuple(map(str, chosen)))


def _links(path: Path, place: str, items: Any, stages: Mapping[str, Stage]) -> Iterable[tuple[Stage, Mapping[str, Any]]]:
    """The items of a chain: a stage's name, or `name: {option: value}`."""
    for item in _list(path, place, items):
        named = item if isinstance(item, Mapping) else {item: {}}
        if not all(isinstance(name, str) for name in named):
            raise ConfigError(f"{path}: {place}: expected a stage's name, came {came(item)}")
        for name, more in named.items():
            if name not in stages:
                raise ConfigError(f"{path}: {place}: {unknown('stage', name, stages)}")
            yield stages[name], _mapping(path, f"{place}.{name}", more)


def _labels(path: Path, content: Any, arms: Mapping[str, Any]) -> Mapping[str, str]:
    labels = _mapping(path, "labels", content)
    for name, label in labels.items():
        if name not in arms:
            raise ConfigError(f"{path}: labels: {unknown('arm', name, arms)}")
        if not isinstance(label, str) or not label:
            raise ConfigError(f"{path}: labels.{name}: expected text, came {came(label)}")
    return labels


def _rows(arms: Iterable[str], evaluations: Iterable[Evaluation]) -> Iterable[str]:
    """What the table's rows are called: an arm, and for each further evaluation of it ARM/EVALUATION."""
    for arm in arms:
        judged = [each.stage.name for each in evaluations if arm in each.arms]
        yield arm
        yield from (f"{arm}/{name}" for name in judged[1:])


def _pairs(path: Path, content: Any, rows: Iterable[str]) -> Iterable[tuple[str, str]]:
    """The pairs of rows under `compare:`."""
    for item in _list(path, "compare", content):
        if not isinstance(item, list) or len(item) != 2:
            raise ConfigError(f"{path}: compare: expected pairs such as [arm, baseline], came {came(item)}")
        for name in item:
            if name not in rows:
                raise ConfigError(f"{path}: compare: {unknown('row of the table', str(name), rows)}")
        yield item[0], item[1]


def _mapping(path: Path, place: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) and value != "":
        raise ConfigError(f"{path}: {place}: expected a mapping, came {came(value)}")
    if not value and place in ("run", "arms"):
        raise ConfigError(f"{path}: says nothing of '{place}'")
    return cast(Mapping[str, Any], value or {})


def _list(path: Path, place: str, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise ConfigError(f"{path}: {place}: expected a list, came {came(value)}")


def _checked(path: Path, place: tuple[str, ...], config_type: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` checked against a configuration; errors call a key by its place in the recipe."""
    return checked(config_type, values, lambda key: f"{path}: {'.'.join((*place, *key))}", raw=True)


def _refine(where: str, call: Callable[[], Any]) -> Any:
    """What `call` gives; its errors say `where`."""
    try:
        return call()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
