"""The numbers of a study as Markdown tables, aligned for a terminal; the same study gives the same text."""

import unicodedata
from collections.abc import Iterator, Sequence

from skillfactory.report.courses import grouped, served, stage_forms
from skillfactory.report.numbers import Group, Study
from skillfactory.report.words import line, number, points, reading, share, with_interval

_LABEL = 60  # characters of a label at most


def tables(study: Study, width: int = 120) -> str:
    """All tables, with a blank line between: results, skills, differences, costs. Empty ones are left out."""
    parts = (results(study, width), skills(study), differences(study), costs(study))
    return "\n\n".join(filter(None, parts))


def results(study: Study, width: int = 120) -> str:
    """Accuracy in % with 95 % intervals, arms × groups; several tables where the columns don't fit in `width`."""
    if not study.cells:
        return ""
    found, chosen = [], list[Group]()
    for group in study.groups:
        if chosen and _wide(_results(study, [*chosen, group])) > width:
            found.append(_results(study, chosen))
            chosen = []
        chosen.append(group)
    found.append(_results(study, chosen))
    return "\n\n".join("\n".join(aligned(rows)) for rows in found)


def _results(study: Study, groups: Sequence[Group]) -> list[list[str]]:
    head = ["accuracy, % (95 % interval)", *(group.label for group in groups)]
    rows = ([arm.label, *(with_interval(study.cell(arm.name, g.name).accuracy, share) for g in groups)] for arm in study.arms)
    return [head, *rows]


def skills(study: Study) -> str:
    """What responses look like, a line for each group and arm in which anything was measured."""
    head = ["responses", "arm", "answers", "reflections", "F1 correct", "F1 incorrect", "in order, %", "tokens", "cut off, %"]
    rows = []
    for group in study.groups:
        for arm in study.arms:
            cell = study.cell(arm.name, group.name)
            means = [number(value) for value in (cell.answers, cell.reflections, cell.f1_correct, cell.f1_incorrect)]
            values = [*means, share(cell.well_formed), number(cell.tokens), share(cell.cut)]
            if any(value != number(None) for value in values):
                rows.append([group.label, arm.label, *values])
    return "\n".join(aligned([head, *rows], left=(0, 1))) if rows else ""


def differences(study: Study) -> str:
    """Paired differences in points, and ratios, with 95 % intervals."""
    labels = {arm.name: arm.label for arm in study.arms}
    groups = {group.name: group.label for group in study.groups}
    rows = [["compared", "on", "difference, points", "ratio", "difference is", "remark"]]
    for item in study.comparisons:
        numbers = [with_interval(item.difference, points, " to "), with_interval(item.ratio, number)]
        words = [f"{labels[item.arm]} minus {labels[item.baseline]}", groups[item.group]]
        rows.append([*words, *numbers, reading(item.difference), item.note])
    return "\n".join(aligned(rows, left=(0, 1, 4, 5))) if study.comparisons else ""


def costs(study: Study) -> str:
    """What each stage took: the mean of its runs, and the sum of all runs."""
    rows = [["stage", "for", "runs", "time", "CPU time", "steps", "generated tokens", "trained tokens"]]
    for (label, arms), runs in grouped(study.stages).items():
        rows.append([label, served(study, arms), str(len(runs)), *stage_forms(runs, True)])
    rows.append(["all, summed", "", str(len(study.stages)), *stage_forms(study.stages, False)])
    return "\n".join(aligned(rows, left=(0, 1))) if study.stages else ""


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Iterator[str]:
    """The lines of a Markdown table of texts, the first row its head; columns of words stand `left`, those of numbers right."""
    cells = [[_cell(text) for text in row] for row in rows]
    widths = [max(3, *(_columns(row[index]) for row in cells)) for index in range(len(cells[0]))]
    rule = ["-" * width if index in left else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    for row in (cells[0], rule, *cells[1:]):
        padded = []
        for index, (text, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _columns(text))
            padded.append(text + space if index in left else space + text)
        yield f"| {' | '.join(padded)} |"


def _cell(text: str) -> str:
    """A text that stays in its cell."""
    return line(text, _LABEL).replace("\\", "\\\\").replace("|", "\\|")


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    marks = sum(unicodedata.combining(char) > 0 for char in text)
    return len(text) + wide - marks


def _wide(rows: Sequence[Sequence[str]]) -> int:
    return max(map(_columns, aligned(rows)))
