"""What a question costs beside the model: bytes on disk, CPU of driver, store, verifier and build; and what large runs cost.

    python benchmarks/question_cost.py [--questions 256] [--blocks 15625 1000]

Curates multiplication questions at the paper's settings (64 attempts, 4 reflections on each) eagerly and lazily (`*C_full`, 5
attempts), then builds. The model is a script with the rates of benchmarks/lazy_tokens.py: 400 tokens an attempt, 200 a
reflection, at 3 characters a token; its words are lines of the sample's responses with other digits. Commands run in processes
of their own; CPU seconds are user + system, start-up and the script's own (also shown) taken off.

`--blocks`: a run of so many finished blocks (hard links to one): how long the same command takes to pass over them and how
long a build takes to find them. Then how many questions each task makes a second, and how many of them differ.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
from build_speed import MEASURE

from skillfactory.blocks import BLOCK
from skillfactory.build.sources import RunSource
from skillfactory.flow import Completion, Request, Sampling
from skillfactory.records import Question, Stop
from skillfactory.rundir import Stage
from skillfactory.seeds import derive
from skillfactory.tasks import resolve

CHARACTERS = 3  # a token; digit-heavy text of Qwen's and Llama's tokenizers
LAYOUT = ("--layout", "*C_full", "--max-attempts", "5")


@cache
def lines() -> tuple[str, ...]:
    """The lines of the sample's responses."""
    sample = pq.read_table(Path(__file__).parent.parent / "examples" / "raw" / "data-schema.parquet")
    responses = sample["model_responses__mutated_prompts"].to_pylist()
    found = (line for texts in responses for text in texts or () for line in (text or "").split("\n"))
    return tuple(line for line in found if len(line) > 20 and "<" not in line)


_TABLES = [str.maketrans("123456789", "".join(random.Random(n).sample("123456789", 9))) for n in range(500)]


