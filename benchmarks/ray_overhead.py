"""What a cluster costs: texts a second per worker of `curate --on ray` with two workers, against one process.

    python benchmarks/ray_overhead.py [--questions 1024] [--repeats 2] [--memory]

The engine is `scripted`: 64 requests at once, 50 ms each (1,280 a second, as a small model makes on a GPU), then without
delay, where processors are all that counts. The two ways take turns, with the cluster up all the time. A rate is all texts over
the time from the first request of any worker to the last text of any: a worker who waits counts, the start of workers does not.
What counts is the best of each. The bar: 90 % with the delay. At a run's end workers find no block of 64 questions left, so it
takes many blocks to see their own rate: with 3, two workers make 75 % each at most. `--memory` has 1,000 and 20,000 questions
of one text each answered on a cluster, and prints the most memory that the process had which gave the command.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from skillfactory.cluster import connected
from skillfactory.curate import CurateConfig, Generation, Prompting
from skillfactory.curation import curate
from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions
from skillfactory.flow import Completion, Request
from skillfactory.machines import Machines

BAR = 0.90
WORKERS = 2
TEXT = "Let me multiply: " + "step by step " * 20 + "\n<answer>7</answer>\n<verdict>Incorrect</verdict>"


class Timed(ScriptedEngine):
    """Leaves in a folder when it was first asked, when it gave its last text, how many it gave, and its process's CPU time."""

    def __init__(self, folder: Path, delay: float) -> None:
        super().__init__(ScriptedOptions(lambda request: TEXT, delay))
        self._folder, self._texts = folder, 0
        self._first = self._last = self._spent = 0.0

    def submit(self, requests: Sequence[Request]) -> None:
        """As the engine does."""
        if not self._first:
            self._first, self._spent = time.time(), time.process_time()
        super().submit(requests)

    def collect(self) -> Sequence[Completion]:
        """As the engine does."""
        found = super().collect()
        self._texts, self._last = self._texts + len(found), time.time()
        return found

    def close(self) -> None:
        """As the engine does; leaves the times."""
        spent = time.process_time() - self._spent
        (self._folder / f"{os.getpid()}.json").write_text(json.dumps([self._first, self._last, self._texts, spent]))
        super().close()


def rate(config: CurateConfig, delay: float) -> tuple[float, float]:
    """Texts a second of all workers together; microseconds of CPU time a text, of the workers and of this process."""
    before = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder, "times")
        times.mkdir()
        curate(replace(config, output=Path(folder, "run")), engine=partial(Timed, times, delay))
        told: list[tuple[float, float, int, float]] = [json.loads(path.read_text()) for path in times.iterdir()]
    first, last, texts, spent = zip(*(each for each in told if each[2]), strict=True)
    cpu = sum(spent) + (time.process_time() - before if config.machines.on else 0)
    return float(sum(texts) / (max(last) - min(first))), float(1e6 * cpu / sum(texts))


def compare(questions: int, delay: float, repeats: int) -> float:
    """The best rate per worker on the cluster over the best one of one process; prints all."""
    generation = Generation("scripted", "m", {"answer": "none:needed"})
    alone = CurateConfig(Path(), "multiplication", questions=questions, samples=4, reflections=4, generation=generation)
    spread = replace(alone, machines=Machines("ray", actors=WORKERS))
    both = [(rate(alone, delay), rate(spread, delay)) for _ in range(repeats)]
    rates = [(a, b / WORKERS) for (a, _), (b, _) in both]
    one, each = max(each[0] for each in rates), max(each[1] for each in rates)
    print(
        f"{1000 * delay:g} ms a request: one process {one:,.0f} texts/s, {WORKERS} workers {each:,.0f} each: {each / one:.1%}"
    )
    print("  all:", ", ".join(f"{a:,.0f} and {b:,.0f} ({b / a:.1%})" for a, b in rates))
    cpu = [min(costs) for costs in zip(*((a[1], b[1]) for a, b in both), strict=True)]
    print(f"  CPU time a text: one process {cpu[0]:,.0f} µs, workers and driver together {cpu[1]:,.0f} µs")
    return each / one


def driver_memory(questions: int) -> int:
    """The most memory of a process that has so many questions answered on a cluster of its own, in MB."""
    done = subprocess.run([sys.executable, __file__, "--drive", str(questions)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def drive(questions: int) -> None:
    """Has so many questions answered, and prints the most memory of this process in MB."""
    generation = Generation("scripted", "m", {"answer": "none:needed"})
    config = CurateConfig(Path(), "multiplication", questions=questions, samples=1, reflections=0, generation=generation)
    config = replace(config, prompts=Prompting(("original",)), machines=Machines("ray", actors=WORKERS))
    with connected(config.machines):
        rate(config, 0.0)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, default=1024, help="80 texts each")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="measure the driver's memory instead")
    parser.add_argument("--drive", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive is not None:
        drive(arguments.drive)
        return 0
    if arguments.memory:
        small, large = driver_memory(1000), driver_memory(20000)
        print(f"memory of the driver: {small:,} MB with 1,000 questions, {large:,} MB with 20,000")
        return 0
    with connected(Machines("ray")):
        met = compare(arguments.questions, 0.05, arguments.repeats) >= BAR
        compare(arguments.questions, 0.0, arguments.repeats)
    print(f"bar {BAR:.0%} per worker at 1,280 requests a second: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
