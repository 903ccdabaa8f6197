"""Arguments → arms of evaluations, and in what they were asked differently."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.evaluation import NUMBERS
from skillfactory.gathering.scores import Judged, Row
from skillfactory.outputs import Output, What, outputs

_SHOWN = 60  # characters of a setting's value
_WORDS = {"variant": "prompt variant", "reflection": "reflection prompt"}
_Run = tuple[str, int]  # arm, seed


@dataclass(frozen=True, slots=True)
class Arms:
    """What is compared: the evaluations of each arm by seed, and the study that an arm is from."""

    rows: tuple[Row, ...]
    studies: Mapping[str, Path | None]  # by arm


def arms(runs: Sequence[str], chosen: Sequence[str] = ()) -> Arms:
    """The arms that arguments name, or those `chosen` of them; an error if they are fewer than two or no evaluations."""
    found: dict[str, dict[int, Judged]] = {}
    studies: dict[str, Path | None] = {}
    known: dict[Path, Judged] = {}
    for each in outputs(runs):
        for arm, seed in _uses(each):
            if studies.setdefault(arm, each.study) != each.study:
                raise ConfigError(f"two arms are called '{arm}'; give one of them another name: LABEL={each.path}")
            seeds = found.setdefault(arm, {})
            seeds[len(seeds) if seed is None else seed] = known.setdefault(each.path, _judged(each.path))
    for arm in chosen:
        if arm not in found:
            raise unknown("arm", arm, found)
    names = list(chosen or found)
    if len(set(names)) < 2:
        raise ConfigError(f"expected two arms or more to compare, came {', '.join(names) or 'none'}; name another run")
    return Arms(tuple(Row(arm, arm, arm, "", found[arm]) for arm in dict.fromkeys(names)), studies)


def _uses(output: Output) -> Sequence[tuple[str, int | None]]:
    """The arms and seeds of an evaluation; nothing for another stage of a study, and an error for another run."""
    if output.what is What.EVALUATION:
        return output.uses if output.study else output.uses or ((output.label, None),)
    if output.study:
        return ()
    raise InputError(f"{output.path}: written by `skillfactory {output.what}`; compare takes runs of `evaluate`, and studies")


def _judged(path: Path) -> Judged:
    if not (path / NUMBERS).is_file():
        raise InputError(f"{path}: has no {NUMBERS} yet; the same `skillfactory evaluate` ends the run and writes it")
    return Judged(path)


def differences(rows: Sequence[Row]) -> Iterator[str]:
    """Notes on what was not the same for all arms: how they were asked, whether all was, and what failed."""
    states = {(row.name, seed): _state(judged.output) for row in rows for seed, judged in row.seeds.items()}
    told = {run: dict(_asking(state)) for run, state in states.items()}
    notes: dict[tuple[str, str], list[str]] = {}
    for name, group in dict.fromkeys(setting for found in told.values() for setting in found):
        by_value: dict[str, list[_Run]] = {}
        for run, found in told.items():
            if (name, group) in found:
                by_value.setdefault(found[name, group], []).append(run)
        values = "; ".join(f"{value} for {_named(runs, rows)}" for value, runs in by_value.items())
        if len(by_value) > 1:
            notes.setdefault((name, values), []).append(group)
    for (name, values), groups in notes.items():
        yield f"{name}{' of ' if any(groups) else ''}{', '.join(groups)} differs: {values}"
    for run in (run for run, state in states.items() if state.get("finished") is False):
        yield f"{_named([run], rows)}: not finished; the numbers are of what there is"
    for row in rows:
        for seed, judged in row.seeds.items():
            failed = sum(group.get("failed") or 0 for group in judged.numbers["groups"])
            if failed:
                yield f"{_named([(row.name, seed)], rows)}: the engine failed on {failed:,} responses, which count nowhere"


def _named(runs: Sequence[_Run], rows: Sequence[Row]) -> str:
    """Runs in words: an arm with all its seeds is called by its name alone."""
    told = []
    for row in rows:
        seeds = [seed for arm, seed in runs if arm == row.name]
        if seeds:
            told.append(row.name if len(seeds) == len(row.seeds) else f"{row.name} (seed {', '.join(map(str, seeds))})")
    return ", ".join(told)


def _state(run: Path) -> dict[str, Any]:
    try:
        found = json.loads((run / "run.json").read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{run / 'run.json'}: not a JSON file: {error}") from error
    return found if isinstance(found, dict) else {}


def _asking(state: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """What the responses of a run depend on beside the model and the questions: a setting and its group, "" for all."""
    settings = state.get("settings")
    if not isinstance(settings, dict):
        return
    for name, value in (settings.get("decoding") or {}).items():
        if name != "max_tokens":
            yield (name, ""), _value(value)
    for name in ("retry", "seed", "variant", "reflection"):
        if name in settings:
            yield (_WORDS.get(name, name), ""), _value(settings[name])
    groups = settings.get("groups")
    for group, about in (groups if isinstance(groups, dict) else {}).items():
        for name in ("samples", "max_tokens"):
            if name in about:
                yield (name, group), _value(about[name])


def _value(value: Any) -> str:
    """A setting's value; one of many words by its name or its beginning."""
    if isinstance(value, dict) and "name" in value:
        value = value["name"]
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
