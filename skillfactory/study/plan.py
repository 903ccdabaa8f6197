"""What a study has to run: one node for each stage with its options, its inputs and its seed, shared by the arms that agree.

A node's folder is named after all of that, so a changed option makes anew what depends on it, and nothing else.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from skillfactory import __version__
from skillfactory.config import checked, construct, dump, options
from skillfactory.curate import sources
from skillfactory.embedded import located
from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.seeds import derive, digest
from skillfactory.study.parts import Part, part
from skillfactory.study.recipe import Evaluation, Recipe, Stage
from skillfactory.train.fingerprints import fingerprint


@dataclass(frozen=True, slots=True)
class Node:
    """One run of one stage. `options` are all of its command's, JSON-safe; those with paths are what recipe.yaml holds."""

    id: str
    stage: str
    command: str
    folder: Path
    options: Mapping[str, Any]
    needs: tuple[str, ...]  # ids of the nodes whose outputs it reads
    seed: int  # the study's seed that it is run for; where several share it, the first

    @property
    def output(self) -> Path:
        """What its command writes."""
        return self.folder / f"out{part(self.command).suffix}"

    @property
    def note(self) -> Path:
        """The file that says that it is done, with what it cost."""
        return self.folder / "done.json"


@dataclass(frozen=True, slots=True)
class Lineage:
    """How an arm is made under one seed, and where it is judged."""

    arm: str
    seed: int
    nodes: tuple[str, ...]  # the chain, in order
    evaluations: Mapping[str, str]  # stage → node


@dataclass(slots=True)
class Plan:
    """All nodes by id, and the arms that rest on them."""

    nodes: dict[str, Node] = field(default_factory=dict)
    lineages: list[Lineage] = field(default_factory=list)

    def order(self) -> list[Node]:
        """The nodes in the order in which one worker would run them: by seed, then the head of the longest chain first."""
        length = self.lengths()
        left, done, ordered = dict(self.nodes), set[str](), []
        while left:
            ready = [node for node in left.values() if done >= {*node.needs}]
            first = min(ready, key=lambda node: (node.seed, -length[node.id]))
            ordered.append(left.pop(first.id))
            done.add(first.id)
        return ordered

    def lengths(self) -> dict[str, float]:
        """For each node, the weight of the longest chain of nodes that begins with it."""
        length: dict[str, float] = {}
        for node in reversed(self.nodes.values()):  # a node stands behind those that it needs
            after = (length[other.id] for other in self.nodes.values() if node.id in other.needs and other.id in length)
            length[node.id] = part(node.command).weight + max(after, default=0.0)
        return length

    def users(self, node: str) -> tuple[str, ...]:
        """The arms that rest on a node, in the recipe's order."""
        after = {name for name, other in self.nodes.items() if name == node or node in other.needs}
        found = (each.arm for each in self.lineages if after & {*each.nodes, *each.evaluations.values()})
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Made:
    """Something that a chain hands on: where it is, and what it is, whatever its folder is called."""

    path: str
    identity: str
    node: Node | None = None


@dataclass(slots=True)
class _Chain:
    """What a chain has come to."""

    base: Made
    model: Made
    data: dict[str, Made] = field(default_factory=dict)  # run, traces: since the last run was curated


def plan(recipe: Recipe, arms: Sequence[str] = (), seeds: Sequence[int] = ()) -> Plan:
    """The nodes of some arms and seeds of a recipe (all of them if none is named); ConfigError for unknown ones."""
    for name in arms:
        if name not in {arm.name for arm in recipe.arms}:
            raise unknown("arm", name, [arm.name for arm in recipe.arms])
    for seed in seeds:
        if seed not in recipe.run.seeds:
            raise ConfigError(f"seed {seed}: the recipe has the seeds {', '.join(map(str, recipe.run.seeds))}")
    made = Plan()
    for place, seed in enumerate(recipe.run.seeds):
        if seeds and seed not in seeds:
            continue
        model = recipe.run.model[place % len(recipe.run.model)]
        for arm in recipe.arms:
            if arms and arm.name not in arms:
                continue
            chain = _Chain(base := Made(model, _identity(model)), base)
            ids = tuple(_add(made, recipe, stage, chain, seed).id for stage in arm.stages)
            judged = (each for each in recipe.evaluations if arm.name in each.arms)
            evaluations = {each.stage.name: _add(made, recipe, each.stage, chain, seed).id for each in judged}
            made.lineages.append(Lineage(arm.name, seed, ids, evaluations))
    return made


