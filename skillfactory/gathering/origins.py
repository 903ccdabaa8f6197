"""Where numbers are from: what runs say of their settings, versions, time and tokens, and of what they kept and dropped."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from skillfactory.errors import InputError
from skillfactory.funnel import Funnel
from skillfactory.outputs import Output, What
from skillfactory.report import Account, Origin, Stage

_FILES = {What.TRACES: "build.json", What.SFT: "training.json", What.GRPO: "training.json"}
_UNITS = ("questions", "attempts", "reflections", "responses")  # in the order in which they are made
_SEED = re.compile(r", (?:seed|run) \d+$")  # with which labels of outputs end
_LONG = 300  # characters of a setting


class Ran:
    """What a run says of itself in its folder."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.what = output.what

    @property
    def title(self) -> str:
        """What readers call it; runs that differ in their seed alone share it."""
        return _SEED.sub("", self.output.label)

    @cached_property
    def said(self) -> Mapping[str, Any]:
        """Its account."""
        return _read(self.output.path / _FILES.get(self.what, "run.json"))

    @cached_property
    def spent(self) -> Mapping[str, Any]:
        """What a study notes of a stage beside its folder; {} outside of studies."""
        path = self.output.path.parent / "done.json"
        return _read(path) if self.output.path.name == "out" and path.is_file() else {}

    @property
    def command(self) -> str:
        """The command that made it; in a study, with the recipe that holds its options, relative to the study's folder."""
        stage = self.output.path.parent
        recipe = f" --recipe {stage.parent.name}/{stage.name}/recipe.yaml" if self.spent else ""
        return f"skillfactory {self.what.value}{recipe}"

    def funnels(self) -> Iterator[Funnel]:
        """What it was asked for, and what became of it."""
        stage = self.what.value
        if self.what is What.TRACES:
            for each in self.said.get("funnels", ()):
                yield Funnel(each["stage"], each["unit"], each["requested"], each["kept"], each["dropped"])
        elif self.what in (What.SFT, What.GRPO):
            found = self.said.get("rows" if self.what is What.SFT else "questions")
            if isinstance(found, Mapping):
                yield Funnel(stage, found["unit"], found["requested"], found["kept"], found["dropped"])
        else:
            counts = self.said.get("counts", {})
            for unit in _UNITS:
                if f"{unit}/requested" in counts:
                    start = f"{unit}/dropped/"
                    dropped = {name.removeprefix(start): number for name, number in counts.items() if name.startswith(start)}
                    yield Funnel(stage, unit, counts[f"{unit}/requested"], counts.get(f"{unit}/kept", 0), dropped)

    def stage(self, arms: tuple[str, ...]) -> Stage:
        """What it cost."""
        counts = self.said.get("counts", {})
        trained = self.said.get("trained_tokens")
        generated = self.said.get("generated_tokens", counts.get("tokens"))
        seconds = self.spent.get("seconds", self.said.get("seconds", self._logged()))
        cpu = self.spent.get("cpu_seconds")
        steps = self.said.get("steps") if isinstance(self.said.get("steps"), int) else None
        return Stage(self.title, arms, self.output.seed, seconds, cpu, steps, generated, trained)

    def _logged(self) -> float | None:
        """The seconds that its processes noted at their ends; None if none did."""
        path = self.output.path / "log.jsonl"
        found = []
        for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a line that a kill tore
            if isinstance(entry, dict) and entry.get("event") == "end":
                found.append(float(entry["seconds"]))
        return sum(found) if found else None

    @property
    def settings(self) -> dict[str, str]:
        """Its settings, those that are nested under names with dots; long texts are cut."""
        notes = self.said.get("notes")  # of run directories: the engine and its options
        return dict(_flat("", {**self.said.get("settings", {}), **(notes if isinstance(notes, dict) else {})}))

    @property
    def versions(self) -> dict[str, str]:
        """The versions of what it ran with."""
        found = self.said.get("versions") or {"skillfactory": self.said.get("version", "")}
        return {name: str(version) for name, version in found.items() if version}


def accounts(runs: Sequence[Ran]) -> Iterator[Account]:
    """The accounts of all runs, those of one title, stage and unit summed."""
    found: dict[tuple[str, str, str], list[Funnel]] = {}
    for ran in runs:
        for funnel in ran.funnels():
            found.setdefault((ran.title, funnel.stage, funnel.unit), []).append(funnel)
    for (title, stage, unit), funnels in found.items():
        dropped: Counter[str] = Counter()
        for funnel in funnels:
            dropped.update(funnel.dropped)
        requested, kept = sum(each.requested for each in funnels), sum(each.kept for each in funnels)
        label = title if stage in title else f"{stage}: {title}"
        yield Account(label, Funnel(stage, unit, requested, kept, dict(dropped)), len(funnels))


def origins(runs: Sequence[Ran]) -> Iterator[Origin]:
    """Where all numbers are from; runs of one title and command together, with the settings of the first."""
    found: dict[tuple[str, str], list[Ran]] = {}
    for ran in runs:
        found.setdefault((ran.title, ran.what.value), []).append(ran)
    for (title, _), several in found.items():
        first = several[0]
        seeds = tuple(dict.fromkeys(seed for ran in several for seed in ran.output.seeds))
        own = first.said.get("settings", {}).get("seed")
        seeds = seeds or ((own,) if isinstance(own, int) else ())
        yield Origin(title, first.command, first.output.model, seeds, first.settings, first.versions)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Nested settings as pairs of a dotted name and a text; what is empty is left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    elif value not in (None, "", []):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield name, text if len(text) <= _LONG else text[: _LONG - 1] + "…"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected the account of a run in JSON, and it can't be read: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected the account of a run, a JSON object, came a {type(found).__name__}")
    return found
