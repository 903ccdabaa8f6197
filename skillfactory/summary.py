"""What a stage with a run directory has come to: its numbers, its account and what this process did, for people and as JSON."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from skillfactory.errors import EngineError
from skillfactory.flow import Engine, Flow
from skillfactory.funnel import Funnel
from skillfactory.progress import Progress, Silent
from skillfactory.run import Outcome, carry_on
from skillfactory.rundir import Stage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Summary:
    """What a stage has come to."""

    output: Path
    numbers: Mapping[str, Any]
    lines: tuple[str, ...]  # the numbers as a table
    funnels: tuple[Funnel, ...]
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        counts, tally = self.outcome.counts, self.outcome.tally
        return {
            "output": str(self.output),
            "numbers": self.numbers,
            "funnels": [funnel.to_dict() for funnel in self.funnels],
            "tokens": counts.get("tokens", 0),
            "prompt_tokens": counts.get("prompt_tokens", 0),
            "new_texts": tally.texts,
            "new_tokens": tally.tokens,
            "seconds": round(self.outcome.seconds, 3),
            "nothing_to_do": self.outcome.nothing_to_do,
            "engine_errors": dict(tally.errors.most_common()),
            "notes": list(self.outcome.notes),
        }

    def __str__(self) -> str:
        """The table and the account, for people."""
        tally, seconds = self.outcome.tally, self.outcome.seconds
        lines = [*self.lines, *map(str, self.funnels)]
        if self.outcome.nothing_to_do:
            lines.append(f"{self.output} was finished before: there is nothing to do")
        else:
            rate = f", {tally.tokens / seconds:,.0f} tokens/s" if seconds else ""
            lines.append(f"{self.output}: {tally.texts:,} new texts of {tally.tokens:,} tokens in {seconds:,.1f} s{rate}")
        lines += self.outcome.notes
        if tally.errors:
            reason, times = tally.errors.most_common(1)[0]
            lines.append(
                f"the engine gave up on {tally.errors.total():,} requests, {times:,} of them because: "
                f"{reason or 'no reason given'}; what rests on them counts in no number, and the same command asks again"
            )
        return "\n".join(lines)


def worked(
    output: Path,
    stage: Stage[T],
    flows: Iterable[Flow[T]],
    engine: Callable[[], Engine],
    progress: Progress | None,
    total: int | None,
) -> Outcome:
    """How a stage's flows ended in a run directory, with progress told in questions; see `run.carry_on`.

    EngineError if no response was kept and the engine had failed: there is nothing to count then.
    """
    bar = progress or Silent()
    bar.begin(stage.command, "questions", total)
    try:
        outcome = carry_on(output, stage, flows, engine, bar)
    finally:
        bar.end()
    if outcome.tally.errors and not outcome.counts.get("responses/kept"):
        reason, times = outcome.tally.errors.most_common(1)[0]
        raise EngineError(
            f"{output}: no response was kept; the engine gave up on {outcome.tally.errors.total():,} requests, {times:,} of "
            f"them because: {reason or 'no reason given'}. The same command asks again"
        )
    return outcome


def funnel(stage: str, unit: str, counts: Mapping[str, int]) -> Funnel:
    """The account of one unit among the counts of a run: unit/requested, unit/kept and unit/dropped/reason."""
    start = f"{unit}/dropped/"
    dropped = {name.removeprefix(start): count for name, count in counts.items() if name.startswith(start)}
    return Funnel(stage, unit, counts.get(f"{unit}/requested", 0), counts.get(f"{unit}/kept", 0), dropped)


def columns(rows: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Rows of cells as lines, the first column to the left, all others to the right; columns of dashes are left out."""
    shown = [column for column in zip(*rows, strict=True) if set(column[1:]) != {"-"}]
    widths = [max(map(len, column)) for column in shown]
    return tuple(
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))])
        for first, *rest in zip(*shown, strict=True)
    )


def percent(share: float | None) -> str:
    """A share as a cell."""
    return "-" if share is None else f"{100 * share:.1f}"


def interval(estimate: Mapping[str, Any]) -> str:
    """The ends of an estimate's interval as a cell; a dash if it has none, as of a single question."""
    return "-" if estimate["low"] is None else f"{percent(estimate['low'])} to {percent(estimate['high'])}"
