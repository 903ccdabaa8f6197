"""The numbers of evaluations beyond a table's cells, as sheets: those that a run holds, by labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skillfactory.gathering.scores import Asked, Row, numbers_of
from skillfactory.report import Line, Measure, Sheet
from skillfactory.report.numbers import Unit

Numbers = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A sheet of fixed columns. Keys that a run lacks are left out; counts are summed over seeds, the rest is a mean."""

    title: str
    about: str
    columns: tuple[tuple[str, str, Unit], ...]  # key in evaluation.json (dots lead into what is nested), label, unit


_PLANS = (
    _Plan(
        "Answers and what became of them",
        "Responses whose first answer, any answer and final answer is right; attempts that give an earlier answer again; "
        "how much of a text stands after its first right answer; and how many stop at their first verdict Correct.",
        (
            ("first_right", "First right", "share"),
            ("any_right", "Any right", "share"),
            ("accuracy.value", "Final right", "share"),
            ("answers", "Answers", "number"),
            ("reflections", "Reflections", "number"),
            ("repeats", "Repeats", "number"),
            ("after_right", "Text after the first right answer", "share"),
            ("tokens_after_right", "Tokens after the first right answer", "number"),
            ("stopped_after_correct", "Stopped after Correct", "share"),
            ("with_tags", "With tags", "share"),
        ),
    ),
    _Plan(
        "From the first answer to the final one",
        "Of the responses with an answer: what the first answer was, and what the final one is.",
        (
            ("transitions.right_right", "Right → right", "share"),
            ("transitions.wrong_right", "Wrong → right", "share"),
            ("transitions.right_wrong", "Right → wrong", "share"),
            ("transitions.wrong_wrong", "Wrong → wrong", "share"),
        ),
    ),
    _Plan(
        "Verdicts",
        "Reflections by what they say and what is true of the attempt before them; F1 for each class of attempts.",
        (
            ("verdicts.true_correct", "Correct, of a right one", "count"),
            ("verdicts.false_correct", "Correct, of a wrong one", "count"),
            ("verdicts.true_incorrect", "Incorrect, of a wrong one", "count"),
            ("verdicts.false_incorrect", "Incorrect, of a right one", "count"),
            ("verdicts.no_verdict", "No verdict", "count"),
            ("f1_correct", "F1 “correct”", "number"),
            ("f1_incorrect", "F1 “incorrect”", "number"),
        ),
    ),
    _Plan(
        "Outcomes",
        "Responses by what the verifier found, and those that the token limit cut.",
        (
            ("checks.right", "Right", "count"),
            ("checks.wrong", "Wrong", "count"),
            ("checks.missing", "No answer", "count"),
            ("checks.undecided", "Undecided", "count"),
            ("failed", "Engine failed", "count"),
            ("cut", "Cut off", "share"),
            ("requests", "Requests", "number"),
            ("prompt_tokens", "Prompt tokens", "number"),
        ),
    ),
)
# Sheets of which the run's own keys are the columns: key, title, label of a column, unit, what it says.
_OPEN: tuple[tuple[str, str, str, Unit, str], ...] = (
    ("pass_at", "Pass@k", "pass@{}", "share", "The chance that one of k responses to a question is right, without bias."),
    ("majority_at", "Majority@k", "majority@{}", "share", "The chance that the commonest answer of k responses is right."),
    ("token_quantiles", "Quantiles of tokens", "{}", "number", "Tokens of a response that a share of the responses keep to."),
    ("unanswered", "Why there is no answer", "{}", "share", "Share of all responses that have no answer, by reason."),
)
_KNOWN = {column[0] for plan in _PLANS for column in plan.columns} | {"questions", "responses", "tokens", "well_formed"}


def sheets(rows: Sequence[Row], columns: Mapping[str, Sequence[Asked]]) -> Iterator[Sheet]:
    """The sheets of some arms; `columns`: a group's name → the groups of questions that it is of."""
    told = {
        (name, row.name): found
        for name, groups in columns.items()
        for row in rows
        if (found := [numbers for judged in row.seeds.values() if (numbers := numbers_of(judged, groups)) is not None])
    }
    for key, title, label, unit, about in _OPEN:
        names = list(dict.fromkeys(name for found in told.values() for numbers in found for name in numbers.get(key) or {}))
        measures = tuple(Measure(f"{key}.{name}", label.format(_readable(name)), unit) for name in names)
        if key.endswith("_at") and names == ["1"]:
            continue  # it is the accuracy
        yield from _sheet(title, about, measures, told)
    for plan in _PLANS:
        yield from _sheet(plan.title, plan.about, tuple(Measure(*column) for column in plan.columns), told)
    other = {name: None for found in told.values() for numbers in found for name, value in numbers.items() if _is_number(value)}
    measures = tuple(Measure(name, _readable(name)) for name in other if name not in _KNOWN)
    yield from _sheet("Further numbers", "As evaluation.json names them.", measures, told)


def _sheet(
    title: str, about: str, measures: tuple[Measure, ...], told: Mapping[tuple[str, str], Sequence[Numbers]]
) -> Iterator[Sheet]:
    """A sheet with a line for each arm and group that has any of its numbers; nothing if there is none."""
    lines = []
    for (group, arm), several in told.items():
        values = tuple(_value(several, measure) for measure in measures)
        if any(value is not None for value in values):
            lines.append(Line(arm, group, values))
    if lines:
        yield Sheet(title, about, measures, tuple(lines))


def _value(several: Sequence[Numbers], measure: Measure) -> float | None:
    """A number over seeds: the sum of counts, the mean of others, over the seeds that have it."""
    known = [value for numbers in several if (value := _at(numbers, measure.name)) is not None]
    if not known:
        return None
    return sum(known) if measure.unit == "count" else sum(known) / len(known)


def _at(numbers: Numbers, path: str) -> float | None:
    """The number at a path of keys; the names of quantiles hold dots, so the last step takes the whole rest."""
    key, _, rest = path.partition(".")
    value = numbers.get(key)
    if rest:
        value = value.get(rest) if isinstance(value, Mapping) else None
    return float(value) if value is not None and _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _readable(name: str) -> str:
    return name.replace("_", " ")
