"""Reports of a study: its numbers as one page to read offline, and as tables of text. Numbers and texts in, text out."""

from skillfactory.report.document import page
from skillfactory.report.numbers import (
    UNKNOWN,
    Arm,
    Cell,
    Comparison,
    Estimate,
    Example,
    Group,
    Measure,
    Stage,
    Study,
    Training,
)
from skillfactory.report.table import tables

__all__ = [
    "UNKNOWN",
    "Arm",
    "Cell",
    "Comparison",
    "Estimate",
    "Example",
    "Group",
    "Measure",
    "Stage",
    "Study",
    "Training",
    "page",
    "tables",
]
