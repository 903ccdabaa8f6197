"""A finished study as a report takes it, read back from its study.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skillfactory.errors import InputError
from skillfactory.report import Arm, Cell, Comparison, Estimate, Group, Measure, Stage, Study, Training

ACCOUNT = "study.json"
FIELDS = (  # of a study that study.json holds; the rest is read from its stages
    *("title", "about", "arms", "groups", "cells", "comparisons", "measures", "trainings"),
    *("intervals", "notes", "settings", "versions", "command"),
)


def stored(folder: Path) -> Study | None:
    """The study in a folder, without what is read from its stages; None if it has not come to numbers yet."""
    path = folder / ACCOUNT
    if not path.is_file():
        return None
    try:
        return _study(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: expected the numbers of a study, as `skillfactory run` writes them, came something else ({error!r}); "
            "the same `skillfactory run` writes the file anew"
        ) from error


def _study(held: Mapping[str, Any]) -> Study:
    plain = {name: held[name] for name in ("title", "about", "intervals", "settings", "versions", "command")}
    return Study(
        **plain,
        notes=tuple(held["notes"]),
        arms=tuple(Arm(**each | {"seeds": tuple(each["seeds"])}) for each in held["arms"]),
        groups=tuple(Group(**each) for each in held["groups"]),
        cells=tuple(Cell(**each | {"accuracy": Estimate(**each["accuracy"])}) for each in held["cells"]),
        comparisons=tuple(_comparison(each) for each in held["comparisons"]),
        measures=tuple(Measure(**each) for each in held["measures"]),
        trainings=tuple(_training(each) for each in held["trainings"]),
        stages=tuple(Stage(**each | {"arms": tuple(each["arms"])}) for each in held.get("costs", ())),  # not in older ones
    )


def _comparison(held: Mapping[str, Any]) -> Comparison:
    estimates = {name: Estimate(**held[name]) for name in ("difference", "ratio")}
    return Comparison(**{**held, **estimates})


def _training(held: Mapping[str, Any]) -> Training:
    series = {name: tuple(values) for name, values in held["series"].items()}
    return Training(**{**held, "steps": tuple(held["steps"]), "tokens": tuple(held["tokens"]), "series": series})
