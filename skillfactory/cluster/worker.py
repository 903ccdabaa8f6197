"""The actor that works on blocks of a run directory: an engine, and a thread that drives the flows of the blocks in hand."""

import asyncio
import platform
import queue
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Generic, TypeVar

from skillfactory.blocks import Block, Blocks, Portion, Tally, Written
from skillfactory.cluster.surroundings import Surroundings, unpacked
from skillfactory.errors import ConfigError
from skillfactory.places import address
from skillfactory.run import Job

T = TypeVar("T")
Item = TypeVar("Item")
_MOMENT = 0.05  # seconds that an engine with room waits for the next block, which is on its way


@dataclass(frozen=True, slots=True)
class Told:
    """How far a worker has come."""

    tally: Tally
    answered: Mapping[int, int]  # by block in hand: requests that were answered since the worker has it


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of a block that it has finished."""

    written: Written
    damaged: tuple[tuple[int, str, int], ...]  # block, ledger, damaged lines; of any block
    told: Told


class Worker(Generic[Item, T]):
    """Holds one engine and drives the flows of all the blocks that it is given, together.

    A block is worked on in two steps: `work` ends when its texts are all on disk, `finish` writes its results. So nobody
    writes results but who is told to, also when a worker is believed dead and isn't.
    """

    def __init__(self, surroundings: Surroundings, directory: Path, failures: bool, job: bytes) -> None:
        surroundings.enter()
        self._directory, self._failures, self._job = directory, failures, job
        self._portions: queue.SimpleQueue[Portion[Item] | None] = queue.SimpleQueue()
        self._full: dict[int, Block[T]] = {}
        self._enough = False
        self._failure: Exception | None = None  # what ended the thread that drives

    async def ready(self) -> str:
        """The machine's name, once the worker has found room on it."""
        return platform.node()

    async def begin(self) -> None:
        """Starts the engine. ConfigError if the run directory can't be seen from here."""
        self._loop, self._hungry = asyncio.get_running_loop(), asyncio.Event()
        self._hungry.set()
        begun: asyncio.Future[None] = self._loop.create_future()
        self._owed: dict[int | None, asyncio.Future[None]] = {None: begun}
        self._thread = Thread(target=self._drive, name="driver", daemon=True)
        self._thread.start()
        await begun

    async def work(self, portion: Portion[Item]) -> None:
        """Ends when all flows of the block have, and what they rest on is on the disk."""
        if self._failure:
            raise self._failure
        owed: asyncio.Future[None] = self._loop.create_future()
        self._owed[portion.number] = owed
        self._portions.put(portion)
        await owed

    async def finish(self, number: int) -> Report:
        """Writes the results of a block whose flows have ended."""
        written = await asyncio.to_thread(self._finished, number)
        damaged, self._blocks.damaged = tuple(self._blocks.damaged), []
        return Report(written, damaged, self._told())

    async def more(self) -> Told:
        """Ends when the worker has begun all the blocks that it has, and so should get one more."""
        await self._hungry.wait()
        self._hungry.clear()
        return self._told()

    async def told(self) -> Told:
        """How far it has come."""
        return self._told()

    async def enough(self) -> None:
        """Says that no further block is on its way."""
        self._enough = True

    async def close(self) -> None:
        """Frees what the engine holds, once there is nothing in hand."""
        self._portions.put(None)
        await asyncio.to_thread(self._thread.join)

    def _finished(self, number: int) -> Written:
        try:
            return self._full.pop(number).finish()
        except StopIteration as error:
            raise _sayable(error) from error

    def _told(self) -> Told:
        return Told(self._blocks.tally.copy(), self._blocks.answered())

    def _drive(self) -> None:
        try:
            job: Job[Item, T] = unpacked(self._job)
            if not (self._directory / "run.json").exists():
                raise ConfigError(
                    f"{address(self._directory)}: isn't to be seen on the machine {platform.node()}, where a worker is; a run"
                    " on several machines needs a folder that all of them share, or a URL such as s3://bucket/run"
                )
            self._blocks = Blocks(self._directory, job.stage, job.flow, failures=self._failures)
            engine = job.engine()
            try:
                self._settle(None)
                for block in self._blocks.driven(self._taken(), engine):
                    block.ledger.sync()
                    self._full[block.number] = block
                    self._settle(block.number)
            finally:
                self._blocks.close()
                engine.close()
        except BaseException as error:  # noqa: BLE001 - raised again where the blocks are awaited
            self._loop.call_soon_threadsafe(self._fail, error)

    def _taken(self) -> Iterator[Portion[Item] | None]:
        """The portions as they come, None while there is none; with nothing in hand the next one is waited for."""
        late = False
        while True:
            try:
                if self._blocks.idle:
                    portion = self._portions.get()
                else:
                    portion = self._portions.get(block=not (self._enough or late), timeout=_MOMENT)
            except queue.Empty:
                late = True  # an engine that works on what it has must not stand still again and again
                yield None
                continue
            late = False
            if portion is None:
                return
            if self._portions.empty():
                self._loop.call_soon_threadsafe(self._hungry.set)
            yield portion

    def _settle(self, number: int | None) -> None:
        owed = self._owed.pop(number)
        self._loop.call_soon_threadsafe(owed.set_result, None)

    def _fail(self, error: BaseException) -> None:
        """Answers all that is owed with the error, and all that will be asked for."""
        self._failure = _sayable(error)
        owed, self._owed = self._owed, {}
        for each in owed.values():
            each.set_exception(self._failure)


def _sayable(error: BaseException) -> Exception:
    """The error, or one in its place: a future takes no StopIteration, and SystemExit would end the actor's loop unanswered."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    said = RuntimeError(f"the worker's engine, flows or tables raised {type(error).__name__}: {error}")
    said.__cause__ = error
    return said


def actor(ray: Any, **options: Any) -> Any:
    """The class of actors that work; none is begun again by itself, as its ledger's name is its own."""
    return ray.remote(Worker).options(max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD", **options)
