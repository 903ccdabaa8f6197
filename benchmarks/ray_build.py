"""How long `build` and `grade` take on Ray beside processes of one machine: in turn, the best of some rounds.

    python benchmarks/ray_build.py [RAW] [--actors 2] [--repeat 3] [--rows 200000] [--task countdown]

RAW is a folder of raw Parquet files; without one, copies of the sample in examples/raw are used (20,000 questions). The rows to
grade are of Countdown, or sums for a task of mathematics such as math500. The cluster is begun before and not counted; the
start of the workers is. The cores should have nothing else to do.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from build_speed import copies, same

from skillfactory.build import BuildConfig, build
from skillfactory.cluster.crew import RayCrew, hired
from skillfactory.grade import grade_file
from skillfactory.machines import Workers

Contenders = dict[str, Callable[[], object]]


def builds(raw: Path, work: Path, crew: RayCrew, args: argparse.Namespace) -> Contenders:
    def config(name: str, workers: int = 1) -> BuildConfig:
        return BuildConfig((str(raw),), work / name, (args.layout,), workers=workers, overwrite=True)

    return {
        "build": lambda: build(config("one")),
        f"build --workers {args.actors}": lambda: build(config("processes", args.actors)),
        f"build on Ray, {args.actors} actors": lambda: build(config("ray"), crew=crew),
    }


def rows_to_grade(path: Path, task: str, rows: int) -> Path:
    """Rows as an evaluation has them: what is asked, and a response of some 1,700 characters that ends in an answer."""
    random = Random(0)
    with path.open("w") as file:
        for _ in range(rows):
            a, b, c = (random.randint(2, 99) for _ in range(3))
            text = " ".join(f"I try {random.randint(2, 999)}, which is not what is asked for." for _ in range(40))
            end = f"({a} + {b}) * {c}" if random.random() < 0.5 else f"{c} * {a} + {c} * {b} + 1"
            gold = f"{a * c} + {b * c}"  # an expression: it takes a verifier of mathematics some work to compare
            about = {"answer": gold} if task != "countdown" else {"facts": {"numbers": [a, b, c], "target": (a + b) * c}}
            file.write(json.dumps(about | {"response": f"{text}\n<answer>{end}</answer>"}) + "\n")
    return path


def grades(rows: Path, work: Path, crew: RayCrew, args: argparse.Namespace) -> Contenders:
    return {
        "grade": lambda: grade_file(rows, args.task, work / "one.jsonl"),
        f"grade on Ray, {args.actors} actors": lambda: grade_file(rows, args.task, work / "ray.jsonl", spread=crew.map),
    }


def compare(contenders: Contenders, repeat: int) -> None:
    """Prints the best wall seconds of each, how many times as fast as the first it is, and this process's own CPU seconds."""
    best = dict.fromkeys(contenders, (float("inf"), float("inf")))
    for _ in range(repeat):
        for name, run in contenders.items():
            wall, own = time.perf_counter(), time.process_time()
            run()
            found = time.perf_counter() - wall, time.process_time() - own
            best[name] = min(best[name][0], found[0]), min(best[name][1], found[1])
    first = next(iter(best.values()))[0]
    for name, (wall, own) in best.items():
        print(f"{name:28} {wall:7.2f} s   {first / wall:5.2f} times as fast   {own:7.2f} CPU s in this process")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path, nargs="?")
    parser.add_argument("--layout", default="*C_full")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--task", default="countdown")
    args = parser.parse_args()
    machines = Workers("ray", actors=args.actors)
    with tempfile.TemporaryDirectory() as folder, hired(machines) as crew:
        work = Path(folder)
        compare(builds(args.raw or copies(work / "raw", 20_000), work, crew, args), args.repeat)
        print(f"the same bytes: {same(work / 'one', work / 'ray')}")
        compare(grades(rows_to_grade(work / "rows.jsonl", args.task, args.rows), work, crew, args), args.repeat)
        print(f"the same bytes: {(work / 'one.jsonl').read_bytes() == (work / 'ray.jsonl').read_bytes()}")


if __name__ == "__main__":
    main()
