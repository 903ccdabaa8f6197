"""What a study, or any runs, came to, as numbers and texts: all that a report is made from.

Shares are fractions of 1, durations seconds, lengths tokens. None is "not known" or "not measured", never 0. A mean over
several groups is a group of its own, and an arm judged at another budget (equal steps, say) an arm of its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from skillfactory.funnel import Funnel

Unit = Literal["share", "tokens", "nats", "number", "count"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with the ends of its 95 % interval; both ends None where no interval was made."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


UNKNOWN = Estimate()


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to train that the study compares."""

    name: str  # what cells, curves and stages call it
    label: str  # what readers see, e.g. "SkillFactory → GRPO"
    about: str = ""  # its chain of stages, in a sentence
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """A set of test questions, or the mean of several."""

    name: str
    label: str  # e.g. "Countdown, 4 numbers"
    about: str = ""  # e.g. "harder than in training"


@dataclass(frozen=True, slots=True)
class Cell:
    """What one arm did on one group, over all its seeds."""

    arm: str
    group: str
    accuracy: Estimate = UNKNOWN  # share of responses with a right final answer
    questions: int | None = None
    responses: int | None = None
    first_try: float | None = None  # share of responses whose first answer is right
    tokens: float | None = None  # per response
    cut: float | None = None  # share of responses that the token limit ended
    well_formed: float | None = None  # share of responses whose tags are in order
    answers: float | None = None  # per response
    reflections: float | None = None  # per response
    f1_correct: float | None = None  # of verdicts, for the class "correct"
    f1_incorrect: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One arm against another on the same questions: the difference `arm - baseline` and the ratio `arm / baseline`."""

    arm: str
    baseline: str
    group: str
    difference: Estimate = UNKNOWN  # of shares: 0.03 is 3 points
    ratio: Estimate = UNKNOWN
    note: str = ""  # e.g. the goal that it is held against


@dataclass(frozen=True, slots=True)
class Measure:
    """What a training curve shows."""

    name: str  # its key in the series of a training
    label: str  # e.g. "Reward"
    unit: Unit = "number"


@dataclass(frozen=True, slots=True)
class Training:
    """How one training of an arm went. Points stand in order; every series has a value (or None) for each of them."""

    arm: str
    seed: int
    steps: tuple[float, ...]
    tokens: tuple[float, ...] = ()  # generated up to each point; () where nothing was counted
    series: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)  # by the name of a measure


@dataclass(frozen=True, slots=True)
class Stage:
    """What one run of one stage cost. Runs of equal label and arms are shown together."""

    label: str  # e.g. "GRPO"
    arms: tuple[str, ...] = ()  # that rest on it; () for all of them
    seed: int | None = None
    seconds: float | None = None  # by the clock
    cpu_seconds: float | None = None
    steps: int | None = None
    generated_tokens: int | None = None
    trained_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One response, or one trace, to be read."""

    question: str
    gold: str
    response: str
    right: bool | None = None  # its final answer
    attempts: tuple[bool | None, ...] = ()  # whether each attempt in it is right, in order
    group: str = ""
    seed: int | None = None
    tokens: int | None = None
    cut: bool = False  # the token limit ended it
    name: str = ""  # its id, by which its run knows it
    skills: tuple[str, ...] = ()  # the names of skills that it may show beside the shipped ones: their tags are read


@dataclass(frozen=True, slots=True)
class Selection:
    """A class of responses (or traces), how many there are, and some of them; those to be shown first stand first."""

    whose: str  # an arm's label, or that of a folder of traces
    title: str  # e.g. "Right after a retry"
    found: int
    total: int  # responses among which they were found
    examples: tuple[Example, ...]
    about: str = ""  # what puts a response into the class


@dataclass(frozen=True, slots=True)
class Account:
    """What the runs of a stage asked for, summed, and what became of it."""

    label: str
    funnel: Funnel
    runs: int = 1


