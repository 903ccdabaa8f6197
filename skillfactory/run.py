"""A run directory: the results of a stage's flows on disk, in blocks, so that a killed run goes on where it was.

Completions go to the ledger of their block as they come. When all flows of a block have ended, its tables are written as
Parquet parts, each at once or not at all, and the ledger goes. `docs/runs.md` says what the files hold and what is promised.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.flow import Completion, Engine, Flow, Request, drive
from skillfactory.ledger import Ledger
from skillfactory.progress import Progress
from skillfactory.records import Stop
from skillfactory.rundir import Stage, history_of, locked, read_state, readme, replacing, write_state, write_text

T = TypeVar("T")
BLOCK = 64  # flows; a block's texts are in memory once, when it ends (the paper's eager settings: about 30 MB)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the account of all its flows, and what this process did for it."""

    counts: Mapping[str, int]
    flows: int
    nothing_to_do: bool  # it was finished before
    seconds: float = 0.0
    asked: int = 0  # completions that this process got from the engine
    tokens: int = 0  # that this process generated


def carry_on(
    directory: Path, stage: Stage[T], flows: Iterable[Flow[T]], engine: Callable[[], Engine], progress: Progress
) -> Outcome:
    """Runs a stage's flows to their end in a run directory, new, killed or finished, and gives its account.

    `engine` is called only if there is work. RunLockedError if another process is at it; ConfigError if the directory belongs
    to another model or command; InputError if it holds something else.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        state = read_state(directory, stage)
        if state and state["finished"] and state["stamp"] == stage.stamp and not state["counts"].get("engine_errors"):
            return Outcome(state["counts"], state["flows"], nothing_to_do=True)
        write_text(directory / "README.md", readme(stage))
        history = history_of(state, stage)
        write_state(directory, stage, history)
        return _work(_Blocks(directory, stage, progress), flows, engine, history)


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
    outcome = Outcome(blocks.counts, blocks.flows, False, time.monotonic() - started, blocks.asked, blocks.tokens)
    ended = {"flows": outcome.flows, "counts": dict(sorted(outcome.counts.items()))}
    write_state(blocks.directory, blocks.stage, history, ended)
    blocks.log("end", seconds=round(outcome.seconds, 3), asked=outcome.asked, tokens=outcome.tokens)
    return outcome


@dataclass(slots=True)
class _Block(Generic[T]):
    """A block under way."""

    ledger: Ledger
    started: float
    flows: int = 0
    results: dict[int, T] = field(default_factory=dict)
    asked: int = 0
    tokens: int = 0


class _Blocks(Generic[T]):
    """The blocks of a run directory: opened as their flows start, finished as these end. It is the driver's store."""

    def __init__(self, directory: Path, stage: Stage[T], progress: Progress) -> None:
        self.directory, self.stage, self.progress = directory, stage, progress
        self.counts: Counter[str] = Counter()
        self.flows = self.asked = self.tokens = 0
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
        return self._open[index // BLOCK].ledger.get(index, request)

    def put(self, index: int, request: Request, completion: Completion) -> None:
        """Keeps a completion in its block's ledger (flow.Store)."""
        block = self._open[index // BLOCK]
        block.ledger.put(index, completion)
        block.asked += 1
        block.tokens += completion.tokens
        self.asked += 1
        self.tokens += completion.tokens

    def end(self, index: int, result: T | None) -> None:
        """Takes the result of a flow; the last of a full block finishes it."""
        number = index // BLOCK
        if number in self._open and result is not None:
            block = self._open[number]
            block.results[index] = result
            if len(block.results) == BLOCK:
                self._finish(number)
        self.progress.advance(1, f"{self.tokens:,} tokens" if self.tokens else "")

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
        self._open[number] = _Block(Ledger(path, part), time.monotonic())

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
        rate = round(block.tokens / seconds, 1) if seconds else None
        self.log(
            "block", block=number, seconds=round(seconds, 3), asked=block.asked, tokens=block.tokens, tokens_per_second=rate
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
    """Writes a Parquet file at once or not at all, on the disk when this returns."""
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd")
