"""What the driver of flows costs: its throughput against that of the engine driven directly with the same requests.

    python benchmarks/driver.py [--flows 600] [--repeats 5]

Two engines: `scripted` with 64 places and 5 ms a request, and `transformers` with the embedded model. A flow asks in
several rounds; the direct way is given all those requests at once and takes what comes. The two ways take turns, so that both
see the same machine; the ratio is that of their best times on the clock, and means little while others use the machine. The
bar: 95 % for each engine.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from skillfactory.engines import open_engine
from skillfactory.flow import Completion, Engine, Flow, Message, Request, Sampling, drive
from skillfactory.records import Stop

BAR = 0.95
ROUNDS, WIDTH = 4, 4
Talk = list[list[Request]]  # what a flow asks, round by round


class Appending:
    """A store that writes each completion to a file before it returns, as a run directory does."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)

    def get(self, index: int, request: Request) -> Completion | None:
        return None

    def put(self, index: int, request: Request, completion: Completion) -> None:
        self._file.write(f"{index}\t{completion.key}\t{completion.stop}\t{completion.tokens}\t{completion.text!r}\n".encode())


def flow(rounds: Sequence[list[Request]]) -> Flow[int]:
    """A flow that asks round by round and returns the tokens that it got."""
    tokens = 0
    for requests in rounds:
        tokens += sum(completion.tokens for completion in (yield requests))
    return tokens


def directly(engine: Engine, requests: Sequence[Request]) -> None:
    """Gives the engine everything at once and takes what comes."""
    engine.submit(requests)
    left = len(requests)
    while left:
        left -= len(engine.collect())


def driven(engine: Engine, talks: Sequence[Talk]) -> None:
    """Brings all flows to their end with the driver."""
    with tempfile.TemporaryDirectory() as folder:
        ended = sum(1 for _ in drive((flow(rounds) for rounds in talks), engine, Appending(Path(folder, "log"))))
    assert ended == len(talks)


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """How long a piece of work takes: on the clock, and of CPU time."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - cpu


def compare(name: str, engine: Engine, talks: Sequence[Talk], repeats: int) -> bool:
    """Whether the driver meets the bar; prints both throughputs and their ratio."""
    requests = [request for rounds in talks for asked in rounds for request in asked]
    n = len(requests)
    directly(engine, requests[: n // 10])
    both = [(seconds(lambda: directly(engine, requests)), seconds(lambda: driven(engine, talks))) for _ in range(repeats)]
    (direct, direct_cpu), (ours, ours_cpu) = (map(min, zip(*times, strict=True)) for times in zip(*both, strict=True))
    print(f"{name}: direct {n / direct:,.0f} requests/s, driven {n / ours:,.0f};", end=" ")
    print(f"CPU {1e6 * direct_cpu / n:,.0f} and {1e6 * ours_cpu / n:,.0f} µs a request")
    print(f"  ratio of throughputs {direct / ours:.1%} (bar {BAR:.0%}: {'met' if direct / ours >= BAR else 'MISSED'})")
    return bool(direct / ours >= BAR)


def talks_of(n: int, sampling: Sampling) -> list[Talk]:
    """What `n` flows ask: prompts that differ in length from round to round, and in their seeds from request to request."""
    messages: list[tuple[Message, ...]] = [
        (("user", "Using the numbers 2, 3, 4, make 10. " * (1 + 3 * (n % 2))),) for n in range(ROUNDS)
    ]
    seeds = count()
    return [[[Request(messages[r], sampling, next(seeds)) for _ in range(WIDTH)] for r in range(ROUNDS)] for _ in range(n)]


def answer(request: Request) -> Completion:
    """A short text."""
    return Completion(request.key, "3 * 4 - 2 = 10 <answer>3 * 4 - 2</answer>", Stop.END, 20, 20, request.sampling.max_tokens)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flows", type=int, default=600, help="for the scripted engine; transformers gets a tenth")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", default="mini", help="a causal language model")
    arguments = parser.parse_args()
    scripted = open_engine("scripted", {"answer": answer, "delay": 0.005, "concurrency": 64})
    met = compare("scripted, 64 at once, 5 ms each", scripted, talks_of(arguments.flows, Sampling()), arguments.repeats)
    options = {"model": arguments.model, "device": "cpu", "threads": 1, "batch_size": 32}
    engine = open_engine("transformers", options)
    talks = talks_of(arguments.flows // 10, Sampling(max_tokens=96))
    met &= compare("transformers, batches of 32", engine, talks, arguments.repeats)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
