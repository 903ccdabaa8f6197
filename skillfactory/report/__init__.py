"""Reports: the numbers of a study, or of any runs, as one page to read offline, and as tables of text. It opens no file."""

from skillfactory.report.document import page
from skillfactory.report.numbers import (
    UNKNOWN,
    Account,
    Arm,
    Cell,
    Comparison,
    Effect,
    Estimate,
    Example,
    Group,
    Lengths,
    Line,
    Measure,
    Origin,
    Selection,
    Sheet,
    Spending,
    Stage,
    Study,
    Training,
)
from skillfactory.report.table import tables

__all__ = [
    "UNKNOWN",
    "Account",
    "Arm",
    "Cell",
    "Comparison",
    "Effect",
    "Estimate",
    "Example",
    "Group",
    "Lengths",
    "Line",
    "Measure",
    "Origin",
    "Selection",
    "Sheet",
    "Spending",
    "Stage",
    "Study",
    "Training",
    "page",
    "tables",
]
