"""The course of a comparison: arms, the questions that they share, tables, files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from skillfactory.comparing import CompareConfig, Compared
from skillfactory.comparing.arms import Arms, arms, differences
from skillfactory.comparing.page import page
from skillfactory.comparing.pairs import Results, cells, pairs, results, shared
from skillfactory.comparing.questions import extremes, write
from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.gathering.scores import groups_of
from skillfactory.rundir import write_text

TEXT, VALUES, QUESTIONS = "table.md", "compare.json", "questions.parquet"


def conduct(config: CompareConfig) -> Compared:
    """Compares; see `skillfactory.comparing.compare`."""
    _claim(config.output)
    found = arms(config.runs, config.arms)
    rows = found.rows
    columns = groups_of(rows)
    wanted = set(_named(config.groups, {group.label: name for name, (group, _) in columns.items()}))
    for name in wanted - {*columns}:
        raise unknown("column", name, columns)
    chosen = {name: groups for name, (_, groups) in columns.items() if not wanted or name in wanted}
    asked = shared(rows, dict.fromkeys(group for groups in chosen.values() for group in groups))
    made = {row.name: results(row, asked) for row in rows}
    versus = [(made[one], made[other], _by_seed(config, found, one, other)) for one, other in _chosen(config, found)]
    done = list(cells(list(made.values()), chosen))
    compared = pairs(versus, chosen)
    matched = [(one, other, _matched(one, other) if by_seed else ()) for one, other, by_seed in versus]
    most = extremes(matched, asked, rows, config.show)
    notes = (*asked.notes, *differences(rows))
    text = page([group for group, _ in columns.values()], done, compared, most, notes)
    values = {
        "arms": [_about(found, each) for each in made.values()],
        "columns": {name: [group._asdict() for group in groups] for name, groups in chosen.items()},
        "cells": [asdict(cell) for cell in done],
        "pairs": [asdict(pair) for pair in compared],
        "family": {"method": "holm", "comparisons": len(compared)},
        "questions": [{**asdict(each), "difference": each.difference} for each in most],
        "notes": list(notes),
    }
    if config.output is not None:
        config.output.mkdir(parents=True, exist_ok=True)
        write(config.output / QUESTIONS, matched, asked, rows)
        write_text(config.output / TEXT, text + "\n")
        write_text(config.output / VALUES, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    return Compared(text, values)


def _claim(output: Path | None) -> None:
    """Refuses a folder that holds something else."""
    if output is None or not output.exists():
        return
    if not output.is_dir():
        raise InputError(f"{output}: a file; expected a folder for the comparison")
    foreign = sorted({entry.name for entry in output.iterdir()} - {TEXT, VALUES, QUESTIONS})
    if foreign:
        raise InputError(f"{output}: holds {foreign[0]}, which no comparison has written; choose another --output")


def _named(given: Sequence[str], labels: Mapping[str, str]) -> Iterator[str]:
    """The names of columns that may be given by their labels in reports, such as "harder, mean", cut at the comma or not."""
    left = list(given)
    while left:
        whole = ", ".join(left[:2])
        found = left.pop(0)
        if found not in labels and whole in labels:
            found = whole
            left = left[1:]
        yield labels.get(found, found)


def _chosen(config: CompareConfig, found: Arms) -> Iterator[tuple[str, str]]:
    """Which arm is held against which."""
    names = [row.name for row in found.rows]
    if config.all_pairs:
        yield from ((later, earlier) for earlier, later in combinations(names, 2))
        return
    if config.baseline and config.baseline not in names:
        raise unknown("arm", config.baseline, names)
    baseline = config.baseline or names[0]
    yield from ((name, baseline) for name in names if name != baseline)


def _by_seed(config: CompareConfig, found: Arms, one: str, other: str) -> bool:
    """Whether equal seeds of two arms belong together."""
    if config.pair_seeds == "auto":
        return found.studies[one] is not None and found.studies[one] == found.studies[other]
    seeds = [{*row.seeds} for row in found.rows if row.name in (one, other)]
    if config.pair_seeds == "yes" and not seeds[0] & seeds[1]:
        raise ConfigError(f"--pair-seeds yes: {one} and {other} have no seed in common")
    return config.pair_seeds == "yes"


def _matched(one: Results, other: Results) -> tuple[int, ...]:
    return tuple(seed for seed in one.seeds if seed in other.seeds)


def _about(found: Arms, arm: Results) -> dict[str, Any]:
    """Where the numbers of an arm come from."""
    row = next(row for row in found.rows if row.name == arm.arm)
    runs: Sequence[dict[str, Any]] = [
        {"seed": seed, "run": str(judged.output), "model": judged.numbers.get("model")} for seed, judged in row.seeds.items()
    ]
    return {"arm": arm.arm, "runs": runs}
