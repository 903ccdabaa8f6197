"""Responses of an evaluation → a few numbers for each question, read as a stream."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from skillfactory.evaluation import read_responses
from skillfactory.records import Check

Means = dict[str, dict[str, float]]  # group → question → mean over its responses

MEASURES: Mapping[str, str] = {"right": "check", "tokens": "tokens", "answers": "attempts"}
"""measure: the column of the responses that it comes from."""


def question_means(run: Path) -> dict[str, Means]:
    """For each measure, the mean of each question's responses, in the order of the questions; what is not known is left out."""
    found: dict[str, Means] = {name: {} for name in MEASURES}
    rows = read_responses(run, ("group", "question_id", *MEASURES.values()))
    for (group, question), responses in groupby(rows, key=itemgetter("group", "question_id")):
        asked = list(responses)
        for name, column in MEASURES.items():
            value = _mean(row[column] == Check.RIGHT if name == "right" else row[column] for row in asked)
            if value is not None:
                found[name].setdefault(group, {})[question] = value
    return found


def _mean(values: Iterable[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
