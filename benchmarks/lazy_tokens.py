"""Prints the generated tokens per trace, eager against lazy, at the paper's settings; exits 1 if the bar is missed.

4 variants × 16 samples, 4 reflections. The model is a script: every question has a right rate of its own, a verdict is true
with 0.75, an attempt takes about 400 tokens and a reflection 200. The bar: 5 times fewer at right rates of 0.2 to 0.4.

    python benchmarks/lazy_tokens.py [--questions 200] [--layout '*C_full'] [--max-attempts 5]
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from skillfactory.build.sources import RunPool
from skillfactory.curate import CurateConfig, Wanted, solve_and_reflect
from skillfactory.deck import Curated, Curation
from skillfactory.flow import Completion, Request
from skillfactory.layouts import Draw, plan
from skillfactory.records import Question, Reflection, Stop
from skillfactory.seeds import rng

TRUE_VERDICTS = 0.75
BAR = 5.0


class Model:
    """A model that solves each question with a rate of its own and counts what it generates."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.tokens = 0

    def answer(self, question: Question, request: Request) -> Completion:
        random = rng(request.seed, "model")
        review = "<verdict>" in request.messages[-1][1]
        tokens = round(random.gauss(200, 40) if review else random.gauss(400, 80))
        self.tokens += max(20, tokens)
        made = self._review(question, request, random.random()) if review else self._attempt(question, random.random())
        return Completion(request.key, f"{request.seed}: {made}", Stop.END, 0, tokens, request.sampling.max_tokens)

    def _attempt(self, question: Question, chance: float) -> str:
        rate = self.low + (self.high - self.low) * rng(0, question.id, "rate").random()
        return f"<answer>{question.answer if chance < rate else 'none'}</answer>"

    def _review(self, question: Question, request: Request, chance: float) -> str:
        right = f"<answer>{question.answer}</answer>" in request.messages[-1][1]
        return f"<verdict>{'Correct' if right is (chance < TRUE_VERDICTS) else 'Incorrect'}</verdict>"


def traces(question: Question, how: Curation, draw: Draw, model: Model) -> int:
    """How many traces a build draws from what the flow of a question brings."""
    flow = solve_and_reflect(question, how)
    asked: Sequence[Request] = next(flow)
    while True:
        try:
            asked = flow.send([model.answer(question, request) for request in asked])
        except StopIteration as end:
            return len(plan(_pool(end.value), draw, how.seed).plans)


def _pool(curated: Curated) -> RunPool:
    assert curated.question is not None
    reflections: defaultdict[str, list[Reflection]] = defaultdict(list)
    for reflection in curated.reflections:
        reflections[reflection.attempt_id].append(reflection)
    question = {"id": curated.question.id, "prompt": curated.question.prompt, "answer": curated.question.answer}
    return RunPool(question, curated.attempts, reflections)


def compare(config: CurateConfig, low: float, high: float) -> float:
    """Prints the figures for a range of right rates; gives back how many times fewer tokens a trace takes lazily."""
    lazy = config.curation()
    assert lazy.lazy is not None
    items = lazy.task.questions(config.questions, "2", 0, "sft")
    questions = [item for item in items if isinstance(item, Question)]
    per_trace = []
    for name, how in (("eager", replace(lazy, lazy=None)), ("lazy", lazy)):
        model = Model(low, high)
        made = sum(traces(question, how, lazy.lazy, model) for question in questions)
        per_trace.append(model.tokens / made)
        print(
            f"{low:5.2f} to {high:.2f}  {name:5}  {made:7,} traces  {model.tokens:12,} tokens  {per_trace[-1]:10,.0f} a trace"
        )
    print(f"{low:5.2f} to {high:.2f}  lazy takes {per_trace[0] / per_trace[1]:.2f} times fewer\n")
    return per_trace[0] / per_trace[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--layout", default="*C_full")
    parser.add_argument("--max-attempts", type=int, default=5)
    options = parser.parse_args()
    wanted = Wanted((options.layout,), options.max_attempts)
    config = CurateConfig(Path("unused"), "multiplication", questions=options.questions, mode="lazy", wanted=wanted)
    print(f"layout {options.layout}, at most {options.max_attempts} attempts, {options.questions} questions a row\nright rate")
    ratio = compare(config, 0.2, 0.4)
    for rate in (0.05, 0.1, 0.5):
        compare(config, rate, rate)
    print(f"bar: at least {BAR:.0f} times fewer at right rates of 0.20 to 0.40; {'met' if ratio >= BAR else 'missed'}")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
