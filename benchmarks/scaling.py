"""Prints what 10,000, 1 million and 100 million questions take: GPU hours, time on the clock, storage, CPU (docs/scaling.md).

    python benchmarks/scaling.py [--gpu h100] [--models qwen2.5-1.5b qwen2.5-7b] [--share 0.5] [--no-prefix-cache]

What a question costs beside the model was measured by benchmarks/question_cost.py, whose figures stand here as constants. What
a GPU makes is arithmetic (`skillfactory.forecast`): a share of its peak, whichever binds of bandwidth and arithmetic, with 256
texts under way. The share is an assumption that no GPU has confirmed, so the hours come with those at one and a half times it
and at a third of it. An assumption, too, are the tokens of a text, a worker's start and what each keeps of its throughput.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from skillfactory.blocks import BLOCK
from skillfactory.forecast.generation import AT_ONCE, PROMPT
from skillfactory.forecast.gpus import GPUS, Gpu, gpu
from skillfactory.forecast.shapes import Sized, sized
from skillfactory.forecast.speed import GENERATING, generating_seconds

QUESTIONS = (10_000, 1_000_000, 100_000_000)
MACHINES = (1, 8, 64, 1024)
VARIANTS = 4  # prompts of a question's attempts
ATTEMPT, REFLECTION = 400, 200  # tokens, assumed: of benchmarks/lazy_tokens.py and benchmarks/question_cost.py
START = 120.0  # seconds until an engine answers, assumed
WORKERS = 0.9  # share of a single process's throughput that each worker keeps: the bar of benchmarks/ray_overhead.py
TABLES = 5  # files of a finished block


@dataclass(frozen=True, slots=True)
class Mode:
    """What a question costs, as benchmarks/question_cost.py measured it."""

    name: str
    attempts: float
    reflections: float
    reviewed: float  # attempts that are reflected upon; the prompts of one's reflections are the same
    run_bytes: int  # of the run directory, compressed
    trace_bytes: int  # of the traces that a build makes of it
    curating: float  # CPU milliseconds: prompts, driver, store, verifier, tables
    building: float


MODES = (
    Mode("eager", 64, 256, 64, 110_500, 6_500, 35.0, 2.5),
    Mode("lazy", 26.0, 20.1, 15.1, 20_600, 6_500, 8.0, 0.9),
)


def seconds(model: Sized, mode: Mode, card: Gpu, cached: bool) -> float:
    """GPU seconds of a question at the forecast's share of peak; with `cached`, no prompt is computed twice."""
    asked = 2 * PROMPT + ATTEMPT  # the prompt of a reflection holds the question and the attempt
    prompts = (VARIANTS, mode.reviewed) if cached else (mode.attempts, mode.reflections)
    attempts = generating_seconds(model, mode.attempts * ATTEMPT, prompts[0] * PROMPT, PROMPT + ATTEMPT, AT_ONCE, card)
    tokens = mode.reflections * REFLECTION
    return attempts + generating_seconds(model, tokens, prompts[1] * asked, asked + REFLECTION, AT_ONCE, card)


def clock(questions: int, each: float, gpus: int) -> float:
    """Seconds on the clock: blocks are shared out, and none is divided."""
    blocks = -(-questions // BLOCK)
    return START + -(-blocks // gpus) * BLOCK * each / (WORKERS if gpus > 1 else 1)


def number(value: float) -> str:
    """A number with as many digits as mean something."""
    return f"{value:,.1f}" if value < 10 else f"{float(f'{value:.2g}'):,.0f}"


def spoken(value: float) -> str:
    """A duration in words."""
    for unit, size in (("years", 31_557_600), ("days", 86_400), ("h", 3600)):
        if value >= 1.5 * size:
            return f"{number(value / size)} {unit}"
    return f"{value / 60:,.0f} min"


def sized_bytes(value: float) -> str:
    """A size in words."""
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value / 1e6:,.0f} MB"


def generation(models: Sequence[str], card: Gpu, share: float, cached: bool) -> None:
    """Prints GPU hours and time on the clock."""
    names = " | ".join(f"{count:,} GPU{'s' * (count > 1)}" for count in MACHINES)
    print(f"| model, mode | questions | GPU hours ({card.title}) | {names} |")
    print("|---|---|---|" + "---|" * len(MACHINES))
    for name in models:
        model = sized(name)
        if model.parameters is None:
            raise SystemExit(f"{name}: a model of unknown size")
        for mode in MODES:
            each = seconds(model, mode, card, cached) * GENERATING / share
            for questions in QUESTIONS:
                hours = questions * each / 3600
                low, high = number(hours / 1.5), number(hours * 3)
                walls = " | ".join(spoken(clock(questions, each, gpus)) for gpus in MACHINES)
                print(f"| {name}, {mode.name} | {questions:,} | {number(hours)} ({low} to {high}) | {walls} |")
    print()
    for name in models:
        speeds = []
        for mode in MODES:
            tokens = mode.attempts * ATTEMPT + mode.reflections * REFLECTION
            each = seconds(sized(name), mode, card, cached) * GENERATING / share
            speeds.append(
                f"{mode.name} {tokens:,.0f} tokens and {each:,.2f} s of a GPU a question ({tokens / each:,.0f} tokens/s)"
            )
        print(f"{name}: {'; '.join(speeds)}")


def storage() -> None:
    """Prints bytes, files and CPU hours."""
    print("\n| mode | questions | run directory | traces | files | CPU hours: curate | build |\n|---|---|---|---|---|---|---|")
    for mode in MODES:
        for questions in QUESTIONS:
            sizes = " | ".join(sized_bytes(questions * size) for size in (mode.run_bytes, mode.trace_bytes))
            hours = " | ".join(f"{questions * each / 3.6e6:,.2f}" for each in (mode.curating, mode.building))
            print(f"| {mode.name} | {questions:,} | {sizes} | {-(-questions // BLOCK) * TABLES:,} | {hours} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", default="h100", choices=list(GPUS))
    parser.add_argument("--models", nargs="+", default=["qwen2.5-1.5b", "qwen2.5-7b"])
    parser.add_argument("--share", type=float, default=GENERATING, help="share of the GPU's peak that generation reaches")
    parser.add_argument("--no-prefix-cache", action="store_true", help="compute the same prompt again for every text")
    args = parser.parse_args()
    generation(args.models, gpu(args.gpu), args.share, not args.no_prefix_cache)
    storage()


if __name__ == "__main__":
    main()
