"""Blocks of a run directory: opened, filled with completions and results, written as Parquet parts. One, in whatever process.

A stage's flows are numbered; 64 of them, one after another, are a block. What is of a whole run is in `run.py`.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.errors import EngineError
from skillfactory.flow import Completion, Engine, Flow, Request, drive_numbered
from skillfactory.ledger import Ledger
from skillfactory.places import files, footer, is_remote, make_folder, replacing
from skillfactory.records import Stop
from skillfactory.rundir import Stage

T = TypeVar("T")
Item = TypeVar("Item")
BLOCK = 64  # flows; a block's texts are in memory once, when it ends (the paper's eager settings: about 30 MB)
IN_VAIN = 64  # failures without one text: not the requests are at fault then, but the engine, its model or its address
_TELL_EVERY = 0.25  # seconds
_AHEAD = (
    32  # requests under way for what finished blocks count: one after the other, a million questions would take ten minutes
)
_REASONS = 1000  # different ones that are told apart


@dataclass(slots=True)
class Tally:
    """What one process did for a run, or for a block of it."""

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

    def copy(self) -> "Tally":
        """What it is now; also while another thread adds to it."""
        return Tally(self.texts, self.tokens, self.reused, Counter(dict.copy(self.errors)))

    def total(self) -> int:
        """How many requests it counts."""
        return self.texts + self.reused + self.errors.total()

    def __add__(self, other: "Tally") -> "Tally":
        errors = self.errors + other.errors
        return Tally(self.texts + other.texts, self.tokens + other.tokens, self.reused + other.reused, errors)

    def __str__(self) -> str:
        parts = [f"{self.texts:,} texts, {self.tokens:,} tokens" if self.texts else ""]
        parts.append(f"{self.errors.total():,} failed" if self.errors else "")
        return ", ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Portion(Generic[Item]):
    """What is to be done of a block: the items of its flows, and what others have left of it."""

    number: int
    items: Sequence[Item]
    left: tuple[str, ...] = ()  # names of the ledgers of those who were at it
    worker: str = ""  # who has it now, in the name of the ledger; "" for the process that holds the run directory

    @property
    def ledger(self) -> str:
        """The name of the ledger of who has it."""
        return f"ledger-{self.number:05d}{'-' if self.worker else ''}{self.worker}.jsonl"


@dataclass(frozen=True, slots=True)
class Written:
    """The account of a finished block."""

    number: int
    flows: int
    counts: Mapping[str, int]
    seconds: float
    tally: Tally


def part(directory: Path, table: str, number: int) -> Path:
    """Where a block's rows of a table stand."""
    return directory / table / f"part-{number:05d}.parquet"


def current(directory: Path, number: int, stamp: str) -> Mapping[str, int] | None:
    """The counts of a finished block whose results are those of `stamp`; None if it has to be worked on."""
    about = footer(part(directory, "completions", number))
    if about is None:
        return None
    counts: dict[str, int] = json.loads(about.get(b"counts", b"{}"))
    return counts if about.get(b"stamp", b"").decode() == stamp and not counts.get("engine_errors") else None