def answer(request: Request) -> Completion:
    """What the script writes: true with the question's rate, between 0.2 and 0.4; a verdict is true with 0.75."""
    chance, asked = random.Random(request.seed), request.messages[-1][1]
    review = "<verdict>" in asked
    tokens = max(20, round(chance.gauss(200, 40) if review else chance.gauss(400, 80)))
    factors = re.findall(r"(\d+) \* (\d+)", asked)
    truth = str(int(factors[0][0]) * int(factors[0][1])) if factors else ""
    if review:
        right = f"<answer>{truth}</answer>" in asked
        end = f"<verdict>{'Correct' if right is (chance.random() < 0.75) else 'Incorrect'}</verdict>"
    else:
        rate = 0.2 + 0.2 * random.Random(truth).random()
        end = f"<answer>{truth if chance.random() < rate else chance.randrange(10_000)}</answer>"
    words = "\n".join(chance.choices(lines(), k=1 + tokens * CHARACTERS // 70)).translate(chance.choice(_TABLES))
    return Completion(request.key, f"{words[: tokens * CHARACTERS - len(end)]}\n{end}", Stop.END, 80, tokens, 1024)


def script_seconds() -> float:
    """CPU seconds that the script takes for a text, at the least of several times."""
    requests = [Request((("user", "What is 12 * 34? <verdict>"),), Sampling(), seed) for seed in range(500)]
    found = []
    for _ in range(6):
        started = time.process_time()
        for request in requests:
            answer(request)
        found.append((time.process_time() - started) / len(requests))
    return min(found)


def measure(*arguments: str) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak MiB of a command of skillfactory."""
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "skillfactory", *arguments, "--quiet"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}:\n{done.stderr}")
    cpu, wall, peak = json.loads(done.stdout)
    return cpu, wall, peak


def curating(mode: str, questions: int, output: Path) -> list[str]:
    """The command line of a curation by the script."""
    task = ["--task", "multiplication", "--level", "2", "--questions", str(questions), "--output", str(output)]
    engine = ["--engine", "scripted", "--engine-option", "answer=question_cost:answer"]
    return ["curate", *task, "--mode", mode, *(LAYOUT if mode == "lazy" else ()), *engine]


def sizes(directory: Path) -> Mapping[str, int]:
    """Bytes of each table."""
    return {
        table.name: sum(part.stat().st_size for part in table.glob("*.parquet"))
        for table in sorted(directory.iterdir())
        if table.is_dir()
    }


def cost(mode: str, questions: int, work: Path) -> None:
    """Prints what a question costs in a mode."""
    run, traces, few = work / mode, work / f"{mode}-traces", BLOCK
    small = measure(*curating(mode, few, work / "small"))
    cpu, _, peak = measure(*curating(mode, questions, run))
    state = json.loads((run / "run.json").read_text("utf-8"))["counts"]
    kinds = ("attempts", "reflections")
    texts = sum(pq.read_metadata(part).num_rows for kind in kinds for part in (run / kind).glob("*.parquet"))
    parts = (run / "reflections").glob("*.parquet")
    reviewed = sum(len(set(pq.read_table(part)["attempt_id"].to_pylist())) for part in parts)
    script = script_seconds() * texts / questions
    each = (cpu - small[0]) / (questions - few)
    counts = ", ".join(f"{state[f'{kind}/requested'] / questions:,.1f} {kind}" for kind in kinds)
    print(f"\n{mode}: {counts} (on {reviewed / questions:,.1f} attempts), {state['tokens'] / questions:,.0f} tokens a question")
    print(
        f"  curate: {1000 * (each - script):,.1f} ms of CPU a question (and {1000 * script:.1f} of the script); {peak:,.0f} MiB"
    )
    stored = sizes(run)
    listed = ", ".join(f"{name} {size / questions:,.0f}" for name, size in stored.items())
    total = sum(stored.values())
    print(f"  run: {total / questions:,.0f} bytes a question, {total / state['tokens']:.2f} a token ({listed})")
    bare = measure("build", str(work / "small"), "--output", str(work / "small-traces"), *LAYOUT)
    cpu, _, peak = measure("build", str(run), "--output", str(traces), *LAYOUT)
    made = sum(pq.read_metadata(part).num_rows for part in (traces / "traces").glob("*.parquet"))
    size = sum(sizes(traces).values())
    each = 1000 * (cpu - bare[0]) / (questions - few)
    print(
        f"  build: {each:,.2f} ms of CPU a question; {made / questions:.2f} traces of {size / made:,.0f} bytes; {peak:,.0f} MiB"
    )
    for place in ("small", "small-traces"):
        shutil.rmtree(work / place)


def widened(run: Path, wide: Path, blocks: int) -> None:
    """A run directory whose blocks are links to the first block of `run`, finished but for its account."""
    state = json.loads((run / "run.json").read_text("utf-8"))
    settings = state["settings"] | {"questions": BLOCK * blocks}
    stage = Stage[None]("curate", state["model"], settings, {}, {}, lambda _: {}, lambda _: {}, "")
    first = pq.read_table(run / "completions" / "part-00000.parquet")
    about = {**(first.schema.metadata or {}), b"stamp": stage.stamp.encode()}
    pq.write_table(first.replace_schema_metadata(about), run / "completions" / "part-00000.parquet", compression="zstd")
    for table in (path.name for path in run.iterdir() if path.is_dir()):
        (wide / table).mkdir(parents=True)
        for number in range(blocks):
            os.link(run / table / "part-00000.parquet", wide / table / f"part-{number:05d}.parquet")
    unfinished = {"settings": settings, "stamp": stage.stamp, "finished": False}
    (wide / "run.json").write_text(json.dumps(state | unfinished))


def size_of_run(blocks: int, work: Path) -> None:
    """Prints how long commands take over a run of so many finished blocks."""
    one, wide = work / "one", work / f"wide-{blocks}"
    if not one.exists():
        measure(*curating("lazy", BLOCK, one))
    widened(one, wide, blocks)
    cpu, wall, peak = measure(*curating("lazy", BLOCK * blocks, wide))
    print(f"\n{blocks:,} finished blocks ({BLOCK * blocks:,} questions, {5 * blocks:,} files)")
    print(f"  the same command passes over them: {wall:,.1f} s, {1e6 * cpu / blocks:,.0f} µs of CPU a block; {peak:,.0f} MiB")
    started = time.perf_counter()
    source = RunSource.open([wide], frozenset())
    opened = time.perf_counter()
    found = opened - started
    rows = sum(source.size(unit) for unit in range(source.units))
    counted = time.perf_counter() - opened
    print(f"  build finds the parts: {found:,.1f} s, and counts their {rows:,} rows: {counted:,.1f} s")
    shutil.rmtree(wide)


def supply(count: int) -> None:
    """Prints how many questions a second the tasks make, and how many of the first `count` differ by more than wording."""
    print(f"\nof the first {count:,} questions differ, and made a second:")
    for name in ("countdown", "letter_countdown", "acronym", "multiplication"):
        task = resolve(name, {})
        for level in task.levels[:2]:
            started = time.process_time()
            made = [item for item in task.questions(count, level, 0, "sft") if isinstance(item, Question)]
            rate = len(made) / (time.process_time() - started)
            print(f"  {name + ' ' + level:20}{len({derive(0, task.canonical(each)) for each in made}):10,}{rate:10,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=256)
    parser.add_argument("--blocks", type=int, nargs="*", default=[1000, 15_625])
    parser.add_argument("--supply", type=int, default=200_000, help="questions of each task that are told apart")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for mode in ("eager", "lazy"):
            cost(mode, args.questions, Path(scratch))
        for blocks in args.blocks:
            size_of_run(blocks, Path(scratch))
        supply(args.supply)


if __name__ == "__main__":
    main()