def evaluate_at(made: Plan, recipe: Recipe, evaluation: Evaluation, model: Made, seed: int) -> Node:
    """A node, added to the plan, that evaluates another model, such as a kept checkpoint."""
    return _add(made, recipe, evaluation.stage, _Chain(model, model), seed)


def value(node: Node, name: str) -> Any:
    """An option of a node by the name that recipes use; None if its command has none of that name."""
    found: Any = None
    for option in options(part(node.command).config()):
        if option.name == name:
            found = node.options
            for key in option.key:
                found = found[key]
    return found


def _add(made: Plan, recipe: Recipe, stage: Stage, chain: _Chain, seed: int) -> Node:
    """The node of a stage at the end of a chain, new or shared, and the chain with what it gives."""
    kind = part(stage.command)
    where = f"{recipe.path}: stage {stage.name}"
    given = _given(where, stage, kind, chain)
    named = {option.name: option.key for option in options(kind.config())}
    settings = _options(where, stage, given, _seed(stage, kind, chain, seed))
    known = json.loads(json.dumps(settings))
    for name, thing in given.items():
        _set(known, named[name], thing.identity)
    replayed = _replayed(made, recipe, settings.get(kind.texts, ()), seed)
    if replayed:
        known[kind.texts] = [
            _put(entry, {name: thing.identity for name, thing in replayed.items()}) for entry in known[kind.texts]
        ]
        settings[kind.texts] = [
            _put(entry, {name: thing.path for name, thing in replayed.items()}) for entry in settings[kind.texts]
        ]
    for neutral in ("output", *kind.neutral):
        if neutral in named:
            _set(known, named[neutral], "")
    known.pop("machines", None)  # where a stage runs changes no result
    told = [stage.name, stage.command, known, _contents(kind.config(), known), __version__]
    name = f"{stage.name}-{digest(json.dumps(told, sort_keys=True))}"
    folder = recipe.run.output / "stages" / name
    _set(settings, named["output"], str(folder / f"out{kind.suffix}"))
    needs = tuple(thing.node.id for thing in (*given.values(), *replayed.values()) if thing.node)
    node = made.nodes.setdefault(name, Node(name, stage.name, stage.command, folder, settings, needs, seed))
    result = Made(str(node.output), name, node)
    if kind.gives == "model":
        chain.model = result
    elif kind.gives in ("run", "traces"):
        chain.data = ({} if kind.gives == "run" else chain.data) | {kind.gives: result}
    return node


def _given(where: str, stage: Stage, kind: Part, chain: _Chain) -> dict[str, Made]:
    """What the chain gives a stage, by option: what the stage doesn't name itself."""
    given = {}
    if kind.model and not _says(stage, kind, kind.model):
        given[kind.model] = chain.base if stage.origin == "base" else chain.model
    if kind.data and not _says(stage, kind, kind.data):
        found = [chain.data[takes] for takes in kind.takes if takes in chain.data]
        if not found:
            earlier = " or ".join({"run": "curate", "traces": "build"}[takes] for takes in kind.takes)
            raise ConfigError(
                f"{where}: '{stage.command}' has nothing to work on; let a stage of {earlier} come before it, "
                f"or give it {kind.data}"
            )
        given[kind.data] = found[0]
    return given


