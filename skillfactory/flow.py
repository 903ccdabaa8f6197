"""Talks with a model: requests, completions, the engine protocol, and the one driver of flows.

A *flow* is a generator that yields batches of requests and is sent their completions, in the order asked; what it returns
is its result. It knows no engine, no disk and no event loop, so it is tested with `next(flow)` and `flow.send(...)`.
"""

import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

from skillfactory.errors import ConfigError
from skillfactory.records import Stop

Role = Literal["system", "user", "assistant"]
Message = tuple[Role, str]
T = TypeVar("T")
Flow = Generator[Sequence["Request"], Sequence["Completion"], T]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Decoding parameters; the defaults are the paper's for solving and reflecting (section 3.1)."""

    temperature: float = 0.7  # 0 is greedy
    top_p: float = 0.8
    top_k: int = 20  # 0 is off
    repetition_penalty: float = 1.1
    max_tokens: int = 1024  # new tokens


@dataclass(frozen=True, slots=True)
class Start:
    """With what the model's turn begins: the tokens of an earlier completion, cut before a text, then a text as tokens.

    No token of `ids` is decoded and encoded again. The engine keeps the longest run of them whose text ends before the first
    `until` (all but an end token, where they don't hold it), and appends the tokens of `then`.
    """

    ids: tuple[int, ...] = ()
    until: str = ""  # "" cuts nothing but an end token
    then: str = ""  # special tokens of a tokenizer that it spells out are plain text


@dataclass(frozen=True, slots=True)
class Request:
    """One text wanted from a model: a value. Two equal requests have one answer."""

    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int  # of this request alone, 64 bits
    start: Start | None = None
    ids: bool = False  # whether the completion is to hold the token ids of the turn, for a `Start`
    key: str = field(init=False, compare=False)  # hash of all but the token limit: a text that ended stays valid under another

    def __post_init__(self) -> None:
        how, start = self.sampling, self.start
        parts = [self.messages, how.temperature, how.top_p, how.top_k, how.repetition_penalty, self.seed]
        if start is not None:
            parts.append((start.ids, start.until, start.then))
        text = json.dumps(parts, ensure_ascii=True)
        object.__setattr__(self, "key", blake2b(text.encode(), digest_size=12).hexdigest())


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine made of one request; `key` is the request's."""

    key: str
    text: str  # of the whole turn, the request's start included
    stop: Stop
    prompt_tokens: int  # read: the messages and the request's start
    tokens: int  # generated ones
    limit: int  # the token limit that it had: the one asked for, or what the model's context left of it
    error: str = ""  # why, if stop is ERROR or the context cut the text
    forced: int = 0  # tokens of the start's `then`
    ids: tuple[int, ...] | None = None  # of the whole turn as the model has them, with the end token; None unless asked for

    def serves(self, request: Request) -> bool:
        """Whether this is what `request` (of the same key) would bring: another token limit matters only to a text it cuts.

        No higher limit helps a text that the context cut.
        """
        limit = request.sampling.max_tokens
        if request.ids and self.ids is None and self.stop is not Stop.ERROR:
            return False
        if self.stop is Stop.END:
            return self.tokens <= limit
        return self.stop is Stop.LENGTH and (self.limit == limit or (bool(self.error) and self.limit < limit))

    def within(self, room: int | None) -> "Completion":
        """This text of an engine whose context left `room` tokens for it: one that was cut there says so."""
        if self.stop is not Stop.LENGTH or room is None or room >= self.limit:
            return self
        return replace(self, limit=room, error=f"the model's context left {room} of {self.limit} tokens")

    @property
    def full(self) -> bool:
        """Whether the model's context cut this text, so that it can't be continued."""
        return self.stop is Stop.LENGTH and bool(self.error)


def failed(request: Request, error: str) -> Completion:
    """The completion of a request that an engine could not serve, with the reason."""
    return Completion(request.key, "", Stop.ERROR, 0, 0, request.sampling.max_tokens, error)


def together(flows: Sequence[Flow[T]]) -> Flow[list[T]]:
    """The flow of several ones that go on side by side, what they ask asked at once; it gives their results in order."""
    results: dict[int, T] = {}
    asked: dict[int, Sequence[Request]] = {}
    came: dict[int, Sequence[Completion] | None] = dict.fromkeys(range(len(flows)))
    while came:
        for n, completions in came.items():
            try:
                asked[n] = next(flows[n]) if completions is None else flows[n].send(completions)
            except StopIteration as end:
                results[n] = end.value
        if not asked:
            break
        made = iter((yield [request for requests in asked.values() for request in requests]))
        came = {n: [next(made) for _ in requests] for n, requests in asked.items()}
        asked = {}
    return [results[n] for n in range(len(flows))]


