"""A run directory: the results of a stage's flows on disk, in blocks, so that a killed run goes on where it was.

Completions go to the ledger of their block as they come. When all flows of a block have ended, its tables are written as
Parquet parts, each at once or not at all, and the ledger goes. `docs/runs.md` says what the files hold and what is promised.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.errors import ConfigError, EngineError, InputError
from skillfactory.flow import Completion, Engine, Flow, Request, drive
from skillfactory.ledger import Ledger
from skillfactory.places import replacing
from skillfactory.progress import Progress
from skillfactory.records import Stop
from skillfactory.rundir import Stage, changes, history_of, locked, read_state, readme, write_state, write_text

T = TypeVar("T")
BLOCK = 64  # flows; a block's texts are in memory once, when it ends (the paper's eager settings: about 30 MB)
IN_VAIN = 64  # failures without one text: not the requests are at fault then, but the engine, its model or its address
_TELL_EVERY = 0.25  # seconds
_REASONS = 1000  # different ones that are told apart
_MISSING = (
    "{}: a text that these settings want isn't stored, and --regrade asks no model; "
    "give the settings of the run, or leave --regrade out to have it sampled"
)


@dataclass(slots=True)
class Tally:
    """What one process did for a run."""

    texts: int = 0  # that the engine gave
    tokens: int = 0  # of these
    reused: int = 0  # stored texts that served
    errors: Counter[str] = field(default_factory=Counter)  # requests on which the engine gave up, by its reason

    def add(self, completion: Completion) -> None:
        """Counts a completion of the engine."""
        if completion.stop is Stop.ERROR:
            self.errors[completion.error if len(self.errors) < _REASONS else "other reasons"] += 1
        else:
            self.texts += 1
            self.tokens += completion.tokens

    def __str__(self) -> str:
        parts = [f"{self.texts:,} texts, {self.tokens:,} tokens" if self.texts else ""]
        parts.append(f"{self.errors.total():,} failed" if self.errors else "")
        return ", ".join(filter(None, parts))


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


def carry_on(
    directory: Path,
    stage: Stage[T],
    flows: Iterable[Flow[T]],
    engine: Callable[[], Engine],
    progress: Progress,
    regrade: bool = False,
) -> Outcome:
    """Runs a stage's flows to their end in a run directory, new, killed or finished, and gives its account.

    `engine` is called only if there is work. RunLockedError if another process is at it; ConfigError if the directory belongs
    to another model or command; InputError if it holds something else; EngineError if the engine gives nothing but failures.

    `regrade` runs the flows of a finished run anew on its stored texts, whatever has changed, without an engine. Killed, it
    goes on with or without `regrade`. ConfigError if a text is missing.
    """
    if regrade and not (directory / "run.json").exists():
        raise InputError(f"{directory}: holds no run whose texts could be graded again; leave --regrade out to begin one")
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        state = read_state(directory, stage)
        before = state or {}
        under_way = before.get("regrading", False)
        if regrade and not (before.get("finished") or under_way):
            raise ConfigError(f"{directory}: isn't finished; the same command without --regrade goes on with it")
        stage = replace(stage, regraded=before.get("regraded", 0) + (regrade and not under_way))
        if state and state["finished"] and state["stamp"] == stage.stamp and not state["counts"].get("engine_errors"):
            return Outcome(state["counts"], state["flows"], nothing_to_do=True, stamp=stage.stamp)
        write_text(directory / "README.md", readme(stage))
        history, changed = history_of(state, stage), changes(state, stage)
        write_state(directory, stage, history, regrading=regrade or under_way)
        blocks = _Blocks(directory, stage, progress, regrade)
        outcome = _work(blocks, flows, (lambda: NoEngine(_MISSING.format(directory))) if regrade else engine, history)
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


def _work(blocks: "_Blocks[T]", flows: Iterable[Flow[T]], engine: Callable[[], Engine], history: list[Any]) -> Outcome:
    """Drives the flows, finishes the blocks and closes the run's account."""
    started = time.monotonic()
    blocks.log("start", pid=os.getpid(), stamp=blocks.stage.stamp)
    running = engine()
    try:
        for index, result in drive(blocks.source(flows), running, blocks):
            blocks.end(index, result)
        blocks.end_all()
    finally:
        blocks.close()
        running.close()
    tally = blocks.tally
    if tally.errors and not tally.texts and not blocks.counts["tokens"]:
        raise _in_vain(tally)
    outcome = Outcome(blocks.counts, blocks.flows, False, time.monotonic() - started, tally, tuple(blocks.notes))
    write_text(blocks.directory / "README.md", readme(blocks.stage, blocks.directory))
    ended = {"flows": outcome.flows, "counts": dict(sorted(outcome.counts.items()))}
    write_state(blocks.directory, blocks.stage, history, ended)
    blocks.log("end", seconds=round(outcome.seconds, 3), texts=tally.texts, tokens=tally.tokens, failed=tally.errors.total())
    return outcome