@dataclass(frozen=True, slots=True)
class Line:
    """The numbers of an arm on a group, one for each column of a sheet."""

    arm: str
    group: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of further numbers. The names of its columns are of no concern to readers."""

    title: str
    about: str
    columns: tuple[Measure, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many responses of an arm have how many tokens: `right[i]` and `wrong[i]` from edges[i] up to edges[i + 1]."""

    arm: str
    edges: tuple[float, ...]
    right: tuple[int, ...]
    wrong: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spending:
    """Accuracy on a group as more tokens are spent in one way, such as budget forcing or majority vote."""

    label: str  # who, e.g. "SkillFactory → GRPO"
    way: str  # how, e.g. "budget forcing"
    group: str  # its label
    points: tuple[tuple[float, Estimate], ...]  # mean tokens of a response, and accuracy


@dataclass(frozen=True, slots=True)
class Effect:
    """What became of responses that were changed in one way and went on from there."""

    label: str  # whose responses, e.g. "SkillFactory → GRPO"
    group: str  # its label
    way: str  # e.g. "drop"
    continuations: int
    shares: Mapping[str, tuple[Estimate, Estimate]]  # what happened → its share, and how much more than in the control


@dataclass(frozen=True, slots=True)
class Origin:
    """Where numbers are from: a run, or several that differ in their seeds alone."""

    label: str
    command: str  # e.g. "skillfactory evaluate"
    model: str = ""
    seeds: tuple[int, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)  # of the first, as they should be shown
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Study:
    """A study, or several runs. ValueError if it names an arm, group or measure that it doesn't have, or has one twice."""

    title: str
    about: str  # what was compared and why, in plain words; empty lines set paragraphs apart
    arms: tuple[Arm, ...]
    groups: tuple[Group, ...]
    cells: tuple[Cell, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    measures: tuple[Measure, ...] = ()
    trainings: tuple[Training, ...] = ()
    stages: tuple[Stage, ...] = ()
    accounts: tuple[Account, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    lengths: tuple[Lengths, ...] = ()
    spendings: tuple[Spending, ...] = ()
    effects: tuple[Effect, ...] = ()
    selections: tuple[Selection, ...] = ()
    origins: tuple[Origin, ...] = ()
    intervals: str = ""  # how the intervals were made, in a sentence
    notes: tuple[str, ...] = ()  # what a reader has to know before trusting the numbers
    settings: Mapping[str, str] = field(default_factory=dict)  # seeds, budgets, models …, as they should be shown
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""  # that makes this again

    def __post_init__(self) -> None:
        arms = _distinct("arm", (arm.name for arm in self.arms))
        groups = _distinct("group", (group.name for group in self.groups))
        measures = _distinct("measure", (measure.name for measure in self.measures))
        _distinct("cell", ((cell.arm, cell.group) for cell in self.cells))
        lines = [line for sheet in self.sheets for line in sheet.lines]
        for part in (self.cells, self.comparisons, self.trainings, self.lengths, lines):
            _known("arm", arms, [item.arm for item in part])
        _known("arm", arms, [comparison.baseline for comparison in self.comparisons])
        _known("arm", arms, [arm for stage in self.stages for arm in stage.arms])
        _known("group", groups, [cell.group for cell in self.cells])
        _known("group", groups, [comparison.group for comparison in self.comparisons])
        _known("group", groups, [line.group for line in lines])
        for sheet in self.sheets:
            if {len(line.values) for line in sheet.lines} - {len(sheet.columns)}:
                raise ValueError(f"sheet {sheet.title}: {len(sheet.columns)} columns, but a line has more or fewer numbers")
        for each in self.lengths:
            if not len(each.edges) - 1 == len(each.right) == len(each.wrong):
                raise ValueError(f"lengths of {each.arm}: {len(each.edges)} edges don't fit the numbers between them")
        for training in self.trainings:
            _known("measure", measures, training.series)
            points = len(training.steps)
            lengths = {len(values) for values in training.series.values()} | {len(training.tokens) or points}
            if lengths != {points}:
                raise ValueError(f"training of {training.arm}, seed {training.seed}: {points} steps, but series of {lengths}")

    def cell(self, arm: str, group: str) -> Cell:
        """The cell of an arm and a group, an empty one where nothing was measured."""
        return next((cell for cell in self.cells if (cell.arm, cell.group) == (arm, group)), Cell(arm, group))


def _distinct(what: str, names: Iterable[object]) -> set[object]:
    seen: set[object] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"two {what}s are called {name!r}")
        seen.add(name)
    return seen


def _known(what: str, known: set[object], names: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"no {what} is called {name!r} (there are {', '.join(sorted(map(str, known)))})")
