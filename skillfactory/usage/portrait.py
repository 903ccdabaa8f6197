"""What many texts show of the skills, added up: by tags, from attempt to attempt, in plain words; as numbers and as a table."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skillfactory.measure import DERIVED, MEANS, VERDICTS, Row
from skillfactory.records import Check
from skillfactory.skills.implicit import Finding
from skillfactory.skills.transitions import Courses
from skillfactory.skills.usage import Usage
from skillfactory.stats import f1

LEFT_OUT = ("prompt_tokens", "requests", "well_formed")  # of an evaluation's means: they tell nothing of skills


class Portrait:
    """The texts of one group, added up; memory doesn't grow with them."""

    def __init__(self, skills: Sequence[str]) -> None:
        self.texts = 0
        self._graded = 0
        self._checks: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()
        self._sums = dict.fromkeys(MEANS, 0.0)
        self._known: Counter[str] = Counter()
        self._courses = Courses()
        self._usage = Usage()
        self._skills = tuple(skills)
        self._findings: Counter[str] = Counter()
        self._with: Counter[str] = Counter()  # texts with a finding
        self._rules: Counter[tuple[str, str]] = Counter()

    def add(self, row: Row, findings: Sequence[Finding]) -> None:
        """Takes a text: its columns, and what the rules found in it."""
        self.texts += 1
        self._usage.add(row.get("blocks"), row.get("untagged"))
        self._findings.update(finding.skill for finding in findings)
        self._with.update({finding.skill for finding in findings})
        self._rules.update((finding.skill, finding.rule) for finding in findings)
        if row["check"] is not None:
            self._graded += 1
            self._checks[row["check"]] += 1
            self._courses.add(row["course"], row["first_right"], row["check"] == Check.RIGHT)
        for name in VERDICTS:
            self._verdicts[name] += row[name] or 0
        for name, column in MEANS.items():
            value = DERIVED[column](row) if column in DERIVED else row.get(column)
            if value is not None:
                self._sums[name] += value
                self._known[name] += 1

    def numbers(self) -> dict[str, Any]:
        """What they come to, as JSON-safe values, None where a number is undefined."""
        verdicts = {name: self._verdicts[name] for name in VERDICTS}
        right, wrong = verdicts["true_correct"], verdicts["true_incorrect"]
        false, missed = verdicts["false_correct"], verdicts["false_incorrect"]
        return {
            "texts": self.texts,
            "graded": self._graded,
            "right": self._checks[Check.RIGHT] / self._graded if self._graded else None,
            **{
                name: self._sums[name] / self._known[name] if self._known[name] else None
                for name in MEANS
                if name not in LEFT_OUT
            },
            "verdicts": verdicts,
            "f1_correct": f1(right, false, missed),
            "f1_incorrect": f1(wrong, missed, false),
            **self._courses.numbers(),
            "skills": self._usage.numbers(),
            "implicit": {name: self._implicit(name) for name in self._skills},
        }

    def _implicit(self, skill: str) -> dict[str, Any]:
        rules = {rule: count for (each, rule), count in sorted(self._rules.items()) if each == skill}
        count = self.texts or 1
        return {"per_text": self._findings[skill] / count, "share": self._with[skill] / count, "rules": rules}


_EXPLICIT = ("run", "group", "texts", "right %", "answers", "reviews", "F1 cor/inc", "final w→r/r→w %")
_MORE = ("step w→r/r→w %", "verified %", "tokens after", "repeats", "loops %")


def table(numbers: Mapping[str, Any]) -> Iterator[str]:
    """The numbers as lines: what tags tell, then what rules find, then how far raters agree."""
    pairs = [(run["run"], group) for run in numbers["runs"] for group in run["groups"]]
    yield from _lined([(*_EXPLICIT, *_MORE)] + [_cells(run, group) for run, group in pairs])
    skills = tuple(pairs[0][1]["implicit"]) if pairs else ()
    head = ("run", "group", *(f"{skill}, %" for skill in skills))
    rows = [(run, group["group"], *(_said(group["implicit"][skill]) for skill in skills)) for run, group in pairs]
    yield "\nin plain words: findings a text, % of texts with one"
    yield from _lined([head, *rows])
    used = {skill: None for _, group in pairs for skill in group["skills"]}
    if used:
        yield "\nskills as plug-ins: blocks a text, % of texts with one, uses outside of blocks a text"
        rows = [(run, group["group"], *(_used(group["skills"].get(skill)) for skill in used)) for run, group in pairs]
        yield from _lined([("run", "group", *used), *rows])
    if numbers["agreement"]:
        yield "\nagreement:"
        yield from _lined(
            [("skill", "raters", "texts", "same %", "95 %", "kappa", "95 %"), *map(_agreed, numbers["agreement"])]
        )
    judged = numbers.get("judge")
    if judged:
        why = ", ".join(f"{reason} {count:,}" for reason, count in judged["dropped"].items())
        yield (
            f"the judge {judged['model']} read {judged['texts']:,} texts; no opinion on {sum(judged['dropped'].values()):,}"
            + (f" ({why})" if why else "")
        )


def _cells(run: str, group: Mapping[str, Any]) -> tuple[str, ...]:
    ends, graded = group["first_final"], group["graded"]
    changed = [100 * ends[turn] / graded if graded else None for turn in ("wrong_right", "right_wrong")]
    return (
        run,
        group["group"],
        f"{group['texts']:,}",
        _percent(group["right"]),
        _decimal(group["answers"]),
        _decimal(group["reflections"]),
        f"{_decimal(group['f1_correct'])}/{_decimal(group['f1_incorrect'])}",
        f"{_decimal(changed[0], 1)}/{_decimal(changed[1], 1)}",
        f"{_percent(group['corrected'])}/{_percent(group['spoiled'])}",
        _percent(group["ends_verified"]),
        _decimal(group["tokens_after_right"], 1),
        _decimal(group["repeats"]),
        _percent(group["loops"]),
    )


def _said(found: Mapping[str, Any]) -> str:
    return f"{found['per_text']:.2f}, {_percent(found['share'])}"


def _used(found: Mapping[str, float] | None) -> str:
    return f"{found['blocks']:.2f}, {_percent(found['with_block'])}, {found['untagged']:.2f}" if found else "-"


def _agreed(row: Mapping[str, Any]) -> tuple[str, ...]:
    same, kappa = row["agreement"], row["kappa"]
    return (
        row["skill"],
        " / ".join(row["raters"]),
        f"{row['n']:,}",
        _percent(same["value"]),
        f"{_percent(same['low'])}-{_percent(same['high'])}",
        _decimal(kappa["value"]),
        f"{_decimal(kappa['low'])}..{_decimal(kappa['high'])}",
    )


def _lined(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows of cells in columns; the first two are set to the left, and a column without any value is left out."""
    columns = [column for column in zip(*rows, strict=True) if set(column[1:]) - {"-", "-/-", "-..-", "--"} or len(rows) == 1]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        cells = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _decimal(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