class Engine(Protocol):
    """A model behind a queue. Concurrency lives inside: `submit` never waits, `collect` waits for at least one completion.

    Each submitted request comes back once, in any order; a request that failed for good comes back with `Stop.ERROR`. One that
    can't begin a turn with a `Start`, or give token ids, fails such requests or raises.
    """

    @property
    def capacity(self) -> int:
        """How many requests it wants in hand to be busy."""

    def submit(self, requests: Sequence[Request]) -> None:
        """Takes requests in hand."""

    def collect(self) -> Sequence[Completion]:
        """The completions finished since the last call; waits until there is at least one."""

    def close(self) -> None:
        """Frees what it holds; what is in hand is abandoned."""


@runtime_checkable
class Writer(Protocol):
    """An engine that can tell beforehand which texts its model has tokens for."""

    def unwritable(self, text: str) -> str:
        """Why the model's turn can't go on with `text`; "" if it can."""


class Store(Protocol):
    """Where completions are kept, so that no finished one is asked for again."""

    def get(self, index: int, request: Request) -> Completion | None:
        """The stored completion that serves `request` of the flow number `index`, if there is one."""

    def put(self, index: int, request: Request, completion: Completion) -> None:
        """Keeps a completion; it is safe against a kill when this returns."""


class _Talk(Generic[T]):
    """A flow under way: what it waits for and what has come."""

    def __init__(self, index: int, flow: Flow[T]) -> None:
        self.index, self.flow = index, flow
        self.asked: Sequence[Request] | None = None  # None: not yet started
        self.got: dict[str, Completion] = {}
        self.missing: dict[str, Request] = {}  # key → what the engine still owes


def drive(
    flows: Iterable[Flow[T]], engine: Engine, store: Store, first: int = 0, in_flight: int | None = None
) -> Iterator[tuple[int, T]]:
    """Runs flows, numbered from `first`, on an engine; see `drive_numbered`."""
    return drive_numbered(enumerate(flows, first), engine, store, in_flight)


def drive_numbered(
    flows: Iterable[tuple[int, Flow[T]] | None], engine: Engine, store: Store, in_flight: int | None = None
) -> Iterator[tuple[int, T]]:
    """Runs numbered flows on an engine and yields (number of the flow, its result) as they end, in no fixed order.

    Flows are started as the engine has room, so memory does not grow with their number: the engine is kept at `in_flight`
    requests (twice its capacity if None). Every completion is in the store before its flow goes on. None among the flows says
    that there is none to start just now: what is under way goes on, and with nothing under way the next one is waited for.
    """
    room = in_flight or 2 * engine.capacity
    source = iter(flows)
    waiting: dict[str, list[_Talk[T]]] = {}  # request key → the flows that want it
    ready: deque[_Talk[T]] = deque()
    pending = 0
    exhausted = False
    while True:
        while pending < room and not (exhausted and not ready):
            if not ready:
                try:
                    entry = next(source)
                except StopIteration:
                    exhausted = True
                    break
                if entry is None:
                    break
                ready.append(_Talk(*entry))
            talk = ready.popleft()
            try:
                _advance(talk, store)
            except StopIteration as end:
                yield talk.index, end.value
                continue
            fresh = [request for key, request in talk.missing.items() if key not in waiting]
            for key in talk.missing:
                waiting.setdefault(key, []).append(talk)
            pending += len(fresh)
            engine.submit(fresh)
        if not waiting:
            if exhausted:
                return
            continue
        for completion in engine.collect():
            pending -= 1
            for talk in waiting.pop(completion.key):
                request = talk.missing.pop(completion.key)
                _heeded(request, completion)
                store.put(talk.index, request, completion)
                talk.got[completion.key] = completion
                if not talk.missing:
                    ready.append(talk)


def _heeded(request: Request, completion: Completion) -> None:
    """Raises ConfigError if an engine passed over how the turn was to begin: its text would be taken for another one."""
    if completion.stop is Stop.ERROR:
        return
    began = request.start is None or not request.start.then or completion.forced > 0
    if not began or (request.ids and completion.ids is None):
        raise ConfigError("the engine can't continue a text by its token ids; choose one that does (see docs/budget.md)")


def _advance(talk: _Talk[T], store: Store) -> None:
    """Sends a flow what it asked for until it wants something that isn't stored, which is then `missing`, each request once."""
    while not talk.missing:
        talk.asked = next(talk.flow) if talk.asked is None else talk.flow.send([talk.got[r.key] for r in talk.asked])
        talk.got = {}
        for request in talk.asked:
            stored = store.get(talk.index, request)
            if stored is not None:
                talk.got[request.key] = stored
            else:
                talk.missing[request.key] = request
