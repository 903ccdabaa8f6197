"""A comparison as Markdown, aligned for a terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from skillfactory.comparing.pairs import Cell, Pair
from skillfactory.comparing.questions import Question
from skillfactory.report.numbers import Arm, Group, Study
from skillfactory.report.numbers import Cell as Shown
from skillfactory.report.numbers import Estimate as Bounds
from skillfactory.report.table import aligned, results
from skillfactory.report.words import NOTHING, count, line, number, points, share, with_interval
from skillfactory.stats import Estimate

_WIDTH = 140


def page(
    groups: Sequence[Group], cells: Sequence[Cell], pairs: Sequence[Pair], questions: Sequence[Question], notes: Sequence[str]
) -> str:
    """The tables with what a reader has to know of them."""
    parts = [
        "\n".join(f"- **note**: {line(note, 600)}" for note in notes),
        "## Right, %\n\n" + _right(groups, cells),
        "## Differences\n\n" + _rows(_differences(pairs), left=2) + "\n\n" + _family(pairs),
        "## Tokens and answers, and on how many questions an arm is better\n\n" + _rows(_explained(cells, pairs), left=2),
    ]
    if questions:
        parts.append("## Questions won and lost by the most\n\n" + _rows(_questions(questions), left=4))
    return "\n\n".join(filter(None, parts))


def _right(groups: Sequence[Group], cells: Sequence[Cell]) -> str:
    """The table in the shape of the paper's: arms × groups, means of kinds first."""
    arms = tuple(Arm(name, name) for name in dict.fromkeys(cell.arm for cell in cells))
    shown = tuple(Shown(cell.arm, cell.column, _bounds(cell.right)) for cell in cells)
    filled = tuple(replace(group, label=group.name) for group in groups if any(cell.column == group.name for cell in cells))
    seeds = {cell.seeds for cell in cells}
    of = "new questions" + ("" if seeds == {1} else " and, for arms of several seeds, of new seeds too")
    means = [f"{group.label} is {group.about}" for group in filled if group.about.startswith("the mean")]
    asked = dict.fromkeys(f"{cell.column} {cell.questions:,}" for cell in cells)
    told = f"With 95 % intervals, of {of}. {'. '.join([*means, 'Questions: ' + ', '.join(asked)])}."
    return f"{results(Study('', '', arms, filled, shown), _WIDTH)}\n\n{told}"


def _differences(pairs: Sequence[Pair]) -> Iterator[list[str]]:
    yield ["compared", "on", "points", "ratio", "p", "p, corrected", "difference is"]
    for pair in pairs:
        gained = with_interval(_bounds(pair.right), points, " to ")
        factor = with_interval(_bounds(pair.ratio), number)
        yield [*_which(pair), gained, factor, chance(pair.p), chance(pair.p_holm), _reading(pair)]


def _family(pairs: Sequence[Pair]) -> str:
    """What the corrected p-values are corrected for."""
    arms, columns = len({(pair.arm, pair.baseline) for pair in pairs}), len({pair.column for pair in pairs})
    paired = {bool(pair.seeds) for pair in pairs}
    seeds = "and seed " if paired == {True} else "" if paired == {False} else "and, where arms share a study, seed "
    return (
        f"Differences are paired by question {seeds}(t tests of crossed effects of seeds and questions); the p-values are "
        f"two-sided. Corrected by Holm's method for all {len(pairs)} comparisons of this table ({_many(arms, 'pair')} of arms, "
        f"{_many(columns, 'column')}): if there were no difference anywhere, the chance of one at 0.05 or less would be 5 % at "
        "most. Intervals are not corrected."
    )


def _explained(cells: Sequence[Cell], pairs: Sequence[Pair]) -> Iterator[list[str]]:
    known = {(cell.arm, cell.column): cell for cell in cells}
    yield ["compared", "on", "tokens a response", "difference", "answers", "difference", "better", "worse", "equal"]
    for pair in pairs:
        one, other = (known[name, pair.column] for name in (pair.arm, pair.baseline))
        tokens = [_against(one.tokens, other.tokens), with_interval(_bounds(pair.tokens), _signed, " to ")]
        answers = [_against(one.answers, other.answers), with_interval(_bounds(pair.answers), _signed, " to ")]
        yield [*_which(pair), *tokens, *answers, *(count(n) for n in (pair.won, pair.lost, pair.level))]


def _questions(questions: Sequence[Question]) -> Iterator[list[str]]:
    yield ["compared", "group", "question", "text", "right, %", "baseline, %", "points"]
    for each in questions:
        numbers = [share(each.right), share(each.right_baseline), points(each.difference)]
        yield [f"{each.arm} minus {each.baseline}", each.group, each.id, each.prompt, *numbers]


def chance(p: float | None) -> str:
    """A p-value: `0.03`, `0.0004`, `<0.0001`."""
    if p is None:
        return NOTHING
    return "<0.0001" if p < 0.0001 else f"{p:.1g}" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def _which(pair: Pair) -> list[str]:
    return [f"{pair.arm} minus {pair.baseline}", pair.column]


def _reading(pair: Pair) -> str:
    """What the corrected p-value says of the sign."""
    if pair.p_holm is None or pair.right.value is None:
        return NOTHING
    sign = "above zero" if pair.right.value > 0 else "below zero"
    return sign if pair.p_holm <= 0.05 else "not clear"


def _against(one: Estimate, other: Estimate) -> str:
    return NOTHING if one.value is None else f"{number(one.value)} / {number(other.value)}"


def _signed(value: float | None) -> str:
    return f"+{number(value)}" if value is not None and value > 0 and number(value).strip("0.") else number(value)


def _bounds(found: Estimate) -> Bounds:
    return Bounds(found.value, found.low, found.high)


def _many(n: int, name: str) -> str:
    return f"{n} {name}{'' if n == 1 else 's'}"


def _rows(rows: Iterator[list[str]], left: int) -> str:
    return "\n".join(aligned(list(rows), left=tuple(range(left))))
