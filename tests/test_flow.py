"""Laws of the driver of flows."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from random import Random

import pytest

from skillfactory.flow import Completion, Flow, Request, Sampling, drive
from skillfactory.records import Stop


def request(name: str, seed: int = 0, max_tokens: int = 10) -> Request:
    return Request((("user", name),), Sampling(max_tokens=max_tokens), seed)


def complete(asked: Request) -> Completion:
    return Completion(asked.key, f"re: {asked.messages[0][1]}", Stop.END, 1, 2, asked.sampling.max_tokens)


class Shuffling:
    """An engine that answers in a seeded disorder, some at a time, and keeps count."""

    def __init__(self, seed: int = 0, capacity: int = 4) -> None:
        self.capacity = capacity
        self.asked: list[Request] = []
        self.most = 0
        self._hand: list[Request] = []
        self._dice = Random(seed)

    def submit(self, requests: Sequence[Request]) -> None:
        self.asked += requests
        self._hand += requests
        self.most = max(self.most, len(self._hand))

    def collect(self) -> Sequence[Completion]:
        assert self._hand, "asked to wait for nothing"
        self._dice.shuffle(self._hand)
        n = self._dice.randint(1, min(3, len(self._hand)))
        done, self._hand = self._hand[:n], self._hand[n:]
        return [complete(r) for r in done]

    def close(self) -> None:
        self._hand = []


class Memory:
    """A store in memory that also remembers the order of events."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, str], Completion] = {}
        self.events: list[str] = []

    def get(self, index: int, request: Request) -> Completion | None:
        completion = self.kept.get((index, request.key))
        return completion if completion is not None and completion.serves(request) else None

    def put(self, index: int, request: Request, completion: Completion) -> None:
        assert completion.key == request.key
        self.kept[index, request.key] = completion
        self.events.append(f"put {index} {request.messages[0][1]}")


def talk(name: str, rounds: int, width: int, note: Callable[[str], None] = lambda text: None) -> Flow[str]:
    """A flow that asks `width` things in each of `rounds` and checks that the answers come in the order asked."""
    for n in range(rounds):
        asked = [request(f"{name}.{n}.{m}") for m in range(width)]
        answers = yield asked
        note(f"{name} got {n}")
        assert [a.text for a in answers] == [f"re: {name}.{n}.{m}" for m in range(width)]
    return name


@pytest.mark.parametrize("seed", range(5))
def test_each_flow_gets_its_completions_in_the_order_asked_and_its_result_comes_with_its_number(seed: int) -> None:
    engine, store = Shuffling(seed), Memory()
    flows = [talk(f"flow{n}", rounds=n % 4, width=1 + n % 5) for n in range(30)]
    results = dict(drive(flows, engine, store, first=100))
    assert results == {100 + n: f"flow{n}" for n in range(30)}
    assert len(engine.asked) == sum((n % 4) * (1 + n % 5) for n in range(30)) == len(store.kept)


def test_completions_are_stored_before_their_flow_goes_on() -> None:
    store = Memory()
    for _ in drive([talk("a", 2, 2, store.events.append), talk("b", 2, 2, store.events.append)], Shuffling(), store):
        pass
    for index, name in enumerate("ab"):
        for n in range(2):
            gone_on = store.events.index(f"{name} got {n}")
            assert {f"put {index} {name}.{n}.0", f"put {index} {name}.{n}.1"} <= set(store.events[:gone_on])


def test_what_is_stored_is_not_asked_again() -> None:
    store = Memory()
    first = dict(drive([talk(f"flow{n}", 3, 2) for n in range(5)], Shuffling(), store))
    for key in list(store.kept)[::4]:
        del store.kept[key]
    engine = Shuffling()
    assert dict(drive([talk(f"flow{n}", 3, 2) for n in range(5)], engine, store)) == first
    assert len(engine.asked) == 8


