"""What runs have measured that make responses go on: accuracy against tokens, and what changed reflections change."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from skillfactory.errors import InputError
from skillfactory.outputs import Output, What
from skillfactory.report import Effect, Estimate, Spending

T = TypeVar("T")
Numbers = Mapping[str, Any]
_WAYS = {  # in budget.json: in words
    "forcing": "budget forcing",
    "vote": "majority vote",
    "closed": "budget forcing, then asked for its answer",
    "closed_vote": "majority vote of responses asked for their answer",
}
_HAPPENED = {  # in intervene.json: in words
    "changed_step": "Goes another way",
    "changed_answer": "Another answer",
    "right_to_wrong": "Right → wrong",
    "wrong_to_right": "Wrong → right",
    "tries_again": "Tries again",
    "right": "Right",
}


def spendings(found: Iterable[Output]) -> Iterator[Spending]:
    """For each budget run, group and way to spend tokens, its course from budget to budget."""
    for output in found:
        if output.what is What.BUDGET:
            yield from _told(output, _curves)


def effects(found: Iterable[Output]) -> Iterator[Effect]:
    """For each causal test, group and way to change a reflection, what became of the responses."""
    for output in found:
        if output.what is What.INTERVENTION:
            yield from _told(output, _ways)


def _told(output: Output, read: Callable[[str, Numbers], Iterator[T]]) -> list[T]:
    """What all groups of a run tell; InputError if its numbers aren't there, or aren't what its command writes."""
    command = f"skillfactory {output.what.value}"
    path = output.path / f"{output.what.value}.json"
    if not path.is_file():
        raise InputError(f"{output.path}: this run has not ended, it has no {path.name}; the same `{command}` goes on")
    try:
        return [each for group in json.loads(path.read_text("utf-8"))["groups"] for each in read(output.label, group)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected groups with their numbers, as `{command}` writes them ({error!r}); "
            "the same command writes it anew"
        ) from error


def _curves(label: str, group: Numbers) -> Iterator[Spending]:
    for way, words in _WAYS.items():
        held = [each[way] for each in group["rounds"] if each.get(way) is not None]
        points = tuple((float(each["tokens"]), _estimate(each["accuracy"])) for each in held)
        if points:
            yield Spending(label, words, group["name"], points)


def _ways(label: str, group: Numbers) -> Iterator[Effect]:
    for way, held in group.get("ways", {}).items():
        more = held["against_control"] or {}
        known = {name: words for name, words in _HAPPENED.items() if name in held}
        shares = {words: (_estimate(held[name]), _estimate(more.get(name))) for name, words in known.items()}
        yield Effect(label, group["name"], way, held["continuations"], shares)


def _estimate(held: Numbers | None) -> Estimate:
    return Estimate() if held is None else Estimate(held["value"], held["low"], held["high"])
