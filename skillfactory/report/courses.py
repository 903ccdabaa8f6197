"""The sections of a report on what was done: training curves, and what every stage cost."""

from collections.abc import Iterator, Sequence

from skillfactory.report.elements import Child, Markup, element, header, joined, row, table
from skillfactory.report.numbers import Measure, Stage, Study, Training
from skillfactory.report.plots import Curve, curve_plot, swatch
from skillfactory.report.words import NOTHING, count, duration, known, letter, line, of_unit

_POINTS = 40_000  # in all curves of a page together: half a megabyte
_MOST, _LEAST = 160, 8  # points of a curve


def training(study: Study) -> Markup | None:
    """Training curves, over generated tokens or over steps, a thin line for each seed."""
    drawn = [measure for measure in study.measures if any(_values(item, measure) for item in study.trainings)]
    if not drawn:
        return None
    counted = any(item.tokens for item in study.trainings)
    most = max(_LEAST, min(_MOST, _POINTS // (len(drawn) * len(study.trainings) * (1 + counted))))
    arms = {arm.name: (letter(hue), hue, arm.label) for hue, arm in enumerate(study.arms)}
    seen = {item.arm for item in study.trainings}
    keys = (element("li", swatch(mark, hue), line(label)) for name, (mark, hue, label) in arms.items() if name in seen)
    parts: list[Markup] = [element("ul", *keys, class_="legend")]
    parts.append(element("p", f"A thin line for each seed; at most {most} points each, means of neighbours.", class_="quiet"))
    over_tokens = [measure for measure in drawn if any(_values(item, measure) for item in study.trainings if item.tokens)]
    if over_tokens:
        parts += _switch()
        parts.append(element("div", *_plots(study, over_tokens, True, most), class_="plots by-tokens"))
        parts.append(element("div", *_plots(study, over_tokens, False, most), class_="plots by-steps"))
    over_steps = [measure for measure in drawn if measure not in over_tokens]
    if over_steps:
        parts.append(element("div", *_plots(study, over_steps, False, most, len(over_tokens)), class_="plots"))
    numbers = element("details", element("summary", "The curves' first and last values"), _values_table(study, drawn))
    return joined([*parts, numbers])


def _values(item: Training, measure: Measure) -> list[float]:
    return [found for value in item.series.get(measure.name, ()) if (found := known(value)) is not None]


def _switch() -> Iterator[Markup]:
    """What the curves are drawn over; the style sheet does the rest."""
    choices = (("tokens", "over generated tokens"), ("steps", "over steps"))
    for name, _ in choices:
        yield element("input", type="radio", name="axis", id=f"axis-{name}", class_="axis", checked=name == "tokens")
    yield element("div", *(element("label", words, for_=f"axis-{name}") for name, words in choices), class_="axes")


def _plots(study: Study, measures: Sequence[Measure], by_tokens: bool, most: int, first: int = 0) -> Iterator[Markup]:
    along, axis = ("generated tokens", "tokens") if by_tokens else ("steps", "steps")
    hues = {arm.name: (hue, arm.label) for hue, arm in enumerate(study.arms)}
    for index, measure in enumerate(measures, first):
        lines = []
        for item in study.trainings:
            hue, label = hues[item.arm]
            places = item.tokens if by_tokens else item.steps
            values = item.series.get(measure.name, ())
            points = [(x, y) for x, y in zip(places, values, strict=False) if y is not None]
            lines.append(Curve(letter(hue), hue, points, f"{label}, seed {item.seed}"))
        title = line(measure.label) + _in(measure)
        drawn = curve_plot(f"curve-{axis}-{index}", title, lines, measure.unit, along, most)
        yield element("figure", element("figcaption", title), drawn)


def _in(measure: Measure) -> str:
    if measure.unit == "tokens" and "tokens" in measure.label.lower():
        return ""
    return {"share": ", %", "tokens": ", tokens", "nats": ", nats", "number": "", "count": ""}[measure.unit]


def _values_table(study: Study, measures: Sequence[Measure]) -> Markup:
    labels = {arm.name: arm.label for arm in study.arms}
    head = header(["Training", *(line(measure.label) for measure in measures)])
    rows = (
        row(f"{line(labels[item.arm])}, seed {item.seed}", (_course(_values(item, measure), measure) for measure in measures))
        for item in study.trainings
    )
    return table("training-table", "The first and the last value of each curve.", head, element("tbody", *rows))


def _course(values: Sequence[float], measure: Measure) -> str:
    if not values:
        return NOTHING
    return f"{of_unit(values[0], measure.unit)} → {of_unit(values[-1], measure.unit)}"


def costs(study: Study) -> Markup | None:
    """Time and tokens of every stage: means of a run, and the sum of all runs."""
    if not study.stages:
        return None
    named = any(stage.arms for stage in study.stages)
    names = ["Stage", *(["For"] if named else []), "Runs", "Time", "CPU time", "Steps", "Generated tokens", "Trained tokens"]
    rows = (_stage(study, label, arms, runs, named) for (label, arms), runs in grouped(study.stages).items())
    total = [*([""] if named else []), str(len(study.stages)), *_forms(totals(study.stages))]
    caption = (
        "What the stages cost. Each line is the mean of its runs, the last line the sum of all runs; "
        "runs whose cost is not known are left out of both."
    )
    head = header(names, words=(1,) if named else ())
    return table("costs-table", caption, head, element("tbody", *rows), row("All", total))


def grouped(stages: Sequence[Stage]) -> dict[tuple[str, tuple[str, ...]], list[Stage]]:
    """The runs of each stage: of equal label and arms, in the order of their first."""
    found: dict[tuple[str, tuple[str, ...]], list[Stage]] = {}
    for stage in stages:
        found.setdefault((stage.label, stage.arms), []).append(stage)
    return found


Costs = tuple[float | None, float | None, float | None, float | None, float | None]


def totals(stages: Sequence[Stage], per_run: bool = False) -> Costs:
    """Seconds, CPU seconds, steps, generated and trained tokens: sums (or means) over the runs for which they are known."""

    def total(values: Sequence[float | None]) -> float | None:
        there = [found for value in values if (found := known(value)) is not None]
        return None if not there else sum(there) / (len(there) if per_run else 1)

    return (
        total([stage.seconds for stage in stages]),
        total([stage.cpu_seconds for stage in stages]),
        total([stage.steps for stage in stages]),
        total([stage.generated_tokens for stage in stages]),
        total([stage.trained_tokens for stage in stages]),
    )


def _forms(costs: Costs) -> tuple[str, ...]:
    times, counts = costs[:2], costs[2:]
    return (*map(duration, times), *(count(None if value is None else round(value)) for value in counts))


def served(study: Study, arms: tuple[str, ...]) -> str:
    """The arms that a stage serves, in words."""
    labels = {arm.name: arm.label for arm in study.arms}
    return ", ".join(line(labels[arm]) for arm in arms) or "all"


def stage_forms(stages: Sequence[Stage], per_run: bool) -> tuple[str, ...]:
    """The costs of several runs as words: time, CPU time, steps, generated and trained tokens."""
    return _forms(totals(stages, per_run))


def _stage(study: Study, label: str, arms: tuple[str, ...], runs: Sequence[Stage], named: bool) -> Markup:
    cells: list[Child] = [element("td", served(study, arms), class_="words")] if named else []
    cells += [element("td", text) for text in (str(len(runs)), *stage_forms(runs, True))]
    return element("tr", element("th", line(label), scope="row"), *cells)
