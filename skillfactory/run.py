"""A run directory: the results of a stage's flows on disk, in blocks, so that a killed run goes on where it was.

Completions go to the ledger of their block as they come. When all flows of a block have ended, its tables are written as
Parquet parts, each at once or not at all, and the ledger goes. `docs/runs.md` says what the files hold and what is promised.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from skillfactory.blocks import BLOCK, Block, Blocks, Finished, Portion, Tally, Written, in_vain, part
from skillfactory.errors import ConfigError, InputError
from skillfactory.flow import Completion, Engine, Flow, Request
from skillfactory.places import address, files, remove, sweep
from skillfactory.progress import Progress
from skillfactory.rundir import Log, Stage, changes, history_of, locked, read_state, readme, write_state, write_text

T = TypeVar("T")
Item = TypeVar("Item")
_MISSING = (
    "{}: a text that these settings want isn't stored, and --regrade asks no model; "
    "give the settings of the run, or leave --regrade out to have it sampled"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the account of all its flows, and what this process did for it."""

    counts: Mapping[str, int]
    flows: int
    nothing_to_do: bool  # it was finished before
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    notes: Sequence[str] = ()  # what a user should know of
    stamp: str = ""  # the run's


@dataclass(frozen=True)
class Job(Generic[Item, T]):
    """What a stage has done: for each item a flow, on an engine. All but the items can go to another process."""

    stage: Stage[T]
    items: Iterable[Item]
    flow: Callable[[Item], Flow[T]]
    engine: Callable[[], Engine]


def carry_on(
    directory: Path,
    stage: Stage[T],
    flows: Iterable[Flow[T]],
    engine: Callable[[], Engine],
    progress: Progress,
    regrade: bool = False,
) -> Outcome:
    """Runs a stage's flows to their end in a run directory, in this process; see `carry_out`."""
    return carry_out(directory, Job(stage, flows, _itself, engine), progress, regrade)


def carry_out(
    directory: Path,
    job: Job[Item, T],
    progress: Progress,
    regrade: bool = False,
    hands: "Callable[[Course[Item, T], Job[Item, T]], None] | None" = None,
) -> Outcome:
    """Brings a job to its end in a run directory, new, killed or finished, and gives its account.

    Its engine is begun only if there is work. RunLockedError if another process is at it; ConfigError if the directory belongs
    to another model or command; InputError if it holds something else; EngineError if the engine gives nothing but failures.

    `regrade` runs the flows of a finished run anew on its stored texts, whatever has changed, without an engine. Killed, it
    goes on with or without `regrade`. ConfigError if a text is missing.

    `hands` do the work on the course's blocks; by default this process does.
    """
    if regrade and not (directory / "run.json").exists():
        raise InputError(
            f"{address(directory)}: holds no run whose texts could be graded again; leave --regrade out to begin one"
        )
    with locked(directory) as check:
        state = read_state(directory, job.stage)
        before = state or {}
        under_way = before.get("regrading", False)
        if regrade and not (before.get("finished") or under_way):
            raise ConfigError(f"{address(directory)}: isn't finished; the same command without --regrade goes on with it")
        stage = replace(job.stage, regraded=before.get("regraded", 0) + (regrade and not under_way))
        if state and state["finished"] and state["stamp"] == stage.stamp and not state["counts"].get("engine_errors"):
            return Outcome(state["counts"], state["flows"], nothing_to_do=True, stamp=stage.stamp)
        write_text(directory / "README.md", readme(stage))
        history, changed = history_of(state, stage), changes(state, stage)
        write_state(directory, stage, history, regrading=regrade or under_way)
        job = replace(job, stage=stage, engine=_NoEngineFor(_MISSING.format(address(directory))) if regrade else job.engine)
        course: Course[Item, T] = Course(directory, stage, progress, regrade, check)
        try:
            outcome = _work(course, job, hands or alone, history)
        finally:
            course.close()
        tally, notes = outcome.tally, list(outcome.notes)
        if regrade:
            notes.insert(0, f"graded again: {tally.reused:,} stored texts, no model was asked")
        elif changed:
            served = f"{tally.reused:,} stored texts served again, {tally.texts:,} are new"
            notes.insert(0, f"settings changed ({'; '.join(changed)}): {served}")
        return replace(outcome, notes=tuple(notes), stamp=stage.stamp)


