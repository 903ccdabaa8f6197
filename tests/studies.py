"""Studies with made-up numbers, for tests of reports."""

from random import Random

from skillfactory.funnel import Funnel
from skillfactory.report import (
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

TRACE = """<think>
<sample>
25 - 7 = 18 and 18 + 3 = 21, so
<answer>25 - 7 + 3</answer>
</sample>
<reflect>
25 - 7 + 3 makes 21, but 20 was asked for.
<verdict>Incorrect</verdict>
</reflect>
That one fails, so I try again.
<sample>
(25 - 7) is 18; 7 - 3 is 4; 25 - 4 = 21. Not that. 25 - 8 = 17 and 17 + 3 = 20.
<answer>25 - 7 - 3 + 5</answer>
</sample>
<reflect>
It makes 20.
<verdict>Correct</verdict>
</reflect>
</think>

That settles it.

<answer>
25 - 7 - 3 + 5
</answer>"""
_LABELS = ("Base", "SkillFactory SFT", "RL only", "SkillFactory → GRPO", "STaR → GRPO")
_GROUPS = (
    ("Countdown, 3 numbers", "as in training"),
    ("Countdown, 4 numbers", "harder"),
    ("Countdown, 5 numbers", "harder"),
    ("Countdown, mean of 4-6", "harder"),
    ("Multiplication", "another task"),
    ("Acronym", "another task"),
)
MEASURES = (
    Measure("reward", "Reward", "share"),
    Measure("length", "Length of responses", "tokens"),
    Measure("clipped", "Cut off", "share"),
    Measure("entropy", "Entropy", "nats"),
    Measure("silent", "Groups without signal", "share"),
    Measure("reflections", "Reflections per response"),
)


def study(arms: int = 4, groups: int = 6, seeds: int = 3, points: int = 60) -> Study:
    """A study of any size; its numbers mean nothing."""
    draw = Random(0)
    names = tuple(
        Arm(f"arm-{i}", _LABELS[i] if i < len(_LABELS) else f"Variant {i}", "made up", tuple(range(seeds))) for i in range(arms)
    )
    sets = tuple(Group(f"group-{i}", *(_GROUPS[i] if i < len(_GROUPS) else (f"Task {i}", ""))) for i in range(groups))
    cells = tuple(
        _cell(draw, arm.name, group.name, 0.1 + 0.15 * (i % 5) / (1 + j))
        for i, arm in enumerate(names)
        for j, group in enumerate(sets)
    )
    return Study(
        title="A made-up study",
        about="All numbers on this page are made up: it shows what a report looks like.\n\nFour ways to train a small model.",
        arms=names,
        groups=sets,
        cells=cells,
        comparisons=_comparisons(draw, names, sets),
        measures=MEASURES,
        trainings=tuple(_training(draw, arm.name, seed, points) for arm in names[2:4] for seed in range(seeds)),
        stages=_stages(names, seeds),
        accounts=(
            Account("attempts", Funnel("curate", "questions", 900, 733, {"unsolved": 150, "too_long": 17}), seeds),
            Account("traces", Funnel("build", "traces", 2700, 2700)),
        ),
        sheets=(_sheet(names, sets),),
        lengths=tuple(Lengths(arm.name, (0, 10, 20, 40, 80), (0, 5, 30, 2), (1, 9, 12, 40)) for arm in names),
        spendings=tuple(
            Spending(arm.label, way, sets[-1].label, tuple((100.0 * n, Estimate(0.1 * n)) for n in (1, 2, 3)))
            for arm in names
            for way in ("budget forcing", "majority vote")
        ),
        effects=tuple(
            Effect("Base", "Acronym", way, 120, {"Another answer": (Estimate(0.4, 0.3, 0.5), Estimate(0.1, 0.0, 0.2))})
            for way in ("keep", "drop")
        ),
        selections=tuple(Selection(arm.label, "Right after a retry", 12, 300, (example(),), "What it is.") for arm in names),
        origins=(
            Origin("attempts", "skillfactory curate", "mini", tuple(range(seeds)), {"samples": "14"}, {"torch": "2.13.0"}),
        ),
        intervals="Bootstrap over questions, then seeds.",
        notes=("All numbers are made up.",),
        settings={"Model": "mini", "Generated tokens in RL": "1.2M for each arm and seed"},
        versions={"skillfactory": "0.0", "torch": "2.13.0"},
        command="skillfactory run recipes/mini/demo.yaml",
    )


def example(text: str = TRACE, question: str = "Make 20 from 25, 7, 3 and 5.", group: str = "Acronym") -> Example:
    """A response to be read."""
    return Example(question, "25 - 7 - 3 + 5", text, True, (False, True), group, 0, 153, name="countdown/0/0")


def one_class(*examples: Example) -> tuple[Selection, ...]:
    """These responses as a class of their own."""
    return (Selection("Base", "Right after a retry", len(examples), 1000, examples),)


def _sheet(arms: tuple[Arm, ...], groups: tuple[Group, ...]) -> Sheet:
    columns = (Measure("a", "First right", "share"), Measure("b", "Repeats"), Measure("c", "No answer", "count"))
    lines = tuple(Line(arm.name, group.name, (0.25, 1.5, None)) for group in groups for arm in arms)
    return Sheet("Further numbers", "What they are.", columns, lines)


def _cell(draw: Random, arm: str, group: str, share: float) -> Cell:
    accuracy = Estimate(share, max(0.0, share - 0.04), share + 0.05)
    tokens, cut = 60 + 400 * share, share / 8
    return Cell(
        arm, group, accuracy, 500, 2000, share / 2, tokens, cut, 0.97, 1 + 4 * share, 5 * share, 0.9 + draw.random() / 12, 0.95
    )


def _comparisons(draw: Random, arms: tuple[Arm, ...], groups: tuple[Group, ...]) -> tuple[Comparison, ...]:
    found = []
    for arm, baseline in zip(arms[2:4], arms[1:3], strict=False):
        for group in groups:
            d = draw.uniform(-0.05, 0.2)
            ratio = Estimate(1 + 4 * d, 0.8 + 4 * d, 1.3 + 4 * d)
            found.append(
                Comparison(arm.name, baseline.name, group.name, Estimate(d, d - 0.04, d + 0.04), ratio, "goal: above 3 points")
            )
    return tuple(found)


def _training(draw: Random, arm: str, seed: int, points: int) -> Training:
    steps = tuple(float(i) for i in range(1, points + 1))
    tokens = tuple(step * (9_000 if arm == "arm-2" else 21_000) for step in steps)
    rise = [0.2 + 0.4 * i / points + draw.gauss(0, 0.02) for i in range(points)]
    series = {
        "reward": tuple(rise),
        "length": tuple(60 + 200 * value for value in rise),
        "clipped": tuple(max(0.0, 0.3 - value / 2) for value in rise),
        "entropy": tuple(None if i % 2 else 1.2 - value for i, value in enumerate(rise)),
        "silent": tuple(0.2 + value / 2 for value in rise),
        "reflections": tuple(3 * value for value in rise),
    }
    return Training(arm, seed, steps, tokens, series)


def _stages(arms: tuple[Arm, ...], seeds: int) -> tuple[Stage, ...]:
    shared = [Stage("Attempts and reflections", (), None, 31.2, 60.0, None, 420_000), Stage("Traces", (), None, 0.4, 0.4)]
    tuned = [Stage("SFT", (arms[-1].name,), seed, 74.0, 73.0, 560, None, 1_210_000) for seed in range(seeds)]
    grpo = [
        Stage("GRPO", (arm.name,), seed, 190.0 + seed, 188.0, 50, 1_200_000 + seed)
        for arm in arms[2:4]
        for seed in range(seeds)
    ]
    return (*shared, *tuned, *grpo)
