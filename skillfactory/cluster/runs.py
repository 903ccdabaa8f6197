"""Runs on a cluster: the blocks of a run directory go to workers with an engine each, and to others if their worker is lost."""

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from skillfactory.blocks import BLOCK, Portion, Tally
from skillfactory.cluster import connected, deaths
from skillfactory.cluster.surroundings import Surroundings, packed
from skillfactory.cluster.worker import Report, Told, actor
from skillfactory.curate import Generation
from skillfactory.errors import SkillFactoryError, require
from skillfactory.machines import Machines
from skillfactory.places import is_remote
from skillfactory.run import Course, Job

T = TypeVar("T")
Item = TypeVar("Item")
DEATHS = 3  # of workers over one block, without an answer between them, or one after the other at their start
PATIENCE = 300.0  # seconds without any worker before the run ends
_LISTEN = 0.25  # seconds between two accounts of how far the workers have come, if they are not too many:
_CHORUS = 16  # the driver shall hear no more than 64 a second
_FAREWELL = 30.0  # seconds that the engines have to free what they hold
What = Literal["ready", "begin", "more", "told", "work", "finish"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What one worker takes of the cluster, and how many there are to be; None is as many as find room."""

    cpus: float = 1.0
    gpus: float = 0.0
    workers: int | None = None
    patience: float = PATIENCE  # seconds


def hands(
    machines: Machines, generation: Generation, patience: float = PATIENCE
) -> Callable[[Course[Any, Any], Job[Any, Any]], None] | None:
    """What does the blocks of a run (`run.carry_out`) on the cluster that `machines` names; None if they name none."""
    if machines.on is None:
        return None

    def work(course: Course[Any, Any], job: Job[Any, Any]) -> None:
        portions = course.portions(job.items)
        first = next(portions, None)
        if first is None:
            return
        with connected(machines):
            total: Mapping[str, float] = require("ray", "ray").cluster_resources()
            gpus = gpus_of(generation, total.get("GPU", 0.0)) if machines.actor_gpus is None else machines.actor_gpus
            needs = Needs(machines.actor_cpus, gpus, machines.actors, patience)
            Workforce(course, job, needs, str(generation.engine_option.get("api_key_env", ""))).work_off(first, portions)

    return work


def gpus_of(generation: Generation, found: float) -> float:
    """The GPUs that a worker's engine takes, on a cluster that has `found` of them."""
    options = generation.engine_option
    if generation.engine == "vllm":
        return float(options.get("tensor_parallel_size", 1))
    wants = generation.engine == "transformers" and not str(options.get("device", "")).startswith("cpu")
    return 1.0 if wants and found else 0.0


@dataclass(eq=False, slots=True)
class _Hand(Generic[Item]):
    """A worker as its employer sees it."""

    name: str
    number: int  # counted from 1, in the order of hiring
    actor: Any
    placed: bool = False  # it has found room on a machine
    begun: bool = False  # its engine has started
    hungry: bool = False  # it should get one more block
    asked: bool = False  # how far it has come
    tally: Tally = field(default_factory=Tally)
    held: dict[int, Portion[Item]] = field(default_factory=dict)


class Workforce(Generic[Item, T]):
    """The workers of one run: begun as blocks come up, given blocks as their engines have room, replaced when they are lost."""

    def __init__(self, course: Course[Item, T], job: Job[Item, T], needs: Needs, variable: str = "") -> None:
        self._ray = require("ray", "ray")
        self._course, self._needs = course, needs
        self._size = needs.workers or self._room()
        place = course.directory if is_remote(course.directory) else course.directory.absolute()
        job = replace(job, items=())
        self._arguments = (Surroundings.here([variable]), place, course.regrade, self._ray.put(packed(job)))
        self._actor = actor(self._ray, num_cpus=needs.cpus, num_gpus=needs.gpus)
        self._name = secrets.token_hex(4)  # of all that writes now: nobody who wrote before has it
        self._hands: list[_Hand[Item]] = []
        self._signs: dict[Any, tuple[_Hand[Item], What, int]] = {}  # what is awaited → of whom, and of which block
        self._stock: deque[Portion[Item]] = deque()
        self._over = False  # no more blocks come up by themselves
        self._deaths: Counter[int] = Counter()  # by block, since its last answer
        self._lost = Tally()
        self._hired = self._losses = 0
        self._failed_starts, self._judged = 0, 0  # one after the other; workers hired up to the last of them
        self._since = self._listened = time.monotonic()  # there was a worker; all were asked

    def work_off(self, first: Portion[Item], portions: Iterator[Portion[Item]]) -> None:
        """Has all portions worked on."""
        self._stock.append(first)
        try:
            while self._stock or any(hand.held for hand in self._hands) or not self._over:
                self._stock_up(portions)
                self._hire()
                self._hand_out()
                self._listen()
            self._farewell()
        finally:
            for hand in self._hands:
                self._ray.kill(hand.actor)
        if self._losses:
            self._course.notes.append(f"{self._losses} workers were lost on the way; others went on with what they had in hand")

    def _room(self) -> int:
        """How many workers the cluster has room for; 1 if it has none now."""
        cpus, gpus = self._needs.cpus, self._needs.gpus
        room = 0
        for node in self._ray.nodes():
            has = node["Resources"] if node["Alive"] else {}
            fits = [int(has.get(name, 0.0) / needed) for name, needed in (("CPU", cpus), ("GPU", gpus)) if needed]
            room += min(fits, default=1)
        return max(1, room)

    def _stock_up(self, portions: Iterator[Portion[Item]]) -> None:
        """Makes one more block's items if fewer are in stock than there may be workers: nobody waits for them then."""
        if len(self._stock) >= self._size or self._over:
            return
        portion = next(portions, None)
        if portion is not None:
            self._stock.append(portion)
            return
        self._over = True
        for hand in self._hands:
            hand.actor.enough.remote()

    def _hire(self) -> None:
        """Begins a worker for each block in stock that none is waiting for, as long as there are to be more."""
        starting = sum(not hand.begun for hand in self._hands)
        if len(self._hands) < self._size and len(self._stock) > starting:
            self._hired += 1
            hand: _Hand[Item] = _Hand(f"{self._name}.{self._hired}", self._hired, self._actor.remote(*self._arguments))
            self._hands.append(hand)
            self._await(hand, "ready")

    def _hand_out(self) -> None:
        for hand in self._hands:
            if hand.hungry and self._stock:
                portion = replace(self._stock.popleft(), worker=hand.name)
                hand.held[portion.number] = portion
                hand.hungry = False
                self._await(hand, "work", portion)
                self._await(hand, "more")

    def _await(self, hand: _Hand[Item], what: What, portion: Portion[Item] | None = None, number: int = -1) -> None:
        """Asks something of a worker, and waits for the sign that it is done."""
        arguments = [portion] if portion else [number] if number >= 0 else []
        sign = getattr(hand.actor, what).remote(*arguments)
        self._signs[sign] = hand, what, portion.number if portion else number

    def _listen(self) -> None:
        """Waits a moment for signs, and heeds those that came."""
        short = len(self._stock) < self._size and not self._over
        ready: list[Any] = []
        if self._signs and self._ray.wait(list(self._signs), timeout=0 if short else _LISTEN)[0]:
            ready, _ = self._ray.wait(list(self._signs), num_returns=len(self._signs), timeout=0)
        for sign in ready:
            if sign in self._signs:  # else its worker has just been found lost
                self._heed(sign)
        now = time.monotonic()
        if now - self._listened >= _LISTEN * max(1.0, len(self._hands) / _CHORUS):
            self._listened = now
            for hand in self._hands:
                if hand.begun and not hand.asked:
                    hand.asked = True
                    self._await(hand, "told")
            self._say(0)
        self._look_after(now)

    def _heed(self, sign: Any) -> None:
        """Does what is to be done after a sign of life, or of death."""
        hand, what, number = self._signs.pop(sign)
        try:
            said = self._ray.get(sign)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, SkillFactoryError):
                raise error.cause from None
            raise
        except deaths() as error:
            self._lose(hand, error)
            return
        if isinstance(said, (Told, Report)):
            told = said.told if isinstance(said, Report) else said
            hand.tally = max(hand.tally, told.tally, key=Tally.total)  # what was said first may be heard last
            for block in (block for block, answered in told.answered.items() if answered):
                self._deaths.pop(block, None)
        if isinstance(said, Report):
            del hand.held[number]
            self._course.tell_damage(said.damaged)
            self._course.take(said.written)
            self._say(said.written.flows)
        match what:
            case "ready":
                hand.placed = True
                self._course.log("worker", name=hand.name, machine=said)
                self._await(hand, "begin")
            case "begin":
                hand.begun, self._failed_starts = True, 0
                self._await(hand, "more")
                if self._over:
                    hand.actor.enough.remote()
            case "more":
                hand.hungry = True
            case "told":
                hand.asked = False
            case "work":
                self._await(hand, "finish", number=number)

    def _say(self, flows: int) -> None:
        """Tells what all workers have made together, and that so many more flows have ended."""
        self._course.tally = sum((hand.tally for hand in self._hands), self._lost)
        self._course.tell(flows)

    def _lose(self, hand: _Hand[Item], error: Exception) -> None:
        """Takes back what a lost worker had in hand. SkillFactoryError if too many died over the same, or at their start."""
        self._ray.kill(hand.actor)  # it may just be out of reach
        self._hands.remove(hand)
        self._signs = {sign: entry for sign, entry in self._signs.items() if entry[0] is not hand}
        self._lost += hand.tally
        self._losses += hand.placed
        back = [replace(portion, left=self._left_of(portion)) for _, portion in sorted(hand.held.items())]
        self._stock.extendleft(reversed(back))
        why = str(error).splitlines()[-1].strip().partition(" Some common causes")[0]
        self._course.log("lost", worker=hand.name, blocks=sorted(hand.held), why=why)
        # The loss of a machine takes several at once, and those that were on their way to it: neither says that none can start.
        if not hand.begun and hand.number > self._judged and "never ran" not in why:
            self._failed_starts, self._judged = self._failed_starts + 1, self._hired
        if self._failed_starts >= DEATHS:
            raise SkillFactoryError(f"{DEATHS} workers one after the other died while their engines started: {why}")
        self._deaths.update(hand.held.keys())
        worst = [block for block in sorted(hand.held) if self._deaths[block] >= DEATHS]
        if worst:
            named = ", ".join(f"{block * BLOCK}-{block * BLOCK + BLOCK - 1}" for block in worst)
            raise SkillFactoryError(
                f"{DEATHS} workers died over the questions {named} (counted from 0) without an answer in between; perhaps one "
                f"of them takes more memory than a machine has: {why}. The same command goes on from here"
            )

    def _left_of(self, portion: Portion[Item]) -> tuple[str, ...]:
        """The ledgers that there are of a lost worker's block: who has it next waits for those that are named."""
        directory, known = self._course.directory, (*portion.left, portion.ledger)
        return known if is_remote(directory) else tuple(name for name in known if (directory / name).exists())

    def _look_after(self, now: float) -> None:
        """Bounds how long there may be no worker at all."""
        if any(hand.placed for hand in self._hands):
            self._since = now
            return
        room = f"a worker of {self._needs.cpus:g} cores" + (f" and {self._needs.gpus:g} GPUs" if self._needs.gpus else "")
        if now - self._since > self._needs.patience:
            raise SkillFactoryError(
                f"no machine of the cluster had room for {room} for {self._needs.patience:g} s; `ray status` says what it has "
                "and who uses it. Lower --actor-cpus or --actor-gpus, or add machines: the same command goes on from here"
            )
        self._course.say(f"the cluster has no room yet for {room}")

    def _farewell(self) -> None:
        """Has the engines free what they hold."""
        closed = [hand.actor.close.remote() for hand in self._hands if hand.begun]
        if closed:
            self._ray.wait(closed, num_returns=len(closed), timeout=_FAREWELL)