class NoEngine:
    """What stands for the engine where no model is asked: a request is a ConfigError, which says `why` (flow.Engine)."""

    capacity = 64

    def __init__(self, why: str) -> None:
        self._why = why

    def submit(self, requests: Sequence[Request]) -> None:
        """ConfigError if there is a request."""
        if requests:
            raise ConfigError(self._why)

    def collect(self) -> Sequence[Completion]:
        """Nothing, as it takes nothing."""
        return ()

    def close(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class _NoEngineFor:
    why: str

    def __call__(self) -> Engine:
        return NoEngine(self.why)


def _itself(flow: Flow[T]) -> Flow[T]:
    return flow


def _work(
    course: "Course[Item, T]", job: Job[Item, T], hands: "Callable[[Course[Item, T], Job[Item, T]], None]", history: list[Any]
) -> Outcome:
    """Has the blocks worked on and closes the run's account."""
    started = time.monotonic()
    course.log("start", pid=os.getpid(), stamp=course.stage.stamp)
    hands(course, job)
    course.empty_the_rest()
    tally = course.tally
    if tally.errors and not tally.texts and not course.counts["tokens"]:
        raise in_vain(tally)
    outcome = Outcome(course.counts, course.flows, False, time.monotonic() - started, tally, tuple(course.notes))
    write_text(course.directory / "README.md", readme(course.stage, course.directory))
    ended = {"flows": outcome.flows, "counts": dict(sorted(outcome.counts.items()))}
    write_state(course.directory, course.stage, history, ended)
    course.log("end", seconds=round(outcome.seconds, 3), texts=tally.texts, tokens=tally.tokens, failed=tally.errors.total())
    return outcome


def alone(course: "Course[Item, T]", job: Job[Item, T]) -> None:
    """Does all blocks of a course in this process, on one engine."""
    engine = job.engine()
    blocks = Blocks(course.directory, course.stage, job.flow, course.tell, course.regrade)
    course.tally = blocks.tally
    try:
        for block in blocks.driven(course.portions(job.items), engine):
            course.take(block.finish())
    finally:
        course.tell_damage(blocks.damaged)
        blocks.close()
        engine.close()


class Course(Generic[Item, T]):
    """The course of a run: which blocks are left to do, and the account of all."""

    def __init__(
        self,
        directory: Path,
        stage: Stage[T],
        progress: Progress,
        regrade: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`check` is called now and then; what it raises stops the run."""
        self.directory, self.stage, self.regrade = directory, stage, regrade
        self._progress, self._check, self._log = progress, check, Log(directory)
        self.counts: Counter[str] = Counter()
        self.tally, self.notes = Tally(), list[str]()
        self.flows = 0
        self._finished = Finished(directory, stage.stamp)
        self._ledgers: dict[int, list[str]] = {}
        for path in files(directory, "ledger-*.jsonl"):
            self._ledgers.setdefault(int(path.stem.split("-")[1]), []).append(path.name)

    def portions(self, items: Iterable[Item]) -> Iterator[Portion[Item]]:
        """The blocks of the items that have to be worked on, one by one; finished and current ones are passed over."""
        source = iter(items)
        number = 0
        while several := list(islice(source, BLOCK)):
            self.flows += len(several)
            counts = None if number in self._ledgers else self._finished.counts(number)
            if counts is None:
                yield Portion(number, several, tuple(self._ledgers.get(number, ())))
            else:
                self.counts.update(counts)
                self.tell(len(several))
            number += 1

    def empty_the_rest(self) -> None:
        """Empties the blocks past the end, which a longer run has left: their texts stay, their results go."""
        number = -(-self.flows // BLOCK)
        while number in self._ledgers or part(self.directory, "completions", number).exists():
            counts = None if number in self._ledgers else self._finished.counts(number)
            if counts is None:
                portion: Portion[Item] = Portion(number, (), tuple(self._ledgers.get(number, ())))
                block: Block[T] = Block(self.directory, self.stage, portion)
                self.tell_damage([(number, block.ledger.path.name, block.ledger.damaged)] if block.ledger.damaged else [])
                self.take(block.finish())
            else:
                self.counts.update(counts)
            number += 1
        for path in files(self.directory, "ledger-*"):  # of a worker that was believed dead and wasn't: all blocks are finished
            remove(path)
        for folder in (self.directory, *(self.directory / table for table in (*self.stage.schemas, "completions"))):
            sweep(folder)

    def take(self, written: Written) -> None:
        """Adds a finished block to the account."""
        self.counts.update(written.counts)
        tally, seconds = written.tally, written.seconds
        rate = round(tally.tokens / seconds, 1) if seconds else None
        made = {"texts": tally.texts, "tokens": tally.tokens, "failed": tally.errors.total(), "tokens_per_second": rate}
        self.log("block", block=written.number, seconds=round(seconds, 3), **made)

    def tell(self, flows: int) -> None:
        """Tells that so many more flows have ended, and what has come so far."""
        self._check()
        self._progress.advance(flows, str(self.tally))

    def say(self, note: str) -> None:
        """Tells what keeps the run waiting."""
        self._progress.advance(0, note)

    def tell_damage(self, damaged: Iterable[tuple[int, str, int]]) -> None:
        """Notes damaged lines: block, ledger and their number."""
        for number, name, lines in damaged:
            self.notes.append(f"{name}: {lines} damaged lines were passed over; their requests are asked again")
            self.log("damaged", block=number, lines=lines)

    def log(self, event: str, **values: Any) -> None:
        """Adds a line to the log."""
        self._log.add({"event": event, **values})

    def close(self) -> None:
        """Closes the log."""
        self._finished.close()
        self._log.close()
