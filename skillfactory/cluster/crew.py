"""A crew of Ray actors: jobs go out to workers of a cluster, their results come back in order, and what a lost worker held
goes out again.
"""

import platform
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

from skillfactory.build.parallel import portable
from skillfactory.cluster import connected, deaths
from skillfactory.cluster.surroundings import Surroundings, packed, unpacked
from skillfactory.errors import SkillFactoryError, require
from skillfactory.machines import Workers

J = TypeVar("J")
R = TypeVar("R")

DEATHS = 3  # of workers, over one job or one after the other at their start, until it's not chance any more
PATIENCE = 300.0  # seconds without room for a single worker
AHEAD = 8  # jobs per worker that are taken up before the earliest of them is done


@contextmanager
def hired(machines: Workers) -> Iterator["RayCrew"]:
    """A crew on the cluster that `machines` names. ConfigError if there is no such cluster."""
    with connected(machines):
        yield RayCrew(machines)


class RayCrew:
    """Workers on a Ray cluster, begun for each round of jobs and ended with it."""

    def __init__(self, machines: Workers, patience: float = PATIENCE) -> None:
        self.cpus, self.patience = machines.actor_cpus, patience
        self.size = machines.actors or room(machines.actor_cpus)

    def each(self, work: Callable[[int], R], units: int) -> Iterator[R]:
        """The results of `work(0)` … `work(units - 1)`, in that order."""
        return _Round(work, range(units), self, held=1).results()

    def map(self, work: Callable[[J], R], jobs: Iterable[J]) -> Iterator[R]:
        """What `map(work, jobs)` gives, and raises. `work` and `jobs` must pickle, and a job may be done more than once.

        Only so many jobs are taken up before their turn comes as the workers are busy with. SkillFactoryError if workers die
        over one job again and again, or can't start.
        """
        return _Round(work, jobs, self, held=2).results()


def room(cpus: float) -> int:
    """How many workers of so many cores the cluster has room for; 1 if it has none now."""
    nodes = require("ray", "ray").nodes()
    return max(1, sum(int(node["Resources"].get("CPU", 0.0) // (cpus or 1.0)) for node in nodes if node["Alive"]))


Outcome = tuple[R | None, Exception | None]


class _Worker:
    """The actor: does jobs, one after the other."""

    def __init__(self, surroundings: Surroundings, work: bytes) -> None:
        self._surroundings, self._packed = surroundings, work
        self._work: Callable[[Any], Any]

    def ready(self) -> Outcome[str]:
        """The machine's name, once the worker can do its work."""
        try:
            self._surroundings.enter()
            self._work = unpacked(self._packed)
        except Exception as error:  # noqa: BLE001 - raised again where the results are wanted
            return None, portable(error)
        return platform.node(), None

    def do(self, job: Any) -> Outcome[Any]:
        """What comes of a job."""
        try:
            return self._work(job), None
        except Exception as error:  # noqa: BLE001 - raised again where the results are wanted
            return None, portable(error)


class _Round(Generic[J, R]):
    """One round of jobs: which wait, who has which, and which are done before their turn."""

    def __init__(self, work: Callable[[J], R], jobs: Iterable[J], crew: RayCrew, held: int) -> None:
        self._ray = require("ray", "ray")
        self._jobs, self._taken = enumerate(jobs), 0
        self._size, self._load = crew.size, held  # how many workers there may be, and how many jobs one holds: 2 if it is not
        # to wait for the next while its result travels, 1 if jobs are so long that one which waits had better be another's
        self._waiting: deque[tuple[int, J]] = deque()  # in order of their numbers
        self._starting: dict[Any, Any] = {}  # the sign that a worker is ready → the worker
        self._held: dict[Any, dict[Any, tuple[int, J]]] = {}  # worker → the results it owes, in their order → its jobs
        self._done: dict[int, Outcome[R]] = {}
        self._deaths: Counter[int] = Counter()  # by job; those at the start are counted as job -1
        self._cpus = crew.cpus
        actor = self._ray.remote(_Worker)
        self._actor = actor.options(num_cpus=self._cpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD")
        self._arguments = Surroundings.here(), self._ray.put(packed(work))
        self._patience, self._alone = crew.patience, time.monotonic()  # since when there is no worker

    def results(self) -> Iterator[R]:
        """The results in the order of the jobs."""
        turn = 0
        try:
            while True:
                self._take_up(turn)
                if turn == self._taken:
                    return
                self._hand_out()
                while turn in self._done:
                    yield _result(self._done.pop(turn))
                    turn += 1
                    self._take_up(turn)
                    self._hand_out()
                if turn < self._taken:
                    self._await()
        finally:
            for worker in (*self._starting.values(), *self._held):
                self._ray.kill(worker)

    def _take_up(self, turn: int) -> None:
        """Takes up jobs as long as not too many are ahead of their turn."""
        while self._taken < turn + AHEAD * self._size:
            job = next(self._jobs, None)
            if job is None:
                return
            self._waiting.append(job)
            self._taken += 1

    def _hand_out(self) -> None:
        """Gives the jobs that wait to workers that are free, and begins workers where some are missing."""
        for load in range(self._load):
            for worker, held in self._held.items():
                if self._waiting and len(held) == load:
                    number, job = self._waiting.popleft()
                    held[worker.do.remote(job)] = number, job
        while len(self._starting) < min(self._size - len(self._held), len(self._waiting)):
            worker = self._actor.remote(*self._arguments)
            self._starting[worker.ready.remote()] = worker

    def _await(self) -> None:
        """Waits for the next sign of life or death from a worker."""
        owed = {sign: worker for worker, held in self._held.items() for sign in held}
        left = None if self._held else max(0.0, self._alone + self._patience - time.monotonic())
        signs, _ = self._ray.wait([*owed, *self._starting], num_returns=1, timeout=left)
        if not signs:
            raise SkillFactoryError(
                f"no machine of the cluster had room for a worker of {self._cpus:g} cores for {self._patience:g} s; "
                "`ray status` says what it has and who uses it. Lower --actor-cpus or add machines"
            )
        sign = signs[0]
        worker = owed[sign] if sign in owed else self._starting.pop(sign)
        try:
            result = self._ray.get(sign)
        except deaths() as error:
            self._lose(worker, error)
            return
        if sign in owed:
            self._done[self._held[worker].pop(sign)[0]] = result
        else:
            _result(result)
            self._held[worker] = {}
            self._deaths[-1] = 0

    def _lose(self, worker: Any, error: Exception) -> None:
        """Takes back what a lost worker held. The job that it was at counts its deaths."""
        held: list[tuple[int, J]] = []
        if worker in self._held:
            held += self._held.pop(worker).values()
            self._alone = time.monotonic()
        self._ray.kill(worker)
        self._waiting = deque(sorted([*held, *self._waiting], key=lambda job: job[0]))
        at = held[0][0] if held else -1
        self._deaths[at] += 1
        if self._deaths[at] < DEATHS:
            return
        why = str(error).splitlines()[-1].strip().partition(" Some common causes")[0]
        if at < 0:
            raise SkillFactoryError(f"{DEATHS} workers one after the other died at their start: {why}")
        raise SkillFactoryError(f"{DEATHS} workers died over the same part of the work, number {at} (out of memory?): {why}")


def _result(outcome: Outcome[R]) -> R:
    result, error = outcome
    if error is not None:
        raise error
    return cast(R, result)
