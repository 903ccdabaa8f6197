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
        "Responses whose first answer, any answer and final answer is right; attempts, reflections, and attempts that give an "
        "earlier answer again, per response; and responses with a block of an attempt.",
        (
            ("first_right", "First right", "share"),
            ("any_right", "Any right", "share"),
            ("accuracy.value", "Final right", "share"),
            ("answers", "Answers", "number"),
            ("reflections", "Reflections", "number"),
            ("repeats", "Repeats", "number"),
            ("with_tags", "With tags", "share"),
        ),
    ),
    _Plan(
        "When to stop",
        "What stands after the first right answer, where there is one; responses that make no attempt after their first "
        "Correct, of those with one; that end with Correct on their last attempt; that run into loops, and the share of text "
        "that these add.",
        (
            ("after_right", "Text after the first right", "share"),
            ("tokens_after_right", "Tokens after the first right", "number"),
            ("stopped_after_correct", "Stopped after Correct", "share"),
            ("ends_verified", "Ends verified", "share"),
            ("loops", "Loops", "share"),
            ("looped", "Text in loops", "share"),
        ),
    ),
    _Plan(
        "From the first answer to the final one",
        "Responses by whether their first and their final answer is right; one that is missing is not.",
        (
            ("first_final.right_right", "Right → right", "count"),
            ("first_final.wrong_right", "Wrong → right", "count"),
            ("first_final.right_wrong", "Right → wrong", "count"),
            ("first_final.wrong_wrong", "Wrong → wrong", "count"),
        ),
    ),
    _Plan(
        "From one attempt to the next",
        "Pairs of neighbouring attempts, by what the model said between them of the first one, and what became of it. "
        "Corrected: the share of wrong attempts that a right one follows; spoiled: of right ones that a wrong one follows.",
        (
            ("transitions.incorrect.wrong_right", "Incorrect: wrong → right", "count"),
            ("transitions.incorrect.wrong_wrong", "Incorrect: wrong → wrong", "count"),
            ("transitions.incorrect.right_wrong", "Incorrect: right → wrong", "count"),
            ("transitions.incorrect.right_right", "Incorrect: right → right", "count"),
            ("transitions.correct.wrong_right", "Correct: wrong → right", "count"),
            ("transitions.correct.wrong_wrong", "Correct: wrong → wrong", "count"),
            ("transitions.correct.right_wrong", "Correct: right → wrong", "count"),
            ("transitions.correct.right_right", "Correct: right → right", "count"),
            ("transitions.none.wrong_right", "Nothing: wrong → right", "count"),
            ("transitions.none.wrong_wrong", "Nothing: wrong → wrong", "count"),
            ("transitions.none.right_wrong", "Nothing: right → wrong", "count"),
            ("transitions.none.right_right", "Nothing: right → right", "count"),
            ("corrected", "Corrected", "share"),
            ("spoiled", "Spoiled", "share"),
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
_USE: tuple[tuple[str, str, Unit], ...] = (
    ("blocks", "blocks", "number"),
    ("with_block", "with a block", "share"),
    ("untagged", "untagged", "number"),
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
    yield from _skills(told)
    for plan in _PLANS:
        yield from _sheet(plan.title, plan.about, tuple(Measure(*column) for column in plan.columns), told)
    other = {name: None for found in told.values() for numbers in found for name, value in numbers.items() if _is_number(value)}
    measures = tuple(Measure(name, _readable(name)) for name in other if name not in _KNOWN)
    yield from _sheet("Further numbers", "As evaluation.json names them.", measures, told)


def _skills(told: Mapping[tuple[str, str], Sequence[Numbers]]) -> Iterator[Sheet]:
    """The use of the skills that runs have looked for."""
    names = dict.fromkeys(name for found in told.values() for numbers in found for name in numbers.get("skills") or {})
    columns = tuple(
        Measure(f"skills.{name}.{key}", f"{_readable(name)}: {label}", unit) for name in names for key, label, unit in _USE
    )
    about = "By skill: blocks per response, responses with a block, and uses that are detected outside of blocks, per response."
    yield from _sheet("Use of skills", about, columns, told)


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
    """The number at a path of keys; a key may hold dots itself, so what is there under the whole rest of a path counts."""
    value: Any = numbers
    while path and isinstance(value, Mapping):
        key, _, rest = (path, "", "") if path in value else path.partition(".")
        value, path = value.get(key), rest
    return float(value) if not path and _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _readable(name: str) -> str:
    return name.replace("_", " ")