class Finished:
    """What finished blocks count, asked for in the order of their numbers; elsewhere that of the next ones is on its way."""

    def __init__(self, directory: Path, stamp: str) -> None:
        self._directory, self._stamp = directory, stamp
        self._pool = ThreadPoolExecutor(_AHEAD) if is_remote(directory) else None
        self._ahead: dict[int, Future[Mapping[str, int] | None]] = {}
        known = files(directory / "completions", "part-*.parquet") if self._pool else []
        self._end = max((int(path.stem.partition("-")[2]) for path in known), default=-1) + 1

    def counts(self, number: int) -> Mapping[str, int] | None:
        """See `current`."""
        if self._pool is None:
            return current(self._directory, number, self._stamp)
        for each in range(number, min(number + _AHEAD, self._end)):
            if each not in self._ahead:
                self._ahead[each] = self._pool.submit(current, self._directory, each, self._stamp)
        known = self._ahead.pop(number, None)
        return known.result() if known else None

    def close(self) -> None:
        """Ends the asking."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


class Block(Generic[T]):
    """A block under way."""

    def __init__(self, directory: Path, stage: Stage[T], portion: Portion[Any]) -> None:
        self.number, self.flows = portion.number, len(portion.items)
        self._directory, self._stage = directory, stage
        left = [directory / name for name in portion.left if name != portion.ledger]
        self.ledger = Ledger(directory / portion.ledger, part(directory, "completions", self.number), left)
        self._started = time.monotonic()
        self._results: dict[int, T] = {}
        self.tally = Tally()

    def end(self, index: int, result: T) -> None:
        """Takes the result of a flow."""
        self._results[index] = result

    @property
    def full(self) -> bool:
        """Whether all its flows have ended."""
        return len(self._results) == self.flows

    def finish(self) -> Written:
        """Writes the block's parts, the completions' last, whose stamp says that all are in place; its ledger goes."""
        self.ledger.sync()
        rows: dict[str, list[Mapping[str, Any]]] = {name: [] for name in self._stage.schemas}
        counts: Counter[str] = Counter()
        for _, result in sorted(self._results.items(), key=lambda entry: entry[0]):
            for name, new in self._stage.rows(result).items():
                rows[name].extend(new)
            counts.update(self._stage.counts(result))
        for name, schema in self._stage.schemas.items():
            _write_table(part(self._directory, name, self.number), pa.Table.from_pylist(rows[name], schema))
        completions = self.ledger.table()
        counts.update(_spent(completions))
        about = {"stamp": self._stage.stamp, "counts": json.dumps(counts, sort_keys=True)}
        _write_table(part(self._directory, "completions", self.number), completions.replace_schema_metadata(about))
        self.ledger.remove()
        return Written(self.number, self.flows, counts, time.monotonic() - self._started, self.tally)


class Blocks(Generic[Item, T]):
    """The blocks that a process has in hand: opened as their flows start, given back when these have ended (flow.Store)."""

    def __init__(
        self,
        directory: Path,
        stage: Stage[T],
        flow: Callable[[Item], Flow[T]],
        tell: Callable[[int], None] = lambda flows: None,
        failures: bool = False,
    ) -> None:
        """`tell` is called with the number of flows that have ended since, and now and then; `failures`: stored ones serve."""
        self._directory, self._stage, self._flow, self._tell, self._failures = directory, stage, flow, tell, failures
        self.tally = Tally()
        self.damaged: list[tuple[int, str, int]] = []  # block, ledger, its damaged lines
        self._open: dict[int, Block[T]] = {}
        self._in_vain = 0
        self._told = 0.0

    @property
    def idle(self) -> bool:
        """Whether there is no block in hand."""
        return not self._open

    def answered(self) -> dict[int, int]:
        """By block in hand: the requests that the engine has answered since it was opened; also for another thread to ask."""
        return {number: block.tally.texts + block.tally.errors.total() for number, block in dict.copy(self._open).items()}

    def driven(self, portions: Iterable[Portion[Item] | None], engine: Engine) -> Iterator[Block[T]]:
        """The blocks of the portions as all their flows have ended, in no fixed order; `finish` writes them.

        A portion is taken when the engine has room for its flows; None among them says that there is none just now.
        """
        for index, result in drive_numbered(self._flows(portions), engine, self):
            block = self._open[index // BLOCK]
            block.end(index, result)
            self._say(1)
            if block.full:
                del self._open[block.number]
                yield block

    def _flows(self, portions: Iterable[Portion[Item] | None]) -> Iterator[tuple[int, Flow[T]] | None]:
        for portion in portions:
            if portion is None:
                yield None
                continue
            block = Block(self._directory, self._stage, portion)
            self._open[portion.number] = block
            if block.ledger.damaged:
                self.damaged.append((portion.number, block.ledger.path.name, block.ledger.damaged))
            for index, item in enumerate(portion.items, portion.number * BLOCK):
                yield index, self._flow(item)

    def get(self, index: int, request: Request) -> Completion | None:
        """The stored completion that serves a request (flow.Store)."""
        block = self._open[index // BLOCK]
        stored = block.ledger.get(index, request, failures=self._failures)
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
            raise in_vain(self.tally)
        if time.monotonic() - self._told >= _TELL_EVERY:
            self._say(0)

    def _say(self, flows: int) -> None:
        self._tell(flows)
        self._told = time.monotonic()

    def close(self) -> None:
        """Closes what is open; nothing is lost."""
        for block in self._open.values():
            block.ledger.close()
        self._open = {}


def in_vain(tally: Tally) -> EngineError:
    """The error of an engine that gave nothing but failures."""
    reason, times = tally.errors.most_common(1)[0]
    return EngineError(
        f"the engine gave no text, but {tally.errors.total():,} failures, {times:,} times: {reason or 'no reason given'}. "
        "Check the model's name, the address and the engine's options; the same command then asks again"
    )


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
    make_folder(path.parent)
    with replacing(path) as file, pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        if table.num_rows:
            writer.write_table(table)
