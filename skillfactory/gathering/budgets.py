"""Curves of accuracy against tokens, from what budget runs have measured."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from skillfactory.errors import InputError
from skillfactory.outputs import Output, What
from skillfactory.report import Estimate, Spending

NUMBERS = "budget.json"
_WAYS = {  # in budget.json: in words
    "forcing": "budget forcing",
    "vote": "majority vote",
    "closed": "budget forcing, then asked for its answer",
    "closed_vote": "majority vote of responses asked for their answer",
}


def spendings(found: Iterable[Output]) -> Iterator[Spending]:
    """For each budget run, group and way to spend tokens, its course from budget to budget."""
    for output in found:
        if output.what is What.BUDGET:
            yield from _curves(output.label, output.path / NUMBERS)


def _curves(label: str, path: Path) -> Iterator[Spending]:
    """The curves of one run; InputError if its numbers aren't there or aren't what they should be."""
    if not path.is_file():
        raise InputError(f"{path.parent}: this run has not ended, it has no {NUMBERS}; the same `skillfactory budget` goes on")
    try:
        for group in json.loads(path.read_text("utf-8"))["groups"]:
            for way, words in _WAYS.items():
                points = tuple(_point(each[way]) for each in group["rounds"] if each.get(way) is not None)
                if points:
                    yield Spending(label, words, group["name"], points)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected groups with their rounds, as `skillfactory budget` writes them ({error!r}); "
            "the same command writes it anew"
        ) from error


def _point(held: dict[str, Any]) -> tuple[float, Estimate]:
    accuracy = held["accuracy"]
    return float(held["tokens"]), Estimate(accuracy["value"], accuracy["low"], accuracy["high"])