@dataclass(slots=True)
class _Block(Generic[T]):
    """A block under way."""

    ledger: Ledger
    started: float
    flows: int = 0
    results: dict[int, T] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


class _Blocks(Generic[T]):
    """The blocks of a run directory: opened as their flows start, finished as these end. It is the driver's store."""

    def __init__(self, directory: Path, stage: Stage[T], progress: Progress, regrade: bool = False) -> None:
        self.directory, self.stage, self.progress = directory, stage, progress
        self._regrade = regrade  # what failed has failed: it isn't asked again
        self.counts: Counter[str] = Counter()
        self.tally, self.notes = Tally(), list[str]()
        self.flows = self._in_vain = 0
        self._told = 0.0
        self._open: dict[int, _Block[T]] = {}
        self._stamp = stage.stamp

    def source(self, flows: Iterable[Flow[T]]) -> Iterator[Flow[T | None]]:
        """The flows of unfinished blocks; for those of finished ones, flows that end at once."""
        for index, flow in enumerate(flows):
            number = index // BLOCK
            if index % BLOCK == 0:
                self._begin(number)
            self.flows += 1
            if number in self._open:
                self._open[number].flows += 1
                yield flow
            else:
                yield _nothing()

    def get(self, index: int, request: Request) -> Completion | None:
        """The stored completion that serves a request (flow.Store)."""
        stored = self._open[index // BLOCK].ledger.get(index, request, failures=self._regrade)
        self.tally.reused += stored is not None
        return stored

    def put(self, index: int, request: Request, completion: Completion) -> None:
        """Keeps a completion in its block's ledger (flow.Store).

        EngineError once so many failed before any came with a text. Only requests that fail for the first time count, so that
        the same command gets past those that no engine will ever serve.
        """
        block = self._open[index // BLOCK]
        self._in_vain += completion.stop is Stop.ERROR and completion.key not in block.ledger.failed
        block.ledger.put(index, completion)
        block.tally.add(completion)
        self.tally.add(completion)
        if self._in_vain >= IN_VAIN and not self.tally.texts:
            raise _in_vain(self.tally)
        if time.monotonic() - self._told >= _TELL_EVERY:
            self._tell(0)

    def end(self, index: int, result: T | None) -> None:
        """Takes the result of a flow; the last of a full block finishes it."""
        number = index // BLOCK
        if number in self._open and result is not None:
            block = self._open[number]
            block.results[index] = result
            if len(block.results) == BLOCK:
                self._finish(number)
        self._tell(1)

    def _tell(self, flows: int) -> None:
        self.progress.advance(flows, str(self.tally))
        self._told = time.monotonic()

    def end_all(self) -> None:
        """Finishes the last block, and empties those past the end, which a longer run has left."""
        for number in sorted(self._open):
            self._finish(number)
        number = -(-self.flows // BLOCK)
        while self._file("completions", number).exists() or self._ledger(number).exists():
            self._begin(number)
            if number in self._open:
                self._finish(number)
            number += 1

    def close(self) -> None:
        """Closes what is open; nothing is lost."""
        for block in self._open.values():
            block.ledger.close()
        self._open = {}

    def log(self, event: str, **values: Any) -> None:
        """Adds a line to log.jsonl, the one file that tells of time."""
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **values}
        with (self.directory / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _file(self, table: str, number: int) -> Path:
        return self.directory / table / f"part-{number:05d}.parquet"

    def _ledger(self, number: int) -> Path:
        return self.directory / f"ledger-{number:05d}.jsonl"

    def _begin(self, number: int) -> None:
        """Opens a block, or adds its account to the run's if it is finished and current."""
        path, part = self._ledger(number), self._file("completions", number)
        if not path.exists() and part.exists():
            about = pq.read_schema(part).metadata or {}
            counts = json.loads(about.get(b"counts", b"{}"))
            if about.get(b"stamp", b"").decode() == self._stamp and not counts.get("engine_errors"):
                self.counts.update(counts)
                return
        ledger = Ledger(path, part)
        self._open[number] = _Block(ledger, time.monotonic())
        if ledger.damaged:
            self.notes.append(f"{path.name}: {ledger.damaged} damaged lines were passed over; their requests are asked again")
            self.log("damaged", block=number, lines=ledger.damaged)

    def _finish(self, number: int) -> None:
        """Writes a block's parts, the completions' last: its stamp says that all are in place."""
        block = self._open[number]
        block.ledger.sync()
        rows: dict[str, list[Mapping[str, Any]]] = {name: [] for name in self.stage.schemas}
        counts: Counter[str] = Counter()
        for _, result in sorted(block.results.items(), key=lambda entry: entry[0]):
            for name, new in self.stage.rows(result).items():
                rows[name].extend(new)
            counts.update(self.stage.counts(result))
        for name, schema in self.stage.schemas.items():
            _write_table(self._file(name, number), pa.Table.from_pylist(rows[name], schema))
        completions = block.ledger.table()
        counts.update(_spent(completions))
        about = {"stamp": self._stamp, "counts": json.dumps(counts, sort_keys=True)}
        _write_table(self._file("completions", number), completions.replace_schema_metadata(about))
        block.ledger.remove()
        del self._open[number]
        self.counts.update(counts)
        seconds = time.monotonic() - block.started
        tally, rate = block.tally, round(block.tally.tokens / seconds, 1) if seconds else None
        made = {"texts": tally.texts, "tokens": tally.tokens, "failed": tally.errors.total(), "tokens_per_second": rate}
        self.log("block", block=number, seconds=round(seconds, 3), **made)


def _in_vain(tally: Tally) -> EngineError:
    reason, times = tally.errors.most_common(1)[0]
    return EngineError(
        f"the engine gave no text, but {tally.errors.total():,} failures, {times:,} times: {reason or 'no reason given'}. "
        "Check the model's name, the address and the engine's options; the same command then asks again"
    )


def _nothing() -> Flow[None]:
    yield from ()


def _spent(completions: pa.Table) -> dict[str, int]:
    """The token account of a block: of what its results rest on, and of what they don't."""
    spent: Counter[str] = Counter()
    columns = [completions[name].to_pylist() for name in ("stop", "prompt_tokens", "tokens", "used")]
    for stop, prompt_tokens, tokens, used in zip(*columns, strict=True):
        spent.update({"tokens": tokens, "prompt_tokens": prompt_tokens} if used else {"unused_tokens": tokens})
        spent["engine_errors"] += stop == Stop.ERROR
    return dict(spent)


def _write_table(path: Path, table: pa.Table) -> None:
    """Writes a Parquet file at once or not at all, on the disk when this returns.

    An empty table has no row group: `datasets` fails on one without rows.
    """
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as file, pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        if table.num_rows:
            writer.write_table(table)