def _replayed(made: Plan, recipe: Recipe, entries: Iterable[str], seed: int) -> dict[str, Made]:
    """The texts that NAME@SHARE entries name: of stages of the recipe, which are added to the plan."""
    found = {}
    for entry in entries:
        stage = recipe.stages.get(entry.rpartition("@")[0])
        if stage is not None and part(stage.command).gives == "texts":
            node = _add(made, recipe, stage, _Chain(Made("", ""), Made("", "")), seed)
            found[stage.name] = Made(str(node.output), node.id, node)
    return found


def _put(entry: str, places: Mapping[str, str]) -> str:
    """NAME@SHARE with the place of the name in its stead."""
    name, at, share = entry.rpartition("@")
    return f"{places.get(name, name)}{at}{share}"


def _seed(stage: Stage, kind: Part, chain: _Chain, seed: int) -> dict[str, Any]:
    """The seed of a stage: derived from the study's by the stage's name. Traces are drawn with the seed of their run.

    Evaluations take theirs from the study's seed alone, so all arms answer with the same luck.
    """
    if not kind.seed:
        return {}
    run = chain.data.get("run")
    if kind.gives == "traces" and run is not None and run.node is not None and not _says(stage, kind, kind.data):
        return {kind.seed: value(run.node, kind.seed)}
    return {kind.seed: derive(seed, "study", stage.name) >> 33}  # 31 bits: what every trainer takes


def _options(where: str, stage: Stage, given: Mapping[str, Made], seed: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a stage's command, the paths of what the chain gives in place."""
    config_type = part(stage.command).config()
    paths = {name: thing.path for name, thing in given.items()} | {"output": "out"}
    layers = [checked(config_type, layer, lambda key: ".".join((where, *key))) for layer in (seed, paths)]
    try:
        config = construct(config_type, layers[0], *stage.layers, layers[1])
        part(stage.command).check(config)
        return dump(config)
    except (ConfigError, InputError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _says(stage: Stage, kind: Part, name: str) -> bool:
    """Whether a stage's own options hold one of this name."""
    key = next(option.key for option in options(kind.config()) if option.name == name)
    for layer in stage.layers:
        found: Any = layer
        for part_ in key:
            found = found.get(part_) if isinstance(found, Mapping) else None
        if found is not None:
            return True
    return False


def _set(values: dict[str, Any], key: Iterable[str], new: Any) -> None:
    *outer, leaf = key
    for name in outer:
        values = values[name]
    values[leaf] = new


def _contents(config_type: type[Any], values: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of what options name: files, folders, models, and modules with tasks or graders of the user's own."""
    found: dict[str, str] = {}
    for option in options(config_type):
        if option.key[0] not in values:  # where it runs
            continue
        named: Any = values
        for key in option.key:
            named = named[key]
        folders = option.setting.kind is Path or option.name in ("model", "tokenizer", "inputs", "data")
        for text in _texts(named):
            found |= sources(text)
            for name in (text, text.rpartition("@")[0]):  # FILE, or FILE@SHARE
                path = Path(located(name))
                if path.is_file() or (name and folders and path.is_dir()):
                    found[name] = _fingerprint(str(path))
    return found


def _texts(value: Any) -> Iterable[str]:
    """The texts in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))


def _identity(model: str) -> str:
    """What tells a model from another: its files' contents if it is a folder, else its name."""
    path = Path(located(model))
    if path.is_dir():
        return f"{model} {_fingerprint(str(path))}"
    if model.startswith((".", "/")):
        raise InputError(f"{model}: there is no such model folder")
    return model


def _fingerprint(path: str) -> str:
    """A hash of a file, or of the files of a folder, hidden ones and those of its folders left out."""
    place = Path(path)
    files = [place] if place.is_file() else sorted(place.glob("[!.]*"))
    return _hashed(path, tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=256)
def _hashed(path: str, state: tuple[tuple[str, int, int], ...]) -> str:
    """The hash, made once for each state of the files."""
    return fingerprint(Path(path), "[!.]*")