def test_a_stored_text_is_asked_again_only_if_it_does_not_serve() -> None:
    store, engine = Memory(), Shuffling()
    asked = [request("ended"), request("cut"), request("failed")]
    for r, stop in zip(asked, (Stop.END, Stop.LENGTH, Stop.ERROR), strict=True):
        store.put(0, r, replace(complete(r), stop=stop))

    def flow(limit: int) -> Flow[None]:
        yield [request(name, max_tokens=limit) for name in ("ended", "cut", "failed")]

    list(drive([flow(10)], engine, store))
    assert [r.messages[0][1] for r in engine.asked] == ["failed"]
    store.put(0, asked[1], replace(complete(asked[1]), stop=Stop.LENGTH))
    list(drive([flow(20)], engine, store))
    assert [r.messages[0][1] for r in engine.asked] == ["failed", "cut"]


def test_a_text_that_the_context_cut_says_so_and_is_not_asked_again_with_a_higher_limit() -> None:
    asked = request("x", max_tokens=100)
    cut = replace(complete(asked), stop=Stop.LENGTH, tokens=30).within(30)
    assert (cut.limit, cut.error) == (30, "the model's context left 30 of 100 tokens")
    assert [cut.serves(replace(asked, sampling=Sampling(max_tokens=limit))) for limit in (20, 30, 100, 999)] == [
        False,
        True,
        True,
        True,
    ]
    whole, short = complete(asked), replace(complete(asked), stop=Stop.LENGTH)
    assert (whole.within(30), short.within(100), short.within(None)) == (whole, short, short)


def test_equal_requests_that_are_wanted_at_the_same_time_are_asked_once_and_reach_every_flow() -> None:
    def flow() -> Flow[list[str]]:
        answers = yield [request("same"), request("other"), request("same")]
        return [a.text for a in answers]

    engine, store = Shuffling(capacity=100), Memory()
    results = dict(drive([flow() for _ in range(3)], engine, store))
    assert results == {n: ["re: same", "re: other", "re: same"] for n in range(3)}
    assert Counter(r.messages[0][1] for r in engine.asked) == {"same": 1, "other": 1}
    assert len(store.kept) == 6


def test_flows_are_started_only_as_the_engine_has_room() -> None:
    started: list[int] = []

    def source() -> Iterator[Flow[str]]:
        for n in count():
            started.append(n)
            yield talk(f"flow{n}", 2, 3)

    engine = Shuffling(capacity=5)
    ended = len(list(islice(drive(source(), engine, Memory()), 50)))
    assert len(started) - ended <= 2 * 5
    assert engine.most < 2 * 5 + 3
    engine = Shuffling(capacity=5)
    list(islice(drive(source(), engine, Memory(), in_flight=1), 5))
    assert engine.most <= 3


def test_flows_that_ask_nothing_or_an_empty_batch_go_on() -> None:
    def silent() -> Flow[str]:
        return "silent"
        yield []

    def empty() -> Flow[list[Completion]]:
        nothing = yield []
        return list(nothing)

    engine = Shuffling()
    assert dict(drive([silent()], engine, Memory())) == {0: "silent"}
    assert dict(drive([empty()], engine, Memory())) == {0: []}
    assert dict(drive(list[Flow[str]](), engine, Memory())) == {}
    assert engine.asked == []


def test_an_error_in_a_flow_stops_the_drive_and_is_not_swallowed() -> None:
    def broken() -> Flow[str]:
        yield [request("x")]
        raise ZeroDivisionError("a bug in a flow")

    store = Memory()
    with pytest.raises(ZeroDivisionError, match="a bug in a flow"):
        list(drive([broken()], Shuffling(), store))
    assert len(store.kept) == 1


def test_the_key_of_a_request_is_a_hash_of_all_but_the_token_limit() -> None:
    base = request("x")
    assert base.key == request("x").key == request("x", max_tokens=99).key
    others = [
        request("y"),
        request("x", seed=1),
        replace(base, sampling=Sampling(top_k=3)),
        Request((("system", "x"),), Sampling(), 0),
    ]
    assert len({base.key, *(r.key for r in others)}) == 5
